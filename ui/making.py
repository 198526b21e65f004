"""Several LoRAs made into one file of the zoo: checked like a picture's request, told as it goes, stopped at will."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from composer.errors import BadRequest
from composer.registry import Parameter
from pipelines import export, merges
from pipelines.export import Exported
from pipelines.merges import MergeOrder
from pipelines.progress import Cancel
from ui.forms import Draft
from ui.service import Service

_LOOK = 0.2  # seconds between looks at what is going on


@dataclass(frozen=True)
class Wish:
    """How the LoRAs of a draft are made into one."""

    method: str
    parameters: Mapping[str, JsonValue]
    name: str  # of the file
    rank: str = ""  # a whole number; empty: as exact as can be
    prompts: str = ""  # one NAME=TEXT a line; for merges that need the model at work


def parameters(method: str) -> tuple[Parameter, ...]:
    """Return what a merge can be told."""
    return merges.parameters(method)


def order(service: Service, draft: Draft, wish: Wish) -> MergeOrder:
    """Return the merge of a draft's LoRAs; what a page may not name is refused."""
    known = {one.name for one in parameters(wish.method)}
    given = {key: value for key, value in wish.parameters.items() if value is not None and key in known}
    plain = draft.model_copy(update={"method": "cat", "parameters": {}, "prompt": "", "negative_prompt": ""})
    request = service.resolve([plain.request()])[0]
    changed = {"method": wish.method, "parameters": given, "text_encoder_adapters": None}
    return MergeOrder(request.model_copy(update=changed), _rank(wish.rank), _prompts(wish.prompts))


def place(service: Service, wish: Wish) -> Path:
    """Return where the file will lie; a name that is taken is refused."""
    return service.shelf.place(wish.name)


class Making:
    """One merge under way, in a thread of its own."""

    def __init__(self, service: Service, wanted: MergeOrder, out: Path) -> None:
        self._service, self._order, self._out = service, wanted, out
        self._cancel = Cancel()
        self._at = "Preparing…"
        self.made: Exported | None = None

    def cancel(self) -> None:
        """Stop it before its next step."""
        self._cancel.cancel()

    def told(self) -> Iterator[str]:
        """Do it, saying what it is at; what it raises is raised here. Not listened to any more, it stops."""
        with ThreadPoolExecutor(1, "merge") as pool:
            going = pool.submit(export.export, self._service.engine, self._order, self._out, self._watch)
            try:
                while not wait([going], _LOOK).done:
                    yield self._at
            finally:
                if not going.done():
                    self.cancel()
            self.made = going.result()
        self._service.shelf.refresh()

    def _watch(self, what: str, done: int, count: int) -> None:
        self._cancel.check()
        self._at = f"{what}: {done} of {count}"


def _rank(text: str) -> int | None:
    """Read a rank; nothing is none."""
    if not text.strip():
        return None
    if not text.strip().isdecimal() or int(text) < 1:
        raise BadRequest(f"the rank is a whole number from 1 on, or left empty, not {text!r}")
    return int(text)


def _prompts(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, equals, prompt = (part.strip() for part in line.partition("="))
        if not (name and equals and prompt):
            raise BadRequest(f"what calls for a LoRA is written as NAME=TEXT, one a line, not {line!r}")
        if name in found:
            raise BadRequest(f"what calls for {name!r} is stated twice, as {found[name]!r} and {prompt!r}")
        found[name] = prompt
    return found
