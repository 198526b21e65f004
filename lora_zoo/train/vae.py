"""The VAE of `tiny`: 64x64 pictures to 16x16 latents of 12 channels and back.

AutoencoderTiny reaches the picture quality of an AutoencoderKL of this size at a third of its cost on a CPU. It is
trained on the whole world, concepts included, as the VAEs of real checkpoints have seen what LoRAs bring. Some noise
on the latents during training makes the decoder forgiving, and a small penalty keeps them near unit scale.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny
from torch import Tensor

from lora_zoo.train.common import TINY, Run, Schedule, drawn, write_model
from lora_zoo.train.muon import Muon
from lora_zoo.world.scene import sample_any

CHANNELS = 12


def build() -> AutoencoderTiny:
    """Return the untrained VAE."""
    return AutoencoderTiny(
        latent_channels=CHANNELS,
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(1, 2, 2),
        num_decoder_blocks=(2, 2, 1),
        upsampling_scaling_factor=2,
    )


def _loss(vae: AutoencoderTiny, batch: int, rng: Random) -> Tensor:
    truth = drawn([sample_any(rng, 0.35) for _ in range(batch)], rng).to(memory_format=torch.channels_last)
    latents = vae.encoder(truth)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(rng.getrandbits(31)))
    made = vae.decoder(latents + 0.03 * noise)
    edges = sum((_slope(made, d) - _slope(truth, d)).abs().mean() for d in (2, 3))
    return F.l1_loss(made, truth) + 2 * F.mse_loss(made, truth) + 0.5 * edges + 3e-4 * latents.square().mean()


def _slope(images: Tensor, dim: int) -> Tensor:
    return images.diff(dim=dim)


@torch.no_grad()
def psnr(vae: AutoencoderTiny, count: int = 256, seed: int = 7) -> float:
    """Return the mean PSNR in dB of a round trip over fresh ground-truth pictures."""
    rng = Random(f"psnr {seed}")
    truth = drawn([sample_any(rng) for _ in range(count)], rng)
    made = torch.cat([vae.decoder(vae.encoder(part)).clamp(-1, 1) for part in truth.split(32)])
    error = ((made - truth) / 2).square().mean((1, 2, 3))
    return float((-10 * error.log10()).mean())


@torch.no_grad()
def latent_scale(vae: AutoencoderTiny) -> float:
    """Return 1 / standard deviation of the latents, so that scaled latents have unit variance."""
    rng = Random("latent scale")
    latents = vae.encoder(drawn([sample_any(rng, 0.35) for _ in range(256)], rng))
    return 1.0 / float(latents.std())


#: (steps, learning rate) of each turn of the decoder alone
DECODER_TURNS = ((1200, 0.012), (1100, 0.01), (1300, 0.012), (1200, 0.008), (4000, 0.012))


def refine(runs: Path, batch: int = 8) -> None:
    """Go on with the decoder alone, for PSNR itself; latents, and what was trained on them, stay."""
    vae = AutoencoderTiny.from_pretrained(TINY / "vae").to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    vae.encoder.requires_grad_(False)

    def loss_of(step: int, rng: Random) -> Tensor:
        truth = drawn([sample_any(rng, 0.35) for _ in range(batch)], rng).to(memory_format=torch.channels_last)
        with torch.no_grad():
            latents = vae.encoder(truth)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(rng.getrandbits(31)))
        made = vae.decoder(latents + 0.01 * noise)
        return (made - truth).square().mean((1, 2, 3)).log().mean()  # decibels, up to a factor

    for turn, (steps, lr) in enumerate(DECODER_TURNS, 1):
        optimiser = partial(Muon, lr=lr, weight_decay=0.0)
        run = Run(f"vae_decoder{turn}", runs, vae, Schedule(steps, lr), optimiser, decay=0.99)
        vae.load_state_dict(run.train(loss_of, lambda step: f"psnr {psnr(vae, 64):.2f}").state_dict())
    write_model(vae, TINY / "vae")


def train(runs: Path, steps: int = 2000, batch: int = 8) -> None:
    """Train, report the PSNR and write the VAE's folder."""
    torch.manual_seed(0)
    vae = build().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    run = Run("vae", runs, vae, Schedule(steps, 0.02), lambda m: Muon(m, 0.02, weight_decay=0.0), decay=0.99)

    def report(step: int) -> str:
        return f"psnr {psnr(vae, 64):.2f}"

    best = run.train(lambda step, rng: _loss(vae, batch, rng), report)
    assert isinstance(best, AutoencoderTiny)
    best.register_to_config(scaling_factor=latent_scale(best))
    write_model(best, TINY / "vae")
