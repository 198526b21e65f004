"""Choices in prompts, through every door: drawn from the seed, the same everywhere, and recorded as text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from composer.errors import BadRequest
from composer.request import AdapterUse, Region, RenderRequest
from lora_zoo.errors import ZooError
from pipelines.cli import main
from pipelines.engine import Engine
from pipelines.jobs import planning, sources
from ui.calls import Calls
from ui.errors import NotAllowed
from ui.forms import Draft
from ui.history import Asked
from ui.service import Service

PROMPT = "a {red|blue} zorp in a __place__"
SEEDS = range(4, 10)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "values").mkdir()
    (tmp_path / "values" / "place.txt").write_text("meadow\nwood\nbay\n")
    return tmp_path / "values"


@pytest.fixture
def wanted(folder: Path) -> list[str]:
    """What Python's own door draws."""
    engine = Engine(wildcards=folder)
    found = [engine.resolve(RenderRequest(prompt=PROMPT, seed=seed)).request for seed in SEEDS]
    assert {one.choices for one in found} == {"text"}
    assert len({one.prompt for one in found}) > 2
    assert all(one.prompt.split()[1] in ("red", "blue") for one in found)
    return [one.prompt for one in found]


def test_render(wanted: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ("--prompt", PROMPT, "--seed", "4", "--count", "6", "--wildcards", str(folder))
    assert main(["render", *typed, "--dry-run", "--json"]) == 0
    assert [one["prompt"] for one in json.loads(capsys.readouterr().out)["requests"]] == wanted


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("jobs.txt", f'--prompt "{PROMPT}" --seed 4 --n_iter 6'),
        ("jobs.csv", f"prompt,seed,count\n{PROMPT},4,6\n"),
        ("jobs.jsonl", json.dumps({"prompt": PROMPT, "seed": 4, "count": 6})),
        ("jobs.yaml", json.dumps([{"prompt": PROMPT, "seed": 4, "count": 6}])),
    ],
)
def test_batch(name: str, text: str, wanted: list[str], folder: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    planned = planning.plan(Engine(wildcards=folder), sources.read(path).drafts, ())
    assert [job.request.prompt for job in planned.jobs] == wanted
    with pytest.raises(ZooError, match="__place__ and no folder of values is given"):
        planning.plan(Engine(), sources.read(path).drafts, ())
    assert main(["batch", str(path), "--dry-run"]) == 2
    assert main(["batch", str(path), "--dry-run", "--wildcards", str(folder)]) == 0


def test_page_and_http(wanted: list[str], folder: Path, tmp_path: Path) -> None:
    service = Service(Engine(wildcards=folder), tmp_path / "data")
    try:
        drafts = Draft(prompt=PROMPT, seed=4, count=6).requests()
        assert [one.prompt for one in service.resolve(drafts)] == wanted
        job = Calls(service).submit({"prompt": PROMPT, "seed": 4}, 6)["job"]
        assert [one.prompt for one in service.history.job(job).asked.requests] == wanted
    finally:
        service.stop()
    poor = Service(Engine(), tmp_path / "other")
    try:
        with pytest.raises(BadRequest, match="no folder of values"):
            Calls(poor).submit({"prompt": PROMPT})
    finally:
        poor.stop()


def test_what_is_drawn_is_checked_as_what_is_typed(folder: Path, tmp_path: Path) -> None:
    (folder / "path.txt").write_text("<lora:/etc/passwd:1>\n")
    service = Service(Engine(wildcards=folder), tmp_path / "data")
    try:
        for prompt in ("__path__", "<lo{ra|ra}:/etc/passwd:1>"):
            with pytest.raises(NotAllowed, match="is not in the zoo"):
                service.submit(Asked((RenderRequest(prompt=prompt),)))
    finally:
        service.stop()


def test_what_was_drawn_is_not_drawn_again(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    engine = Engine()
    text = RenderRequest(prompt="{a|b}", choices="text", num_inference_steps=1)
    made = engine.render(text)
    assert made.record.prompt == "{a|b}"
    again = Draft.from_request(made.record.request())
    assert again.further["choices"] == "text"
    assert engine.resolve(again.request()).request.prompt == "{a|b}"
    drawn = engine.render(RenderRequest(prompt="{a|b}", num_inference_steps=1)).record
    assert drawn.prompt in "ab"
    assert "choices" not in Draft.from_request(drawn.request()).further


def test_every_text_of_a_request_is_drawn() -> None:
    use = AdapterUse(name="zorp", region=Region(box=(0, 0, 0.5, 1), prompt="{r|r}"))
    asked = RenderRequest(
        prompt="{p|p}", negative_prompt="{n|n}", undesired="{u|u}", adapters=(use,), method="regional"
    )
    found = Engine().resolve(asked).request
    assert (found.prompt, found.negative_prompt, found.undesired) == ("p", "n", "u")
    assert found.adapters[0].region is not None
    assert found.adapters[0].region.prompt == "r"


def test_a_picture_repeated_with_new_choices(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], saved: Callable[[RenderRequest], Path]
) -> None:
    path = saved(RenderRequest(prompt="x", negative_prompt="{n}", choices="text", num_inference_steps=1))
    base = ["render", "--from", str(path), "--dry-run", "--json"]
    assert main([*base, "--prompt", "{y|y}"]) == 2
    assert "--choices" in capsys.readouterr().err
    assert main([*base, "--prompt", "{y|y}", "--choices", "drawn"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["requests"]
    assert (one["prompt"], one["negative_prompt"]) == ("y", "n")
    assert main([*base, "--prompt", "{y|y}", "--negative", ""]) == 0
    assert json.loads(capsys.readouterr().out)["requests"][0]["prompt"] == "y"
    assert main(base) == 0
    assert json.loads(capsys.readouterr().out)["requests"][0]["negative_prompt"] == "{n}"


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[RenderRequest], Path]:
    from pipelines import images

    def save(request: RenderRequest) -> Path:
        path = tmp_path / "picture.png"
        images.save(Engine().render(request), path)
        return path

    return save
