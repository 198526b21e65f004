"""ComfyUI's prompts: all is text but ( ), which weigh what they hold.

(text) counts 1.1 times as much as what is around it, (text:1.5) exactly 1.5 times, whatever that is: unlike in A1111's
prompts, an inner number takes the place of outer ones. A backslash makes a bracket text. Brackets that do not pair up
are text, but that a text which begins and ends with brackets loses both, as there. Weights act on embeddings as A1111's
do here, for ComfyUI's way of it is another (towards the empty prompt's embedding).
Deviation: brackets nested deeper than `_DEPTH` are text, and so is a number that is not finite.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from decimal import Decimal

from composer.prompting import emphasis
from composer.prompting.emphasis import STRONGER, Span

_DEPTH = 50
_TEXT = -1  # the depth of what is read no further
_ESCAPES = {"\\)": "\0\1", "\\(": "\0\2"}


def parse(prompt: str) -> tuple[Span, ...]:
    """Return the pieces of a prompt with their weights; every text is one."""
    for sign, mark in _ESCAPES.items():
        prompt = prompt.replace(sign, mark)
    spans: list[Span] = []
    waiting = [(prompt, 1.0, 0)]
    while waiting:
        text, weight, depth = waiting.pop()
        if depth == _TEXT or depth == _DEPTH or "(" not in text:
            spans.append(Span(_unescaped(text), weight))
        else:
            waiting += reversed([_read(item, weight, depth) for item in _items(text)])
    return tuple(span for span in spans if span.text)


def as_a1111(prompt: str) -> str:
    """Return the prompt that says the same in A1111's grammar."""
    spans = parse(prompt)
    return "".join(_written(span, last=place + 1 == len(spans)) for place, span in enumerate(spans))


def spoken(prompt: str) -> str:
    """Return the words of a prompt, without weights."""
    return "".join(span.text for span in parse(prompt))


def _written(span: Span, last: bool) -> str:
    text = emphasis.escape(span.text, last)
    return text if span.weight == 1.0 else f"({text}:{format(Decimal(repr(span.weight)), 'f')})"


def _read(item: str, weight: float, depth: int) -> tuple[str, float, int]:
    """Return a piece with its weight, and how deep it lies."""
    if len(item) < 2 or item[0] != "(" or item[-1] != ")":
        return item, weight, _TEXT
    inner = item[1:-1]
    place = inner.rfind(":")
    stated = _number(inner[place + 1 :]) if place > 0 else None
    return (inner, _stronger(weight), depth + 1) if stated is None else (inner[:place], stated, depth + 1)


def _stronger(weight: float) -> float:
    return emphasis.bounded(weight * STRONGER, sys.float_info.max)  # a stated weight may be near it


def _items(text: str) -> Iterator[str]:
    """Yield what is outside of all brackets and what is in each pair, the brackets included."""
    start = level = 0
    for place, sign in enumerate(text):
        if sign == "(":
            if level == 0 and start < place:
                yield text[start:place]
                start = place
            level += 1
        elif sign == ")":
            level -= 1
            if level == 0:
                yield text[start : place + 1]
                start = place + 1
    if start < len(text):
        yield text[start:]


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _unescaped(text: str) -> str:
    for sign, mark in _ESCAPES.items():
        text = text.replace(mark, sign[1:])
    return text
