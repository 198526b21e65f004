"""What a record tells strangers of the files behind a picture: their names and hashes, and nothing of this machine.

A request may name a model, a LoRA or a picture by its path. The record that goes into a picture names them by the last
part of that path; by their hashes they are found again, wherever they lie then.
"""

from __future__ import annotations

import re
from typing import TypeVar

from composer.record import RenderRecord
from composer.request import AdapterUse, RenderRequest, Start

_SEPARATORS = re.compile(r"[/\\]+")
_HUB = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_FILES = (".safetensors", ".ckpt", ".pt", ".bin")
_INLINE = ("data:", "held:")  # a picture that is told whole, or by a server's own name for it
_R = TypeVar("_R", bound=RenderRequest)


def display_name(name: str) -> str:
    """Return the last part of a path; a name that is none as it is."""
    return next((part for part in reversed(_SEPARATORS.split(name)) if part), name)


def model_name(name: str) -> str:
    """Return what a model is called: of a folder or file the last part of its path; OWNER/NAME of a hub is a name."""
    return name if _HUB.fullmatch(name) and not name.endswith(_FILES) else display_name(name)


def shared(asked: _R) -> _R:
    """Return a request or a record that names no path: what goes into pictures. What names none stays equal."""
    names = _names(asked.adapters)
    uses = tuple(use.model_copy(update={"name": name}) for use, name in zip(asked.adapters, names, strict=True))
    start = None if asked.start is None else _start(asked.start)
    changed = asked.model_copy(update={"model": model_name(asked.model), "adapters": uses, "start": start})
    if not isinstance(changed, RenderRecord):
        return changed
    renamed = {asked.model: changed.model, **dict(zip([use.name for use in asked.adapters], names, strict=True))}
    return changed.model_copy(update={"notices": tuple(_renamed(text, renamed) for text in changed.notices)})


def _names(uses: tuple[AdapterUse, ...]) -> list[str]:
    """Return names that differ from each other: of two files of one name, the second has its hash behind it."""
    found: list[str] = []
    for place, use in enumerate(uses, start=1):
        name = display_name(use.name)
        found.append(f"{name}-{(use.sha256 or str(place))[:8]}" if name in found else name)
    return found


def _start(start: Start) -> Start:
    mask = None if start.mask is None else _picture(start.mask)
    return start.model_copy(update={"image": _picture(start.image), "mask": mask})


def _picture(name: str) -> str:
    return name if name.startswith(_INLINE) else display_name(name)


def _renamed(text: str, names: dict[str, str]) -> str:
    for before, now in sorted(names.items(), key=lambda pair: -len(pair[0])):
        text = text.replace(before, now) if before != now else text
    return text
