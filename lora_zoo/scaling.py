"""What a file says beside its tensors: how strongly a layer's factors count, and how they are to be read.

kohya stores one alpha tensor per layer; PEFT and diffusers store a configuration, with patterns for the exceptions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lora_zoo import fields
from lora_zoo.errors import BadFile, UnsupportedKind
from lora_zoo.foreign import files, patterns
from lora_zoo.header import Header
from lora_zoo.sources import Part

_DIFFUSERS_CONFIG = "lora_adapter_metadata"

#: PEFT's name of a kind -> the key of its alpha, None where it has none.
_ALPHA_KEYS = {
    "LORA": "lora_alpha",
    "LOHA": "alpha",
    "LOKR": "alpha",
    **dict.fromkeys(("OFT", "BOFT", "IA3", "SHIRA")),
}

#: Bytes of a configuration. One with a pattern for every layer of SDXL has some hundred thousand.
MAX_CONFIG = 4 << 20

#: What a LoRA's configuration may ask for beyond up @ down, which PEFT itself must work out.
_BEYOND = (
    "alora_invocation_tokens",
    "arrow_config",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "monteclora_config",
    "target_parameters",
    "trainable_token_indices",
    "use_bdlora",
    "use_qalora",
    "velora_config",
)
#: Beginnings that leave the model's own weights as they are; with any other, a LoRA's change is not up @ down.
_PLAIN_BEGINNINGS = ("gaussian", "eva", "orthogonal")

#: Patterns of module names, each with the number that holds for those it fits.
Patterns = tuple[tuple[Callable[[str], bool], float], ...]


@dataclass(frozen=True)
class OftOptions:
    """How PEFT's OFT turns its numbers into rotations."""

    neumann_terms: int | None = 5  # of the series that stands for an inverse; None: the inverse itself
    shared: bool = False  # one block for all
    largest: float | None = None  # the bound on a block's norm, None without


@dataclass(frozen=True)
class PeftConfig:
    """What a PEFT configuration says about strength and form."""

    alpha: float = 0.0
    alpha_pattern: Patterns = ()
    rank: float = 0.0
    rank_pattern: Patterns = ()
    rank_stabilised: bool = False
    dora: bool = False
    oft: OftOptions = field(default_factory=OftOptions)


#: Component -> its configuration; "" holds for all components that have none of their own.
Configs = Mapping[str, PeftConfig]


@dataclass(frozen=True)
class Scale:
    """The strength of one layer, once its rank is known."""

    alpha: float
    rank_stabilised: bool = False
    stated_rank: float = 0.0

    def factor(self, rank: int) -> float:
        """Return alpha / rank. No alpha, or 0, means alpha = rank: that is what trainers without one apply."""
        if not self.alpha:
            return 1.0
        return self.alpha / (math.sqrt(rank) if self.rank_stabilised else rank)

    def unfactored(self) -> float:
        """Return the scale of a delta without factors: only PEFT scales one, by the rank its configuration states."""
        return self.alpha / self.stated_rank if self.alpha and self.stated_rank else 1.0


def config_for(configs: Configs, component: str) -> PeftConfig | None:
    return configs.get(component) or configs.get("")


def scale(stored: float | None, configs: Configs, component: str, spellings: Iterable[str]) -> Scale:
    """Return a layer's scale. Its own alpha tensor counts before a configuration for many layers."""
    config = config_for(configs, component)
    if stored is not None or config is None:
        return Scale(stored or 0.0)
    names = tuple(spellings)
    alpha = _first(config.alpha_pattern, names, config.alpha)
    return Scale(alpha, config.rank_stabilised, _first(config.rank_pattern, names, config.rank))


def _first(patterns: Patterns, names: Iterable[str], default: float) -> float:
    """Return the number of the first pattern that fits any spelling of a module's name, as in PEFT, or the default."""
    for pattern, number in patterns:
        if any(pattern(name) for name in names):
            return number
    return default


