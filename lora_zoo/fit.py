"""Whether a LoRA file fits a model, told from the file's head alone and in words: before anything is loaded.

`formats.read` refuses what does not fit; here the whole of it is counted, so that a user sees at once whether a file is
of another family, or of the right one with a few layers too many.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_zoo import families, keys, strangers
from lora_zoo.describe import Described, described_part
from lora_zoo.errors import BadFile, first_few
from lora_zoo.keys import Key, Names
from lora_zoo.sources import locate

Shapes = Mapping[str, tuple[int, ...]]
Layout = Mapping[str, Shapes]


@dataclass(frozen=True)
class ComponentFit:
    """One component's share of a LoRA. Ranges are (least, greatest), None for kinds without such a thing."""

    component: str
    total: int  # modules that the file has for it
    matched: int  # those that are in the model, with fitting shapes
    kinds: tuple[str, ...]
    ranks: tuple[int, int] | None
    strengths: tuple[float, float] | None  # effective alpha / rank
    strange: tuple[str, ...]  # modules that the model has not
    misshapen: tuple[str, ...]  # modules made for layers of other sizes


@dataclass(frozen=True)
class Fit:
    """A LoRA beside a model."""

    components: tuple[ComponentFit, ...]
    unused: tuple[str, ...]  # tensors that are no part of any known kind of adapter
    stated: str  # family in the file's metadata
    told: str  # family that its layers tell of
    model: str  # family of the model

    @property
    def fits(self) -> bool:
        return not self.unused and all(one.matched == one.total for one in self.components)

    @property
    def verdict(self) -> str:
        """Return what the families say about it, with the reason."""
        if families.UNKNOWN not in (self.told, self.model) and self.told != self.model:
            return f"made for {self.told}, as its layers tell; this model is {self.model}{self._contradiction()}"
        if not self.fits:
            return f"does not fit: {self._misfits()}"
        if self.told != families.UNKNOWN:
            return f"made for {self.told}, as its layers tell{self._contradiction()}"
        if self.stated not in (families.UNKNOWN, self.model) and self.model != families.UNKNOWN:
            return f"made for {self.stated}, as its metadata says, though all its layers are in this {self.model} model"
        return "all its layers are in this model; they do not tell a family"

    def _contradiction(self) -> str:
        wrong = self.stated not in (families.UNKNOWN, self.told)
        return f" (its metadata says {self.stated})" if wrong else ""

    def _misfits(self) -> str:
        strange = [f"{one.component}.{name}" for one in self.components for name in one.strange]
        misshapen = [f"{one.component}.{name}" for one in self.components for name in one.misshapen]
        texts = {
            "modules that the model has not": strange,
            "modules of other sizes than the model's": misshapen,
            "tensors of no known kind": self.unused,
        }
        return "; ".join(f"{what}: {first_few(names)}" for what, names in texts.items() if names)


def fit(path: Path, layout: Layout, norms: Mapping[str, Sequence[str]] | None = None) -> Fit:
    """Compare a LoRA file, or PEFT folder, with the layers of a model: component -> module path -> weight's shape.

    `norms` are the normalisation layers that may be changed as well, by component.
    """
    described = [described_part(part) for part in locate(path).parts]
    if not any(one.groups for one in described):
        strangers.explain(described[0].head, str(path))
        raise BadFile(f"{path}: a safetensors file without LoRA layers")
    names = Names(keys.with_norms(layout, norms or {}))
    components = [one for part in described for one in _components(part, names, layout)]
    head, groups = described[0].head, described[0].groups
    return Fit(
        components=tuple(sorted(components, key=lambda one: (one.component != "unet", one.component))),
        unused=tuple(
            raw for part in described if not part.foreign for raw in part.head.tensors if keys.parse(raw) is None
        ),
        stated=families.of_metadata(head),
        told=families.of_layers(head, groups),
        model=families.of_layout(layout),
    )


def _components(part: Described, names: Names, layout: Layout) -> list[ComponentFit]:
    targets: dict[str, list[tuple[str, str]]] = {}
    for component, module in part.groups:
        targets.setdefault(component, []).append((component, module))
    return [_component(component, found, part, names, layout) for component, found in targets.items()]


def _component(
    component: str, targets: Sequence[tuple[str, str]], part: Described, names: Names, layout: Layout
) -> ComponentFit:
    strange: list[str] = []
    misshapen: list[str] = []
    for target in targets:
        group = part.groups[target]
        found = names.find(group[0])
        if found is None:
            strange.append(target[1])
        elif not _has_shape(part, group, layout[found[0]].get(found[1], ())):
            misshapen.append(target[1])
    ranks = {target: part.ranks[target] for target in targets if target in part.ranks}
    strengths = [part.scale(target).factor(rank) for target, rank in ranks.items()]
    return ComponentFit(
        component=component,
        total=len(targets),
        matched=len(targets) - len(strange) - len(misshapen),
        kinds=tuple(sorted({keys.kind_of(part.groups[target]) for target in targets} - {""})),
        ranks=(min(ranks.values()), max(ranks.values())) if ranks else None,
        strengths=(min(strengths), max(strengths)) if strengths else None,
        strange=tuple(strange),
        misshapen=tuple(misshapen),
    )


def _has_shape(part: Described, group: Sequence[Key], weight: tuple[int, ...]) -> bool:
    """Tell whether the factors of a LoRA's layer fit a weight; of other kinds, only reading tells."""
    shapes = {key.part: part.head.tensors[key.raw].shape for key in group if key.kind == "lora"}
    if any(key.kind == "tucker" for key in group) or not {"down", "up"} <= set(shapes):
        return True
    down, up = shapes["down"], shapes["up"]
    if len(down) < 2 or len(up) < 2 or not weight:
        return False
    return up[0] == weight[0] and math.prod(down[1:]) == math.prod(weight[1:])
