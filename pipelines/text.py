"""Text in, states out: a tokenizer with its text encoder, and the way a UNet with one encoder reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from pipelines.bank import AdapterBank, Gate
from pipelines.store import AdapterStore


class Tokenizer(Protocol):
    model_max_length: int

    def __call__(self, text: str, **options: object) -> Mapping[str, list[int]]: ...
    def decode(self, token_ids: list[int], **options: object) -> str: ...


@dataclass(frozen=True, eq=False)
class Encoded:
    """A text as the UNet reads it."""

    embeds: Tensor  # [1, tokens, width]
    cut: str  # the end of the text that did not fit, empty if all did
    pooled: Tensor | None = None  # [1, width of the second encoder], for SDXL


@dataclass(frozen=True, eq=False)
class States:
    """What a text encoder makes of one text."""

    first: Tensor  # the last states [1, tokens, width]; of an encoder with a projection, the pooled text [1, width]
    penultimate: Tensor  # [1, tokens, width]
    cut: str


class TextReader:
    """One tokenizer and its encoder, with the LoRAs' way into it."""

    def __init__(self, component: str, tokenizer: Tokenizer, encoder: nn.Module, store: AdapterStore) -> None:
        self.component = component
        self.encoder = encoder
        self._tokenizer = tokenizer
        self._bank = AdapterBank(encoder, component, store)

    def read(self, text: str, gate: Gate, device: torch.device) -> States:
        """Encode a text as diffusers' own pipelines do, with the adapters of `gate` active.

        One text per call, so that what else is rendered never reaches an embedding.
        """
        limit = self._tokenizer.model_max_length
        tokens = self._tokenizer(text, padding="max_length", max_length=limit, truncation=True)
        everything = self._tokenizer(text, verbose=False)["input_ids"]
        ids = torch.tensor([tokens["input_ids"]], device=device)
        mask = None
        if getattr(self.encoder.config, "use_attention_mask", False):
            mask = torch.tensor([tokens["attention_mask"]], device=device)
        with self._bank.gate([gate]):
            found: Any = self.encoder(ids, attention_mask=mask, output_hidden_states=True)
        cut = self._tokenizer.decode(everything[limit - 1 : -1]) if len(everything) > limit else ""
        return States(found[0], found.hidden_states[-2], cut)


def encode(reader: TextReader, text: str, gate: Gate, device: torch.device) -> Encoded:
    """Return the last states of the one encoder."""
    states = reader.read(text, gate, device)
    return Encoded(states.first, states.cut)
