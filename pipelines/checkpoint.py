"""A merge as a model: a folder in diffusers' layout whose weights have the LoRAs in them, for any tool without LoRAs.

The base model's files are copied one by one and only what LoRAs change differs: w + delta, summed in float32 and stored
in the type that the base has it in. The model is never loaded. The folder appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from composer.errors import BadRequest
from lora_zoo.foreign import files
from pipelines import cards, configs, layout, merges
from pipelines.engine import Engine
from pipelines.errors import BadModel
from pipelines.layout import Place
from pipelines.merges import Merged, MergeOrder
from pipelines.progress import Watch, unwatched

if TYPE_CHECKING:
    from lora_zoo.adapter import Delta

_INDEX = "model_index.json"
_WEIGHTS = {".safetensors", ".bin", ".ckpt", ".pt", ".pth", ".msgpack", ".h5", ".onnx", ".pb"}
_LOADED = re.compile(r"(model|diffusion_pytorch_model)(-\d+-of-\d+)?\.safetensors")


@dataclass(frozen=True)
class Written:
    """A model folder that was written."""

    path: Path
    layers: int  # that differ from the base's
    measured: Mapping[str, float]  # by a fit


def export(engine: Engine, order: MergeOrder, out: Path, watch: Watch = unwatched) -> Written:
    """Merge LoRAs into their base model and write it; mistakes are found before any work."""
    if out.exists():
        raise BadRequest(f"--into-checkpoint {out}: there is something of this name already; choose another")
    checked = merges.check(engine, order)
    if order.rank is not None and "rank" not in checked.order.request.parameters:
        raise BadRequest(
            f"--rank {order.rank}: '{order.request.method}' has no rank of its own, and a model's weights need none; "
            "leave it out"
        )
    if order.dtype is not None:
        raise BadRequest(
            f"--stored-dtype {order.dtype}: a model's weights stay in the type that the base has them in; leave it out"
        )
    parts = _parts(layout.folder_of(checked.resolved.spec))
    made = merges.make(engine, checked, watch)
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".partial", dir=out.parent))
    try:
        _fill(partial, made, parts, out.name)
        os.chmod(partial, 0o755)  # mkdtemp's folders are private
        os.rename(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Written(out, made.changed, made.measured)


def _fill(folder: Path, made: Merged, parts: tuple[str, ...], title: str) -> None:
    base = layout.folder_of(made.resolved.spec)
    shutil.copyfile(base / _INDEX, folder / _INDEX)
    for part in parts:
        (folder / part).mkdir()
        for file in _copied(base / part):
            shutil.copyfile(file, folder / part / file.name)
    vectors = layout.vector_places(base)
    for component, places in layout.places(base).items():
        changes = _changes(made, component, places, vectors[component])
        for file in layout.files_of(base, component):
            _merge_file(file, folder / component / file.name, made, changes)
    card = cards.of_checkpoint(made, title)
    (folder / "README.md").write_text(card.text, encoding="utf-8")
    (folder / "medley.json").write_text(json.dumps(card.recipe, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _parts(folder: Path) -> tuple[str, ...]:
    """Return the sub-folders that a model's index names."""
    try:
        stated = configs.read_json(folder / _INDEX)
    except BadModel as error:
        raise BadModel(f"cannot read {folder / _INDEX}, which a whole model has: {error}") from error
    named = [name for name, what in stated.items() if isinstance(what, list) and what and what[0] is not None]
    if strange := [name for name in named if name != Path(name).name or name in (".", "..")]:
        raise BadModel(f"{folder / _INDEX} names {strange[0][:80]!r}, which is no folder of the model's")
    missing = [name for name in named if not (folder / name).is_dir()]
    if missing:
        raise BadModel(f"{folder} lacks {', '.join(missing)}, which its {_INDEX} names")
    return tuple(named)


def _copied(folder: Path) -> list[Path]:
    """Return a part's files, its weights in one format and variant only: what loads by default."""
    found = [file for file in sorted(folder.iterdir()) if file.is_file()]
    for file in found:
        files.check_place(file, folder, BadModel)  # what a link leads to may be no part of the model
    if not any(_LOADED.fullmatch(file.name) for file in found):
        return found
    return [file for file in found if file.suffix not in _WEIGHTS or _LOADED.fullmatch(file.name)]


def _changes(
    made: Merged, component: str, layers: Mapping[str, Place], vectors: Mapping[str, Place]
) -> dict[Place, Delta]:
    """Return what changes in one component, by where it is stored."""
    from lora_zoo.adapter import DenseDelta

    found: dict[Place, Delta] = {layers[path]: delta for path, delta in made.adapter.component(component).items()}
    changes = made.adapter.vectors.get(component, {})
    return {**found, **{vectors[path]: DenseDelta(change) for path, change in changes.items()}}


def _merge_file(source: Path, target: Path, made: Merged, changes: Mapping[Place, Delta]) -> None:
    """Write one file of weights again, with what changes in it; every other tensor is as it was."""
    import safetensors.torch
    import torch

    from lora_zoo.header import CHECKPOINT, of_weights

    tensors = safetensors.torch.load(files.read(source, CHECKPOINT.max_file, source.parent))
    for place, delta in changes.items():
        if place.file != source:
            continue
        base = tensors[place.key]
        merged = (base.float() + delta.dense().reshape(base.shape)).to(base.dtype)
        if not torch.isfinite(merged).all():
            raise BadRequest(f"the weights of {place.key} leave the range of {base.dtype}; lower the LoRAs'")
        tensors[place.key] = merged
    stated = {"format": "pt", **of_weights(source, CHECKPOINT).metadata, **made.adapter.metadata}
    safetensors.torch.save_file(tensors, target, stated)
