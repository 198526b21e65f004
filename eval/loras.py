"""Each LoRA of the zoo alone at its preferred weight: is its concept there, and is the rest of the prompt still?

The rest is measured against the base model: the same scene without the concept, in the same words, with the same seed
and no LoRA, asked about the same attributes. What a figure wears, holds or is, is asked of scenes with one creature,
places and styles also of scenes with two: so were the LoRAs taught.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from PIL.Image import Image

from composer.request import AdapterUse, RenderRequest
from eval import outputs, sheets
from eval.bench import FOUND, Bench, Scores, known_share, share, value
from lora_zoo.catalog import Catalog
from lora_zoo.detectors import anywhere
from lora_zoo.world.captions import caption
from lora_zoo.world.draw import draw
from lora_zoo.world.labels import named
from lora_zoo.world.scene import Scene, put, sample_base
from lora_zoo.world.vocabulary import CONCEPTS, Concept
from pipelines.sheet import Tile

_PER_SHEET_ROW = 2  # concepts, each as ground truth and two pictures


@dataclass(frozen=True)
class Prompt:
    """A scene with a concept in it and the one without, both in the same words."""

    concept: Concept
    base: Scene
    seed: int

    @property
    def scene(self) -> Scene:
        return put(self.base, (self.concept,))

    def request(self) -> RenderRequest:
        return self._request(self.scene, (AdapterUse(name=self.concept.name),))

    def base_request(self) -> RenderRequest:
        return self._request(self.base, ())

    def others(self) -> tuple[str, ...]:
        """Return the labels that both pictures should show."""
        return tuple(label for label in named(self.scene) if value(label) != self.concept.name)

    def _request(self, scene: Scene, uses: tuple[AdapterUse, ...]) -> RenderRequest:
        return RenderRequest(prompt=caption(scene, Random(f"words {self.seed}")), seed=self.seed, adapters=uses)


@dataclass(frozen=True)
class Row:
    """One picture, beside the base model's."""

    concept: str
    prompt: str
    seed: int
    found: bool
    kept: tuple[bool, ...]  # per other attribute
    base: tuple[bool, ...]  # the same attributes in the base model's picture
    picture: str


@dataclass(frozen=True)
class Line:
    """One LoRA."""

    name: str
    identifier: str
    family: str
    weight: float
    rank: int
    alpha: float
    dialect: str
    components: tuple[str, ...]
    found: float
    kept: float | None  # None: no prompt says anything else
    base: float | None
    relative: float | None  # kept / base; None where the base model shows nothing of it


@dataclass(frozen=True)
class Summary:
    """All LoRAs, in the vocabulary's order."""

    pictures_each: int
    settings: str
    loras: tuple[Line, ...]


def prompts(concept: Concept, count: int) -> list[Prompt]:
    """Return the prompts of a concept; concepts that are shown the same way share their scenes."""
    two = 0.25 if concept.category in ("style", "background") else 0.0
    rng = Random(f"loras judged {two}")
    return [Prompt(concept, sample_base(rng, two), seed) for seed in range(count)]


def run(bench: Bench, count: int) -> Summary:
    """Render and judge every LoRA of the zoo, and write what was found."""
    zoo, rows, tiles = Catalog.load(), [], []
    for one in CONCEPTS:
        zoo.get(one.name)  # a zoo that lacks one is no zoo: better told now than an hour later
    with bench.bar("loras", 2 * count * len(CONCEPTS)) as advance:
        for one in CONCEPTS:
            asked = prompts(one, count)
            base = bench.gallery.render([each.base_request() for each in asked], advance)
            made = bench.gallery.render([each.request() for each in asked], advance)
            pictures = [each.image for each in made]
            scores = zip(bench.judge.scores(pictures), bench.judge.scores([b.image for b in base]), strict=True)
            rows += [_row(bench, each, *pair) for each, pair in zip(asked, scores, strict=True)]
            tiles.append(_tiles(asked, pictures))
    lines = tuple(_line(one, zoo, [row for row in rows if row.concept == one.name]) for one in CONCEPTS)
    summary = Summary(count, bench.gallery.settings(), lines)
    outputs.write_rows(rows, bench.path("loras.jsonl"))
    outputs.write_summary(summary, bench.path("loras.json"))
    pairs = [tiles[start : start + _PER_SHEET_ROW] for start in range(0, len(tiles), _PER_SHEET_ROW)]
    page = sheets.page([sheets.Row("", tuple(tile for some in pair for tile in some)) for pair in pairs])
    outputs.write_sheet(page, bench.path("loras.png"))
    return summary


def _row(bench: Bench, asked: Prompt, scores: Scores, base: Scores) -> Row:
    request = asked.request()
    return Row(
        concept=asked.concept.name,
        prompt=request.prompt,
        seed=asked.seed,
        found=anywhere(scores, asked.concept.name) >= FOUND,
        kept=tuple(scores[label] >= FOUND for label in asked.others()),
        base=tuple(base[label] >= FOUND for label in asked.others()),
        picture=bench.gallery.path(request).name,
    )


def _tiles(asked: Sequence[Prompt], pictures: Sequence[Image]) -> list[Tile]:
    name = asked[0].concept.name
    truth = Tile(name.replace("_", " "), "", draw(asked[0].scene, asked[0].seed))
    return [truth, *(Tile("rendered", "", picture) for picture in pictures[:2])]


def _line(one: Concept, zoo: Catalog, rows: Sequence[Row]) -> Line:
    entry = zoo.get(one.name)
    kept = known_share([answer for row in rows for answer in row.kept])
    base = known_share([answer for row in rows for answer in row.base])
    return Line(
        name=one.name,
        identifier=one.identifier,
        family=one.family,
        weight=entry.weight,
        rank=entry.rank,
        alpha=entry.alpha,
        dialect=entry.dialect,
        components=entry.components,
        found=share([row.found for row in rows]),
        kept=kept,
        base=base,
        relative=kept / base if kept is not None and base else None,
    )
