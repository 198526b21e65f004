"""Memory that runs out, raised where torch raises it: by an allocation in the middle of a module's call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def full(module: nn.Module, beyond: Callable[[Tensor], bool]) -> Iterator[list[tuple[int, ...]]]:
    """Let a module's calls fail for inputs that are too much; yields the shapes of those that it was given."""
    seen: list[tuple[int, ...]] = []

    def allocate(_module: nn.Module, given: tuple[Any, ...]) -> None:
        seen.append(tuple(given[0].shape))
        if beyond(given[0]):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    handle = module.register_forward_pre_hook(allocate)
    try:
        yield seen
    finally:
        handle.remove()
