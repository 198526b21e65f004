"""The base diffusion model of `tiny`: v-prediction in the VAE's latents, conditioned on the frozen text tower.

It sees base scenes only: no concept of the zoo is ever in its pictures. Latents and prompt embeddings are made once.
Losses are weighted by min-SNR (arXiv:2303.09556), in its form for v-prediction, with a gamma of 20: most of
these latents' channels have half of unit deviation, so what 5 would cut off is still structure here.
"""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import torch
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from lora_zoo.train.clip import WIDTH, tokens
from lora_zoo.train.common import TINY, Run, Schedule, batches, drawn, save_atomic, write_model
from lora_zoo.train.muon import Muon
from lora_zoo.train.vae import CHANNELS
from lora_zoo.world.captions import caption
from lora_zoo.world.scene import Scene, sample_base

GAMMA = 20.0


def build() -> UNet2DConditionModel:
    """Return the untrained UNet: SD1.5's kinds of blocks, three levels, cross-attention at 16x16 and 8x8."""
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=CHANNELS,
        out_channels=CHANNELS,
        layers_per_block=1,
        block_out_channels=(64, 128, 128),
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=WIDTH,
        attention_head_dim=4,  # diffusers reads this as the number of heads
        norm_num_groups=16,
    )


def scheduler() -> DDIMScheduler:
    """Return the noise schedule: DDPM's linear betas, whose last step keeps almost no signal."""
    return DDIMScheduler(
        beta_start=1e-4,
        beta_end=0.02,
        beta_schedule="linear",
        prediction_type="v_prediction",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="trailing",
    )


@dataclass
class Parts:
    """The frozen parts that turn scenes into what the UNet is trained on."""

    vae: AutoencoderTiny
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel

    @classmethod
    def load(cls) -> Parts:
        return cls(
            AutoencoderTiny.from_pretrained(TINY / "vae").eval(),
            CLIPTokenizer.from_pretrained(TINY / "tokenizer"),
            CLIPTextModel.from_pretrained(TINY / "text_encoder").eval(),
        )

    @torch.no_grad()
    def latents(self, images: Tensor) -> Tensor:
        """Return scaled latents [n, 12, 16, 16] of pictures in -1..1."""
        coded = [self.vae.encoder(part) for part in images.split(32)]
        return torch.cat(coded) * self.vae.config["scaling_factor"]

    @torch.no_grad()
    def embeds(self, texts: list[str]) -> Tensor:
        """Return prompt embeddings [n, 77, width]."""
        parts = [tokens(self.tokenizer, texts[b.start : b.stop]) for b in batches(len(texts), 64)]
        return torch.cat([self.text_encoder(part).last_hidden_state for part in parts])


@dataclass
class Cache:
    """Latents and prompt embeddings of a fixed set of scenes, each with several captions."""

    latents: Tensor  # [n, 12, 16, 16] float32
    embeds: Tensor  # [captions, n, 77, width] float16
    empty: Tensor  # [77, width]

    @classmethod
    def load(cls, path: Path, parts: Parts, count: int) -> Cache:
        if not path.exists():
            _fill(path, parts, count)
        held = torch.load(path, weights_only=True)
        return cls(held["latents"], held["embeds"], held["empty"])

    def batch(self, rng: Random, size: int, drop: float) -> tuple[Tensor, Tensor]:
        """Return latents and embeddings of `size` scenes; a share `drop` of captions is empty."""
        rows = torch.tensor([rng.randrange(len(self.latents)) for _ in range(size)])
        which = torch.tensor([rng.randrange(len(self.embeds)) for _ in range(size)])
        embeds = self.embeds[which, rows].float()
        unsaid = torch.tensor([rng.random() < drop for _ in range(size)])
        return self.latents[rows], torch.where(unsaid[:, None, None], self.empty, embeds)


def _fill(path: Path, parts: Parts, count: int, captions: int = 2) -> None:
    rng = Random("base scenes")
    scenes = [sample_base(rng) for _ in range(count)]
    latents = [parts.latents(drawn([scenes[i] for i in b], rng)) for b in batches(count, 256)]
    embeds = [_said(parts, scenes, rng) for _ in range(captions)]
    state = {"latents": torch.cat(latents), "embeds": torch.stack(embeds), "empty": parts.embeds([""])[0]}
    save_atomic(state, path)


def _said(parts: Parts, scenes: list[Scene], rng: Random) -> Tensor:
    return parts.embeds([caption(s, rng, 0.1) for s in scenes]).half()


class Objective:
    """The weighted v-prediction loss under the model's noise schedule."""

    def __init__(self) -> None:
        self.noise = scheduler()
        snr = self.noise.alphas_cumprod / (1 - self.noise.alphas_cumprod)
        self.weights = snr.clamp(max=GAMMA) / (snr + 1)

    def __call__(self, unet: UNet2DConditionModel, latents: Tensor, embeds: Tensor, rng: Random) -> Tensor:
        generator = torch.Generator().manual_seed(rng.getrandbits(31))
        noise = torch.randn(latents.shape, generator=generator)
        # one timestep from each equal part of the schedule: less variance than independent draws
        spread = (torch.arange(len(latents)) + torch.rand(len(latents), generator=generator)) / len(latents)
        steps = (spread * len(self.weights)).long()
        noisy = self.noise.add_noise(latents, noise, steps)  # pyright: ignore[reportArgumentType]
        wanted = self.noise.get_velocity(latents, noise, steps)  # pyright: ignore[reportArgumentType]
        noisy = noisy.to(memory_format=torch.channels_last)
        made = unet(noisy, steps, embeds, return_dict=False)[0]
        return ((made - wanted).square().mean((1, 2, 3)) * self.weights[steps]).mean() / self.weights.mean()


def write(unet: UNet2DConditionModel) -> None:
    """Write the UNet's folder, the scheduler's and model_index.json."""
    write_model(copy.deepcopy(unet).half(), TINY / "unet")  # as checkpoints are passed around; loaders widen it
    scheduler().save_pretrained(TINY / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.42.1",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderTiny"],
    }
    (TINY / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")


#: (steps, learning rate) of each turn; a turn starts from the average of the one before, at full speed again
TURNS = ((2350, 0.012), (1950, 0.01), (1700, 0.01))


def train(runs: Path, batch: int = 32, scenes: int = 16_000) -> None:
    """Train and write the model's folder."""
    torch.manual_seed(0)
    cache = Cache.load(runs / "base_cache.pt", Parts.load(), scenes)
    unet = build().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    objective = Objective()

    def loss_of(step: int, rng: Random) -> Tensor:
        return objective(unet, *cache.batch(rng, batch, 0.1), rng)

    for turn, (steps, lr) in enumerate(TURNS, 1):
        run = Run(f"unet{turn}", runs, unet, Schedule(steps, lr, 150), partial(Muon, lr=lr), decay=0.998)
        unet.load_state_dict(run.train(loss_of).state_dict())
    write(unet)
