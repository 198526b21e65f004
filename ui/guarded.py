"""Gradio's page with a guard at its events: the only files that come in are those uploaded to this server.

Gradio takes any value of the form of its `FileData`, wherever it stands in an event's inputs, for a file of this
machine, copies it to where it is served, and sends the address back. It checks the path only on a page that it has
launched itself, which a mounted one is not. So the page says that it is launched, and every value is looked at here
before gradio does: a file may stand in a file field alone, and only one that was uploaded before. What goes out holds
no file at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import FileData
from gradio.utils import get_upload_folder

from ui.backlog import Backlog
from ui.discreet import said
from ui.walls.tickets import Desk

_NOT_UPLOADED = "a file is taken only where it was uploaded to this page just now; send it again"
_SESSIONS = 256  # pages of which gradio knows which choices their fields have by now
_DEPTH = 64  # of lists and mappings in each other


class Page(gr.Blocks):
    """A page of which no event takes, or gives, a file that was not uploaded to it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.has_launched = True  # so that gradio checks paths too
        self.state_session_capacity = _SESSIONS
        self.desk = Desk()

    def queue(self, *args: Any, **options: Any) -> Page:
        """Set the queue up as gradio does, and bound it by bytes."""
        super().queue(*args, **options)
        self.backlog = Backlog(self._queue)
        return self

    def awaits(self, name: str) -> bool:
        """Return whether something is on its way to a page, or to who asked for one event, by its name."""
        queue = self._queue
        pending = queue.pending_event_ids_session.values()
        known = name in queue.pending_messages_per_session or name in queue.event_ids_to_events
        return known or any(name in events for events in list(pending))

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *more: Any, **named: Any) -> list[Any]:
        """Refuse foreign files, and read the rest as gradio does."""
        checked = [self._checked(block, value) for block, value in zip(block_fn.inputs, inputs, strict=False)]
        return await super().preprocess_data(block_fn, [*checked, *inputs[len(checked) :]], *more, **named)

    async def postprocess_data(self, block_fn: Any, predictions: Any, *more: Any, **named: Any) -> list[Any]:
        """Refuse to give a file away: everything that this page shows has an address of its own."""
        _check_plain(predictions, outgoing=True)
        return await super().postprocess_data(block_fn, predictions, *more, **named)

    async def process_api(self, block_fn: Any, inputs: list[Any], *more: Any, **named: Any) -> dict[str, Any]:
        """Do an event; the files that it took are deleted once it is over."""
        function = self.fns[block_fn] if isinstance(block_fn, int) else block_fn
        sent = [_ticket(value) for block, value in zip(function.inputs, inputs, strict=False) if _takes(block)]
        try:
            return await super().process_api(block_fn, inputs, *more, **named)
        except gr.Error as error:
            error.message = said(error.message)
            raise
        except Exception as error:  # a mistake of ours: gradio would tell it to the page as it stands
            raise gr.Error(escape(said(error), quote=False)) from error
        finally:
            for ticket in sent:
                self.desk.spend(ticket)

    def _checked(self, block: Any, value: Any) -> Any:
        if not _takes(block) or value is None:
            _check_plain(value)
            return value
        path = self.desk.look(_ticket(value))
        if path is None or not path.resolve().is_relative_to(_folder()):
            raise gr.Error(_NOT_UPLOADED, print_exception=False)
        return FileData(path=str(path)).model_dump()  # nothing else that the sender says of it


def _takes(block: Any) -> bool:
    """Whether a field is one for files. The page's take one each."""
    return isinstance(block, gr.File)


def _ticket(value: Any) -> str:
    """Return the ticket in the place of a file field's path; empty if there is none."""
    path = value.get("path") if isinstance(value, Mapping) else None
    return path if isinstance(path, str) else ""


def _folder() -> Path:
    return Path(get_upload_folder()).resolve()


def _check_plain(value: Any, outgoing: bool = False) -> None:
    """Refuse a value that holds what gradio takes for a file, or, from outside, for an update of a component."""
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        item, depth = waiting.pop()
        if depth > _DEPTH:
            raise gr.Error(f"a value is nested more than {_DEPTH} deep", print_exception=False)
        if isinstance(item, FileData) or (isinstance(item, Mapping) and _special(item, outgoing)):
            raise gr.Error(_NOT_UPLOADED, print_exception=False)
        if isinstance(item, Mapping):
            waiting.extend((inner, depth + 1) for inner in item.values())
        elif isinstance(item, list | tuple):
            waiting.extend((inner, depth + 1) for inner in item)


def _special(item: Mapping[Any, Any], outgoing: bool) -> bool:
    meta = item.get("meta")
    typed = isinstance(meta, Mapping) and "_type" in meta
    return typed or ("path" in item and "meta" in item) or ("__type__" in item and not outgoing)
