"""What a process must have decided before torch is imported, in one place; the user's own environment goes first.

OpenMP's threads meet at barriers several hundred times in each UNet call. By default they wait there spinning, which
gains a little on an idle machine; where anything else uses the processor, a thread that spins holds the core that the
one it waits for needs. Told to wait passively, they sleep instead. GNU's, LLVM's and Intel's OpenMP all read the same
variable, and each reads it once, when it is loaded, which is when torch is imported.
"""

from __future__ import annotations

import logging
import os
import sys

log = logging.getLogger(__name__)

_WAITING = "OMP_WAIT_POLICY"
_ALSO_WAITING = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")  # by which a user may have decided the same


def prepare() -> bool:
    """Have this process, and those that it starts, wait for threads without spinning.

    To be called before torch is imported, as every command does.

    Returns:
        Whether threads wait as the environment now says. False: torch was imported before, so its threads keep the
        policy they have, which is logged as a warning; processes that are started from now on have the new one.
    """
    if any(os.environ.get(name) for name in (_WAITING, *_ALSO_WAITING)):
        return True
    os.environ[_WAITING] = "PASSIVE"
    if "torch" not in sys.modules:
        return True
    log.warning(
        "torch was imported before medley could choose how its threads wait; on a busy machine it may be many times "
        "slower. Set %s=PASSIVE before Python starts, or call pipelines.environment.prepare() before importing torch",
        _WAITING,
    )
    return False
