"""Reads weighted prompts of any length, as A1111 does: in chunks that the text encoder reads one after the other.

A chunk holds what the encoder takes at once, less its two marks; BREAK fills one up. Where a chunk is full within
`_BACK` tokens after a comma, the words since that comma move to the next one together. Weights multiply the embeddings
of their tokens; then each chunk is scaled back to the mean it had, which is what A1111 calls "original" emphasis.
A chunk in which every weight is 1 is left alone, so that a plain prompt of one chunk reads as in a plain pipeline.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from composer.prompting import emphasis
from composer.prompting.emphasis import Span
from composer.texts import project_off
from pipelines.bank import Gate
from pipelines.model import Encoded, LoadedModel

_BACK = 20


@dataclass(frozen=True)
class Token:
    """One token of a prompt."""

    number: int
    weight: float


@dataclass(frozen=True, eq=False)
class Reading:
    """A prompt as the UNet reads it, and what there is to say of it."""

    chunks: tuple[Encoded, ...]
    first: str  # the text of the first chunk
    later: str  # the rest, which a plain pipeline does not read
    notices: tuple[str, ...]

    @property
    def embeds(self) -> Tensor:
        """The chunks one after the other, [1, chunks * tokens, width]."""
        return torch.cat([chunk.embeds for chunk in self.chunks], 1)

    def freed(self, undesired: Reading, strength: float) -> Tensor:
        """Return `embeds` freed of what another text's own tokens span."""
        own = torch.cat([chunk.text.own for chunk in undesired.chunks])
        return torch.cat([project_off(chunk.embeds, own, strength) for chunk in self.chunks], 1)


def read(model: LoadedModel, prompt: str, gate: Gate) -> Reading:
    """Encode a prompt with A1111's emphasis, with the adapters of `gate` active in the text encoder."""
    parsed = emphasis.parse(prompt)
    comma = model.tokens(",")
    groups = [_tokens(model, group) for group in parsed.groups]
    chunks = [chunk for group in groups for chunk in chunked(group, model.chunk_length, comma[0] if comma else -1)]
    encoded = tuple(_encoded(model, chunk, gate) for chunk in chunks)
    first, *others = ([token.number for token in chunk] for chunk in chunks)
    later = model.words([number for chunk in others for number in chunk])
    return Reading(encoded, model.words(first), later, parsed.notices)


def read_plain(model: LoadedModel, prompt: str, gate: Gate) -> Reading:
    """Encode a prompt as plain text, cut where the encoder stops reading."""
    encoded = model.encode(prompt, gate)
    first = model.words(model.tokens(prompt)[: model.chunk_length]) if encoded.cut else prompt
    return Reading((encoded,), first, encoded.cut, ())


def chunked(tokens: Sequence[Token], length: int, comma: int) -> list[tuple[Token, ...]]:
    """Part tokens into chunks of at most `length`; no tokens are one empty chunk."""
    chunks: list[tuple[Token, ...]] = []
    rest = tuple(tokens)
    while len(rest) > length:
        commas = [place for place in range(max(0, length - _BACK), length) if rest[place].number == comma]
        keep = commas[-1] + 1 if commas and rest[length].number != comma else length
        chunks.append(rest[:keep])
        rest = rest[keep:]
    return [*chunks, rest]


def alike(cond: Tensor, uncond: Tensor) -> tuple[Tensor, Tensor]:
    """Repeat two prompts' embeddings [1, tokens, width] to one length.

    Attention weighs tokens by a softmax: a sequence said twice over is attended to exactly as it is once.
    """
    tokens = torch.lcm(torch.tensor(cond.shape[1]), torch.tensor(uncond.shape[1])).item()
    longer = [one.repeat(1, int(tokens) // one.shape[1], 1) for one in (cond, uncond)]
    return longer[0], longer[1]


def _tokens(model: LoadedModel, spans: Iterable[Span]) -> list[Token]:
    return [Token(number, span.weight) for span in spans for number in model.tokens(span.text)]


def _encoded(model: LoadedModel, chunk: Sequence[Token], gate: Gate) -> Encoded:
    encoded = model.encode_tokens([token.number for token in chunk], gate)
    weights = [token.weight for token in chunk]
    if all(weight == 1.0 for weight in weights):
        return encoded
    before = encoded.embeds.float()
    factors = before.new_ones(1, before.shape[1], 1)
    factors[0, 1 : len(weights) + 1, 0] = factors.new_tensor(weights)  # behind the mark that begins the chunk
    after = before * factors
    after = after * (before.mean() / after.mean())
    return replace(encoded, embeds=after.to(encoded.embeds.dtype))
