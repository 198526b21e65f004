"""What the tabs share: mistakes told as messages, pictures as items of a gallery."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import wraps
from html import escape
from typing import Any, ParamSpec, TypeVar

import gradio as gr
from pydantic import JsonValue

from composer.errors import BadRequest
from lora_zoo.errors import ZooError
from ui import words
from ui.discreet import said
from ui.history import Asked, Kept
from ui.service import Service

P = ParamSpec("P")
R = TypeVar("R")

#: For everything that makes the model work: one group, so that its entrance is one.
MODEL = "model"

#: The page's own events: no part of the API, and shown by our own parts instead of gradio's spinners.
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}

#: For events that carry data and may come again before the answer is there, such as a second picture that is pressed.
#: In gradio's other modes the second was lost; so each is asked, one after the other, in the order they came.
EACH: dict[str, Any] = {**QUIET, "trigger_mode": "multiple", "concurrency_limit": 1}


@contextmanager
def telling() -> Iterator[None]:
    """Show the user's mistakes as messages; names in them are text, never markup."""
    try:
        yield
    except ZooError as error:
        raise gr.Error(escape(said(error)), title="Not possible", duration=12, print_exception=False) from error


def told(act: Callable[P, R]) -> Callable[P, R]:
    """Let a handler's mistakes be told."""

    @wraps(act)
    def careful(*args: P.args, **kwargs: P.kwargs) -> R:
        with telling():
            return act(*args, **kwargs)

    return careful


def item(kept: Kept, caption: str = "", note: str = "") -> dict[str, JsonValue]:
    """Return a picture as the gallery shows it."""
    one = kept.record
    return {
        "id": kept.id,
        "address": address(kept.id),
        "caption": said(caption) or f"seed {one.seed}",
        "note": note,
        "alt": f"{one.prompt}, {one.method}, seed {one.seed}",
        "small": (one.width or 0) <= 256,
    }


def address(picture: str) -> str:
    return f"medley/pictures/{picture}.png"


def shown(items: Sequence[JsonValue], selected: str | None = None, **more: JsonValue) -> dict[str, JsonValue]:
    """Return a gallery's value."""
    return {"items": list(items), "selected": selected, **more}


def picked(event: gr.EventData, which: str = "id") -> str:
    """Return the id that an event of one of our parts carries; empty if it carries none."""
    data: dict[str, Any] = getattr(event, "_data", None) or {}
    return str(data.get(which) or "")


def jobs_of(live: object) -> list[str]:
    """Return the ids in a live part's value, whatever a browser made of it."""
    stated = live.get("jobs") if isinstance(live, dict) else None
    return [one for one in stated if isinstance(one, str)] if isinstance(stated, list) else []


def selected(gallery: object) -> str:
    """Return the id of the picture chosen in a gallery."""
    found = gallery.get("selected") if isinstance(gallery, dict) else None
    if not isinstance(found, str):
        raise BadRequest("no picture is chosen; render one first, or choose one in the gallery")
    return found


def cancel_first(service: Service, live: object) -> None:
    """Stop the job that a live part shows."""
    for job in jobs_of(live)[:1]:
        service.cancel(job)


def download_link(gallery: object) -> str:
    """Return the link to the picture that is chosen in a gallery; nothing if none is."""
    picture = gallery.get("selected") if isinstance(gallery, dict) else None
    return words.download(picture) if isinstance(picture, str) else ""


def hand_in(service: Service, asked: Asked, request: gr.Request) -> dict[str, JsonValue]:
    """Submit a page's job; return what its live part then follows: all of the page's jobs of this kind."""
    owner = str(request.session_hash)
    service.submit(replace(asked, owner=owner))
    return {"jobs": list(service.history.open_of(owner, asked.kind))}
