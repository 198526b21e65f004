"""How far memory rises while something is done: on a GPU, what is allocated there; else, what the process has resident.

On a processor only Linux tells, where a process may set the mark of its greatest extent back.
"""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Callable
from pathlib import Path

import torch

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MARK = re.compile(r"VmHWM:\s+(\d+) kB")


def rise(device: torch.device, act: Callable[[], object]) -> float | None:
    """Do something; return by how many MB memory rose at most meanwhile, None where that cannot be known."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.max_memory_allocated(device)
        act()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    before = _reset()
    act()
    return None if before is None else (_highest() - before) / 1e6


def _reset() -> int | None:
    """Give back what is free, and begin a new mark; return where it begins, in bytes."""
    if not _RESET.exists():
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # else freed pages would be filled again unseen
    if trim is not None:
        trim(0)
    _RESET.write_text("5")
    return _highest()


def _highest() -> int:
    found = _MARK.search(_STATUS.read_text())
    if found is None:
        raise OSError(f"{_STATUS} does not tell how much memory this process has taken at most")
    return int(found.group(1)) * 1024
