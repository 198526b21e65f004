"""A loaded model: text in, noise predictions and pictures out. What it is made of, `loading` reads.

Takes SD1.5's architecture and SDXL's. Base weights are read once and never written.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from threading import RLock
from typing import Any, Protocol, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from composer.errors import BadRequest
from lora_zoo.adapter import BaseLayer, Layout, ModelLayout
from pipelines import loading, memory, schedulers, sdxl
from pipelines.attention import AttentionLayers
from pipelines.bank import AdapterBank, Gate
from pipelines.devices import Placement, at_hand, check, pick_dtype, use_attention
from pipelines.features import DeepFeatures
from pipelines.loading import Parts
from pipelines.room import Tiled, in_tiles_if_need_be
from pipelines.runtime import Runtime
from pipelines.specs import ModelSpec
from pipelines.store import AdapterStore
from pipelines.text import NO_WORDS, Encoded, TextReader, Vocabulary
from pipelines.vectors import vector_parameters

UNET = "unet"
VAE = "vae"
_STORED = (256 << 20, 2 << 30)  # bytes of LoRAs and of merges in memory: as many as the model has, within these


class _Vae(Tiled, Protocol):
    dtype: torch.dtype

    def decode(self, z: Tensor, return_dict: bool) -> tuple[Tensor]: ...
    def encode(self, x: Tensor) -> Any: ...
    def enable_tiling(self) -> None: ...


class _Config(Protocol):
    in_channels: int
    scaling_factor: float


@dataclass(frozen=True, eq=False)
class Decoded:
    """A picture, and what its decoding took that the user should know."""

    image: Image.Image
    notice: str = ""


class LoadedModel:
    """One model in memory, with the adapters held for it and the lock that its users take."""

    def __init__(
        self, spec: ModelSpec, parts: Parts, device: torch.device, dtype: torch.dtype, runtime: Runtime
    ) -> None:
        self.spec = spec
        self.device = device
        self.dtype = dtype
        self.lock = RLock()  # a fit holds it over all the pictures that it draws
        self.store = AdapterStore(min(max(_bytes(parts), _STORED[0]), _STORED[1]))
        self._parts = parts
        for module in parts.modules().values():
            module.eval().requires_grad_(False)
        if dtype == torch.float16 and getattr(parts.vae.config, "force_upcast", False):
            parts.vae.float()  # it states that it overflows in half precision
        self._placement = Placement(parts.modules(), device, runtime.offload == "parts")
        use_attention(parts.unet, runtime.attention)
        self._vae = cast(_Vae, parts.vae)
        if hasattr(parts.vae, "spatial_scale_factor"):
            cast(Any, parts.vae).spatial_scale_factor = spec.latent_factor  # of tiles; diffusers takes it for 8
        if runtime.vae_tiling:
            self._vae.enable_tiling()
        adapted = {name: module for name, module in parts.modules().items() if name != VAE}
        self.layout: Layout = ModelLayout(
            {name: _layers(one) for name, one in adapted.items()},
            self._base_layer,
            {name: {path: p.shape for path, p in vector_parameters(one).items()} for name, one in adapted.items()},
        )
        self.bank = AdapterBank(parts.unet, UNET, self.store)
        self.attention = AttentionLayers(parts.unet)
        self.features = DeepFeatures(parts.unet)
        self._readers = [TextReader(name, *reader, self.store) for name, reader in parts.readers.items()]
        self._latent_channels = cast(_Config, parts.unet.config).in_channels
        self._scaling = cast(_Config, parts.vae.config).scaling_factor
        self._preview: Tensor | None = None

    @classmethod
    def load(cls, spec: ModelSpec, device: torch.device | None = None, runtime: Runtime | None = None) -> LoadedModel:
        """Read a model's files; onto a CUDA device if there is one and no other is asked for."""
        runtime = runtime or Runtime()
        device = device or at_hand()
        check(runtime, device)
        if device.type == "cpu":
            memory.keep_freed()
        dtype = pick_dtype(runtime.dtype, device)
        return cls(spec, loading.read(spec, dtype), device, dtype, runtime)

    @property
    def unet(self) -> nn.Module:
        """The UNet, for comparisons with other ways to run it."""
        return self._parts.unet

    @property
    def text_encoder(self) -> nn.Module:
        return self._readers[0].encoder

    def modules(self) -> dict[str, nn.Module]:
        """All components, by their names in a LoRA file's layout."""
        return self._parts.modules()

    def component(self, name: str) -> nn.Module:
        """A component by its name in a LoRA file's layout."""
        return self.modules()[name]

    def bring(self, *components: str) -> None:
        """See that these components are where they can compute, before a gate is opened on them."""
        self._placement.bring(components)

    def spare(self) -> None:
        """Let go of what only saves time, so that the device has room."""
        self.bank.forget()
        for reader in self._readers:
            reader.forget()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def chunk_length(self) -> int:
        """The number of tokens that the text encoders read at once, less the marks that begin and end them."""
        return self._readers[0].chunk_length

    def tokens(self, text: str, more: Vocabulary = NO_WORDS) -> list[int]:
        """Return the tokens of a text, without marks; SDXL's two encoders have one vocabulary, beside `more` words."""
        reader = self._readers[0]
        parts = more.parts(text)
        return [token for part, word in parts for token in (more.numbers(word) if word else reader.tokens(part))]

    def words(self, tokens: Sequence[int], more: Vocabulary = NO_WORDS) -> str:
        """Return the text that tokens stand for."""
        runs = groupby(tokens, lambda token: token < 0)
        said = (map(more.word, run) if beyond else [self._readers[0].words(list(run))] for beyond, run in runs)
        return " ".join(text for part in said for text in part if text)

    def encode(self, prompt: str, gate: Gate, more: Vocabulary = NO_WORDS) -> Encoded:
        """Encode a text as diffusers' own pipelines do, cut where the text encoders stop reading."""
        tokens = self.tokens(prompt, more)
        found = self.encode_tokens(tokens[: self.chunk_length], gate, more)
        return replace(found, cut=self.words(tokens[self.chunk_length :], more))

    def encode_tokens(self, tokens: Sequence[int], gate: Gate, more: Vocabulary = NO_WORDS) -> Encoded:
        """Encode at most `chunk_length` tokens with the adapters of `gate` active in the text encoders.

        One text per call, so that what else is rendered never reaches an embedding.
        """
        self.bring(*self._parts.readers)
        states = [reader.read(tokens, gate, more) for reader in self._readers]
        if self.spec.configs.sdxl:
            return sdxl.encoded(states, len(tokens))
        return Encoded(states[0].first, len(tokens))

    def initial_noise(self, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Return unit noise [1, channels, h, w], the same that diffusers draws from this generator."""
        shape = (1, self._latent_channels, height, width)
        return torch.randn(shape, generator=generator, dtype=self.dtype).to(self.device)

    def encode_image(self, image: Image.Image, generator: torch.Generator) -> Tensor:
        """Return a picture's latents [1, channels, h, w], drawn from the autoencoder's posterior if it has one."""
        self.bring(VAE)
        pixels = torch.from_numpy(np.array(image.convert("RGB"), dtype=np.float32) / 255.0).permute(2, 0, 1)[None]
        found = self._vae.encode((pixels * 2.0 - 1.0).to(self.device, self._vae.dtype))
        posterior = getattr(found, "latent_dist", None)
        latents = found.latents if posterior is None else posterior.sample(generator)
        if not latents.isfinite().all() and self._vae.dtype != torch.float32:
            raise BadRequest("the autoencoder overflows on this picture in half precision; use --dtype float32")
        return (latents * self._scaling).to(self.dtype)

    def new_solver(
        self,
        name: str,
        count: int,
        generator: torch.Generator,
        stated: Mapping[str, str] | None = None,
        skipped: int = 0,
    ) -> schedulers.Solver:
        """Return a scheduler of one request's own, as files say but for what is `stated`, from step `skipped` on."""
        config = {**self._parts.scheduler_config, **(stated or {})}
        return schedulers.build(name, config, schedulers.Span(count, skipped), generator, self.device)

    def predict_noise(
        self, latents: Tensor, timesteps: Tensor, embeds: Tensor, added: Mapping[str, Tensor] | None = None
    ) -> Tensor:
        """Run the UNet on rows; what they share is only the call. SDXL's needs `added`, from `sdxl.added`."""
        return self._parts.unet(
            latents, timesteps, encoder_hidden_states=embeds, added_cond_kwargs=added, return_dict=False
        )[0]

    def decode(self, latents: Tensor) -> Decoded:
        """Return the picture of one row of latents, rounded as diffusers rounds it.

        Where half precision overflows, a copy of the decoder in single precision takes its place; where memory runs
        out, it works in tiles.
        """
        self.bring(VAE)
        decoded, tiled = self._decoded(latents, self._vae)
        told = [tiled]
        if not decoded.isfinite().all() and self._vae.dtype != torch.float32:
            rescue = cast(_Vae, copy.deepcopy(self._parts.vae).float())
            decoded, tiled = self._decoded(latents, rescue)
            overflow = f"the decoder overflowed in {str(self.dtype).removeprefix('torch.')}; it was run in float32"
            told = [overflow, tiled]
        if not decoded.isfinite().all():
            told = ["the picture holds what is no number, shown black: a LoRA's weight or the guidance is too strong"]
            decoded = decoded.nan_to_num(-1.0, -1.0, -1.0)
        pixels = _to_pixels(decoded)[0].permute(1, 2, 0).mul(255).round().to("cpu", torch.uint8)
        return Decoded(Image.fromarray(pixels.numpy()), "; ".join(filter(None, told)))

    def preview(self, latents: Tensor) -> Image.Image:
        """Return a rough picture, one pixel per latent pixel, without the decoder.

        A linear map from latents to colours is fitted once to what the decoder makes of patches of one colour each.
        """
        if self._preview is None:
            self.bring(VAE)
            self._preview = self._fit_preview()
        channels = latents[0].float().flatten(1).T / latents.float().std().clamp(min=1.0)
        ones = torch.ones_like(channels[:, :1])
        colours = (torch.cat([channels, ones], 1) @ self._preview).clamp(0, 1)
        height, width = latents.shape[-2:]
        pixels = colours.reshape(height, width, 3).mul(255).round().to("cpu", torch.uint8)
        return Image.fromarray(pixels.numpy())

    def forget(self) -> None:
        """Let go of all that was made of the LoRAs held, so that the next picture takes what a first one takes."""
        self.store.forget()
        self.bank.forget()
        for reader in self._readers:
            reader.forget()

    def parameter_digest(self) -> str:
        """Return the sha256 of every weight and buffer: equal before and after any rendering."""
        digest = hashlib.sha256()
        for part, module in self._parts.modules().items():
            for name, tensor in module.state_dict().items():
                digest.update(f"{part}.{name}".encode())
                digest.update(tensor.detach().to("cpu").contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _base_layer(self, component: str, path: str) -> BaseLayer:
        """Show a layer to a LoRA file that states its changes relative to the weight it finds."""
        layer = cast(nn.Linear | nn.Conv2d, self.component(component).get_submodule(path))
        return BaseLayer(layer.weight, layer.bias)

    def _decoded(self, latents: Tensor, vae: _Vae) -> tuple[Tensor, str]:
        """Return what a decoder makes of latents, and what is to be told of it."""

        def work() -> Tensor:
            return vae.decode((latents / self._scaling).to(vae.dtype), return_dict=False)[0]

        return in_tiles_if_need_be(self, vae, work, max(latents.shape[-2:]), self.spec.latent_factor)

    def _fit_preview(self) -> Tensor:
        """Return the [channels + 1, 3] map, by least squares over patches of random latents."""
        generator = torch.Generator("cpu").manual_seed(0)
        samples = torch.randn(64, self._latent_channels, generator=generator).to(self.device)
        patches = samples.to(self.dtype)[:, :, None, None].expand(-1, -1, 4, 4)
        decoded = [self._decoded(patch[None], self._vae)[0] for patch in patches]
        colours = torch.stack([_to_pixels(one)[0].mean((1, 2)) for one in decoded])
        inputs = torch.cat([samples, torch.ones_like(samples[:, :1])], 1)
        return torch.linalg.lstsq(inputs, colours).solution


def _to_pixels(decoded: Tensor) -> Tensor:
    """Return what a decoder gives, which is about -1 to 1, as colours from 0 to 1."""
    return (decoded / 2 + 0.5).clamp(0, 1).float()


def _bytes(parts: Parts) -> int:
    """Return what a model's weights take in memory."""
    weights = (one for module in parts.modules().values() for one in module.parameters())
    return sum(one.numel() * one.element_size() for one in weights)


def _layers(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the layers that an adapter may change, and the shapes of their weights."""
    found = {path: part for path, part in module.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)}
    return {path: tuple(part.weight.shape) for path, part in found.items()}
