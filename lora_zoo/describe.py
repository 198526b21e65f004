"""What can be said about a LoRA file from its head alone: for listings, `inspect` and the catalogue; no torch.

Metadata is often absent and sometimes wrong in form; except for our own key, such an entry counts as absent here,
since nothing that decides the picture is taken from it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lora_zoo import fields, keys, scaling
from lora_zoo.errors import BadFile
from lora_zoo.header import Header, header, locate
from lora_zoo.keys import Key

WEIGHT_KEY = "medley.weight"

#: Beginnings of what files state about their base model -> family, for ModelSpec and for kohya.
_STATED_FAMILIES = {
    "stable-diffusion-v1": "sd15",
    "stable-diffusion-v2": "sd2",
    "stable-diffusion-xl": "sdxl",
    "sd_v1": "sd15",
    "sd_v2": "sd2",
    "sdxl": "sdxl",
    "sd15": "sd15",
    "tiny": "tiny",
    "medley-tiny": "tiny",
}
_FAMILY_BY_WIDTH = {768: "sd15", 1024: "sd2", 2048: "sdxl"}
_TINY_WIDTH = 256  # no published Stable Diffusion has text embeddings as narrow as this
_MOST_TRIGGERS = 5


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
    family: str  # tiny, sd15, sd2, sdxl or unknown
    triggers: tuple[str, ...]
    weight: float
    licence: str
    title: str
    thumbnail: bool


def describe(path: Path) -> LoraInfo:
    """Describe a LoRA file or PEFT folder without loading its tensors."""
    source = locate(path)
    head = header(source.weights)
    groups = keys.group(head.tensors)
    kinds = sorted({keys.kind_of(group) for group in groups.values()} - {""})
    if not kinds:
        raise BadFile(f"{path}: a safetensors file without LoRA layers")
    ranks = _ranks(head, groups)
    alphas = _alphas(head, groups, scaling.configs(source, head), ranks) if kinds == ["lora"] else []
    stated = head.metadata
    return LoraInfo(
        path=path,
        name=source.name,
        sha256=source.digest(),
        dialect="+".join(sorted({key.dialect for group in groups.values() for key in group})),
        kind="+".join(kinds),
        components=tuple(sorted({component for component, _ in groups}, key=lambda c: (c != "unet", c))),
        modules=len(groups),
        ranks=(min(ranks.values()), max(ranks.values())) if ranks else None,
        alphas=(min(alphas), max(alphas)) if alphas else None,
        family=_family(head, groups),
        triggers=_triggers(stated),
        weight=_weight(stated, path),
        licence=stated.get("modelspec.license", ""),
        title=stated.get("modelspec.title") or stated.get("ss_output_name") or source.name,
        thumbnail=bool(stated.get("modelspec.thumbnail")),
    )


Groups = Mapping[tuple[str, str], list[Key]]


def _ranks(head: Header, groups: Groups) -> dict[tuple[str, str], int]:
    downs = {
        target: key for target, group in groups.items() for key in group if (key.kind, key.part) == ("lora", "down")
    }
    return {target: head.tensors[key.raw].shape[0] for target, key in downs.items() if head.tensors[key.raw].shape}


def _alphas(
    head: Header, groups: Groups, configs: scaling.Configs, ranks: Mapping[tuple[str, str], int]
) -> list[float]:
    """Return each layer's effective alpha: its own, the configuration's, or its rank."""
    alphas: list[float] = []
    for (component, module), group in groups.items():
        stored = next((head.scalar(key.raw) for key in group if key.part == keys.ALPHA), None)
        scale = scaling.scale(stored, configs, component, (module,))
        alphas.append(scale.alpha or float(ranks.get((component, module), 0)))
    return alphas


def _family(head: Header, groups: Groups) -> str:
    for key in ("modelspec.architecture", "ss_base_model_version"):
        stated = head.metadata.get(key, "").lower()
        for beginning, family in _STATED_FAMILIES.items():
            if stated.startswith(beginning):
                return family
    if any(component == "text_encoder_2" for component, _ in groups):
        return "sdxl"
    width = _text_width(head, groups)
    if width is not None and width <= _TINY_WIDTH:
        return "tiny"
    return _FAMILY_BY_WIDTH.get(width or 0, "unknown")


def _text_width(head: Header, groups: Groups) -> int | None:
    """Return the width of the text embeddings that the UNet attends to, if the file adapts those layers."""
    for (component, module), group in groups.items():
        if component == "unet" and module.replace(".", "_").endswith("attn2_to_k"):
            for key in group:
                shape = head.tensors[key.raw].shape
                if (key.kind, key.part) == ("lora", "down") and len(shape) >= 2:
                    return shape[1]
    return None


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
