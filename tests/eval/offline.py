"""What a page would load from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_LOADS = ("src", "srcset", "href", "xlink:href", "poster", "data", "action", "formaction", "background", "cite", "ping")
_IN_STYLE = re.compile(r"@import|url\(\s*['\"]?(?!data:|#)[^)]*\)", re.IGNORECASE)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._style = tag == "style"
        for name, value in attrs:
            if name in _LOADS and not (value or "").startswith(("data:", "#")):
                self.found.append(f"<{tag} {name}={value!r}>")
            elif name == "style":
                self.found += _IN_STYLE.findall(value or "")

    def handle_data(self, data: str) -> None:
        if self._style:
            self.found += _IN_STYLE.findall(data)

    def handle_endtag(self, tag: str) -> None:
        self._style = False


def outside(page: str) -> list[str]:
    """Return everything in a page that is neither a part of it nor a place in it."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.found
