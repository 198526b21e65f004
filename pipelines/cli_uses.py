"""What is typed of single LoRAs beside their weights: words, weights by block, when they act."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from composer import over_steps
from composer.errors import BadRequest
from composer.request import RenderRequest, parse_request
from lora_zoo.errors import nearest
from pipelines.resolve import with_tags


@dataclass(frozen=True)
class UseFlags:
    """NAME=VALUE options, as typed."""

    words: tuple[str, ...] = ()
    blocks: tuple[str, ...] = ()
    during: tuple[str, ...] = ()


def laid(request: RenderRequest, flags: UseFlags) -> RenderRequest:
    """Lay what was typed over the LoRAs of a request, those that its prompt names in tags included."""
    if not (flags.words or flags.blocks or flags.during):
        return request
    request = with_tags(request)
    names = tuple(use.name for use in request.adapters)
    found: dict[str, dict[str, object]] = {name: {} for name in names}
    readers: Mapping[str, tuple[str, tuple[str, ...], Callable[[str], object]]] = {
        "words": ("--words", flags.words, lambda text: tuple(text.split(","))),
        "blocks": ("--blocks", flags.blocks, str),
        "schedule": ("--during", flags.during, lambda text: over_steps.read(text).model_dump()),
    }
    for field, (flag, typed, read) in readers.items():
        for text in typed:
            name, value = _split(flag, text, names)
            if field in found[name]:
                raise BadRequest(f"{flag} {text!r}: given twice for {name!r}")
            found[name][field] = read(value)
    asked = request.model_dump()
    asked["adapters"] = [{**use, **found[str(use["name"])]} for use in asked["adapters"]]
    return parse_request(asked)


def _split(flag: str, text: str, names: tuple[str, ...]) -> tuple[str, str]:
    """Read NAME=VALUE, where NAME, which may hold the sign too, is one of the LoRAs named."""
    fitting = [name for name in names if text.startswith(f"{name}=")]
    if not fitting:
        near = nearest(text.partition("=")[0], names)
        raise BadRequest(
            f"{flag} {text!r}: write NAME={flag[2:].upper()} with the name of a LoRA of this picture{near}"
        )
    name = max(fitting, key=len)
    return name, text.removeprefix(f"{name}=")
