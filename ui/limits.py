"""How much one request may take, and what a page may name: checked before anything is accepted."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from composer.request import RenderRequest
from lora_zoo.errors import near, nearest
from pipelines.estimates import amount, machine_memory
from pipelines.pricing import Cost, price
from pipelines.quotes import MOST_USUAL, lower, much, size
from pipelines.resolve import Resolved
from ui.errors import NotAllowed, TooMuch
from ui.held import INLINE, NAMED

#: UNet passes that a job has room for, each as large as one may be: none takes long, and stopping waits for none.
_PASSES = 50
#: GFLOP in a second that a processor's core and a GPU are taken for, where a limit in time is made one in arithmetic.
_CORE, _GPU = 28.0, 14_000.0


@dataclass(frozen=True)
class Limits:
    """What a server gives away; a job that asks for more is refused with the figure."""

    waiting: int = 200  # jobs in the queue
    pictures: int = 256  # of one job
    loras: int = 16  # of one picture
    usual: int = MOST_USUAL  # what one picture may take, in usual pictures of its model
    job_gflop: float = 200_000.0  # what one job may take, all its pictures together; see `of_machine`
    job_seconds: float = 3600.0  # after which a job is stopped, from its own beginning; what is finished is kept
    memory: int = 0  # bytes that a UNet call or decoding may take beside the model; 0: whatever there is
    prompt: int = 10_000  # characters
    picture: int = 32 << 20  # bytes of a picture to begin with, as it is sent
    inline: int = 64 << 20  # characters of the requests of one job, with the pictures and masks that they hold
    upload: int = 1 << 30  # bytes of one file
    folders: bool = True  # whether a page may have folders of this machine scanned


def of_machine(job_seconds: float, gpu: bool, folders: bool = True) -> Limits:
    """Return what a server gives away on this machine, where a job may take so many seconds.

    That is little on a processor, and much on a GPU, where memory that runs out is dealt with while rendering.
    """
    pace = _GPU if gpu else _CORE * (os.cpu_count() or 1)
    memory = 0 if gpu else machine_memory()
    return Limits(job_gflop=pace * job_seconds, job_seconds=job_seconds, memory=memory, folders=folders)


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
    held = 0
    for one in requests:
        held += len(one.model_dump_json())  # all of it: whatever a request has, the history keeps for each picture
        if held > limits.inline:
            raise TooMuch(
                f"this job's requests have at least {held:,} characters together, with the pictures and masks that "
                f"they hold; this server takes {limits.inline:,} per job: give smaller ones, or ask for fewer pictures"
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


def check_work(found: Sequence[Resolved], limits: Limits) -> None:
    """Refuse a job whose pictures take more arithmetic than this server gives, one of them or all together.

    Raises:
        TooMuch: With the figure, the limit, and what makes it so large.
    """
    known: dict[int, Cost] = {}  # by the job that they share: those that differ by their seeds only
    total = 0.0
    for one in found:
        if id(one.job) not in known:
            known[id(one.job)] = _checked(one, limits)
        total += known[id(one.job)].gflop
        if total > limits.job_gflop:
            raise TooMuch(
                f"this job takes more than {limits.job_gflop:,.0f} GFLOP, the most that this server gives to one; "
                f"its picture of {size(one)} takes {known[id(one.job)].gflop:,.0f}: ask for {lower(one)}, or for "
                "fewer pictures"
            )


def check_memory(cost: Cost, limits: Limits) -> None:
    """Refuse a job that takes more memory than this machine has."""
    if limits.memory and cost.memory > limits.memory:
        raise TooMuch(
            f"this job takes about {amount(cost.memory)} of memory beside the model; this machine has "
            f"{amount(limits.memory)}: ask for a smaller size, or for fewer pictures at a time"
        )


def _checked(one: Resolved, limits: Limits) -> Cost:
    """Return what one picture takes, if that is not too much for one."""
    cost = price([one], 1)
    if told := much(one, limits.usual):
        raise TooMuch(f"{told}; this server takes at most {limits.usual:,}: ask for {lower(one)}")
    most = limits.job_gflop / _PASSES
    if cost.pass_gflop > most:
        raise TooMuch(
            f"one pass of the UNet at {size(one)} takes {cost.pass_gflop:,.0f} GFLOP; this server takes at most "
            f"{most:,.0f} at a time: ask for {lower(one)}"
        )
    return cost
