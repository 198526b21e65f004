"""The addresses of gradio's that the page needs. All others are closed, those of gradios to come among them."""

from __future__ import annotations

import re

from ui.walls.asgi import App, Receive, Scope, Send, refuse

#: Methods and patterns, as gradio states its own. `{}` is one part of a path, `{*}` any number.
OPEN = (
    "GET /",
    "HEAD /",
    "GET /config",
    "GET /theme.css",
    "GET /gradio_api/theme.css",
    "GET /assets/{*}",
    "GET /static/{*}",
    "GET /svelte/{*}",
    "GET /favicon.ico",
    "GET /robots.txt",
    "GET /manifest.json",
    "GET /gradio_api/info",
    "GET /gradio_api/openapi.json",
    "GET /gradio_api/queue/data",
    "GET /gradio_api/upload_progress",
    "GET /gradio_api/heartbeat/{}",
    "GET /gradio_api/call/{}/{}",
    "GET /gradio_api/call/v2/{}/{}",
    "POST /gradio_api/call/{}",
    "POST /gradio_api/call/v2/{}",
    "POST /gradio_api/queue/join",
    "POST /gradio_api/run/predict",  # of events that go round the queue, such as to stop a job
    "POST /gradio_api/cancel",
    "POST /gradio_api/reset",
    "POST /gradio_api/upload",
)
_OURS = "/medley/"  # only what `ui.routes` and `ui.rest` add is there


def _pattern(template: str) -> str:
    parts = re.split(r"(\{\*?\})", template)
    return "".join({"{}": "[^/]+", "{*}": ".+"}.get(part, re.escape(part)) for part in parts)


_ALLOWED = re.compile("|".join(map(_pattern, OPEN)))


def is_open(method: str, path: str) -> bool:
    """Tell whether the application is asked at all."""
    return path.startswith(_OURS) or _ALLOWED.fullmatch(f"{method} {path}") is not None


class Routes:
    """Answers that nothing is there, wherever nothing has to be."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = scope["type"] in ("http", "websocket")
        if not asked or (scope["type"] == "http" and is_open(scope["method"], scope["path"])):
            await self._app(scope, receive, send)
        else:
            await refuse(scope, send, 404, "there is nothing here")
