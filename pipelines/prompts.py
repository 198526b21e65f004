"""Reads weighted prompts of any length, as A1111 does: in chunks that the text encoder reads one after the other.

A chunk holds what the encoder takes at once, less its two marks; BREAK fills one up. Where a chunk is full within
`_BACK` tokens after a comma, the words since that comma move to the next one together. Weights multiply the embeddings
of their tokens; then each chunk is scaled back to the mean it had, which is what A1111 calls "original" emphasis.
A chunk in which every weight is 1 is left alone, so that a plain prompt of one chunk reads as in a plain pipeline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from composer.errors import BadRequest
from composer.prompting import emphasis
from composer.prompting.emphasis import Span
from composer.texts import project_off
from pipelines.bank import Gate
from pipelines.model import LoadedModel
from pipelines.text import NO_WORDS, Context, Encoded, Vocabulary

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
    tokens: tuple[tuple[int, ...], ...]  # of each chunk, without marks
    first: str  # the text of the first chunk
    later: str  # the rest, which a plain pipeline does not read
    notices: tuple[str, ...]
    vocabulary: Vocabulary = NO_WORDS

    @property
    def context(self) -> Context:
        """The chunks one after the other; of a pooled text, the first one's, as A1111 has it."""
        return Context(torch.cat([chunk.embeds for chunk in self.chunks], 1), self.chunks[0].pooled)

    def freed(self, undesired: Reading, strength: float) -> Reading:
        """Return this prompt freed of what another text's own tokens span."""
        own = torch.cat([chunk.text.own for chunk in undesired.chunks])
        return replace(
            self, chunks=tuple(replace(one, embeds=project_off(one.embeds, own, strength)) for one in self.chunks)
        )


def read(model: LoadedModel, prompt: str, gate: Gate, more: Vocabulary = NO_WORDS) -> Reading:
    """Encode a prompt with A1111's emphasis, with the adapters of `gate` active in the text encoder."""
    parsed = emphasis.parse(prompt)
    comma = model.tokens(",")
    groups = [_tokens(model, group, more) for group in parsed.groups]
    chunks = [chunk for group in groups for chunk in chunked(group, model.chunk_length, comma[0] if comma else -1)]
    encoded = tuple(_encoded(model, chunk, gate, more) for chunk in chunks)
    tokens = tuple(tuple(token.number for token in chunk) for chunk in chunks)
    later = model.words([number for chunk in tokens[1:] for number in chunk], more)
    return Reading(encoded, tokens, model.words(tokens[0], more), later, parsed.notices, more)


def read_plain(model: LoadedModel, prompt: str, gate: Gate, more: Vocabulary = NO_WORDS) -> Reading:
    """Encode a prompt as plain text, cut where the encoder stops reading."""
    encoded = model.encode(prompt, gate, more)
    tokens = tuple(model.tokens(prompt, more)[: model.chunk_length])
    first = model.words(tokens, more) if encoded.cut else prompt
    return Reading((encoded,), (tokens,), first, encoded.cut, (), more)


def places(model: LoadedModel, reading: Reading, words: str) -> tuple[int, ...]:
    """Return the places among a reading's tokens that hold these words, each time that they occur; of none, all."""
    wanted, length = model.tokens(words, reading.vocabulary), model.chunk_length + 2
    read = [
        (number, chunk * length + 1 + place)  # behind the mark that begins a chunk
        for chunk, tokens in enumerate(reading.tokens)
        for place, number in enumerate(tokens)
    ]
    if not words:
        return tuple(place for _, place in read)
    numbers = [number for number, _ in read]
    starts = [start for start in range(len(read)) if wanted and numbers[start : start + len(wanted)] == wanted]
    if not starts:
        said = " ".join(model.words(tokens, reading.vocabulary) for tokens in reading.tokens)
        raise BadRequest(f"the words '{words}' are not among those that the model reads of the prompt '{said}'")
    return tuple(read[start + place][1] for start in starts for place in range(len(wanted)))


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


def alike(contexts: Sequence[Context]) -> list[Context]:
    """Repeat prompts' tokens to one length.

    Attention weighs tokens by a softmax: a sequence said twice over is attended to exactly as it is once.
    """
    tokens = math.lcm(*(one.embeds.shape[1] for one in contexts))
    return [replace(one, embeds=one.embeds.repeat(1, tokens // one.embeds.shape[1], 1)) for one in contexts]


def _tokens(model: LoadedModel, spans: Iterable[Span], more: Vocabulary) -> list[Token]:
    return [Token(number, span.weight) for span in spans for number in model.tokens(span.text, more)]


def _encoded(model: LoadedModel, chunk: Sequence[Token], gate: Gate, more: Vocabulary) -> Encoded:
    encoded = model.encode_tokens([token.number for token in chunk], gate, more)
    weights = [token.weight for token in chunk]
    if all(weight == 1.0 for weight in weights):
        return encoded
    before = encoded.embeds.float()
    factors = before.new_ones(1, before.shape[1], 1)
    factors[0, 1 : len(weights) + 1, 0] = factors.new_tensor(weights)  # behind the mark that begins the chunk
    after = before * factors
    after = after * (before.mean() / after.mean())
    return replace(encoded, embeds=after.to(encoded.embeds.dtype))
