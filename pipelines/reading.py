"""From a plan's prompts to what the UNet reads, and what a user should know of long ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from textwrap import shorten

from torch import Tensor

from composer.plan import Prompt
from pipelines import prompts
from pipelines.bank import Gate
from pipelines.model import LoadedModel
from pipelines.prompts import Reading

_SHOWN = 200  # characters of the end of a prompt


@dataclass(frozen=True, eq=False)
class Conditioning:
    """A prompt as the UNet reads it; both sides have the same number of tokens."""

    cond: Tensor  # [1, tokens, width]
    uncond: Tensor | None  # None: no guidance


@dataclass(frozen=True, eq=False)
class Asked:
    """One prompt of a request, the LoRAs that read it, and those whose trigger words it may hold."""

    prompt: Prompt
    gate: Gate
    guided: bool
    triggers: Mapping[str, tuple[str, ...]]


class PromptReader:
    """Reads prompts, each distinct text under each distinct gate once per order."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._read: dict[tuple[str, bool, Gate], Reading] = {}

    def read(self, asked: Asked, notices: dict[str, None]) -> Conditioning:
        """Return a prompt encoded; what there is to say of it goes into `notices`."""
        cond = self._encode(asked.prompt.text, asked, "prompt", notices)
        if not asked.guided:
            return Conditioning(cond, None)
        return Conditioning(
            *prompts.alike(cond, self._encode(asked.prompt.negative, asked, "negative prompt", notices))
        )

    def _encode(self, text: str, asked: Asked, what: str, notices: dict[str, None]) -> Tensor:
        weighted = asked.prompt.weighted
        key = (text, weighted, asked.gate)
        if key not in self._read:
            read = prompts.read if weighted else prompts.read_plain
            self._read[key] = read(self._model, text, asked.gate)
        found = self._read[key]
        for notice in (*found.notices, *_length(found, weighted, what, asked.triggers)):
            notices[notice] = None
        return found.embeds


def _length(found: Reading, weighted: bool, what: str, triggers: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return what to say of a text longer than the encoder reads at once: its end, and whose trigger that holds."""
    if not found.later:
        return []
    end = shorten(found.later, _SHOWN, placeholder=" …")
    lost = {
        name: [word for word in words if _has(f"{found.first} {found.later}", word) and not _has(found.first, word)]
        for name, words in triggers.items()
    }
    whose = "".join(
        f"; the trigger {', '.join(map(repr, words))} of LoRA '{name}' is there"
        for name, words in lost.items()
        if words
    )
    if weighted:
        read = f"the {what} is read in {found.chunks} chunks"
        return [f"{read}; a plain pipeline would not have seen this end of it: {end}{whose}"]
    return [f"the {what} is longer than the model reads; it did not see this end of it: {end}{whose}"]


def _has(text: str, word: str) -> bool:
    """Tell whether a text holds a word, spaces and cases aside: tokens do not keep them."""
    found, sought = ("".join(one.lower().split()) for one in (text, word))
    return sought in found
