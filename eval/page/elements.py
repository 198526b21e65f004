"""Pieces of the page as HTML text: tables, figures, sections, pictures as data. Every text from outside is escaped."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from eval.errors import BadRun
from lora_zoo.foreign import files

REPORT_TITLE = "Medley: methods compared"  # by which a report is known among other pages

_MOST_BYTES = 256 << 20
_SIDE = 192  # pixels of a picture's longer side, at most

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #22272b; background: #fff; margin: 0 auto; max-width: 1200px;
  padding: 1.5rem; }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.3rem; margin: 2.4rem 0 .4rem; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
p { max-width: 80ch; margin: .3rem 0 .8rem; } .note { color: #5c656d; font-size: .9rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; margin: .5rem 0 1rem; }
th, td { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid #e4e7ea; white-space: nowrap; }
th { font-weight: 600; position: sticky; top: 0; background: #fff; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
.words th, .words td { text-align: left; }
td.best { font-weight: 700; } td small { color: #5c656d; } figure { margin: .5rem 0; max-width: 800px; }
.strip { display: flex; flex-wrap: wrap; gap: .5rem; margin: .3rem 0 1rem; }
.strip figure { margin: 0; width: 112px; } .strip img { width: 112px; image-rendering: pixelated; display: block; }
.strip figcaption { font-size: .74rem; line-height: 1.25; overflow-wrap: anywhere; }
nav a { margin-right: 1rem; } code { background: #f2f4f5; padding: .1rem .3rem; }
pre { background: #f2f4f5; padding: .8rem; overflow-x: auto; font-size: .82rem; }
"""


@dataclass(frozen=True)
class Td:
    """A cell: its text, a smaller remark, whether it is the best of its column, a colour from 0 (none) to 1."""

    text: str
    remark: str = ""
    best: bool = False
    heat: float | None = None

    def html(self) -> str:
        kind = ' class="best"' if self.best else ""
        shade = "" if self.heat is None else f' style="background: rgba(42, 157, 87, {max(0.0, self.heat) * 0.6:.2f})"'
        remark = f" <small>{escape(self.remark)}</small>" if self.remark else ""
        return f"<td{kind}{shade}>{escape(self.text)}{remark}</td>"

    def markdown(self) -> str:
        text = _barred(" ".join(one for one in (self.text, self.remark) if one))
        return f"**{text}**" if self.best and text else text


@dataclass(frozen=True)
class Part:
    """A table with its title, and how it is to be read."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Td]]
    note: str = ""
    words: bool = False  # whether cells hold words, which stand at the left, and not figures

    def html(self, level: int = 3) -> str:
        """Return it as a section; nothing without rows. The table scrolls by itself where the page is narrow."""
        if not self.rows:
            return ""
        head = "".join(f"<th>{escape(one)}</th>" for one in self.columns)
        body = "".join("<tr>" + "".join(cell.html() for cell in row) + "</tr>" for row in self.rows)
        kind = ' class="words"' if self.words else ""
        table = f'<div class="scroll"><table{kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        return section(self.title, paragraph(self.note, note=True) if self.note else "", table, level=level)

    def markdown(self, level: int = 3) -> str:
        """Return it as a section in Markdown; nothing without rows."""
        if not self.rows:
            return ""
        heading = f"{'#' * level} {self.title}" if self.title else ""
        rule = ["---", *["---" if self.words else "---:"] * (len(self.columns) - 1)]
        body = [[_barred(one) for one in self.columns], rule, *([cell.markdown() for cell in row] for row in self.rows)]
        table = "\n".join("| " + " | ".join(cells) + " |" for cells in body)
        return "\n\n".join(one for one in (heading, self.note, table) if one)


def _barred(text: str) -> str:
    """Return a text that ends no cell of a table in Markdown."""
    return " ".join(text.replace("|", "\\|").split())


def section(title: str, *parts: str, level: int = 2, anchor: str = "") -> str:
    """Return a heading with what belongs under it; nothing if there is nothing."""
    inner = "".join(parts)
    named = f' id="{escape(anchor)}"' if anchor else ""
    return f"<section{named}><h{level}>{escape(title)}</h{level}>{inner}</section>" if inner else ""


def paragraph(text: str, note: bool = False) -> str:
    return f"<p{' class=note' if note else ''}>{escape(text)}</p>"


def pre(text: str) -> str:
    return f"<pre>{escape(text)}</pre>"


def figure(svg: str) -> str:
    return f"<figure>{svg}</figure>"


def strip(pictures: Sequence[tuple[str, str, str]]) -> str:
    """Return pictures side by side: source, title and remark of each."""
    some = (
        f'<figure><img src="{source}" alt="{escape(title)}"><figcaption>{escape(title)}<br>{escape(remark)}'
        "</figcaption></figure>"
        for source, title, remark in pictures
    )
    return f'<div class="strip">{"".join(some)}</div>'


def data_uri(image: Image.Image) -> str:
    """Return a picture inside its own address: PNG where it is small already, JPEG where it had to be reduced."""
    buffer = io.BytesIO()
    if max(image.size) <= _SIDE:
        image.convert("RGB").save(buffer, "PNG", optimize=True)
        kind = "png"
    else:
        smaller = image.convert("RGB")
        smaller.thumbnail((_SIDE, _SIDE))
        smaller.save(buffer, "JPEG", quality=85)
        kind = "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def opened(path: Path) -> Image.Image:
    """Return a picture of a folder of results.

    Raises:
        BadRun: It is no picture, or no regular file of its folder.
    """
    data = files.read(path, _MOST_BYTES, within=path.parent, error=BadRun)
    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:  # as Pillow's readers raise
        raise BadRun(f"{files.shown(path)} is no picture: {error}") from error


def page(title: str, parts: Sequence[str]) -> str:
    """Return a whole document that asks the network for nothing."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; style-src '
        '\'unsafe-inline\'"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )
