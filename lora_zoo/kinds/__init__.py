"""The kinds of adapter, one function each: from the parts of one layer to its delta, or `Misfit`.

`KINDS` is the whole list. What a kind must have and may have is said there and checked in one place, so that no part of
a file is ever left unused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from lora_zoo.adapter import Delta
from lora_zoo.kinds.common import Layer, Misfit
from lora_zoo.kinds.factored import loha, lokr, low_rank, tucker
from lora_zoo.kinds.peft_rotated import boft_peft, oft_peft
from lora_zoo.kinds.relative import decomposed, glora, ia3, ia3_peft
from lora_zoo.kinds.rotated import oft
from lora_zoo.kinds.whole import full, shira

__all__ = ["KINDS", "Kind", "Layer", "Misfit", "read_layer"]


@dataclass(frozen=True)
class Kind:
    """How a kind is read, and the parts of it that a layer must have and may have."""

    read: Callable[[Layer], Delta]
    needs: tuple[str, ...]
    may: tuple[str, ...] = ()


_LOKR = ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")

KINDS: Mapping[str, Kind] = {
    "lora": Kind(low_rank, ("down", "up")),
    "tucker": Kind(tucker, ("down", "mid", "up")),
    "loha": Kind(loha, ("w1_a", "w1_b", "w2_a", "w2_b"), ("t1", "t2")),
    "lokr": Kind(lokr, (), _LOKR),
    "full": Kind(full, ("weight",)),
    "shira": Kind(shira, ("values", "indices")),
    "glora": Kind(glora, ("a1", "a2", "b1", "b2"), ("bm",)),
    "ia3": Kind(ia3, ("weight", "on_input")),
    "ia3-peft": Kind(ia3_peft, ("weight",)),
    "oft": Kind(oft, ("blocks",), ("rescale",)),
    "oft-peft": Kind(oft_peft, ("blocks",)),
    "boft-peft": Kind(boft_peft, ("blocks", "rescale")),
}


def read_layer(kind: str, layer: Layer) -> Delta:
    """Read one layer, and its magnitudes if it has any: they may be added to every kind that is made of factors."""
    inner, magnitude = layer.without_magnitude()
    entry = KINDS[kind or "lora"]  # an alpha alone: a LoRA without its factors
    missing = [part for part in entry.needs if part not in inner.parts]
    if missing:
        raise Misfit(f"has no {' and no '.join(missing)}")
    extra = [part for part in inner.parts if part not in (*entry.needs, *entry.may)]
    if extra:
        raise Misfit(f"has {' and '.join(extra)}, which {kind or 'lora'} has not")
    delta = entry.read(inner)
    return delta if magnitude is None else decomposed(delta, magnitude, layer)
