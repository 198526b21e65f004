"""The keys of a job: those of a request, and the options of `render` under their own names.

Whatever can be typed of a picture after `render` can be a job's key: `steps`, `size`, `lora`, `region`, `hires_steps`.
They become a request's keys where a job is read, so that defaults, axes and jobs may spell the same thing differently.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from composer.request import RenderRequest, parse_request
from lora_zoo.errors import ZooError, nearest
from pipelines.cli_flags import parse_corner, parse_lora, parse_settings, parse_size
from pipelines.cli_uses import UseFlags, laid
from pipelines.jobs.errors import BadJobs

Data = dict[str, object]
_T = TypeVar("_T")

#: Option of `render` -> key of a request.
ALIASES: Mapping[str, str] = {
    "negative": "negative_prompt",
    "syntax": "prompt_syntax",
    "lora": "loras",
    "set": "parameters",
    "text_policy": "text_encoder_adapters",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "prediction": "prediction_type",
    "crop": "crop_corner",
}
#: Keys that a request has not, and that become some of its own.
COUNT, LORAS, SIZE = "count", "loras", "size"
#: Option -> the key of a request that it is a part of, and which part.
PARTS: Mapping[str, tuple[str, str]] = {
    "init": ("start", "image"),
    "mask": ("start", "mask"),
    "strength": ("start", "strength"),
    "hires_strength": ("hires", "strength"),
    "hires_steps": ("hires", "num_inference_steps"),
    "hires_upscaler": ("hires", "upscaler"),
}
#: The part without which there are no others, and the option that gives it.
_FIRST = {"start": ("image", "init"), "hires": ("scale", "hires")}
_USES = ("words", "blocks", "during", "region", "region_prompt", "allow_partial")
_OWN = (COUNT, LORAS, SIZE, *PARTS, *_USES)
_SIZES = ("original_size", "target_size")
#: What other tools' files say, and why it is not done.
_REFUSED: Mapping[str, str] = {
    "clip_skip": "the text encoder is read as each model's files say; take the key out to render without it",
}
_QUOTED = re.compile(r"""(?<![^\s;+])(?:"[^"]*"|'[^']*')""")  # a quote opens where a name begins
_TOKEN = re.compile(rf"{_QUOTED.pattern}\S*|\S+")
_LONGEST = 80  # characters of a value in a message


def known() -> tuple[str, ...]:
    """Return every key that a job may have, the shorter spellings first."""
    return tuple(dict.fromkeys((*ALIASES, *_OWN, *RenderRequest.model_fields)))


def translated(data: Mapping[str, object], where: str) -> Data:
    """Return a job's data by the keys of a request; a key that says the same as another is an error.

    Keys that nobody knows stay as they are; `check` tells of them.
    """
    found: Data = {}
    for written, value in data.items():
        name = written.strip().replace("-", "_")
        key = ALIASES.get(name, name)
        for own, part in _parts(key, value, where).items():
            if own in found:
                raise BadJobs(f"{where}: {written!r} says again what another key says: {own}")
            found[own] = part
    return found


def check(jobs: Iterable[tuple[str, Mapping[str, object]]]) -> None:
    """Raise one error for all keys that nobody knows, each told once, with the first of its places.

    Args:
        jobs: Where each job stands, and its translated data.
    """
    places: dict[str, list[str]] = {}
    allowed = set(known())
    for where, data in jobs:
        for key in data:
            if key not in allowed:
                places.setdefault(key, []).append(where)
    if places:
        raise BadJobs("\n".join(_told(key, found) for key, found in places.items()))


def nearest_key(name: str) -> str:
    """Return the end of a message about an unknown key: the nearest ones, else all."""
    close = difflib.get_close_matches(name.lower(), known(), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(map(repr, close))}?" if close else nearest(name, known())


def adapters_of(loras: object, where: str) -> list[Mapping[str, object]]:
    """Return the LoRAs that a list of NAME[:WEIGHT[:TE_WEIGHT]] names, or a text of them."""
    names = split(loras) if isinstance(loras, str) else loras
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadJobs(f"{where}: loras must be a list of NAME[:WEIGHT[:TE_WEIGHT]], not {shown(loras)}")
    return [_about(where, lambda name=name: parse_lora(_unquoted(name))) for name in names]


