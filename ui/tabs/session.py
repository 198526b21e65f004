"""What a browser keeps over a reload: the fields, the choices of the other tabs, jobs under way, and results by job."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import gradio as gr
from pydantic import BaseModel, JsonValue, ValidationError

from lora_zoo.errors import ZooError
from ui.errors import NotThere
from ui.forms import Draft
from ui.history import Job, Kept
from ui.service import Service
from ui.tabs.common import QUIET, jobs_of
from ui.tabs.fields import Inputs, draft_of, values_of

KEY = "medley-session"


@dataclass(frozen=True)
class Memory:
    """What is kept of a tab that renders."""

    name: str
    live: gr.HTML  # its jobs under way
    pictures: gr.HTML  # its last result, a gallery
    results: tuple[gr.HTML, ...]  # what `shown` fills
    shown: Callable[[Job, list[Kept]], tuple[Any, ...]]
    choices: tuple[Any, ...] = ()  # fields of its own


class Left(BaseModel):
    """A tab as a browser left it."""

    jobs: list[str] = []
    shown: str | None = None  # the job whose pictures stand in the tab
    choices: list[JsonValue] = []


class Session(BaseModel):
    """The page as a browser left it."""

    draft: Draft = Draft()
    parts: dict[str, Left] = {}


def remember(service: Service, page: gr.Blocks, inputs: Inputs, parts: tuple[Memory, ...]) -> None:
    """Keep the session in the browser, and fill the page from it when it is opened again."""
    kept = gr.BrowserState(None, storage_key=KEY, secret="medley")
    _save(service, inputs, parts, kept)
    page.load(lambda now: _draft(service, inputs, now), kept, inputs.all(), **QUIET)
    for part in parts:
        filled = [part.live, *part.choices, *part.results]
        page.load(_loader(service, part), kept, filled, **QUIET)


def _save(service: Service, inputs: Inputs, parts: tuple[Memory, ...], kept: gr.BrowserState) -> None:
    fields = inputs.all()

    def save(before: JsonValue, *values: Any) -> JsonValue:
        try:
            draft = draft_of(values[: len(fields)])
        except ZooError:
            return gr.skip()  # fields that are wrong at the moment; the message is beside them
        old, rest = read(before), list(values[len(fields) :])
        found: dict[str, Left] = {}
        for part in parts:
            live, pictures, *choices = (rest.pop(0) for _ in range(2 + len(part.choices)))
            last = old.parts.get(part.name, Left()).shown
            found[part.name] = Left(jobs=jobs_of(live), shown=_job_of(service, pictures) or last, choices=choices)
        return Session(draft=draft, parts=found).model_dump(mode="json")

    own = [one for part in parts for one in (part.live, part.pictures, *part.choices)]
    typed = (inputs.prompt, inputs.negative)
    changes = [one.change for one in (*fields, *own) if one not in typed]
    left = [one.blur for one in typed]
    gr.on([*changes, *left], save, [kept, *fields, *own], kept, trigger_mode="always_last", **QUIET)


def read(kept: JsonValue) -> Session:
    """Return what a browser kept; an empty session where that is nothing, or of an older version."""
    try:
        return Session.model_validate(kept or {})
    except ValidationError:
        return Session()


def _draft(service: Service, inputs: Inputs, kept: JsonValue) -> list[Any]:
    if kept:
        with suppress(ZooError):  # of a method that is no more
            return values_of(read(kept).draft, service)
    return [gr.skip()] * len(inputs.all())


def _loader(service: Service, part: Memory) -> Callable[[JsonValue], list[Any]]:
    def load(kept: JsonValue) -> list[Any]:
        left = read(kept).parts.get(part.name, Left())
        live: JsonValue = {"jobs": list(service.open_among(left.jobs))}
        choices: list[Any] = list(left.choices)
        if len(choices) != len(part.choices):
            choices = [gr.skip()] * len(part.choices)
        return [live, *choices, *_results(service, part, left)]

    return load


def _results(service: Service, part: Memory, left: Left) -> tuple[Any, ...]:
    if left.shown is not None:
        with suppress(NotThere):  # of a history that is gone
            pictures = service.history.pictures(left.shown)
            if pictures:
                return part.shown(service.history.job(left.shown), pictures)
    return (gr.skip(),) * len(part.results)


def _job_of(service: Service, gallery: Any) -> str | None:
    """Return the job that a gallery's pictures are of."""
    items = gallery.get("items") if isinstance(gallery, dict) else None
    first = items[0] if isinstance(items, list) and items else None
    picture = first.get("id") if isinstance(first, dict) else None
    if not isinstance(picture, str):
        return None
    with suppress(NotThere):
        return service.history.picture(picture).job
    return None
