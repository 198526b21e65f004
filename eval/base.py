"""What the base model does with captions it never saw: the share of the named attributes that its pictures show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from composer.request import RenderRequest
from eval import outputs, scenes, sheets
from eval.bench import FOUND, Bench, kind, known_share, share
from eval.scenes import Captioned
from lora_zoo.world.labels import named

_STREAM = "base judged"
_SHOWN, _COLUMNS = 64, 8


@dataclass(frozen=True)
class Row:
    """One picture."""

    prompt: str
    seed: int
    creatures: int
    found: dict[str, bool]  # per named label
    picture: str


@dataclass(frozen=True)
class Summary:
    """Shares of the named attributes that were found."""

    pictures: int
    settings: str
    overall: float
    one_creature: float | None  # None: no picture asked for it
    two_creatures: float | None
    complete: float  # pictures that show all that was named
    kinds: dict[str, float]


def run(bench: Bench, count: int) -> Summary:
    """Render unseen captions at the model's default settings and write what was found."""
    asked = scenes.unseen(count, _STREAM)
    requests = [RenderRequest(prompt=one.text, seed=seed) for seed, one in enumerate(asked)]
    with bench.bar("base", count) as advance:
        pictures = [one.image for one in bench.gallery.render(requests, advance)]
    scores = bench.judge.scores(pictures)
    found = [
        {label: seen[label] >= FOUND for label in named(one.scene)} for one, seen in zip(asked, scores, strict=True)
    ]
    rows = [_row(bench, one, request, each) for one, request, each in zip(asked, requests, found, strict=True)]
    summary = summarise(rows, bench.gallery.settings())
    outputs.write_rows(rows, bench.path("base.jsonl"))
    outputs.write_summary(summary, bench.path("base.json"))
    outputs.write_sheet(sheets.bare(pictures[:_SHOWN], _COLUMNS), bench.path("base.png"))
    return summary


def _row(bench: Bench, one: Captioned, request: RenderRequest, found: dict[str, bool]) -> Row:
    return Row(one.text, request.seed, len(one.scene.creatures), found, bench.gallery.path(request).name)


def summarise(rows: Sequence[Row], settings: str) -> Summary:
    """Pool all named attributes of all pictures."""
    kinds: defaultdict[str, list[bool]] = defaultdict(list)
    for row in rows:
        for label, seen in row.found.items():
            kinds[kind(label)].append(seen)
    by_count = {n: known_share([a for row in rows if row.creatures == n for a in row.found.values()]) for n in (1, 2)}
    return Summary(
        pictures=len(rows),
        settings=settings,
        overall=share([answer for row in rows for answer in row.found.values()]),
        one_creature=by_count[1],
        two_creatures=by_count[2],
        complete=share([all(row.found.values()) for row in rows]),
        kinds={name: share(answers) for name, answers in sorted(kinds.items())},
    )
