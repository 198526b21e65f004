"""How strongly a layer's up @ down counts: alpha / rank, from wherever the file keeps its alphas.

kohya stores one alpha tensor per layer; PEFT and diffusers store a configuration, with patterns for the exceptions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lora_zoo import fields
from lora_zoo.errors import BadFile, UnsupportedKind
from lora_zoo.header import Header, Source

_DIFFUSERS_CONFIG = "lora_adapter_metadata"


@dataclass(frozen=True)
class PeftConfig:
    """What PEFT's LoraConfig says about strength. Ranks are read off the tensors, so `r` is not needed."""

    alpha: float = 0.0
    alpha_pattern: tuple[tuple[re.Pattern[str], float], ...] = ()
    rank_stabilised: bool = False

    def alpha_for(self, spellings: Iterable[str]) -> float:
        """Return a module's alpha: the first pattern that fits any spelling of its name, as in PEFT, or the default."""
        names = tuple(spellings)
        for pattern, alpha in self.alpha_pattern:
            if any(pattern.match(name) for name in names):
                return alpha
        return self.alpha


#: Component -> its configuration; "" holds for all components that have none of their own.
Configs = Mapping[str, PeftConfig]


@dataclass(frozen=True)
class Scale:
    """The strength of one layer, once its rank is known."""

    alpha: float
    rank_stabilised: bool = False

    def factor(self, rank: int) -> float:
        """Return alpha / rank. No alpha, or 0, means alpha = rank: that is what trainers without one apply."""
        if not self.alpha:
            return 1.0
        return self.alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def scale(stored: float | None, configs: Configs, component: str, spellings: Iterable[str]) -> Scale:
    """Return a layer's scale. Its own alpha tensor counts before a configuration for many layers."""
    if stored is not None:
        return Scale(stored)
    config = configs.get(component) or configs.get("")
    return Scale(0.0) if config is None else Scale(config.alpha_for(spellings), config.rank_stabilised)


def configs(source: Source, head: Header) -> Configs:
    """Read the configurations of a file: PEFT's beside it, or the one diffusers puts in the header."""
    if source.config is not None:
        where = str(source.config)
        return {"": _config(fields.parse_object(source.config.read_bytes(), where), where)}
    if _DIFFUSERS_CONFIG not in head.metadata:
        return {}
    where = f"{head.path}: {_DIFFUSERS_CONFIG}"
    by_component: dict[str, dict[str, object]] = {}
    for key, value in fields.parse_object(head.metadata[_DIFFUSERS_CONFIG], where).items():
        component, _, name = key.rpartition(".")
        by_component.setdefault(component, {})[name] = value
    return {component: _config(values, where) for component, values in by_component.items()}


def _config(values: fields.Object, where: str) -> PeftConfig:
    kind = fields.text(values.get("peft_type", "LORA"), f"{where}: peft_type").upper()
    if kind != "LORA" or values.get("use_dora"):
        shown = "dora" if kind == "LORA" else kind.lower()
        raise UnsupportedKind(f"{where}: adapters of kind {shown} are not read, only lora")
    patterns = fields.as_object(values.get("alpha_pattern") or {}, f"{where}: alpha_pattern")
    return PeftConfig(
        alpha=fields.number(values.get("lora_alpha", 0), f"{where}: lora_alpha"),
        alpha_pattern=tuple(
            (_pattern(key, where), fields.number(alpha, f"{where}: alpha_pattern {key!r}"))
            for key, alpha in patterns.items()
        ),
        rank_stabilised=bool(values.get("use_rslora", False)),
    )


def _pattern(text: str, where: str) -> re.Pattern[str]:
    try:
        return re.compile(rf"(.*\.)?({text})$")
    except re.error as error:
        raise BadFile(f"{where}: alpha_pattern {text!r} is not a regular expression ({error})") from error
