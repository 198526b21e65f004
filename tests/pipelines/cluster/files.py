"""Requests that any process can answer: model and LoRAs are files."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from composer.request import AdapterUse, RenderRequest
from lora_zoo.adapter import Adapter
from pipelines.cluster.renderer import Asked, Renderer, Trouble
from pipelines.engine import Engine
from pipelines.images import Rendering
from pipelines.jobs.worker import Encoded
from tests.adapters import save_plain
from tests.pipelines.jobs.folders import requests


def on_files(adapters: Iterable[Adapter], model: Path, folder: Path, count: int) -> list[RenderRequest]:
    """Write LoRAs into a folder; return requests of mixed methods, LoRA sets and step counts that name the files."""
    files: dict[str, str] = {}
    for number, one in enumerate(adapters):
        path = folder / f"lora{number}.safetensors"
        save_plain(one, path)
        files[f"lora{number}"] = str(path)

    def named(use: AdapterUse) -> AdapterUse:
        return use.model_copy(update={"name": files[use.name]})

    asked = requests(str(model), count)
    return [one.model_copy(update={"adapters": tuple(named(use) for use in one.adapters)}) for one in asked]


class Poisoned(Renderer):
    """A machine's process that one prompt kills, as a fault in a driver does."""

    def render(self, asked: Sequence[Asked]) -> list[Encoded] | Trouble:
        if any(one.request.prompt == "poison" for one in asked):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().render(asked)


class Meeting(Engine):
    """Begins its first pictures once two machines are at work; on the machine that is called "dies" they never come."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def render_many(self, *given: object, **more: object) -> list[Rendering]:
        import ray  # type: ignore[import-not-found]

        here = ray.get_runtime_context().get_node_id()
        name = next(str(node["NodeName"]) for node in ray.nodes() if node["NodeID"] == here)
        (self._folder / name).touch()
        while name == "dies" or len(list(self._folder.iterdir())) < 2:
            time.sleep(0.05)  # the test's own limit of time ends a wait for nobody
        return super().render_many(*given, **more)  # type: ignore[arg-type]
