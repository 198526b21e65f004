"""What can be said about a LoRA file from its head alone: for listings, `inspect` and the catalogue; no torch.

Metadata is often absent and sometimes wrong in form; except for our own key, such an entry counts as absent here,
since nothing that decides the picture is taken from it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_zoo import families, fields, keys, scaling, strangers
from lora_zoo.errors import BadFile
from lora_zoo.header import Header, header
from lora_zoo.sources import Part, locate

WEIGHT_KEY = "medley.weight"

_MOST_TRIGGERS = 5
_SCALED = {"lora", "dora", "tucker"}  # kinds of one rank and one alpha each layer


@dataclass(frozen=True)
class LoraInfo:
    """A LoRA file, described. Ranges are (least, greatest) over its layers, None where the kind has no such thing."""

    path: Path
    name: str
    sha256: str
    dialect: str  # several joined by "+" when a file mixes them
    kind: str
    components: tuple[str, ...]
    modules: int
    ranks: tuple[int, int] | None
    alphas: tuple[float, float] | None
    family: str  # tiny, sd15, sd2, sdxl, one that is not ours (flux, sd3, wan), or unknown
    triggers: tuple[str, ...]
    weight: float
    licence: str
    title: str
    thumbnail: bool


def describe(path: Path, sha256: str | None = None) -> LoraInfo:
    """Describe a LoRA file or PEFT folder without loading its tensors; `sha256` if it is known, to save reading.

    Raises:
        BadFile: If it has no LoRA layers, or a layer's alpha is not finite.
    """
    source = locate(path)
    described = [described_part(part) for part in source.parts]
    head = described[0].head
    groups = {target: group for one in described for target, group in one.groups.items()}
    kinds = sorted({keys.kind_of(group) for group in groups.values()} - {""})
    if not kinds:
        strangers.explain(head, str(path))
        raise BadFile(f"{path}: a safetensors file without LoRA layers")
    ranks = [rank for one in described for rank in one.ranks.values()]
    alphas = [alpha for one in described for alpha in one.alphas()] if set(kinds) <= _SCALED else []
    stated = head.metadata
    return LoraInfo(
        path=path,
        name=source.name,
        sha256=source.digest() if sha256 is None else sha256,
        dialect="+".join(sorted({key.dialect for group in groups.values() for key in group})),
        kind="+".join(kinds),
        components=tuple(sorted({component for component, _ in groups}, key=lambda c: (c != "unet", c))),
        modules=len(groups),
        ranks=(min(ranks), max(ranks)) if ranks else None,
        alphas=(min(alphas), max(alphas)) if alphas else None,
        family=_family(described),
        triggers=_triggers(stated),
        weight=_weight(stated, path),
        licence=stated.get("modelspec.license", ""),
        title=stated.get("modelspec.title") or stated.get("ss_output_name") or source.name,
        thumbnail=bool(stated.get("modelspec.thumbnail")),
    )


@dataclass(frozen=True)
class Described:
    """One file of a LoRA, looked at."""

    head: Header
    configs: scaling.Configs
    groups: families.Groups
    ranks: Mapping[tuple[str, str], int]
    stored: Mapping[tuple[str, str], float | None]  # alphas that layers have tensors of
    foreign: bool = False  # of a kind that PEFT reads

    def alphas(self) -> list[float]:
        """Return each layer's effective alpha: its own, the configuration's, or its rank."""
        return [self.scale(target).alpha or float(self.ranks.get(target, 0)) for target in self.groups]

    def scale(self, target: tuple[str, str]) -> scaling.Scale:
        """Return how strongly a layer's factors count."""
        return scaling.scale(self.stored.get(target), self.configs, target[0], (target[1],))


def described_part(part: Part) -> Described:
    """Look at the head of one file of a LoRA, and group its tensors by layer."""
    head, foreign = header(part.weights), scaling.foreign(part)
    found = keys.group(head.tensors) if foreign is None else keys.foreign(head.tensors, _kind_of(foreign))
    groups = {(part.component or component, module): group for (component, module), group in found.items()}
    downs = {
        target: key for target, group in groups.items() for key in group if (key.kind, key.part) == ("lora", "down")
    }
    ranks = {target: head.tensors[key.raw].shape[0] for target, key in downs.items() if head.tensors[key.raw].shape}
    stored = {
        target: _alpha(head, key.raw) for target, group in groups.items() for key in group if key.part == keys.ALPHA
    }
    configs: scaling.Configs = scaling.configs(part, head) if foreign is None else {}
    return Described(head, configs, groups, ranks, stored, foreign is not None)


def _alpha(head: Header, key: str) -> float | None:
    """Return a stored alpha, None where it is not one plain number; no layer can have a strength that is not finite."""
    value = head.scalar(key)
    if value is not None and not math.isfinite(value):
        raise BadFile(f"{head.path}: {key}: alpha is {value:g}, not a finite number")
    return value


def _kind_of(config: fields.Object) -> str:
    return str(config.get("peft_type", "lora")).lower()


def _family(described: list[Described]) -> str:
    found = (families.of_file(one.head, one.groups) for one in described)
    return next((family for family in found if family != families.UNKNOWN), families.UNKNOWN)


def _triggers(stated: Mapping[str, str]) -> tuple[str, ...]:
    """Return the trigger words: as stated, or the tags that every training caption had."""
    phrase = stated.get("modelspec.trigger_phrase", "")
    if phrase.strip():
        return tuple(word.strip() for word in phrase.split(",") if word.strip())
    try:
        folders = fields.parse_object(stated.get("ss_tag_frequency", "{}"), "ss_tag_frequency")
        totals: Counter[str] = Counter()
        for folder, tags in folders.items():
            for tag, times in fields.as_object(tags, folder).items():
                totals[tag.strip()] += fields.count(times, tag)
    except BadFile:
        return ()
    most = max(totals.values(), default=0)
    return tuple(tag for tag, times in totals.items() if times == most)[:_MOST_TRIGGERS]


def _weight(stated: Mapping[str, str], path: Path) -> float:
    """Return the weight its author prefers."""
    if WEIGHT_KEY not in stated:
        return 1.0
    try:
        return fields.number(float(stated[WEIGHT_KEY]), f"{path}: {WEIGHT_KEY}")
    except ValueError as error:
        raise BadFile(f"{path}: metadata {WEIGHT_KEY!r} is {stated[WEIGHT_KEY]!r}, not a finite number") from error
