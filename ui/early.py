"""What can be known to be wrong with a server before the seconds that its imports take. Nothing heavy is imported."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

from composer.errors import BadRequest
from lora_zoo.foreign import files
from pipelines.places import make_folder

VARIABLE = "MEDLEY_AUTH"
_MOST_AUTH = 4096  # characters of a file with a name and a password
_WHY = {
    errno.EADDRINUSE: "something listens there already; choose another --port, or stop it",
    errno.EACCES: "this user may not listen there; ports below 1024 are the system's",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose another --listen",
}


def bound(listen: str, port: int) -> list[socket.socket]:
    """Return sockets that are bound to an address and a port; they are listened on once the server is built.

    Raises:
        BadRequest: It is no address of this machine, or the port is taken.
    """
    try:
        found = socket.getaddrinfo(listen, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise BadRequest(f"--listen {listen}: no address of a network ({error})") from error
    places = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    sockets: list[socket.socket] = []
    for family, address in places:
        try:
            sockets.append(_bound(family, address))
        except OSError as error:
            if sockets and error.errno != errno.EADDRINUSE:
                continue  # a name of several addresses, of which one is enough
            for one in sockets:
                one.close()
            why = _WHY.get(error.errno or 0, os.strerror(error.errno or 0))
            raise BadRequest(f"cannot listen at {listen}, port {port}: {why}") from error
    return sockets


def check_data(folder: Path) -> None:
    """Make the data folder; one that cannot be made, or not be written to, is a `BadRequest`."""
    make_folder(folder, "--data")


def auth_of(given: str | None, file: Path | None) -> str | None:
    """Return USER:PASSWORD as the option, the file or the environment states it; None: none does.

    Raises:
        BadRequest: Two of them state it, or what they state is no name and password.
    """
    stated = {
        "--auth": given,
        "--auth-file": None if file is None else _read(file),
        VARIABLE: os.environ.get(VARIABLE),
    }
    found = {where: text for where, text in stated.items() if text is not None}
    if len(found) > 1:
        raise BadRequest(f"{' and '.join(found)}: a name and a password are stated twice; keep one of them")
    for where, text in found.items():
        if not all(text.partition(":")) or "\n" in text:
            raise BadRequest(f"{where}: write USER:PASSWORD, both of them, in one line")
        return text
    return None


def _read(file: Path) -> str:
    """Return what a file of the user's own says; it may be a pipe, from a keeper of passwords."""
    try:
        with file.open("r", encoding="utf-8") as opened:
            return opened.read(_MOST_AUTH).strip("\r\n")
    except (OSError, UnicodeError) as error:
        raise BadRequest(f"--auth-file {files.shown(file)}: cannot be read ({error})") from error


def _bound(family: int, address: tuple[object, ...]) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name != "nt":  # there it would let two servers share a port
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        made.bind(address)
    except BaseException:
        made.close()
        raise
    return made
