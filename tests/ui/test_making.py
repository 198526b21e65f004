"""Several LoRAs made into one without a page: what may be asked for, what is told on the way, and how it is stopped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from composer.errors import BadRequest
from lora_zoo.errors import UnknownName, ZooError
from pipelines import merges
from pipelines.engine import Engine
from pipelines.errors import Cancelled
from ui import making, more
from ui.errors import NotAllowed
from ui.forms import Chosen, Draft
from ui.making import Making, Wish
from ui.service import Service

DRAFT = Draft(chosen=[Chosen(name="zorp"), Chosen(name="moon", weight=0.5)], prompt="whatever", method="switch")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    one = Service(Engine(), tmp_path)
    yield one
    one.stop()


@pytest.mark.parametrize("name", merges.names())
def test_every_merge_has_its_controls(name: str) -> None:
    found = more.controls(making.parameters(name), {})
    assert isinstance(found, dict) and isinstance(found["fields"], list)
    assert len(found["fields"]) == len(making.parameters(name))


def test_a_merge_is_made_of_the_chosen_loras_by_its_parameters(service: Service) -> None:
    wish = Wish("ties", {"density": 0.25, "interval": 3, "elect": None}, "tied", rank="4")
    order = making.order(service, DRAFT, wish)
    assert (order.request.method, order.request.parameters, order.rank) == ("ties", {"density": 0.25}, 4)
    assert [(use.name, use.weight) for use in order.request.adapters] == [("zorp", 1.0), ("moon", 0.5)]
    going = Making(service, order, making.place(service, wish))
    assert all(isinstance(one, str) for one in going.told())
    assert going.made is not None and going.made.path.stem == "tied"
    assert "tied" in service.shelf.loras
    with pytest.raises(NotAllowed, match="'tied' already"):
        making.place(service, wish)


def test_a_fit_says_what_it_is_at_and_what_it_measured(service: Service) -> None:
    wish = Wish("ssr", {"steps": 4}, "routed", prompts="zorp = zorp the alien\n\nmoon=on a cratered moon")
    order = making.order(service, DRAFT, wish)
    assert dict(order.prompts) == {"zorp": "zorp the alien", "moon": "on a cratered moon"}
    going = Making(service, order, making.place(service, wish))
    list(going.told())
    assert going.made is not None and going.made.measured


def test_a_merge_is_stopped_and_leaves_nothing(service: Service) -> None:
    wish = Wish("ziplora_trained", {"steps": 1000}, "never")
    going = Making(service, making.order(service, DRAFT, wish), making.place(service, wish))
    said: list[str] = []
    with pytest.raises(Cancelled):
        for at in going.told():
            said.append(at)
            if " of " in at:
                going.cancel()
    assert said and not making.place(service, wish).exists()


@pytest.mark.parametrize(
    ("error", "message", "wish"),
    [
        (ZooError, "did you mean 'ties'", Wish("tiess", {}, "x")),
        (BadRequest, "whole number from 1 on", Wish("cat", {}, "x", rank="-1")),
        (BadRequest, "NAME=TEXT", Wish("ssr", {}, "x", prompts="zorp")),
        (BadRequest, "stated twice", Wish("ssr", {}, "x", prompts="zorp=a\nzorp=b")),
    ],
)
def test_mistakes_are_found_before_any_work(error: type[ZooError], message: str, wish: Wish, service: Service) -> None:
    with pytest.raises(error, match=message):
        making.order(service, DRAFT, wish)


def test_what_only_the_merge_knows_is_told_too(service: Service) -> None:
    wish = Wish("ssr", {}, "x", prompts="zorpp=a")
    with pytest.raises(UnknownName, match="did you mean 'zorp'"):
        list(Making(service, making.order(service, DRAFT, wish), making.place(service, wish)).told())
