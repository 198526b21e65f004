"""What is written in a dialect is read back with the same deltas."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lora_zoo import formats
from lora_zoo.errors import BadFile
from lora_zoo.writer import Dialect, Factors, write

_LAYOUT = {
    "unet": {"down_blocks.0.attn.to_q": (8, 6), "down_blocks.0.resnets.0.conv1": (8, 4, 3, 3), "proj_in": (8, 8, 1, 1)},
    "text_encoder": {"encoder.layers.0.self_attn.q_proj": (6, 6)},
}


def _factors(shape: tuple[int, ...], rank: int, alpha: float) -> Factors:
    generator = torch.Generator().manual_seed(rank)
    down = torch.randn(rank, *shape[1:], generator=generator).half().float()
    up = torch.randn(shape[0], rank, generator=generator).half().float()
    return Factors(down, up[..., None, None] if len(shape) == 4 else up, alpha)


@pytest.mark.parametrize("dialect", ["kohya", "diffusers", "peft"])
def test_round_trip(dialect: Dialect, tmp_path: Path) -> None:
    components = ("unet",) if dialect == "peft" else ("unet", "text_encoder")
    layers = {
        c: {path: _factors(shape, 2 + i, 1.0 + i) for i, (path, shape) in enumerate(_LAYOUT[c].items())}
        for c in components
    }
    path = write(tmp_path / ("lora" if dialect == "peft" else "lora.safetensors"), layers, dialect, {"a": "b"})
    read = formats.read(path, _LAYOUT)
    for component, paths in layers.items():
        assert set(read.component(component)) == set(paths)
        for name, one in paths.items():
            shape = _LAYOUT[component][name]
            expected = (one.up.flatten(1) @ one.down.flatten(1)).reshape(shape) * (
                (one.alpha or 0.0) / one.down.shape[0]
            )
            torch.testing.assert_close(read.component(component)[name].dense(), expected, rtol=2e-3, atol=2e-3)


def test_values_that_the_type_cannot_hold_are_refused(tmp_path: Path) -> None:
    one = _factors((8, 6), 2, 2.0)
    layers = {"unet": {"down_blocks.0.attn.to_q": Factors(one.down, one.up * 1e6, None)}}
    with pytest.raises(BadFile, match=r"lora_up\.weight: its values leave the range of float16; float32 holds"):
        write(tmp_path / "one.safetensors", layers, "kohya", {})
    assert not list(tmp_path.iterdir())
    write(tmp_path / "one.safetensors", layers, "kohya", {}, "bfloat16")


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    layers = {"unet": {"down_blocks.0.attn.to_q": _factors((8, 6), 2, 2.0)}}
    write(tmp_path / "one.safetensors", layers, "kohya", {})
    assert [p.name for p in tmp_path.iterdir()] == ["one.safetensors"]
