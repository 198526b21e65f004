"""What was uploaded is named by a ticket that only its sender knows, and not by where it lies."""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from threading import Lock

from ui.walls.asgi import App, Message, Receive, Scope, Send

_UPLOAD = "/gradio_api/upload"
_MANY = 1000  # tickets after which those are forgotten whose files are gone


class Desk:
    """The tickets that were given out. Each is good once."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._paths: dict[str, Path] = {}

    def give(self, path: Path) -> str:
        """Return a ticket for a file; its last part is the file's own name."""
        ticket = f"{secrets.token_urlsafe(24)}/{path.name}"
        with self._lock:
            if len(self._paths) >= _MANY:
                self._paths = {known: lies for known, lies in self._paths.items() if lies.is_file()}
            self._paths[ticket] = path
        return ticket

    def look(self, ticket: str) -> Path | None:
        """Return the file of a ticket that is still good."""
        path = self._paths.get(ticket)
        return path if path is not None and path.is_file() else None

    def spend(self, ticket: str) -> None:
        """Take a ticket back, and delete its file; the same file may have been sent twice, so only with the last."""
        with self._lock:
            path = self._paths.pop(ticket, None)
            if path is not None and path not in self._paths.values():
                path.unlink(missing_ok=True)


class Tickets:
    """Answers uploads with tickets in the place of paths."""

    def __init__(self, app: App, desk: Desk) -> None:
        self._app, self._desk = app, desk

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != _UPLOAD:
            await self._app(scope, receive, send)
            return
        plain = [pair for pair in scope["headers"] if pair[0] != b"accept-encoding"]  # so that it can be read here
        start: Message = {}
        body = b""

        async def exchanged(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if message.get("more_body"):
                return
            if start["status"] == 200:
                body = json.dumps([self._desk.give(Path(path)) for path in json.loads(body)]).encode()
            kept = [pair for pair in start["headers"] if pair[0].lower() != b"content-length"]
            await send({**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
            await send({"type": "http.response.body", "body": body})

        await self._app({**scope, "headers": plain}, receive, exchanged)
