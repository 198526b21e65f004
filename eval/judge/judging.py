"""Pairs of pictures before a judge: every method against one, both orders, means, wins, and what had to be dropped."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from PIL import Image

from eval.errors import BadRun
from eval.judge.endpoint import Endpoint, brief
from eval.judge.errors import NoJudge, Unreadable
from eval.judge.protocols import Protocol
from eval.measuring import Measured, Row
from eval.page.elements import opened
from eval.statistics import Contest, contest, holm
from eval.suites.model import Composition

_LARGEST = 1024  # pixels of a picture's longer side
_SMALLEST = 256  # smaller pictures are enlarged by whole pixels: judges see little in 64x64
_TOKENS_PER_PICTURE = 765  # of a 1024x1024 picture by a common tariff; an estimate
_TURNS = 3  # times that the same is asked at most, where answers cannot be read
PATIENCE = 2 * _TURNS  # unreadable answers in a row after which nothing more is asked

Scores = tuple[Mapping[str, float], Mapping[str, float]]  # of the first and of the second picture


@dataclass(frozen=True)
class Pair:
    """Two pictures of the same case."""

    set: Composition
    case: str
    a: Row  # of the method that is judged
    b: Row  # of the one it is held against


@dataclass(frozen=True)
class Price:
    """What judging will take."""

    pairs: int
    requests: int  # that are not answered yet, each pair in both orders
    tokens: int  # of these, an estimate, answers not included
    tries: int  # that one request may take where the server fails

    @property
    def told(self) -> str:
        """Say it, the worst case as well."""
        first = (
            f"{self.pairs} pairs, {self.requests} requests not answered yet, about {self.tokens} tokens and the answers"
        )
        if not self.requests:
            return first
        most = _TURNS * self.requests
        return (
            f"{first}. At the worst, if answers cannot be read: {most} requests, about {_TURNS * self.tokens} tokens, "
            f"each sent up to {self.tries} times where the server fails, {most * self.tries} in all; after {PATIENCE} "
            "unreadable answers in a row it stops"
        )


@dataclass(frozen=True)
class Verdict:
    """One pair, in both orders."""

    set: str
    case: str
    a: str
    b: str
    scores_a: Mapping[str, float]  # means of both orders
    scores_b: Mapping[str, float]
    first: Mapping[str, float]  # how much better a picture fares when it is shown first, by dimension


@dataclass(frozen=True)
class Line:
    """A method against another in one dimension."""

    method: str
    other: str
    dimension: str
    mean: float
    mean_other: float
    contest: Contest
    corrected: float


@dataclass(frozen=True)
class Judged:
    """All verdicts, and what became of the rest."""

    protocol: str
    model: str
    verdicts: tuple[Verdict, ...]
    dropped: int  # pairs without readable answers in both orders


def pairs(measured: Measured, other: str, methods: Sequence[str]) -> list[Pair]:
    """Return every case that both methods have a picture of."""
    rows = {(row.column, row.case.name): row for row in measured.rows if row.file}
    known = {column for column, _ in rows}
    for name in (other, *methods):
        if name not in known:
            there = ", ".join(sorted(known)) or "none at all"
            raise BadRun(f"{measured.run.folder} holds no pictures of {name!r}; it has {there}")
    found = [
        Pair(case.set, case.name, rows[method, case.name], rows[other, case.name])
        for method in dict.fromkeys(methods)
        if method != other
        for case in measured.run.cases
        if (method, case.name) in rows and (other, case.name) in rows
    ]
    if not found:
        raise BadRun(f"there is nothing to hold against {other!r}: name other methods that have the same pictures")
    return found


class Court:
    """A judge with a protocol, and the pictures of one run."""

    def __init__(self, endpoint: Endpoint, protocol: Protocol, measured: Measured) -> None:
        self._endpoint, self._protocol, self._folder = endpoint, protocol, measured.run.folder
        self._unreadable = 0  # answers in a row, the last ones that came

    def price(self, some: Sequence[Pair]) -> Price:
        """Count what is not answered yet, and what it can come to."""
        requests = tokens = 0
        for one in some:
            text = self._protocol.question(one.set)
            a, b = self._seen(one.a), self._seen(one.b)
            open_ = sum(self._kept(one.set, both) is None for both in ((a, b), (b, a)))
            requests += open_
            tokens += open_ * (len(text) // 4 + 2 * _TOKENS_PER_PICTURE)
        return Price(len(some), requests, tokens, self._endpoint.tries)

    def judge(self, some: Sequence[Pair], model: str, told: Callable[[int], None]) -> Judged:
        """Ask about every pair in both orders.

        Raises:
            NoJudge: The server does not answer, or several answers in a row cannot be read. What could be is kept.
        """
        verdicts: list[Verdict] = []
        for one in some:
            verdict = self._verdict(one)
            verdicts += [] if verdict is None else [verdict]
            told(1)
        return Judged(self._protocol.name, model, tuple(verdicts), len(some) - len(verdicts))

    def _verdict(self, one: Pair) -> Verdict | None:
        a, b = self._seen(one.a), self._seen(one.b)
        forth = self._scores(one.set, (a, b))
        back = None if forth is None else self._scores(one.set, (b, a))  # one order alone is no verdict: not asked
        if forth is None or back is None:
            return None
        names = [key for key, _ in self._protocol.dimensions]
        return Verdict(
            one.set.key,
            one.case,
            one.a.column,
            one.b.column,
            {key: (forth[0][key] + back[1][key]) / 2 for key in names},
            {key: (forth[1][key] + back[0][key]) / 2 for key in names},
            {key: (forth[0][key] + back[0][key] - forth[1][key] - back[1][key]) / 2 for key in names},
        )

    def _kept(self, asked: Composition, both: tuple[bytes, bytes]) -> Scores | None:
        """Return the scores of a question that is answered already."""
        text = self._protocol.question(asked)
        for turn in range(_TURNS):
            answer = self._endpoint.kept(text, both, turn)
            if answer is not None:
                try:
                    return self._protocol.read(answer, asked)
                except Unreadable:
                    continue
        return None

    def _scores(self, asked: Composition, both: tuple[bytes, bytes]) -> Scores | None:
        """Return the scores of both pictures; None if no answer was readable."""
        known = self._kept(asked, both)
        if known is not None:
            return known
        text = self._protocol.question(asked)
        for turn in range(_TURNS):
            answer = self._endpoint.ask(text, both)
            try:
                found = self._protocol.read(answer, asked)
            except Unreadable as error:
                self._endpoint.keep(text, both, turn, answer, readable=False)
                self._count(answer, error)
                continue
            self._endpoint.keep(text, both, turn, answer)
            self._unreadable = 0
            return found
        return None

    def _count(self, answer: str, error: Unreadable) -> None:
        """Count an answer that cannot be read; after several in a row nothing more is paid for."""
        self._unreadable += 1
        if self._unreadable >= PATIENCE:
            raise NoJudge(
                f"{self._unreadable} answers in a row cannot be read by protocol {self._protocol.name} ({error}), so "
                f"nothing more is asked. The last one: {brief(answer)!r}. All of them are in "
                f"{self._endpoint.unreadable}; those that could be read are kept, the same command goes on after them"
            ) from error

    def _seen(self, row: Row) -> bytes:
        """Return a picture as the judge is given it."""
        image = opened(self._folder / row.file)
        longer = max(image.size)
        if longer < _SMALLEST:
            times = _SMALLEST // longer
            image = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
        image.thumbnail((_LARGEST, _LARGEST))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        return buffer.getvalue()


def lines(judged: Judged) -> list[Line]:
    """Return each method against the other in each dimension; p-values are corrected over all lines."""
    found: list[tuple[str, str, str, list[float], list[float]]] = []
    for method, other in dict.fromkeys((one.a, one.b) for one in judged.verdicts):
        own = [one for one in judged.verdicts if (one.a, one.b) == (method, other)]
        for dimension in own[0].scores_a:
            a, b = _by_set(own, dimension)
            found.append((method, other, dimension, a, b))
    met = [contest(a, b, "higher") for *_, a, b in found]
    corrected = holm([one.p for one in met])
    return [
        Line(method, other, dimension, fmean(a), fmean(b), one, p)
        for (method, other, dimension, a, b), one, p in zip(found, met, corrected, strict=True)
    ]


def position_bias(judged: Judged) -> dict[str, float]:
    """Return, by dimension, how much better pictures fare when they are shown first."""
    known = judged.verdicts
    return {key: fmean(one.first[key] for one in known) for key in known[0].first} if known else {}


def _by_set(own: Sequence[Verdict], dimension: str) -> tuple[list[float], list[float]]:
    """Return means over the replicates of each set."""
    names = list(dict.fromkeys(one.set for one in own))
    both = [[one for one in own if one.set == name] for name in names]
    a = [fmean(one.scores_a[dimension] for one in some) for some in both]
    return a, [fmean(one.scores_b[dimension] for one in some) for some in both]
