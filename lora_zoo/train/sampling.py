"""Pictures while training: a plain sampler, so that trainers judge their own work without the engine above them."""

from __future__ import annotations

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from PIL import Image
from torch import Tensor

from lora_zoo.train.unet import Parts, scheduler


@torch.no_grad()
def sample(
    unet: UNet2DConditionModel, parts: Parts, embeds: Tensor, seed: int, steps: int = 16, guidance: float = 4.0
) -> list[Image.Image]:
    """Return one picture per prompt embedding [n, 77, width]; DPM++ 2M with classifier-free guidance."""
    solver = DPMSolverMultistepScheduler.from_config(scheduler().config, timestep_spacing="trailing")
    assert isinstance(solver, DPMSolverMultistepScheduler)
    solver.set_timesteps(steps)
    generator = torch.Generator().manual_seed(seed)
    channels, size = unet.config["in_channels"], unet.config["sample_size"]
    latents = torch.randn(len(embeds), channels, size, size, generator=generator)
    both = torch.cat([parts.embeds([""]).expand_as(embeds), embeds])
    for t in solver.timesteps:
        out = unet(torch.cat([latents, latents]), t, both, return_dict=False)[0]
        plain, said = out.chunk(2)
        latents = solver.step(plain + guidance * (said - plain), t, latents, return_dict=False)[0]
    pictures = parts.vae.decoder(latents / parts.vae.config["scaling_factor"]).clamp(-1, 1)
    arrays = ((pictures + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return [Image.fromarray(a) for a in arrays]
