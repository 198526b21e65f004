"""A model that draws from adapters in memory, and what can be heard of it while it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from composer.request import AdapterUse, RenderRequest
from lora_zoo.adapter import Adapter, Layout
from pipelines import batch
from pipelines.bank import Gate
from pipelines.changes import Layer
from pipelines.fitting.base import Member
from pipelines.model import LoadedModel
from pipelines.progress import Cancel, StepReport
from pipelines.resolve import resolve
from pipelines.sources import AdapterInfo

#: (component, module path).
Target = tuple[str, str]


@dataclass(frozen=True)
class Sketch:
    """How a picture is drawn whose making is listened to."""

    prompt: str
    steps: int
    seed: int
    guidance: float | None  # None: the model's own; 1 switches it off


class Studio:
    """One loaded model, used by nobody else meanwhile."""

    def __init__(self, model: LoadedModel) -> None:
        self.model = model

    def draw(self, adapter: Adapter, sketch: Sketch) -> Tensor:
        """Return the latents [1, channels, h, w] that the model ends with when it draws with an adapter."""
        last: list[Tensor] = []

        def keep(report: StepReport) -> None:
            last[:] = [report.pictures[0].latents]

        request = RenderRequest(
            model=self.model.spec.name,
            adapters=(AdapterUse(name=adapter.digest, weight=1.0),),
            prompt=sketch.prompt,
            num_inference_steps=sketch.steps,
            guidance_scale=sketch.guidance,
            seed=sketch.seed,
        )
        source = _InMemory(adapter)
        resolved = resolve(request, source)
        batch.render(self.model, batch.Order([resolved], source, resolved.spec.defaults.max_rows, keep, Cancel()))
        return last[0]

    def gate(self, adapters: Sequence[Adapter]) -> Gate:
        """Return the gate in which adapters act together."""
        held = (self.model.store.hold(one.digest, one.digest, lambda one=one: one) for one in adapters)
        return tuple((digest, 1.0) for digest in held)

    def layers(self, members: Sequence[Member]) -> dict[Target, Layer]:
        """Return the layers that any member changes."""
        touched = {(c, path): None for one in members for c, paths in one.adapter.layers.items() for path in paths}
        found = {(c, path): self.model.component(c).get_submodule(path) for c, path in touched}
        return {target: layer for target, layer in found.items() if isinstance(layer, nn.Linear | nn.Conv2d)}


@contextmanager
def listening(layers: Mapping[Target, Layer], hear: Callable[[Target, Tensor], None]) -> Iterator[None]:
    """Tell the inputs [n, in] of layers, whenever one runs inside; for a convolution, `in` is its whole window."""

    def before(target: Target, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        hear(target, _rows(layers[target], inputs[0]))

    handles = [layer.register_forward_pre_hook(partial(before, target)) for target, layer in layers.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _rows(layer: Layer, inputs: Tensor) -> Tensor:
    """Return one row for each product with the weight that the layer is about to take."""
    if isinstance(layer, nn.Linear):
        return inputs.flatten(0, -2)
    height, width = layer.kernel_size
    if isinstance(layer.padding, str):
        raise ValueError(f"a convolution with padding '{layer.padding}' is in no model of this architecture")
    windows = F.unfold(inputs, (height, width), layer.dilation, layer.padding, layer.stride)
    return windows.mT.flatten(0, 1)


class _InMemory:
    """A source with one adapter, under its digest."""

    def __init__(self, adapter: Adapter) -> None:
        self._adapter = adapter

    def describe(self, name: str) -> AdapterInfo:
        return AdapterInfo(name, self._adapter.digest, None, 1.0)

    def load(self, name: str, layout: Layout) -> Adapter:
        return self._adapter
