"""Metrics, one file each; importing this registers them all."""

from __future__ import annotations

from eval.metrics import clipscore, cost, effort, image_clip, image_dino, kept, lpips, presence, sides, truth

__all__ = ["clipscore", "cost", "effort", "image_clip", "image_dino", "kept", "lpips", "presence", "sides", "truth"]
