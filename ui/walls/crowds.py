"""No address takes all of the server: each may have so many requests under way, event streams that stay open included.

Behind a proxy all visitors may come from one address, and the proxy has bounds of its own; so there nothing is counted.
"""

from __future__ import annotations

from collections import Counter

from ui.walls.asgi import App, Receive, Scope, Send, household, refuse

MOST = 64  # requests at a time, of which an open page has about three
_TOLD = "this address has as many requests under way as one may have; try again in a while"


class Crowds:
    """Refuses more requests of one address while those before them are under way."""

    def __init__(self, app: App, most: int | None = MOST) -> None:
        """Let each address have `most` requests under way; None: any number."""
        self._app, self._most = app, most
        self._under_way: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._most is None or scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        address = household(scope)
        if self._under_way[address] >= self._most:
            await refuse(scope, send, 429, _TOLD, (b"retry-after", b"5"), (b"connection", b"close"))
            return
        self._under_way[address] += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way[address] -= 1
            if not self._under_way[address]:
                del self._under_way[address]
