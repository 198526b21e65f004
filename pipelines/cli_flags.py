"""From what was typed to requests: the flags of `render` as a dataclass, and how they are read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from composer.errors import BadRequest
from composer.request import RenderRequest, parse_request
from lora_zoo.errors import nearest_file, shortened
from lora_zoo.foreign import documents, files
from lora_zoo.library import Library
from pipelines.cli_engine import EngineFlags
from pipelines.cli_start import StartFlags, started
from pipelines.cli_uses import UseFlags, laid
from pipelines.wildcards import has_choices

_SIZE = re.compile(r"(\d{1,9})x(\d{1,9})")
_CORNER = re.compile(r"(\d{1,9}),(\d{1,9})")


@dataclass(frozen=True)
class RenderFlags:
    """The options of `render` as typed; None means "not given"."""

    source: Path | None
    prompt: str | None
    negative: str | None
    undesired: str | None
    undesired_strength: float | None
    loras: tuple[str, ...]
    of_loras: UseFlags
    start: StartFlags
    method: str | None
    settings: tuple[str, ...]
    text_policy: str | None
    model: str | None
    steps: int | None
    guidance: float | None
    guidance_rescale: float | None
    size: str | None
    scheduler: str | None
    prediction: str | None
    original_size: str | None
    crop: str | None
    target_size: str | None
    seed: int | None
    count: int
    by: EngineFlags = EngineFlags()
    syntax: str | None = None
    choices: str | None = None
    spacing: str | None = None


Draw = Callable[[RenderRequest], RenderRequest]


def requests_from(flags: RenderFlags, library: Library, draw: Draw) -> list[RenderRequest]:
    """Return one request per picture: seeds count up from the first one. `draw` makes the choices in prompts."""
    recorded = _recorded(flags, flags.source, library) if flags.source else None
    if recorded is None and flags.prompt is None:
        raise BadRequest("nothing to render: give --prompt TEXT, or --from IMAGE to repeat a picture")
    first = parse_request(_merged(recorded, flags))
    requests = [first.model_copy(update={"seed": first.seed + offset}) for offset in range(flags.count)]
    return [laid(draw(parse_request(one.model_dump())), flags.of_loras) for one in requests]


def _recorded(flags: RenderFlags, path: Path, library: Library) -> RenderRequest:
    """Return what a picture asks for; of another tool's, tell what it says that cannot be taken over."""
    from composer.record import RenderRecord
    from pipelines import cli_output, images, replayed
    from pipelines.metadata.matching import match_to

    found = images.read(existing(path))
    if isinstance(found, RenderRecord):
        return replayed.request_of(found, flags.model)
    matched = match_to(found, library, own_model=flags.model is not None, own_loras=bool(flags.loras))
    for remark in matched.remarks:
        cli_output.notice(f"not taken from the picture: {remark}")
    return matched.request


def _merged(recorded: RenderRequest | None, flags: RenderFlags) -> dict[str, object]:
    """Lay the flags that were given over the recorded request, if there is one."""
    width, height = parse_size(flags.size) if flags.size is not None else (None, None)
    given: dict[str, object] = {
        "prompt": flags.prompt,
        "negative_prompt": flags.negative,
        "undesired": flags.undesired,
        "undesired_strength": flags.undesired_strength,
        "prompt_syntax": flags.syntax,
        "choices": flags.choices or _choices(recorded, flags),
        "method": flags.method,
        "text_encoder_adapters": flags.text_policy,
        "model": flags.model,
        "num_inference_steps": flags.steps,
        "guidance_scale": flags.guidance,
        "guidance_rescale": flags.guidance_rescale,
        "width": width,
        "height": height,
        "scheduler": flags.scheduler,
        "spacing": flags.spacing,
        "prediction_type": flags.prediction,
        "original_size": parse_size(flags.original_size, "--original-size") if flags.original_size else None,
        "crop_corner": parse_corner(flags.crop) if flags.crop else None,
        "target_size": parse_size(flags.target_size, "--target-size") if flags.target_size else None,
        "seed": flags.seed,
    }
    merged: dict[str, object] = recorded.model_dump() if recorded else {}
    keeps_method = recorded is not None and flags.method in (None, recorded.method)
    before = recorded.parameters if recorded and keeps_method else {}
    if recorded and not keeps_method:
        merged["text_encoder_adapters"] = None  # the new method's own default
    if recorded and flags.model not in (None, recorded.model):
        merged["prediction_type"] = None  # the new model's own
    if recorded and (flags.model not in (None, recorded.model) or flags.scheduler not in (None, recorded.scheduler)):
        merged["spacing"] = None  # likewise
    if recorded and flags.prompt is not None:
        merged["remarks"] = ()  # they were of another prompt
    merged.update({key: value for key, value in given.items() if value is not None})
    if flags.undesired_strength is not None and not merged.get("undesired"):
        raise BadRequest("--undesired-strength belongs to --undesired: say what the prompt is freed of")
    merged["parameters"] = {**before, **parse_settings(flags.settings)}
    recorded_uses = [use.model_dump() for use in recorded.adapters] if recorded else []
    forgotten = {"words": None} if flags.prompt is not None else {}  # they were words of another prompt
    typed_uses = [parse_lora(text) for text in flags.loras]
    merged["adapters"] = typed_uses or [{**use, **forgotten} for use in recorded_uses]
    return {**merged, **started(flags.start, recorded)}


