"""What is done where a device's memory runs out: less at a time, and the picture's record says so.

UNet calls take half the rows, then half of those, down to one pass at a time; a decoder works in tiles, each try in
smaller ones. Every order begins with whole calls again, so that what ran before it decides no bit of a picture. Where
the last step is too much too, it is a typed error, and what was held for the try is let go.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from pipelines.batching import deal
from pipelines.errors import OutOfMemory

_T = TypeVar("_T")
_R = TypeVar("_R")

_HELP = "choose a smaller size, half precision (dtype), or to hold only the part in use (offload)"
_TILE = 8  # latent pixels of the smallest tile; sizes are multiples, so that overlaps are whole pixels


class Spares(Protocol):
    """Who can let go of what only saves time."""

    @property
    def device(self) -> torch.device: ...
    def spare(self) -> None: ...


class Tiled(Protocol):
    """An autoencoder that can work in tiles."""

    use_tiling: bool
    tile_latent_min_size: int
    tile_sample_min_size: int


class Room:
    """How many rows one order's UNet calls may have: fewer, once memory has run out."""

    def __init__(self, model: Spares, rows: int) -> None:
        self._model = model
        self._rows = rows
        self._failed = 0  # rows of the first call that was too large

    @property
    def notice(self) -> str:
        """What the user should know; empty if memory was enough."""
        if not self._failed:
            return ""
        return (
            f"the memory of {self._model.device} ran out with {self._failed} rows per UNet call; "
            f"at most {self._rows} at a time were run"
        )

    def answers(
        self, items: Sequence[_T], rows_of: Callable[[_T], int], call: Callable[[Sequence[_T]], Sequence[_R]]
    ) -> Iterator[tuple[_T, _R]]:
        """Answer items in calls; those of a call for which memory is too little are dealt to smaller ones."""
        left = deal(items, rows_of, self._rows)
        while left:
            now, *rest = left
            found = _unless_full(partial(call, now))
            if found is None:
                self._narrow(sum(map(rows_of, now)), max(map(rows_of, now)))
                left = deal([one for some in left for one in some], rows_of, self._rows)
            else:
                yield from zip(now, found, strict=True)
                left = rest

    def _narrow(self, failed: int, least: int) -> None:
        self._model.spare()
        if failed <= least:
            raise OutOfMemory(f"the memory of {self._model.device} is too little for one pass at a time; {_HELP}")
        self._failed = self._failed or failed
        self._rows = max(-(-failed // 2), least)


def in_tiles_if_need_be(
    model: Spares, vae: Tiled, work: Callable[[], Tensor], side: int, factor: int
) -> tuple[Tensor, str]:
    """Return what an autoencoder makes of latents of this longer side, and what is to be told of it."""
    found = _unless_full(work)
    if found is not None:
        return found, ""
    for size in _sizes(min(side, vae.tile_latent_min_size) if vae.use_tiling else side):
        model.spare()
        with _tiling(vae, size, factor):
            found = _unless_full(work)
        if found is not None:
            told = f"the memory of {model.device} ran out at the decoder; it worked in tiles of {size * factor} pixels"
            return found, told
    raise OutOfMemory(f"the memory of {model.device} is too little for the decoder, in tiles too; {_HELP}")


@contextmanager
def told(model: Spares) -> Iterator[None]:
    """Make a typed error of memory that runs out where nothing smaller can be tried."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        traceback.clear_frames(error.__traceback__)  # they hold the tensors of the try
        model.spare()
        raise OutOfMemory(f"the memory of {model.device} is too little for this picture; {_HELP}") from error


def _unless_full(work: Callable[[], _R]) -> _R | None:
    """Return what work makes, None where memory runs out; by then, all that it held is let go."""
    try:
        return work()
    except torch.OutOfMemoryError:
        return None


def _sizes(largest: int) -> Iterator[int]:
    while (largest := largest // 2 // _TILE * _TILE) > 0:
        yield largest


@contextmanager
def _tiling(vae: Tiled, size: int, factor: int) -> Iterator[None]:
    before = vae.use_tiling, vae.tile_latent_min_size, vae.tile_sample_min_size
    vae.use_tiling, vae.tile_latent_min_size, vae.tile_sample_min_size = True, size, size * factor
    try:
        yield
    finally:
        vae.use_tiling, vae.tile_latent_min_size, vae.tile_sample_min_size = before
