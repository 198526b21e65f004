"""The hashes and numbers that go into a picture, by which other tools and sites find the files behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lora_zoo.hashes import autov2, autov3
from pipelines.sources import AdapterInfo


@dataclass(frozen=True)
class FileHashes:
    """Hashes of the files behind a picture, as they are written into it."""

    model: str | None = None  # AutoV2; None: the model is a folder, which has no hash that others know
    adapters: Mapping[str, str] = field(default_factory=dict)  # name in the request -> AutoV3
    versions: Mapping[str, int] = field(default_factory=dict)  # name in the request -> CivitAI's number


def of_files(model: Path, infos: Mapping[str, AdapterInfo]) -> FileHashes:
    """Return what a model, if it is a single file, and LoRAs, if they have files, are known by."""
    adapters = {name: info.file for name, info in infos.items()}
    known = {name: autov3(path) for name, path in adapters.items() if path is not None}
    return FileHashes(
        model=autov2(model) if model.is_file() else None,
        adapters={name: digest for name, digest in known.items() if digest is not None},
        versions={name: one.civitai_version for name, one in infos.items() if one.civitai_version is not None},
    )
