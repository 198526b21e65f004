"""Whatever is typed, a command ends by its own words: arguments drawn at random, and the worst by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.cli import main
from tests.stand_ins import model_without_weights, two_loras

OPTIONS = """--from --prompt --negative --undesired --undesired-strength --syntax --wildcards --lora --words --blocks
--during --region --region-prompt --method --set --text-policy --steps --guidance --guidance-rescale --size --init
--mask --strength --hires --hires-strength --hires-steps --hires-upscaler --scheduler --prediction --original-size
--crop --target-size --seed --count --dtype --attention --offload --zoo --out --format --findings""".split()
DIGITS = "9" * 5000
WORST = [
    DIGITS,
    f"-{DIGITS}",
    f"zorp={DIGITS}",
    f"zorp:{DIGITS}",
    f"{DIGITS}x{DIGITS}",
    f"{DIGITS},{DIGITS}",
    f"zorp={DIGITS}-{DIGITS}",
    f"zorp=1@{DIGITS}",
    f"zorp=IN00:{DIGITS}",
    f"interval={DIGITS}",
    f"({'x' * 10}:{DIGITS})",
    f"[a:b:{DIGITS}]",
    f"<lora:zorp:{DIGITS}>",
    "interval=" + "[" * 50_000,
    "x" * 5000,
    "x/" * 2000,
    "(" * 500,
    "\udce9",
    "zorp=\udce9",
    "\x00",
    "\x1b[31m",
    "",
    "=",
    ":",
    "zorp=",
    "-1",
    "nan",
    "inf",
    "1e400",
    "--help",
]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("MEDLEY_CACHE", str(tmp_path / "cache"))
    model = model_without_weights(tmp_path / "model")
    two_loras(tmp_path, monkeypatch)
    return ["render", "--model", model, "--prompt", "zorp", "--lora", "zorp", "--dry-run"]


def check(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main(arguments)
    said = capsys.readouterr()
    assert code in (0, 1, 2), arguments
    assert "Traceback" not in said.err and "a fault of Medley's own" not in said.err, (arguments, said.err)
    assert code == 0 or said.err or said.out
    assert len(said.err) < 20_000, arguments
    assert "\x1b" not in said.err
    said.err.encode("utf-8")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("option", OPTIONS)
def test_the_worst_values_of_every_option(option: str, command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for value in WORST:
        check([*command, f"{option}={value}"], capsys)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "other",
    [
        ["inspect"],
        ["list"],
        ["merge", "-o", "x.safetensors"],
        ["merge", "zorp", "trident", "--rank"],
        ["check", "--lora"],
        ["zoo", "scan", "--zoo"],
        ["zoo", "show", "--zoo", "."],
        ["batch", "--dry-run"],
        ["batch", "status"],
    ],
    ids=" ".join,
)
def test_the_worst_arguments_of_other_commands(
    other: list[str], command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for value in WORST:
        check([*other, value], capsys)


text = st.text(st.characters(blacklist_characters="\x00", blacklist_categories=()), max_size=12)
signs = st.text("zorp=:@,;-.0123456789[](){}<>|\\/_~$^*\"' ", max_size=24)


@pytest.mark.thorough
@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.tuples(st.sampled_from(OPTIONS), st.one_of(text, signs)), min_size=1, max_size=3))
def test_any_arguments(command: list[str], capsys: pytest.CaptureFixture[str], drawn: list[tuple[str, str]]) -> None:
    if sys.platform == "win32":
        pytest.skip("names of files are others there")
    check([*command, *(f"{option}={value}" for option, value in drawn)], capsys)
