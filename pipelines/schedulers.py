"""Schedulers by name, built from diffusers' classes on the model's own configuration, one instance per request.

Multistep solvers keep history, so an instance is never shared. The table is plain data: listing it imports nothing.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from composer.errors import BadRequest, UnknownChoice
from composer.plan import Step
from composer.request import SPACINGS, Spacing
from pipelines.metadata import samplers

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class SchedulerSpec:
    """Which of diffusers' classes, with which settings over the model's own."""

    class_name: str
    settings: Mapping[str, str | bool] = field(default_factory=dict)
    max_steps: int = 1000
    spacing: Spacing | None = "linspace"  # the class' own; None: it places its steps in a way of its own


#: `clip_sample` is for pictures in [-1, 1]; these are latents, and a model's file may leave it at its default of True.
_TABLE: Mapping[str, SchedulerSpec] = {
    "ddim": SchedulerSpec("DDIMScheduler", {"clip_sample": False}, spacing="leading"),
    "euler": SchedulerSpec("EulerDiscreteScheduler"),
    "euler_a": SchedulerSpec("EulerAncestralDiscreteScheduler"),
    "dpmpp_2m": SchedulerSpec(
        "DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": False}
    ),
    "dpmpp_2m_karras": SchedulerSpec(
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True},
        spacing=None,
    ),
    "dpmpp_sde": SchedulerSpec("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": SchedulerSpec("UniPCMultistepScheduler"),
    "lcm": SchedulerSpec("LCMScheduler", {"clip_sample": False}, max_steps=50, spacing=None),
}


def names() -> tuple[str, ...]:
    """Return the names of all schedulers."""
    return tuple(_TABLE)


def get(name: str) -> SchedulerSpec:
    """Return what a name stands for; an unknown one is an error that tells the nearest."""
    if name not in _TABLE:
        raise UnknownChoice("scheduler", name, names(), known_as=samplers.told(name))
    return _TABLE[name]


def spacing(name: str, asked: Spacing | None, config: Mapping[str, object]) -> Spacing | None:
    """Return how a scheduler's steps are spaced: as asked, else as the model's files state, else in its own way.

    None: it has one way only, and asking for another is an error.
    """
    own = get(name).spacing
    if own is None:
        if asked is not None:
            raise BadRequest(f"scheduler '{name}' places its steps in its own way; leave out the spacing '{asked}'")
        return None
    stated = config.get("timestep_spacing", own) if asked is None else asked
    if stated not in SPACINGS:
        raise BadRequest(f"the model's files space steps as {stated!r}; give a spacing of {', '.join(SPACINGS)}")
    return stated


def zero_snr(config: Mapping[str, object], prediction: str) -> bool:
    """Tell whether the last step of the noise schedule is noise alone, as the model's files ask for.

    Of noise alone, a prediction of the noise says nothing: there the schedule stays as it is.
    """
    return bool(config.get("rescale_betas_zero_snr")) and prediction == "v_prediction"


@dataclass(frozen=True)
class Span:
    """How many steps lead from noise to a picture, and how many of the first are left out."""

    count: int
    skipped: int = 0


@runtime_checkable
class _Begins(Protocol):
    """A scheduler that keeps an index of its own."""

    def set_begin_index(self, begin_index: int) -> None: ...


class _Diffusers(Protocol):
    """What the schedulers of diffusers have in common, as far as it is used here."""

    timesteps: Tensor
    alphas_cumprod: Tensor
    init_noise_sigma: float
    config: Mapping[str, Any]

    def set_timesteps(self, num_inference_steps: int, device: torch.device) -> None: ...
    def add_noise(self, original_samples: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor: ...
    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor: ...
    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, **extra: Any) -> Any: ...


class Solver:
    """One request's scheduler: its steps, and the way from one step's latents to the next."""

    def __init__(self, inner: _Diffusers, span: Span, generator: torch.Generator, device: torch.device) -> None:
        inner.set_timesteps(span.count, device=device)
        if span.skipped and isinstance(inner, _Begins):
            inner.set_begin_index(span.skipped)
        self.inner = inner
        takes = inspect.signature(inner.step).parameters
        self._extra: dict[str, Any] = {"generator": generator} if "generator" in takes else {}
        self._timesteps = list(inner.timesteps)[span.skipped :]
        self._predicts_velocity = inner.config["prediction_type"] == "v_prediction"
        self.steps = _steps(inner, span.skipped)
        self.init_noise_sigma = float(inner.init_noise_sigma)
        most = inner.alphas_cumprod[-1]
        self.full_sigma = float(((1 - most) / most) ** 0.5)  # where the noise schedule begins; may be infinite

    def scale_input(self, latents: Tensor, step: Step) -> Tensor:
        """Return the latents as the UNet reads them at this step."""
        return self.inner.scale_model_input(latents, self._timesteps[step.index])

    def estimate(self, noise_pred: Tensor, step: Step, latents: Tensor) -> Tensor:
        """Return the clean latents that a step's prediction points at: what a preview shows.

        As the UNet reads them, the latents of every scheduler here are a * clean + s * noise, with a^2 + s^2 = 1;
        those that start from more than unit noise hold them divided by a.
        """
        a = (1.0 + step.sigma**2) ** -0.5
        s = 1.0 if math.isinf(step.sigma) else step.sigma * a
        scaled = latents * a if self.init_noise_sigma > 1.0 else latents
        if self._predicts_velocity:
            return a * scaled - s * noise_pred
        return (scaled - s * noise_pred) / a

    def advance(self, noise_pred: Tensor, step: Step, latents: Tensor) -> Tensor:
        """Return the next step's latents."""
        timestep = self._timesteps[step.index]
        return self.inner.step(noise_pred, timestep, latents, return_dict=False, **self._extra)[0]

    def noised(self, latents: Tensor, noise: Tensor, index: int) -> Tensor:
        """Return latents with the noise that they have before the step of this index, which is the next one."""
        return self.inner.add_noise(latents, noise, self._timesteps[index][None])


def build(
    name: str, config: Mapping[str, object], span: Span, generator: torch.Generator, device: torch.device
) -> Solver:
    """Return a fresh solver. Its noise, if any, comes from the generator, in the order diffusers draws it."""
    import diffusers

    spec = get(name)
    snr = zero_snr(config, str(config.get("prediction_type", "epsilon")))
    inner = getattr(diffusers, spec.class_name).from_config({**config, "rescale_betas_zero_snr": snr}, **spec.settings)
    return Solver(cast(_Diffusers, inner), span, generator, device)


def _steps(inner: _Diffusers, skipped: int) -> tuple[Step, ...]:
    """Return the steps that are done as plain numbers, read from the device once, and counted from 0."""
    timesteps = [float(t) for t in inner.timesteps.tolist()]
    sigmas = getattr(inner, "sigmas", None)
    if sigmas is None:
        alphas = inner.alphas_cumprod[[int(t) for t in timesteps]]
        sigmas = ((1 - alphas) / alphas) ** 0.5
    both = list(zip(timesteps, sigmas.tolist(), strict=False))[skipped:]
    return tuple(Step(index, len(both), t, float(s)) for index, (t, s) in enumerate(both))
