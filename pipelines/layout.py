"""A model's layers as the heads of its files tell them: enough to read LoRAs and merge them, with no model loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines import hub, weight_files
from pipelines.errors import BadModel

if TYPE_CHECKING:
    from lora_zoo.adapter import BaseLayer, ModelLayout
    from pipelines.specs import ModelSpec

#: Components that have adaptable layers.
_ADAPTABLE = ("unet", "text_encoder", "text_encoder_2")

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


def files_of(folder: Path, component: str) -> tuple[Path, ...]:
    """Return a component's safetensors: one file, or the shards that its index names."""
    return weight_files.find(folder / component, weight_files.STEMS[component])


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
            for file, head in weight_files.heads(files_of(folder, component)).items()
            for key, info in head.tensors.items()
        }
        for component in _ADAPTABLE
        if (folder / component).is_dir()
    }


def _layer(place: Place) -> BaseLayer:
    from lora_zoo.adapter import BaseLayer

    head = weight_files.heads([place.file])[place.file]
    bias = f"{place.key.removesuffix('weight')}bias"
    with weight_files.tensors(head) as file:
        stored = file.get_tensor(bias).float() if bias in head.tensors else None
        return BaseLayer(file.get_tensor(place.key).float(), stored)
