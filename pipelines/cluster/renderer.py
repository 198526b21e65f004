"""What runs on each machine: an engine that keeps its models and LoRAs warm, and checks that its files are the same.

It writes nothing. Pictures go back as the bytes of their files to the one process that keeps the ledger.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from composer.request import RenderRequest
from lora_zoo.errors import ZooError
from pipelines import environment, revision
from pipelines.engine import Engine
from pipelines.jobs import identity, worker
from pipelines.jobs.worker import Encoded

_PACKAGES = ("torch", "diffusers", "transformers", "pillow")
_HERE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Home:
    """What a machine must have in common with the one that asks, so that its pictures are the same."""

    folder: str  # from which relative paths are meant
    code: str  # digest of Medley's own sources
    versions: tuple[str, ...]
    engine: Callable[[], Engine] = Engine  # how its engine is made there

    @classmethod
    def here(cls, engine: Callable[[], Engine] = Engine) -> Home:
        return cls(str(Path.cwd()), code(), versions(), engine)


@dataclass(frozen=True)
class Asked:
    """A job: its request, resolved where it was planned, and the digest that it has there."""

    digest: str
    request: RenderRequest
    suffix: str = "png"  # the kind of file that its picture is to be


@dataclass(frozen=True)
class Trouble:
    """Why there are no pictures."""

    told: str
    of_machine: bool  # the job may be sound: the machine has other files


class Renderer:
    """Renders what it is asked; the body of a Ray actor."""

    _make: Callable[[], Engine] = Engine

    @cached_property
    def _engine(self) -> Engine:
        return self._make()

    def fit(self, home: Home, threads: int) -> Trouble | None:
        """Settle down as the asking machine is; return what is in the way, None if nothing is."""
        if versions() != home.versions:
            return Trouble(f"it has {', '.join(versions())}, not {', '.join(home.versions)}", True)
        if code() != home.code:
            return Trouble(f"Medley in {_HERE} is not the version that asks", True)
        if not Path(home.folder).is_dir():
            return Trouble(f"it has no folder {home.folder}, from which the command was given", True)
        os.chdir(home.folder)
        environment.prepare()
        import torch

        torch.set_num_threads(threads)
        self._make = home.engine
        return None

    def render(self, asked: Sequence[Asked]) -> list[Encoded] | Trouble:
        """Render jobs together, as they were planned."""
        try:
            found = [self._engine.resolve(one.request) for one in asked]
            for one, resolved in zip(asked, found, strict=True):
                if identity.digest(resolved) != one.digest:
                    return Trouble(f"its model {resolved.spec.name} has other files", True)
        except ZooError as error:
            return Trouble(str(error), True)
        try:
            made = self._engine.render_many(found)
            return [worker.encoded(rendering, one.suffix) for rendering, one in zip(made, asked, strict=True)]
        except Exception as error:  # noqa: BLE001  whatever a job raises is told to the one that keeps the ledger
            return Trouble(worker.told(error), False)


def versions() -> tuple[str, ...]:
    """Return what the bytes of a picture depend on beside Medley."""
    return tuple(f"{name} {_version(name)}" for name in _PACKAGES)


def code() -> str:
    """Return the digest of the sources that are at work here."""
    return revision.digest(_HERE)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"
