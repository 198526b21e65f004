"""What a process must have decided before torch is imported, in one place; the user's own environment goes first.

OpenMP's threads meet at barriers several hundred times in each UNet call. By default they wait there spinning for
milliseconds, which is fastest on an idle machine; where anything else uses the processor, a thread that spins holds
the core that the one it waits for needs. Asleep at once, they are never in the way, but waking them costs an idle
machine half of its speed. GNU's OpenMP, which torch brings along on Linux, can do both: spin for a moment, then sleep.
LLVM's and Intel's are told to sleep. docs/busy_machines.md has the figures.

Each reads its variables once, when it is loaded, which is when torch is imported.
"""

from __future__ import annotations

import logging
import os
import sys

log = logging.getLogger(__name__)

_CHOSEN = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "2000"}  # GNU's takes the second for more than the first
_ALSO_WAITING = ("KMP_BLOCKTIME", "KMP_LIBRARY")  # by which a user may have decided the same


def prepare() -> bool:
    """Have this process, and those that it starts, spin only for a moment when they wait for threads.

    To be called before torch is imported, as every command does.

    Returns:
        Whether threads wait as the environment now says. False: torch was imported before, so its threads keep the
        policy they have, which is logged as a warning; processes that are started from now on have the new one.
    """
    if any(os.environ.get(name) for name in (*_CHOSEN, *_ALSO_WAITING)):
        return True
    os.environ.update(_CHOSEN)
    if "torch" not in sys.modules:
        return True
    log.warning(
        "torch was imported before medley could choose how its threads wait; on a busy machine it may be many times "
        "slower. Set %s before Python starts, or call pipelines.environment.prepare() before importing torch",
        " and ".join(f"{name}={value}" for name, value in _CHOSEN.items()),
    )
    return False
