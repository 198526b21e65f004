"""From a model's files to its parts in memory: a folder in diffusers' layout, or one file of the original layout.

Only safetensors are read, and only whole: a parameter that is missing, left over or of another shape is an error that
names it. diffusers and transformers would put noise in its place and go on.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import init_empty_weights
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.utils import logging as diffusers_log
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection
from transformers.utils import logging as transformers_log

from lora_zoo.errors import first_few
from lora_zoo.header import Header
from pipelines import clip_tokens, hub, original, single_file, tokenizer_files, weight_files
from pipelines.configs import Configs
from pipelines.errors import BadModel
from pipelines.original import Origin, Origins
from pipelines.single_file import Checkpoint
from pipelines.specs import ModelSpec
from pipelines.text import Tokenizer

#: Which files of weights are taken: those in full precision, else those in half.
_VARIANTS = ("", ".fp16")
#: How attention is computed, in a library's own word; a name with a slash would be fetched from the hub, as code.
_ATTENTION = "sdpa"
_OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_TEXT_MODELS = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}


@dataclass(frozen=True)
class Parts:
    """What a model is made of, as diffusers and transformers load it."""

    readers: Mapping[str, tuple[Tokenizer, nn.Module]]  # component -> tokenizer and text encoder; SDXL has two
    unet: nn.Module
    vae: nn.Module
    scheduler_config: Mapping[str, object]

    def modules(self) -> dict[str, nn.Module]:
        """Return the modules by component."""
        texts = {component: encoder for component, (_, encoder) in self.readers.items()}
        return {"unet": self.unet, **texts, "vae": self.vae}


def read(spec: ModelSpec, dtype: torch.dtype) -> Parts:
    """Read a model's parts into the machine's memory, in this type."""
    with torch.random.fork_rng(devices=[]), _quietly():  # loaders may draw noise before they read weights
        if spec.path.is_file():
            return _of_file(spec, dtype)
        return _of_folder(spec, hub.weights(spec.hub_id) if spec.hub_id else spec.path, dtype)


def _of_folder(spec: ModelSpec, folder: Path, dtype: torch.dtype) -> Parts:
    modules = empty(spec.configs)
    for component, module in modules.items():
        _fill(module, folder / component, component, dtype)
    readers = {component: (tokenizer(folder, component), modules[component]) for component in spec.configs.texts}
    return Parts(readers, modules["unet"], modules["vae"], spec.configs.scheduler)


def tokenizer(path: Path, component: str = "text_encoder") -> Tokenizer:
    """Return the tokenizer of a model's text encoder, the rest unread; `path` is its folder or file."""
    if path.is_file():
        return cast(Tokenizer, clip_tokens.tokenizer(component))
    return cast(Tokenizer, tokenizer_files.read(path / component.replace("text_encoder", "tokenizer")))


def _fill(module: nn.Module, folder: Path, component: str, dtype: torch.dtype) -> None:
    """Give a component its weights from a folder, and see that its files hold exactly what it needs.

    The libraries' own loaders are not used: they take kernels, code and formats from where a configuration says.
    """
    heads = weight_files.heads(weight_files.find(folder, weight_files.STEMS[component], _VARIANTS))
    wanted = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    places: dict[str, tuple[Header, str]] = {}
    left: list[str] = []
    for head in heads.values():
        for key in head.tensors:
            name = _name(key, wanted)
            if name is None or name in places:
                left.append(key)
            else:
                places[name] = (head, key)
    first = next(iter(heads)).name
    missing = [name for name in wanted if name not in places]
    if missing:
        raise BadModel(f"{folder}: missing keys in {first}: {first_few(missing)}")
    shapes = {name: head.tensors[key].shape for name, (head, key) in places.items()}
    wrong = [
        f"{name} is {list(shapes[name])}, not {list(shape)}"
        for name, shape in wanted.items()
        if not _fits(shapes[name], shape)
    ]
    if wrong:
        raise BadModel(f"{folder}: mismatched keys in {first}: {first_few(wrong)}")
    if left and not component.startswith("text_encoder"):  # whole CLIPs are in use as text encoders
        raise BadModel(f"{folder}: unexpected keys in {first}: {first_few(left)}")
    loaded: dict[str, Tensor] = {}
    for head in heads.values():
        with weight_files.tensors(head) as file:
            own = {name: key for name, (of, key) in places.items() if of is head}
            loaded |= {
                name: file.get_tensor(key).reshape(wanted[name]).to(dtype, copy=True) for name, key in own.items()
            }
    module.load_state_dict(loaded, assign=True)
    module.eval()


def _name(key: str, wanted: Mapping[str, object]) -> str | None:
    """Return the parameter that a key of a folder's file means: files are of several ages of the libraries."""
    spellings = (key, f"text_model.{key}", key.removeprefix("text_model."), _of_old_attention(key))
    return next((name for name in spellings if name in wanted), None)


