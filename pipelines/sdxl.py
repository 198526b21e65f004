"""What SDXL adds (arXiv:2307.01952): a second text encoder, a pooled text, and sizes that the UNet is told.

Both encoders' penultimate states lie beside each other; the pooled text is the second one's. The sizes, each (height,
width), are that of a training picture before it was scaled, the corner where it was cropped, and the size aimed at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from composer.request import RenderRequest
from pipelines.text import Context, Encoded, States


def encoded(states: Sequence[States], count: int) -> Encoded:
    """Return what both encoders make of a text of so many tokens, as one."""
    return Encoded(torch.cat([one.penultimate for one in states], dim=-1), count, pooled=states[-1].first)


def nothing(like: Context) -> Context:
    """Return what stands for an empty negative prompt in models trained with zeros for it."""
    return Context(torch.zeros_like(like.embeds), None if like.pooled is None else torch.zeros_like(like.pooled))


def time_ids(request: RenderRequest) -> tuple[int, ...]:
    """Return the six numbers that a request tells SDXL's UNet."""
    own = (request.width or 0, request.height or 0)
    original = own if request.original_size == "picture" else request.original_size
    target = own if request.target_size == "picture" else request.target_size
    left, top = request.crop_corner
    return (original[1], original[0], top, left, target[1], target[0])


def added(contexts: Sequence[Context], ids: Sequence[tuple[int, ...]]) -> Mapping[str, Tensor] | None:
    """Return the conditions of rows beyond the text's tokens, by diffusers' names; None where there are none."""
    pooled = [one.pooled for one in contexts if one.pooled is not None]
    if not pooled:
        return None
    texts = torch.cat(pooled)
    return {"text_embeds": texts, "time_ids": torch.tensor(ids).to(texts)}
