"""From what a picture says to a request here: LoRAs by hash, else by name; what cannot be matched is an error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from composer.prompting import comfyui, tags
from composer.request import ANY_SEED, PromptSyntax, RenderRequest, drawn, parse_request
from lora_zoo import catalog
from lora_zoo.catalog import Entry
from lora_zoo.errors import UnknownName
from lora_zoo.hashes import is_hex
from lora_zoo.index.rows import spelled
from lora_zoo.library import AmbiguousName, Library
from pipelines.errors import BadMetadata
from pipelines.metadata.a1111_text import safe_name
from pipelines.metadata.found import Found, FoundLora, shown

_MOST_TOLD = 20  # of what stands in prompts
#: Fields of a request by the words in which a picture's value is refused.
_SAID = {"num_inference_steps": "steps", "guidance_scale": "guidance scale"}
#: What signs mean in a tool's prompts, if not what they do in A1111's; InvokeAI's own grammar is not read here.
_SYNTAX: Mapping[str, PromptSyntax] = {"comfyui": "comfyui", "fooocus": "comfyui", "invokeai": "plain"}


@dataclass(frozen=True)
class Match:
    """The request that comes nearest to a picture of another tool, and everything about it that is not certain."""

    request: RenderRequest
    remarks: tuple[str, ...]


def match_to(found: Found, zoo: Library, own_model: bool, own_loras: bool) -> Match:
    """Return the request. `own_model` and `own_loras`: the user names these; what the picture says is left aside."""
    remarks = list(found.unresolved)
    adapters = [] if own_loras else _adapters(found, zoo, remarks)
    syntax = _SYNTAX.get(found.tool, "a1111")
    stated: dict[str, object] = {
        "prompt": found.prompt,
        "negative_prompt": found.negative_prompt,
        "prompt_syntax": syntax,
        "choices": "text",  # where the tool draws any, the picture holds what was drawn
        "adapters": adapters,
        "width": found.width,
        "height": found.height,
        "num_inference_steps": found.steps,
        "guidance_scale": found.guidance_scale,
        "scheduler": found.scheduler,
        "spacing": found.spacing,
        "hires": found.hires and found.hires.model_dump(),
    }
    remarks += _of_texts(found, syntax)
    if not own_model:
        stated["model"] = _model(found)
    if found.seed is not None:
        stated["seed"] = drawn(found.seed)
        if found.seed == ANY_SEED:
            remarks.append(f"seed {ANY_SEED}: the picture does not say which was drawn; {stated['seed']} is drawn here")
    for name in ("seed", "num_inference_steps", "guidance_scale", "scheduler", "width", "height"):
        if stated.get(name) is None and not found.refused(_SAID.get(name, name)):
            remarks.append(f"{name}: not found in the picture; the default is used")
    return Match(parse_request(stated), tuple(remarks))


def _adapters(found: Found, zoo: Library, remarks: list[str]) -> list[dict[str, object]]:
    """Return all LoRAs of a picture; those that are not here are told in one error."""
    adapters: list[dict[str, object]] = []
    missing: list[str] = []
    for lora in found.loras:
        try:
            adapters.append(_adapter(lora, zoo, remarks))
        except UnknownName as error:
            missing.append(_telling(lora.name, lora.hash, error))
    if missing:
        raise BadMetadata(f"{'; '.join(missing)}. Name the LoRAs to use with --lora")
    return adapters


def _of_texts(found: Found, syntax: PromptSyntax) -> list[str]:
    """Return what of another tool's prompts is not read, or not as there."""
    texts = (found.prompt, found.negative_prompt)
    if syntax == "a1111":
        return []
    if syntax == "plain":
        weighs = any(sign in text for text in texts for sign in "()+")
        told = f"weights in the prompt: {found.tool} writes them in a way that is not read here; taken as text"
        return [told] if weighs else []
    told = [tags.told_of(one, "comfyui") for text in texts for one in tags.suspects(text, "comfyui")]
    told += [
        f"{one[:80]!r}: embeddings in files of their own are not read" for text in texts for one in _embeddings(text)
    ]
    if found.tool == "comfyui" and any(span.weight != 1.0 for text in texts for span in comfyui.parse(text)):
        told.append("weights in the prompt: they act on embeddings as A1111's do, not towards those of an empty prompt")
    return list(dict.fromkeys(told))[:_MOST_TOLD]


def _embeddings(text: str) -> list[str]:
    return [word for word in text.split() if word.startswith("embedding:")]


def _adapter(lora: FoundLora, zoo: Library, remarks: list[str]) -> dict[str, object]:
    entry = zoo.by_hash(lora.hash or "")
    if entry is None:
        entry = _by_name(lora.name, zoo)
        if lora.hash is not None:
            why = "is not that of the file" if is_hex(lora.hash) else "is of a kind that is not computed here"
            remarks.append(f"LoRA {shown(lora.name)} was matched by its name; its hash {shown(lora.hash)} {why}")
    if lora.weight is None:
        remarks.append(f"weight of LoRA {shown(lora.name)}: not found in the picture; {entry.weight:g} is used")
    return {
        "name": zoo.handle(entry),
        "weight": lora.weight,
        "text_encoder_weight": lora.text_encoder_weight,
        "blocks": lora.blocks or None,
        "schedule": lora.schedule and lora.schedule.model_dump(),
        "sha256": entry.sha256,
    }


def _by_name(name: str, zoo: Library) -> Entry:
    """Return the one LoRA of this name: as written, or in other cases, or with the characters others leave out."""
    entries = zoo.entries()
    readings = (spelled, str.casefold, safe_name, lambda text: safe_name(text).casefold())
    for reading in readings:
        alike = {entry.sha256: entry for entry in entries if reading(entry.name) == reading(name)}
        if len(alike) == 1:
            return next(iter(alike.values()))
        if len(alike) > 1 and reading is spelled:
            raise AmbiguousName(name, [str(zoo.path(entry)) for entry in alike.values()])
    raise UnknownName("LoRA", name, [entry.name for entry in entries])


def _model(found: Found) -> str:
    names = [model.name for model in catalog.models()]
    if found.model is None:
        raise BadMetadata("the picture does not name its model; give --model NAME or --model FOLDER")
    if found.model not in names:
        error = UnknownName("model", found.model, names)
        raise BadMetadata(f"{_telling(found.model, found.model_hash, error)} Name the one to use with --model")
    return found.model


def _telling(name: str, digest: str | None, error: UnknownName) -> str:
    """Return the error with the hash, by which a user can find the file elsewhere."""
    return f"{error}" if digest is None else f"{error} (hash of {shown(name)}: {shown(digest)})"
