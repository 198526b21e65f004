"""What SDXL adds (arXiv:2307.01952): a second text encoder, a pooled text, and sizes that the UNet is told.

Both encoders' penultimate states lie beside each other; the pooled text is the second one's. The sizes, each (height,
width), are that of a training picture before it was scaled, the corner where it was cropped, and the size aimed at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from composer.request import RenderRequest
from pipelines.bank import Gate
from pipelines.text import Encoded, TextReader


def encode(readers: Sequence[TextReader], text: str, gate: Gate, device: torch.device) -> Encoded:
    """Return a text as both encoders read it."""
    states = [reader.read(text, gate, device) for reader in readers]
    embeds = torch.cat([one.penultimate for one in states], dim=-1)
    return Encoded(embeds, next((one.cut for one in states if one.cut), ""), states[-1].first)


def nothing(like: Encoded) -> Encoded:
    """Return what stands for an empty negative prompt in models trained with zeros for it."""
    pooled = None if like.pooled is None else torch.zeros_like(like.pooled)
    return Encoded(torch.zeros_like(like.embeds), "", pooled)


def time_ids(request: RenderRequest) -> tuple[int, ...]:
    """Return the six numbers that a request tells SDXL's UNet."""
    own = (request.width or 0, request.height or 0)
    original = own if request.original_size == "picture" else request.original_size
    target = own if request.target_size == "picture" else request.target_size
    left, top = request.crop_corner
    return (original[1], original[0], top, left, target[1], target[0])


def added(contexts: Sequence[Encoded], ids: Sequence[tuple[int, ...]]) -> Mapping[str, Tensor] | None:
    """Return the conditions of rows beyond the text's tokens, by diffusers' names; None where there are none."""
    pooled = [one.pooled for one in contexts if one.pooled is not None]
    if not pooled:
        return None
    texts = torch.cat(pooled)
    return {"text_embeds": texts, "time_ids": torch.tensor(ids).to(texts)}
