"""What is typed of single LoRAs beside their weights: words, weights by block, when and where they act."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from composer import over_steps
from composer.errors import BadRequest
from composer.request import RenderRequest, parse_request
from lora_zoo.errors import nearest
from lora_zoo.foreign import files
from pipelines.tagged import with_tags

_SIDES = ("LEFT", "TOP", "RIGHT", "BOTTOM")


@dataclass(frozen=True)
class UseFlags:
    """NAME=VALUE options, as typed."""

    words: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    during: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    region_prompts: tuple[str, ...] = ()
    partial: tuple[str, ...] = ()  # names alone


def laid(request: RenderRequest, flags: UseFlags) -> RenderRequest:
    """Lay what was typed over the LoRAs of a request, those that its prompt names in tags included."""
    if flags == UseFlags():
        return request
    request = with_tags(request)
    names = tuple(use.name for use in request.adapters)
    words = {name: tuple(own.split(",")) for name, own in parse_owned("--words", flags.words, names).items()}
    during = parse_owned("--during", flags.during, names)
    for name in flags.partial:
        if name not in names:
            raise BadRequest(f"--allow-partial {name!r}: no LoRA of this picture{nearest(name, names)}")
    typed: Mapping[str, Mapping[str, object]] = {
        "words": words,
        "blocks": parse_owned("--blocks", flags.blocks, names),
        "allow_partial": dict.fromkeys(flags.partial, True),
        "schedule": {name: over_steps.read(text).model_dump() for name, text in during.items()},
    }
    asked = request.model_dump()
    uses: list[Mapping[str, object]] = [
        {**use, **{field: found[use["name"]] for field, found in typed.items() if use["name"] in found}}
        for use in asked["adapters"]
    ]
    return parse_request({**asked, "adapters": _with_regions(uses, flags)})


def _with_regions(uses: Sequence[Mapping[str, object]], flags: UseFlags) -> list[Mapping[str, object]]:
    """Lay the regions that were given over LoRAs, and their prompts over theirs."""
    names = tuple(str(use["name"]) for use in uses)
    places = {name: parse_region(text) for name, text in parse_owned("--region", flags.regions, names).items()}
    prompts = parse_owned("--region-prompt", flags.region_prompts, names)
    found: list[Mapping[str, object]] = []
    for use in uses:
        name, before = str(use["name"]), use.get("region")
        region = {**(before if isinstance(before, dict) else {}), **places.get(name, {})}
        if name in prompts and not region:
            raise BadRequest(f"--region-prompt: LoRA {name!r} has no region; give it one with --region {name}=…")
        own = {"prompt": prompts[name]} if name in prompts else {}
        found.append({**use, "region": {**region, **own}} if region else use)
    return found


def parse_owned(flag: str, texts: Sequence[str], names: tuple[str, ...]) -> dict[str, str]:
    """Read NAME=VALUE, where NAME is one of the LoRAs named, each once."""
    found: dict[str, str] = {}
    for text in texts:
        fitting = [name for name in names if text.startswith(f"{name}=")]
        if not fitting:
            what, near = flag.removeprefix("--").upper(), nearest(text.partition("=")[0], names)
            raise BadRequest(f"{flag} {text!r}: write NAME={what} with the name of a LoRA of this picture{near}")
        name = max(fitting, key=len)
        if name in found:
            raise BadRequest(f"{flag} {text!r}: this is given twice for LoRA {name!r}")
        found[name] = text.removeprefix(f"{name}=")
    return found


def parse_region(text: str) -> dict[str, object]:
    """Read LEFT,TOP,RIGHT,BOTTOM as fractions of the picture, or the name of a mask's file."""
    parts = text.split(",")
    try:
        sides = tuple(map(float, parts))
    except ValueError:
        sides = ()
    if len(sides) == len(_SIDES):
        return {"box": sides, "mask": None}
    if sides or not os.path.exists(text):  # unlike a path's own method, it takes any name
        wrong = f"{len(sides)} numbers" if sides else "no file of this name either"
        raise BadRequest(f"--region {text!r}: {wrong}; write {','.join(_SIDES)} from 0 to 1, or the file of a mask")
    files.check_regular(Path(text), BadRequest)
    return {"box": None, "mask": text}
