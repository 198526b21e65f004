"""The adapter bank: the one place where LoRAs act on a model, and only inside `with bank.gate(rows)`.

Each row of a call names its own weighted set of adapters, its gate. For the time of a gate, adapted layers have
attributes that lie in front of their own; then these are taken away. Base modules and parameters are neither replaced
nor written, `state_dict()` never changes, and outside a gate the model is the base model, bit for bit, with not so much
as an idle hook.

* Rows that all have the same gate: a merged copy of the weight lies in front of the parameter. Such a call costs what
  the base model's does.
* Rows that differ: a stand-in lies in front of `forward`, which takes each row through a merged weight of its own, in
  one batched product or grouped convolution. Measured on small models, this takes less time than the base layer and two
  thin low-rank products after it.
* Merged copies that would take too much memory are not made: there the low-rank products are added.
* Changes to biases and to normalisation go the same two ways: see `vectors.py`.
* Adapters that act in a part of the picture only come on top, as terms of their own: see `local.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from lora_zoo.adapter import Delta, tensors_of
from pipelines.changes import Forward, Layer, Weighted, added, merged_weight, mixed
from pipelines.local import Drawings, LocalGate, Term, local_layer
from pipelines.store import AdapterStore, ByteCache
from pipelines.vectors import Changes, Norm, merged_vector, renormed, shifted, vector_parameters

#: The adapters active in one row, in order: (digest, weight).
Gate = tuple[tuple[str, float], ...]

_CALLS_BYTES = 1 << 29  # of what lies ready for calls
_GATES_BYTES = 1 << 28  # of merged copies by layer and deltas
_MERGED_BYTES = 1 << 29  # the most that one call's merged copies may take


@dataclass(frozen=True, eq=False)
class _Front:
    """What lies in front during a gate: parameters, by their paths, and stand-ins for layers' `forward`."""

    parameters: Mapping[str, Tensor]
    forwards: Mapping[str, Forward]


