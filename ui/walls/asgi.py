"""What the walls share: the words of ASGI, and an answer that a wall gives itself."""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Pairs = list[tuple[bytes, bytes]]


def values(scope: Scope, name: bytes) -> Iterator[str]:
    """Yield the values of a header, of which there may be several."""
    yield from (value.decode("latin-1") for key, value in scope.get("headers", ()) if key == name)


def value(scope: Scope, name: bytes) -> str | None:
    """Return the one value of a header; None: it is missing. Stated twice, it is empty, which nothing expects."""
    found = list(values(scope, name))
    return None if not found else found[0] if len(found) == 1 else ""


def household(scope: Scope) -> str:
    """Return whose requests are counted together: an address, or the network that one household has of IPv6."""
    text = str((scope.get("client") or ("",))[0])
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return text


async def refuse(scope: Scope, send: Send, status: int, told: str, *headers: tuple[bytes, bytes]) -> None:
    """Answer in the application's place, and close the connection if more is still on its way."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008, "reason": told[:100]})
        return
    body = told.encode()
    plain: Pairs = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*plain, *headers]})
    await send({"type": "http.response.body", "body": body})
