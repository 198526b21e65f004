"""What decides a picture, as one digest: the request with nothing left open, and the model's own files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from composer.request import Frozen
from lora_zoo.foreign import files
from pipelines import schedulers
from pipelines.resolve import Resolved

#: The keys that requests had when digests were first kept. One that was added since is part of a digest only where it
#: says something: what was asked for before is the same job for ever.
_FIRST = frozenset(
    """adapters blocks box crop_corner curve frequency guidance_rescale guidance_scale height hires image mask
    mask_sha256 method model name negative_prompt num_inference_steps original_size parameters prediction_type prompt
    prompt_syntax region scale schedule scheduler seed sha256 start stop strength target_size text_encoder_adapters
    text_encoder_weight undesired undesired_strength upscaler weight width words""".split()
)
#: Keys that say nothing of the picture once a request is resolved: its choices are made, remarks are told beside it.
_NEVER = {"choices": True, "remarks": True}
#: A file of a model: its name in the folder, and what changes when it does.
State = tuple[str, int, int, int, int]


def digest(resolved: Resolved, model: str | None = None) -> str:
    """Return the digest of a request; LoRAs are in it by their own digests.

    Args:
        resolved: The request with nothing left open.
        model: The fingerprint of its model, where it is known already; None: the model's files are looked at.
    """
    request, known = resolved.request, resolved.spec.configs.scheduler
    silent = {**_silent(request), **_NEVER}
    if request.spacing == schedulers.spacing(request.scheduler or "", None, known):
        silent["spacing"] = True
    text = request.model_dump_json(exclude=silent) + (model or fingerprint(resolved.spec.path))
    return hashlib.sha256(text.encode()).hexdigest()


def fingerprint(model: Path) -> str:
    """Return the digest of a file, or of a folder's files and their names; read again when one of them has changed."""
    return _fingerprint(model, tuple(sorted(_states(model))))


@lru_cache(maxsize=64)
def _fingerprint(model: Path, states: tuple[State, ...]) -> str:
    found = hashlib.sha256()
    for name in sorted((model / state[0] if state[0] != "." else model) for state in states):
        found.update(name.relative_to(model).as_posix().encode())
        with files.opened(name) as content:
            for block in files.blocks(content, name):
                found.update(block)
    return found.hexdigest()


def _states(model: Path) -> Iterator[State]:
    if not model.is_dir():
        yield (".", *_state(os.stat(model)))
        return
    for folder, _, names in os.walk(model):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                yield (os.path.relpath(path, model), *_state(os.stat(path)))


def _state(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _silent(value: Frozen) -> dict[Any, Any]:
    """Return the later keys of a value that are as if they were not there, in pydantic's form for leaving out."""
    found: dict[Any, Any] = {}
    for name, field in type(value).model_fields.items():
        own = getattr(value, name)
        if name not in _FIRST and own == field.get_default(call_default_factory=True):
            found[name] = True
        elif isinstance(own, Frozen):
            found[name] = _silent(own)
        elif isinstance(own, tuple):
            found[name] = {place: _silent(item) for place, item in enumerate(own) if isinstance(item, Frozen)}
    return {name: inner for name, inner in found.items() if inner}
