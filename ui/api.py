"""The API of gradio's clients: stable names for what `ui.calls` answers; mistakes are told as gradio tells them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from html import escape
from typing import ParamSpec

import gradio as gr
from gradio.events import api

from lora_zoo.errors import ZooError
from ui.calls import Answer, Calls
from ui.discreet import said
from ui.service import Service
from ui.tabs.common import MODEL

P = ParamSpec("P")

_NAMES = ("submit", "job", "cancel", "cost", "search", "loras", "methods", "limits")


def build(service: Service, options: int = 8) -> None:
    """Add the endpoints to the page under construction; `options` of them may wait for the model at a time."""
    calls = Calls(service)
    for name in _NAMES:
        api(_told(getattr(calls, name)), api_name=name, concurrency_limit=options)
    api(_told_later(calls.render), api_name="render", concurrency_id=MODEL, concurrency_limit=options)


@contextmanager
def _telling() -> Iterator[None]:
    try:
        yield
    except ZooError as error:
        raise gr.Error(escape(said(error), quote=False), print_exception=False) from error


def _told(act: Callable[P, Answer]) -> Callable[P, Answer]:
    """Tell the caller's mistakes as errors with a message."""

    @wraps(act)
    def told(*args: P.args, **kwargs: P.kwargs) -> Answer:
        with _telling():
            return act(*args, **kwargs)

    return told


def _told_later(act: Callable[P, Awaitable[Answer]]) -> Callable[P, Awaitable[Answer]]:
    @wraps(act)
    async def told(*args: P.args, **kwargs: P.kwargs) -> Answer:
        with _telling():
            return await act(*args, **kwargs)

    return told
