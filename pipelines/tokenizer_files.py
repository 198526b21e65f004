"""CLIP's tokenizer from a model folder's files: the vocabulary and the merges, read here, and nothing else of theirs.

What else such files may hold, patterns, templates and names of classes, never reaches the libraries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from transformers import CLIPTokenizer

from lora_zoo import fields
from lora_zoo.errors import BadFile
from lora_zoo.fields import Object
from lora_zoo.foreign import documents, files
from pipelines.errors import BadModel

_MOST_BYTES = 32 << 20
_MOST_TOKENS = 1 << 20
_BOUNDS = documents.Bounds(length=_MOST_BYTES)
_SPECIAL = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
}
_LENGTH = 77
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized")


def read(folder: Path) -> CLIPTokenizer:
    """Return the tokenizer of a folder with `vocab.json` and `merges.txt`, or `tokenizer.json`.

    Raises:
        BadModel: They are not there, or not what CLIP's are.
    """
    try:
        vocabulary, merges, added = _of_folder(folder)
        stated = _stated(folder)
        length = stated.get("model_max_length", _LENGTH)
        if not isinstance(length, int) or not 3 <= length <= _MOST_TOKENS:
            raise BadModel(f"{folder}: model_max_length is {str(length)[:80]}; it should be a number of tokens")
        special: dict[str, Any] = {name: _token(stated.get(name, usual), name) for name, usual in _SPECIAL.items()}
        made = CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length, **special)  # type: ignore[arg-type]
        _add(made, added, folder)
    except BadFile as error:
        raise BadModel(f"cannot load the tokenizer in {folder}: {error}") from error
    except BadModel:
        raise
    except Exception as error:  # the library raises bare ones
        raise BadModel(f"cannot load the tokenizer in {folder}: {error}") from error
    return made


def _of_folder(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]], Object]:
    vocabulary, merges, whole = folder / "vocab.json", folder / "merges.txt", folder / "tokenizer.json"
    if vocabulary.exists() and merges.exists():
        listed = files.read_text(merges, _MOST_BYTES, folder).split("\n")
        pairs: list[object] = [line.split() for line in listed[listed[0].startswith("#version") :] if line.strip()]
        found = _vocabulary(_json(vocabulary), str(vocabulary))
        extra = folder / "added_tokens.json"
        return found, _pairs(pairs, found, str(merges)), _json(extra) if extra.exists() else {}
    if not whole.exists():
        raise BadModel(f"{folder} has neither vocab.json and merges.txt nor tokenizer.json")
    stated = _json(whole)
    model = fields.as_object(stated.get("model"), f"{whole}: model")
    found = _vocabulary(fields.as_object(model.get("vocab"), f"{whole}: vocab"), str(whole))
    listed_pairs = [
        pair.split(" ") if isinstance(pair, str) else pair for pair in fields.as_list(model.get("merges"), str(whole))
    ]
    tokens = (
        fields.as_object(one, f"{whole}: added_tokens")
        for one in fields.as_list(stated.get("added_tokens", []), str(whole))
    )
    return found, _pairs(listed_pairs, found, str(whole)), {str(one.get("content")): one.get("id") for one in tokens}


def _json(path: Path) -> Object:
    found = documents.json_value(files.read(path, _MOST_BYTES, path.parent), str(path), _BOUNDS)
    return fields.as_object(found, str(path))


def _stated(folder: Path) -> dict[str, object]:
    """Return what the folder says of its special tokens and its length."""
    found: dict[str, object] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        if (folder / name).exists():
            found |= _json(folder / name)
    return {name: value for name, value in found.items() if value is not None}


def _vocabulary(stated: Object, where: str) -> dict[str, int]:
    if not 1 <= len(stated) <= _MOST_TOKENS:
        raise BadFile(f"{where}: {len(stated):,} tokens; 1 to {_MOST_TOKENS:,} are read")
    found = {token: fields.count(place, f"{where}: {token[:80]!r}") for token, place in stated.items()}
    if max(found.values()) >= _MOST_TOKENS or len(set(found.values())) < len(found):
        raise BadFile(f"{where}: numbers of tokens are beyond {_MOST_TOKENS:,}, or stand for two")
    return found


def _pairs(stated: Sequence[object], vocabulary: Mapping[str, int], where: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for number, item in enumerate(stated, start=1):
        pair = fields.texts(item, f"{where}: merge {number}")
        if len(pair) != 2 or not {*pair, "".join(pair)} <= vocabulary.keys():
            raise BadFile(f"{where}: merge {number} is not of two tokens that make a third")
        found.append((pair[0], pair[1]))
    return found


def _token(stated: object, name: str) -> AddedToken:
    """Return a special token, which is stated as text or with how it is to be found in texts."""
    if isinstance(stated, str):
        return AddedToken(stated, special=True, normalized=False)
    entry = fields.as_object(stated, name)
    flags: dict[str, Any] = {flag: entry[flag] for flag in _FLAGS if isinstance(entry.get(flag), bool)}
    return AddedToken(fields.text(entry.get("content"), name), special=True, **flags)


def _add(made: CLIPTokenizer, added: Object, folder: Path) -> None:
    """Add the tokens beyond the vocabulary, which must follow it in number."""
    rest = {token: fields.count(place, f"{folder}: {token[:80]!r}") for token, place in added.items()}
    known: dict[str, int] = made.get_vocab()
    for token, place in sorted(rest.items(), key=lambda item: item[1]):
        if token not in known and (made.add_tokens([token]) != 1 or made.convert_tokens_to_ids(token) != place):
            raise BadModel(f"{folder}: the token {token[:80]!r} does not follow the vocabulary as number {place}")
