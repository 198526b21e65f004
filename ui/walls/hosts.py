"""Lets in requests that name this server by a name of its own, and writes only from pages of its own.

A page of another site can point a name of its own at 127.0.0.1, and a browser then takes this server for that site; so
the name that was asked for must be one that the server goes by. And any page may send forms anywhere; browsers say
which site's page sent them.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from ui.walls.asgi import App, Receive, Scope, Send, refuse, value

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_EVERYWHERE = ("0.0.0.0", "::", "")
_SAFE = ("GET", "HEAD", "OPTIONS")
_OWN_SITE = ("same-origin", "none")  # none: typed in, or a bookmark
_PORTS = {"http": 80, "https": 443}


class Hosts:
    """Refuses names that this server does not go by, and pages of other sites."""

    def __init__(self, app: App, listen: str, more: Iterable[str] = (), proxied: bool = False) -> None:
        """Go by the names of `listen` and by `more`; `proxied`: a proxy tells under which name it is asked."""
        self._app, self._proxied = app, proxied
        self._given = frozenset(map(_plain, more))
        self._names = names_of(listen) | self._given
        self._anywhere = listen in _EVERYWHERE

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
        elif not self._goes_by(scope, _name(value(scope, b"host") or "")):
            told = "this server does not go by that name; start it with --host-name NAME to let it in"
            await refuse(scope, send, 403, told)
        elif not self._own_page(scope):
            await refuse(scope, send, 403, "pages of other sites may not ask this of the server")
        else:
            await self._app(scope, receive, send)

    def _goes_by(self, scope: Scope, name: str) -> bool:
        """Whether a name is ours. Listening everywhere, the address at which a connection came in is one too."""
        here = str((scope.get("server") or ("",))[0])
        return name in self._names or (self._anywhere and bool(name) and name == _plain(here))

    def _own_page(self, scope: Scope) -> bool:
        """Whether a request is sent by a page of ours, by no page at all, or only reads."""
        site, mode = value(scope, b"sec-fetch-site"), value(scope, b"sec-fetch-mode")
        if scope["type"] == "http" and scope["method"] in _SAFE:
            return site != "cross-site" or mode in (None, "navigate")
        if site is not None and site not in _OWN_SITE:
            return False
        origin = value(scope, b"origin")
        return origin is None or self._own_origin(scope, origin, told=site is not None)

    def _own_origin(self, scope: Scope, origin: str, told: bool) -> bool:
        """Whether an origin is ours; its port too, unless the browser has `told` that, or a proxy has another one."""
        try:
            parts = urlsplit(origin)
            name, port = _plain(parts.hostname or ""), parts.port or _PORTS.get(parts.scheme)
        except ValueError:
            return False
        if parts.scheme not in _PORTS or not name:
            return False
        if self._proxied and parts.netloc == value(scope, b"x-forwarded-host"):
            return True  # no page of another site can set that header
        asked = value(scope, b"host") or ""
        same = (name, port) == (_name(asked), _port(asked) or _PORTS[parts.scheme])
        return same or (self._goes_by(scope, name) and (told or self._proxied or name in self._given))


def names_of(listen: str) -> frozenset[str]:
    """Return the names by which a server that listens there is reached."""
    name = _plain(listen)
    if name in _LOOPBACK or _is_loopback(name):
        return frozenset((*_LOOPBACK, name))
    own = socket.gethostname().lower()
    machine = (own, f"{own}.local", own.partition(".")[0])
    return frozenset((*machine, *_LOOPBACK) if name in _EVERYWHERE else (*machine, name))


def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _plain(name: str) -> str:
    return name.lower().strip("[]").rstrip(".")


def _name(host: str) -> str:
    """Return the name in `NAME:PORT`, `NAME`, `[ADDRESS]:PORT` or `[ADDRESS]`; empty if it is none of these."""
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        return _plain(name) if bracket and (not rest or _digits(rest)) else ""
    name, colon, port = host.partition(":")
    return "" if colon and not _digits(f":{port}") else _plain(name)


def _port(host: str) -> int | None:
    port = host.rpartition("]")[2].rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
    return int(port) if port.isascii() and port.isdigit() else None


def _digits(port: str) -> bool:
    return port[1:].isascii() and port[1:].isdigit() and port[0] == ":" and len(port) < 7
