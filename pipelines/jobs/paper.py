"""How large a labelled sheet is: known before a picture is made, since there is an end to what PNG readers take."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from pipelines.jobs.errors import BadJobs

GAP, LINE = 8, 18
LEFT = 140  # pixels for the labels of rows
MOST_PIXELS = 500_000_000  # of a sheet, 1.5 GB in memory
MOST = 65_000  # pixels of a side; more than this, PNG readers refuse


@dataclass(frozen=True)
class Paper:
    """A sheet, before anything is on it."""

    width: int
    height: int
    top: int  # where the pictures begin
    heading: tuple[str, ...]


def paper(title: str, columns: int, rows: int, cell: tuple[int, int]) -> Paper:
    """Return the sheet for so many pictures of at most this width and height; one too large is an error."""
    width = LEFT + columns * (cell[0] + GAP) + GAP
    heading = tuple(textwrap.wrap(title, max(20, width // 7)))
    top = GAP + LINE * (len(heading) + 1) + GAP
    height = top + rows * (cell[1] + GAP) + GAP
    if max(width, height) > MOST or width * height > MOST_PIXELS:
        raise BadJobs(
            f"the sheet of {columns} x {rows} pictures would be {width:,} x {height:,} pixels; at most {MOST:,} a side "
            f"and {MOST_PIXELS:,} in all are drawn; give the axes fewer values, or make smaller pictures"
        )
    return Paper(width, height, top, heading)
