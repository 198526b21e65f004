"""What previews show: the clean latents that a step's prediction points at, for every scheduler alike."""

from __future__ import annotations

import pytest
import torch

from pipelines import schedulers

CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}


@pytest.mark.parametrize("name", schedulers.names())
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_perfect_prediction_points_at_the_clean_latents(name: str, prediction: str) -> None:
    generator = torch.Generator("cpu").manual_seed(1)
    config = {**CONFIG, "prediction_type": prediction}
    solver = schedulers.build(name, config, schedulers.Span(8), generator, torch.device("cpu"))
    clean, noise = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    for step in solver.steps[:-1]:
        a = (1 + step.sigma**2) ** -0.5
        read = a * clean + step.sigma * a * noise  # as the UNet reads them
        latents = read / a if solver.init_noise_sigma > 1 else read
        told = noise if prediction == "epsilon" else a * noise - step.sigma * a * clean
        assert torch.allclose(solver.estimate(told, step, latents), clean, atol=1e-3)
