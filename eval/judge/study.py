"""A study with people: pairs of pictures on one page that tells nothing of methods, and the votes that come back.

The page works offline and hands its votes over as a file; the key that says which picture is whose stays behind.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from random import Random

from pydantic import TypeAdapter

from composer.errors import UnknownChoice
from eval import outputs
from eval.judge.errors import BadVotes
from eval.judge.judging import Pair
from eval.judge.ratings import Vote
from eval.page import elements
from lora_zoo.foreign import files

FOLDER = "study"
CHOICES = ("left", "tie", "right")
_POINTS = {"left": 1.0, "tie": 0.5, "right": 0.0}
_MOST_BYTES = 64 << 20  # of one file of votes
_COLUMNS = ["pair", "choice", "voter"]

_SCRIPT = """
document.getElementById('save').onclick = () => {
  const voter = document.getElementById('voter').value || 'anonymous';
  const rows = [...document.querySelectorAll('input[type=radio]:checked')].map(one => [one.name, one.value]);
  const plain = text => /^[=+\\-@\\t\\r]/.test(text) ? "'" + text : text;  // no formula in a spreadsheet
  const cell = text => '"' + plain(text).replaceAll('"', '""') + '"';
  const lines = rows.map(([pair, choice]) => [pair, choice, cell(voter)].join(','));
  const text = ['pair,choice,voter', ...lines].join('\\n');
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text + '\\n'], {type: 'text/csv'}));
  link.download = 'votes.csv';
  link.click();
};
"""


@dataclass(frozen=True)
class Shown:
    """One question of the study, as only its keeper knows it."""

    pair: str
    set: str
    case: str
    left: str
    right: str


def export(pairs: Sequence[Pair], run: Path, folder: Path, seed: int = 0) -> Path:
    """Write the page and its key; return the page. Order and sides are drawn."""
    rng = Random(f"study {seed}")
    order = list(pairs)
    rng.shuffle(order)
    key: list[Shown] = []
    blocks: list[str] = []
    for number, one in enumerate(order, 1):
        left, right = (one.a, one.b) if rng.random() < 0.5 else (one.b, one.a)
        name = hashlib.sha256(f"{seed} {one.case} {left.column} {right.column}".encode()).hexdigest()[:12]
        key.append(Shown(name, one.set.key, one.case, left.column, right.column))
        sources = [elements.data_uri(elements.opened(run / row.file)) for row in (left, right)]
        blocks.append(_block(number, name, one.set.prompt, sources))
    outputs.write_text(TypeAdapter(list[Shown]).dump_json(key, indent=1).decode() + "\n", folder / "key.json")
    outputs.write_text(_page(blocks), folder / "study.html")
    return folder / "study.html"


def votes(folder: Path, paths: Sequence[Path]) -> list[Vote]:
    """Read votes against the study's key; a vote that cannot be meant is an error that names its line."""
    key = {one.pair: one for one in read_key(folder)}
    found: dict[tuple[str, str], Vote] = {}
    for path in paths:
        for line, row in _rows(path):
            pair, choice = row["pair"], row["choice"]
            if pair not in key:
                raise BadVotes(f"{path} line {line}: pair {pair!r} is not of the study in {folder}")
            if choice not in CHOICES:
                raise UnknownChoice(f"choice in {path} line {line}", choice, CHOICES)
            one = key[pair]
            if (row["voter"], pair) in found:
                raise BadVotes(f"{path} line {line}: voter {row['voter']!r} votes on pair {pair!r} twice")
            found[row["voter"], pair] = Vote(one.set, one.left, one.right, _POINTS[choice])
    if not found:
        raise BadVotes("there is not one vote in these files")
    return list(found.values())


def read_key(folder: Path) -> list[Shown]:
    """Return what each pair of a study is; not to be shown to its voters."""
    path = folder / "key.json"
    if not path.is_file():
        raise BadVotes(f"{folder} holds no key.json; `eval study {folder.parent}` writes it")
    return outputs.read(list[Shown], path, "write the study anew; votes on the old one cannot be read", BadVotes)


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(files.read_text(path, _MOST_BYTES, error=BadVotes), newline=""))
    try:
        if reader.fieldnames != _COLUMNS:
            raise BadVotes(f"{path} must begin with the line {','.join(_COLUMNS)}")
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise BadVotes(f"{path} line {reader.line_num}: not CSV ({error})") from error
    if any(None in row or None in row.values() for _, row in rows):
        raise BadVotes(f"{path} has lines that are not three cells long")
    return rows


def _block(number: int, name: str, prompt: str, sources: Sequence[str]) -> str:
    pictures = "".join(
        f'<img src="{source}" alt="{side}">' for source, side in zip(sources, ("left", "right"), strict=True)
    )
    labels = {"left": "the left one", "tie": "no difference", "right": "the right one"}
    choices = "".join(
        f'<label><input type="radio" name="{name}" value="{choice}"> {label}</label>'
        for choice, label in labels.items()
    )
    return f"<section><p>{number}. {escape(prompt)}</p><div class=pair>{pictures}</div><p>{choices}</p></section>"


def _page(blocks: Sequence[str]) -> str:
    style = (
        elements.STYLE
        + ".pair img { width: 320px; image-rendering: pixelated; margin-right: 1rem; } label { margin-right: 1rem; }"
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Which picture is better?</title>'
        f"<style>{style}</style></head><body><h1>Which picture shows better what the line above it asks for?</h1>"
        "<p>Everything named should be there, whole, and nothing else. Leave out what you cannot decide.</p>"
        f'{"".join(blocks)}<p>Your name or initials: <input id="voter"></p><button id="save">Save my votes</button>'
        f"<script>{_SCRIPT}</script></body></html>\n"
    )
