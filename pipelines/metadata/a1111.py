"""A1111's `parameters`, as Forge, SD.Next, CivitAI's own generator and Fooocus (by choice) write it too: reading."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from composer import blocks
from composer.errors import BadRequest
from composer.prompting import schedule
from composer.prompting import tags as lora_tags
from composer.prompting.tags import LoraTag
from lora_zoo.hashes import clean_hash
from pipelines.errors import BadMetadata
from pipelines.metadata import a1111_hires, samplers
from pipelines.metadata.found import Draft, Found, shown
from pipelines.metadata.infotext import Tag, is_json, split, tags
from pipelines.metadata.limits import check_length, parse_object

_SIZE = re.compile(r"(\d{1,6})\s*x\s*(\d{1,6})")
_OLD = re.compile(r"v1\.[0-5]\b")
_LORA_TAGS = ("lora", "lyco")
#: Keys that say nothing which a picture depends on, beside those that are taken.
_IDLE = frozenset({"Version", "Composed with", "Raw prompt", "Raw negative prompt", "User", "Composition order"})
#: What one of ours would hold as the default anyway.
_NEUTRAL = {"Clip skip": "1", "Denoising strength": "1"}
#: Of a tag, what says how strongly a LoRA acts; the rest says where and when.
_WEIGHTS = ("te", "unet")
_MOST_COMMAS = 8  # in a LoRA's name


def read(texts: Mapping[str, str]) -> Found | None:
    """Read a `parameters` text, if there is one that is not JSON."""
    text = texts.get("parameters")
    if text is None or is_json(text):
        return None
    prompt, negative, settings = split(check_length(text, "parameters"))
    draft = Draft("medley" if "Composed with" in settings else "a1111")
    draft.prompt, found = tags(prompt)
    draft.negative_prompt, ignored = tags(negative)
    for tag in ignored:
        draft.note(f"tag <{tag.kind}:…> in the negative prompt: LoRAs work in the prompt only")
    if not settings:
        draft.note("no line of settings: only the prompt was found")
    _loras(draft, found, settings)
    _settings(draft, settings)
    return draft.finish()


def _settings(draft: Draft, settings: dict[str, str]) -> None:
    """Take what is known and remark on the rest."""
    take = settings.pop
    draft.count_and_seed(take("Steps", None), take("Seed", None))
    draft.guidance(take("CFG scale", None))
    draft.solver(samplers.A1111, take("Sampler", None), take("Schedule type", take("Scheduler", None)))
    draft.model = take("Model", None)
    draft.model_hash = clean_hash(take("Model hash", None))
    if (size := take("Size", None)) is not None:
        _size(draft, size)
    draft.hires = a1111_hires.read(draft, settings)
    if draft.hires and _OLD.match(settings.get("Version", "")) and schedule.changing(draft.prompt):
        draft.note("prompt editing: before version 1.6, its shares of the steps were of each pass, not of both")
    if draft.tool == "medley":
        settings.pop("Civitai resources", None)  # says of the same LoRAs what their tags say
    for key, value in settings.items():
        if key not in _IDLE and _NEUTRAL.get(key) != value:
            draft.note(f"{key}: {shown(value)}")


def _size(draft: Draft, size: str) -> None:
    match = _SIZE.fullmatch(size.strip())
    if match is None:
        draft.note(f"size {shown(size)}: not WIDTHxHEIGHT")
    else:
        draft.sizes(match[1], match[2])


def _loras(draft: Draft, found: list[Tag], settings: dict[str, str]) -> None:
    """Put together what tags, hashes and Fooocus' list of weights say of each LoRA."""
    tagged = {tag.arguments[0].strip() for tag in found}
    hashes = _hashes(draft, settings, tagged)
    encoder = dict(_listed(settings.pop("Lora weights TE", ""), tagged))
    listed = dict(_listed(settings.pop("Lora weights", ""), tagged))
    named: set[str] = set()
    for tag in found:
        if tag.kind not in _LORA_TAGS:
            draft.note(f"tag <{tag.kind}:…>: {shown(':'.join(tag.arguments))}")
            continue
        name = tag.arguments[0].strip()
        named.add(name)
        read = _tag(draft, name, tag.arguments[1:])
        if read is None:
            draft.lora(name, (None, encoder.get(name)), hashes.get(name))
        else:
            weights = read.weight, encoder.get(name, read.text_encoder_weight)
            draft.lora(name, weights, hashes.get(name), read.blocks, read.schedule)
    for name in {**hashes, **listed}:
        if name not in named:
            draft.lora(name, (listed.get(name), encoder.get(name)), hashes.get(name))


def _tag(draft: Draft, name: str, arguments: Sequence[str]) -> LoraTag | None:
    """Read a tag; None if its weights cannot be read. What else cannot be, or is not known here, is told."""
    keyed = [part for part in arguments if "=" in part]
    placed = [part for part in arguments if "=" not in part]
    for part in placed[2:]:
        draft.note(f"dynamic rank of LoRA {shown(name)}: {shown(part.strip())}")
    weights, shapes = placed[:2], list[str]()
    for part in keyed:
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key.lower() in _WEIGHTS:
            weights.append(part)
        elif key.lower() in lora_tags.KEYS and _readable(key, value):
            shapes.append(part)
        else:
            draft.note(f"{shown(key)} of LoRA {shown(name)}: {shown(value)}")
    for parts in ([*weights, *shapes], weights):
        try:
            return lora_tags.read(":".join((name or "?", *parts)), "its tag")
        except BadRequest as error:
            draft.note(f"of LoRA {shown(name)}: {shown(str(error))}")
    return None


def _readable(key: str, value: str) -> bool:
    """Tell weights by block that any model may take from what only the tool that wrote them knows: its own presets."""
    if key.lower() != "lbw":
        return True
    try:
        blocks.check(value)
    except BadRequest:
        return False
    return True


def _hashes(draft: Draft, settings: dict[str, str], tagged: Collection[str]) -> dict[str, str]:
    """Return name -> hash from `Lora hashes`, and for those missing there from CivitAI's `Hashes`."""
    found: dict[str, str] = {}
    if (text := settings.pop("Hashes", None)) is not None:
        try:
            stated = parse_object(text, "Hashes")
        except BadMetadata as error:
            draft.note(str(error))
            stated = {}
        for key, value in stated.items():
            if key.lower().startswith("lora:") and isinstance(value, str):
                found[key[len("lora:") :]] = value
            elif key == "model" and isinstance(value, str):
                settings.setdefault("Model hash", value)
    return {**found, **dict(_listed(settings.pop("Lora hashes", ""), tagged))}


def _listed(text: str, tagged: Collection[str]) -> list[tuple[str, str]]:
    """Read "name: value, name: value"; a name holds commas only if a tag has it too."""
    found: list[tuple[str, str]] = []
    before: list[str] = []  # parts without a colon: the beginning of a name with commas, if of anything
    for part in text.strip('"').split(","):
        name, colon, value = part.rpartition(":")
        if not colon:
            before = [*before, part][-_MOST_COMMAS:]
            continue
        names = [",".join([*before[start:], name]).strip() for start in range(len(before) + 1)]
        whole = next((one for one in names if one in tagged), name.strip())
        if whole:
            found.append((whole, value.strip()))
        before = []
    return found
