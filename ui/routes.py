"""Our own addresses: scripts, pictures, jobs as they go, files. Each by an id or name that we gave out, no paths."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse

from lora_zoo.errors import BadFile, ZooError
from pipelines import images
from pipelines.jobs.states import OPEN
from ui import reports, thumbnails
from ui.discreet import said
from ui.errors import NotThere
from ui.history import Kept
from ui.news import BOARD
from ui.service import Service

_STATIC = Path(__file__).parent / "static"
_SCRIPTS = (
    "base.js",
    "cards.js",
    "chosen.js",
    "paint.js",
    "boxes.js",
    "start.js",
    "form.js",
    "live.js",
    "gallery.js",
    "slider.js",
    "jobs.js",
    "reports.js",
)
_FOREVER = {"cache-control": "private, max-age=31536000, immutable"}

#: A report is shown in a frame of its own and may do nothing there: no scripts, no requests, only what it brings along.
_REPORT = {
    "content-security-policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:",
    "cache-control": "no-store",
}


def add(app: FastAPI, service: Service) -> None:
    """Serve all of them."""
    _page(app, service)
    _work(app, service)
    _held(app, service)
    _files(app, service)


def _page(app: FastAPI, service: Service) -> None:
    script = "\n".join((_STATIC / name).read_text("utf-8") for name in _SCRIPTS)

    @app.get("/medley/page.js", include_in_schema=False)
    def page_script() -> Response:
        return Response(script, media_type="text/javascript", headers={"cache-control": "no-cache"})

    @app.get("/medley/health", include_in_schema=False)
    def health() -> Response:
        found = service.health()
        told = {"ready": found.works, "worker": found.state, "error": found.error, "when": found.when}
        return JSONResponse(told, 200 if found.works else 503, {"cache-control": "no-store"})


def _work(app: FastAPI, service: Service) -> None:
    @app.get("/medley/pictures/{picture}.png", include_in_schema=False)
    def picture_file(picture: str, download: bool = False) -> Response:
        try:
            path, kept = service.history.file(picture), service.history.picture(picture)
        except NotThere as error:
            return _missing(error)
        kind = "attachment" if download else "inline"
        return FileResponse(
            path, 200, _FOREVER, "image/png", filename=_name(kept, "png"), content_disposition_type=kind
        )

    @app.get("/medley/pictures/{picture}.{suffix}", include_in_schema=False)
    def other_file(picture: str, suffix: str) -> Response:
        try:
            path, kept = service.history.file(picture), service.history.picture(picture)
            chosen = images.format_named(suffix)
            data = images.converted(path, chosen)
        except NotThere as error:
            return _missing(error)
        except ZooError as error:  # no such format, or one without room for the record
            return Response(said(error), 422, media_type="text/plain")
        named = {"content-disposition": f'attachment; filename="{_name(kept, suffix)}"'}
        return Response(data, media_type=f"image/{chosen.name}", headers={**_FOREVER, **named})

    @app.get("/medley/jobs/{job}", include_in_schema=False)
    def job_events(job: str) -> Response:
        try:
            service.history.state(job)
        except NotThere as error:
            return _missing(error)
        return StreamingResponse(_moments(service, job), 200, {"cache-control": "no-store"}, "text/event-stream")


def _held(app: FastAPI, service: Service) -> None:
    @app.post("/medley/held", include_in_schema=False)
    async def hold(request: Request) -> Response:
        data = bytearray()
        async for piece in request.stream():
            data += piece
            if len(data) > service.limits.picture:
                break
        try:
            name = await run_in_threadpool(service.held.take, bytes(data))
        except ZooError as error:
            return Response(said(error), 422, media_type="text/plain")
        return JSONResponse({"name": name})

    @app.get("/medley/held/{digest}.png", include_in_schema=False)
    def held_file(digest: str) -> Response:
        try:
            return FileResponse(service.held.file(digest), 200, _FOREVER, "image/png")
        except NotThere as error:
            return _missing(error)


def _files(app: FastAPI, service: Service) -> None:
    @app.get("/medley/thumbnails/{digest}", include_in_schema=False)
    def thumbnail(digest: str) -> Response:
        path = service.shelf.thumbnail(digest)
        try:
            data, kind = thumbnails.shown(path) if path is not None else (b"", "")
        except BadFile:
            return Response(status_code=404)
        return Response(data, media_type=kind, headers=_FOREVER) if data else Response(status_code=404)

    @app.get("/medley/loras/{digest}", include_in_schema=False)
    def lora_file(digest: str) -> Response:
        path = service.shelf.made(digest)
        if path is None:
            return Response(status_code=404)
        return FileResponse(path, media_type="application/octet-stream", filename=path.name)

    @app.get("/medley/reports/{report}", include_in_schema=False)
    def report_file(report: str) -> Response:
        try:
            return FileResponse(reports.find(service.reports, report).path, 200, _REPORT, "text/html")
        except NotThere as error:
            return _missing(error)


def _name(kept: Kept, suffix: str) -> str:
    """Return what a picture's file is called on the disk of who saves it; nothing in it is a user's text."""
    return f"medley-{kept.record.method}-{kept.record.seed}-{kept.id[:8]}.{suffix}"


def _missing(error: NotThere) -> Response:
    return Response(said(error), 404, media_type="text/plain")


async def _moments(service: Service, job: str) -> AsyncIterator[str]:
    """Yield how a job stands, as server-sent events, whenever that changes; until it is over."""
    last = ""
    async with aclosing(BOARD.moments(job, lambda: service.glance(job))) as moments:
        async for now in moments:
            said = json.dumps(now)
            if said != last:
                last = said
                yield f"data: {said}\n\n"
            if now["state"] not in OPEN:
                return
