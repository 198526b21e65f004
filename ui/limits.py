"""How much one request may take, and what a page may name: checked before anything is accepted."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from composer.request import RenderRequest
from lora_zoo.errors import near, nearest
from ui.errors import NotAllowed, TooMuch
from ui.held import INLINE, NAMED


@dataclass(frozen=True)
class Limits:
    """What a server gives away; a job that asks for more is refused with the figure."""

    waiting: int = 200  # jobs in the queue
    pictures: int = 256  # of one job
    loras: int = 16  # of one picture
    work: int = 64 * 1024 * 1024 * 50  # steps x pixels of one job, all its pictures together: 64 of 1024x1024, 50 steps
    prompt: int = 10_000  # characters
    picture: int = 32 << 20  # bytes of a picture to begin with, as it is sent
    inline: int = 64 << 20  # characters of the pictures and masks that the requests of one job hold
    upload: int = 1 << 30  # bytes of one file
    folders: bool = True  # whether a page may have folders of this machine scanned


@dataclass(frozen=True)
class Allowed:
    """The names that a page may use. Paths, hub ids and addresses are not among them."""

    models: Collection[str]
    loras: Collection[str]


def check_names(request: RenderRequest, allowed: Allowed) -> None:
    """Refuse what is named by path or by a name that this server does not offer, before anything is opened."""
    if request.model not in allowed.models:
        raise NotAllowed(f"model {request.model!r} is not offered here{nearest(request.model, allowed.models)}")
    named = [] if request.start is None else [request.start.image, request.start.mask]
    if any(one is not None and not one.startswith((INLINE, NAMED)) for one in named):
        raise NotAllowed(f"a picture to begin with, and its mask, are given inline here, as {INLINE}..., not by path")
    for use in request.adapters:
        if use.name not in allowed.loras:
            raise NotAllowed(f"LoRA {use.name!r} is not in the zoo{near(use.name, allowed.loras)}")
        if use.region is not None and use.region.mask is not None and not use.region.mask.startswith(INLINE):
            raise NotAllowed(f"LoRA {use.name!r}: a mask is given inline here, as {INLINE}..., not by path")


def check_held(requests: Sequence[RenderRequest], limits: Limits) -> None:
    """Refuse a job of more pictures than this server takes, or whose requests hold more; nothing is read for that."""
    if not 1 <= len(requests) <= limits.pictures:
        raise TooMuch(f"a job has 1 to {limits.pictures} pictures here, not {len(requests)}")
    held = sum(_held(one) for one in requests)
    if held > limits.inline:
        raise TooMuch(
            f"the pictures and masks that this job's requests hold have {held:,} characters together; "
            f"this server takes {limits.inline:,} per job: give smaller ones, or ask for fewer pictures"
        )


def check_amount(requests: Sequence[RenderRequest], limits: Limits) -> None:
    """Refuse a job of resolved requests, which hold what they begin with, that is larger than this server takes."""
    for one in requests:
        longest = max(len(one.prompt), len(one.negative_prompt), len(one.undesired))
        if longest > limits.prompt:
            raise TooMuch(f"a prompt has at most {limits.prompt} characters here, not {longest}")
        if len(one.adapters) > limits.loras:
            raise TooMuch(f"a picture has at most {limits.loras} LoRAs here, not {len(one.adapters)}")
    check_held(requests, limits)
    work = sum(_work(one) for one in requests)
    if work > limits.work:
        raise TooMuch(
            f"steps x width x height x pictures is {work:,}; this server takes at most {limits.work:,} per job: "
            "ask for fewer steps, a smaller size or fewer pictures"
        )


def _held(one: RenderRequest) -> int:
    """Return the characters of the pictures and masks that a request holds."""
    start = [] if one.start is None else [one.start.image, one.start.mask]
    masks = [use.region.mask for use in one.adapters if use.region is not None]
    return sum(len(text) for text in (*start, *masks) if text is not None)


def _work(one: RenderRequest) -> int:
    """Return steps x pixels of a picture, its second pass included."""
    pixels = (one.width or 0) * (one.height or 0)
    steps = one.num_inference_steps or 0
    second = 0 if one.hires is None else (one.hires.num_inference_steps or steps) * one.hires.scale**2
    return int(pixels * (steps + second))
