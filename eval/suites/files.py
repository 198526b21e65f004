"""YAML and JSON files that users write for suites, read into checked models; what is wrong is told in one error."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from composer.request import Frozen, explain
from eval.errors import BadSuite
from lora_zoo.foreign import documents
from lora_zoo.foreign import files as foreign
from lora_zoo.foreign.documents import Bounds
from pipelines.cli_flags import existing

_MOST_BYTES = 16 << 20
_MOST_VALUES = 1_000_000
_M = TypeVar("_M", bound=Frozen)


def read(kind: type[_M], path: Path) -> _M:
    """Return what a file holds, as this model.

    Raises:
        BadRequest: There is no such file.
        BadSuite: It is no regular file, too large, not plain YAML, or does not hold what it should.
    """
    there = path if os.path.lexists(path) else existing(path)  # which names the nearest file for one that is missing
    text = foreign.read_text(there, _MOST_BYTES, error=BadSuite)
    where = foreign.shown(path)
    content = documents.yaml_value(text, where, Bounds(length=_MOST_BYTES, nodes=_MOST_VALUES), BadSuite)
    if not isinstance(content, dict):
        raise BadSuite(f"{where} holds {_kind(content)}, not keys with values: {', '.join(kind.model_fields)}")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise BadSuite(f"{where}: {explain(error, tuple(kind.model_fields))}") from error


def beside(path: Path, name: str) -> str:
    """Return a LoRA or model that a file names; a relative path starts from the file's own folder."""
    try:
        candidate = path.parent / Path(name).expanduser()
        return str(candidate.resolve()) if candidate.exists() else name
    except (OSError, RuntimeError, ValueError) as error:  # links in a circle, ~nobody, names that no file can have
        raise BadSuite(f"{foreign.shown(path)}: {name!r} names nothing that can be looked for ({error})") from error


def _kind(content: object) -> str:
    return "nothing" if content is None else "a list" if isinstance(content, list) else f"one value, {content!r:.50}"
