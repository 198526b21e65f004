"""The adapter bank: the one place where LoRAs act on a model, and only inside `with bank.gate(rows)`.

Each row of a call names its own weighted set of adapters, its gate. Two ways lead to the same numbers:

* rows that differ: one forward hook per adapted layer adds each row's own low-rank product to the layer's output;
* rows that all have the same gate: the layer computes with a merged copy of its weight, made once per gate. The copy
  lies in front of the parameter as an attribute of the layer and is taken away again; the parameter, and so
  `state_dict()`, never changes. It saves two extra products per layer, which on small models are most of what one
  waits for.

Outside a gate the model is the base model, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from lora_zoo.adapter import Delta
from pipelines.changes import Change, Weighted, build_change, fused_weight
from pipelines.store import AdapterStore, ByteCache

#: The adapters active in one row, in order: (digest, weight).
Gate = tuple[tuple[str, float], ...]

_CACHE_BYTES = 1 << 30
_FUSED_BYTES = 1 << 29  # beyond this, merged copies of one gate are not worth their memory

_Layer = nn.Linear | nn.Conv2d


class _Hook:
    """The forward hook of one layer. Idle unless a gate has given it a change."""

    __slots__ = ("change",)

    def __init__(self) -> None:
        self.change: Change | None = None

    def __call__(self, _module: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
        return None if self.change is None else self.change(args[0], out)


@dataclass(frozen=True, eq=False)
class _Active:
    """What a gate puts in place: changes for hooks, or merged weights in front of parameters."""

    changes: Mapping[str, Change]
    weights: Mapping[str, Tensor]


class AdapterBank:
    """The adapters' way into one component of a model."""

    def __init__(self, module: nn.Module, component: str, store: AdapterStore, fused_bytes: int = _FUSED_BYTES) -> None:
        self._component = component
        self._store = store
        self._fused_bytes = fused_bytes
        self._layers: dict[str, _Layer] = {
            path: part for path, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)
        }
        self._hooks: dict[str, _Hook] = {}
        self._cache: ByteCache[tuple[tuple[Gate, ...], int], _Active] = ByteCache(_CACHE_BYTES)
        self._entered = False

    @contextmanager
    def gate(self, rows: Sequence[Gate]) -> Iterator[None]:
        """Make each row's adapters active for the calls inside. Calls must have exactly these rows."""
        if self._entered:
            raise RuntimeError("a gate is open already; gates do not nest")
        active = self._active([self._effective(row) for row in rows])
        self._entered = True
        try:
            for path, change in active.changes.items():
                self._hooks[path].change = change
            for path, weight in active.weights.items():
                vars(self._layers[path])["weight"] = weight
            yield
        finally:
            for path in active.changes:
                self._hooks[path].change = None
            for path in active.weights:
                vars(self._layers[path]).pop("weight", None)
            self._entered = False

    def _effective(self, gate: Gate) -> Gate:
        """Leave out what has no effect here, so that it costs nothing and equal gates look equal."""
        return tuple(
            (digest, weight) for digest, weight in gate if weight and self._store[digest].component(self._component)
        )

    def _active(self, rows: Sequence[Gate]) -> _Active:
        pattern = _pattern(rows)
        if not any(pattern):
            return _Active({}, {})
        return self._cache.get((pattern, len(rows)), lambda: self._build(pattern, len(rows)))

    def _build(self, pattern: tuple[Gate, ...], rows: int) -> tuple[_Active, int]:
        touched = {path: None for gate in pattern for digest, _ in gate for path in self._deltas(digest)}
        layers = {path: self._layers[path] for path in touched}
        size = sum(layer.weight.numel() * layer.weight.element_size() for layer in layers.values())
        if len(pattern) == 1 and size <= self._fused_bytes:
            weights = {path: fused_weight(layer, self._weighted(path, pattern[0])) for path, layer in layers.items()}
            return _Active({}, weights), size
        built = {
            path: build_change(layer, [self._weighted(path, gate) for gate in pattern], rows)
            for path, layer in layers.items()
        }
        for path in built:
            self._hook(path)
        return _Active({path: change for path, (change, _) in built.items()}, {}), sum(n for _, n in built.values())

    def _deltas(self, digest: str) -> Mapping[str, Delta]:
        return self._store[digest].component(self._component)

    def _weighted(self, path: str, gate: Gate) -> Weighted:
        found = ((self._deltas(digest).get(path), weight) for digest, weight in gate)
        return [(delta, weight) for delta, weight in found if delta is not None]

    def _hook(self, path: str) -> None:
        """Register a layer's hook once; it stays, idle outside gates."""
        if path not in self._hooks:
            self._hooks[path] = _Hook()
            self._layers[path].register_forward_hook(self._hooks[path])


def _pattern(rows: Sequence[Gate]) -> tuple[Gate, ...]:
    """Return the shortest sequence of gates that the rows repeat."""
    for period in range(1, len(rows)):
        if len(rows) % period == 0 and all(row == rows[i % period] for i, row in enumerate(rows)):
            return tuple(rows[:period])
    return tuple(rows)
