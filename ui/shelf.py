"""The LoRAs that a server offers: those that come along, those of its folders, and those sent or made here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

from composer.request import AdapterUse, RenderRequest
from lora_zoo.catalog import Entry
from lora_zoo.errors import ZooError, near
from lora_zoo.fit import Fit
from lora_zoo.library import Library
from pipelines.engine import Engine
from pipelines.sources import ZooSource
from ui import discreet, uploads
from ui.errors import NotAllowed, NotThere
from ui.uploads import Terms

_REMOVED = "removed"  # a folder beside that of the uploads, which no scan enters
_SUFFIX = ".safetensors"


@dataclass(frozen=True, eq=False)
class Offered:
    """What is offered at one moment. Never changed: what is resolved with it stays so, whatever comes or goes."""

    library: Library
    engine: Engine
    loras: Mapping[str, Entry]  # by the names to ask for them

    def found(self, request: RenderRequest) -> RenderRequest:
        """Return a resolved request whose LoRAs go by the names that they have now, found by their content."""
        uses = tuple(map(self._found, request.adapters))
        return request if uses == request.adapters else request.model_copy(update={"adapters": uses})

    def _found(self, use: AdapterUse) -> AdapterUse:
        entry = self.loras.get(use.name)
        if use.sha256 is None or (entry is not None and entry.sha256 == use.sha256):
            return use
        same = (name for name, other in self.loras.items() if other.sha256 == use.sha256)
        return use.model_copy(update={"name": next(same, use.name)})


class Shelf:
    """All LoRAs by the names to ask for them."""

    def __init__(self, engine: Engine, zoos: tuple[Path, ...], folder: Path) -> None:
        """Offer the LoRAs of `zoos`, and of `folder`, in which those are kept that are sent or made."""
        self.folder = folder
        self._engine, self._zoos = engine, zoos
        self._lock = RLock()  # held while the offer changes
        self.now = self._looked()

    @property
    def engine(self) -> Engine:
        """The engine with the LoRAs that are offered now."""
        return self.now.engine

    @property
    def library(self) -> Library:
        return self.now.library

    @property
    def loras(self) -> Mapping[str, Entry]:
        return self.now.loras

    def refresh(self) -> None:
        """Look at all folders again, and offer what is there from now on."""
        with self._lock:
            self.now = self._looked()

    def scan(self, folder: Path) -> None:
        """Offer the LoRAs of one more folder of this machine; one that is not there is an error."""
        discreet.know([folder])
        with self._lock:
            before = self._zoos
            self._zoos = tuple(dict.fromkeys([*before, folder.expanduser().absolute()]))
            try:
                self.refresh()
            except ZooError:
                self._zoos = before
                raise

    def admit(self, file: Path, model: str, terms: Terms) -> tuple[Path, Fit]:
        """Take a LoRA that somebody sent, if it is sound and fits; else raise the reason."""
        self.place(file.stem)
        admitted = uploads.admit(self.engine, file, self.folder, model, terms)
        self.refresh()
        return admitted

    def place(self, name: str) -> Path:
        """Return where a LoRA of this name is kept; a name that any LoRA has is an error, since it would mean both."""
        safe = uploads.safe(name)
        if any(entry.name.casefold() == safe.casefold() for entry in self.loras.values()):
            raise NotAllowed(f"there is a LoRA called {safe!r} already; choose another name")
        return uploads.place(self.folder, name)

    def remove(self, handle: str) -> str:
        """Take a LoRA that was sent or made here out of the offer; return the name by which `put_back` knows it."""
        with self._lock:
            entry = self.loras.get(handle)
            if entry is None:
                raise NotThere(f"LoRA {handle!r} is not in the zoo{near(handle, self.loras)}")
            path = self.library.path(entry)
            if path.parent != self.folder.absolute():
                raise NotAllowed(f"LoRA {handle!r} was not sent or made here, so it is not removed from here")
            (self._removed / path.name).parent.mkdir(parents=True, exist_ok=True)
            path.replace(self._removed / path.name)
            self.refresh()
        return path.stem

    def put_back(self, name: str) -> None:
        """Offer a LoRA again that was removed; one whose name is taken by now is an error."""
        with self._lock:
            path = self._removed / f"{uploads.safe(name)}{_SUFFIX}"
            if not path.is_file():
                raise NotThere(f"no LoRA called {name!r} was removed here")
            path.replace(self.place(path.stem))
            self.refresh()

    def thumbnail(self, digest: str) -> Path | None:
        """Return the preview of the LoRA with this sha256, if it has one."""
        offered = self.now
        for entry in offered.loras.values():
            if entry.sha256 == digest:
                path = offered.library.catalog.thumbnail(entry)
                return path if path is not None and path.is_file() else None
        return None

    def made(self, digest: str) -> Path | None:
        """Return the file of a LoRA with this sha256, if it was merged or sent here; others are not given away."""
        offered = self.now
        paths = [offered.library.path(entry) for entry in offered.loras.values() if entry.sha256 == digest]
        return next((path for path in paths if path.parent == self.folder.absolute()), None)

    @property
    def _removed(self) -> Path:
        return self.folder.parent / _REMOVED

    def _looked(self) -> Offered:
        library = uploads.library_of(self._zoos, self.folder)
        loras = {library.handle(entry): entry for entry in library.entries()}
        return Offered(library, self._engine.with_source(ZooSource(library)), loras)
