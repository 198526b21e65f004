"""What a LoRA is once it is in memory: deltas for named layers, at the strength they were trained with.

Two spaces never mix: a `Delta` is a change to a layer's weight. Base weights are shown to readers of files that state
their changes relative to them (`ModelLayout`), and to nobody else; they are never written.
alpha / rank is folded into `up` when a file is read, so weight 1.0 always means "as trained".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

#: A model's adaptable layers: component ("unet", "text_encoder", ...) -> module path -> shape of the layer's weight.
Layout = Mapping[str, Mapping[str, tuple[int, ...]]]


@dataclass(frozen=True, eq=False)
class BaseLayer:
    """What an adapted layer has of its own. To be looked at only."""

    weight: Tensor
    bias: Tensor | None


class ModelLayout(dict[str, Mapping[str, tuple[int, ...]]]):
    """The layout of a model in memory, which can also show a layer itself: (component, module path) -> layer.

    Some kinds of adapter turn or stretch the weight they find, so that their delta exists only beside that weight.
    """

    def __init__(self, layers: Layout, base: Callable[[str, str], BaseLayer], vectors: Layout | None = None) -> None:
        super().__init__(layers)
        self.base = base
        self.vectors: Layout = vectors or {}  # parameters of one dimension: biases, and weights of normalisation

    def norms(self) -> Mapping[str, Sequence[str]]:
        """Return the normalisation layers: those with vectors that are no layers of the layout themselves."""
        owners = {c: dict.fromkeys(path.rpartition(".")[0] for path in paths) for c, paths in self.vectors.items()}
        return {c: [path for path in paths if path not in self.get(c, {})] for c, paths in owners.items()}


@dataclass(frozen=True, eq=False)
class LowRank:
    """A delta kept as two factors: up @ down, alpha / rank included."""

    down: Tensor  # [rank, in] for linear layers, [rank, in, kh, kw] for convolutions
    up: Tensor  # [out, rank]

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def dense(self) -> Tensor:
        """Return the delta in the shape of the layer's weight, float32."""
        flat = self.up.float() @ self.down.float().flatten(1)
        return flat.reshape(self.up.shape[0], *self.down.shape[1:])


@dataclass(frozen=True, eq=False)
class DenseDelta:
    """A delta kept whole, for merges and file kinds that have no exact low-rank form."""

    delta: Tensor  # the shape of the layer's weight

    def dense(self) -> Tensor:
        return self.delta.float()


Delta = LowRank | DenseDelta

#: Changes to parameters of one dimension: component -> path of the parameter -> [n].
Vectors = Mapping[str, Mapping[str, Tensor]]

#: Textual inversions: a word -> component -> what its text encoder reads in the word's place, [tokens, width].
Words = Mapping[str, Mapping[str, Tensor]]


def tensors_of(delta: Delta) -> tuple[Tensor, ...]:
    """Return what a delta is stored as."""
    return (delta.down, delta.up) if isinstance(delta, LowRank) else (delta.delta,)


@dataclass(frozen=True, eq=False)
class Adapter:
    """One LoRA, bound to the layers of one model layout. Identity is the digest, never the name."""

    name: str
    digest: str  # sha256 of the file, hex; for a merge, of its recipe
    layers: Mapping[str, Mapping[str, Delta]]  # component -> module path -> delta
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    words: Words = field(default_factory=dict[str, Mapping[str, Tensor]])  # that it brings along for prompts
    vectors: Vectors = field(default_factory=dict[str, Mapping[str, Tensor]])
    notices: tuple[str, ...] = ()  # what a user should know of how the file was read

    def component(self, name: str) -> Mapping[str, Delta]:
        """Return the deltas of one component, empty when the file has none for it."""
        return self.layers.get(name, {})

    def is_finite(self) -> bool:
        return all(bool(torch.isfinite(tensor).all()) for tensor in self.tensors())

    def tensors(self) -> Iterator[Tensor]:
        for deltas in self.layers.values():
            for delta in deltas.values():
                yield from tensors_of(delta)
        for named in (*self.words.values(), *self.vectors.values()):
            yield from named.values()


def partial_digest(digest: str) -> str:
    """Return the identity of what is left of a file without its unreadable part: it is not the whole file's."""
    return hashlib.sha256(f"readable part of {digest}".encode()).hexdigest()


def nbytes(adapters: Iterable[Adapter]) -> int:
    """Return the memory that adapters take together: a tensor that several share counts once."""
    distinct = {id(tensor): tensor for adapter in adapters for tensor in adapter.tensors()}
    return sum(tensor.numel() * tensor.element_size() for tensor in distinct.values())
