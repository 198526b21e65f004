"""What a process must have decided before torch is imported, in one place; the user's own environment goes first.

OpenMP's threads meet at barriers several hundred times in each UNet call. By default they wait there spinning, which
gains a little on an idle machine; where anything else uses the processor, a thread that spins holds the core that the
one it waits for needs. Told to wait passively, they sleep instead. GNU's, LLVM's and Intel's OpenMP all read the same
variable, and each reads it once, when it is loaded, which is when torch is imported.

diffusers' packages of models import all of their models for the sake of one, and its solvers SciPy's statistics. Those
packages are run when something of them is asked for that is not a module, as `from package import Model` does, and
not when one of their modules is imported. That saves a process a second or so, and nothing behaves otherwise.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

log = logging.getLogger(__name__)

_WAITING = "OMP_WAIT_POLICY"
_ALSO_WAITING = ("GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")  # by which a user may have decided the same


_LATER = (
    "diffusers.models.autoencoders",
    "diffusers.models.transformers",
    "diffusers.models.unets",
    "scipy.stats",
)


def prepare() -> bool:
    """Have this process, and those that it starts, wait for threads without spinning, and import no more than it needs.

    To be called before torch is imported, as every command does.

    Returns:
        Whether threads wait as the environment now says. False: torch was imported before, so its threads keep the
        policy they have, which is logged as a warning; processes that are started from now on have the new one.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
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


class _Later(ModuleType):
    """A package that is run when it is asked for what it does not hold yet."""

    def __getattr__(self, name: str) -> Any:
        run = vars(self).pop("_run", None)
        if run is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        run(self)
        return getattr(self, name)


class _Running(Loader):
    """Loads a package as its own loader does, but for running it."""

    def __init__(self, own: Loader) -> None:
        self._own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._own.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["_run"] = self._own.exec_module
        module.__class__ = _Later


class _Finder(MetaPathFinder):
    """Finds the packages that are run later, where Python finds them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target) if fullname in _LATER else None
        if spec is not None and spec.loader is not None:
            spec.loader = _Running(spec.loader)
        return spec
