"""A request's adapters while it runs: what a pass, a prompt or an area asks for by name, as gates of the bank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from composer.plan import AdapterWeights, Pass, Prompt
from pipelines.bank import Gate
from pipelines.local import Local, LocalGate, Where
from pipelines.reading import Conditioning
from pipelines.store import AdapterStore
from pipelines.text import Vocabulary


@dataclass(frozen=True, eq=False)
class Held:
    """A request's adapters, held in the model's store."""

    store: AdapterStore
    digests: Mapping[str, str]  # by name
    vocabulary: Vocabulary  # the words that they bring along
    notices: tuple[str, ...] = ()  # what there is to say of how their files were read

    def gate(self, one: Pass | Prompt) -> Gate:
        """Return what is active in a pass, or while a prompt is read: the adapters, or what is merged of them."""
        local = {name for area in one.areas for name in area.adapters} if isinstance(one, Pass) else ()
        members = self._members({name: weight for name, weight in one.adapters.items() if name not in local})
        return members if one.merge is None else ((self.store.merged(one.merge, members), 1.0),)

    def uncond_gate(self, one: Pass) -> Gate:
        """Return what is active in a pass's unconditional row."""
        return self.gate(one) if isinstance(one.uncond, str) else self._members(one.uncond)

    def local(self, one: Pass, read: Conditioning, height: int, width: int) -> LocalGate:
        """Return what is active in areas of a pass only; the words read in an area are a block of the text."""
        found: list[Local] = []
        for block, (area, own) in enumerate(zip(one.areas, read.areas, strict=True), start=1):
            without = tuple(place for words, by in area.leans if by < 0 for place in own.places(words))
            where = Where(area.mask, height, width, block, 1 + len(one.areas), own.tokens, without)
            found += [Local(self.digests[name], one.adapters[name], where) for name in area.adapters]
        return tuple(found)

    def _members(self, adapters: AdapterWeights) -> Gate:
        return tuple((self.digests[name], weight) for name, weight in adapters.items())
