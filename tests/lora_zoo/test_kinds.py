"""Every kind of adapter against its formula, written out again here in float64, on linear layers and convolutions."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lora_zoo import formats
from lora_zoo.adapter import Adapter, BaseLayer, LowRank, ModelLayout
from lora_zoo.errors import BadFile
from tests.lora_zoo.files import write

SHAPES = {"linear": (12, 8), "conv": (12, 8, 3, 3), "wide": (8, 24)}
Parts = dict[str, Tensor]
Formula = Callable[[Parts, Tensor], Tensor]
RANK, ALPHA = 2, 3.0


def randn(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed + sum(size * 10**place for place, size in enumerate(shape)))
    return torch.randn(*shape, generator=generator)


def layout(shape: tuple[int, ...], bias: Tensor | None = None) -> tuple[ModelLayout, Tensor]:
    weight = randn(*shape, seed=7)
    return ModelLayout({"unet": {"conv_in": shape}}, lambda component, path: BaseLayer(weight, bias)), weight


def parts_of(kind: str, shape: tuple[int, ...]) -> Parts:
    """Make the parts of one layer of a kind; some kinds have several forms."""
    out, inside, *kernel = shape
    ones = [1] * len(kernel)
    size = torch.Size(kernel).numel()
    lora = {"lora_down.weight": randn(RANK, inside, *kernel), "lora_up.weight": randn(out, RANK, *ones, seed=1)}
    loha = {
        f"hada_w{n}_{p}": randn(*s, seed=n)
        for n in (1, 2)
        for p, s in (("a", (out, RANK)), ("b", (RANK, inside * size)))
    }
    made: dict[str, Parts] = {
        "lora": lora,
        "tucker": {
            "lora_down.weight": randn(RANK, inside, *ones),
            "lora_mid.weight": randn(RANK, RANK, *kernel),
            "lora_up.weight": randn(out, RANK, *ones, seed=1),
        },
        "loha": loha,
        "loha-tucker": {
            **{f"hada_w{n}_a": randn(RANK, out, seed=n) for n in (1, 2)},
            **{f"hada_w{n}_b": randn(RANK, inside, seed=n + 2) for n in (1, 2)},
            **{f"hada_t{n}": randn(RANK, RANK, *kernel, seed=n) for n in (1, 2)},
        },
        "lokr": {"lokr_w1": randn(4, 2), "lokr_w2": randn(out // 4, inside // 2, *kernel)},
        "lokr-half": {
            "lokr_w1": randn(4, 2),
            "lokr_w2_a": randn(out // 4, RANK),
            "lokr_w2_b": randn(RANK, inside // 2 * size),
        },
        "lokr-both": {
            "lokr_w1_a": randn(4, RANK),
            "lokr_w1_b": randn(RANK, 2),
            "lokr_w2_a": randn(out // 4, RANK),
            "lokr_w2_b": randn(RANK, inside // 2 * size),
        },
        "lokr-tucker": {
            "lokr_w1": randn(4, 2),
            "lokr_w2_a": randn(RANK, out // 4),
            "lokr_w2_b": randn(RANK, inside // 2),
            "lokr_t2": randn(RANK, RANK, *kernel),
        },
        "full": {"diff": randn(*shape)},
        "dora": {**lora, "dora_scale": randn(out, 1, *ones).abs()},
        "dora-columns": {**lora, "dora_scale": randn(1, inside, *ones).abs()},
        "dora-peft": {**lora, "lora_magnitude_vector": randn(out).abs()},
        "dora-loha": {**loha, "dora_scale": randn(out, 1, *ones).abs()},
        "ia3-in": {"weight": randn(inside), "on_input": torch.tensor(1)},
        "ia3-out": {"weight": randn(1, out, *ones) if kernel else randn(out), "on_input": torch.tensor(0)},
        "oft": {"oft_blocks": randn(out // 4, 4, 4)},
        "oft-rescaled": {"oft_blocks": randn(out // 4, 4, 4), "rescale": randn(out, 1, *ones)},
        "boft": {"oft_blocks": randn(2, out // 2, 2, 2)},
        "glora": {
            **{"a1.weight": randn(inside, RANK, *ones), "a2.weight": randn(RANK, inside, *ones)},
            **{"b1.weight": randn(out, RANK, *ones), "b2.weight": randn(RANK, inside, *kernel)},
        },
    }
    return made[kind]


def outer(up: Tensor, down: Tensor) -> Tensor:
    return torch.einsum("or,r...->o...", up.flatten(1), down)


def hadamard(p: Parts, weight: Tensor) -> Tensor:
    return (p["hada_w1_a"] @ p["hada_w1_b"] * (p["hada_w2_a"] @ p["hada_w2_b"])).reshape(weight.shape)


def kron(first: Tensor, second: Tensor, weight: Tensor) -> Tensor:
    rows = [torch.cat([value * second for value in row], 1) for row in first]
    return torch.cat(rows, 0).reshape(weight.shape)


def tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.einsum("ia,ij...,jb->ab...", a, core, b)


def with_lengths(weight: Tensor, lengths: Tensor, axis: int) -> Tensor:
    """Give the slices of a weight along an axis new lengths, one by one."""
    slices = [
        piece / piece.square().sum().sqrt() * length for piece, length in zip(weight.unbind(axis), lengths, strict=True)
    ]
    return torch.stack(slices, axis)


def dora(p: Parts, weight: Tensor, delta: Tensor) -> Tensor:
    lengths = p.get("dora_scale", p.get("lora_magnitude_vector", weight))
    axis = 1 if lengths.shape[0] == 1 else 0
    return with_lengths(weight + delta, lengths.flatten(), axis) - weight


def rotated(p: Parts, weight: Tensor) -> Tensor:
    """Turn blocks of outputs by Cayley transforms whose common norm alpha * outputs bounds."""
    skew = p["oft_blocks"] - p["oft_blocks"].mT
    skew = skew * min(1.0, ALPHA * weight.shape[0] / float(skew.square().sum().sqrt()))
    eye = torch.eye(4, dtype=torch.float64)
    turn = torch.block_diag(*[(eye + q) @ (eye - q).inverse() for q in skew])
    return (turn.T @ weight.flatten(1)).reshape(weight.shape) * p.get("rescale", torch.ones(1)) - weight


def butterfly(p: Parts, weight: Tensor) -> Tensor:
    """Turn pairs of outputs, in stage s those that lie 2^s apart."""
    skew = p["oft_blocks"] - p["oft_blocks"].mT
    skew = skew * min(1.0, ALPHA * weight.shape[0] / float(skew.square().sum().sqrt()))
    eye, rows = torch.eye(2, dtype=torch.float64), weight.flatten(1).clone()
    for stage, blocks in enumerate(skew):
        firsts = [row for row in range(len(rows)) if not row >> stage & 1]
        for q, first in zip(blocks, firsts, strict=True):
            pair = [first, first + 2**stage]
            rows[pair] = (eye + q) @ (eye - q).inverse() @ rows[pair]
    return rows.reshape(weight.shape) - weight


S = ALPHA / RANK
LORA: Formula = lambda p, w: outer(p["lora_up.weight"], p["lora_down.weight"]) * S  # noqa: E731
FORMULAS: dict[str, Formula] = {
    "lora": LORA,
    "tucker": lambda p, w: (
        S * tucker(p["lora_mid.weight"], p["lora_up.weight"].flatten(1).T, p["lora_down.weight"].flatten(1))
    ),
    "loha": lambda p, w: hadamard(p, w) * S,
    "loha-tucker": lambda p, w: (
        S * tucker(p["hada_t1"], p["hada_w1_a"], p["hada_w1_b"]) * tucker(p["hada_t2"], p["hada_w2_a"], p["hada_w2_b"])
    ),
    "lokr": lambda p, w: kron(p["lokr_w1"], p["lokr_w2"].flatten(1), w),
    "lokr-half": lambda p, w: kron(p["lokr_w1"], p["lokr_w2_a"] @ p["lokr_w2_b"], w) * S,
    "lokr-both": lambda p, w: kron(p["lokr_w1_a"] @ p["lokr_w1_b"], p["lokr_w2_a"] @ p["lokr_w2_b"], w) * S,
    "lokr-tucker": lambda p, w: (
        S * kron(p["lokr_w1"], tucker(p["lokr_t2"], p["lokr_w2_a"], p["lokr_w2_b"]).flatten(1), w)
    ),
    "full": lambda p, w: p["diff"],
    "dora": lambda p, w: dora(p, w, LORA(p, w)),
    "dora-columns": lambda p, w: dora(p, w, LORA(p, w)),
    "dora-peft": lambda p, w: dora(p, w, LORA(p, w)),
    "dora-loha": lambda p, w: dora(p, w, hadamard(p, w) * S),
    "ia3-in": lambda p, w: torch.stack([c * x for c, x in zip(w.unbind(1), p["weight"].flatten(), strict=True)], 1),
    "ia3-out": lambda p, w: torch.stack([r * x for r, x in zip(w, p["weight"].flatten(), strict=True)]),
    "oft": rotated,
    "oft-rescaled": rotated,
    "boft": butterfly,
    "glora": lambda p, w: (
        S
        * (
            torch.einsum("oi...,ij->oj...", w, p["a1.weight"].flatten(1) @ p["a2.weight"].flatten(1))
            + outer(p["b1.weight"], p["b2.weight"])
        )
    ),
}
CASES = [
    (kind, form)
    for kind in FORMULAS
    for form in SHAPES
    if not ("tucker" in kind and form != "conv") and not (kind == "boft" and form == "wide")
]


def read_one(tmp_path: Path, parts: Parts, at: ModelLayout) -> Adapter:
    tensors = {f"lora_unet_conv_in.{name}": tensor for name, tensor in parts.items()}
    return formats.read(write(tmp_path / "a.safetensors", tensors), at)


@pytest.mark.parametrize(("kind", "form"), CASES)
def test_a_delta_is_what_the_formula_says(kind: str, form: str, tmp_path: Path) -> None:
    at, weight = layout(SHAPES[form])
    parts = parts_of(kind, SHAPES[form])
    delta = read_one(tmp_path, parts | {"alpha": torch.tensor(ALPHA)}, at).component("unet")["conv_in"].dense()
    wanted = FORMULAS[kind]({name: part.double() for name, part in parts.items()}, weight.double())
    assert delta.shape == weight.shape
    assert float((delta.double() - wanted).abs().max()) <= 1e-6 * max(1.0, float(wanted.abs().max()))


def test_what_is_exactly_of_low_rank_stays_so_where_that_is_smaller(tmp_path: Path) -> None:
    shape = (64, 64)
    for kind, rank in (("loha", RANK**2), ("lokr-half", 2 * RANK), ("lokr-both", RANK**2)):
        delta = read_one(tmp_path, parts_of(kind, shape), layout(shape)[0]).component("unet")["conv_in"]
        assert isinstance(delta, LowRank)
        assert delta.rank == rank


@pytest.mark.parametrize("kind", ["dora", "ia3-in", "oft", "boft", "glora"])
def test_a_relative_kind_needs_the_model(kind: str, tmp_path: Path) -> None:
    shape = SHAPES["linear"]
    tensors = {f"lora_unet_conv_in.{name}": part for name, part in parts_of(kind, shape).items()}
    with pytest.raises(BadFile, match="needs a model in memory"):
        formats.read(write(tmp_path / "a.safetensors", tensors), {"unet": {"conv_in": shape}})


@pytest.mark.parametrize("kind", sorted(set(FORMULAS) - {"full"}))
def test_a_part_too_few_or_of_another_shape_is_refused(kind: str, tmp_path: Path) -> None:
    shape = SHAPES["conv"]
    at, _ = layout(shape)
    parts = parts_of(kind, shape)
    for name in parts:
        others: list[Parts] = [parts | {name: torch.ones(5, 7)}]
        if not name.startswith(("rescale", "dora", "lora_magnitude", "lora_mid")):
            others.append({key: value for key, value in parts.items() if key != name})
        for broken in others:
            with pytest.raises(BadFile):
                read_one(tmp_path, broken, at)


def test_stretched_outputs_with_a_bias_are_refused(tmp_path: Path) -> None:
    at, _ = layout((12, 8), bias=torch.ones(12))
    with pytest.raises(BadFile, match="bias as well"):
        read_one(tmp_path, {"ia3_l": randn(12, 1)}, at)
    assert read_one(tmp_path, {"ia3_l": randn(1, 8)}, at).component("unet")
