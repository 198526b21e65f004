"""Every dialect gives the same deltas; every doubt about a file is an error that names the keys."""

import hashlib
import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lora_zoo import formats
from lora_zoo.adapter import Adapter, LowRank, partial_digest
from lora_zoo.errors import BadFile, ZooError, nearest
from tests.lora_zoo.files import DIALECTS, LAYOUT, Made, make, write

KOHYA = DIALECTS["kohya"]
Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def flat(adapter: Adapter) -> dict[tuple[str, str], Tensor]:
    return {(c, path): delta.dense() for c, deltas in adapter.layers.items() for path, delta in deltas.items()}


def assert_same(adapter: Adapter, made: Made, tolerance: float = 1e-6) -> None:
    found = flat(adapter)
    assert found.keys() == made.deltas.keys()
    for target, wanted in made.deltas.items():
        assert found[target].shape == LAYOUT[target[0]][target[1]]
        torch.testing.assert_close(found[target], wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", DIALECTS)
def test_every_dialect_gives_alpha_over_rank_times_up_down(name: str, tmp_path: Path) -> None:
    made = make(DIALECTS[name])
    path = write(tmp_path / "a.safetensors", made.tensors)
    adapter = formats.read(path, LAYOUT)
    assert_same(adapter, made)
    assert adapter.name == "a"
    assert adapter.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    info = formats.describe(path)
    assert (info.dialect, info.kind, info.sha256) == (DIALECTS[name].name, "lora", adapter.digest)
    assert info.modules == len(made.deltas)
    assert info.ranks == (1, 3)
    assert info.components == tuple(adapter.layers)


@pytest.mark.parametrize("name", ["kohya", "diffusers", "diffusers-text-model", "diffusers-linear-layer"])
def test_text_model_prefix_is_optional_on_both_sides(name: str, tmp_path: Path) -> None:
    made = make(DIALECTS[name])
    path = write(tmp_path / "a.safetensors", made.tensors)
    before_transformers_5 = {f"text_model.{layer}": shape for layer, shape in LAYOUT["text_encoder"].items()}
    old = formats.read(path, {**LAYOUT, "text_encoder": before_transformers_5})
    new = formats.read(path, LAYOUT)
    for layer, delta in new.component("text_encoder").items():
        torch.testing.assert_close(old.component("text_encoder")[f"text_model.{layer}"].dense(), delta.dense())


def test_factors_are_float32_with_kernel_in_down(tmp_path: Path) -> None:
    made = make(KOHYA, dtype=torch.float16)
    adapter = formats.read(write(tmp_path / "a.safetensors", made.tensors), LAYOUT, "mine")
    assert_same(adapter, made)
    conv = adapter.component("unet")["down_blocks.0.resnets.0.conv1"]
    assert isinstance(conv, LowRank)
    assert adapter.name == "mine"
    assert (conv.down.shape, conv.up.shape) == ((conv.rank, 8, 3, 3), (8, conv.rank))
    assert conv.down.dtype == conv.up.dtype == torch.float32


def test_linear_layers_and_1x1_convolutions_may_swap_shapes(tmp_path: Path) -> None:
    made = make(KOHYA)
    stem = "lora_unet_down_blocks_0_attentions_0_proj_in"
    for key, change in ((stem, lambda t: t.flatten(1)), (Q, lambda t: t[:, :, None, None])):
        for part in ("down", "up"):
            made.tensors[f"{key}.lora_{part}.weight"] = change(made.tensors[f"{key}.lora_{part}.weight"])
    assert_same(formats.read(write(tmp_path / "a.safetensors", made.tensors), LAYOUT), made)


def test_no_alpha_and_alpha_zero_mean_alpha_is_rank(tmp_path: Path) -> None:
    made = make(KOHYA)
    deltas = {}
    for with_zero in (True, False):
        kept = {k: v * 0 if k.endswith(".alpha") else v for k, v in made.tensors.items()}
        tensors = {k: v for k, v in kept.items() if with_zero or not k.endswith(".alpha")}
        deltas[with_zero] = flat(formats.read(write(tmp_path / f"{with_zero}.safetensors", tensors), LAYOUT))
    wanted = made.tensors[f"{Q}.lora_up.weight"] @ made.tensors[f"{Q}.lora_down.weight"]
    for found in deltas.values():
        torch.testing.assert_close(found["unet", next(p for _, p in found if p.endswith("attn1.to_q"))], wanted)


def test_diffusers_metadata_holds_for_its_own_component(tmp_path: Path) -> None:
    made = make(DIALECTS["diffusers-text-model"])
    stated = {"unet.lora_alpha": 4, "text_encoder.lora_alpha": 10, "text_encoder.alpha_pattern": {"mlp.fc1": 5}}
    path = write(tmp_path / "a.safetensors", made.tensors, {"lora_adapter_metadata": json.dumps(stated)})
    for (component, layer), delta in flat(formats.read(path, LAYOUT)).items():
        spelled = DIALECTS["diffusers-text-model"].spell(component, layer)
        alpha = 4 if component == "unet" else 5 if layer.endswith("fc1") else 10
        rank = made.tensors[f"{spelled}.lora_A.weight"].shape[0]
        torch.testing.assert_close(delta, made.deltas[component, layer] * alpha / rank)


Change = Callable[[dict[str, Tensor]], object]

REFUSED: dict[str, tuple[Change, str]] = {
    "unknown layer": (lambda t: t.update({"lora_unet_nowhere.lora_down.weight": torch.ones(1, 1)}), "nowhere"),
    "unknown suffix": (lambda t: t.update({"bundle_emb.x.string_to_param": torch.ones(1)}), "no layer of this model"),
    "a word of another width": (lambda t: t.update({"bundle_emb.x.emb_params": torch.ones(2, 9)}), "'x'.*\\[n, 12\\]"),
    "a word for another encoder": (
        lambda t: t.update({"bundle_emb.x.clip_g": torch.ones(2, 8)}),
        "for text_encoder_2",
    ),
    "a word that is no number": (
        lambda t: t.update({"bundle_emb.x.clip_l": torch.full((2, 12), torch.nan)}),
        "not finite",
    ),
    "other component": (lambda t: t.update({"lora_te2_text_projection.alpha": torch.ones(())}), "lora_te2"),
    "down without up": (lambda t: t.pop(f"{Q}.lora_up.weight"), "has no up"),
    "up without down": (lambda t: t.pop(f"{Q}.lora_down.weight"), "has no down"),
    "alpha alone": (lambda t: [t.pop(f"{Q}.lora_{p}.weight") for p in ("up", "down")], "has no down and no up"),
    "wrong width": (lambda t: t.update({f"{Q}.lora_down.weight": torch.ones(1, 9)}), "do not fit"),
    "wrong height": (lambda t: t.update({f"{Q}.lora_up.weight": torch.ones(9, 1)}), "do not fit"),
    "unequal ranks": (lambda t: t.update({f"{Q}.lora_down.weight": torch.ones(7, 8)}), "do not fit"),
    "no rank": (lambda t: t.update({f"{Q}.lora_down.weight": torch.ones(0, 8)}), "a tensor of nothing"),
    "a scalar": (lambda t: t.update({f"{Q}.lora_down.weight": torch.ones(())}), "do not fit"),
    "not a number": (lambda t: t[f"{Q}.lora_up.weight"].fill_(torch.nan), "not finite"),
    "infinite": (lambda t: t[f"{Q}.lora_down.weight"].fill_(torch.inf), "not finite"),
    "alpha not finite": (lambda t: t[f"{Q}.alpha"].fill_(torch.nan), "alpha"),
    "alpha not one": (lambda t: t.update({f"{Q}.alpha": torch.ones(2)}), "alpha"),
    "integers": (lambda t: t.update({f"{Q}.lora_up.weight": torch.ones(8, 1, dtype=torch.int8)}), "floating"),
    "same layer twice": (
        lambda t: t.update({"unet.conv_in.lora_A.weight": torch.ones(1, 4, 3, 3)}),
        "several keys for the same part of conv_in",
    ),
    "nothing": (lambda t: t.clear(), "no tensors"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_does_not_fit_entirely_is_refused(case: str, tmp_path: Path) -> None:
    change, wanted = REFUSED[case]
    tensors = make(KOHYA).tensors
    change(tensors)
    path = write(tmp_path / "a.safetensors", tensors)
    with pytest.raises(BadFile, match=wanted) as error:
        formats.read(path, LAYOUT)
    assert str(path) in str(error.value)


def test_many_offending_keys_are_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", make(KOHYA).tensors)
    with pytest.raises(BadFile, match=r"\(21 in all\)"):
        formats.read(path, {"text_encoder": LAYOUT["text_encoder"]})


@pytest.mark.parametrize(
    ("key", "why"),
    [
        (f"{Q}.w_norm", "normalisation layers"),
        ("lora_unet_norm_out.b_norm", "normalisation layers"),
        ("text_encoder.embeddings.lora_embedding_A", "token embeddings"),
        (f"{Q}.diff_b", "bias"),
        (f"{Q}.hada_w1_a", "several kinds at once, loha and lora"),
        (f"{Q}.scalar", r"unknown tensor ending '\.scalar'"),
        ("down_blocks.0.resnets.0.conv1.weight", r"unknown tensor ending '\.weight'"),
        ("unet.down_blocks.0.resnets.0.conv1.lora_A.x.y", r"unknown tensor ending '\.lora_A\.x\.y'"),
        ("down_blocks.9.resnets.0.conv1.odd", "keys that match no layer of this model: down_blocks.9"),
    ],
)
def test_what_adapters_cannot_do_is_refused_with_the_reason(key: str, why: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", make(KOHYA).tensors | {key: torch.ones(1)})
    with pytest.raises(BadFile, match=why):
        formats.read(path, LAYOUT)


@pytest.mark.parametrize("stem", ["lora_unet_nowhere", "lora_te2_text_model_encoder_layers_0_mlp_fc1"])
def test_a_change_by_nothing_of_what_the_model_lacks_is_no_change(stem: str, tmp_path: Path) -> None:
    made, ones, zeros = make(KOHYA), torch.ones(2, 3), torch.zeros(3, 2)
    nothing = {f"{stem}.lora_down.weight": ones, f"{stem}.lora_up.weight": zeros, f"{stem}.alpha": torch.tensor(1.0)}
    path = tmp_path / "a.safetensors"
    assert_same(formats.read(write(path, made.tensors | nothing), LAYOUT), made)
    dora = {f"{stem}.dora_scale": torch.ones(3, 1)}  # turns lengths, whatever the factors are
    something = nothing | {f"{stem}.lora_up.weight": torch.ones(3, 2)}
    for extra in (something, nothing | dora, {f"{stem}.alpha": torch.tensor(1.0)}):
        with pytest.raises(BadFile, match=f"match no layer of this model: {stem}"):
            formats.read(write(path, made.tensors | extra), LAYOUT)


def test_pefts_keys_without_a_configuration_are_told(tmp_path: Path) -> None:
    made = make(DIALECTS["peft"])
    adapter = formats.read(write(tmp_path / "a.safetensors", made.tensors), LAYOUT)
    assert_same(adapter, made)
    told = "its keys are PEFT's, but no adapter_config.json is beside it: alpha is unknown, and taken as the rank"
    assert adapter.notices == (f"LoRA 'a': {told}",)
    assert formats.read(write(tmp_path / "b.safetensors", make(KOHYA).tensors), LAYOUT).notices == ()


def test_a_file_of_several_adapters_is_refused(tmp_path: Path) -> None:
    stem = "base_model.model.conv_in"
    both = {f"{stem}.lora_A.{name}.weight": torch.ones(1, 4, 3, 3) for name in ("one", "two")}
    with pytest.raises(BadFile, match="holds several adapters: one, two"):
        formats.read(write(tmp_path / "a.safetensors", both), LAYOUT)


def test_a_file_is_used_without_its_unreadable_part_if_that_is_asked_for(tmp_path: Path) -> None:
    made = make(KOHYA)
    extra = {f"{Q}.odd": torch.ones(1), "lora_unet_nowhere.lora_up.weight": torch.ones(1, 1)}
    bad = {"lora_unet_conv_in.lora_up.weight": torch.ones(3, 3)}  # of a layer that the model has
    path = write(tmp_path / "a.safetensors", made.tensors | extra | bad)
    with pytest.raises(BadFile):
        formats.read(path, LAYOUT)
    adapter = formats.read(path, LAYOUT, allow_partial=True)
    wanted = {target: delta for target, delta in made.deltas.items() if target != ("unet", "conv_in")}
    assert_same(adapter, Made(made.tensors, wanted))
    sound = formats.describe(path).sha256
    assert adapter.digest == partial_digest(sound) != sound
    told = "LoRA 'a': used without what cannot be read of it: "
    assert [notice.removeprefix(told).partition(":")[0] for notice in adapter.notices] == [
        "keys that match no layer of this model",
        "unknown tensor ending '.odd'",
        "layers that cannot be used",
    ]
    with pytest.raises(BadFile, match="match no layer"):  # of which nothing is left
        formats.read(write(path, {"lora_unet_nowhere.lora_up.weight": torch.ones(1, 1)}), LAYOUT, allow_partial=True)


@pytest.mark.parametrize(
    ("tensors", "what"),
    [
        ({"emb_params": torch.ones(8, 768)}, "a textual inversion, 8 vectors of width 768"),
        ({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)}, "a textual inversion, 2 vectors of width 1280"),
        ({"<zorp>": torch.ones(768)}, "a textual inversion, 1 vector of width 768"),
        ({"model.diffusion_model.out.2.bias": torch.ones(4)}, "a whole model, not a LoRA"),
        ({"control_model.input_blocks.0.0.weight": torch.ones(4)}, "a ControlNet"),
        ({"decoder.conv_in.weight": torch.ones(4)}, "one component of a model"),
    ],
    ids=["inversion", "SDXL's inversion", "diffusers' inversion", "model", "ControlNet", "component"],
)
def test_what_is_no_lora_is_named_for_what_it_is(tensors: dict[str, Tensor], what: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", tensors)
    for look in (lambda: formats.describe(path), lambda: formats.read(path, LAYOUT)):
        with pytest.raises(BadFile, match=what):
            look()


def test_a_change_of_bias_by_nothing_is_no_change(tmp_path: Path) -> None:
    made = make(KOHYA)
    path = write(tmp_path / "a.safetensors", made.tensors | {f"{Q}.diff_b": torch.zeros(8)})
    assert_same(formats.read(path, LAYOUT), made)


def test_a_file_for_another_family_is_named(tmp_path: Path) -> None:
    stem = "lora_unet_down_blocks_2_attentions_0_transformer_blocks_0_attn2_to_k"
    sdxl = {f"{stem}.lora_down.weight": torch.ones(1, 2048), f"{stem}.lora_up.weight": torch.ones(8, 1)}
    flux = {"lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight": torch.ones(1, 8)}
    sd15 = {"unet": {stem.removeprefix("lora_unet_").replace("_to_k", ".to_k"): (8, 768)}}
    for name, tensors in (("sdxl", sdxl), ("flux", flux)):
        with pytest.raises(BadFile, match=f"made for {name}; this model is sd15"):
            formats.read(write(tmp_path / "a.safetensors", tensors), sd15)


def _head(text: str, data: bytes = b"", length: int | None = None) -> bytes:
    return (len(text) if length is None else length).to_bytes(8, "little") + text.encode() + data


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "empty"),
        (b"PK\x03\x04 and the rest of a zip", "pickle"),
        (pickle.dumps({"a": 1}), "pickle"),
        (b"some text that is long enough", "not a safetensors"),
        (_head("{}", length=1 << 40), "1,099,511,627,776 bytes"),
        (_head("{nonsense}"), "not JSON"),
        (_head('{"a": 3}'), "expected a JSON object"),
        (_head("{}", b"more"), "4 bytes at the end"),
        (_head('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"1234"), "outside the file"),
        (_head('{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}', b"1234"), "does not match"),
        (_head('{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}', b"1234"), "whole number"),
        (_head('{"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}}', b"1234"), "a.safetensors"),
        (_head('{"__metadata__": {"a": 1}}'), "expected text"),
    ],
)
def test_what_is_not_safetensors_is_refused_by_content(content: bytes, wanted: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    uses: list[Callable[[], object]] = [lambda: formats.read(path, LAYOUT), lambda: formats.describe(path)]
    for use in uses:
        with pytest.raises(BadFile, match=wanted):
            use()


def test_a_missing_file_and_a_truncated_one_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", make(KOHYA).tensors)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadFile):
        formats.read(path, LAYOUT)
    for missing in (tmp_path / "no.safetensors", tmp_path / ("long" * 99)):
        with pytest.raises(BadFile, match="no such file"):
            formats.read(missing, LAYOUT)


@pytest.mark.parametrize("module", ["catalog", "errors", "formats", "header", "describe"])
def test_looking_at_files_does_not_import_torch(module: str) -> None:
    code = f"import sys, lora_zoo.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0


def test_nearest_names_the_choice_meant() -> None:
    assert nearest("Mergee", ["switch", "merge"]) == "; did you mean 'merge'? Known: switch, merge."
    assert nearest("xyz", ["switch", "merge"]) == ". Known: switch, merge."
    assert nearest("x", []) == "; none is known"
    assert issubclass(BadFile, ZooError)
