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
from lora_zoo.errors import ZooError
from lora_zoo.foreign.files import shown
from pipelines import estimates
from pipelines.pricing import Cost, price
from pipelines.progress import Cancel, OnStep
from pipelines.resolve import Resolved, resolve
from pipelines.runtime import Runtime
from pipelines.sources import AdapterSource, ZooSource
from pipelines.specs import ModelSpec, find
from pipelines.wildcards import drawn

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
        wildcards: Path | None = None,
    ) -> None:
        """Take LoRAs from `source` (the zoo), at most `max_rows` rows per call, and models from `load`.

        Without `load`, models are read from their files, to be run as `runtime` says. `wildcards` is the folder of
        values for `__NAME__` in prompts.
        """
        self.source = source or ZooSource()
        self._load = load or partial(_load, runtime=runtime or Runtime())
        self._max_rows = max_rows
        if wildcards is not None and not wildcards.is_dir():
            raise BadRequest(f"there is no folder {shown(wildcards)} of values for wildcards")
        self._wildcards = wildcards
        self._loaded: dict[str, LoadedModel] = {}
        self._lock = Lock()  # of the table of models; each model has its own for rendering

    def drawn(self, request: RenderRequest, known: Callable[[str], bool] | None = None) -> RenderRequest:
        """Return the request with the choices in its prompts made; `known` tells names of LoRAs, else the source."""
        return drawn(request, self._wildcards, known or self._knows)

    def resolve(self, request: RenderRequest) -> Resolved:
        """Return the request with nothing left open, or raise the user's mistake as a typed error."""
        return resolve(self.drawn(request), self.source)

    def resolve_many(self, requests: Sequence[RenderRequest]) -> list[Resolved]:
        """Resolve requests; those that differ by their seeds only, once."""
        known: dict[str, Resolved] = {}
        found: list[Resolved] = []
        for request in map(self.drawn, requests):  # first, since seeds decide what is drawn
            alike = request.model_dump_json(exclude={"seed"})
            if alike not in known:
                known[alike] = self.resolve(request)
            found.append(known[alike].seeded(request.seed))
        return found

    def dry_run(self, request: RenderRequest) -> Cost:
        """Count what a request will take, without loading a model."""
        return self.dry_run_many([request])

    def dry_run_many(self, requests: Sequence[RenderRequest | Resolved]) -> Cost:
        """Count what requests rendered together will take, without loading a model."""
        return self.price(self._resolve_all(requests))

    def price(self, resolved: Sequence[Resolved]) -> Cost:
        """Count what resolved requests of one model, rendered together, will take."""
        return price(resolved, self._rows(resolved[0].spec) if resolved else 1)

    def render(self, request: RenderRequest, on_step: OnStep | None = None, cancel: Cancel | None = None) -> Rendering:
        """Render one request."""
        return self.render_many([request], on_step, cancel)[0]

    def render_many(
        self, requests: Sequence[RenderRequest | Resolved], on_step: OnStep | None = None, cancel: Cancel | None = None
    ) -> list[Rendering]:
        """Render requests of one model together; methods, LoRAs, sizes, schedulers and step counts may all differ.

        Those that this engine has resolved before are taken as they are.
        """
        resolved = self._resolve_all(requests)
        if not resolved:
            return []
        from pipelines import batch

        model = self.model(resolved[0].spec.name)
        order = batch.Order(resolved, self.source, self._rows(resolved[0].spec), on_step, cancel or Cancel())
        made = batch.render(model, order)
        self._learn(resolved, made)
        return [self._identified(rendering) for rendering in made]

    def model(self, name: str) -> LoadedModel:
        """Return a model, loaded on first use."""
        spec = find(name)
        key = str(spec.path)
        with self._lock:
            if key not in self._loaded:
                log.info("loading model %s from %s", spec.name, spec.path)
                self._loaded[key] = self._load(spec)
            return self._loaded[key]

    def _knows(self, lora: str) -> bool:
        try:
            self.source.describe(lora)
        except ZooError:
            return False
        return True

    def _rows(self, spec: ModelSpec) -> int:
        return self._max_rows or spec.defaults.max_rows

    def _learn(self, resolved: Sequence[Resolved], made: Sequence[Rendering]) -> None:
        """Keep how long it took, for estimates to come."""
        place = estimates.place_of(resolved[0].spec, made[0].record.device, made[0].record.dtype)
        estimates.learn(place, self.price(resolved), sum(one.record.seconds or 0.0 for one in made))

    def _identified(self, rendering: Rendering) -> Rendering:
        """Add the hashes that other tools know the files by."""
        from pipelines.metadata import hashes

        infos = {use.name: self.source.describe(use.name) for use in rendering.record.adapters}
        return replace(rendering, hashes=hashes.of_files(Path(rendering.record.model), infos))

    def _resolve_all(self, requests: Sequence[RenderRequest | Resolved]) -> list[Resolved]:
        resolved = [one if isinstance(one, Resolved) else self.resolve(one) for one in requests]
        models = sorted({one.spec.name for one in resolved})
        if len(models) > 1:
            raise BadRequest(f"requests rendered together must share a model; these name {', '.join(models)}")
        return resolved


def _load(spec: ModelSpec, runtime: Runtime) -> LoadedModel:
    from pipelines.model import LoadedModel

    return LoadedModel.load(spec, runtime=runtime)
