"""The HTTP API: stable names over the same service as the page. Answers are JSON; pictures are fetched by id."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import wraps
from html import escape
from typing import Any, ParamSpec

import gradio as gr
from gradio.events import api
from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from composer import registry
from composer.errors import BadRequest
from composer.request import parse_request
from lora_zoo.errors import ZooError
from pipelines import schedulers
from ui.cards import cards
from ui.history import OPEN, Asked, Kept
from ui.service import Service
from ui.tabs.common import MODEL, address

P = ParamSpec("P")

_NAMES = ("submit", "job", "cancel", "cost", "search", "loras", "methods", "limits")
_LOOK = 0.05  # seconds
_MOST_FOUND = 200

Answer = dict[str, Any]


def build(service: Service, options: int = 8) -> None:
    """Add the endpoints to the page under construction; `options` of them may wait for the model at a time."""
    endpoints = Endpoints(service)
    for name in _NAMES:
        api(getattr(endpoints, name), api_name=name, concurrency_limit=options)
    api(endpoints.render, api_name="render", concurrency_id=MODEL, concurrency_limit=options)


def _careful(act: Callable[P, Answer]) -> Callable[P, Answer]:
    """Tell the caller's mistakes as errors with a message."""

    @wraps(act)
    def told(*args: P.args, **kwargs: P.kwargs) -> Answer:
        try:
            return act(*args, **kwargs)
        except ZooError as error:
            raise gr.Error(escape(str(error), quote=False), print_exception=False) from error

    return told


class Endpoints:
    """What clients may call. A request is JSON with the keys of `RenderRequest`."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def render(self, request: dict[str, Any], count: int = 1) -> Answer:
        """Make pictures and wait for them; `count` of them, with seeds counting up."""
        job = self.submit(request, count)["job"]
        while self._service.history.state(job)[0] in OPEN:
            await asyncio.sleep(_LOOK)
        return self.job(job)

    @_careful
    def submit(self, request: dict[str, Any], count: int = 1) -> Answer:
        """Put a job into the queue; once this answers, the job is on the disk and will be done."""
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= self._service.limits.pictures:
            raise BadRequest(f"count is a whole number from 1 to {self._service.limits.pictures}, not {count!r}")
        first = parse_request(request)
        requests = tuple(parse_request({**first.model_dump(), "seed": first.seed + n}) for n in range(count))
        return {"job": self._service.submit(Asked(requests, owner="api")).id}

    @_careful
    def job(self, job: str) -> Answer:
        """Tell how a job stands, and its pictures so far; each has an address on this server."""
        told = {key: value for key, value in self._service.glance(job).items() if key not in ("previews", "told")}
        return {"job": job, **told, "pictures": [_picture(one) for one in self._service.history.pictures(job)]}

    @_careful
    def cancel(self, job: str) -> Answer:
        """Stop a job, within a step if it runs."""
        self._service.cancel(job)
        return {"job": job, "state": self._service.history.state(job)[0].value}

    @_careful
    def cost(self, request: dict[str, Any]) -> Answer:
        """Count what a picture takes, without making it."""
        return to_jsonable_python(self._service.cost([parse_request(request)]))

    @_careful
    def search(self, words: str, limit: int = 48) -> Answer:
        """Find pictures by words of their prompts, LoRAs and methods, the newest first."""
        found = self._service.history.search(str(words), max(1, min(int(limit), _MOST_FOUND)))
        return {"pictures": [_picture(one) for one in found]}

    def loras(self) -> Answer:
        """List the LoRAs that a request may name, by `handle`."""
        return {"loras": cards(self._service.library)}

    def methods(self) -> Answer:
        """List methods with their parameters, schedulers and models."""
        described = [to_jsonable_python(registry.describe(name)) for name in registry.names()]
        return {"methods": described, "schedulers": list(schedulers.names()), "models": list(self._service.models)}

    def limits(self) -> Answer:
        """Tell how much one job may take."""
        return to_jsonable_python(self._service.limits)


def _picture(one: Kept) -> JsonValue:
    return {
        "id": one.id,
        "address": address(one.id),
        "seconds": one.seconds,
        "record": one.record.model_dump(mode="json"),
    }
