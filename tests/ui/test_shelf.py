"""The LoRAs that a server offers: names that mean one content, files that change, uploads that go and come back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import safetensors.torch

from composer.request import RenderRequest
from lora_zoo.catalog import Catalog, entry_for
from lora_zoo.library import Library
from pipelines.engine import Engine
from pipelines.jobs.states import State
from tests.lora_zoo.index.folders import lora
from ui.cards import cards, refused
from ui.errors import NotAllowed, NotThere
from ui.history import Asked
from ui.service import Offer, Service

CATALOG = Catalog.load()


@pytest.fixture(scope="module")
def tiny() -> Engine:
    return Engine()


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEDLEY_CACHE", str(tmp_path / "cache"))
    (tmp_path / "zoo").mkdir()
    return tmp_path / "zoo"


@pytest.fixture
def service(tiny: Engine, zoo: Path, tmp_path: Path) -> Iterator[Service]:
    shipped("neon", zoo / "glow.safetensors")
    found = Service(tiny, tmp_path / "data", Offer(zoos=(zoo,)))
    yield found
    found.stop()


def shipped(name: str, to: Path) -> Path:
    """Copy a LoRA that comes with the project."""
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(CATALOG.path(CATALOG.get(name)), to)
    return to


def calling_itself(name: str, to: Path) -> Path:
    """Write a LoRA of other content than any, whose metadata say that it is called so."""
    tensors = safetensors.torch.load_file(CATALOG.path(CATALOG.get("zorp")))
    doubled = {key: tensor * 2 if "lora_up" in key else tensor for key, tensor in tensors.items()}
    safetensors.torch.save_file(doubled, to, {"ss_output_name": name})
    return to


def ask(name: str, **fields: object) -> RenderRequest:
    return RenderRequest.model_validate(
        {"prompt": "a meadow", "num_inference_steps": 1, "adapters": [{"name": name}], **fields}
    )


def digest(service: Service, name: str) -> str | None:
    return service.resolve([ask(name)])[0].adapters[0].sha256


def test_an_upload_breaks_no_other_lora(service: Service, tmp_path: Path) -> None:
    before = digest(service, "zorp")
    sent = calling_itself("zorp", tmp_path / "improved.safetensors")
    service.admit(sent, "tiny")
    assert digest(service, "zorp") == before
    assert digest(service, "improved") == entry_for(sent).sha256 != before
    for taken in ("zorp", "Zorp", "improved", "glow"):
        with pytest.raises(NotAllowed, match="there is a LoRA called .* already; choose another name"):
            service.admit(sent.rename(tmp_path / f"{taken}.safetensors"), "tiny")
        sent = tmp_path / f"{taken}.safetensors"


def test_an_upload_is_removed_and_put_back(service: Service, tmp_path: Path) -> None:
    service.admit(calling_itself("", tmp_path / "mine.safetensors"), "tiny")
    content = digest(service, "mine")
    job = service.submit(Asked((ask("mine"),)))
    with pytest.raises(NotAllowed, match="'mine' is needed by 1 jobs that are not over; cancel them first"):
        service.remove_lora("mine")
    service.cancel(job.id)
    assert service.remove_lora("mine") == "mine"
    with pytest.raises(NotAllowed, match="'mine' is not in the zoo"):
        digest(service, "mine")
    assert not list(service.shelf.folder.iterdir())
    service.put_back_lora("mine")
    assert digest(service, "mine") == content
    service.remove_lora("mine")
    service.admit(shipped("moon", tmp_path / "mine.safetensors"), "tiny")
    with pytest.raises(NotAllowed, match="there is a LoRA called 'mine' already"):
        service.put_back_lora("mine")


@pytest.mark.parametrize("name", ["zorp", "glow"])
def test_what_was_not_sent_here_is_not_removed_from_here(name: str, service: Service, zoo: Path) -> None:
    with pytest.raises(NotAllowed, match="was not sent or made here"):
        service.remove_lora(name)
    assert (zoo / "glow.safetensors").is_file()
    with pytest.raises(NotThere, match="'glwo' is not in the zoo; did you mean 'glow'"):
        service.remove_lora("glwo")
    for odd in ("../../zoo/glow", "", "glow"):
        with pytest.raises(NotThere, match="no LoRA called .* was removed here"):
            service.put_back_lora(odd)


def test_a_trainer_may_write_over_its_file_while_the_server_runs(service: Service, zoo: Path) -> None:
    service.start()
    first = service.submit(Asked((ask("glow"),)))
    assert service.wait(first.id, 100).job.state is State.DONE
    shipped("moon", zoo / "glow.safetensors")
    second = service.submit(Asked((ask("glow"),)))
    assert service.wait(second.id, 100).job.state is State.DONE
    pictures = [service.history.pictures(job.id)[0] for job in (first, second)]
    digests = [picture.record.adapters[0].sha256 for picture in pictures]
    assert digests == [CATALOG.get("neon").sha256, CATALOG.get("moon").sha256]
    assert pictures[0].record.pixels_sha256 != pictures[1].record.pixels_sha256
    assert service.shelf.loras["glow"].sha256 == CATALOG.get("moon").sha256  # what is shown is what is used


def test_a_job_keeps_its_lora_when_another_of_the_same_name_comes(service: Service, tmp_path: Path) -> None:
    job = service.submit(Asked((ask("glow"),)))
    shipped("reef", tmp_path / "more" / "glow.safetensors")
    service.shelf.scan(tmp_path / "more")
    with pytest.raises(NotAllowed, match="'glow' is not in the zoo"):
        digest(service, "glow")
    service.start()
    assert service.wait(job.id, 100).job.state is State.DONE
    (picture,) = service.history.pictures(job.id)
    assert picture.record.adapters[0].sha256 == CATALOG.get("neon").sha256


def test_what_is_resolved_stays_so_whatever_is_offered_later(service: Service, zoo: Path) -> None:
    before = service.shelf.now
    (zoo / "glow.safetensors").unlink()
    service.shelf.refresh()
    assert "glow" in before.loras and "glow" not in service.shelf.loras
    assert service.shelf.now.engine is not before.engine is not service.shelf._engine
    assert before.engine.model("tiny") is service.engine.model("tiny")


def test_cards_have_names_of_their_own_and_no_path(zoo: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        lora(zoo / folder / "style.safetensors", ord(folder))
    lora(zoo / "c" / "twin.safetensors", 7)
    lora(zoo / "d" / "twin.safetensors", 7)
    (zoo / "broken.safetensors").write_bytes(b"nothing")
    library = Library.scanned([zoo])[0]
    shown = cards(library)
    handles = [card["handle"] for card in shown if isinstance(card, dict)]
    assert handles[len(CATALOG.entries) :] == ["a/style", "b/style", "twin"]
    assert len(set(handles)) == len(handles) and str(tmp_path) not in json.dumps(shown)
    (bad,) = refused(library)
    assert isinstance(bad, dict) and bad["name"] == "broken.safetensors" and "not a safetensors" in str(bad["error"])
