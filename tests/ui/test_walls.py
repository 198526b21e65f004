"""The walls alone, around an application that says what reached it: bodies, names, passwords, and their clocks."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.ui.waiting import finished
from ui.walls import bodies, password
from ui.walls.asgi import App, Message, Receive, Scope, Send
from ui.walls.bodies import Bodies, Sizes
from ui.walls.hosts import Hosts
from ui.walls.password import Password

SIZES = Sizes(document=5000, picture=3000, upload=9000, large=1000, values=50, silence=0.2, pace=100)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Read a body, and answer with its length."""
    length = 0
    while True:
        message = await receive()
        length += len(message.get("body", b""))
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(length).encode()})


def asked(method: str = "GET", path: str = "/", client: str = "10.0.0.9", **headers: str) -> Scope:
    pairs = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    server = ("192.168.0.7", 7860)
    return {"type": "http", "method": method, "path": path, "headers": pairs, "client": (client, 1), "server": server}


async def answer(app: App, scope: Scope, pieces: Sequence[bytes | None] = (b"",)) -> tuple[int, str]:
    """Ask an application; None among the pieces of the body is a silence for ever. Return status and text."""
    left = list(pieces)
    sent: list[Message] = []

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        piece = left.pop(0)
        if piece is None:
            await asyncio.Event().wait()
        return {"type": "http.request", "body": piece, "more_body": bool(left)}

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    body = b"".join(one.get("body", b"") for one in sent[1:])
    return sent[0]["status"], body.decode()


def one(app: App, scope: Scope, pieces: Sequence[bytes | None] = (b"",)) -> tuple[int, str]:
    return finished(answer(app, scope, pieces))


