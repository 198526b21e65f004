"""Fooocus' own JSON, in `parameters` or in EXIF. (Fooocus can write A1111's text instead, which is read as that.)

Its styles are phrases added to the prompt; the prompt taken is the one that they were added to, `full_prompt`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lora_zoo.hashes import clean_hash
from pipelines.errors import BadMetadata
from pipelines.metadata import samplers
from pipelines.metadata.found import Draft, Found, as_list, as_text, shown
from pipelines.metadata.infotext import is_json
from pipelines.metadata.limits import parse_object

_SIZE = re.compile(r"\(\s*'?(\d{1,6})'?\s*,\s*'?(\d{1,6})'?\s*\)")
_IDLE = frozenset(
    {"created_by", "metadata_scheme", "version", "prompt_expansion", "performance", "prompt", "negative_prompt"}
)
_NONE = (None, "", "None", [], "[]")


def read(texts: Mapping[str, str]) -> Found | None:
    """Read a `parameters` chunk that is JSON."""
    text = texts.get("parameters")
    if text is None or not is_json(text):
        return None
    stated = dict(parse_object(text, "parameters"))
    if not {"base_model", "full_prompt", "metadata_scheme"} & set(stated):
        raise BadMetadata("the picture's parameters are JSON, but not as Fooocus writes them")
    draft = Draft("fooocus")
    take = stated.pop
    draft.prompt = _prompt(take("full_prompt", None), stated.get("prompt"))
    draft.negative_prompt = _prompt(take("full_negative_prompt", None), stated.get("negative_prompt"))
    draft.count_and_seed(take("steps", None), take("seed", None))
    draft.guidance(take("guidance_scale", None))
    draft.solver(samplers.COMFYUI, take("sampler", None), take("scheduler", None))
    draft.model = as_text(take("base_model", None) or "", "base_model")
    draft.model_hash = clean_hash(take("base_model_hash", None))
    _size(draft, take("resolution", None))
    _loras(draft, stated)
    for key, value in stated.items():
        if key not in _IDLE and value not in _NONE:
            draft.note(f"{shown(key)[1:-1]}: {shown(value)}")
    return draft.finish()


def _prompt(full: object, typed: object) -> str:
    parts = as_list(full, "full prompt") if full else [typed or ""]
    return ", ".join(as_text(part, "prompt") for part in parts)


def _size(draft: Draft, value: object) -> None:
    if value is None:
        return
    match = _SIZE.fullmatch(as_text(value, "resolution").strip())
    if match is None:
        draft.note(f"resolution {shown(value)}: not (WIDTH, HEIGHT)")
    else:
        draft.sizes(match[1], match[2])


def _loras(draft: Draft, stated: dict[str, object]) -> None:
    """Take the list with hashes; without it the single entries "name : weight" that older versions have."""
    singles = [stated.pop(key) for key in sorted(stated) if key.startswith("lora_combined_")]
    listed = as_list(stated.pop("loras", None) or [], "list of LoRAs")
    for one in listed:
        parts = as_list(one, "LoRA")
        if not 2 <= len(parts) <= 3:
            raise BadMetadata(f"the picture's LoRA has {len(parts)} parts instead of name, weight and hash")
        draft.lora(parts[0], (parts[1], parts[1]), parts[2] if len(parts) == 3 else None)
    for one in [] if listed else singles:
        name, _, weight = as_text(one, "LoRA").rpartition(" : ")
        draft.lora(name, (weight, weight))
