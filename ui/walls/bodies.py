"""Counts what is sent before anything is made of it: bytes, time, and the values that a JSON document can hold.

A document is held whole before it is passed on, few large ones at a time, and these are dealt with one after another,
since what Python makes of one takes many times its size.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

from starlette.concurrency import run_in_threadpool

from pipelines.memory import hand_back
from ui.walls.asgi import App, Message, Receive, Scope, Send, refuse, value

_MEGABYTE = 1 << 20
_UPLOAD = "/gradio_api/upload"
_HELD = "/medley/held"
SIZE = "medley.size"  # where the bytes of a document stand in the scope that is passed on
_WITHOUT_BODY = ("GET", "HEAD", "OPTIONS", "DELETE")


@dataclass(frozen=True)
class Sizes:
    """What may be sent."""

    document: int  # bytes of a JSON document
    picture: int  # bytes of a picture to begin with
    upload: int  # bytes of files, and of the form around them
    none: int = 64 << 10  # bytes where nothing is expected
    values: int = 1_000_000  # commas, colons and brackets of a document, in texts too
    large: int = _MEGABYTE  # bytes from which on documents take turns
    at_a_time: int = 4  # of the largest that may be on their way
    silence: float = 30.0  # seconds in which nothing comes
    pace: int = 64 << 10  # bytes a second that must come, on the whole, once `silence` is over


class _Wrong(Exception):
    """What was sent is refused."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status, self.told = status, told


class Bodies:
    """Passes on what is small enough and comes in time."""

    def __init__(self, app: App, sizes: Sizes, room: Callable[[int], bool]) -> None:
        """`room` tells whether files of so many bytes can be kept; it may look at the disk."""
        self._app, self._sizes, self._room = app, sizes, room
        self._turns = asyncio.Semaphore(1)
        self._uploading = 0  # bytes that uploads under way may still bring
        self._reading = 0  # bytes that large documents under way may have

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(scope, receive, self._sizes)
        try:
            body.check_stated()
            if scope["method"] in _WITHOUT_BODY or scope["path"] == _HELD:
                await body.watched(self._app, send)
            elif scope["path"] == _UPLOAD:
                async with self._reserved(body):
                    await body.watched(self._app, send)
            else:
                await self._document(body, send)
        except _Wrong as wrong:
            await refuse(scope, send, wrong.status, wrong.told, (b"connection", b"close"))

    @asynccontextmanager
    async def _reserved(self, body: _Body) -> AsyncIterator[None]:
        """Keep room for an upload while it comes in."""
        most = body.stated if body.stated is not None else body.most
        self._uploading += most  # before it is asked, so that of two at once the second sees the first
        try:
            if not await run_in_threadpool(self._room, self._uploading):
                raise _Wrong(507, "there is no room for this: what others sent is still waiting; try again in a while")
            yield
        finally:
            self._uploading -= most

    async def _document(self, body: _Body, send: Send) -> None:
        """Read a document whole, and pass it on; a large one when its turn comes."""
        first = await body.read(self._sizes.large)
        if body.whole:
            await self._pass_on(body, _checked(first, self._sizes), send)
            return
        expected = body.stated or body.most
        if self._reading + expected > self._sizes.document * self._sizes.at_a_time:
            raise _Wrong(503, "others send as much as this server takes at a time; try again in a while")
        self._reading += expected
        try:
            data = _checked(b"".join([first, await body.read(body.most)]), self._sizes)
            del first
            async with self._turns:
                await self._pass_on(body, data, send)
        finally:
            self._reading -= expected
            await run_in_threadpool(hand_back)

    async def _pass_on(self, body: _Body, data: bytes, send: Send) -> None:
        await self._app({**body.scope, SIZE: len(data)}, _given(data, body.receive), send)


class _Body:
    """What one request sends."""

    def __init__(self, scope: Scope, receive: Receive, sizes: Sizes) -> None:
        self.scope, self.receive, self._sizes = scope, receive, sizes
        self.most = _most(scope, sizes)
        length = value(scope, b"content-length")
        self.stated = int(length) if length and length.isascii() and length.isdigit() else None
        self.whole = False
        self._count = 0
        self._since = monotonic()

    def check_stated(self) -> None:
        if self.stated is not None and self.stated > self.most:
            raise self._too_much()

    async def piece(self) -> Message:
        """Return what comes next, if it comes in time and is not too much."""
        try:
            message = await asyncio.wait_for(self.receive(), self._sizes.silence)
        except TimeoutError as error:
            raise _Wrong(408, "what was to be sent did not come") from error
        if message["type"] == "http.request":
            self._count += len(message.get("body", b""))
            self.whole = not message.get("more_body", False)
            if self._count > self.most:
                raise self._too_much()
            late = monotonic() - self._since - self._sizes.silence
            if not self.whole and late > 0 and self._count < late * self._sizes.pace:
                raise _Wrong(408, "what was to be sent comes too slowly")
        return message

    async def read(self, enough: int) -> bytes:
        """Return the next bytes: all that there are, or a few more than `enough`."""
        pieces: list[bytes] = []
        length = 0
        while not self.whole and length <= enough:
            message = await self.piece()
            if message["type"] == "http.disconnect":
                raise _Wrong(400, "the rest was not sent")
            pieces.append(message.get("body", b""))
            length += len(pieces[-1])
        return b"".join(pieces)

    async def watched(self, app: App, send: Send) -> None:
        """Let the application read for itself; if it goes wrong there, what it says of that is not passed on."""
        wrong: list[_Wrong] = []
        begun = False

        async def receive() -> Message:
            if self.whole:
                return await self.receive()  # whether the other side is still there
            try:
                return await self.piece()
            except _Wrong as error:
                wrong.append(error)
                raise

        async def told(message: Message) -> None:
            nonlocal begun
            if wrong and not begun:
                raise wrong[0]
            begun = True
            await send(message)

        try:
            await app(self.scope, receive, told)
        except Exception:
            if wrong and not begun:
                raise wrong[0] from None
            raise

    def _too_much(self) -> _Wrong:
        return _Wrong(413, f"at most {self.most:,} bytes may be sent here")


def _most(scope: Scope, sizes: Sizes) -> int:
    if scope["method"] in _WITHOUT_BODY:
        return sizes.none
    return {_UPLOAD: sizes.upload, _HELD: sizes.picture}.get(scope["path"], sizes.document)


def _checked(data: bytes, sizes: Sizes) -> bytes:
    """Refuse a document that would become too many values; counted without parsing, in texts too."""
    if sum(map(data.count, (b",", b":", b"[", b"{"))) > sizes.values:
        raise _Wrong(413, f"a document holds at most {sizes.values:,} values here")
    return data


def _given(data: bytes, after: Receive) -> Receive:
    """Return a `receive` that gives a body at once, and then what comes after it."""
    left = [data]

    async def receive() -> Message:
        if left:
            return {"type": "http.request", "body": left.pop(), "more_body": False}
        return await after()

    return receive
