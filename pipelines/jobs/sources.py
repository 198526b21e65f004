"""Files of jobs: JSON lines, CSV, YAML, and lines as A1111's "prompts from file" takes them.

A job is a request as plain data: the keys of `RenderRequest`, or the options of `render` by their names (see `keys`),
with two conveniences: `loras`, a list of NAME[:WEIGHT[:TE_WEIGHT]], and `count`, which makes one job per seed.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from composer.errors import UnknownChoice
from composer.request import ANY_SEED, MAX_SEED
from lora_zoo.foreign import documents, files
from lora_zoo.foreign.documents import Bounds, json_or_text
from pipelines.cli_flags import existing
from pipelines.jobs import a1111_lines, keys
from pipelines.jobs.errors import BadJobs
from pipelines.jobs.keys import Data
from pipelines.jobs.seeds import Seeds

_MOST_BYTES = 64 << 20
_BOUNDS = Bounds(length=_MOST_BYTES)
_MOST_COUNT = 10_000
_SEPARATORS = ",;\t"
_BLANKS = "loras was split at its blanks: put ; between names that hold some, or quote them"
_STATED = re.compile(r"sep=(.)\r?\n")  # how Excel says what separates the cells


@dataclass(frozen=True)
class Draft:
    """One job as it was written, and where."""

    where: str  # for messages: "jobs.csv line 3"
    data: Mapping[str, object]
    hint: str = ""  # what to say if a LoRA of it is unknown


@dataclass(frozen=True)
class JobFile:
    """What a file of jobs holds: the jobs, and the axes that a YAML file may bring along."""

    drafts: tuple[Draft, ...]
    axes: Mapping[str, Mapping[str, list[object]]]  # "x" -> field -> values


def read(path: Path) -> JobFile:
    """Read a file of jobs by its suffix; a mistake is an error that names the line."""
    readers: dict[str, Callable[[str, str], JobFile]] = {
        ".jsonl": _json_lines,
        ".csv": _csv,
        ".yaml": _yaml,
        ".yml": _yaml,
        ".txt": _a1111,
    }
    if not path.exists() or path.is_dir():
        existing(path)
    files.check_regular(path, BadJobs)
    suffix = path.suffix.lower()
    if suffix not in readers:
        raise UnknownChoice("kind of job file", suffix or path.name, readers)
    found = readers[suffix](files.read_text(path, _MOST_BYTES, error=BadJobs), path.name)
    if not found.drafts:
        raise BadJobs(f"{path} holds no jobs")
    keys.check((draft.where, draft.data) for draft in found.drafts)
    return found


def count_of(draft: Draft) -> int:
    """Return how many jobs a draft makes by its `count`."""
    return _integer(draft.data.get(keys.COUNT, 1), keys.COUNT, draft.where)


def plain(draft: Draft, seeds: Seeds | None = None) -> Iterator[Draft]:
    """Replace the conveniences: yield one draft per seed, with the keys of a request only.

    Args:
        draft: A job as it was written.
        seeds: Draws the seed of a job that asks for any; None: each call draws another.
    """
    count = count_of(draft)
    data = keys.translated(draft.data, draft.where)
    data.pop(keys.COUNT, None)
    loras = data.pop(keys.LORAS, None)
    hint = _BLANKS if keys.split_at_blanks(loras) else ""
    if loras is not None:
        if "adapters" in data:
            raise BadJobs(f"{draft.where}: give either `loras` or `adapters`, not both")
        data["adapters"] = keys.adapters_of(loras, draft.where)
    first = _integer(data.get("seed", 0), "seed", draft.where, low=ANY_SEED, high=MAX_SEED)
    if first == ANY_SEED:
        first = (seeds or Seeds()).drawn(draft.data)
    for offset in range(count):
        yield Draft(draft.where, {**data, "seed": first + offset}, hint)


def _integer(value: object, key: str, where: str, low: int = 1, high: int = _MOST_COUNT) -> int:
    try:
        number = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    except ValueError:  # no number, or one of thousands of digits
        number = None
    if number is None or not low <= number <= high:
        raise BadJobs(f"{where}: {key} must be a whole number from {low} to {high}, not {keys.shown(value)}")
    return number


def _json_lines(text: str, name: str) -> JobFile:
    drafts: list[Draft] = []
    for number, line in enumerate(text.split("\n"), 1):  # a line of JSON may hold what else ends a line of text
        if line.strip():
            where = f"{name} line {number}"
            job = documents.json_value(line, where, _BOUNDS, strict=True, error=BadJobs)
            drafts.append(Draft(where, keys.translated(_mapping(job, where), where)))
    return JobFile(tuple(drafts), {})


def _csv(text: str, name: str) -> JobFile:
    """Read a table with a header; an empty cell is "not given", `set.KEY` is a parameter of the method."""
    stated = _STATED.match(text)
    text = text[stated.end() :] if stated else text
    separator = stated[1] if stated else _separator(text, name)
    rows = csv.DictReader(io.StringIO(text), restkey="", strict=True, delimiter=separator)
    drafts: list[Draft] = []
    try:
        _check_header(rows.fieldnames or (), name)
        for row in rows:
            where = f"{name} line {rows.line_num + bool(stated)}"
            if "" in row:
                raise BadJobs(f"{where} has more cells than the header")
            cells = _cells({key.strip(): value for key, value in row.items() if value}, where)
            drafts.append(Draft(where, keys.translated(cells, where)))
    except csv.Error as error:
        raise BadJobs(f"{name} line {rows.reader.line_num + bool(stated)}: {error}") from error
    return JobFile(tuple(drafts), {})


def _separator(text: str, name: str) -> str:
    """Return what separates the cells: the comma, or what spreadsheets of other countries write in its place."""
    header = re.sub(r'"[^"]*"', "", text.partition("\n")[0])
    used = [sign for sign in _SEPARATORS if sign in header]
    if len(used) > 1:
        signs = " and ".join(map(repr, used))
        raise BadJobs(f"{name} line 1: the header holds {signs}; separate all cells by one of them")
    return used[0] if used else ","


def _check_header(header: Iterable[str], name: str) -> None:
    counted = Counter(key.strip() for key in header if key.strip())
    twice = [key for key, times in counted.items() if times > 1]
    if twice:
        raise BadJobs(f"{name} line 1: the header names {twice[0]!r} twice")


def _cells(row: Mapping[str, str], where: str) -> Data:
    data: Data = {}
    parameters: Data = {}
    for key, value in row.items():
        if key.startswith("set."):
            parameters[key.removeprefix("set.")] = json_or_text(value, f"{where}: {key}", error=BadJobs)
        else:
            data[key] = value
    return {**data, "parameters": parameters} if parameters else data


def _yaml(text: str, name: str) -> JobFile:
    """Read a list of jobs, or a mapping of `jobs`, `defaults` for all of them, and `axes`."""
    content = documents.yaml_value(text, name, _BOUNDS, BadJobs)
    parts = _mapping({"jobs": content} if isinstance(content, list) else content, name)
    unknown = [key for key in parts if key not in ("jobs", "defaults", "axes")]
    if unknown:
        raise UnknownChoice(f"part of {name}", unknown[0], ("jobs", "defaults", "axes"))
    jobs, place = parts.get("jobs", [{}]), f"{name}: defaults"
    defaults = keys.translated(_mapping(parts.get("defaults", {}), place), place)
    if not isinstance(jobs, list):
        raise BadJobs(f"{name}: jobs must be a list, not {type(jobs).__name__}")
    drafts: list[Draft] = []
    for number, job in enumerate(jobs, 1):
        where = f"{name} job {number}"
        own = keys.translated(_mapping(job, where), where)
        drafts.append(Draft(where, {**defaults, **own}))
    return JobFile(tuple(drafts), _axes(parts.get("axes", {}), name))


def _axes(content: object, name: str) -> Mapping[str, Mapping[str, list[object]]]:
    axes: dict[str, Mapping[str, list[object]]] = {}
    for axis, fields in _mapping(content, f"{name}: axes").items():
        named = _mapping(fields, f"{name}: axis {axis}")
        lists = {field: values for field, values in named.items() if isinstance(values, list)}
        if len(named) != 1 or len(lists) != 1:
            raise BadJobs(f"{name}: axis {axis} needs one field with a list of values, for example seed: [1, 2]")
        axes[axis] = lists
    return axes


def _a1111(text: str, name: str) -> JobFile:
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    return JobFile(
        tuple(Draft(f"{name} line {n}", a1111_lines.parse(line, f"{name} line {n}")) for n, line in lines), {}
    )


def _mapping(value: object, where: str) -> Data:
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise BadJobs(f"{where} must map keys to values, not be {type(value).__name__}")
    return {str(key): one for key, one in value.items()}
