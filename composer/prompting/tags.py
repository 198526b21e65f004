"""`<lora:NAME:...>` in a prompt, as A1111, Forge and their common extensions write it.

NAME[:TE[:UNET]] by place or as te= and unet=; without a weight for the UNet, the text encoder's counts there too, and
without any it is 1. `lbw=` gives weights by block (a list or a preset), `start=`, `stop=` and `step=A-B` the steps in
which the LoRA acts, as in sd-webui-lora-block-weight on Forge: the first one from 0, and the first in which it acts no
longer. A weight may be a curve over the steps, `0@0,1@0.4`, as in sd-webui-loractl; a text is read once, with the
weight that a curve has at the start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from composer import over_steps
from composer.errors import BadRequest
from composer.prompting import schedule
from composer.request import PromptSyntax, Schedule
from lora_zoo.errors import nearest

_TAG = re.compile(r"<(\w+):([^<>]+)>")
_KINDS = ("lora", "lyco")
_OTHERS = ("hypernet",)
#: What is no tag and looks like one: never closed, blanks where none may be, or another sign than a colon.
_BROKEN = re.compile(r"<[ \t]{0,9}(?:lora|lyco)[ \t]{0,9}[: =][^<>\n]{0,80}>?", re.IGNORECASE)
_SHOWN = 80  # characters of a tag in a message
KEYS = ("te", "unet", "lbw", "start", "stop", "step")
_MOST = 100.0
_T = TypeVar("_T")


@dataclass(frozen=True)
class LoraTag:
    """One tag, read."""

    name: str
    text_encoder_weight: float
    weight: float  # in the UNet
    blocks: str = ""  # as written; what it means depends on the model
    schedule: Schedule | None = None


@dataclass(frozen=True)
class Tagged:
    """A prompt without its tags, and these."""

    text: str
    loras: tuple[LoraTag, ...]
    remarks: tuple[str, ...] = ()  # of tags that do not do what their place seems to say


def extract(prompt: str) -> Tagged:
    """Take the tags out of a prompt. One that is not understood is an error, never text."""
    loras: list[LoraTag] = []
    places: list[tuple[int, str]] = []

    def take(match: re.Match[str]) -> str:
        kind = match[1].lower()
        if kind in _OTHERS:
            raise BadRequest(f"{match[0]}: hypernetworks are not read, only {' and '.join(_KINDS)}")
        if kind not in _KINDS:
            return match[0]  # < and > are characters like others
        loras.append(read(match[2], match[0]))
        places.append((match.start(), match[0]))
        return ""

    text = _TAG.sub(take, prompt)
    changing = schedule.changing(prompt) if places else ()
    inside = [tag for place, tag in places if any(start < place < end for start, end in changing)]
    return Tagged(text, tuple(loras), tuple(map(_always, inside)))


def suspects(prompt: str, syntax: PromptSyntax) -> list[str]:
    """Return what a prompt, whose tags are taken out, still holds that may be meant as a LoRA's tag."""
    found = [match[0] for match in _BROKEN.finditer(prompt)]
    return found if syntax == "a1111" else [one for one in found if one.endswith(">")]


def told_of(suspect: str, syntax: PromptSyntax) -> str:
    """Return what to tell of such a text."""
    shown = suspect if len(suspect) <= _SHOWN else f"{suspect[:_SHOWN]}..."
    if syntax == "a1111":
        return f"{shown!r} looks like a LoRA's tag and is none, so it is read as text; write <lora:NAME:WEIGHT>"
    return f"{shown!r} is text in prompts of syntax '{syntax}', and no LoRA; name the LoRA beside the prompt"


def _always(tag: str) -> str:
    shown = tag if len(tag) <= _SHOWN else f"{tag[:_SHOWN]}..."
    return (
        f"{shown} stands in text that changes over the steps, and acts in all of them, as in A1111; "
        "for some steps only, write step=FIRST-STOP in the tag"
    )


def read(inside: str, tag: str) -> LoraTag:
    """Read what stands behind `<lora:`; `tag` is what a mistake is told of."""
    name, *rest = (part.strip() for part in inside.split(":"))
    if not name:
        raise BadRequest(f"{tag}: the name is missing; write <lora:NAME:WEIGHT>")
    placed = [part for part in rest if "=" not in part]
    named = _named([part for part in rest if "=" in part], tag)
    if len(placed) > 2:
        raise BadRequest(f"{tag}: at most two weights are read, for the text encoder and the UNet; got {len(placed)}")
    text = named.get("te", placed[0] if placed else "1")
    model = named.get("unet", placed[1] if len(placed) > 1 else text)
    curve = _curve(model, tag)
    weight = 1.0 if curve else _number(model, tag)
    return LoraTag(name, _at_start(text, tag), weight, named.get("lbw", ""), _schedule(named, curve, tag))


def _curve(text: str, tag: str) -> tuple[tuple[float, float], ...]:
    return _told(tag, lambda: over_steps.read_curve(text)) if "@" in text else ()


def _at_start(text: str, tag: str) -> float:
    curve = _curve(text, tag)
    return min(curve)[1] if curve else _number(text, tag)


def _named(parts: Sequence[str], tag: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key.lower() not in KEYS:
            raise BadRequest(f"{tag}: unknown key {key!r}{nearest(key, KEYS)}")
        if key.lower() in found:
            raise BadRequest(f"{tag}: {key!r} is given twice")
        found[key.lower()] = value
    return found


def _schedule(named: Mapping[str, str], curve: tuple[tuple[float, float], ...], tag: str) -> Schedule | None:
    if "step" in named and ("start" in named or "stop" in named):
        raise BadRequest(f"{tag}: step= says what start= and stop= say; give one of them")
    first, last = named.get("start"), named.get("stop")
    if "step" in named:
        first, dash, last = named["step"].partition("-")
        if not dash:
            raise BadRequest(f"{tag}: step takes FIRST-STOP, for example step=0-10; got {named['step']!r}")
    if first is None and last is None and not curve:
        return None
    begin = _told(tag, lambda: over_steps.position(first or "0", tag))
    end = None if last is None else _told(tag, lambda: over_steps.position(last, tag))
    return _told(tag, lambda: Schedule(start=begin, stop=end, curve=curve))


def _told(tag: str, read: Callable[[], _T]) -> _T:
    """Read a part of a tag; a mistake in it is told with the tag."""
    try:
        return read()
    except BadRequest as error:
        raise BadRequest(f"{tag}: {error}") from error


def _number(text: str, tag: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadRequest(f"{tag}: {text!r} is not a number") from None
    if not abs(value) <= _MOST:
        raise BadRequest(f"{tag}: {text} is not a weight from {-_MOST:g} to {_MOST:g}")
    return value
