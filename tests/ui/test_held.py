"""Pictures to begin with: sent once, named afterwards, inline again for the engine and in files."""

from __future__ import annotations

import base64
import io
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from composer.errors import BadRequest
from composer.outline import Line, Outline
from composer.request import RenderRequest, Start
from pipelines import images
from pipelines.engine import Engine
from pipelines.jobs.states import State
from ui import server
from ui.errors import NotAllowed, NotThere, TooMuch
from ui.held import INLINE, NAMED, Held
from ui.history import FILE, Asked, History
from ui.limits import Limits
from ui.service import Service


def png(size: tuple[int, int] = (64, 64), mode: str = "RGB") -> bytes:
    rng = np.random.default_rng(3)
    buffer = io.BytesIO()
    channels = () if mode == "L" else (3,)
    Image.fromarray(rng.integers(0, 255, (size[1], size[0], *channels), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def inline(data: bytes) -> str:
    return INLINE + base64.b64encode(data).decode()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    one = Service(Engine(), tmp_path / "data", limits=Limits(picture=100_000, waiting=1000))
    yield one
    one.stop()


def test_what_is_named_is_given_back_to_the_byte(tmp_path: Path) -> None:
    held = Held(tmp_path, 1 << 20)
    request = RenderRequest(prompt="a", start=Start(image=inline(png()), mask=inline(png(mode="L"))))
    named = held.named(request)
    assert named.start is not None and named.start.image.startswith(NAMED) and named.start.mask != named.start.image
    assert held.inline(named) == request and held.named(named) == named
    assert held.size(named.start) == (64, 64)
    assert len(list(tmp_path.iterdir())) == 2
    plain = RenderRequest(prompt="a")
    assert held.named(plain) is held.inline(plain) is plain


def test_only_pictures_are_kept_and_their_pixels_alone(tmp_path: Path) -> None:
    held = Held(tmp_path, 100_000)
    buffer = io.BytesIO()
    noted = Image.open(io.BytesIO(png()))
    noted.save(buffer, "WEBP", lossless=True, exif=b"Exif\0\0secret")
    name = held.take(buffer.getvalue())
    with Image.open(held.file(name.removeprefix(NAMED))) as kept:
        assert kept.tobytes() == noted.tobytes() and "exif" not in kept.info
    assert held.take(png()) == name  # the same pixels are the same picture
    with pytest.raises(BadRequest, match="cannot read"):
        held.take(b"<svg/>")
    with pytest.raises(TooMuch, match="at most 0 MB"):
        held.take(bytes(100_001))
    for wrong in ("", "../history.sqlite", "0" * 64):
        with pytest.raises(NotThere, match="choose it again"):
            held.file(wrong)


def test_a_job_holds_a_name_and_its_file_the_picture(service: Service, tmp_path: Path) -> None:
    """All of a job's requests share one picture; the file is the one that the same picture inline gives."""
    service.start()
    name = service.held.take(png())
    start = Start(image=name, strength=0.5)
    asked = tuple(RenderRequest(prompt="a", start=start, num_inference_steps=2, seed=seed) for seed in range(3))
    job = service.submit(Asked(asked))
    assert service.wait(job.id, 60).job.state is State.DONE
    kept = service.history.pictures(job.id)
    assert [one.record.start.image for one in kept if one.record.start] == [name] * 3
    whole = images.read_record(service.history.file(kept[1].id))
    assert whole.start is not None and whole.start.image.startswith(INLINE)
    other = service.submit(Asked(tuple(service.held.inline(one) for one in asked)))
    assert service.wait(other.id, 60).job.state is State.DONE
    again = service.history.pictures(other.id)
    both = [[service.history.file(one.id).read_bytes() for one in pictures] for pictures in (kept, again)]
    assert both[0] == both[1]
    base = sqlite3.connect(service.history.folder / FILE)
    texts = [*base.execute("SELECT requests FROM jobs"), *base.execute("SELECT record FROM pictures")]
    base.close()
    assert all(INLINE not in text for (text,) in texts)


def test_what_is_not_there_or_a_path_is_refused(service: Service) -> None:
    def ask(image: str) -> Asked:
        return Asked((RenderRequest(prompt="a", start=Start(image=image)),))

    with pytest.raises(NotThere, match="choose it again"):
        service.submit(ask(NAMED + "0" * 64))
    with pytest.raises(NotThere, match="choose it again"):
        service.submit(ask(NAMED + "../../history"))
    with pytest.raises(NotAllowed, match="not by path"):
        service.submit(ask("/etc/hostname"))


def test_many_pictures_that_differ_by_their_seeds_are_read_once(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    own = Held.file

    def noted(held: Held, digest: str) -> Path:
        read.append(digest)
        return own(held, digest)

    start = Start(image=service.held.take(png()), strength=1.0)
    monkeypatch.setattr(Held, "file", noted)
    asked = [RenderRequest(prompt="a", start=start, num_inference_steps=2, seed=seed) for seed in range(200)]
    assert service.cost(asked).unet_passes == 200 * 2
    assert len(read) == 1
    with pytest.raises(TooMuch, match="1 to 256 pictures"):
        service.cost(asked * 2)
    assert len(read) == 1


def test_pictures_are_sent_and_fetched(service: Service) -> None:
    # Not entered, so not started: no model is needed.
    built = server.build(service, server.Options())
    client = TestClient(built, base_url="http://localhost")  # pyright: ignore[reportArgumentType]
    answer = client.post("/medley/held", content=png())
    name = str(answer.json()["name"])
    got = client.get(f"/medley/held/{name.removeprefix(NAMED)}.png")
    assert Image.open(io.BytesIO(got.content)).size == (64, 64)
    for data, told in ((b"no picture", "cannot read"), (bytes(200_000), "at most")):
        refused = client.post("/medley/held", content=data)
        assert refused.status_code == 422 and told in refused.text
    for wrong in ("0" * 64, "..%2fhistory.sqlite"):
        assert client.get(f"/medley/held/{wrong}.png").status_code == 404


def test_a_history_of_an_older_server_is_taken_up(tmp_path: Path) -> None:
    base = sqlite3.connect(tmp_path / FILE)
    base.execute(
        "CREATE TABLE pictures (id TEXT PRIMARY KEY, job TEXT NOT NULL, position INTEGER NOT NULL, "
        "record TEXT NOT NULL, seconds REAL NOT NULL, words TEXT NOT NULL, created REAL NOT NULL, "
        "findings TEXT NOT NULL, UNIQUE (job, position)) STRICT"
    )
    rendering = Engine().render(RenderRequest(prompt="a", num_inference_steps=1))
    row = ("one", "job", 0, rendering.record.model_dump_json(), 1.0, "a", 1.0, "{}")
    base.execute("INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    base.commit()
    base.close()
    for _ in range(2):
        history = History(tmp_path)
        old = history.picture("one")
        outline = Outline((Line("zorp", (0.5, 1.0), (False, True)),), (1, 1), (0, 0), read=True, known=True)
        history.put(type(old)("two", "job", 1, old.record, 1.0, 2.0, {}, outline))
        assert (history.picture("one").outline, history.picture("two").outline) == (None, outline)
        history.close()
