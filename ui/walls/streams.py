"""Streams of events that nobody asked for are not there. Gradio finds that out when its answer has begun, and fails."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qs

from ui.walls.asgi import App, Receive, Scope, Send, refuse

_PAGES = "/gradio_api/queue/data"
_CALLS = "/gradio_api/call/"


class Streams:
    """Answers 404 where gradio's queue knows no such page or event."""

    def __init__(self, app: App, knows: Callable[[str], bool]) -> None:
        """`knows` tells whether something is on its way to a page, or to who asked for one event, by its name."""
        self._app, self._knows = app, knows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = _asked(scope)
        if name is None or self._knows(name):
            await self._app(scope, receive, send)
        else:
            await refuse(scope, send, 404, "nothing is on its way here")


def _asked(scope: Scope) -> str | None:
    """Return whose events are asked for; None: none are, or gradio itself refuses how they are."""
    if scope["type"] != "http" or scope["method"] != "GET":
        return None
    if scope["path"] == _PAGES:
        given = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True).get("session_hash", [])
        return given[-1] if given else None
    return scope["path"].rpartition("/")[2] if scope["path"].startswith(_CALLS) else None
