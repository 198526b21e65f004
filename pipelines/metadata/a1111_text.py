"""A1111's `parameters`, as it reads it itself and as CivitAI reads it: writing.

Every LoRA gets a plain tag after the prompt, wherever its weight came from: it is all that CivitAI reads a weight from.
The exact request is in the record; this text is its likeness in another tool's words. So whatever in a prompt would be
taken for that tool's own markers is bent a little (a space before the colon, or after a <), and control characters
become spaces.
"""

from __future__ import annotations

import json
import re

from composer.prompting import comfyui, emphasis
from composer.request import AdapterUse, RenderRequest
from pipelines.metadata import a1111_hires, samplers
from pipelines.metadata.found import decimal, sound, stem
from pipelines.metadata.hashes import FileHashes
from pipelines.metadata.infotext import quote

_UNSAFE = re.compile(r"[^A-Za-z0-9_.\-]+")
_MARKERS = re.compile(r"(Negative prompt|Hashed prompt|Resources|Template|Steps)(?=:)")
_LORA_TAG = re.compile(r"<(?:lora|lyco):[^<>\n]{1,400}>")
#: A tag that nothing closes would swallow the one that follows the prompt.
_OPEN = re.compile(r"<(?=\w+:)")
_CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")


def write(request: RenderRequest, hashes: FileHashes) -> str:
    """Return the text for a request that leaves nothing open."""
    names = safe_names([use.name for use in request.adapters])
    uses = list(zip(names, request.adapters, strict=True))
    marks = " ".join(f"<lora:{name}:{decimal(_weight(use))}>" for name, use in uses)
    prompt, negative = (_said(text, request) for text in (request.prompt, request.negative_prompt))
    lines = [" ".join(filter(None, (prompt, marks)))]
    if negative:
        lines.append(f"Negative prompt: {negative}")
    settings = [f"{key}: {quote(value)}" for key, value in _settings(request, uses, hashes).items()]
    lines.append(", ".join(filter(None, [*settings, _resources(request, hashes)])))
    return "\n".join(line for line in lines if line)


def safe_names(names: list[str]) -> list[str]:
    """Return names of the characters that every reader accepts, still different from each other."""
    safe: list[str] = []
    for name in names:
        plain = safe_name(name)
        taken = [plain, *(f"{plain}-{n}" for n in range(2, len(names) + 2))]
        safe.append(next(one for one in taken if one not in safe))
    return safe


def safe_name(name: str) -> str:
    """Return one name of the characters that every reader accepts."""
    return _UNSAFE.sub("_", stem(name)) or "lora"


def _settings(request: RenderRequest, uses: list[tuple[str, AdapterUse]], hashes: FileHashes) -> dict[str, str]:
    sampler, schedule = samplers.for_a1111(request.scheduler or "")
    found = {name: hashes.adapters.get(use.name) for name, use in uses}
    encoder = {name: use.text_encoder_weight for name, use in uses}
    differ = any(use.text_encoder_weight not in (None, use.weight) for _, use in uses)
    stated = {
        "Steps": str(request.num_inference_steps),
        "Sampler": sampler,
        "Schedule type": schedule,
        "CFG scale": decimal(request.guidance_scale or 1.0),
        "Seed": str(request.seed),
        "Size": f"{request.width}x{request.height}",
        "Model hash": hashes.model,
        "Model": _tame(stem(request.model)),
        **a1111_hires.written(request),
        "Lora hashes": ", ".join(f"{name}: {one}" for name, one in found.items() if one),
        "Composition": _composition(request),
        "Composition order": " > ".join(name for name, _ in uses) if len(uses) > 1 else "",
        "Lora weights TE": ", ".join(
            f"{name}: {decimal(weight)}" for name, weight in encoder.items() if differ and weight is not None
        ),
        "Composed with": "Medley",
    }
    return {key: value for key, value in stated.items() if value}


def _resources(request: RenderRequest, hashes: FileHashes) -> str:
    """Return CivitAI's own list, which counts for it before all else: hence of all LoRAs or not at all.

    It stands last, for its brackets are read by CivitAI alone; to A1111 it is one more key that means nothing.
    """
    if not request.adapters or any(use.name not in hashes.versions for use in request.adapters):
        return ""
    listed = [
        {"type": "lora", "weight": _weight(use), "modelVersionId": hashes.versions[use.name]}
        for use in request.adapters
    ]
    return f"Civitai resources: {json.dumps(listed)}"


def _composition(request: RenderRequest) -> str:
    numbers = [str(one) for one in request.parameters.values() if isinstance(one, int) and not isinstance(one, bool)]
    return _tame("/".join([request.method, *numbers])) if request.adapters else ""


def _weight(use: AdapterUse) -> float:
    return 1.0 if use.weight is None else use.weight


def _said(text: str, request: RenderRequest) -> str:
    """Return a prompt as A1111 would have to be told it: there, brackets always mean something."""
    said = {"a1111": str, "comfyui": comfyui.as_a1111, "plain": emphasis.escape}
    return _tame(said[request.prompt_syntax](text))


def _tame(text: str) -> str:
    """Return a text that no reader takes apart in the wrong place; LoRA tags of its own are left out."""
    closed, sign, rest = _LORA_TAG.sub("", sound(text).replace("\r\n", "\n")).rpartition(">")
    bare = closed + sign + _OPEN.sub("< ", rest)
    return _MARKERS.sub(r"\1 ", _CONTROLS.sub(" ", bare)).strip()