def foreign(part: Part) -> fields.Object | None:
    """Return the configuration of an adapter that PEFT itself must read, None for those that are read here."""
    if part.config is None:
        return None
    where = str(part.config)
    values = read_config(part.config)
    return None if _kind(values, where) in _ALPHA_KEYS and not _goes_beyond(values) else values


def read_config(path: Path) -> fields.Object:
    """Read the configuration beside a file of weights; it may not lead out of its folder."""
    return fields.parse_object(files.read(path, MAX_CONFIG, within=path.parent), str(path))


def _goes_beyond(values: fields.Object) -> bool:
    """Tell whether an adapter of a known kind changes something else than its factors say."""
    beginning = values.get("init_lora_weights", True)
    strange = isinstance(beginning, str) and beginning not in _PLAIN_BEGINNINGS
    return strange or values.get("bias", "none") != "none" or any(values.get(name) for name in _BEYOND)


def configs(part: Part, head: Header) -> Configs:
    """Read the configurations of a file: PEFT's beside it, or the one diffusers puts in the header."""
    if part.config is not None:
        where = str(part.config)
        return {"": _config(read_config(part.config), where)}
    if not has_config(head):
        return {}
    where = f"{head.path}: {_DIFFUSERS_CONFIG}"
    by_component: dict[str, dict[str, object]] = {}
    for key, value in fields.parse_object(head.metadata[_DIFFUSERS_CONFIG], where).items():
        component, _, name = key.rpartition(".")
        by_component.setdefault(component, {})[name] = value
    return {component: _config(values, where) for component, values in by_component.items()}


def has_config(head: Header) -> bool:
    """Tell whether a file's head holds the configuration that diffusers puts there."""
    return _DIFFUSERS_CONFIG in head.metadata


def _kind(values: fields.Object, where: str) -> str:
    return fields.text(values.get("peft_type", "LORA"), f"{where}: peft_type").upper()


def _config(values: fields.Object, where: str) -> PeftConfig:
    kind = _kind(values, where)
    if kind not in _ALPHA_KEYS:
        known = ", ".join(_ALPHA_KEYS).lower()
        raise UnsupportedKind(f"{where}: adapters of kind {kind.lower()} are not read, only {known}")
    alpha_key = _ALPHA_KEYS[kind]
    return PeftConfig(
        alpha=0.0 if alpha_key is None else fields.number(values.get(alpha_key, 0), f"{where}: {alpha_key}"),
        alpha_pattern=_patterns(values, "alpha_pattern", where),
        rank=fields.number(values.get("r") or 0, f"{where}: r"),
        rank_pattern=_patterns(values, "rank_pattern", where),
        rank_stabilised=bool(values.get("use_rslora", False)),
        dora=bool(values.get("use_dora", False)),
        oft=_oft(values, where) if kind == "OFT" else OftOptions(),
    )


def _oft(values: fields.Object, where: str) -> OftOptions:
    terms = fields.count(values.get("num_cayley_neumann_terms", 5), f"{where}: num_cayley_neumann_terms")
    bound = fields.number(values.get("eps", 6e-5), f"{where}: eps")
    return OftOptions(
        neumann_terms=terms if values.get("use_cayley_neumann", False) else None,
        shared=bool(values.get("block_share", False)),
        largest=bound if values.get("coft", False) else None,
    )


def _patterns(values: fields.Object, key: str, where: str) -> Patterns:
    stated = fields.as_object(values.get(key) or {}, f"{where}: {key}")
    if len(stated) > patterns.MAX_NUMBER:
        raise BadFile(f"{where}: {key} has {len(stated):,} patterns; at most {patterns.MAX_NUMBER:,} are read")
    return tuple(
        (_pattern(text, f"{where}: {key}"), fields.number(number, f"{where}: {key} {text!r}"))
        for text, number in stated.items()
    )


def _pattern(text: str, where: str) -> Callable[[str], bool]:
    """Return what tells whether a pattern fits a name or the end of one after a dot, as PEFT has it."""
    if patterns.is_name(text):
        end = f".{text}"
        return lambda name: name == text or name.endswith(end)
    return patterns.compiled(rf"(.*\.)?({text})$", where)
