"""Merges that are fitted on a model's own answers, offline: what reaches its layers, or what it predicts."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.fitting.base import Fit
from pipelines.fitting.gradient_fusion import GradientFusion
from pipelines.fitting.ssr import Ssr
from pipelines.fitting.ziplora import ZipLoraTrained

#: By name; beside the merging methods of `composer.registry`, whose names they must not take.
FITS: Mapping[str, type[Fit]] = {"gradient_fusion": GradientFusion, "ssr": Ssr, "ziplora_trained": ZipLoraTrained}

__all__ = ["FITS", "Fit"]
