"""A loaded model: text in, noise predictions and pictures out. The only file that knows diffusers' model classes.

Takes any folder of SD1.5's architecture in diffusers' layout. Base weights are read once and never written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, Protocol, cast

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.utils import logging as diffusers_log
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_log

from composer.errors import BadRequest
from lora_zoo.adapter import BaseLayer, Layout, ModelLayout
from pipelines import schedulers
from pipelines.attention import CrossAttention
from pipelines.bank import AdapterBank, Gate
from pipelines.errors import BadModel
from pipelines.features import DeepFeatures
from pipelines.specs import ModelSpec
from pipelines.store import AdapterStore

UNET = "unet"
TEXT_ENCODER = "text_encoder"
_STORE_BYTES = 2 << 30


class _Tokenizer(Protocol):
    model_max_length: int

    def __call__(self, text: str, **options: object) -> Mapping[str, list[int]]: ...
    def decode(self, token_ids: list[int], **options: object) -> str: ...


class _Decoder(Protocol):
    def decode(self, z: Tensor, return_dict: bool) -> tuple[Tensor]: ...


class _Config(Protocol):
    in_channels: int
    scaling_factor: float
    use_attention_mask: bool


@dataclass(frozen=True)
class Parts:
    """What a model is made of, as diffusers and transformers load it."""

    tokenizer: _Tokenizer
    text_encoder: nn.Module
    unet: nn.Module
    vae: nn.Module
    scheduler_config: Mapping[str, object]


@dataclass(frozen=True, eq=False)
class Encoded:
    """A text as the UNet reads it."""

    embeds: Tensor  # [1, tokens, width]
    cut: str  # the end of the text that did not fit, empty if all did


class LoadedModel:
    """One model in memory, with the adapters held for it and the lock that its users take."""

    def __init__(self, spec: ModelSpec, parts: Parts, device: torch.device, dtype: torch.dtype) -> None:
        self.spec = spec
        self.device = device
        self.dtype = dtype
        self.lock = Lock()
        self.store = AdapterStore(_STORE_BYTES)
        self._parts = parts
        for module in self._modules().values():
            module.to(device).eval().requires_grad_(False)
        shapes = {UNET: _layers(parts.unet), TEXT_ENCODER: _layers(parts.text_encoder)}
        self.layout: Layout = ModelLayout(shapes, self._base_layer)
        self.bank = AdapterBank(parts.unet, UNET, self.store)
        self.attention = CrossAttention(parts.unet)
        self.features = DeepFeatures(parts.unet)
        self._text_bank = AdapterBank(parts.text_encoder, TEXT_ENCODER, self.store)
        self._latent_channels = cast(_Config, parts.unet.config).in_channels
        self._scaling = cast(_Config, parts.vae.config).scaling_factor
        self._preview: Tensor | None = None

    @classmethod
    def load(
        cls, spec: ModelSpec, device: torch.device | None = None, dtype: torch.dtype = torch.float32
    ) -> LoadedModel:
        """Read a model folder; on a CUDA device if there is one and no other is asked for."""
        device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with torch.random.fork_rng(devices=[]), _quietly():  # loaders may draw noise before they read weights
            parts = _read(spec, dtype)
        return cls(spec, parts, device, dtype)

    @property
    def unet(self) -> nn.Module:
        """The UNet, for comparisons with other ways to run it."""
        return self._parts.unet

    @property
    def text_encoder(self) -> nn.Module:
        return self._parts.text_encoder

    def encode(self, text: str, gate: Gate) -> Encoded:
        """Encode a text as diffusers' own pipeline does, with the adapters of `gate` active in the text encoder.

        One text per call, so that what else is rendered never reaches an embedding.
        """
        tokenizer, limit = self._parts.tokenizer, self._parts.tokenizer.model_max_length
        tokens = tokenizer(text, padding="max_length", max_length=limit, truncation=True)
        everything = tokenizer(text, verbose=False)["input_ids"]
        ids = torch.tensor([tokens["input_ids"]], device=self.device)
        mask = None
        if getattr(self._parts.text_encoder.config, "use_attention_mask", False):
            mask = torch.tensor([tokens["attention_mask"]], device=self.device)
        with self._text_bank.gate([gate]):
            embeds = self._parts.text_encoder(ids, attention_mask=mask)[0]
        cut = tokenizer.decode(everything[limit - 1 : -1]) if len(everything) > limit else ""
        return Encoded(embeds.to(self.dtype), cut)

    def places(self, text: str, words: str) -> tuple[int, ...]:
        """Return the places among a text's tokens that hold these words, each time that they occur."""
        limit = self._parts.tokenizer.model_max_length
        read, wanted = (self._parts.tokenizer(one, verbose=False)["input_ids"] for one in (text, words))
        read, wanted = read[: limit - 1], wanted[1:-1]
        starts = [start for start in range(len(read)) if wanted and read[start : start + len(wanted)] == wanted]
        if not starts:
            raise BadRequest(f"the words '{words}' are not among those that the model reads of the prompt '{text}'")
        return tuple(start + place for start in starts for place in range(len(wanted)))

    def initial_noise(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Return unit noise [1, channels, h, w], the same that diffusers draws from this generator."""
        shape = (1, self._latent_channels, height, width)
        return torch.randn(shape, generator=generator, dtype=self.dtype).to(self.device)

    def new_solver(self, name: str, count: int, generator: torch.Generator) -> schedulers.Solver:
        """Return a scheduler of one request's own."""
        return schedulers.build(name, self._parts.scheduler_config, count, generator, self.device)

    def predict_noise(self, latents: Tensor, timesteps: Tensor, embeds: Tensor) -> Tensor:
        """Run the UNet on rows; what they share is only the call."""
        return self._parts.unet(latents, timesteps, encoder_hidden_states=embeds, return_dict=False)[0]

    def decode(self, latents: Tensor) -> Image.Image:
        """Return the picture of one row of latents, rounded as diffusers rounds it."""
        pixels = self._to_pixels(latents)[0].permute(1, 2, 0).mul(255).round().to("cpu", torch.uint8)
        return Image.fromarray(pixels.numpy())

    def preview(self, latents: Tensor) -> Image.Image:
        """Return a rough picture, one pixel per latent pixel, without the decoder.

        A linear map from latents to colours is fitted once to what the decoder makes of patches of one colour each.
        """
        if self._preview is None:
            self._preview = self._fit_preview()
        channels = latents[0].float().flatten(1).T / latents.float().std().clamp(min=1.0)
        ones = torch.ones_like(channels[:, :1])
        colours = (torch.cat([channels, ones], 1) @ self._preview).clamp(0, 1)
        height, width = latents.shape[-2:]
        pixels = colours.reshape(height, width, 3).mul(255).round().to("cpu", torch.uint8)
        return Image.fromarray(pixels.numpy())

    def parameter_digest(self) -> str:
        """Return the sha256 of every weight and buffer: equal before and after any rendering."""
        digest = hashlib.sha256()
        for part, module in self._modules().items():
            for name, tensor in module.state_dict().items():
                digest.update(f"{part}.{name}".encode())
                digest.update(tensor.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _base_layer(self, component: str, path: str) -> BaseLayer:
        """Show a layer to a LoRA file that states its changes relative to the weight it finds."""
        layer = cast(nn.Linear | nn.Conv2d, self._modules()[component].get_submodule(path))
        return BaseLayer(layer.weight, layer.bias)

    def _modules(self) -> dict[str, nn.Module]:
        parts = self._parts
        return {UNET: parts.unet, TEXT_ENCODER: parts.text_encoder, "vae": parts.vae}

    def _to_pixels(self, latents: Tensor) -> Tensor:
        decoded = cast(_Decoder, self._parts.vae).decode(latents / self._scaling, return_dict=False)[0]
        return (decoded / 2 + 0.5).clamp(0, 1).float()

    def _fit_preview(self) -> Tensor:
        """Return the [channels + 1, 3] map, by least squares over patches of random latents."""
        generator = torch.Generator("cpu").manual_seed(0)
        samples = torch.randn(64, self._latent_channels, generator=generator).to(self.device)
        patches = samples.to(self.dtype)[:, :, None, None].expand(-1, -1, 4, 4)
        colours = torch.stack([self._to_pixels(patch[None])[0].mean((1, 2)) for patch in patches])
        inputs = torch.cat([samples, torch.ones_like(samples[:, :1])], 1)
        return torch.linalg.lstsq(inputs, colours).solution


def _layers(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the layers that an adapter may change, and the shapes of their weights."""
    found = {path: part for path, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)}
    return {path: tuple(part.weight.shape) for path, part in found.items()}


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the libraries' progress bars and remarks on loading off the user's screen."""
    bars, level = transformers_log.is_progress_bar_enabled(), diffusers_log.get_verbosity()
    transformers_log.disable_progress_bar()
    diffusers_log.set_verbosity_error()
    try:
        yield
    finally:
        diffusers_log.set_verbosity(level)
        if bars:
            transformers_log.enable_progress_bar()


def _read(spec: ModelSpec, dtype: torch.dtype) -> Parts:
    """Load the parts of a folder, safetensors only, from this disk only."""
    folder = str(spec.folder)
    only: dict[str, Any] = {"use_safetensors": True, "local_files_only": True}
    try:
        vae_config = json.loads((spec.folder / "vae" / "config.json").read_text(encoding="utf-8"))
        tiny_vae = vae_config.get("_class_name") == "AutoencoderTiny"
        vae = AutoencoderTiny if tiny_vae else AutoencoderKL
        scheduler = json.loads((spec.folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
        return Parts(
            tokenizer=cast(_Tokenizer, CLIPTokenizer.from_pretrained(folder, subfolder="tokenizer")),
            text_encoder=CLIPTextModel.from_pretrained(folder, subfolder="text_encoder", dtype=dtype, **only),
            unet=UNet2DConditionModel.from_pretrained(folder, subfolder="unet", torch_dtype=dtype, **only),
            vae=vae.from_pretrained(folder, subfolder="vae", torch_dtype=dtype, **only),
            scheduler_config=scheduler,
        )
    except (OSError, ValueError) as error:
        raise BadModel(f"cannot load model '{spec.name}' from {folder}: {error}") from error
