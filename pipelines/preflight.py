"""What is known before a picture is made: whether LoRAs fit a model, how strong they are, and where they will fight."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from composer.request import AdapterUse
from lora_zoo import fit
from lora_zoo.errors import BadFile, ZooError
from lora_zoo.fit import Fit
from pipelines import sources
from pipelines.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from composer.conflict import Conflict
    from lora_zoo.adapter import Adapter, Delta, ModelLayout
    from pipelines.model import LoadedModel


@dataclass(frozen=True)
class Size:
    """How large a LoRA's change to one component is beside the weights it changes."""

    component: str  # or what of it
    layers: int
    frobenius: float  # norm of the change / norm of the weights changed, all layers as one
    spectral: float  # greatest over the layers: of the change / of the weight
    strongest: str  # the layer where that is


@dataclass(frozen=True)
class LoraReport:
    """One LoRA beside the model."""

    name: str
    weight: float
    sha256: str  # empty: its file is none that can be read
    fit: Fit | None  # None: the LoRA is in no file, or in none that can be read
    verdict: str
    error: str  # why it cannot be used, empty if it can; it is then finite too, which reading checks
    sizes: tuple[Size, ...]  # at weight 1


@dataclass(frozen=True)
class Report:
    """Everything told before rendering."""

    model: str
    loras: tuple[LoraReport, ...]
    conflicts: tuple[Conflict, ...]  # of the LoRAs that can be used, at their weights

    @property
    def usable(self) -> bool:
        return not any(one.error for one in self.loras)


def check(engine: Engine, model: str, uses: Sequence[AdapterUse]) -> Report:
    """Compare LoRAs with a model and with each other. One that does not fit, or is none, is told of, not raised."""
    from composer.conflict import conflicts
    from composer.merges.common import Weighted

    loaded = engine.model(model)
    loras: list[LoraReport] = []
    members: list[Weighted] = []
    for use in uses:
        try:
            info = engine.source.describe(use.name)
        except BadFile as refusal:
            loras.append(
                LoraReport(use.name, 1.0 if use.weight is None else use.weight, "", None, "", str(refusal), ())
            )
            continue
        weight = info.weight if use.weight is None else use.weight
        beside = (
            None if info.file is None else fit.fit(info.file, loaded.layout, cast("ModelLayout", loaded.layout).norms())
        )
        sizes, error = (), ""
        try:
            adapter = sources.loaded(engine.source, use, loaded.layout)
            members.append(Weighted(adapter, weight))
            sizes = tuple(_sizes(adapter, loaded))
        except ZooError as refusal:
            error = str(refusal)
        loras.append(LoraReport(use.name, weight, info.sha256, beside, beside.verdict if beside else "", error, sizes))
    return Report(model, tuple(loras), tuple(conflicts(members)))


def _sizes(adapter: Adapter, model: LoadedModel) -> list[Size]:
    layers = [_size(component, deltas, model) for component, deltas in adapter.layers.items() if deltas]
    return layers + [_rest(component, changes, model) for component, changes in adapter.vectors.items() if changes]


def _rest(component: str, changes: Mapping[str, Tensor], model: LoadedModel) -> Size:
    """Return how large the changes to biases and normalisation are; of one dimension, both norms are one."""
    bases = {path: model.component(component).get_parameter(path).detach().float() for path in changes}
    norms = {path: float(change.float().norm()) for path, change in changes.items()}
    there = {path: float(base.norm()) for path, base in bases.items()}
    ratios = {path: norm / (there[path] or float("inf")) for path, norm in norms.items()}
    strongest = max(ratios, key=lambda path: ratios[path])
    whole = math.hypot(*there.values())
    frobenius = math.hypot(*norms.values()) / whole if whole else 0.0
    return Size(f"{component}, biases and normalisation", len(changes), frobenius, ratios[strongest], strongest)


def _size(component: str, deltas: Mapping[str, Delta], model: LoadedModel) -> Size:
    from composer.merges import norms
    from composer.merges.common import energy

    layout = cast("ModelLayout", model.layout)  # as a loaded model's layout is
    bases = {path: layout.base(component, path).weight for path in deltas}
    changed = sum(energy(delta) for delta in deltas.values())
    there = sum(float(base.double().square().sum()) for base in bases.values())
    ratios = {
        path: norms.spectral(delta) / (norms.spectral_of_weight(bases[path]) or float("inf"))
        for path, delta in deltas.items()
    }
    strongest = max(ratios, key=lambda path: ratios[path])
    return Size(component, len(deltas), (changed / there) ** 0.5 if there else 0.0, ratios[strongest], strongest)
