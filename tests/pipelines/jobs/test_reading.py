"""Files of jobs and axes: what each form says, and what is told of its mistakes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lora_zoo.errors import ZooError
from pipelines.engine import Engine
from pipelines.jobs import axes, planning, sources
from pipelines.jobs.errors import BadJobs
from pipelines.jobs.seeds import Seeds
from pipelines.jobs.sources import Draft

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return write_file


def data(path: Path) -> list[dict[str, object]]:
    return [dict(one.data) for draft in sources.read(path).drafts for one in sources.plain(draft)]


def test_four_forms_say_the_same(write: Write) -> None:
    wanted = [{"prompt": "a cat, red", "seed": 5, "num_inference_steps": 4}, {"prompt": "b", "seed": 0}]
    json_lines = '{"prompt": "a cat, red", "seed": 5, "num_inference_steps": 4}\n\n{"prompt": "b"}\n'
    table = '\ufeffprompt,seed,num_inference_steps\n"a cat, red",5,4\nb,,\n'
    yaml = '- {prompt: "a cat, red", seed: 5, num_inference_steps: 4}\n- prompt: b\n'
    lines = '--prompt "a cat, red" --seed 5 --steps 4\nb\n'
    assert data(write("a.jsonl", json_lines)) == wanted
    assert data(write("a.yaml", yaml)) == wanted
    texts = [{**wanted[0], "num_inference_steps": "4"}, wanted[1]]  # a request reads numbers from texts
    assert data(write("a.csv", table)) == texts
    assert data(write("a.txt", lines)) == texts


def test_conveniences_become_keys_of_a_request(write: Write) -> None:
    path = write("a.csv", "prompt,loras,set.interval,count,seed\nx,zorp:0.5 moon,2,3,7\n")
    one = {
        "prompt": "x",
        "parameters": {"interval": 2},
        "adapters": [{"name": "zorp", "weight": 0.5}, {"name": "moon"}],
    }
    assert data(path) == [{**one, "seed": seed} for seed in (7, 8, 9)]


def test_a_sheet_that_could_not_be_drawn_is_refused_before_its_pictures_are_made(
    engine: Engine, small_folder: Path
) -> None:
    draft = Draft("here", {"prompt": "x", "model": str(small_folder), "width": 8192, "height": 8192})
    with pytest.raises(BadJobs, match="sheet of 9 x 1 pictures would be 73,948 x 8,260 pixels; at most 65,000 a side"):
        planning.plan(engine, [draft], [axes.parse("x", "seed=1..9")])
    found = planning.plan(engine, [draft], [axes.parse("x", "seed=1..5")])
    assert len(found.grids) == 1
    with pytest.raises(BadJobs, match="500,000,000 in all"):
        planning.plan(engine, [draft], [axes.parse("x", "seed=1..5"), axes.parse("y", "scheduler=ddim,euler")])


def test_a_yaml_file_has_defaults_and_axes(write: Write) -> None:
    text = "defaults: {prompt: x, seed: 3}\naxes: {x: {method: [merge, switch]}}\njobs: [{}, {seed: 4}]\n"
    found = sources.read(write("a.yaml", text))
    assert [one.data["seed"] for one in found.drafts] == [3, 4]
    assert found.axes == {"x": {"method": ["merge", "switch"]}}


def test_a1111_samplers_are_taken_by_their_names(write: Write) -> None:
    found = data(write("a.txt", '--prompt x --sampler_name "DPM++ 2M Karras"\n--prompt x --sampler_name "Euler a"\n'))
    assert [one["scheduler"] for one in found] == ["dpmpp_2m_karras", "euler_a"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"prompt": "x"}\n{"prompt": \n', "a.jsonl line 2: not JSON"),
        ("a.jsonl", "[1]\n", "a.jsonl line 1 must map keys to values, not be list"),
        ("a.jsonl", "\n", "holds no jobs"),
        ("a.csv", "prompt\nx,y\n", "a.csv line 2 has more cells than the header"),
        ("a.csv", 'prompt\n"x\n', "a.csv line 2: unexpected end of data"),
        ("a.yaml", "a: [", "a.yaml: not YAML"),
        ("a.yaml", "axis: {}", "unknown part of a.yaml 'axis'; did you mean 'axes'"),
        ("a.yaml", "axes: {x: {seed: 3}}", "axis x needs one field with a list"),
        ("a.txt", "--promt x", "unknown option in a.txt line 1 'promt'; did you mean 'prompt'"),
        ("a.txt", '--prompt "x', "line 1: No closing quotation"),
        ("a.txt", "--prompt", "--prompt has no value"),
        ("a.txt", "--seed 1 2", "'2' is no option"),
        ("a.txt", "--prompt x --tiling true", "--tiling has no counterpart here"),
        ("a.txt", "--prompt x --sampler_name Heun", "unknown sampler 'Heun'"),
        ("a.ini", "x", "unknown kind of job file '.ini'"),
        ("a.jsonl", '{"count": 0}', "count must be a whole number from 1 to 10000, not 0"),
        ("a.jsonl", '{"seed": 1.5}', "seed must be a whole number"),
        ("a.jsonl", '{"seed": -2}', "seed must be a whole number from -1"),
        ("a.jsonl", '{"loras": [], "adapters": []}', "either `loras` or `adapters`"),
        ("a.jsonl", '{"loras": [1]}', "loras must be a list"),
    ],
    ids=str,
)
def test_mistakes_are_told_with_their_place(name: str, text: str, message: str, write: Write) -> None:
    with pytest.raises(ZooError, match=message.replace("`", ".")):
        data(write(name, text))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadJobs, match="not text in UTF-8"):
        sources.read(path)


def placed(draft: dict[str, object], *texts: str) -> list[tuple[tuple[int, ...], dict[str, object]]]:
    parsed = [axes.parse(name, text) for name, text in zip("xyz", texts, strict=False)]
    return [(one.place, dict(one.draft.data)) for one in axes.expand(Draft("here", draft), parsed)]


def test_x_runs_fastest() -> None:
    found = placed({}, "seed=1..2", "method=merge,switch")
    assert found == [
        ((0, 0), {"seed": 1, "method": "merge"}),
        ((1, 0), {"seed": 2, "method": "merge"}),
        ((0, 1), {"seed": 1, "method": "switch"}),
        ((1, 1), {"seed": 2, "method": "switch"}),
    ]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (("seed=1..3", "seed=1..3"), "axes x and y both go over seed; leave one out"),
        (("steps=1,2", "method=merge", "num_inference_steps=3"), "axes x and z both go over num_inference_steps"),
        (("size=64x64", "height=64,128"), "both go over height"),
        (("weight:a=0,1", "weight=0,1"), "both go over weight"),
        (("weight=0,1", "weight:a=0,1"), "both go over weight"),
        (("set:interval=1,2", "parameters:interval=1,2"), "both go over set:interval"),
        (("weight=0,1", "loras=a,b"), "axis y goes over loras, which undoes the weight of axis x; exchange the two"),
        (("method=naive,merge", "loras=a,b"), "undoes the method of axis x; exchange the two"),
        (("replace=a,b", "prompt=a c,d"), "undoes the replace of axis x; exchange the two"),
    ],
    ids=str,
)
def test_axes_whose_labels_would_be_untrue_are_refused(texts: tuple[str, ...], message: str) -> None:
    parsed = [axes.parse(name, text) for name, text in zip("xyz", texts, strict=False)]
    with pytest.raises(BadJobs, match=message):
        axes.settled(parsed, Seeds())


@pytest.mark.parametrize(
    "texts",
    [
        ("weight:a=0,1", "weight:b=0,1"),
        ("weight=0,1", "text_encoder_weight=0,1"),
        ("loras=a,b", "weight=0,1"),
        ("width=64,128", "height=64,128"),
        ("prompt=a,b a", "replace=a,c"),
        ("method=merge,switch", "loras=a,b"),
    ],
    ids=str,
)
def test_axes_that_each_keep_what_they_say_are_taken(texts: tuple[str, ...]) -> None:
    parsed = [axes.parse(name, text) for name, text in zip("xyz", texts, strict=False)]
    assert axes.settled(parsed, Seeds()) == parsed


def test_axes_of_a_file_are_held_to_the_same(write: Write, engine: Engine, small_folder: Path) -> None:
    found = sources.read(write("a.yaml", "axes: {x: {seed: [1, 2]}, y: {seed: [1, 2]}}\njobs: [{prompt: x}]\n"))
    over = [axes.checked(name, field, values) for name, one in found.axes.items() for field, values in one.items()]
    with pytest.raises(BadJobs, match="axes x and y both go over seed"):
        planning.plan(engine, found.drafts, over)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("weight=0.5", {"adapters": [{"name": "a", "weight": 0.5}, {"name": "b", "weight": 0.5}]}),
        ("weight:b=2", {"adapters": [{"name": "a", "weight": 1}, {"name": "b", "weight": 2}]}),
        ("set:interval=3", {"parameters": {"keep": 1, "interval": 3}}),
        ("loras=c:2+d", {"adapters": [{"name": "c", "weight": 2.0}, {"name": "d"}]}),
        ('negative_prompt="blurry, dark"', {"negative_prompt": "blurry, dark"}),
    ],
)
def test_what_an_axis_changes(text: str, wanted: dict[str, object]) -> None:
    adapters = [{"name": "a", "weight": 1}, {"name": "b"}]
    before: dict[str, object] = {"adapters": adapters, "parameters": {"keep": 1}}
    ((_, found),) = placed(before, text)
    assert found == {**before, **wanted}
    assert before == {"adapters": [{"name": "a", "weight": 1}, {"name": "b"}], "parameters": {"keep": 1}}


def test_an_axis_of_methods_reads_them_as_an_evaluation_does() -> None:
    before: dict[str, object] = {"adapters": [{"name": "a"}], "parameters": {"interval": 4, "combine": "mean"}}
    found = [one for _, one in placed(before, "method=merge,switch,switch:interval=1:legacy_offset=true,naive")]
    assert [(one["method"], one["parameters"], one["adapters"]) for one in found] == [
        ("merge", {"combine": "mean"}, [{"name": "a"}]),
        ("switch", {"interval": 4}, [{"name": "a"}]),
        ("switch", {"interval": 1, "legacy_offset": True}, [{"name": "a"}]),
        ("merge", {"combine": "mean"}, []),
    ]


def test_a_parameter_on_an_axis_goes_to_the_methods_that_have_it() -> None:
    for texts in (("method=merge,switch", "set:interval=1,2"), ("set:interval=1,2", "method=merge,switch")):
        found = [one for _, one in placed({}, *texts)]
        told = sorted((str(one["method"]), str(one["parameters"])) for one in found)
        assert told == [
            ("merge", "{}"),
            ("merge", "{}"),
            ("switch", "{'interval': 1}"),
            ("switch", "{'interval': 2}"),
        ]


@pytest.mark.parametrize(
    ("data", "texts", "message"),
    [
        (
            {"parameters": {"intervall": 1}},
            ["method=merge,switch"],
            "unknown parameter of merge, switch in here 'intervall'; did you mean 'interval'",
        ),
        ({}, ["method=merge,tsv", "set:interval=1,2"], "unknown parameter of merge, tsv in here 'interval'"),
        ({}, ["method=merge,switch:interval=1", "set:interval=2,3"], "'interval' is on axis y and with a method on"),
    ],
)
def test_a_parameter_that_no_method_on_the_axis_has_is_told(
    data: dict[str, object], texts: list[str], message: str
) -> None:
    parsed = [axes.parse(name, text) for name, text in zip("xyz", texts, strict=False)]
    with pytest.raises(ZooError, match=message):
        axes.check_parameters(Draft("here", data), parsed)


def test_a_column_of_a_parameter_beside_an_axis_of_methods(write: Write, engine: Engine, small_folder: Path) -> None:
    path = write("a.csv", f"prompt,loras,set.interval,model\nx,lora0 lora1,1,{small_folder}\n")
    found = planning.plan(engine, sources.read(path).drafts, [axes.parse("x", "method=merge,switch")])
    assert [(one.request.method, one.request.parameters.get("interval")) for one in found.jobs] == [
        ("merge", None),
        ("switch", 1),
    ]


def test_replace_takes_the_first_value_as_what_to_search_for() -> None:
    found = placed({"prompt": "a red cat"}, "replace=red,blue,very green")
    assert [one["prompt"] for _, one in found] == ["a red cat", "a blue cat", "a very green cat"]
    with pytest.raises(BadJobs, match="'pink' is not in the prompt 'a red cat'"):
        placed({"prompt": "a red cat"}, "replace=pink,blue")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed", "write FIELD=V1,V2"),
        ("sead=1", "unknown field of axis x 'sead'; did you mean 'seed'"),
        ("set:=1", "unknown field of axis x"),
        ("seed:a=1", "unknown field of axis x"),
        ("adapters=1", "unknown field of axis x"),
        ("seed=1,1", "names a value twice"),
        ("seed=5..1", "holds -3 values"),
        ("seed=1..5000", "holds 5000 values"),
        ("weight:c=1", "unknown LoRA of an axis in here 'c'"),
        ("method=merge,switch:interval=0", "axis x: method 'switch': interval"),
        ("method=switch:interval", "axis x: method 'switch:interval': write NAME:KEY=VALUE"),
        ("method=swich", "axis x: unknown method 'swich'; did you mean 'switch'"),
    ],
)
def test_mistakes_of_axes(text: str, message: str) -> None:
    with pytest.raises(ZooError, match=message):
        placed({"adapters": [{"name": "a"}]}, text)
