"""Classifier-free guidance on a prediction, applied once, after a method has blended its passes."""

from __future__ import annotations

from torch import Tensor

from composer.plan import Prediction


def guide(prediction: Prediction, scale: float, rescale: float) -> Tensor:
    """Return the guided prediction (arXiv:2207.12598); without an unconditional branch, the conditional one.

    `rescale` blends in the prediction with the conditional one's standard deviation (arXiv:2305.08891, section 3.4).
    """
    cond, uncond = prediction.cond, prediction.uncond
    if uncond is None:
        return cond
    guided = uncond + scale * (cond - uncond)
    if rescale > 0.0:
        dims = tuple(range(1, cond.ndim))
        rescaled = guided * (cond.std(dim=dims, keepdim=True) / guided.std(dim=dims, keepdim=True))
        guided = rescale * rescaled + (1.0 - rescale) * guided
    return guided
