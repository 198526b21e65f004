"""Texts as a text encoder reads them: how alike two are, and an embedding freed of what another says.

Projection is DECOR's (arXiv:2412.09169): X' = X - alpha X P with P = V V^T, V an orthonormal basis of what the
undesired tokens span, the right singular vectors of their embeddings. The paper projects the prompt's whole matrix,
words and padding. What its texts at hand leave open is ours: the undesired text is read as a prompt of its own, with
the same LoRAs active; its own tokens span the space, in all their directions; the start token, which has read nothing,
stays as it is, and so does the negative prompt.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from composer.merges.common import svd


@dataclass(frozen=True, eq=False)
class TextEmbedding:
    """A text as it is read: a start token, the text's own tokens, an end and padding."""

    embeds: Tensor  # [tokens, width]
    count: int  # of the text's own tokens

    @property
    def own(self) -> Tensor:
        """The text's own tokens, [count, width]."""
        return self.embeds[1 : 1 + self.count]


def likeness(one: Tensor, other: Tensor) -> float:
    """Return the cosine of the mean tokens of two texts, [tokens, width] each."""
    return float(torch.cosine_similarity(one.float().mean(0), other.float().mean(0), dim=0))


def project_off(embeds: Tensor, undesired: Tensor, strength: float) -> Tensor:
    """Return embeddings [1, tokens, width] freed of what the undesired tokens [n, width] span, at 0 not at all."""
    _, values, basis = svd(undesired.float())
    noise = values[:1] * max(undesired.shape) * torch.finfo(torch.float32).eps  # as in matrix_rank
    basis = basis[values > noise]  # [rank, width]
    read = embeds[:, 1:].float()
    freed = read - strength * (read @ basis.mT) @ basis
    return torch.cat([embeds[:, :1], freed.to(embeds.dtype)], dim=1)
