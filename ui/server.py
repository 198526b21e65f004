"""The server: our own addresses for pictures and scripts, a door in front of everything, the page behind it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import TYPE_CHECKING

from ui import discreet
from ui.limits import Limits
from ui.room import BOUNDS, INCOMING, Incoming
from ui.service import Service
from ui.walls import crowds, patient
from ui.walls.asgi import App
from ui.walls.bodies import Bodies, Sizes
from ui.walls.crowds import Crowds
from ui.walls.headers import Headers
from ui.walls.hosts import Hosts
from ui.walls.password import Password
from ui.walls.routes import Routes
from ui.walls.streams import Streams
from ui.walls.tickets import Tickets

if TYPE_CHECKING:
    import uvicorn

_STATIC = Path(__file__).parent / "static"
_FORM = 1 << 20  # bytes around what a request holds: names, numbers, the form
_SWEEP = 300.0  # seconds between looks at what can be cleared away


@dataclass(frozen=True)
class Patience:
    """How long the server waits for anybody, and how much it takes of all together."""

    connections: int = 512  # at a time, of which a page has up to six
    of_one: int = patient.OF_ONE  # connections of one address
    at_once: int = crowds.MOST  # requests of one address that are under way
    idle: float = patient.PATIENCE  # seconds between looks at connections without a request
    silence: float = 30.0  # seconds in which nothing comes of what was to be sent
    incoming: int = BOUNDS.incoming  # bytes of files that wait until they are used


@dataclass(frozen=True)
class Options:
    """Where to listen, and for whom."""

    listen: str = "127.0.0.1"
    port: int = 7860
    auth: str | None = None  # USER:PASSWORD
    root_path: str = ""
    host_names: tuple[str, ...] = ()  # under which it is reached beside those of the machine
    private: tuple[Path, ...] = ()  # folders of which nobody is to learn
    patience: Patience = Patience()

    @property
    def address(self) -> str:
        """Where somebody at this machine opens the page."""
        shown = "127.0.0.1" if self.listen in ("0.0.0.0", "::") else self.listen
        return f"http://{shown}:{self.port}{self.root_path}"

    @property
    def proxied(self) -> bool:
        """Whether somebody passes requests on, and tells for whom."""
        return bool(self.root_path or self.host_names)


def build(service: Service, options: Options) -> App:
    """Return the whole server as an application; the service starts and stops with it."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    discreet.know([service.history.folder, *options.private])
    incoming = Incoming(service.history.folder.resolve() / INCOMING, options.patience.incoming)
    os.environ["GRADIO_TEMP_DIR"] = str(incoming.folder)
    import gradio as gr
    from fastapi import FastAPI

    from ui import backlog, page, rest, routes
    from ui.walls import headers

    @asynccontextmanager
    async def alive(_app: FastAPI) -> AsyncIterator[None]:
        service.start()
        Thread(target=service.warm, name="warming", daemon=True).start()
        sweeping = asyncio.create_task(_sweep(service, incoming))
        yield
        sweeping.cancel()
        service.stop()

    app = FastAPI(
        title="Medley", lifespan=alive, docs_url=None, redoc_url=None, openapi_url=f"{rest.ROOT}/openapi.json"
    )
    routes.add(app, service)
    rest.add(app, service)
    headers.give_nonces()
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
    backlog.keep_no_values(app.routes[-1])  # where gradio was mounted
    inner = Streams(Tickets(app, blocks.desk), blocks.awaits)
    return _walled(inner, service.limits, options, incoming)  # pyright: ignore[reportArgumentType]  # ASGI, in two spellings


async def _sweep(service: Service, incoming: Incoming) -> None:
    """Clear away what nothing needs any more, now and then."""
    while True:
        await asyncio.to_thread(service.held.clear, service.history.held)
        await asyncio.sleep(_SWEEP)
        await asyncio.to_thread(incoming.sweep)


def _walled(app: App, limits: Limits, options: Options, incoming: Incoming) -> App:
    """Return an application behind all walls, the innermost first."""
    patience = options.patience
    sizes = Sizes(limits.inline + _FORM, limits.picture + _FORM, limits.upload + _FORM, silence=patience.silence)
    app = Bodies(app, sizes, room=incoming.has_room)
    app = Crowds(app, None if options.proxied else patience.at_once)
    app = Password(Routes(app), options.auth)
    return Headers(Hosts(app, options.listen, options.host_names, options.proxied))


def configured(app: App, options: Options) -> uvicorn.Config:
    """Return how an application is served."""
    import uvicorn

    patience = options.patience
    return uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType]  # two spellings of the same protocol
        http=patient.protocol(patience.idle, None if options.proxied else patience.of_one),
        ws="none",
        log_level="warning",
        timeout_graceful_shutdown=1,
        limit_concurrency=patience.connections,
        proxy_headers=options.proxied,
        server_header=False,
    )


def run(service: Service, options: Options, sockets: list[socket.socket], told: Callable[[str], None]) -> None:
    """Serve on sockets that are bound already, until stopped."""
    import uvicorn

    config = configured(build(service, options), options)

    class Server(uvicorn.Server):
        def _log_started_message(self, listeners: object) -> None:
            told(f"Medley is at {options.address}  (stop it with Ctrl-C)")

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # open pages are cut off, which is no error
            super().handle_exit(sig, frame)

    Server(config).run(sockets)
