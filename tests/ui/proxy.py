"""A small reverse proxy: gives everything below a prefix to a server, without the prefix, as nginx and Caddy do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Thread

_PIECE = 1 << 16


@contextmanager
def proxy(prefix: str, port: int) -> Iterator[str]:
    """Serve `prefix` on a port of its own; yield its address. What is asked for beside the prefix is not found."""

    class Handler(StreamRequestHandler):
        def handle(self) -> None:
            first = self.rfile.readline().decode("latin-1")
            lines = iter(lambda: self.rfile.readline().decode("latin-1"), "\r\n")
            headers = [line for line in lines if line]
            method, _, rest = first.partition(" ")
            if rest.startswith(f"{prefix} "):
                self.wfile.write(f"HTTP/1.1 301 Moved\r\nLocation: {prefix}/\r\nConnection: close\r\n\r\n".encode())
            elif rest.startswith(f"{prefix}/"):
                _pass_on(self, port, f"{method} {rest.removeprefix(prefix)}", headers)
            else:
                self.wfile.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    class Server(ThreadingTCPServer):
        daemon_threads, allow_reuse_address = True, True

    with Server(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}{prefix}/"
        server.shutdown()


def _pass_on(asked: StreamRequestHandler, port: int, first: str, headers: list[str]) -> None:
    host = next((line for line in headers if line.lower().startswith("host:")), "Host: \r\n")
    kept = [line for line in headers if not line.lower().startswith(("connection:", "host:"))]
    upgrade = any(line.lower().startswith("upgrade:") for line in headers)
    more = [f"Host: 127.0.0.1:{port}\r\n", f"Connection: {'upgrade' if upgrade else 'close'}\r\n"]
    more += [f"X-Forwarded-{host}", "X-Forwarded-Proto: http\r\n"]
    with socket.create_connection(("127.0.0.1", port)) as behind:
        behind.sendall("".join([first, *kept, *more, "\r\n"]).encode("latin-1"))
        there = Thread(target=_pour, args=(asked, behind), daemon=True)
        there.start()
        with suppress(OSError):  # a visitor who leaves
            while piece := behind.recv(_PIECE):
                asked.connection.sendall(piece)


def _pour(asked: StreamRequestHandler, behind: socket.socket) -> None:
    with suppress(OSError, ValueError):
        while piece := asked.rfile.read1(_PIECE):  # pyright: ignore[reportAttributeAccessIssue]  # a BufferedReader
            behind.sendall(piece)
