"""A model's layers as the heads of its files tell them: enough to read LoRAs and merge them, with no model loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lora_zoo.header import header
from pipelines import hub
from pipelines.errors import BadModel

if TYPE_CHECKING:
    from lora_zoo.adapter import BaseLayer, ModelLayout
    from pipelines.specs import ModelSpec

#: Component -> how diffusers and transformers call its weights.
STEMS = {"unet": "diffusion_pytorch_model", "text_encoder": "model", "text_encoder_2": "model"}

#: Component -> what begins its keys in files, but not in memory, as transformers 5 has it.
_DROPPED = {"text_encoder": "text_model."}
_NO_LAYER = "embedding.weight"  # ends the names of tables, whose weights have two dimensions as linear layers' do


@dataclass(frozen=True)
class Place:
    """Where a parameter is stored."""

    file: Path
    key: str
    shape: tuple[int, ...]


Places = Mapping[str, Mapping[str, Place]]  # component -> path of a layer, or of a parameter of one dimension -> place


def weight_files(folder: Path, component: str) -> tuple[Path, ...]:
    """Return a component's safetensors: one file, or the shards that its index names."""
    home, stem = folder / component, f"{STEMS[component]}.safetensors"
    index = home / f"{stem}.index.json"
    if not index.is_file():
        if not (home / stem).is_file():
            raise BadModel(f"{home} has no {stem}; weights in other formats or variants are not read")
        return (home / stem,)
    try:
        listed = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        return tuple(home / name for name in sorted(set(listed)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadModel(f"{index} is not an index of weights: {error!r}") from error


def folder_of(spec: ModelSpec) -> Path:
    """Return the folder that holds a model's weights; a model in one file has none."""
    if spec.path.is_file():
        raise BadModel(f"{spec.path} is one file; what is merged into weights reads a folder in diffusers' layout")
    return hub.weights(spec.hub_id) if spec.hub_id else spec.path


def places(folder: Path) -> Places:
    """Return where the weights of all adaptable layers are: the linear ones and the convolutions."""
    return {
        component: {path.removesuffix(".weight"): place for path, place in all_of_it.items() if _is_layer(path, place)}
        for component, all_of_it in _parameters(folder).items()
    }


def vector_places(folder: Path) -> Places:
    """Return where the parameters of one dimension are: biases, and all of normalisation layers."""
    return {
        component: {path: place for path, place in all_of_it.items() if len(place.shape) == 1}
        for component, all_of_it in _parameters(folder).items()
    }


def read(folder: Path) -> ModelLayout:
    """Return the layout that the model would have in memory; layers are read from the disk when asked for."""
    from lora_zoo.adapter import ModelLayout

    found = places(folder)

    def base(component: str, path: str) -> BaseLayer:
        return _layer(found[component][path])

    return ModelLayout(_shapes(found), base, _shapes(vector_places(folder)))


def _shapes(found: Places) -> dict[str, dict[str, tuple[int, ...]]]:
    return {c: {path: place.shape for path, place in paths.items()} for c, paths in found.items()}


def _is_layer(path: str, place: Place) -> bool:
    return path.endswith(".weight") and not path.endswith(_NO_LAYER) and len(place.shape) in (2, 4)


def _parameters(folder: Path) -> Places:
    """Return where all of a model is, by the paths that parameters have in memory."""
    return {
        component: {
            key.removeprefix(_DROPPED.get(component, "")): Place(file, key, info.shape)
            for file in weight_files(folder, component)
            for key, info in header(file).tensors.items()
        }
        for component in STEMS
        if (folder / component).is_dir()
    }


def _layer(place: Place) -> BaseLayer:
    from safetensors import safe_open

    from lora_zoo.adapter import BaseLayer

    bias = f"{place.key.removesuffix('weight')}bias"
    with safe_open(place.file, framework="pt") as file:
        stored = bias if bias in file.keys() else None
        return BaseLayer(
            file.get_tensor(place.key).float(), None if stored is None else file.get_tensor(stored).float()
        )
