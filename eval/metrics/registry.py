"""Metrics by name. A metric is a function of pictures that declares what it returns, its unit, and what is better."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from importlib import import_module
from typing import Literal, TypeVar

from composer.errors import UnknownChoice
from composer.registry import redefined
from eval.metrics.batch import Batch
from eval.suites.model import Suite

Need = Literal["truth", "sides", "references", "dino"]
Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Measure:
    """One figure of a metric."""

    name: str
    title: str
    unit: str  # "share" is shown in percent
    better: Better
    about: str
    absent: str = "not asked of these pictures"  # why a picture may lack it


@dataclass(frozen=True)
class Found:
    """What a metric says of one picture: its measures, and what they are made of, by member or label."""

    values: Mapping[str, float]
    parts: Mapping[str, float] = field(default_factory=dict)


#: For each picture of a batch what was found, or None where the question does not arise.
Answer = Callable[[Batch], Sequence[Found | None]]


@dataclass(frozen=True)
class Metric:
    """A registered metric."""

    name: str
    measures: tuple[Measure, ...]
    needs: frozenset[Need]
    by: str  # what it measures by, in words; "clip" and "dino" stand for the models that a run chooses
    ready: Callable[[], None] | None  # raises BadMetric where a package or weights are not there
    usual: bool  # whether it is taken without being named
    of_work: bool  # whether it says what a picture took, not what it shows
    answer: Answer

    def lacks(self, suite: Suite, given: Set[Need] = frozenset()) -> str | None:
        """Say what is missing to take it on a suite, with what is given beside it; None if nothing is."""
        there = {"truth": suite.drawn, "sides": suite.drawn and suite.regional}
        words = {
            "truth": "a ground truth",
            "sides": "sides that its members belong to",
            "references": "pictures of each LoRA alone (--references)",
            "dino": "a DINO (--dino)",
        }
        return next((words[need] for need in sorted(self.needs) if not there.get(need, need in given)), None)


#: Models that a run chooses, in the order of their metrics.
CHOSEN: Mapping[str, int] = {"clip": 1, "dino": 2}
DETECTORS = "the detectors of the embedded world"

_metrics: dict[str, Metric] = {}
_A = TypeVar("_A", bound=Answer)


def metric(
    name: str,
    *measures: Measure,
    needs: Sequence[Need] = (),
    by: str,
    usual: bool = True,
    of_work: bool = False,
    ready: Callable[[], None] | None = None,
) -> Callable[[_A], _A]:
    """Register a metric under a name that no other has, with measures that no other has.

    The same function defined once more takes its own place.
    """

    def register(answer: _A) -> _A:
        own = name in _metrics and redefined(_metrics[name].answer, answer)
        taken = {one.name for known in _metrics.values() if not own or known.name != name for one in known.measures}
        twice = taken & {one.name for one in measures}
        if (name in _metrics and not own) or twice:
            raise ValueError(f"two metrics are called {name!r} or have the measures {sorted(twice)}")
        _metrics[name] = Metric(name, measures, frozenset(needs), by, ready, usual, of_work, answer)
        return answer

    return register


def every() -> tuple[Metric, ...]:
    """Return all metrics: what a picture shows first, then CLIP's views, then what it took."""
    return tuple(sorted(_all().values(), key=lambda one: (one.of_work, CHOSEN.get(one.by, 0), one.name != "presence")))


def get(name: str) -> Metric:
    """Return a metric; an unknown name is an error that tells the nearest one."""
    known = _all()
    if name not in known:
        raise UnknownChoice("metric", name, known)
    return known[name]


def _all() -> dict[str, Metric]:
    import_module("eval.metrics.catalog")  # registers them, once; here, so that no caller can forget it
    return _metrics
