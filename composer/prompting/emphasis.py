"""A1111's emphasis: which parts of a prompt count how much.

(text) counts 1.1 times, (text:1.5) 1.5 times, [text] 1 / 1.1 times; they multiply where they are nested. A backslash
before a bracket or another backslash makes it a plain character. BREAK begins a new chunk of what the text encoder
reads at once. A bracket that is never closed weighs all that follows it, as in A1111; here that is told as well.
Deviation: BREAK works inside of brackets too; A1111 reads it as a word there. Brackets nested deeper than `_DEPTH` are
plain characters, so that the time taken grows with the length of a text only; and no weight is more than `MOST_WEIGHT`,
which is told: numbers of any length can be written, and infinite weights leave no picture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from lora_zoo.errors import shortened

_CLOSERS = {"(": ")", "[": "]"}
STRONGER = 1.1
WEAKER = 1 / 1.1

_TOKEN = re.compile(
    r"""
    \\(?P<escaped>[\\()\[\]]?)                                        # what follows is meant as it stands
    | :\s*(?P<weight>[+-]?(?:\d+(?:\.\d*)?|\.\d+))\s*\)                   # closes a round bracket with a weight
    | (?P<bracket>[()\[\]])
    | (?P<plain>:|[^\\()\[\]:]+)
    """,
    re.VERBOSE,
)
_BREAK = re.compile(r"\bBREAK\b")
_WORDS = re.compile(r"\b(BREA|AN)([KD])\b")  # that would not be words
_AT_END = re.compile(r":(?=[\s\d.+-]*\Z)")  # before a number at the end, which would weigh a prompt
_DEPTH = 100
MOST_WEIGHT = 100_000.0  # a hundred brackets in each other weigh 13,781
_FINITE = 1e150  # a product of two is finite too


@dataclass(frozen=True)
class Span:
    """A piece of text and how much it counts."""

    text: str
    weight: float = 1.0


@dataclass(frozen=True)
class Emphasised:
    """A prompt as spans, in groups that BREAK parts; and what its author may not have meant."""

    groups: tuple[tuple[Span, ...], ...]
    notices: tuple[str, ...]

    @property
    def text(self) -> str:
        """Return the text alone, as a pipeline without weights would read it."""
        return " ".join("".join(span.text for span in group) for group in self.groups)


@dataclass
class _Reader:
    """The spans so far, and where brackets were opened: (number of spans before it, place in the text)."""

    spans: list[tuple[str | None, float]] = field(default_factory=list[tuple[str | None, float]])  # None: BREAK
    round: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    square: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    deeper: dict[str, int] = field(default_factory=lambda: {")": 0, "]": 0})  # plain ones that are still to close

    def take(self, token: re.Match[str]) -> None:
        bracket, weight = token["bracket"], token["weight"]
        opened = {"(": self.round, "[": self.square}.get(bracket)
        closes = ")" if weight is not None else bracket
        if opened is not None and len(opened) < _DEPTH:
            opened.append((len(self.spans), token.start()))
        elif opened is not None:
            self.deeper[_CLOSERS[bracket]] += 1
            self.say(token[0])
        elif self.deeper.get(closes):
            self.deeper[closes] -= 1
            self.say(token[0])
        elif weight is not None and self.round:
            self.weigh(self.round.pop()[0], float(weight))
        elif bracket == ")" and self.round:
            self.weigh(self.round.pop()[0], STRONGER)
        elif bracket == "]" and self.square:
            self.weigh(self.square.pop()[0], WEAKER)
        elif token["escaped"] is not None:
            self.spans.append((token["escaped"], 1.0))
        else:
            self.say(token[0])

    def say(self, text: str) -> None:
        pieces = _BREAK.split(text)
        for place, piece in enumerate(pieces):
            if place:
                piece = piece.lstrip()
                self.spans.append((None, 1.0))
            self.spans.append((piece if place + 1 == len(pieces) else piece.rstrip(), 1.0))

    def weigh(self, start: int, factor: float) -> None:
        """Multiply all spans since a bracket."""
        factor = bounded(factor, _FINITE)
        self.spans[start:] = [(text, bounded(weight * factor, _FINITE)) for text, weight in self.spans[start:]]


def parse(prompt: str) -> Emphasised:
    """Read a prompt; every text is one."""
    reader = _Reader()
    for token in _TOKEN.finditer(prompt):
        reader.take(token)
    notices = [
        f"the '{bracket}' at character {place + 1} of the prompt is never closed; it weighs all that follows"
        for bracket, opened in (("(", reader.round), ("[", reader.square))
        for _, place in opened
    ]
    for opened, factor in ((reader.round, STRONGER), (reader.square, WEAKER)):
        for start, _ in opened:
            reader.weigh(start, factor)
    if heaviest := [text for text, weight in reader.spans if text and abs(weight) > MOST_WEIGHT]:
        most = f"{MOST_WEIGHT:,.0f}, the most that there is"
        notices.append(f"the prompt gives {shortened(heaviest[0])} too great a weight; it counts as {most}")
    spans = [(text, bounded(weight, MOST_WEIGHT)) for text, weight in reader.spans]
    return Emphasised(_groups(spans), tuple(notices))


def bounded(weight: float, most: float) -> float:
    """Return a weight, or the greatest that there is, of its sign."""
    return max(-most, min(most, weight))


def escape(text: str, last: bool = True) -> str:
    """Return a text that A1111's grammar reads as this text at weight 1, words such as AND included.

    `last`: it ends the prompt, where a number behind a colon would weigh it.
    """
    bare = _WORDS.sub(r"\1\\\2", re.sub(r"([\\()\[\]])", r"\\\1", text))
    return _AT_END.sub(r":\\", bare) if last else bare


def _groups(spans: list[tuple[str | None, float]]) -> tuple[tuple[Span, ...], ...]:
    """Part spans at BREAK, leave out empty ones and join neighbours of one weight."""
    groups: list[list[tuple[list[str], float]]] = [[]]
    for text, weight in spans:
        if text is None:
            groups.append([])
        elif text and groups[-1] and groups[-1][-1][1] == weight:
            groups[-1][-1][0].append(text)
        elif text:
            groups[-1].append(([text], weight))
    return tuple(tuple(Span("".join(texts), weight) for texts, weight in group) for group in groups)
