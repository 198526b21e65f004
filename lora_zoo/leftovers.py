"""What of a LoRA file no layer of a model has a use for, and whether that is a fault of the file's.

A change by nothing of a module that the model lacks is no change. Anything else that is left over makes a file another
adapter than its author's: it is refused, or, where a user asks for the rest of it, left out and told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from lora_zoo.errors import BadFile, UnsupportedKind, first_few
from lora_zoo.keys import ALPHA, UNREAD, Bound, Module, Names, ending

#: Kind -> its parts that, where one of them is zero, make the whole change zero.
_FACTORS: Mapping[str, tuple[str, ...]] = {
    "lora": ("down", "up"),
    "tucker": ("down", "mid", "up"),
    "loha": ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2"),
    "lokr": ("w1", "w2"),
    "full": ("weight",),
    "": ("bias", "up_bias"),  # changes of a bias alone
}


@dataclass(frozen=True)
class Leftovers:
    """Tensors that nothing is made of, each group with the reason."""

    unread: Mapping[str, Sequence[str]]  # reason -> keys
    strange: Sequence[str]
    endings: Mapping[str, Sequence[str]]  # unknown ending -> keys of layers that the model has

    def told(self) -> list[str]:
        """Return what there is to say of them, a line for each reason."""
        said = [f"{why}: {first_few(found)}" for why, found in self.unread.items()]
        if self.strange:
            said.append(f"keys that match no layer of this model: {first_few(self.strange)}")
        said += [f"unknown tensor ending '{last}': {first_few(found)}" for last, found in self.endings.items()]
        return said

    def refuse(self, where: str) -> None:
        """Raise an error if there are any."""
        if told := self.told():
            kind = UnsupportedKind if self.unread else BadFile
            raise kind(f"{where}: {'; '.join(told)}")


def of(bound: Bound, names: Names, tensors: Callable[[], Mapping[str, Tensor]]) -> Leftovers:
    """Return what a file has that is of no use to a model; `tensors` are asked for only if their values decide."""
    certain = bound.strange or bound.unread or not bound.modules
    lacking = bound.lacking if certain else [one for one in bound.lacking if not _is_nothing(one, tensors())]
    strange = [*(key for one in lacking for key in one.parts.values()), *bound.strange]
    unread = {why: [key.raw for key in bound.unread if key.kind == kind] for kind, why in UNREAD.items()}
    by_ending = {key: ending(key, names) for key in bound.strange}
    return Leftovers(
        {why: found for why, found in unread.items() if found},
        [key for key in strange if not by_ending.get(key)],
        _grouped((last, key) for key, last in by_ending.items() if last),
    )


def _is_nothing(module: Module, tensors: Mapping[str, Tensor]) -> bool:
    factors = _FACTORS.get(module.kind, ())
    others = set(module.parts) - {*factors, ALPHA}
    zero = [not bool(tensors[key].any()) for part, key in module.parts.items() if part in factors]
    return not others and bool(zero) and (all(zero) if module.kind == "" else any(zero))


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found
