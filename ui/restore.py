"""A picture's settings, taken over as far as this zoo and these models allow; what cannot be is told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from composer import spectrum, words
from composer.record import RenderRecord
from composer.request import AdapterUse, RenderRequest
from composer.sharing import model_name
from lora_zoo.errors import ZooError
from lora_zoo.library import Library
from pipelines import images
from pipelines.errors import BadMetadata
from pipelines.metadata.found import Found, shown
from pipelines.metadata.matching import match_to
from ui import more


@dataclass(frozen=True)
class Restored:
    """A request, and one remark for everything that is not as the picture says."""

    request: RenderRequest
    remarks: tuple[str, ...]


def restore(path: Path, library: Library, models: Collection[str]) -> Restored:
    """Read a picture of ours or of another tool; one without settings is an error."""
    found = images.read(path)
    remarks: list[str] = []
    request = _own(found, library, remarks) if isinstance(found, RenderRecord) else _other(found, library, remarks)
    known = {model_name(name): name for name in models}
    if request.model not in models and request.model in known:
        request = request.model_copy(update={"model": known[request.model]})
    if request.model not in models:
        first = next(iter(models))
        remarks.append(f"model {shown(request.model)} is not offered here; {first} is used")
        request = request.model_copy(update={"model": first, "prediction_type": None})
    return Restored(_held(request, remarks), tuple(remarks))


def _held(request: RenderRequest, remarks: list[str]) -> RenderRequest:
    """Leave out what the request names by path: this server opens no file because a picture says so."""
    start = request.start
    if start is not None and not (more.is_inline(start.image) and more.is_inline(start.mask)):
        remarks.append("the picture to begin with, or its mask, is named by its file and not held; choose it again")
        request = request.model_copy(update={"start": None})
    uses: list[AdapterUse] = []
    for use in request.adapters:
        if use.region is not None and not more.is_inline(use.region.mask):
            remarks.append(f"LoRA {shown(use.name)}: its mask is named by its file and not held; paint it again")
            use = use.model_copy(update={"region": None})
        uses.append(use)
    return request.model_copy(update={"adapters": tuple(uses)})


def _own(record: RenderRecord, library: Library, remarks: list[str]) -> RenderRequest:
    uses = [_found_again(use, library, remarks) for use in record.adapters]
    for use in filter(None, uses):
        _tell_own(use, record.prompt, library, remarks)
    return record.request().model_copy(update={"adapters": tuple(use for use in uses if use is not None)})


def _found_again(use: AdapterUse, library: Library, remarks: list[str]) -> AdapterUse | None:
    """Return a LoRA by its content, wherever it lies now; or by its name, if only the content has changed."""
    entry = library.by_hash(use.sha256 or "")
    if entry is not None:
        return use.model_copy(update={"name": library.handle(entry)})
    for one in library.entries():
        if use.name in (one.name, library.handle(one)):
            remarks.append(f"LoRA {shown(use.name)} is another file now than the one that the picture was made with")
            return use.model_copy(update={"name": library.handle(one), "sha256": None})
    remarks.append(f"LoRA {shown(use.name)} is not in the zoo; it was left out")
    return None


def _tell_own(use: AdapterUse, prompt: str, library: Library, remarks: list[str]) -> None:
    """Tell what was named for a LoRA where the page takes what is known of it."""
    entry = library.find(use.name)
    measured = library.profile(entry)
    if use.words is not None and use.words != words.found(prompt, entry.triggers):
        remarks.append(f"LoRA {shown(use.name)}: words were named as its own; the page takes its trigger words")
    if use.frequency is not None and use.frequency != (measured and spectrum.frequency(measured)):
        remarks.append(f"LoRA {shown(use.name)}: its share of fine detail was named; the page takes what is measured")


def _other(found: Found, library: Library, remarks: list[str]) -> RenderRequest:
    """Return the request nearest to another tool's picture; LoRAs and models that are not here are left out."""
    known = []
    for lora in found.loras:
        try:
            match_to(replace(found, loras=(lora,)), library, own_model=True, own_loras=False)
            known.append(lora)
        except ZooError:
            remarks.append(f"LoRA {shown(lora.name)} is not in the zoo; it was left out")
    kept = replace(found, loras=tuple(known))
    try:
        matched = match_to(kept, library, own_model=False, own_loras=False)
    except BadMetadata:
        remarks.append(f"model {shown(found.model or 'unknown')} is not offered here; the page's own is used")
        matched = match_to(kept, library, own_model=True, own_loras=False)
    remarks.extend(matched.remarks)
    return matched.request
