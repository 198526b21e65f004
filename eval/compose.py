"""ComposLoRA's question asked of the embedded zoo: how many of a set's concepts does one picture show, by method?

Every method gets the same prompt, the same noise, its default parameters and every LoRA at its preferred weight;
`naive` gets the prompt alone. `truth` is the drawn picture: the most that the judge can find. Defaults are not tuned
to a step count: at 20 steps, Switch with its interval of 5 never comes to the fifth member of a set; `switch_1`, with
turns of one step, does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from composer.request import AdapterUse, RenderRequest
from eval import outputs, sheets
from eval.bench import FOUND, Bench, share
from eval.errors import NoResults
from eval.intervals import Interval, bootstrap
from eval.sets import SIZES, ConceptSet, sample_sets
from lora_zoo.detectors import anywhere
from lora_zoo.world.draw import draw
from lora_zoo.world.vocabulary import CATEGORIES, concept
from pipelines.images import Rendering
from pipelines.sheet import Tile

TRUTH = "truth"
#: column -> registered method and its parameters
METHODS: Mapping[str, tuple[str, Mapping[str, int]]] = {
    "naive": ("merge", {}),
    "merge": ("merge", {}),
    "switch": ("switch", {}),
    "switch_1": ("switch", {"interval": 1}),
    "composite": ("composite", {}),
}
_EXAMPLES = 2  # sets of each size on the sheet, one of each family
_SCALE = 3


@dataclass(frozen=True)
class Case:
    """One set with one seed."""

    members: ConceptSet
    seed: int

    def request(self, method: str) -> RenderRequest:
        uses = () if method == "naive" else tuple(AdapterUse(name=one.name) for one in self.members.members)
        prompt = self.members.prompt(self.seed)
        name, parameters = METHODS[method]
        return RenderRequest(prompt=prompt, seed=self.seed, adapters=uses, method=name, parameters=parameters)


@dataclass(frozen=True)
class Row:
    """One picture."""

    size: int
    method: str
    family: str
    members: str
    seed: int
    prompt: str
    found: dict[str, bool]  # per member
    passes: int
    seconds: float
    picture: str


@dataclass(frozen=True)
class Cell:
    """All sets of one size by one method."""

    size: int
    method: str
    sets: int
    pictures: int
    present: Interval  # of a set's concepts, the share shown
    complete: Interval  # of pictures, the share that shows all
    categories: dict[str, float]  # of the sets that have one of this category, the share that shows it
    passes: float
    seconds: float  # the median: the first pictures pay for warming up


@dataclass(frozen=True)
class Summary:
    """Sizes outside, methods inside."""

    settings: str
    seeds: int
    cells: tuple[Cell, ...]


def run(bench: Bench, sets: int, seeds: int) -> Summary:
    """Render and judge every method on the same sets, and write what was found."""
    cases = {size: [Case(one, seed) for one in sample_sets(size, sets) for seed in range(seeds)] for size in SIZES}
    rows: list[Row] = []
    shown: dict[int, list[sheets.Row]] = {}
    with bench.bar("compose", len(METHODS) * sum(map(len, cases.values()))) as advance:
        for size, some in cases.items():
            made = {method: bench.gallery.render([c.request(method) for c in some], advance) for method in METHODS}
            judged = _judged(bench, some, made)
            rows += [row for its in judged.values() for row in its]
            shown[size] = _examples(some, made, judged)
    cells = tuple(cell([r for r in rows if (r.size, r.method) == (n, m)]) for n in SIZES for m in (TRUTH, *METHODS))
    summary = Summary(bench.gallery.settings(), seeds, cells)
    outputs.write_rows(rows, bench.path("compose.jsonl"))
    outputs.write_summary(summary, bench.path("compose.json"))
    page = sheets.page([row for size in SIZES for row in shown[size]], _SCALE)
    outputs.write_sheet(page, bench.path("compose.png"))
    return summary


def _judged(bench: Bench, cases: Sequence[Case], made: dict[str, list[Rendering]]) -> dict[str, list[Row]]:
    """Return the rows of one size by method, the ground truth first."""
    drawn = [draw(case.members.scene(), case.seed) for case in cases]
    out = {TRUTH: [_row(case, TRUTH, scores) for case, scores in zip(cases, bench.judge.scores(drawn), strict=True)]}
    for method, renderings in made.items():
        scores = bench.judge.scores([one.image for one in renderings])
        out[method] = [
            _row(case, method, seen, (rendering, bench.gallery.path(case.request(method)).name))
            for case, rendering, seen in zip(cases, renderings, scores, strict=True)
        ]
    return out


def _row(case: Case, method: str, scores: dict[str, float], rendered: tuple[Rendering, str] | None = None) -> Row:
    members = case.members.members
    return Row(
        size=len(members),
        method=method,
        family=case.members.family,
        members=case.members.name,
        seed=case.seed,
        prompt=case.members.prompt(case.seed),
        found={one.name: anywhere(scores, one.name) >= FOUND for one in members},
        passes=rendered[0].record.unet_passes if rendered else 0,
        seconds=_seconds(rendered[0]) if rendered else 0.0,
        picture=rendered[1] if rendered else "",
    )


def _seconds(rendering: Rendering) -> float:
    if rendering.record.seconds is None:
        raise NoResults("a kept picture does not say how long it took; remove the folder `pictures` and run this again")
    return rendering.record.seconds


def cell(rows: Sequence[Row]) -> Cell:
    """Average within sets first: the seeds of one set are not independent."""
    names = list(dict.fromkeys(row.members for row in rows))
    own = [[row for row in rows if row.members == name] for name in names]
    present = [share([answer for row in its for answer in row.found.values()]) for its in own]
    complete = [share([all(row.found.values()) for row in its]) for its in own]
    survival: dict[str, float] = {}
    for category in CATEGORIES:
        answers = [seen for row in rows for name, seen in row.found.items() if concept(name).category == category]
        if answers:
            survival[category] = share(answers)
    return Cell(
        size=rows[0].size,
        method=rows[0].method,
        sets=len(names),
        pictures=len(rows),
        present=bootstrap(present),
        complete=bootstrap(complete),
        categories=survival,
        passes=sum(row.passes for row in rows) / len(rows),
        seconds=median(row.seconds for row in rows),
    )


def _examples(
    cases: Sequence[Case], made: dict[str, list[Rendering]], judged: dict[str, list[Row]]
) -> list[sheets.Row]:
    """Return the sheet's rows of one size: the first set of each family, whatever came of it."""
    firsts = [next(i for i, case in enumerate(cases) if case.members.family == f) for f in _families(cases)]
    rows: list[sheets.Row] = []
    for place in firsts[:_EXAMPLES]:
        case = cases[place]
        tiles = [Tile("drawn", _found(judged[TRUTH][place]), draw(case.members.scene(), case.seed))]
        tiles += [Tile(m, _found(judged[m][place]), made[m][place].image) for m in METHODS]
        rows.append(sheets.Row(case.members.prompt(case.seed), tuple(tiles)))
    return rows


def _families(cases: Sequence[Case]) -> list[str]:
    return list(dict.fromkeys(case.members.family for case in cases))


def _found(row: Row) -> str:
    return f"{sum(row.found.values())} of {len(row.found)} found"
