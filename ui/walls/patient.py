"""Connections on which no request comes to its end are closed: uvicorn waits for the first one for ever.

And one address has so many of them at a time, so that nobody takes all that the server has.
"""

from __future__ import annotations

import asyncio
from collections import Counter

PATIENCE = 20.0  # seconds between looks; one that stands as it stood, without a request, is closed
OF_ONE = 256  # connections of one address


def protocol(patience: float = PATIENCE, of_one: int | None = OF_ONE) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol, which loses its patience; `of_one` None: an address has any number of connections."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    connected: Counter[str] = Counter()

    class Patient(H11Protocol):
        address = ""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.address = str((transport.get_extra_info("peername") or ("",))[0])
            connected[self.address] += 1
            if of_one is not None and connected[self.address] > of_one:
                transport.close()
            self.loop.call_later(patience, self._look, None)

        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            connected[self.address] -= 1
            if not connected[self.address]:
                del connected[self.address]

        def _look(self, before: object) -> None:
            """Close a connection whose last request is over, and was so a while ago."""
            if self.transport.is_closing():
                return
            now = self.cycle
            idle = now is None or now.response_complete
            if idle and now is before:
                self.transport.close()
            else:
                self.loop.call_later(patience, self._look, now if idle else object())

    return Patient
