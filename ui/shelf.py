"""The LoRAs that a server offers: those that come along, those of its folders, and those sent or made here."""

from __future__ import annotations

from pathlib import Path

from lora_zoo.errors import ZooError
from lora_zoo.fit import Fit
from pipelines.engine import Engine
from pipelines.sources import ZooSource
from ui import uploads
from ui.uploads import Terms


class Shelf:
    """All LoRAs by the names to ask for them."""

    def __init__(self, engine: Engine, zoos: tuple[Path, ...], folder: Path) -> None:
        """Offer the LoRAs of `zoos`, and of `folder`, in which those are kept that are sent or made."""
        self.folder = folder
        self._engine, self._zoos = engine, zoos
        self.refresh()

    def refresh(self) -> None:
        """Look at all folders again, and offer what is there from now on."""
        self.library = uploads.library_of(self._zoos, self.folder)
        self._engine.source = ZooSource(self.library)
        self.loras = {self.library.handle(entry): entry for entry in self.library.entries()}

    def scan(self, folder: Path) -> None:
        """Offer the LoRAs of one more folder of this machine; one that is not there is an error."""
        before = self._zoos
        self._zoos = tuple(dict.fromkeys([*before, folder.expanduser().absolute()]))
        try:
            self.refresh()
        except ZooError:
            self._zoos = before
            raise

    def admit(self, file: Path, model: str, terms: Terms) -> tuple[Path, Fit]:
        """Take a LoRA that somebody sent, if it is sound and fits; else raise the reason."""
        admitted = uploads.admit(self._engine, file, self.folder, model, terms)
        self.refresh()
        return admitted

    def thumbnail(self, digest: str) -> Path | None:
        """Return the preview of the LoRA with this sha256, if it has one."""
        for entry in self.loras.values():
            if entry.sha256 == digest:
                path = self.library.catalog.thumbnail(entry)
                return path if path is not None and path.is_file() else None
        return None

    def made(self, digest: str) -> Path | None:
        """Return the file of a LoRA with this sha256, if it was merged or sent here; others are not given away."""
        paths = [self.library.path(entry) for entry in self.loras.values() if entry.sha256 == digest]
        return next((path for path in paths if path.parent == self.folder.absolute()), None)
