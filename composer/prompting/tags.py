"""`<lora:NAME:...>` in a prompt, as A1111, Forge and their common extensions write it.

NAME[:TE[:UNET]] by place or as te= and unet=; without a weight for the UNet, the text encoder's counts there too, and
without any it is 1. `lbw=` gives weights by block (a list of 12, 17, 20 or 26 numbers), `start=`, `stop=` and
`step=A-B` the steps in which the LoRA acts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from composer.errors import BadRequest
from lora_zoo.errors import nearest

_TAG = re.compile(r"<(\w+):([^<>]+)>")
_KINDS = ("lora", "lyco")
_OTHERS = ("hypernet",)
_KEYS = ("te", "unet", "lbw", "start", "stop", "step")
_BLOCK_COUNTS = (12, 17, 20, 26)
_MOST = 100.0


@dataclass(frozen=True)
class LoraTag:
    """One tag, read."""

    name: str
    text_encoder_weight: float
    weight: float  # in the UNet
    blocks: tuple[float, ...] = ()  # empty: all alike
    steps: tuple[int, int | None] | None = None  # first and last in which it acts, from 0; None: all, or to the end


@dataclass(frozen=True)
class Tagged:
    """A prompt without its tags, and these."""

    text: str
    loras: tuple[LoraTag, ...]


def extract(prompt: str) -> Tagged:
    """Take the tags out of a prompt. One that is not understood is an error, never text."""
    loras: list[LoraTag] = []

    def take(match: re.Match[str]) -> str:
        kind = match[1].lower()
        if kind in _OTHERS:
            raise BadRequest(f"{match[0]}: hypernetworks are not read, only {' and '.join(_KINDS)}")
        if kind not in _KINDS:
            return match[0]  # < and > are characters like others
        loras.append(_lora(match[2], match[0]))
        return ""

    return Tagged(_TAG.sub(take, prompt), tuple(loras))


def _lora(inside: str, tag: str) -> LoraTag:
    name, *rest = (part.strip() for part in inside.split(":"))
    if not name:
        raise BadRequest(f"{tag}: the name is missing; write <lora:NAME:WEIGHT>")
    placed = [part for part in rest if "=" not in part]
    named = _named([part for part in rest if "=" in part], tag)
    if len(placed) > 2:
        raise BadRequest(f"{tag}: at most two weights are read, for the text encoder and the UNet; got {len(placed)}")
    weights = [_number(part, tag) for part in placed]
    text = _number(named["te"], tag) if "te" in named else weights[0] if weights else 1.0
    model = _number(named["unet"], tag) if "unet" in named else weights[1] if len(weights) > 1 else text
    return LoraTag(name, text, model, _blocks(named.get("lbw", ""), tag), _steps(named, tag))


def _named(parts: Sequence[str], tag: str) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key.lower() not in _KEYS:
            raise BadRequest(f"{tag}: unknown key {key!r}{nearest(key, _KEYS)}")
        if key.lower() in found:
            raise BadRequest(f"{tag}: {key!r} is given twice")
        found[key.lower()] = value
    return found


def _blocks(text: str, tag: str) -> tuple[float, ...]:
    if not text:
        return ()
    weights = tuple(_number(part, tag) for part in text.split(","))
    if len(weights) not in _BLOCK_COUNTS:
        counts = ", ".join(map(str, _BLOCK_COUNTS))
        raise BadRequest(f"{tag}: lbw takes {counts} numbers, by the kind of model; got {len(weights)} from {text!r}")
    return weights


def _steps(named: Mapping[str, str], tag: str) -> tuple[int, int | None] | None:
    if "step" in named and ("start" in named or "stop" in named):
        raise BadRequest(f"{tag}: step= says what start= and stop= say; give one of them")
    first, last = named.get("start"), named.get("stop")
    if "step" in named:
        first, dash, last = named["step"].partition("-")
        if not dash:
            raise BadRequest(f"{tag}: step takes FIRST-LAST, for example step=0-10; got {named['step']!r}")
    if first is None and last is None:
        return None
    begin, end = _step(first or "0", tag), None if last is None else _step(last, tag)
    if end is not None and end < begin:
        raise BadRequest(f"{tag}: the last step {end} comes before the first, {begin}")
    return begin, end


def _step(text: str, tag: str) -> int:
    if not text.strip().isascii() or not text.strip().isdigit():
        raise BadRequest(f"{tag}: {text!r} is not the number of a step, from 0")
    return int(text)


def _number(text: str, tag: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadRequest(f"{tag}: {text!r} is not a number") from None
    if not abs(value) <= _MOST:
        raise BadRequest(f"{tag}: {text} is not a weight from {-_MOST:g} to {_MOST:g}")
    return value