class AdapterBank:
    """The adapters' way into one component of a model."""

    def __init__(
        self, module: nn.Module, component: str, store: AdapterStore, merged_bytes: int = _MERGED_BYTES, part: int = 1
    ) -> None:
        """Keep what was prepared for calls, up to one in `part` of the bytes that a bank of a UNet may keep."""
        self._component = component
        self._store = store
        self._merged_bytes = merged_bytes
        self._layers: dict[str, Layer] = {
            path: part for path, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)
        }
        self._modules = dict(module.named_modules())
        self._vectors = vector_parameters(module)
        self._reads_text = frozenset(
            f"{path}.{name}"
            for path, part in module.named_modules()
            for name in ("to_k", "to_v")
            if getattr(part, "is_cross_attention", False)
        )
        self._fronts: ByteCache[tuple[tuple[Gate, ...], int], _Front] = ByteCache(_CALLS_BYTES // part)
        self._merged: ByteCache[tuple[str, Weighted], Tensor] = ByteCache(_GATES_BYTES // part)
        self._entered = False

    @contextmanager
    def gate(self, rows: Sequence[Gate], local: Sequence[LocalGate] = ()) -> Iterator[None]:
        """Make each row's adapters active for the calls inside, those in `local` in their places only.

        Calls must have exactly these rows.
        """
        if self._entered:
            raise RuntimeError("a gate is open already; gates do not nest")
        front = self._front([self._effective(row) for row in rows])
        if any(local):
            front = self._with_local(front, local)
        own = [(self._owner(path), value) for path, value in front.parameters.items()]
        own += [((self._modules[path], "forward"), forward) for path, forward in front.forwards.items()]
        self._entered = True
        try:
            for (owner, name), value in own:
                vars(owner)[name] = value
            yield
        finally:
            for (owner, name), _ in own:
                vars(owner).pop(name, None)
            self._entered = False

    def forget(self) -> None:
        """Let go of all that was prepared for calls to come, so that the next one takes what a first one takes."""
        self._fronts.clear()
        self._merged.clear()

    def _effective(self, gate: Gate) -> Gate:
        """Leave out what has no effect here, so that it costs nothing and equal gates look equal."""
        return tuple((digest, weight) for digest, weight in gate if weight and self._acts(digest))

    def _acts(self, digest: str) -> bool:
        return bool(self._deltas(digest) or self._changes(digest))

    def _owner(self, parameter: str) -> tuple[nn.Module, str]:
        path, _, name = parameter.rpartition(".")
        return self._modules[path], name

    def _front(self, rows: Sequence[Gate]) -> _Front:
        pattern = _pattern(rows)
        if not any(pattern):
            return _Front({}, {})
        return self._fronts.get((pattern, len(rows)), lambda: self._build(pattern, len(rows)))

    def _with_local(self, front: _Front, rows: Sequence[LocalGate]) -> _Front:
        """Lay the stand-ins that add local adapters over what is in front already."""
        drawings = Drawings()
        forwards = dict(front.forwards)
        acting = [[one for one in row if one.weight and self._acts(one.digest)] for row in rows]
        for path in {path: None for row in acting for one in row for path in self._touched(one.digest)}:
            layer = cast(Layer | Norm, self._modules[path])
            terms = [
                Term(place, self._deltas(one.digest).get(path), one.weight, one.where, vectors)
                for place, row in enumerate(acting)
                for one in row
                if (vectors := self._vectors_of(one.digest, path)) or path in self._deltas(one.digest)
            ]
            under = forwards.get(path, layer.forward)
            forwards[path] = local_layer(layer, under, terms, drawings, path in self._reads_text)
        return _Front(front.parameters, forwards)

    def _build(self, pattern: tuple[Gate, ...], rows: int) -> tuple[_Front, int]:
        touched = {path: None for gate in pattern for digest, _ in gate for path in self._deltas(digest)}
        layers = {path: self._layers[path] for path in touched}
        size = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers.values())
        merge = size * len(pattern) <= self._merged_bytes
        vectors = {path: None for gate in pattern for digest, _ in gate for path in self._changes(digest)}
        if merge and len(pattern) == 1:
            weights = {f"{path}.weight": self._merge(path, pattern[0]) for path in layers}
            return _Front({**weights, **{path: self._merged_vector(path, pattern[0]) for path in vectors}}, {}), size
        built = {path: self._stand_in(path, pattern, rows, merge) for path in layers}
        forwards = {path: forward for path, (forward, _) in built.items()}
        forwards.update(self._with_vectors(forwards, vectors, pattern))
        return _Front({}, forwards), sum(n for _, n in built.values())

    def _with_vectors(
        self, forwards: Mapping[str, Forward], vectors: Iterable[str], pattern: Sequence[Gate]
    ) -> dict[str, Forward]:
        """Return stand-ins of the layers whose biases, or whose normalisation, differ from row to row."""
        found: dict[str, Forward] = {}
        for path in dict.fromkeys(vector.rpartition(".")[0] for vector in vectors):
            layer = self._modules[path]
            biases = [self._changed(f"{path}.bias", gate) for gate in pattern]
            if isinstance(layer, nn.GroupNorm | nn.LayerNorm):
                found[path] = renormed(layer, [self._changed(f"{path}.weight", gate) for gate in pattern], biases)
            else:
                found[path] = shifted(layer, forwards.get(path, layer.forward), self._vectors[f"{path}.bias"], biases)
        return found

    def _merged_vector(self, path: str, gate: Gate) -> Tensor:
        return merged_vector(self._vectors[path], self._changed(path, gate))

    def _stand_in(self, path: str, pattern: Sequence[Gate], rows: int, merge: bool) -> tuple[Forward, int]:
        layer = self._layers[path]
        if merge:
            return mixed(layer, [self._merge(path, gate) for gate in pattern])
        return added(layer, [self._weighted(path, gate) for gate in pattern], rows)

    def _merge(self, path: str, gate: Gate) -> Tensor:
        """Return the merged weight of one layer under one gate, kept because it comes back in other company.

        What it is known by are the deltas themselves: gates that share them in a layer share the copy. They count with
        it, since a merge that the store has dropped lives on in what is known by its deltas.
        """
        deltas = self._weighted(path, gate)

        def make() -> tuple[Tensor, int]:
            merged = merged_weight(self._layers[path], deltas)
            known_by = (tensor for delta, _ in deltas for tensor in tensors_of(delta))
            return merged, sum(one.numel() * one.element_size() for one in (merged, *known_by))

        return self._merged.get((path, deltas), make)

    def _deltas(self, digest: str) -> Mapping[str, Delta]:
        return self._store[digest].component(self._component)

    def _changes(self, digest: str) -> Mapping[str, Tensor]:
        return self._store[digest].vectors.get(self._component, {})

    def _touched(self, digest: str) -> Iterable[str]:
        """Return the paths of the modules that an adapter changes anything of."""
        owners = (vector.rpartition(".")[0] for vector in self._changes(digest))
        return dict.fromkeys([*self._deltas(digest), *owners])

    def _vectors_of(self, digest: str, path: str) -> dict[str, Tensor]:
        """Return an adapter's changes to a module's parameters of one dimension, by their names in it."""
        changes = self._changes(digest)
        return {name: changes[f"{path}.{name}"] for name in ("weight", "bias") if f"{path}.{name}" in changes}

    def _changed(self, path: str, gate: Gate) -> Changes:
        found = ((self._changes(digest).get(path), weight) for digest, weight in gate)
        return tuple((change, weight) for change, weight in found if change is not None)

    def _weighted(self, path: str, gate: Gate) -> Weighted:
        found = ((self._deltas(digest).get(path), weight) for digest, weight in gate)
        return tuple((delta, weight) for delta, weight in found if delta is not None)


def _pattern(rows: Sequence[Gate]) -> tuple[Gate, ...]:
    """Return the shortest sequence of gates that the rows repeat."""
    for period in range(1, len(rows)):
        if len(rows) % period == 0 and all(row == rows[i % period] for i, row in enumerate(rows)):
            return tuple(rows[:period])
    return tuple(rows)
