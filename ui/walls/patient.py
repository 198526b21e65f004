"""Connections on which no request comes to its end are closed: uvicorn waits for the first one for ever."""

from __future__ import annotations

import asyncio

_PATIENCE = 20.0  # seconds between looks; one that stands as it stood, without a request, is closed


def protocol() -> type[asyncio.Protocol]:
    """Return uvicorn's protocol, which loses its patience."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Patient(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self.loop.call_later(_PATIENCE, self._look, None)

        def _look(self, before: object) -> None:
            """Close a connection whose last request is over, and was so a while ago."""
            if self.transport.is_closing():
                return
            now = self.cycle
            idle = now is None or now.response_complete
            if idle and now is before:
                self.transport.close()
            else:
                self.loop.call_later(_PATIENCE, self._look, now if idle else object())

    return Patient
