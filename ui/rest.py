"""The typed HTTP API: plain JSON with status codes, described at `medley/api/openapi.json`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from composer.request import RenderRequest
from lora_zoo.errors import ZooError
from lora_zoo.foreign.text import escaped
from ui.calls import Answer, Calls
from ui.discreet import said
from ui.errors import NotThere, TooBusy, TooMuch, Unavailable
from ui.service import Service

ROOT = "/medley/api"
_STATUS = {NotThere: 404, TooMuch: 413, TooBusy: 429, Unavailable: 503}
_MISTAKE = 422
_WRONG_STATUS = (400, _MISTAKE, *_STATUS.values())  # 400: no JSON at all


class Order(BaseModel):
    """A job: pictures of one request, with seeds counting up from its own."""

    model_config = ConfigDict(extra="forbid")

    request: RenderRequest
    count: int = Field(default=1, ge=1)


class Told(BaseModel):
    """What was wrong with a request, in words."""

    detail: str


class Accepted(BaseModel):
    """The job that was put into the queue."""

    job: str


class Standing(BaseModel):
    """How a job stands, and its pictures so far; other fields depend on the state."""

    model_config = ConfigDict(extra="allow")

    job: str
    state: str
    pictures: list[dict[str, JsonValue]] = []


_WRONG: dict[int | str, dict[str, Any]] = {status: {"model": Told} for status in _WRONG_STATUS}
_Job = Annotated[str, Path(max_length=100, description="A job's id.")]


def add(app: FastAPI, service: Service) -> None:
    """Add the API to a server."""
    calls = Calls(service)
    router = APIRouter(prefix=ROOT, responses=_WRONG)
    _jobs(router, calls)
    _facts(router, calls)
    _loras(router, calls)
    app.include_router(router)
    app.add_exception_handler(ZooError, _told)
    app.add_exception_handler(RequestValidationError, _misread)


def _jobs(router: APIRouter, calls: Calls) -> None:
    @router.post("/jobs", status_code=201)
    def submit(order: Order) -> Accepted:
        """Put a job into the queue; once this answers, the job is on the disk and will be done."""
        return Accepted(**calls.accept(order.request, order.count))

    @router.get("/jobs/{job}")
    def job(job: _Job) -> Standing:
        """Tell how a job stands, and its pictures so far; each has an address on this server."""
        return Standing(**calls.job(job))

    @router.delete("/jobs/{job}")
    def cancel(job: _Job) -> Standing:
        """Stop a job, within a step if it runs."""
        return Standing(**calls.cancel(job))

    @router.post("/cost")
    def cost(request: Annotated[RenderRequest, Body(embed=True)]) -> Answer:
        """Count what a picture takes, without making it."""
        return calls.price(request)


def _facts(router: APIRouter, calls: Calls) -> None:
    @router.get("/pictures")
    def search(
        words: Annotated[str, Query(max_length=400)] = "", limit: Annotated[int, Query(ge=1, le=200)] = 48
    ) -> Answer:
        """Find pictures by words of their prompts, LoRAs and methods, the newest first."""
        return calls.search(words, limit)

    router.get("/methods")(calls.methods)
    router.get("/limits")(calls.limits)


def _loras(router: APIRouter, calls: Calls) -> None:
    router.get("/loras")(calls.loras)

    @router.delete("/loras/{handle:path}")
    def remove(handle: Annotated[str, Path(max_length=400, description="A LoRA's handle.")]) -> Answer:
        """Remove a LoRA that was sent or made here; `removed` is the name to put it back by."""
        return calls.remove_lora(handle)

    @router.post("/removed-loras/{name}")
    def put_back(name: Annotated[str, Path(max_length=400, description="What removing it answered.")]) -> Answer:
        """Offer a LoRA again that was removed."""
        return calls.put_back_lora(name)


def _told(_request: Request, error: Exception) -> JSONResponse:
    status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), _MISTAKE)
    return JSONResponse({"detail": escaped(said(error))}, status)


def _misread(_request: Request, error: Exception) -> JSONResponse:
    """Tell where a request is not of its type; without what stood there, which may be anything."""
    assert isinstance(error, RequestValidationError), "what it was added for"
    told = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return JSONResponse({"detail": escaped("; ".join(told))}, _MISTAKE)