def _choices(recorded: RenderRequest | None, flags: RenderFlags) -> str | None:
    """Return whether choices are drawn, where this is not typed: in what is typed, not in what a picture holds."""
    if recorded is None:
        return None
    texts = {"prompt": flags.prompt, "negative_prompt": flags.negative, "undesired": flags.undesired}
    if not any(has_choices(typed) for typed in texts.values() if typed is not None):
        return None
    kept = [name for name, typed in texts.items() if typed is None and has_choices(getattr(recorded, name))]
    if kept:
        raise BadRequest(
            f"choices are typed, and the picture's {kept[0].replace('_', ' ')} holds such signs as text; "
            "say --choices drawn to have them drawn in both, or --choices text"
        )
    return "drawn"


def parse_lora(text: str) -> Mapping[str, object]:
    """Read NAME[:WEIGHT[:TE_WEIGHT]]; NAME may be a path, with a drive letter too."""
    parts = text.split(":")
    tail: list[str] = []
    while len(parts) > 1 and len(tail) < 2 and not _path_like(parts[-1]):
        tail.insert(0, parts.pop())
    name = ":".join(parts)
    if not name:
        raise BadRequest(f"--lora {text!r}: the name is missing; write NAME[:WEIGHT[:TE_WEIGHT]]")
    weights = [_number(part, text) for part in tail]
    return dict(zip(("name", "weight", "text_encoder_weight"), (name, *weights), strict=False))


def parse_settings(settings: tuple[str, ...]) -> dict[str, JsonValue]:
    """Read KEY=VALUE pairs; a value that is no JSON is text."""
    found: dict[str, JsonValue] = {}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise BadRequest(f"--set {text!r}: write KEY=VALUE, for example --set interval=2")
        if key in found:
            raise BadRequest(f"--set {key}: given twice, as {found[key]!r} and {value!r}")
        found[key] = documents.json_or_text(value, f"--set {key}", error=BadRequest)
    return found


def parse_size(text: str, flag: str = "--size") -> tuple[int, int]:
    """Read WIDTHxHEIGHT."""
    match = _SIZE.fullmatch(text.lower())
    if match is None:
        raise BadRequest(f"{flag} {shortened(text)}: write WIDTHxHEIGHT in pixels, for example 64x64")
    return int(match[1]), int(match[2])


def parse_corner(text: str) -> tuple[int, int]:
    """Read X,Y."""
    match = _CORNER.fullmatch(text)
    if match is None:
        raise BadRequest(f"--crop {shortened(text)}: write X,Y in pixels from the left and the top, for example 0,0")
    return int(match[1]), int(match[2])


def existing(path: Path) -> Path:
    """Return the path of a file that is there; a missing one is an error that names the nearest."""
    if os.path.isfile(path):  # a name that no file can have is one that is not there
        return path
    if os.path.isdir(path):
        raise BadRequest(f"'{path}' is a folder, not a file")
    if os.path.exists(path):
        files.check_regular(path, BadRequest)  # which tells what else it is
    raise BadRequest(f"there is no file {shortened(str(path))}{nearest_file(path)}")


def _path_like(text: str) -> bool:
    return "/" in text or "\\" in text or text.endswith(".safetensors")


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise BadRequest(
            f"--lora {whole!r}: the weight {text!r} is not a number; write NAME[:WEIGHT[:TE_WEIGHT]]"
        ) from None
