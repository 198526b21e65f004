"""The options of `render` as keys of jobs, LoRAs in one cell, and what is told of keys that nobody knows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from pipelines import cli
from pipelines.engine import Engine
from pipelines.jobs import axes, keys, planning, sources
from pipelines.jobs.errors import BadJobs
from pipelines.jobs.sources import Draft

Write = Callable[[str, str], Path]

#: Options of `render` that say where or by what something is done, not what the picture is.
_NOT_OF_THE_PICTURE = {
    *("from", "wildcards", "zoo", "out", "format", "findings", "dry-run", "json"),
    *("dtype", "attention", "offload", "vae-tiling", "help"),
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return write_file


def requests(path: Path) -> list[Any]:
    read = sources.read(path)
    return [keys.request_of(one.data, one.where) for draft in read.drafts for one in sources.plain(draft)]


def test_every_option_of_a_picture_is_a_key() -> None:
    command: Any = typer.main.get_command(cli.app)
    options = {max(one.opts, key=len).removeprefix("--") for one in command.commands["render"].params}
    assert _NOT_OF_THE_PICTURE - options <= {"help"}
    assert {option.replace("-", "_") for option in options - _NOT_OF_THE_PICTURE} <= set(keys.known())


#: As typed after `render`, and as a job.
_SAID: list[tuple[list[str], dict[str, object]]] = [
    (["--steps", "4", "--guidance", "3", "--size", "64x32"], {"steps": 4, "guidance": 3, "size": "64x32"}),
    (["--negative", "x", "--text-policy", "none"], {"negative": "x", "text-policy": "none"}),
    (["--lora", "zorp:0.5:0.25"], {"lora": ["zorp:0.5:0.25"]}),
    (["--lora", "zorp", "--lora", "trident"], {"lora": "zorp trident"}),
    (
        ["--lora", "zorp", "--method", "switch", "--set", "interval=2"],
        {"loras": ["zorp"], "method": "switch", "set": ["interval=2"]},
    ),
    (
        ["--lora", "zorp", "--method", "regional", "--region", "zorp=0,0,0.5,1", "--region-prompt", "zorp=a b"],
        {"lora": ["zorp"], "method": "regional", "region": {"zorp": "0,0,0.5,1"}, "region_prompt": "zorp=a b"},
    ),
    (["--lora", "zorp", "--allow-partial", "zorp"], {"lora": "zorp", "allow_partial": ["zorp"]}),
    (["--lora", "zorp", "--words", "zorp=p"], {"lora": "zorp", "words": ["zorp=p"]}),
    (["--lora", "zorp", "--during", "zorp=1-3"], {"lora": "zorp", "during": "zorp=1-3"}),
    (["--hires", "2", "--hires-steps", "3"], {"hires": 2, "hires_steps": 3}),
    (["--hires", "2", "--hires-strength", "0.5"], {"hires": {"scale": 2}, "hires_strength": 0.5}),
    (["--init", "START", "--strength", "0.5"], {"init": "START", "strength": 0.5}),
    (["--crop", "0,0", "--syntax", "plain"], {"crop": "0,0", "syntax": "plain"}),
    (["--prediction", "v_prediction", "--seed", "3"], {"prediction": "v_prediction", "seed": "3"}),
]


@pytest.mark.parametrize(("typed", "job"), _SAID, ids=str)
def test_a_job_says_what_the_options_say(
    typed: list[str], job: dict[str, object], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    start = str(tmp_path / "start.png")
    Image.new("RGB", (64, 64), "red").save(start)
    words = ["render", "--prompt", "zorp, p", *(start if word == "START" else word for word in typed)]
    assert cli.main([*words, "--dry-run", "--json"]) == 0
    by_options = json.loads(capsys.readouterr().out)["requests"][0]
    job = {"prompt": "zorp, p", **{key: start if value == "START" else value for key, value in job.items()}}
    path = write("a.jsonl", json.dumps(job))
    (planned,) = planning.plan(Engine(), sources.read(path).drafts, []).jobs
    assert planned.request.model_dump(mode="json") == by_options


def test_defaults_axes_and_jobs_may_spell_the_same_differently(write: Write) -> None:
    text = (
        "defaults: {steps: 10, size: 64x64, hires: 2}\njobs: [{num_inference_steps: 20, width: 32}, {hires_steps: 5}]\n"
    )
    first, second = requests(write("a.yaml", text))
    assert (first.num_inference_steps, first.width, first.height, first.hires.scale) == (20, 32, 64, 2.0)
    assert (second.num_inference_steps, second.hires.scale, second.hires.num_inference_steps) == (10, 2.0, 5)
    found = axes.checked("x", "steps", [1, 2])
    assert found.field == "num_inference_steps"
    sizes = [one.draft.data for one in axes.expand(Draft("here", {}), [axes.parse("x", "size=64x32,32x64")])]
    assert sizes == [{"width": 64, "height": 32}, {"width": 32, "height": 64}]
    strengths = [
        keys.request_of(one.draft.data, "here").start
        for one in axes.expand(Draft("here", {"init": "a.png"}), [axes.parse("y", "strength=0.25,1")])
    ]
    assert [one.strength for one in strengths if one] == [0.25, 1.0]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"stepps": 3}', "a.jsonl line 1: unknown key 'stepps'; did you mean 'steps'?"),
        (
            "a.csv",
            "prompt,stepps,guidence\nx,1,2\ny,3,4\nz,5,\n",
            "a.csv line 2: unknown key 'stepps'; did you mean 'steps'? (3 jobs have it)\n"
            "a.csv line 2: unknown key 'guidence'; did you mean 'guidance' or 'guidance_scale'? (2 jobs have it)",
        ),
        ("a.yaml", "defaults: {clip-skip: 2}\njobs: [{}, {}]", "a.yaml job 1: there is no clip_skip: the text encoder"),
        ("a.txt", "--prompt x --clip_skip 2", "a.txt line 1: --clip_skip has no counterpart here"),
        ("a.jsonl", '{"steps": 3, "num_inference_steps": 4}', "a.jsonl line 1: 'num_inference_steps' says again"),
        ("a.jsonl", '{"size": "big"}', "a.jsonl line 1: size 'big': write WIDTHxHEIGHT"),
        ("a.csv", "prompt,prompt\nx,y\n", "a.csv line 1: the header names 'prompt' twice"),
        ("a.csv", "prompt;seed,steps\nx;1,2\n", "a.csv line 1: the header holds ',' and ';'"),
    ],
)
def test_keys_that_cannot_be_meant_are_told_once(name: str, text: str, message: str, write: Write) -> None:
    with pytest.raises(BadJobs) as told:
        sources.read(write(name, text))
    assert str(told.value).startswith(message)
    assert "Known:" not in str(told.value)


@pytest.mark.parametrize(
    ("job", "message"),
    [
        ({"strength": 0.5}, "here: strength of start: give init too"),
        ({"hires_steps": 5}, "here: num_inference_steps of hires: give hires too"),
        ({"words": 5}, "here: words must be a list of NAME=VALUE, not 5"),
        ({"region": ["zorp=0,0,1,1"]}, "here: --region 'zorp=0,0,1,1': write NAME=REGION"),
    ],
)
def test_parts_without_what_they_belong_to_are_refused(job: dict[str, object], message: str) -> None:
    with pytest.raises(BadJobs) as told:
        keys.request_of(job, "here")
    assert str(told.value).startswith(message)


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("zorp:0.5 moon", [("zorp", 0.5), ("moon", None)]),
        ("a/style v1:0.5;", [("a/style v1", 0.5)]),
        ("a/style v1:0.5; moon", [("a/style v1", 0.5), ("moon", None)]),
        ("'a/style v1':0.5 moon:2", [("a/style v1", 0.5), ("moon", 2.0)]),
        ('"a/style v1:0.5"', [("a/style v1", 0.5)]),
        ("'a;b':1 c", [("a;b", 1.0), ("c", None)]),
        ("bob's style:2; c", [("bob's style", 2.0), ("c", None)]),
        ("it's", [("it's", None)]),
        ("", []),
    ],
)
def test_names_with_blanks_in_one_cell(cell: str, wanted: list[tuple[str, float | None]]) -> None:
    found = keys.adapters_of(cell, "here")
    assert [(one["name"], one.get("weight")) for one in found] == wanted


def test_an_axis_of_loras_keeps_names_with_blanks_and_signs_together() -> None:
    axis = axes.parse("x", "loras=a/style v1:0.5+c,'a+b':2;c,")
    found = [one.draft.data["adapters"] for one in axes.expand(Draft("here", {}), [axis])]
    assert found == [
        [{"name": "a/style v1", "weight": 0.5}, {"name": "c"}],
        [{"name": "a+b", "weight": 2.0}, {"name": "c"}],
        [],
    ]


def test_a_lora_unknown_for_its_blank_is_told_how_to_write_it(write: Write) -> None:
    for cell in ("zorp big:0.5", "a/style v1:0.5"):
        path = write("a.csv", f"prompt,loras\nx,{cell}\n")
        with pytest.raises(BadJobs, match="put ; between names that hold some, or quote them"):
            planning.plan(Engine(), sources.read(path).drafts, [])


@pytest.mark.parametrize(
    "text",
    [
        'prompt;loras;seed\n"a; b";"x y:0.5; z";3\n',
        'sep=;\nprompt;loras;seed\n"a; b";"x y:0.5; z";3\n',
        "prompt\tloras\tseed\na; b\tx y:0.5; z\t3\n",
        "sep=|\r\nprompt|loras|seed\r\na; b|x y:0.5; z|3\r\n",
        "prompt , loras,seed\na; b,x y:0.5; z,3\n",
    ],
)
def test_what_spreadsheets_of_all_countries_write_is_read(text: str, write: Write) -> None:
    (draft,) = sources.read(write("a.csv", text)).drafts
    (one,) = sources.plain(draft)
    assert one.data == {"prompt": "a; b", "adapters": [{"name": "x y", "weight": 0.5}, {"name": "z"}], "seed": 3}


def test_a_line_of_json_ends_where_json_says(write: Write) -> None:
    (draft,) = sources.read(write("a.jsonl", '{"prompt": "a\u2028b\x85c"}\r\n')).drafts
    assert draft.data == {"prompt": "a\u2028b\x85c"}


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("--prompt a castle on a hill", {"prompt": "a castle on a hill"}),
        (
            "--prompt a castle on a hill --steps 4 --negative_prompt low quality",
            {"prompt": "a castle on a hill", "num_inference_steps": "4", "negative_prompt": "low quality"},
        ),
        ('--prompt "a castle" on "a hill" --seed -1', {"prompt": "a castle on a hill", "seed": "-1"}),
        ("--prompt -dashed words --width 64", {"prompt": "-dashed words", "width": "64"}),
    ],
)
def test_a_prompt_without_quotes_ends_at_the_next_option(line: str, wanted: dict[str, str], write: Write) -> None:
    (draft,) = sources.read(write("a.txt", f"{line}\n")).drafts
    assert draft.data == wanted
