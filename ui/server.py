"""The server: our own addresses for pictures and scripts, a door in front of everything, the page behind it."""

from __future__ import annotations

import base64
import logging
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import FrameType

from ui.service import Service

_STATIC = Path(__file__).parent / "static"
_INCOMING = "incoming"  # in the data folder: what gradio received, until the event is over that it was sent for

#: The browser itself refuses whatever would leave this server. The page's own scripts are inline and compiled there.
_POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self'; object-src 'none'; "
    "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)

Scope = dict[str, object]
App = Callable[[Scope, Callable[..., Awaitable[object]], Callable[[Scope], Awaitable[None]]], Awaitable[None]]


@dataclass(frozen=True)
class Options:
    """Where to listen, and for whom."""

    listen: str = "127.0.0.1"
    port: int = 7860
    auth: str | None = None  # USER:PASSWORD
    root_path: str = ""


class Door:
    """Lets in who knows the password, if there is one, and tells the browser to stay on this machine."""

    def __init__(self, app: App, auth: str | None) -> None:
        self._app = app
        self._expected = None if auth is None else b"Basic " + base64.b64encode(auth.encode())

    async def __call__(
        self, scope: Scope, receive: Callable[..., Awaitable[object]], send: Callable[[Scope], Awaitable[None]]
    ) -> None:
        async def answer(message: Scope) -> None:
            if message["type"] == "http.response.start":
                headers = message.get("headers", ())
                message = {**message, "headers": [*_pairs(headers), *_HEADERS]}
            await send(message)

        if scope["type"] in ("http", "websocket") and not self._may(scope):
            ask = (b"www-authenticate", b'Basic realm="Medley", charset="UTF-8"')
            await answer({"type": "http.response.start", "status": 401, "headers": [ask]})
            await answer({"type": "http.response.body", "body": b"A name and a password are needed."})
            return
        await self._app(scope, receive, answer)

    def _may(self, scope: Scope) -> bool:
        if self._expected is None:
            return True
        given = next((value for name, value in _pairs(scope["headers"]) if name == b"authorization"), b"")
        return secrets.compare_digest(given, self._expected)


def _pairs(headers: object) -> list[tuple[bytes, bytes]]:
    assert isinstance(headers, list | tuple), "what a server passes on"
    return [(bytes(name), bytes(value)) for name, value in headers]


def build(service: Service, options: Options) -> App:
    """Return the whole server as an application; the service starts and stops with it."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    os.environ["GRADIO_TEMP_DIR"] = str((service.history.folder / _INCOMING).resolve())  # its own place for uploads
    import gradio as gr
    from fastapi import FastAPI

    from ui import page, rest, routes

    @asynccontextmanager
    async def alive(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        Thread(target=service.warm, name="warming", daemon=True).start()
        yield
        service.stop()

    app = FastAPI(
        title="Medley", lifespan=alive, docs_url=None, redoc_url=None, openapi_url=f"{rest.ROOT}/openapi.json"
    )
    routes.add(app, service)
    rest.add(app, service)
    blocks = page.build(service)
    gr.mount_gradio_app(
        app,
        blocks,
        path="/",
        server_name=options.listen,
        server_port=options.port,
        root_path=options.root_path or None,
        max_file_size=service.limits.upload,
        show_error=True,
        footer_links=["api", "settings"],
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
        theme=page.theme(),
        head=page.HEAD,
        css=(_STATIC / "page.css").read_text("utf-8"),
    )
    return Door(app, options.auth)  # pyright: ignore[reportArgumentType]  # two spellings of the same protocol


def run(service: Service, options: Options, told: Callable[[str], None]) -> None:
    """Serve until stopped."""
    import uvicorn

    app = build(service, options)

    class Server(uvicorn.Server):
        def _log_started_message(self, listeners: object) -> None:
            shown = "127.0.0.1" if options.listen in ("0.0.0.0", "::") else options.listen
            told(f"Medley is at http://{shown}:{options.port}{options.root_path or ''}  (stop it with Ctrl-C)")

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # open pages are cut off, which is no error
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType]  # two spellings of the same protocol
        host=options.listen,
        port=options.port,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
    Server(config).run()
