"""YAML and JSON files that users write for suites, read into checked models; what is wrong is told in one error."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import ValidationError

from composer.request import Frozen, explain
from eval.errors import BadSuite
from pipelines.cli_flags import existing

_MOST_BYTES = 16 << 20
_M = TypeVar("_M", bound=Frozen)


def read(kind: type[_M], path: Path) -> _M:
    """Return what a file holds, as this model."""
    if existing(path).stat().st_size > _MOST_BYTES:
        raise BadSuite(f"{path} is larger than {_MOST_BYTES >> 20} MB")
    try:
        content = yaml.safe_load(path.read_text("utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSuite(f"{path} is not YAML: {error}") from error
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise BadSuite(f"{path}: {explain(error, tuple(kind.model_fields))}") from error


def beside(path: Path, name: str) -> str:
    """Return a LoRA or model that a file names; a relative path starts from the file's own folder."""
    candidate = path.parent / Path(name).expanduser()
    return str(candidate.resolve()) if candidate.exists() else name
