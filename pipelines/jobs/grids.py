"""Labelled sheets of a batch's grids: x across, y down, one sheet above another for z."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from pydantic import BaseModel, ValidationError

from lora_zoo.errors import ZooError
from lora_zoo.foreign import documents, files, pictures
from lora_zoo.foreign import text as characters
from lora_zoo.foreign.documents import Bounds
from lora_zoo.storage import atomic
from pipelines import sheet
from pipelines.jobs.entries import Entry
from pipelines.jobs.errors import BadLedger
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.paper import GAP, LEFT, LINE, paper
from pipelines.jobs.planning import Grid
from pipelines.jobs.states import State

_NAME = re.compile(r"grid-\d+\.png")
_BOUNDS = Bounds(length=1 << 26)  # a grid of many jobs has a digest of each
_INK, _PAPER = (24, 24, 24), (255, 255, 255)


class Content(BaseModel):
    """A grid as the ledger keeps it."""

    title: str
    labels: list[list[str]]  # per axis, per value
    cells: list[tuple[list[int], str]]  # place on the axes, digest of the job

    @classmethod
    def of(cls, grid: Grid) -> Content:
        labels = [[axis.label(value) for value in axis.values] for axis in grid.axes]
        return cls(title=grid.title, labels=labels, cells=[(list(place), digest) for place, digest in grid.cells])


@dataclass(frozen=True, eq=False)
class _Table:
    """Rows of pictures, with a label per column and row."""

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Image.Image | None]]]


def content_of(file: str, text: str) -> Content:
    """Return a grid of the ledger; a row that cannot be one is an error."""
    try:
        if not _NAME.fullmatch(file):  # it is written to: a name in the folder, and nothing that leads out of it
            raise BadLedger(f"{characters.escaped(file)!r} is no name of a sheet")
        return Content.model_validate(documents.json_value(text, file, _BOUNDS, error=BadLedger))
    except ValidationError as error:
        raise BadLedger(f"{file}: its row is damaged: {error.error_count()} fields are wrong") from error


def draw_missing(ledger: Ledger) -> None:
    """Draw every grid whose pictures are all there and whose sheet is not; of damaged rows, `verify` tells."""
    by_digest: dict[str, Entry] | None = None
    for file, text in ledger.grids():
        path = ledger.folder / file
        if path.exists():
            continue
        by_digest = by_digest or {one.digest: one for one in ledger.entries()}
        try:
            content = content_of(file, text)
        except ZooError:
            continue
        states = (by_digest[digest].state if digest in by_digest else None for _, digest in content.cells)
        if all(state is State.DONE for state in states):
            data = sheet.png(draw(content, by_digest, ledger.folder))
            with ledger.held():  # others may have come as far
                if not path.exists():
                    atomic.sweep(path)
                    atomic.write(data, path)


def draw(content: Content, jobs: dict[str, Entry], folder: Path) -> Image.Image:
    """Lay a grid's pictures out."""
    pictures = {tuple(place): _picture(folder / jobs[digest].file) for place, digest in content.cells}
    columns, rows, sheets = [*content.labels, *([[""]] * (3 - len(content.labels)))]
    table = [
        (
            " · ".join(label for label in (sheets[z], rows[y]) if label),
            [pictures.get((x, y, z)[: len(content.labels)]) for x in range(len(columns))],
        )
        for z in range(len(sheets))
        for y in range(len(rows))
    ]
    return _page(content.title, _Table(columns, table))


def _picture(path: Path) -> Image.Image:
    return pictures.decoded(path, files.shown(path), within=path.parent).convert("RGB")


def _page(title: str, table: _Table) -> Image.Image:
    sizes = [one.size for _, row in table.rows for one in row if one is not None]
    wide, high = max(w for w, _ in sizes), max(h for _, h in sizes)
    blank = paper(title, len(table.columns), len(table.rows), (wide, high))
    page = Image.new("RGB", (blank.width, blank.height), _PAPER)
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    pen.multiline_text((GAP, GAP), "\n".join(blank.heading), _INK, font, spacing=LINE - 12)
    for x, label in enumerate(table.columns):
        pen.text((LEFT + x * (wide + GAP), blank.top - LINE), _fit(label, wide), _INK, font)
    for y, (label, row) in enumerate(table.rows):
        place = blank.top + y * (high + GAP)
        pen.multiline_text((GAP, place), "\n".join(textwrap.wrap(label, LEFT // 7)), _INK, font)
        for x, picture in enumerate(row):
            if picture is not None:
                page.paste(picture, (LEFT + x * (wide + GAP), place))
    return page


def _fit(label: str, width: int) -> str:
    return textwrap.shorten(label, max(6, width // 6), placeholder="…")
