"""Text in, states out: a tokenizer with its text encoder, and what becomes of a text on the way to the UNet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from composer.texts import TextEmbedding
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

    def tokens(self, text: str) -> list[int]:
        """Return the tokens of a text, without marks."""
        return self._tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def words(self, tokens: Sequence[int]) -> str:
        """Return the text that tokens stand for."""
        return self._tokenizer.decode(list(tokens)).strip()

    def read(self, tokens: Sequence[int], gate: Gate, device: torch.device) -> States:
        """Encode at most `chunk_length` tokens with the adapters of `gate` active."""
        reader, spare = self._tokenizer, self.chunk_length - len(tokens)
        numbers = [reader.bos_token_id, *tokens, reader.eos_token_id, *[reader.pad_token_id] * spare]
        masked = getattr(self.encoder.config, "use_attention_mask", False)
        mask = torch.tensor([[1] * (len(tokens) + 2) + [0] * spare], device=device) if masked else None
        with self._bank.gate([gate]):
            found: Any = self.encoder(
                torch.tensor([numbers], device=device), attention_mask=mask, output_hidden_states=True
            )
        return States(found[0], found.hidden_states[-2])
