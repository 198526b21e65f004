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
from lora_zoo.foreign import documents, files
from lora_zoo.foreign.text import escaped

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


def read(beside: Mapping[str, Path], root: Path | None = None) -> Beside:
    """Read the sidecars among the files beside a LoRA, given by their endings; `root` is the scanned folder, if any."""
    total = Beside()
    for ending, parse in ((_A1111, _a1111), (_MANAGER, _manager), (_CIVITAI, _civitai)):
        if ending not in beside:
            continue
        path = beside[ending]
        try:
            said = parse(_parsed(files.read(path, _MOST_BYTES, _home(path, root)), path.name))
        except BadFile as error:
            said = Beside(notes=(_note(f"sidecar *{ending}", path, error),))
        total = _joined(total, said)
    return total


def preview(beside: Mapping[str, Path], root: Path) -> tuple[Path | None, tuple[str, ...]]:
    """Return the picture beside a LoRA of a scanned folder, and why those before it are none.

    What leads out of the folder, or is no regular file, is no preview: whoever looks at the folder would see it.
    """
    notes: list[str] = []
    for ending in PREVIEWS:
        if ending not in beside:
            continue
        path = beside[ending]
        try:
            files.opened(path, _home(path, root)).close()
        except BadFile as error:
            notes.append(_note(f"preview *{ending}", path, error))
        else:
            return path, tuple(notes)
    return None, tuple(notes)


def _home(path: Path, root: Path | None) -> Path:
    """Return the folder that a file must lie in: the scanned one, or its own, where a link in that leads to it."""
    inside = root is not None and path.parent.resolve().is_relative_to(root.resolve())
    return root if root is not None and inside else path.parent


def _parsed(data: bytes, where: str) -> Object:
    return fields.as_object(documents.json_value(data, where, escape=True), where)


def _note(what: str, path: Path, error: BadFile) -> str:
    """Say why something beside a LoRA is not used, without the path, which the LoRA's row has."""
    return f"{what}: {escaped(str(error)).removeprefix(f'{files.shown(path)}: ').removeprefix(f'{path.name}: ')}"


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
    stated = _parsed((tips.strip() or "{}").encode("utf-8"), "usage_tips") if isinstance(tips, str) else _object(tips)
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
    return value.strip() if isinstance(value, str) else ""
