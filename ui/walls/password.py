"""Lets in who knows the password, if there is one; who guesses is made to wait longer and longer."""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass
from time import monotonic

from ui.walls.asgi import App, Receive, Scope, Send, household, refuse, value

_ASK = (b"www-authenticate", b'Basic realm="Medley", charset="UTF-8"')
_FREE = 5  # wrong passwords of one address before it has to wait
_LONGEST = 60.0  # seconds that it waits, at most
_FORGOTTEN = 900.0  # seconds after the last wrong one in which all are forgotten
_ADDRESSES = 10_000  # that are remembered


@dataclass
class _Guesses:
    """The wrong passwords of one address."""

    count: int = 0
    last: float = 0.0

    def wait(self, now: float) -> float:
        """Return the seconds until the next one is looked at."""
        if self.count < _FREE:
            return 0.0
        return max(0.0, self.last + min(_LONGEST, 2.0 ** (self.count - _FREE)) - now)


class Password:
    """Asks for a name and a password at every address, if there is one to know."""

    def __init__(self, app: App, auth: str | None) -> None:
        """Let in who knows `auth`, which is USER:PASSWORD; None: let in everybody."""
        self._app = app
        self._expected = None if auth is None else b"Basic " + base64.b64encode(auth.encode())
        self._guesses: dict[str, _Guesses] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._expected is None or scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        given = value(scope, b"authorization")
        if given is None:  # no guess
            await refuse(scope, send, 401, "A name and a password are needed.", _ASK)
            return
        address, now = household(scope), monotonic()
        guesses = self._guesses.get(address) or _Guesses()
        left = 0.0 if now - guesses.last > _FORGOTTEN else guesses.wait(now)
        if left > 0:  # not even looked at, or guesses could be made meanwhile
            after = (b"retry-after", str(int(left) + 1).encode())
            await refuse(scope, send, 429, f"Too many wrong passwords; wait {left:.0f} seconds.", after)
        elif secrets.compare_digest(given.encode("latin-1"), self._expected):
            self._guesses.pop(address, None)
            await self._app(scope, receive, send)
        else:
            self._note(address, guesses, now)
            await refuse(scope, send, 401, "That is not the name and the password.", _ASK)

    def _note(self, address: str, guesses: _Guesses, now: float) -> None:
        fresh = now - guesses.last > _FORGOTTEN
        self._guesses.pop(address, None)
        self._guesses[address] = _Guesses(1 if fresh else guesses.count + 1, now)  # the last in the dict
        while len(self._guesses) > _ADDRESSES:
            del self._guesses[next(iter(self._guesses))]
