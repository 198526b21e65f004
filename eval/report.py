"""Puts what was measured into the documentation: tables between marker comments, sheets and summaries beside them.

Prose around the markers is left as it is, so that words and figures can be renewed apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from eval import accuracy, base, clip, compose, loras, outputs, tables
from eval.errors import NoResults

_T = TypeVar("_T")
_TITLES = {
    "detectors": "The judge",
    "clip": "The small CLIP",
    "base": "The base model",
    "loras": "The LoRAs, each alone",
    "compose": "Several LoRAs in one picture",
}


def run(out: Path, docs: Path) -> Path:
    """Renew every part of the document that there are results for; return the document's path."""
    found = _tables(out)
    if not found:
        raise NoResults(f"{out} holds no results; measure first: python -m eval {'|'.join(_TITLES)}")
    document = docs / "embedded.md"
    text = outputs.read_document(document, "# The embedded world in figures\n")
    outputs.write_text(updated(text, found), document)
    for name in found:
        for kind in ("json", "png"):
            if (out / f"{name}.{kind}").exists():
                outputs.copy(out / f"{name}.{kind}", docs / "figures")
    return document


def updated(text: str, parts: Mapping[str, str], titles: Mapping[str, str] = _TITLES) -> str:
    """Return the text with each part between its markers; a part without markers is added at the end."""
    for name, part in parts.items():
        opening, closing = f"<!-- eval:{name} -->", f"<!-- /eval:{name} -->"
        block = f"{opening}\n{part}\n{closing}"
        if opening not in text:
            text = f"{text.rstrip()}\n\n## {titles[name]}\n\n{block}\n"
            continue
        before, rest = text.split(opening, 1)
        if closing not in rest:
            raise NoResults(f"the document has '{opening}' but no '{closing}' after it")
        text = before + block + rest.split(closing, 1)[1]
    return text


def _tables(out: Path) -> dict[str, str]:
    made = {
        "detectors": _made(out / "detectors.json", accuracy.Summary, tables.of_detectors),
        "clip": _made(out / "clip.json", clip.Summary, tables.of_clip),
        "base": _made(out / "base.json", base.Summary, tables.of_base),
        "loras": _made(out / "loras.json", loras.Summary, tables.of_loras),
        "compose": _made(out / "compose.json", compose.Summary, tables.of_compose),
    }
    parts: dict[str, str] = {}
    for name, table in made.items():
        if table is not None:
            sheet = f"\n\n![{_TITLES[name]}](figures/{name}.png)" if (out / f"{name}.png").exists() else ""
            parts[name] = table + sheet
    return parts


def _made(path: Path, kind: type[_T], table: Callable[[_T], str]) -> str | None:
    return table(outputs.read_summary(kind, path)) if path.exists() else None
