"""Requests as an attacker writes them: any method, path and header, byte by byte."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

_NONE: Mapping[str, str] = {}
_CONNECTIONS = 16


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


@dataclass(frozen=True)
class Attacker:
    """Speaks to one server; nothing that is sent is corrected on the way."""

    host: str
    port: int

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] = _NONE,
    ) -> Reply:
        """Send one request as it stands, and read the answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=100)
        given = dict(headers)
        try:
            connection.putrequest(method, path, skip_host="Host" in given, skip_accept_encoding=True)
            if isinstance(body, bytes) and "Content-Length" not in given and "Transfer-Encoding" not in given:
                given["Content-Length"] = str(len(body))
            for name, value in given.items():
                connection.putheader(name, value)
            with suppress(BrokenPipeError, ConnectionResetError):  # of a body that is refused before it has all come
                connection.endheaders(body, encode_chunked="Transfer-Encoding" in given)
            answer = connection.getresponse()
            return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def raw(self, data: bytes, wait: float = 100) -> bytes:
        """Send bytes as they stand; return all that comes back until the other side closes."""
        with socket.create_connection((self.host, self.port), timeout=wait) as connection:
            connection.sendall(data)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))

    def many(self, asked: Sequence[tuple[str, str]]) -> list[int]:
        """Send requests without a body, over a few connections, one after another on each; return their statuses."""
        statuses = [0] * len(asked)

        def send(first: int) -> None:
            connection = http.client.HTTPConnection(self.host, self.port, timeout=100)
            for place in range(first, len(asked), _CONNECTIONS):
                connection.putrequest(*asked[place])
                connection.endheaders()
                answer = connection.getresponse()
                answer.read()
                statuses[place] = answer.status
            connection.close()

        with ThreadPoolExecutor(_CONNECTIONS) as visitors:
            list(visitors.map(send, range(_CONNECTIONS)))
        return statuses

    def json(self, method: str, path: str, body: object = None, **headers: str) -> Reply:
        """Send JSON."""
        data = None if body is None else json.dumps(body).encode()
        return self.ask(method, path, data, {"Content-Type": "application/json", **headers})

    def config(self) -> dict[str, Any]:
        """Return the page as gradio describes it: its components and events."""
        return json.loads(self.ask("GET", "/config").body)

    def upload(self, name: str, data: bytes) -> Reply:
        """Send a file to gradio as its page does."""
        boundary = uuid4().hex
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
        body = head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
        kind = f"multipart/form-data; boundary={boundary}"
        return self.ask("POST", "/gradio_api/upload", body, {"Content-Type": kind})

    def events(self, calls: Sequence[tuple[int, Sequence[Any]]], detail: object = None) -> list[dict[str, Any]]:
        """Join gradio's queue with events of a page, each by its number and inputs; return what each ended with.

        `detail` is what the events carry beside their inputs, such as which picture of a gallery was pressed.
        """
        session, asked_for = uuid4().hex, list[str]()
        for number, data in calls:
            asked = {"fn_index": number, "data": list(data), "session_hash": session, "event_data": detail}
            joined = self.json("POST", "/gradio_api/queue/join", asked)
            assert joined.status == 200, joined.text
            asked_for.append(json.loads(joined.body)["event_id"])
        told = self.ask("GET", f"/gradio_api/queue/data?session_hash={session}").text
        messages = [json.loads(line.removeprefix("data:")) for line in told.splitlines() if line.startswith("data:")]
        done = {one["event_id"]: one for one in messages if one["msg"] == "process_completed"}
        assert len(done) == len(calls), messages[-1]
        return [done[event] for event in asked_for]
