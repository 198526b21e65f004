"""Files of jobs: JSON lines, CSV, YAML, and lines as A1111's "prompts from file" takes them.

A job is a request as plain data (the keys of `RenderRequest`), with two conveniences: `loras`, a list of
NAME[:WEIGHT[:TE_WEIGHT]], and `count`, which makes one job per seed from `seed` on.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from composer.errors import UnknownChoice
from pipelines.cli_flags import existing, parse_lora
from pipelines.jobs import a1111_lines
from pipelines.jobs.errors import BadJobs

_MOST_BYTES = 64 << 20
_MOST_COUNT = 10_000
Data = dict[str, object]


@dataclass(frozen=True)
class Draft:
    """One job as it was written, and where."""

    where: str  # for messages: "jobs.csv line 3"
    data: Mapping[str, object]


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
    suffix = existing(path).suffix.lower()
    if suffix not in readers:
        raise UnknownChoice("kind of job file", suffix or path.name, readers)
    if path.stat().st_size > _MOST_BYTES:
        raise BadJobs(f"{path} is larger than {_MOST_BYTES >> 20} MB; split it")
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadJobs(f"{path} is not text in UTF-8: {error.reason} at byte {error.start}") from error
    found = readers[suffix](text, path.name)
    if not found.drafts:
        raise BadJobs(f"{path} holds no jobs")
    return found


def plain(draft: Draft) -> Iterator[Draft]:
    """Replace the conveniences: yield one draft per seed, with the keys of a request only."""
    data = dict(draft.data)
    loras, count = data.pop("loras", None), data.pop("count", 1)
    if loras is not None:
        if "adapters" in data:
            raise BadJobs(f"{draft.where}: give either `loras` or `adapters`, not both")
        names = loras.split() if isinstance(loras, str) else loras
        if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
            raise BadJobs(f"{draft.where}: loras must be a list of NAME[:WEIGHT[:TE_WEIGHT]], not {loras!r}")
        data["adapters"] = [parse_lora(one) for one in names]
    for offset in range(_integer(count, "count", draft.where)):
        seed = _integer(data.get("seed", 0), "seed", draft.where, low=0, high=2**64 - 1)
        yield Draft(draft.where, {**data, "seed": seed + offset})


def _integer(value: object, key: str, where: str, low: int = 1, high: int = _MOST_COUNT) -> int:
    try:
        number = int(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
    except ValueError:
        number = None
    if number is None or not low <= number <= high:
        raise BadJobs(f"{where}: {key} must be a whole number from {low} to {high}, not {value!r}")
    return number


def _json_lines(text: str, name: str) -> JobFile:
    drafts: list[Draft] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            where = f"{name} line {number}"
            try:
                drafts.append(Draft(where, _mapping(json.loads(line), where)))
            except json.JSONDecodeError as error:
                raise BadJobs(f"{where} is not JSON: {error.msg} at column {error.colno}") from error
    return JobFile(tuple(drafts), {})


def _csv(text: str, name: str) -> JobFile:
    """Read a table with a header; an empty cell is "not given", `set.KEY` is a parameter of the method."""
    rows = csv.DictReader(io.StringIO(text), restkey="", strict=True)
    drafts: list[Draft] = []
    try:
        for row in rows:
            where = f"{name} line {rows.line_num}"
            if "" in row:
                raise BadJobs(f"{where} has more cells than the header")
            drafts.append(Draft(where, _cells({key: value for key, value in row.items() if value})))
    except csv.Error as error:
        raise BadJobs(f"{name} line {rows.reader.line_num}: {error}") from error
    return JobFile(tuple(drafts), {})


def _cells(row: Mapping[str, str]) -> Data:
    data: Data = {}
    parameters: Data = {}
    for key, value in row.items():
        if key.startswith("set."):
            parameters[key.removeprefix("set.")] = number_or_text(value)
        else:
            data[key] = value
    return {**data, "parameters": parameters} if parameters else data


def number_or_text(value: str) -> object:
    """Return what a JSON reader makes of a word, or the word."""
    try:
        return json.loads(value, parse_constant=str)
    except json.JSONDecodeError:
        return value


def _yaml(text: str, name: str) -> JobFile:
    """Read a list of jobs, or a mapping of `jobs`, `defaults` for all of them, and `axes`."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise BadJobs(f"{name} is not YAML: {error}") from error
    parts = _mapping({"jobs": content} if isinstance(content, list) else content, name)
    unknown = [key for key in parts if key not in ("jobs", "defaults", "axes")]
    if unknown:
        raise UnknownChoice(f"part of {name}", unknown[0], ("jobs", "defaults", "axes"))
    jobs, defaults = parts.get("jobs", [{}]), _mapping(parts.get("defaults", {}), f"{name}: defaults")
    if not isinstance(jobs, list):
        raise BadJobs(f"{name}: jobs must be a list, not {type(jobs).__name__}")
    drafts = [
        Draft(f"{name} job {n}", {**defaults, **_mapping(job, f"{name} job {n}")}) for n, job in enumerate(jobs, 1)
    ]
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