def split_at_blanks(loras: object) -> bool:
    """Tell whether a text of LoRAs has blanks between them, which may have been meant as parts of names."""
    return isinstance(loras, str) and ";" not in loras and len(split(loras)) > 1


def split(text: str) -> list[str]:
    """Split a text of LoRAs: at `;` where there is one, else at blanks; quotes keep a name together."""
    return pieces(text, ";") if ";" in _QUOTED.sub("", text) else _TOKEN.findall(text)


def pieces(text: str, signs: str) -> list[str]:
    """Split a text at any of these signs, but not between quotes; what is empty is left out."""
    cut = re.findall(rf"""(?:{_QUOTED.pattern}|[^{re.escape(signs)}])+""", text)
    return [piece.strip() for piece in cut if piece.strip()]


def request_of(data: Mapping[str, object], where: str) -> RenderRequest:
    """Return the request that a job's data asks for; what is wrong is told with its place."""
    uses = {key: _texts(data[key], key, where) for key in _USES if key in data}
    plain = _composed({key: value for key, value in data.items() if key not in _USES}, where)

    def parsed() -> RenderRequest:
        flags = UseFlags(*(uses.get(key, ()) for key in _USES))
        return laid(parse_request(plain), flags)

    return _about(where, parsed)


def _composed(data: Mapping[str, object], where: str) -> Data:
    """Return data in which the options that are parts of one key have become that key."""
    found = {key: value for key, value in data.items() if key not in PARTS}
    parts: dict[str, Data] = {"start": {}, "hires": {}}
    if isinstance(found.get("hires"), str | int | float):
        parts["hires"]["scale"] = found.pop("hires")
    for option, (key, part) in PARTS.items():
        if option in data:
            parts[key][part] = data[option]
    for key, own in parts.items():
        if not own:
            continue
        first, option = _FIRST[key]
        stated = found.get(key)
        before = stated if isinstance(stated, dict) and first not in own else {}
        if first not in {**before, **own}:
            raise BadJobs(f"{where}: {', '.join(own)} of {key}: give {option} too, which begins it")
        found[key] = {**before, **({"mask_sha256": None} if "mask" in own else {}), **own}
    return found


def shown(value: object) -> str:
    """Return a value as a message may show it: cut where it is long."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def _parts(key: str, value: object, where: str) -> Data:
    """Return one key's value by the keys of a request that it decides."""
    if key == SIZE:
        width, height = _about(where, lambda: parse_size(str(value), SIZE))
        return {"width": width, "height": height}
    if key in _SIZES and isinstance(value, str) and value != "picture":
        return {key: _about(where, lambda: parse_size(value, key))}
    if key == "crop_corner" and isinstance(value, str):
        return {key: _about(where, lambda: parse_corner(value))}
    if key == "parameters" and isinstance(value, str | list):
        settings = _texts(value, key, where)
        return {key: _about(where, lambda: parse_settings(settings))}
    return {key: value}


def _texts(value: object, key: str, where: str) -> tuple[str, ...]:
    """Return NAME=VALUE texts: a list of them, a mapping, or one text with `;` between them."""
    if isinstance(value, dict):
        return tuple(f"{name}={one}" for name, one in value.items())
    if isinstance(value, str):
        pieces = [piece.strip() for piece in value.split(";")]
        value = pieces if all("=" in piece for piece in pieces) else [value]
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise BadJobs(f"{where}: {key} must be a list of NAME=VALUE, not {shown(value)}")
    return tuple(value)


def _unquoted(name: str) -> str:
    """Return `"my style":0.5` without its quotes."""
    quote = name[:1]
    if quote not in ("'", '"'):
        return name
    inside, closed, rest = name[1:].partition(quote)
    if not closed:
        raise BadJobs(f"loras: {name} has no closing quote; quote the whole of a name that holds blanks")
    return inside + rest


def _told(key: str, places: Sequence[str]) -> str:
    more = f" ({len(places):,} jobs have it)" if len(places) > 1 else ""
    if key in _REFUSED:
        return f"{places[0]}: there is no {key}: {_REFUSED[key]}{more}"
    return f"{places[0]}: unknown key {shown(key)}{nearest_key(key)}{more}"


def _about(where: str, act: Callable[[], _T]) -> _T:
    """Do something; a mistake is told with its place."""
    try:
        return act()
    except ZooError as error:
        raise BadJobs(f"{where}: {error}") from error
