"""Which code made the pictures of a run: every picture's record names it, and a folder may hold those of several.

A method that has changed since is not rendered again by itself, for nothing in a request tells. So where pictures are
not all of one code, that is said; and `--renew` renders anew what other code than this made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from composer.errors import UnknownChoice
from eval.columns import TRUTH
from eval.measuring import UNKNOWN, Measured, code_of
from eval.running import Run
from lora_zoo.errors import ZooError
from pipelines.jobs.entries import Entry
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.states import State
from pipelines.revision import revision

ALL = "all"

#: Column -> code -> how many pictures it made.
Makers = Mapping[str, Mapping[str, int]]


def makers(measured: Measured) -> Makers:
    """Return who made the pictures of each column."""
    found: dict[str, Counter[str]] = {}
    for row in measured.rows:
        if row.column != TRUTH:
            found.setdefault(row.column, Counter())[row.code] += 1
    return found


def codes(found: Makers) -> list[str]:
    """Return all that made some of the pictures."""
    return sorted({code for own in found.values() for code in own})


def mixed(found: Makers) -> list[str]:
    """Say who made what, if pictures are of several codes; else nothing."""
    every = codes(found)
    if len(every) < 2:
        return []
    by = {code: [column for column, own in found.items() if code in own] for code in every}
    said = "; ".join(f"{code} made those of {', '.join(columns)}" for code, columns in by.items())
    within = [column for column, own in found.items() if len(own) > 1]
    more = f"; within one method: {', '.join(within)}" if within else ""
    return [f"the pictures are of {len(every)} codes: {said}{more}. What differs between them may be the code's doing"]


def told(found: Makers) -> list[str]:
    """Say what somebody should know who adds pictures: several codes, or one that is not this."""
    every = codes(found)
    if len(every) == 1 and every != [revision()]:
        return [f"all pictures were made by code {every[0]}; this is {revision()}"]
    return mixed(found)


def checked(run: Run, labels: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that are to be renewed; `all` is all of them."""
    known = tuple(one.label for one in run.columns)
    for label in labels:
        if label not in (*known, ALL):
            raise UnknownChoice("method to renew", label, (*known, ALL))
    return known if ALL in labels else tuple(dict.fromkeys(labels))


def renew(run: Run, entries: Mapping[tuple[str, str], Entry], labels: Sequence[str]) -> int:
    """Have what other code made for these columns rendered anew; return how many pictures that are."""
    wanted = [
        entry.number
        for (label, _), entry in entries.items()
        if label in labels and entry.state is State.DONE and _code(run, entry) != revision()
    ]
    ledger = Ledger(run.pictures)
    try:
        ledger.renew(wanted)
    finally:
        ledger.close()
    return len(wanted)


def _code(run: Run, entry: Entry) -> str:
    """Return the code that made a picture; one that cannot be read is of none that is known."""
    try:
        return code_of(run.pictures / entry.file)
    except (ZooError, OSError):
        return UNKNOWN
