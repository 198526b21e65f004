"""From a plan's prompts to what the UNet reads, and what a user should know of long ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from textwrap import shorten

import torch

from composer.plan import Prompt
from composer.texts import TextEmbedding
from pipelines import prompts, sdxl
from pipelines.bank import Gate
from pipelines.model import LoadedModel
from pipelines.prompts import Reading
from pipelines.text import NO_WORDS, Context, Vocabulary

_SHOWN = 200  # characters of the end of a prompt


@dataclass(frozen=True, eq=False)
class Conditioning:
    """A prompt as the UNet reads it; both sides have the same number of tokens."""

    cond: Context
    uncond: Context | None  # None: no guidance
    places: Callable[[str], tuple[int, ...]]  # of words among the prompt's tokens
    tokens: int  # of the prompt; those of `cond` repeat them
    areas: tuple[Conditioning, ...] = ()  # whose texts lie behind the prompt's own, all of one length

    def tokens_of(self, words: str, length: int) -> list[int]:
        """Return the places of words in a text of this length that says the prompt over and over."""
        return [place + start for start in range(0, length, self.tokens) for place in self.places(words)]


@dataclass(frozen=True)
class Undesired:
    """What a prompt's embedding is freed of, and how far: 1 takes it out whole."""

    text: str = ""
    strength: float = 1.0


@dataclass(frozen=True, eq=False)
class Asked:
    """One prompt of a request, the LoRAs that read it, and those whose trigger words it may hold."""

    prompt: Prompt
    gate: Gate
    guided: bool
    triggers: Mapping[str, tuple[str, ...]]
    undesired: Undesired = Undesired()
    vocabulary: Vocabulary = NO_WORDS


class PromptReader:
    """Reads prompts, each distinct text under each distinct gate once per order."""

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._readings: dict[tuple[object, ...], Reading] = {}

    def embedding(self, text: str) -> TextEmbedding:
        """Return a plain text as it is read without LoRAs."""
        return self._reading(text, False, ()).chunks[0].text

    def read(self, asked: Asked, notices: dict[str, None]) -> Conditioning:
        """Return a prompt encoded and freed of what is undesired; what there is to say of it goes into `notices`."""
        reading = self._told(asked.prompt.text, asked, "prompt", notices)
        places = partial(prompts.places, self._model, reading)
        tokens = reading.context.embeds.shape[1]
        if asked.undesired.text:
            undesired = self._told(asked.undesired.text, asked, "undesired text", notices)
            reading = reading.freed(undesired, asked.undesired.strength)
        if not asked.guided:
            return Conditioning(reading.context, None, places, tokens)
        negative = self._told(asked.prompt.negative, asked, "negative prompt", notices).context
        if self._model.spec.configs.zero_empty and not asked.prompt.negative:
            negative = sdxl.nothing(negative)
        cond, uncond = prompts.alike([reading.context, negative])
        return Conditioning(cond, uncond, places, tokens)

    def _reading(self, text: str, weighted: bool, gate: Gate, more: Vocabulary = NO_WORDS) -> Reading:
        key = (text, weighted, gate, more)
        if key not in self._readings:
            read = prompts.read if weighted else prompts.read_plain
            self._readings[key] = read(self._model, text, gate, more)
        return self._readings[key]

    def _told(self, text: str, asked: Asked, what: str, notices: dict[str, None]) -> Reading:
        """Read a text, and tell what there is to say of it."""
        found = self._reading(text, asked.prompt.weighted, asked.gate, asked.vocabulary)
        for notice in (*found.notices, *_length(found, asked.prompt.weighted, what, asked.triggers)):
            notices[notice] = None
        return found


def together(read: Sequence[Conditioning]) -> Conditioning:
    """Return what a pass with areas reads: its own prompt and after it those of the areas, all of one length."""
    own, *others = read
    if not others:
        return own
    unconds = [one.uncond for one in read if one.uncond is not None]
    uncond = _joined(unconds) if unconds else None
    return replace(own, cond=_joined([one.cond for one in read]), uncond=uncond, areas=tuple(others))


def _joined(contexts: Sequence[Context]) -> Context:
    return Context(torch.cat([one.embeds for one in prompts.alike(contexts)], 1), contexts[0].pooled)


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
        read = f"the {what} is read in {len(found.chunks)} chunks"
        return [f"{read}; a plain pipeline would not have seen this end of it: {end}{whose}"]
    return [f"the {what} is longer than the model reads; it did not see this end of it: {end}{whose}"]


def _has(text: str, word: str) -> bool:
    """Tell whether a text holds a word, spaces and cases aside: tokens do not keep them."""
    found, sought = ("".join(one.lower().split()) for one in (text, word))
    return sought in found
