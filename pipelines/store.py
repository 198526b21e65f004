"""The adapters that a loaded model holds in memory, by content; and a small cache that counts bytes."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

from composer.blocks import shaped
from composer.merges.common import Weighted
from composer.plan import Merge
from lora_zoo.adapter import Adapter, Layout, nbytes
from lora_zoo.errors import ZooError

log = logging.getLogger(__name__)
_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


#: Adapters held here and their weights, in order.
Members = tuple[tuple[str, float], ...]


class ChangedAdapter(ZooError):
    """A LoRA that is another when it is read than when the request was resolved."""


class AdapterStore:
    """Adapters by digest; what a name stands for may change from request to request."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._adapters: OrderedDict[str, Adapter] = OrderedDict()
        self._made: dict[Hashable, str] = {}  # from what they were made of
        self._count = 0  # of adapters, when it was last trimmed

    def __getitem__(self, digest: str) -> Adapter:
        return self._adapters[digest]

    def hold(self, name: str, digest: str, load: Callable[[], Adapter]) -> str:
        """Make sure that an adapter is here, and return its digest."""
        if digest not in self._adapters:
            adapter = load()
            if adapter.digest != digest:
                raise ChangedAdapter(f"LoRA '{name}' has sha256 {adapter.digest}, not {digest} as it is listed")
            self._adapters[digest] = adapter
        self._adapters.move_to_end(digest)
        return digest

    def merged(self, merge: Merge, members: Members) -> str:
        """Return the digest of what a merge makes of adapters held here; it is made once, and held too."""
        return self._make(
            (merge, members), lambda: merge.prepare([Weighted(self[member], weight) for member, weight in members])
        )

    def shaped(self, digest: str, factors: Mapping[str, float], layout: Layout) -> str:
        """Return the digest of an adapter held here with weights by block."""
        key = (digest, tuple(factors.items()))
        return self._make(key, lambda: shaped(self[digest], factors, layout))

    def _make(self, key: Hashable, make: Callable[[], Adapter]) -> str:
        digest = self._made.get(key, "")
        if digest not in self._adapters:
            adapter = make()
            digest = self._made[key] = adapter.digest
            self._adapters[digest] = adapter
        self._adapters.move_to_end(digest)
        return digest

    def forget(self) -> None:
        """Let go of all that was made of adapters, so that the next to ask for it makes it anew."""
        for digest in self._made.values():
            self._adapters.pop(digest, None)
        self._made.clear()
        self._count = len(self._adapters)

    def trim(self, keep: frozenset[str]) -> None:
        """Drop the adapters that were not used for longest, until the rest fits; what several share counts once."""
        if len(self._adapters) == self._count:
            return  # nothing was made since the last time
        for digest in [d for d in self._adapters if d not in keep]:
            if nbytes(self._adapters.values()) <= self._max_bytes:
                break
            dropped = self._adapters.pop(digest)
            log.info("dropped LoRA %s from memory", dropped.name)
        self._made = {key: digest for key, digest in self._made.items() if digest in self._adapters}
        self._count = len(self._adapters)


class ByteCache(Generic[_K, _V]):
    """The values made last, as many as fit. The one just made stays even if it alone is too large."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._values: OrderedDict[_K, tuple[_V, int]] = OrderedDict()
        self._total = 0

    def get(self, key: _K, make: Callable[[], tuple[_V, int]]) -> _V:
        """Return the value of a key, made (with its size in bytes) if it is not here."""
        if key in self._values:
            self._values.move_to_end(key)
            return self._values[key][0]
        value, size = make()
        self._values[key] = (value, size)
        self._total += size
        while self._total > self._max_bytes and len(self._values) > 1:
            _, (_, dropped) = self._values.popitem(last=False)
            self._total -= dropped
        return value

    def clear(self) -> None:
        """Keep nothing."""
        self._values.clear()
        self._total = 0
