"""From a model's files to its parts in memory: a folder in diffusers' layout, or one file of the original layout.

Only safetensors are read, and only whole: a parameter that is missing, left over or of another shape is an error that
names it. diffusers and transformers would put noise in its place and go on.
"""

from __future__ import annotations

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
from safetensors import safe_open
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer
from transformers.utils import logging as transformers_log

from lora_zoo import header
from lora_zoo.errors import first_few
from pipelines import clip_tokens, hub, original, single_file
from pipelines.configs import Configs
from pipelines.errors import BadModel
from pipelines.original import Origin, Origins
from pipelines.single_file import Checkpoint
from pipelines.specs import ModelSpec
from pipelines.text import Tokenizer

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
    vae = AutoencoderTiny if spec.configs.vae.get("_class_name") == "AutoencoderTiny" else AutoencoderKL
    parts: dict[str, Any] = {"unet": UNet2DConditionModel, "vae": vae}
    parts |= {component: _TEXT_MODELS[component] for component in spec.configs.texts}
    loaded = {component: _component(spec, folder / component, cls, dtype) for component, cls in parts.items()}
    readers = {component: (tokenizer(folder, component), loaded[component]) for component in spec.configs.texts}
    return Parts(readers, loaded["unet"], loaded["vae"], spec.configs.scheduler)


def tokenizer(path: Path, component: str = "text_encoder") -> Tokenizer:
    """Return the tokenizer of a model's text encoder, the rest unread; `path` is its folder or file."""
    if path.is_file():
        return cast(Tokenizer, clip_tokens.tokenizer(component))
    folder = path / component.replace("text_encoder", "tokenizer")
    try:
        return cast(Tokenizer, CLIPTokenizer.from_pretrained(str(folder)))
    except (OSError, ValueError) as error:
        raise BadModel(f"cannot load the model in {path}: its tokenizer: {error}") from error


def _component(spec: ModelSpec, folder: Path, cls: Any, dtype: torch.dtype) -> nn.Module:
    """Load one component of a folder with its own library, and see that its files held exactly what it needs."""
    options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    options["dtype" if folder.name in spec.configs.texts else "torch_dtype"] = dtype  # transformers' word, diffusers'
    files = _sound_files(spec, folder)
    if all(".fp16." in file.name for file in files):
        options["variant"] = "fp16"
    try:
        module, report = cls.from_pretrained(str(folder), **options)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise BadModel(f"cannot load model '{spec.name}' from {folder}: {error}") from error
    for what in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        keys = [one if isinstance(one, str) else " ".join(map(str, one)) for one in sorted(report[what], key=str)]
        if keys and not (what == "unexpected_keys" and folder.name in spec.configs.texts):
            raise BadModel(f"{folder}: {what.replace('_', ' ')} in {files[0].name}: {first_few(keys)}")
    return module


def _sound_files(spec: ModelSpec, folder: Path) -> list[Path]:
    """Return a component's files of weights, each with a sound head."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        others = [file.name for file in sorted(folder.glob("*")) if file.suffix in (".bin", ".ckpt", ".pt", ".pth")]
        hint = f"; {first_few(others)} may be a pickle, which can run code and is not opened" if others else ""
        raise BadModel(f"cannot load model '{spec.name}': {folder} holds no .safetensors weights{hint}")
    for path in files:
        with path.open("rb") as file:
            header.parse(file, path.stat().st_size, path, header.CHECKPOINT)
    return files


def _of_file(spec: ModelSpec, dtype: torch.dtype) -> Parts:
    found = single_file.read(spec.path)
    modules = empty(spec.configs)
    origins = {component: origins_of(found, component, module) for component, module in modules.items()}
    check(found, modules, origins)
    with safe_open(str(spec.path), framework="pt") as file:
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
    with init_empty_weights(include_buffers=False):
        modules: dict[str, nn.Module] = {
            "unet": UNet2DConditionModel(**configs.unet),
            "vae": AutoencoderKL(**configs.vae),
        }
        for component, config in configs.texts.items():
            modules[component] = _TEXT_MODELS[component](CLIPTextConfig(**config))
    return modules


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
