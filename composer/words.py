"""Which words of a prompt belong to which LoRA. Words are found whole, in any case, with any space between them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from composer.errors import BadRequest
from lora_zoo.errors import nearest


def found(prompt: str, words: Iterable[str]) -> tuple[str, ...]:
    """Return those of the words that the prompt holds, in their order, each once; files may name empty ones."""
    return tuple(dict.fromkeys(word for word in words if word.strip() and _pattern(word).search(prompt)))


def without(prompt: str, words: Iterable[str]) -> str:
    """Return the prompt with every occurrence of the words taken out, and no empty places left between commas."""
    for word in sorted(words, key=len, reverse=True):  # "striped vest" goes before "vest"
        prompt = _pattern(word).sub("", prompt)
    parts = (" ".join(part.split()) for part in prompt.split(","))
    return ", ".join(part for part in parts if part)


def separated(prompt: str, owners: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the prompt for nobody, then for each owner of words: without what is said for other owners only.

    That is an owner's first word, its trigger, where the rest of its words are enough to say it. A text that would
    lose an owner's words altogether stays whole.
    """
    triggers = [own[:1] if found(without(prompt, own[:1]), own[1:]) else () for own in owners]
    texts = [
        without(prompt, [word for other, words in enumerate(triggers) if other != place for word in words])
        for place in range(-1, len(owners))
    ]
    return [text if all(found(text, own) for own in owners) else prompt for text in texts]


def check(prompt: str, name: str, words: tuple[str, ...], triggers: Iterable[str]) -> None:
    """Refuse a LoRA whose words the prompt does not hold, or of which none are known."""
    missing = [word for word in words if not _pattern(word).search(prompt)]
    if missing:
        raise BadRequest(f"LoRA '{name}': the prompt does not hold its words {missing[0]!r}{_near(prompt, missing[0])}")
    if not words:
        told = ", ".join(map(repr, triggers))
        why = f"its trigger words are not in the prompt: {told}" if told else "its file names no trigger words"
        raise BadRequest(f"LoRA '{name}': the method must know which words of the prompt belong to it, and {why}")


def _near(prompt: str, words: str) -> str:
    """Name the nearest run of as many words of the prompt."""
    read, size = re.findall(r"[\w'-]+", prompt), len(words.split())
    return nearest(words, [" ".join(read[start : start + size]) for start in range(len(read) - size + 1)])


def _pattern(words: str) -> re.Pattern[str]:
    parts = r"\s+".join(map(re.escape, words.split()))
    return re.compile(rf"(?<!\w){parts}(?!\w)", re.IGNORECASE)
