"""What is told to others says nothing of where files of this machine lie: of a path, its last part is left."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

#: Two parts or more from the root on. A path with blanks is cut at the first; folders that are known are cut whole.
_PART = r"[^\s'\"`,;:()<>|/\\]+"
_PATH = re.compile(rf"(?<![\w.:/~])(?:/|[A-Za-z]:\\){_PART}(?:[/\\]{_PART})+")
_OWN_ADDRESSES = ("/medley/", "/gradio_api/")
_known: set[str] = set()


def know(folders: Iterable[Path]) -> None:
    """Take note of folders of which nobody is to learn."""
    for folder in folders:
        _known.update({str(folder.expanduser().absolute()), str(folder.expanduser().resolve())})


know([Path.cwd(), Path.home(), Path(tempfile.gettempdir())])


def said(error: BaseException | str) -> str:
    """Return what an error says, without the places of files."""
    text = str(error)
    for folder in sorted(_known - {"/"}, key=len, reverse=True):
        text = re.sub(rf"{re.escape(folder)}(?:/|(?=\W|$))", "", text)
    return _PATH.sub(_last, text)


def _last(found: re.Match[str]) -> str:
    path = found[0]
    return path if path.startswith(_OWN_ADDRESSES) else re.split(r"[/\\]", path)[-1]
