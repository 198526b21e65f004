"""Text in, states out: a tokenizer with its text encoder, and what becomes of a text on the way to the UNet."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from composer.errors import BadRequest
from composer.texts import TextEmbedding
from lora_zoo.adapter import Words
from pipelines.bank import AdapterBank, Gate
from pipelines.store import AdapterStore


class Tokenizer(Protocol):
    model_max_length: int
    bos_token_id: int
    eos_token_id: int
    pad_token_id: int

    def __call__(self, text: str, **options: object) -> Mapping[str, list[int]]: ...
    def decode(self, token_ids: list[int], **options: object) -> str: ...


@dataclass(frozen=True, eq=False)
class Encoded:
    """A text as the text encoders read it at once."""

    embeds: Tensor  # [1, tokens, width]
    count: int  # of the text's own tokens, which follow the start token
    cut: str = ""  # the end of the text that did not fit, empty if all did
    pooled: Tensor | None = None  # [1, width of the second encoder], for SDXL

    @property
    def text(self) -> TextEmbedding:
        return TextEmbedding(self.embeds[0], self.count)


@dataclass(frozen=True, eq=False)
class Context:
    """A prompt of any length as the UNet reads it."""

    embeds: Tensor  # [1, tokens, width]
    pooled: Tensor | None = None  # [1, width of the second encoder], for SDXL


@dataclass(frozen=True, eq=False)
class States:
    """What a text encoder makes of one text."""

    first: Tensor  # the last states [1, tokens, width]; of an encoder with a projection, the pooled text [1, width]
    penultimate: Tensor  # [1, tokens, width]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """Words beyond the tokenizer's, which a request's LoRAs bring along. Their tokens are numbers below 0.

    They are found whole, in any case, the longest first, as A1111 finds embeddings.
    """

    words: Words

    def parts(self, text: str) -> list[tuple[str, str]]:
        """Return a text in parts: (text, "") as it is, or (text, word)."""
        if not self.words:
            return [(text, "")]
        names = sorted(self.words, key=len, reverse=True)
        found = re.split(rf"(?<!\w)({'|'.join(map(re.escape, names))})(?!\w)", text, flags=re.IGNORECASE)
        known = {name.lower(): name for name in names}
        return [(part, known[part.lower()] if place % 2 else "") for place, part in enumerate(found) if part]

    def numbers(self, word: str) -> list[int]:
        """Return the tokens of a word of these."""
        before = 0
        for name, vectors in self.words.items():
            count = len(next(iter(vectors.values())))
            if name == word:
                return [-1 - before - place for place in range(count)]
            before += count
        raise KeyError(word)

    def word(self, number: int) -> str:
        """Return the word that a token below 0 begins; "" for those that go on with one."""
        return next((name for name in self.words if self.numbers(name)[0] == number), "")

    def vectors(self, component: str) -> Tensor:
        """Return what one text encoder reads in place of the tokens -1, -2, …, [n, width]."""
        return torch.cat([vectors[component] for vectors in self.words.values()])


NO_WORDS = Vocabulary({})


def vocabulary(brought: Mapping[str, Words]) -> Vocabulary:
    """Return the words that LoRAs bring along, by their names; what two call the same is an error."""
    found: dict[str, Mapping[str, Tensor]] = {}
    owners: dict[str, str] = {}
    for name, words in brought.items():
        for word, vectors in words.items():
            other = owners.setdefault(word.lower(), name)
            if other != name:
                raise BadRequest(
                    f"LoRAs '{other}' and '{name}' both bring a word {word!r} along; leave one of them out"
                )
            found[word] = vectors
    return Vocabulary(found) if found else NO_WORDS


class TextReader:
    """One tokenizer and its encoder, with the LoRAs' way into it."""

    def __init__(self, component: str, tokenizer: Tokenizer, encoder: nn.Module, store: AdapterStore) -> None:
        self.component = component
        self.encoder = encoder
        self._tokenizer = tokenizer
        self._bank = AdapterBank(encoder, component, store)

    @property
    def chunk_length(self) -> int:
        """The number of tokens that are read at once, less the two marks."""
        return self._tokenizer.model_max_length - 2

    def forget(self) -> None:
        """Let go of what was prepared for calls to come."""
        self._bank.forget()

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text, without marks."""
        return self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def words(self, tokens: Sequence[int]) -> str:
        """Return the text that tokens stand for."""
        return self._tokenizer.decode(list(tokens)).strip()

    def read(self, tokens: Sequence[int], gate: Gate, vocabulary: Vocabulary) -> States:
        """Encode at most `chunk_length` tokens, with the adapters of `gate` active, where the encoder is."""
        reader, spare = self._tokenizer, self.chunk_length - len(tokens)
        numbers = [reader.bos_token_id, *tokens, reader.eos_token_id, *[reader.pad_token_id] * spare]
        device = next(self.encoder.parameters()).device
        masked = getattr(self.encoder.config, "use_attention_mask", False)
        mask = torch.tensor([[1] * (len(tokens) + 2) + [0] * spare], device=device) if masked else None
        known = [reader.pad_token_id if number < 0 else number for number in numbers]
        own = torch.tensor([known], device=device)
        with self._bank.gate([gate]), self._embedded(numbers, vocabulary):
            found: Any = self.encoder(own, attention_mask=mask, output_hidden_states=True)
        return States(found[0], found.hidden_states[-2])

    @contextmanager
    def _embedded(self, numbers: Sequence[int], vocabulary: Vocabulary) -> Iterator[None]:
        """Have tokens below 0 read as their vectors: for this call a stand-in lies in front of the table."""
        places = [place for place, number in enumerate(numbers) if number < 0]
        if not places:
            yield
            return
        table: nn.Embedding = cast(Any, self.encoder).get_input_embeddings()
        vectors = vocabulary.vectors(self.component)[[-1 - numbers[place] for place in places]]

        def forward(ids: Tensor) -> Tensor:
            states = F.embedding(ids, table.weight)
            states[:, places] = vectors.to(states)
            return states

        vars(table)["forward"] = forward
        try:
            yield
        finally:
            del vars(table)["forward"]
