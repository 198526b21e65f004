"""InvokeAI's `invokeai_metadata`: one JSON object. Its model hashes are BLAKE3, which is not computed here."""

from __future__ import annotations

from collections.abc import Mapping

from lora_zoo.hashes import clean_hash
from pipelines.metadata import samplers
from pipelines.metadata.found import Draft, Found, as_list, as_object, as_text, shown
from pipelines.metadata.limits import parse_object

#: What says nothing that the picture depends on, or nothing beyond what is taken.
_IDLE = frozenset({"app_version", "generation_mode", "rand_device", "_canvas_v2_metadata", "canvas_v2_metadata"})
_NEUTRAL: Mapping[str, object] = {"clip_skip": 0, "seamless_x": False, "seamless_y": False, "cfg_rescale_multiplier": 0}


def read(texts: Mapping[str, str]) -> Found | None:
    """Read InvokeAI's own chunk, if there is one."""
    if "invokeai_metadata" not in texts:
        return None
    stated = dict(parse_object(texts["invokeai_metadata"], "InvokeAI metadata"))
    draft = Draft("invokeai")
    take = stated.pop
    draft.prompt = as_text(take("positive_prompt", None) or "", "prompt")
    draft.negative_prompt = as_text(take("negative_prompt", None) or "", "negative prompt")
    draft.count_and_seed(take("steps", None), take("seed", None))
    draft.guidance(take("cfg_scale", None))
    draft.sizes(take("width", None), take("height", None))
    draft.solver(samplers.INVOKEAI, take("scheduler", None))
    if (model := take("model", None)) is not None:
        draft.model, draft.model_hash = _named(model, "model")
    for one in as_list(take("loras", None) or [], "list of LoRAs"):
        use = as_object(one, "LoRA")
        name, digest = _named(use.get("model", use.get("lora")), "LoRA's model")
        draft.lora(name, (use.get("weight"), use.get("weight")), digest)
    for key, value in stated.items():
        if key not in _IDLE and value not in (None, "", [], {}) and (key not in _NEUTRAL or value != _NEUTRAL[key]):
            draft.note(f"{shown(key)[1:-1]}: {shown(value)}")
    return draft.finish()


def _named(value: object, what: str) -> tuple[str, str | None]:
    """Return a model's name and hash; before version 4 it was called `model_name`."""
    stated = as_object(value, what)
    return as_text(stated.get("name", stated.get("model_name")), f"{what} name"), clean_hash(stated.get("hash"))
