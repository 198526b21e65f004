"""The one entrance: requests in, pictures with their records out. Command line, UI and evaluation all call this.

Importing it is cheap; torch and diffusers come in with the first rendering.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from composer.errors import BadRequest
from composer.request import RenderRequest
from pipelines.progress import Cancel, OnStep
from pipelines.resolve import Cost, Resolved, price, resolve
from pipelines.runtime import Runtime
from pipelines.sources import AdapterSource, ZooSource
from pipelines.specs import ModelSpec, find, names

if TYPE_CHECKING:
    from pipelines.images import Rendering
    from pipelines.model import LoadedModel

log = logging.getLogger(__name__)


class Engine:
    """Renders requests. Holds the models it has loaded; each has a lock of its own, so any thread may ask."""

    def __init__(
        self,
        source: AdapterSource | None = None,
        load: Callable[[ModelSpec], LoadedModel] | None = None,
        max_rows: int | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        """Take LoRAs from `source` (the zoo), at most `max_rows` rows per call, and models from `load`.

        Without `load`, models are read from their files, to be run as `runtime` says.
        """
        self.source = source or ZooSource()
        self._load = load or partial(_load, runtime=runtime or Runtime())
        self._max_rows = max_rows
        self._loaded: dict[str, LoadedModel] = {}
        self._lock = Lock()  # of the table of models; each model has its own for rendering

    def resolve(self, request: RenderRequest) -> Resolved:
        """Return the request with nothing left open, or raise the user's mistake as a typed error."""
        return resolve(request, self.source)

    def dry_run(self, request: RenderRequest) -> Cost:
        """Count what a request will take, without loading a model."""
        return self.dry_run_many([request])

    def dry_run_many(self, requests: Sequence[RenderRequest]) -> Cost:
        """Count what requests rendered together will take, without loading a model."""
        return self.price(self._resolve_all(requests))

    def price(self, resolved: Sequence[Resolved]) -> Cost:
        """Count what resolved requests of one model, rendered together, will take."""
        return price(resolved, self._rows(resolved[0].spec)) if resolved else Cost(0, 0, 0)

    def render(self, request: RenderRequest, on_step: OnStep | None = None, cancel: Cancel | None = None) -> Rendering:
        """Render one request."""
        return self.render_many([request], on_step, cancel)[0]

    def render_many(
        self, requests: Sequence[RenderRequest], on_step: OnStep | None = None, cancel: Cancel | None = None
    ) -> list[Rendering]:
        """Render requests of one model together; methods, LoRAs, sizes, schedulers and step counts may all differ."""
        resolved = self._resolve_all(requests)
        if not resolved:
            return []
        from pipelines import batch

        model = self.model(resolved[0].spec.name)
        order = batch.Order(resolved, self.source, self._rows(resolved[0].spec), on_step, cancel or Cancel())
        return [self._identified(rendering) for rendering in batch.render(model, order)]

    def model(self, name: str) -> LoadedModel:
        """Return a model, loaded on first use."""
        spec = find(name)
        key = str(spec.path)
        with self._lock:
            if key not in self._loaded:
                log.info("loading model %s from %s", spec.name, spec.path)
                self._loaded[key] = self._load(spec)
            return self._loaded[key]

    def _rows(self, spec: ModelSpec) -> int:
        return self._max_rows or spec.defaults.max_rows

    def _identified(self, rendering: Rendering) -> Rendering:
        """Add the hashes that other tools know the files by."""
        from pipelines.metadata import hashes

        infos = {use.name: self.source.describe(use.name) for use in rendering.record.adapters}
        known = hashes.of_files(Path(rendering.record.model), infos)
        record = rendering.record.model_copy(update={"model_sha256": model_sha256(rendering.record.model)})
        return replace(rendering, record=record, hashes=known)

    def _resolve_all(self, requests: Sequence[RenderRequest]) -> list[Resolved]:
        resolved = [self.resolve(request) for request in requests]
        models = sorted({one.spec.name for one in resolved})
        if len(models) > 1:
            raise BadRequest(f"requests rendered together must share a model; these name {', '.join(models)}")
        return resolved


def _load(spec: ModelSpec, runtime: Runtime) -> LoadedModel:
    from pipelines.model import LoadedModel

    return LoadedModel.load(spec, runtime=runtime)


def model_sha256(name: str) -> str | None:
    """Return the sha256 of a model that is named by its file, or by its folder; None of any other."""
    spec = find(name)
    if spec.hub_id is not None or name in names():
        return None
    if spec.path.is_file():
        from lora_zoo import hashes

        return hashes.sha256(spec.path)
    from pipelines.jobs import identity

    return identity.fingerprint(spec.path)
