"""The table of file formats: what reading each comes to, here and in diffusers. It is docs/formats.md."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from lora_zoo import formats
from lora_zoo.errors import ZooError
from pipelines import clip_tokens
from tests.lora_zoo.format_rows import FAMILIES, ROWS, UNET_ATTENTION, Deltas, Family, Format, Target, Tensors, family


def made(row: Format, one: Family, folder: Path) -> tuple[Path, Tensors, Deltas]:
    """Write a row's file; return it, its tensors and the deltas that they mean."""
    from safetensors.torch import save_file

    layers = {target: layer for target, layer in one.layers.items() if re.search(row.layers, target[1])}
    if row.config or row.layers == UNET_ATTENTION:
        layers = {target: layer for target, layer in layers.items() if target[0] == "unet"}
    if row.layers == ".":  # projections of whole texts are no layers that trainers change
        layers = {target: layer for target, layer in layers.items() if "text_projection" not in target[1]}
    tensors, deltas = row.make(one, layers)
    tensors = {key: value.contiguous() for key, value in tensors.items()}
    if row.config:
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "lora_alpha": 3}', "utf-8")
        save_file(tensors, folder / "adapter_model.safetensors")
        return folder, tensors, {target: delta * 1.5 for target, delta in deltas.items()}
    save_file(tensors, folder / "a.safetensors")
    return folder / "a.safetensors", tensors, deltas


def verdict(found: Mapping[Target, Tensor], wanted: Deltas) -> str:
    """Say how the deltas that act compare with those that a file means."""
    if not found:
        return "nothing applied, no error"
    missing = [target for target in wanted if target not in found]
    wrong = [target for target, delta in found.items() if target not in wanted or not _same(delta, wanted[target])]
    said = [f"{len(missing)} of {len(wanted)} layers not applied"] if missing else []
    said += [f"{len(wrong)} of {len(wanted)} layers wrong"] if wrong else []
    return ", ".join(said) if said else "exact"


def _same(found: Tensor, wanted: Tensor) -> bool:
    return float((found - wanted).abs().max()) <= 1e-6 * float(wanted.abs().max())


def ours(row: Format, name: str) -> str:
    """Return what reading a row's file here comes to."""
    one = family(name)
    with tempfile.TemporaryDirectory() as folder:
        path, _, wanted = made(row, one, Path(folder))
        try:
            adapter = formats.read(path, one.layout)
        except ZooError:
            return "refused, with the reason"
    found = {(c, path): delta.dense() for c, deltas in adapter.layers.items() for path, delta in deltas.items()}
    found |= {(c, path): change for c, changes in adapter.vectors.items() for path, change in changes.items()}
    return verdict(found, wanted)


def theirs(row: Format, name: str) -> str:
    """Return what diffusers makes of a row's file."""
    one = family(name)
    with tempfile.TemporaryDirectory() as folder, _pipeline(one) as pipe:
        _, tensors, wanted = made(row, one, Path(folder))
        try:
            pipe.load_lora_weights({key: value.clone() for key, value in tensors.items()}, adapter_name="a")
        except Exception as error:  # noqa: BLE001  whatever it raises is its answer
            return f"refused ({type(error).__name__})"
        return verdict(_acting(one), wanted)


def _acting(one: Family) -> Deltas:
    from peft.tuners.lora import Conv2d, Linear

    return {
        (component, path): layer.get_delta_weight("a").detach()
        for component, module in one.modules.items()
        for path, layer in module.named_modules()
        if isinstance(layer, Conv2d | Linear) and "a" in layer.scaling
    }


@contextmanager
def _pipeline(one: Family) -> Iterator[Any]:
    """Give diffusers' pipeline of a family, without adapters before and after."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

    parts: dict[str, Any] = {**one.modules, "scheduler": DDIMScheduler()}
    for component in one.modules:
        if component.startswith("text_encoder"):
            parts[component.replace("text_encoder", "tokenizer")] = clip_tokens.tokenizer(component)
    if one.name == "SDXL":
        pipe: Any = StableDiffusionXLPipeline(**parts)
    else:
        pipe = StableDiffusionPipeline(
            **parts, safety_checker=cast(Any, None), feature_extractor=cast(Any, None), requires_safety_checker=False
        )
    yield pipe
    pipe.unload_lora_weights()


ABOUT = """# LoRA files: what is read

Every row is a file with the true keys of a whole family: the model has SD1.5's or SDXL's structure, at reduced width so
that a test can hold it. *exact* means that every layer's change is what the file states, to 1e-6 of its size: by the
formula for LoRA, by the trained module itself (LyCORIS) for the other kinds. *wrong* counts layers that change by
something else, *not applied* those that do not change at all, both without an error.

`python -m tests.lora_zoo.format_table docs/formats.md` measures and writes this page; a test compares it with the code.
More kinds, layer by layer, are in `tests/lora_zoo/test_kinds_oracle.py`: every tuner of PEFT and LyCORIS that is read.
"""


def table() -> str:
    """Return the table as Markdown."""
    import diffusers as library

    head = ["File", *(f"{who}, {name}" for name in FAMILIES for who in ("Medley", f"diffusers {library.__version__}"))]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in ROWS:
        cells = [cell for name in FAMILIES for cell in (ours(row, name), theirs(row, name))]
        lines.append(f"| {' | '.join([row.title, *cells])} |")
    return "\n".join(lines)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(f"{ABOUT}\n{table()}\n", "utf-8")