def _of_old_attention(key: str) -> str:
    """Return how diffusers calls what it called otherwise in a VAE's attention, until its version 0.18."""
    *head, last, kind = key.split(".") if key.count(".") else ("", key)
    return ".".join((*head, _OLD_ATTENTION.get(last, last), kind))


def _fits(stored: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Tell whether a tensor is of a shape; the projections of old VAEs are stored as 1 x 1 convolutions."""
    return stored[: len(wanted)] == wanted and set(stored[len(wanted) :]) <= {1}


def _of_file(spec: ModelSpec, dtype: torch.dtype) -> Parts:
    found = single_file.read(spec.path)
    modules = empty(spec.configs)
    origins = {component: origins_of(found, component, module) for component, module in modules.items()}
    check(found, modules, origins)
    with weight_files.tensors(found.head) as file:
        for component, module in modules.items():
            tensors = {
                name: _tensor(file, origin, module.get_parameter(name).shape)
                .contiguous()
                .to(dtype, copy=True)  # what is read is a view of the file, which may change under a running model
                for name, origin in origins[component].items()
            }
            module.load_state_dict(tensors, assign=True)
    readers = {component: (tokenizer(spec.path, component), modules[component]) for component in spec.configs.texts}
    return Parts(readers, modules["unet"], modules["vae"], spec.configs.scheduler)


def empty(configs: Configs) -> dict[str, nn.Module]:
    """Return a model's modules without weights."""
    vae = AutoencoderTiny if configs.vae.get("_class_name") == "AutoencoderTiny" else AutoencoderKL
    modules = {"unet": _built(UNet2DConditionModel, "unet", configs.unet), "vae": _built(vae, "vae", configs.vae)}
    for component, config in configs.texts.items():
        modules[component] = _built(_TEXT_MODELS[component], component, {**config, "attn_implementation": _ATTENTION})
    return modules


def _built(cls: Any, component: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a module of a configuration; fields that its class has not are of other versions of the libraries."""
    try:
        with init_empty_weights(include_buffers=False):
            if cls in _TEXT_MODELS.values():
                return cast(nn.Module, cls(CLIPTextConfig(**config)))
            known = inspect.signature(cls.__init__).parameters
            return cast(nn.Module, cls(**{name: value for name, value in config.items() if name in known}))
    except Exception as error:  # libraries have errors of their own
        raise BadModel(
            f"the configuration of the {component} makes no model: {type(error).__name__}: {error}"
        ) from error


def origins_of(found: Checkpoint, component: str, module: nn.Module) -> Origins:
    """Return where a file holds the parameters of one of its model's modules."""
    names = [name for name, _ in module.named_parameters()]
    if component == "unet":
        return original.of_unet(names)
    if component == "vae":
        return original.of_vae(names)
    prefix = found.text_prefixes[component]
    return (original.of_open_clip if component == "text_encoder_2" else original.of_clip)(names, prefix)


def check(found: Checkpoint, modules: Mapping[str, nn.Module], origins: Mapping[str, Origins]) -> None:
    """See that a file holds every parameter in its shape, and no component's key beside them."""
    path, tensors = found.head.path, found.head.tensors
    wanted = {
        origin.key: origin.stated(tuple(modules[component].get_parameter(name).shape))
        for component, by_name in origins.items()
        for name, origin in by_name.items()
    }
    missing = [key for key in wanted if key not in tensors]
    if missing:
        raise BadModel(f"{path}: the checkpoint lacks {first_few(missing)}")
    wrong = [
        f"{key} is {list(tensors[key].shape)}, not {list(shape)}"
        for key, shape in wanted.items()
        if tensors[key].shape[: len(shape)] != shape or set(tensors[key].shape[len(shape) :]) - {1}
    ]
    if wrong:
        raise BadModel(f"{path}: tensors of other shapes than their neighbours': {first_few(wrong)}")
    rest = single_file.unaccounted(found, wanted)
    if rest:
        raise BadModel(f"{path}: keys that belong to no part of the model: {first_few(rest)}")


def _tensor(file: Any, origin: Origin, shape: torch.Size) -> Tensor:
    if origin.third is not None:
        start = origin.third * shape[0]
        return file.get_slice(origin.key)[start : start + shape[0]]
    tensor: Tensor = file.get_tensor(origin.key)
    return tensor.mT if origin.transposed else tensor.reshape(shape)  # attention of old VAEs is a 1 x 1 convolution


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the libraries' progress bars and remarks on loading off the user's screen."""
    bars = transformers_log.is_progress_bar_enabled()
    levels = [(log, log.get_verbosity()) for log in (transformers_log, diffusers_log)]
    transformers_log.disable_progress_bar()
    for log, _ in levels:
        log.set_verbosity_error()
    try:
        yield
    finally:
        for log, level in levels:
            log.set_verbosity(level)
        if bars:
            transformers_log.enable_progress_bar()
