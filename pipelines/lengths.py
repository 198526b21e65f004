"""How many chunks prompts are read in, told without a model: what passes share a call depends on it.

A plain text of no more characters than a chunk has tokens is one chunk for certain. For others the tokenizer is read;
what it makes of a text is kept. Words that LoRA files bundle count as text, since no file is read.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from composer.plan import Pass, Prompt
from composer.prompting import emphasis
from composer.prompting.emphasis import Span

if TYPE_CHECKING:
    from pipelines.resolve import Resolved
    from pipelines.text import Tokenizer

_USUAL = 77  # tokens that CLIP reads at once, two marks among them


class Lengths:
    """The lengths of one request's prompts."""

    def __init__(self, one: Resolved, prompts: Mapping[str, Prompt]) -> None:
        self._path = one.spec.path
        self._length = int(one.spec.configs.texts["text_encoder"].get("max_position_embeddings", _USUAL)) - 2
        self._chunks = {key: self._of(prompt, one.guided) for key, prompt in prompts.items()}

    def of(self, found: Pass) -> int:
        """Return how many chunks a pass reads: its prompts, repeated to one length."""
        read = [self._chunks[found.prompt], *(self._chunks[area.prompt] for area in found.areas)]
        return math.lcm(*read) * len(read)

    @property
    def chunks(self) -> int:
        """Return how many chunks are read in all, those of a negative prompt once."""
        return sum(self._chunks.values()) + max(self._chunks.values(), default=0)

    def _of(self, prompt: Prompt, guided: bool) -> int:
        if not prompt.weighted:
            return 1  # cut where the encoder stops reading
        texts = (prompt.text, prompt.negative) if guided else (prompt.text,)
        return math.lcm(*(self._count(text) for text in texts))

    def _count(self, text: str) -> int:
        return sum(self._group(group) for group in emphasis.parse(text).groups)

    def _group(self, spans: Sequence[Span]) -> int:
        said = [span.text for span in spans]
        if "".join(said).isascii() and sum(map(len, said)) <= self._length:
            return 1
        from pipelines.prompts import Token, chunked

        comma, *texts = (_tokens(self._path, text) for text in (",", *said))
        tokens = [Token(number, 1.0) for text in texts for number in text]
        return len(chunked(tokens, self._length, comma[0] if comma else -1))


@lru_cache(maxsize=4096)
def _tokens(path: Path, text: str) -> tuple[int, ...]:
    return tuple(_tokenizer(path)(text, add_special_tokens=False, verbose=False)["input_ids"])


@lru_cache(maxsize=4)
def _tokenizer(path: Path) -> Tokenizer:
    from pipelines import loading

    return loading.tokenizer(path)
