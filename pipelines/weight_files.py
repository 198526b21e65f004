"""A component's files of weights in a folder: which they are, and what their heads say, checked before any is loaded.

An index of shards is a stranger's list of names: each must be a plain name of a safetensors file of the same folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lora_zoo import fields, header
from lora_zoo.errors import BadFile, first_few
from lora_zoo.foreign import files
from lora_zoo.header import Header
from pipelines.errors import BadModel

#: Component -> how diffusers and transformers call its weights.
STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
    "text_encoder_2": "model",
}
SUFFIX = ".safetensors"
_MOST_OF_INDEX = 4 << 20  # bytes
_MOST_SHARDS = 1000
_OTHERS = (".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".onnx")


def find(home: Path, stem: str, variants: Sequence[str] = ("",)) -> tuple[Path, ...]:
    """Return a component's safetensors: one file, or the shards that its index names, of the first variant there is.

    Raises:
        BadModel: There are none, or the index is none, or names anything but safetensors files of its folder.
    """
    for variant in variants:
        index = home / f"{stem}{SUFFIX}.index{variant}.json"
        if index.exists() or index.is_symlink():
            return _shards(index)
        one = home / f"{stem}{variant}{SUFFIX}"
        if one.exists() or one.is_symlink():
            return (one,)
    others = [file.name for file in sorted(home.glob("*")) if file.suffix in _OTHERS]
    hint = f"; {first_few(others)} may be a pickle, which can run code and is not opened" if others else ""
    raise BadModel(f"{home} has no {stem}{SUFFIX}{hint}; weights in other formats or variants are not read")


def heads(paths: Sequence[Path]) -> Mapping[Path, Header]:
    """Return the checked heads of files of weights; none may lead out of its folder, nor hold another's tensors."""
    found = {path: header.of_weights(path, header.CHECKPOINT, path.parent) for path in paths}
    seen: dict[str, Path] = {}
    for path, head in found.items():
        for key in head.tensors:
            if key in seen:
                raise BadModel(f"{path}: {key} is in {seen[key].name} too")
            seen[key] = path
    return found


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        stated = fields.parse_object(files.read(index, _MOST_OF_INDEX, index.parent), str(index))
        listed = fields.as_object(stated.get("weight_map"), f"{index}: weight_map")
        names = sorted({fields.text(name, f"{index}: weight_map {key}") for key, name in listed.items()})
    except BadFile as error:
        raise BadModel(f"{index} is not an index of weights: {error}") from error
    if not 1 <= len(names) <= _MOST_SHARDS:
        raise BadModel(f"{index} names {len(names):,} files; 1 to {_MOST_SHARDS:,} are read")
    for name in names:
        if not name.endswith(SUFFIX) or name != Path(name).name or "\\" in name or "\0" in name:
            raise BadModel(f"{index} names {name[:80]!r}; only {SUFFIX} files of its own folder are read")
        if not (index.parent / name).exists():
            raise BadModel(f"{index} names {name}, which is not there")
    return tuple(index.parent / name for name in names)


@contextmanager
def tensors(head: Header) -> Iterator[Any]:
    """Give the tensors of a file whose head was checked, as safetensors reads them: mapped, not copied."""
    from safetensors import SafetensorError, safe_open

    files.opened(head.path).close()  # it is still a regular file
    try:
        with safe_open(str(head.path), framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise BadModel(f"{head.path}: {error}") from error
