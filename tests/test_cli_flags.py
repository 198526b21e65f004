"""How what is typed is read."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import BadRequest
from pipelines.cli_flags import parse_lora, parse_settings, parse_size


@pytest.mark.parametrize(
    ("text", "name", "weights"),
    [
        ("zorp", "zorp", ()),
        ("zorp:0.8", "zorp", (0.8,)),
        ("zorp:0.8:-0.5", "zorp", (0.8, -0.5)),
        ("dir/zorp.safetensors:1", "dir/zorp.safetensors", (1.0,)),
        ("C:\\loras\\zorp.safetensors:1:0", "C:\\loras\\zorp.safetensors", (1.0, 0.0)),
        ("C:\\loras\\zorp.safetensors", "C:\\loras\\zorp.safetensors", ()),
    ],
)
def test_a_lora_is_a_name_and_up_to_two_weights(text: str, name: str, weights: tuple[float, ...]) -> None:
    assert tuple(parse_lora(text).values()) == (name, *weights)


@settings(max_examples=40)
@given(st.from_regex(r"[a-z][a-z_0-9]{0,20}", fullmatch=True), st.floats(-9, 9), st.floats(-9, 9))
def test_weights_are_read_exactly(name: str, weight: float, text_weight: float) -> None:
    assert tuple(parse_lora(f"{name}:{weight!r}:{text_weight!r}").values()) == (name, weight, text_weight)


def test_settings_are_json_or_text() -> None:
    settings = parse_settings(("a=2", "b=true", "c=mean", "d=[1, 2]", "e=NaN", "f="))
    assert settings == {"a": 2, "b": True, "c": "mean", "d": [1, 2], "e": "NaN", "f": ""}


@pytest.mark.parametrize("value", ["[" * 100 + "]" * 100, '{"a": 1, "a": 2}', '"\\ud800"', "9" * 5000])
def test_settings_that_readers_take_otherwise_are_mistakes(value: str) -> None:
    with pytest.raises(BadRequest, match=r"^--set key: "):
        parse_settings((f"key={value}",))


def test_sizes() -> None:
    assert parse_size("64x128") == (64, 128)
    for wrong in ("64", "64x", "64×64", "-8x8", "6.4x8"):
        with pytest.raises(BadRequest, match="WIDTHxHEIGHT"):
            parse_size(wrong)
