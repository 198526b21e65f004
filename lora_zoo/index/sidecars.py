"""What other tools keep beside a LoRA file: trigger words, a preferred weight, the base model, a picture.

`NAME.json` is A1111's and Forge's, edited by the user; `NAME.metadata.json` is Lora-Manager's; `NAME.civitai.info` is
that of the CivitAI helpers. The user's own word comes first. A sidecar that cannot be read costs what it says, never
the LoRA.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from lora_zoo import fields
from lora_zoo.errors import BadFile
from lora_zoo.fields import Object

_A1111, _MANAGER, _CIVITAI = SIDECARS = (".json", ".metadata.json", ".civitai.info")
PREVIEWS = tuple(f"{infix}.{kind}" for infix in (".preview", "") for kind in ("png", "jpg", "jpeg", "webp"))

_MOST_BYTES = 4 << 20
_FAMILIES: Mapping[str, tuple[str, ...]] = {  # beginnings of what the tools call base models
    "sd15": ("sd1", "sd 1"),
    "sd2": ("sd2", "sd 2"),
    "sdxl": ("sdxl", "pony", "illustrious", "noobai"),
    "sd3": ("sd3", "sd 3"),
    "flux": ("flux",),
    "wan": ("wan",),
}


@dataclass(frozen=True)
class Beside:
    """What the sidecars of one LoRA say together; empty or None: nothing."""

    triggers: tuple[str, ...] = ()
    weight: float | None = None  # preferred
    weight_range: tuple[float, float] | None = None  # in which its author found it to work
    family: str = ""
    description: str = ""
    civitai_version: int | None = None  # the number under which CivitAI has this file
    notes: tuple[str, ...] = ()  # sidecars that could not be read, and why


def read(beside: Mapping[str, Path]) -> Beside:
    """Read the sidecars among the files beside a LoRA, given by their endings."""
    total = Beside()
    for ending, parse in ((_A1111, _a1111), (_MANAGER, _manager), (_CIVITAI, _civitai)):
        if ending not in beside:
            continue
        path = beside[ending]
        try:
            if path.stat().st_size > _MOST_BYTES:
                raise BadFile(f"{path.stat().st_size:,} bytes; a sidecar of more than {_MOST_BYTES:,} is none")
            said = parse(fields.parse_object(path.read_bytes(), path.name))
        except (BadFile, OSError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            said = Beside(notes=(_sound(f"sidecar *{ending}: {why}"),))
        total = _joined(total, said)
    return total


def preview(beside: Mapping[str, Path]) -> Path | None:
    """Return the picture beside a LoRA."""
    return next((beside[ending] for ending in PREVIEWS if ending in beside), None)


def _joined(first: Beside, then: Beside) -> Beside:
    """Return what both say; where they differ, what the first says."""
    return replace(
        first,
        triggers=first.triggers or then.triggers,
        weight=then.weight if first.weight is None else first.weight,
        weight_range=first.weight_range or then.weight_range,
        family=first.family or then.family,
        description=first.description or then.description,
        civitai_version=then.civitai_version if first.civitai_version is None else first.civitai_version,
        notes=(*first.notes, *then.notes),
    )


def _a1111(said: Object) -> Beside:
    return Beside(
        triggers=_words([said.get("activation text")]),
        weight=_weight(said.get("preferred weight")) or None,  # A1111 writes 0 for "none"
        family=_family(said.get("sd version")),
        description=_text(said.get("description")),
    )


def _manager(said: Object) -> Beside:
    civitai = _object(said.get("civitai"))
    tips = said.get("usage_tips")
    stated = fields.parse_object(tips.strip() or "{}", "usage_tips") if isinstance(tips, str) else _object(tips)
    least, most = _weight(stated.get("strength_min")), _weight(stated.get("strength_max"))
    return Beside(
        triggers=_words(_list(civitai.get("trainedWords"))),
        weight=_weight(stated.get("strength")),
        weight_range=None if least is None or most is None or least > most else (least, most),
        family=_family(said.get("base_model")),
        description=_text(said.get("modelDescription")),
        civitai_version=_version(civitai.get("id")),
    )


def _civitai(said: Object) -> Beside:
    return Beside(
        triggers=_words(_list(said.get("trainedWords"))),
        family=_family(said.get("baseModel")),
        description=_text(said.get("description")),
        civitai_version=_version(said.get("id")),
    )


def _words(phrases: Iterable[object]) -> tuple[str, ...]:
    """Return words and phrases, which all tools part by commas, each once."""
    texts = (part.strip() for phrase in phrases for part in _text(phrase).split(","))
    return tuple(dict.fromkeys(text for text in texts if text))


def _weight(value: object) -> float | None:
    """Return a weight, also one written as text; what is no number says nothing."""
    try:
        return fields.number(float(value) if isinstance(value, str) else value, "weight")
    except ValueError:
        return None


def _version(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _family(value: object) -> str:
    name = _text(value).lower()
    return next((family for family, beginnings in _FAMILIES.items() if name.startswith(beginnings)), "")


def _object(value: object) -> Object:
    return {} if value is None else fields.as_object(value, "sidecar")


def _list(value: object) -> list[object]:
    return [] if value is None else fields.as_list(value, "sidecar")


def _text(value: object) -> str:
    return _sound(value.strip()) if isinstance(value, str) else ""


def _sound(text: str) -> str:
    """Escape halves of characters: JSON can state them and file names can hold them, but no terminal shows them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