def walled(room: Callable[[int], bool] = lambda size: True) -> App:
    return Bodies(echo, SIZES, room)


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("/medley/api/jobs", 5000),
        ("/gradio_api/queue/join", 5000),
        ("/medley/held", 3000),
        ("/gradio_api/upload", 9000),
        ("/nothing", 5000),
    ],
)
def test_bytes_are_counted_whether_they_are_stated_or_not(path: str, most: int) -> None:
    told = (413, f"at most {most:,} bytes may be sent here")
    assert one(walled(), asked("POST", path), [b"x" * 500] * (most // 500)) == (200, str(most))
    assert one(walled(), asked("POST", path), [b"x" * 500] * (most // 500) + [b"x"]) == told
    assert one(walled(), asked("POST", path, content_length=str(most + 1)), [None]) == told
    assert one(walled(), asked("POST", path, content_length="7"), [b"x" * (most + 1)]) == told  # a lie


def test_where_nothing_is_expected_little_is_taken() -> None:
    assert one(walled(), asked("GET"), [b"x" * (64 << 10)]) == (200, str(64 << 10))
    assert one(walled(), asked("GET"), [b"x" * (64 << 10), b"x"])[0] == 413


@pytest.mark.parametrize("path", ["/medley/api/jobs", "/medley/held", "/gradio_api/upload"])
@pytest.mark.parametrize("pieces", [[None], [b"x", None], [b"x" * 1500, None]], ids=len)
def test_a_body_that_does_not_come_is_not_waited_for(path: str, pieces: list[bytes | None]) -> None:
    assert one(walled(), asked("POST", path), pieces) == (408, "what was to be sent did not come")


def test_a_body_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr(bodies, "monotonic", lambda: float(next(clock)))
    assert one(walled(), asked("POST", "/medley/api/jobs"), [b"x"] * 50) == (
        408,
        "what was to be sent comes too slowly",
    )


def test_a_document_of_too_many_values_is_refused_unread() -> None:
    wide = b"[" + b"[]," * 30
    assert one(walled(), asked("POST", "/medley/api/jobs"), [wide]) == (413, "a document holds at most 50 values here")
    assert one(walled(), asked("POST", "/medley/held"), [wide]) == (200, str(len(wide)))  # no document


def test_large_documents_take_turns_and_few_are_on_their_way() -> None:
    inside: list[int] = []
    most: list[int] = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        inside.append(1)
        most.append(len(inside))
        await asyncio.sleep(0)
        inside.pop()
        await echo(scope, receive, send)

    async def together() -> list[tuple[int, str]]:
        app = Bodies(slow, SIZES, lambda size: True)
        calls = [answer(app, asked("POST", "/medley/api/jobs"), [b"x" * 2000, b"y"]) for _ in range(6)]
        return list(await asyncio.gather(*calls))

    told = finished(together())
    assert max(most) == 1
    assert [status for status, _ in told] == [200] * 4 + [503] * 2  # each may still be of 5,000 bytes, of 20,000


def test_an_upload_needs_room_for_all_that_are_under_way() -> None:
    sizes: list[int] = []

    def room(size: int) -> bool:
        sizes.append(size)
        return size <= 12_000

    async def together() -> list[tuple[int, str]]:
        app = walled(room)
        first = asked("POST", "/gradio_api/upload", content_length="4000")
        return list(await asyncio.gather(answer(app, first, [b"x" * 4000]), answer(app, asked("POST", first["path"]))))

    told = finished(together())
    assert sorted(sizes) == [4000, 13_000]
    assert [status for status, _ in told] == [200, 507]


def key(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


@pytest.mark.thorough
def test_guesses_wait_longer_and_longer_and_are_not_looked_at_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(password, "monotonic", lambda: now[0])
    app = Password(echo, "ada:secret")

    def guess(text: str, client: str = "10.0.0.9") -> int:
        return one(app, asked(client=client, authorization=key(text)))[0]

    assert [guess("ada:wrong") for _ in range(7)] == [401] * 5 + [429] * 2
    assert guess("ada:secret") == 429
    assert guess("ada:secret", "10.0.0.8") == 200  # another address
    assert one(app, asked())[0] == 401  # no guess
    looked_at = 0
    for _ in range(3600):
        now[0] += 1
        looked_at += guess("ada:wrong") == 401
    assert looked_at < 70
    now[0] += 61
    assert guess("ada:secret") == 200
    assert guess("ada:wrong") == 401 and guess("ada:secret") == 200  # what was, is forgotten


def test_guesses_of_one_network_count_together_and_are_not_kept_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(password, "_ADDRESSES", 100)
    app = Password(echo, "ada:secret")
    same = [asked(client=f"2001:db8::{n:x}", authorization=key("a:b")) for n in range(6)]
    assert [one(app, scope)[0] for scope in same] == [401] * 5 + [429]
    for n in range(300):
        one(app, asked(client=f"10.0.{n // 200}.{n % 200}", authorization=key("a:b")))
    assert len(app._guesses) == 100


def hosts(listen: str, scope: Scope, *names: str, proxied: bool = False) -> int:
    return one(Hosts(echo, listen, names, proxied), scope)[0]


def test_on_a_network_the_address_that_was_reached_is_a_name() -> None:
    assert hosts("0.0.0.0", asked(host="192.168.0.7:7860")) == 200
    assert hosts("0.0.0.0", asked(host="192.168.0.8:7860")) == 403
    assert hosts("0.0.0.0", asked(host="localhost:7860")) == 200
    assert hosts("192.168.0.7", asked(host="192.168.0.7:7860")) == 200
    assert hosts("192.168.0.7", asked(host="localhost:7860")) == 403
    assert hosts("0.0.0.0", asked(host="studio.example")) == 403
    assert hosts("0.0.0.0", asked(host="Studio.Example.:80"), "studio.example") == 200


def test_on_a_network_a_page_of_another_site_writes_nothing() -> None:
    given = {"host": "192.168.0.7:7860"}
    assert hosts("0.0.0.0", asked("POST", origin="http://192.168.0.7:7860", **given)) == 200
    assert hosts("0.0.0.0", asked("POST", origin="http://192.168.0.7:80", **given)) == 403
    assert hosts("0.0.0.0", asked("POST", origin="http://evil.example", **given)) == 403


def test_behind_a_proxy_the_name_that_people_use_is_taken() -> None:
    passed = {"host": "127.0.0.1:7860", "origin": "https://studio.example"}
    assert hosts("127.0.0.1", asked("POST", **passed)) == 403
    assert hosts("127.0.0.1", asked("POST", **passed), "studio.example") == 200
    told = {**passed, "x_forwarded_host": "studio.example"}
    assert hosts("127.0.0.1", asked("POST", **told), proxied=True) == 200
    assert hosts("127.0.0.1", asked("POST", **told)) == 403
    assert hosts("127.0.0.1", asked("POST", **{**told, "sec_fetch_site": "cross-site"}), proxied=True) == 403


def test_a_socket_from_another_site_is_closed() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    scope: dict[str, Any] = {**asked(host="localhost", origin="http://evil.example"), "type": "websocket"}
    finished(Hosts(echo, "127.0.0.1")(scope, receive, send))
    assert [one["type"] for one in sent] == ["websocket.close"]
