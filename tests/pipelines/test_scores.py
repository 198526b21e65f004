"""Methods that blend predictions, through the engine: rows really saved, copies, orders, words and undesired ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import JsonValue
from torch import Tensor

from composer import words
from composer.errors import BadRequest
from composer.request import AdapterUse
from pipelines.bank import Gate
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from pipelines.pricing import Cost
from pipelines.text import Encoded, Vocabulary
from tests.adapters import Kind, Shelf, random_adapter
from tests.requests import ask, final_latents, uses
from tests.requests import told as notices_of

BLENDS: list[tuple[str, dict[str, JsonValue]]] = [
    ("composite", {}),
    ("composite", {"unconditional": "mean"}),
    ("composite", {"unconditional": "base"}),
    ("w_composite", {"pooling": "words"}),
    ("loratorio", {}),
    ("multlfg", {"temperature": 0.1}),
]
#: CMLoRA's turns have an order, and a sum of copies is not one of them: each belongs to one of the two tests.
TURNS: tuple[str, dict[str, JsonValue]] = ("cmlora", {"interval": 1, "order": "named"})
SUM: tuple[str, dict[str, JsonValue]] = ("merge", {})


def latents(engine: Engine, model: Path, **fields: Any) -> Tensor:
    return final_latents(engine, [ask(str(model), **fields)])[0]


def close(one: Tensor, other: Tensor, tolerance: float = 1e-4) -> bool:
    return float((one - other).abs().max()) <= tolerance


@pytest.mark.parametrize(
    ("method", "parameters", "passes", "rows"),
    [
        ("composite", {"unconditional": "each"}, 3, 6),
        ("composite", {"unconditional": "mean"}, 3, 4),
        ("composite", {"unconditional": "base"}, 3, 4),
        ("loratorio", {"recentring": 0.5}, 4, 8),
        ("loratorio", {"recentring": 1.0}, 4, 5),
        ("loratorio", {"recentring": 0.0}, 4, 7),
        ("multlfg", {}, 3, 6),
        ("w_composite", {}, 3, 6),
        ("w_switch", {}, 1, 2),
    ],
)
def test_rows_are_saved_where_they_are_said_to_be(
    method: str, parameters: dict[str, JsonValue], passes: int, rows: int, engine: Engine, small: LoadedModel
) -> None:
    seen: list[int] = []
    handle = small.unet.register_forward_hook(lambda _module, inputs, _out: seen.append(len(inputs[0])))
    request = ask(str(small.spec.path), method=method, parameters=parameters, adapters=uses(3))
    plain = request.model_copy(update={"guidance_scale": 1.0})
    try:
        record, unguided = engine.render(request).record, engine.render(plain).record
    finally:
        handle.remove()
    assert seen == [rows] * 3 + [passes] * 3
    assert (record.unet_passes, record.unet_rows, record.unet_calls) == (3 * passes, 3 * rows, 3)
    assert engine.dry_run(request) == Cost(3 * passes, 3 * rows, 3)
    assert engine.dry_run(plain) == Cost(3 * passes, 3 * passes, 3) and unguided.unet_rows == 3 * passes


@pytest.mark.parametrize(("method", "parameters"), [*BLENDS, TURNS])
def test_copies_are_one(method: str, parameters: dict[str, JsonValue], small: LoadedModel, small_folder: Path) -> None:
    """T2."""
    copies = [random_adapter(name, small.layout, Kind(3, 3.0), 5) for name in ("one", "two", "three")]
    engine = Engine(Shelf(copies), load=lambda spec: small)
    found = [
        latents(
            engine,
            small_folder,
            method=method,
            parameters=parameters,
            adapters=tuple(AdapterUse(name=copy.name, weight=0.8, words=("cat",)) for copy in copies[:count]),
        )
        for count in (1, 3)
    ]
    alone, together = found
    assert close(alone, together)


@pytest.mark.parametrize(("method", "parameters"), [*BLENDS, SUM])
def test_order_does_not_matter(
    method: str, parameters: dict[str, JsonValue], engine: Engine, small_folder: Path
) -> None:
    """T3, for what is not a merge of weights."""
    one, other = (
        latents(engine, small_folder, method=method, parameters=parameters, adapters=chosen)
        for chosen in (uses(3), uses(3)[::-1])
    )
    assert close(one, other)


def test_a_shared_unconditional_row_is_whose_it_is_said_to_be(engine: Engine, small_folder: Path) -> None:
    def found(method: str, count: int, **parameters: JsonValue) -> Tensor:
        return latents(engine, small_folder, method=method, parameters=parameters, adapters=uses(count))

    assert close(found("composite", 1, unconditional="mean"), found("merge", 1))
    assert close(found("composite", 1, unconditional="base"), found("loratorio", 1, recentring=1.0))
    each, mean, base = (found("composite", 2, unconditional=whose) for whose in ("each", "mean", "base"))
    assert not close(each, mean, 1e-3) and not close(each, base, 1e-3) and not close(mean, base, 1e-3)


@pytest.mark.parametrize("guidance", [1.0, 4.0])
def test_composite_is_the_mean_of_what_each_would_do(guidance: float, engine: Engine, small_folder: Path) -> None:
    """T8 and T6: after one step of DDIM, which is linear in the prediction; weights are kept, guided or not."""
    common: dict[str, Any] = {"num_inference_steps": 1, "guidance_scale": guidance, "text_encoder_adapters": "none"}
    each = [latents(engine, small_folder, adapters=(use,), scheduler="ddim", **common) for use in uses(3)]
    found = latents(engine, small_folder, method="composite", adapters=uses(3), scheduler="ddim", **common)
    assert close(found, torch.stack(each).mean(0), 1e-5 * float(found.abs().max()))
    assert all(not close(found, one, 1e-3) for one in each)


def test_without_guidance_nobody_needs_an_unconditional_row(engine: Engine, small_folder: Path) -> None:
    def found(**parameters: JsonValue) -> Tensor:
        return latents(
            engine, small_folder, method="composite", parameters=parameters, adapters=uses(2), guidance_scale=1.0
        )

    assert torch.equal(found(unconditional="each"), found(unconditional="base"))


@pytest.mark.parametrize("method", ["w_switch", "w_composite"])
def test_relevance_is_read_without_loras(
    method: str, engine: Engine, small: LoadedModel, small_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, Gate]] = []
    encode = small.encode_tokens

    def watched(tokens: Sequence[int], gate: Gate, more: Vocabulary) -> Encoded:
        read.append((small.words(tokens), gate))
        return encode(tokens, gate, more)

    monkeypatch.setattr(small, "encode_tokens", watched)
    engine.render(ask(str(small_folder), method=method, adapters=uses(2)))
    without = {text for text, gate in read if not gate}
    assert without == {"a cat on a mat", *(("cat", "mat") if method == "w_composite" else ("a on a mat", "a cat on a"))}
    assert {text for text, gate in read if gate} == {"a cat on a mat", ""}


def test_the_texts_own_tokens_are_counted(small: LoadedModel) -> None:
    assert small.encode("", ()).count == 0
    assert small.encode("cat on cat", ()).count == 3
    assert small.encode("cat " * 200, ()).count == 75
    assert small.encode("cat on", ()).text.own.shape == (2, 24)


def test_words_are_the_triggers_that_the_prompt_holds(engine: Engine, small_folder: Path) -> None:
    def own(prompt: str, *chosen: AdapterUse) -> list[tuple[str, ...] | None]:
        resolved = engine.resolve(ask(str(small_folder), prompt=prompt, adapters=chosen))
        assert [use.words for use in resolved.job.adapters] == [use.words for use in resolved.request.adapters]
        return [use.words for use in resolved.request.adapters]

    cat, mat = AdapterUse(name="lora0"), AdapterUse(name="lora1", words=(" a  dog ",))
    assert own("a CAT on a mat", cat, mat) == [("cat",), ("a  dog",)]
    assert own("catty mats", cat) == [()]
    assert words.found("a dog", ("a  dog",)) == ("a  dog",)


@pytest.mark.parametrize("method", ["w_switch", "w_composite"])
def test_missing_words_are_a_mistake_where_they_are_needed(method: str, engine: Engine, small_folder: Path) -> None:
    cat, dog = AdapterUse(name="lora0"), AdapterUse(name="lora1", words=("a mad",))
    for prompt, use, told in (
        ("a dog", cat, "'lora0': the method must know .* not in the prompt: 'cat'"),
        ("a mat", dog, "'lora1': the prompt does not hold its words 'a mad'; did you mean 'a mat'"),
    ):
        request = ask(str(small_folder), prompt=prompt, adapters=(use,))
        assert engine.resolve(request).job.adapters
        for act in (engine.resolve, engine.dry_run, engine.render):
            with pytest.raises(BadRequest, match=told):
                act(request.model_copy(update={"method": method}))


def test_undesired_words_are_taken_out_by_strength(engine: Engine, small_folder: Path) -> None:
    def found(**fields: Any) -> Tensor:
        return latents(engine, small_folder, adapters=uses(1), **fields)

    plain, none = found(), found(undesired="mat", undesired_strength=0.0)
    half, whole = (found(undesired="mat", undesired_strength=strength) for strength in (0.5, 1.0))
    assert close(plain, none, 0.0)
    assert not close(plain, half, 1e-4) and not close(half, whole, 1e-4)


def test_an_undesired_text_that_does_not_fit_is_told(engine: Engine, small_folder: Path) -> None:
    for syntax, said in (("plain", "is longer than the model reads"), ("a1111", "is read in 3 chunks")):
        request = ask(str(small_folder), undesired="a cat on a mat " * 30, prompt_syntax=syntax)
        (notice,) = notices_of(engine.render(request).record)
        assert f"the undesired text {said}" in notice
