"""What the HTTP APIs answer: stable names over the same service as the page; JSON, with pictures fetched by id."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any

from pydantic import JsonValue
from pydantic_core import to_jsonable_python
from starlette.concurrency import run_in_threadpool

from composer import registry
from composer.errors import BadRequest
from composer.request import RenderRequest, parse_request
from composer.sharing import shared
from lora_zoo.errors import shortened
from lora_zoo.foreign import text
from pipelines import estimates, schedulers, specs
from pipelines.jobs.states import OPEN
from pipelines.quotes import Quote
from ui.cards import cards, refused
from ui.discreet import said
from ui.errors import NotAllowed
from ui.history import Asked, Kept
from ui.limits import check_held
from ui.news import BOARD
from ui.service import Service

_MOST_FOUND = 200
_OF_THE_PAGE = ("previews", "findings", "known", "told")  # what a job's standing holds for those who look on

Answer = dict[str, Any]


class Calls:
    """What clients may call. A mistake is raised as a typed error."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def render(self, request: dict[str, Any], count: int = 1) -> Answer:
        """Make pictures and wait for them; `count` of them, with seeds counting up."""
        job = (await run_in_threadpool(self.submit, request, count))["job"]
        async with aclosing(BOARD.moments(job, lambda: self._service.history.state(job))) as moments:
            async for state, _ in moments:
                if state not in OPEN:
                    break
        return await run_in_threadpool(self.job, job)

    def submit(self, request: dict[str, Any], count: int = 1) -> Answer:
        """Put a job into the queue; once this answers, the job is on the disk and will be done."""
        return self.accept(_parsed(request), count)

    def accept(self, first: RenderRequest, count: int) -> Answer:
        """Put a job of a request into the queue; seeds count up from its own."""
        _check_own_words(first)
        _check_number(count, "count", self._service.limits.pictures)
        check_held([first] * count, self._service.limits)  # before there are so many of it
        requests = tuple(parse_request({**first.model_dump(), "seed": first.seed + n}) for n in range(count))
        return {"job": self._service.submit(Asked(requests, owner="api")).id}

    def job(self, job: str) -> Answer:
        """Tell how a job stands, and its pictures so far; each has an address on this server."""
        _check_text(job, "job")
        told = {key: value for key, value in self._service.glance(job).items() if key not in _OF_THE_PAGE}
        return {"job": job, **told, "pictures": [_picture(one) for one in self._service.history.pictures(job)]}

    def cancel(self, job: str) -> Answer:
        """Stop a job, within a step if it runs."""
        _check_text(job, "job")
        self._service.cancel(job)
        return {"job": job, "state": self._service.history.state(job)[0].value}

    def cost(self, request: dict[str, Any]) -> Answer:
        """Count what a picture takes, without making it; `seconds` as renderings took here, null before any did."""
        return self.price(_parsed(request))

    def price(self, request: RenderRequest) -> Answer:
        """Count what a request takes."""
        _check_own_words(request)
        cost = self._service.cost([request])
        soon = estimates.estimate(specs.find(request.model), cost)
        return Quote(cost, soon).row()

    def search(self, words: str, limit: int = 48) -> Answer:
        """Find pictures by words of their prompts, LoRAs and methods, the newest first."""
        _check_text(words, "words")
        _check_number(limit, "limit", _MOST_FOUND)
        found = self._service.history.search(words, limit)
        unreadable = [{"id": key, "error": said(why)} for key, why in self._service.history.left_out.items()]
        return {"pictures": [_picture(one) for one in found], "unreadable": unreadable}

    def loras(self) -> Answer:
        """List the LoRAs that a request may name, by `handle`, and the files of the zoo that cannot be used."""
        library = self._service.shelf.library
        return {"loras": cards(library), "refused": refused(library)}

    def remove_lora(self, handle: str) -> Answer:
        """Remove a LoRA that was sent or made here; `put_back_lora` takes the name that this answers."""
        _check_text(handle, "handle")
        return {"removed": self._service.remove_lora(handle)}

    def put_back_lora(self, name: str) -> Answer:
        """Offer a LoRA again that was removed."""
        _check_text(name, "name")
        self._service.put_back_lora(name)
        return {"put_back": name}

    def methods(self) -> Answer:
        """List methods with their parameters, schedulers and models."""
        described = [to_jsonable_python(registry.describe(name)) for name in registry.names()]
        return {"methods": described, "schedulers": list(schedulers.names()), "models": list(self._service.models)}

    def limits(self) -> Answer:
        """Tell how much one job may take."""
        return to_jsonable_python(self._service.limits)


def _parsed(request: object) -> RenderRequest:
    if not isinstance(request, Mapping):
        raise BadRequest(f"request is an object with a request's keys, not {shortened(request)}")
    return parse_request(request)


def _check_text(value: object, name: str) -> None:
    if not isinstance(value, str):
        raise BadRequest(f"{name} is a text, not {shortened(value)}")
    text.check(value, name, BadRequest)


def _check_number(value: object, name: str, most: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise BadRequest(f"{name} is a whole number from 1 to {most}, not {shortened(value)}")


def _check_own_words(request: RenderRequest) -> None:
    """Refuse remarks: a picture's record tells them as ours, and whoever sees it cannot know that they are not."""
    if request.remarks:
        raise NotAllowed(
            f"remarks: {shortened(request.remarks[0])} is not ours to say; this server writes them itself as it reads "
            "the prompt: leave them out"
        )


def _picture(one: Kept) -> JsonValue:
    return {
        "id": one.id,
        "address": f"medley/pictures/{one.id}.png",
        "seconds": one.seconds,
        "record": shared(one.record).model_dump(mode="json"),  # as the picture's own file states it
    }
