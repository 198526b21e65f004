"""What the commands of `zoo` do, and how every command opens its folders of LoRAs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from composer.errors import BadRequest
from lora_zoo.errors import UnknownName, ZooError
from lora_zoo.foreign.text import escaped
from lora_zoo.hashes import is_hex
from lora_zoo.index.copies import Copies, copies
from lora_zoo.index.rows import Row as ZooRow
from lora_zoo.index.scan import Report
from lora_zoo.library import SHORTEST_HASH, Library
from pipelines import cli_output

_COLUMNS = ("name", "family", "kind", "rank", "weight", "triggers", "path")
_REFUSED_COLUMNS = ("name", "error", "path")
_SHOWN_TRIGGERS = 3


@dataclass(frozen=True)
class Filter:
    """Which rows to list."""

    query: str
    family: str | None
    refused: bool

    def takes(self, row: ZooRow) -> bool:
        facts = row.facts
        if facts is None:
            return self.refused and self._in(row.name)
        if self.refused or (self.family is not None and facts.family != self.family):
            return False
        return self._in(row.name, facts.alias, facts.title, *facts.triggers) or self._is_hash(row)

    def _in(self, *texts: str) -> bool:
        wanted = self.query.casefold()
        return any(wanted in text.casefold() for text in texts)

    def _is_hash(self, row: ZooRow) -> bool:
        digest = self.query.lower().removeprefix("0x")
        if row.facts is None or len(digest) < SHORTEST_HASH or not is_hex(digest):
            return False
        known = row.facts.hashes
        stated = (known.sha256, known.autov2, known.autov3, known.data, known.sshs_model, known.sshs_legacy)
        return any(one is not None and one.startswith(digest) for one in stated)


def library(zoos: Sequence[Path]) -> Library:
    """Return the LoRAs that a command may name, its folders scanned; what a scan found new is told on stderr."""
    if not zoos:
        return Library()
    with cli_output.files_progress("scanning") as on_file:
        opened, reports = Library.scanned(zoos, on_file)
    for report in reports:
        if report.news:
            cli_output.notice(_told(report))
    return opened


def scan(zoos: Sequence[Path], as_json: bool) -> None:
    """Scan the folders and tell what was found."""
    with cli_output.files_progress("scanning") as on_file:
        _, reports = Library.scanned(_named(zoos), on_file)
    if as_json:
        cli_output.document({"scans": [_jsonable(report) for report in reports]})
    else:
        for report in reports:
            cli_output.line(_told(report))


def listing(zoos: Sequence[Path], chosen: Filter, as_json: bool) -> None:
    """List the rows that a filter takes."""
    rows = [_flat(row) for row in library(_named(zoos)).rows() if chosen.takes(row)]
    if as_json:
        cli_output.document({"loras": list(map(dict, rows))})
        return
    for row in rows:
        if isinstance(triggers := row["triggers"], list) and len(triggers) > _SHOWN_TRIGGERS:
            triggers[_SHOWN_TRIGGERS:] = ["…"]
    cli_output.table(rows, _REFUSED_COLUMNS if chosen.refused else _COLUMNS)


def show(zoos: Sequence[Path], name: str, as_json: bool) -> None:
    """Tell all that is known of one LoRA of the folders."""
    opened = library(_named(zoos))
    rows = opened.rows()
    try:
        path = str(opened.path(opened.find(name)))
    except UnknownName:
        raise
    except ZooError:
        refused = [row for row in rows if name in (row.name, row.path) and row.error]
        if not refused:
            raise
        path = refused[0].path
    found = next((row for row in rows if row.path == path), None)
    if found is None:
        raise BadRequest(f"LoRA {name!r} is not in these folders but at {path}; `inspect` describes it")
    if as_json:
        cli_output.document({"lora": dict(_flat(found))})
    else:
        cli_output.pairs(_flat(found))


def dedupe(zoos: Sequence[Path], as_json: bool) -> None:
    """List what is there more than once."""
    found = copies(library(_named(zoos)).rows())
    if as_json:
        cli_output.document({"copies": [_copies(one) for one in found], "bytes": sum(one.spare for one in found)})
        return
    for one in found:
        cli_output.line(f"{one.what}, {one.spare:,} bytes more than once:")
        for row in one.rows:
            cli_output.line(f"  {cli_output.printable(escaped(row.path))}")
    cli_output.line(f"{len(found)} LoRAs are there more than once, {sum(one.spare for one in found):,} bytes in all")


def _named(zoos: Sequence[Path]) -> Sequence[Path]:
    if not zoos:
        raise BadRequest("which folder? Give --zoo FOLDER, or set MEDLEY_ZOO")
    return zoos


def _told(report: Report) -> str:
    text = (
        f"{escaped(str(report.root))}: {report.files:,} files in {report.seconds:.1f} s; {report.new} new, "
        f"{report.changed} changed, {report.gone} gone, {report.refused} cannot be used"
    )
    unread = "; ".join(f"{escaped(str(folder))} ({why})" for folder, why in report.unread.items())
    return cli_output.printable(f"{text}. Folders that could not be listed: {unread}" if unread else text)


def _jsonable(report: Report) -> JsonValue:
    unread: dict[str, JsonValue] = {escaped(str(folder)): why for folder, why in report.unread.items()}
    counts = {name: getattr(report, name) for name in ("files", "new", "changed", "gone", "refused", "seconds")}
    return {"root": escaped(str(report.root)), **counts, "unread": unread}


def _flat(row: ZooRow) -> dict[str, JsonValue]:
    """Return a row without levels, all columns there for a refused file too."""
    facts: dict[str, JsonValue] = {name: None for name in ("family", "kind", "rank", "weight", "triggers")}
    if row.facts is not None:
        preview = None if row.facts.preview is None else escaped(row.facts.preview)
        stated = to_jsonable_python(row.facts, exclude={"hashes", "preview"})
        facts = {**stated, "preview": preview, **to_jsonable_python(row.facts.hashes)}
    return {
        "name": escaped(row.name),
        "path": escaped(row.path),
        "size": row.size,
        "error": row.error or None,
        **facts,
    }


def _copies(one: Copies) -> JsonValue:
    return {"what": one.what, "spare_bytes": one.spare, "paths": [escaped(row.path) for row in one.rows]}
