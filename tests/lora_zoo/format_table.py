"""The table of file formats: each with every layer of SD1.5 and of SDXL, read here and by diffusers, beside an oracle.

The models have the true structure, hence the true keys, at reduced width. What a LoRA is, is a formula; what the other
kinds are, LyCORIS says, whose modules are compared in use. The table is docs/formats.md.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor, nn

from lora_zoo import formats, sgm
from lora_zoo.adapter import BaseLayer, ModelLayout
from lora_zoo.errors import ZooError
from pipelines import clip_tokens
from tests import checkpoints
from tests.checkpoints import Widths
from tests.lora_zoo.test_kinds_oracle import LYCORIS, Options

FAMILIES: Mapping[str, Widths] = {
    "SD1.5": replace(checkpoints.SD, text_layers=12),
    "SDXL": Widths(True, (32, 64, 128), (1, 2, 10), (64, 128), text_layers=12, second_layers=32),
}
ATTENTION = r"attn\d\.to_|self_attn"
UNET_ATTENTION = r"attn\d\.to_"

Target = tuple[str, str]
Deltas = dict[Target, Tensor]
Tensors = dict[str, Tensor]
Spell = Callable[["Family", str, str], str]


@dataclass(frozen=True, eq=False)
class Family:
    """A model of true structure."""

    name: str
    modules: Mapping[str, nn.Module]
    layers: Mapping[Target, nn.Linear | nn.Conv2d]
    originals: Mapping[str, str]  # UNet path -> original name

    @property
    def layout(self) -> ModelLayout:
        shapes: dict[str, dict[str, tuple[int, ...]]] = {}
        for (component, path), layer in self.layers.items():
            shapes.setdefault(component, {})[path] = tuple(layer.weight.shape)
        return ModelLayout(shapes, lambda c, path: BaseLayer(self.layers[c, path].weight, self.layers[c, path].bias))


@lru_cache
def family(name: str) -> Family:
    modules = checkpoints.seeded(FAMILIES[name])
    layers = {
        (component, path): part
        for component, module in modules.items()
        if component != "vae"
        for path, part in module.named_modules()
        if isinstance(part, nn.Linear | nn.Conv2d)
    }
    names = sgm.names([path for component, path in layers if component == "unet"])
    return Family(name, modules, layers, {path: original for original, path in names.items()})


@dataclass(frozen=True)
class Format:
    """One row: how a file is made, and of which layers."""

    title: str
    make: Callable[[Family, Mapping[Target, nn.Linear | nn.Conv2d]], tuple[Tensors, Deltas]]
    layers: str = ATTENTION
    config: bool = False  # a PEFT folder with a configuration
    read_here: bool = True
    families: tuple[str, ...] = tuple(FAMILIES)


def _short(path: str) -> str:
    return path.removeprefix("text_model.")


def kohya(one: Family, component: str, path: str) -> str:
    if component == "unet":
        return "lora_unet_" + path.replace(".", "_")
    number = "" if one.name == "SD1.5" else "2" if component.endswith("2") else "1"
    return f"lora_te{number}_text_model_" + _short(path).replace(".", "_")


def kohya_original(one: Family, component: str, path: str) -> str:
    return "lora_unet_" + one.originals[path].replace(".", "_") if component == "unet" else kohya(one, component, path)


def diffusers(_one: Family, component: str, path: str) -> str:
    return f"unet.{path}" if component == "unet" else f"{component}.text_model.{_short(path)}"


def bare(_one: Family, _component: str, path: str) -> str:
    return path


def peft(_one: Family, _component: str, path: str) -> str:
    return f"base_model.model.{path}"


def comfy(one: Family, component: str, path: str) -> str:
    if component == "unet":
        return f"diffusion_model.{one.originals[path]}"
    return f"{'clip_g' if component.endswith('2') else 'clip_l'}.transformer.text_model.{_short(path)}"


def old(one: Family, component: str, path: str) -> str:
    if component != "unet":
        return f"{component}.text_model.{_short(path)}"
    head, _, last = path.removesuffix(".0").rpartition(".")
    return f"unet.{head}.processor.{last}"


def older(one: Family, component: str, path: str) -> str:
    return old(one, component, path).removeprefix("unet.")


AB, UP_DOWN = (".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight")
OLD = ("_lora.down.weight", "_lora.up.weight")


def lora(
    spell: Spell, endings: tuple[str, str], alpha: Callable[[int], float | None] = lambda _n: None, mixed: bool = False
) -> Callable[[Family, Mapping[Target, nn.Linear | nn.Conv2d]], tuple[Tensors, Deltas]]:
    """Make plain LoRAs; `alpha` gives the n-th layer's, `mixed` lets ranks differ."""

    def make(one: Family, layers: Mapping[Target, nn.Linear | nn.Conv2d]) -> tuple[Tensors, Deltas]:
        generator = torch.Generator().manual_seed(1)
        tensors, deltas = Tensors(), Deltas()
        for n, ((component, path), layer) in enumerate(layers.items()):
            shape, rank = tuple(layer.weight.shape), 1 + n % 3 if mixed else 2
            down = torch.randn(rank, *shape[1:], generator=generator)
            up = torch.randn(shape[0], rank, *(1 for _ in shape[2:]), generator=generator)
            stem, stated = spell(one, component, path), alpha(n)
            tensors |= {stem + endings[0]: down, stem + endings[1]: up}
            if stated is not None:
                tensors[f"{stem}.alpha"] = torch.tensor(stated)
            strength = 1.0 if stated is None else stated / rank
            deltas[component, path] = (up.flatten(1) @ down.flatten(1)).reshape(shape) * strength
        return tensors, deltas

    return make


def lycoris(kind: str) -> Callable[[Family, Mapping[Target, nn.Linear | nn.Conv2d]], tuple[Tensors, Deltas]]:
    """Make what LyCORIS trains, and take what its modules add to the layers' outputs."""
    build, options = LYCORIS[kind]
    usual: Options = {"multiplier": 1.0, "lora_dim": 2, "alpha": 3}

    def make(one: Family, layers: Mapping[Target, nn.Linear | nn.Conv2d]) -> tuple[Tensors, Deltas]:
        tensors, deltas = Tensors(), Deltas()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            for (component, path), found in layers.items():
                layer = nn.Linear(found.weight.shape[1], found.weight.shape[0], bias=False)
                layer.weight = nn.Parameter(found.weight.detach().clone())
                module = build("x", layer, **(usual | options)).eval()
                for parameter in module.parameters():
                    parameter.data.uniform_(0.1, 0.9)
                stem = kohya(one, component, path)
                tensors |= {f"{stem}.{part}": value.detach().clone() for part, value in module.state_dict().items()}
                probe = torch.eye(layer.in_features)
                before = layer(probe)
                cast(Any, module).apply_to()
                deltas[component, path] = (layer(probe) - before).detach().T
        return tensors, deltas

    return make


def full(one: Family, layers: Mapping[Target, nn.Linear | nn.Conv2d]) -> tuple[Tensors, Deltas]:
    generator = torch.Generator().manual_seed(3)
    deltas = {target: torch.randn(layer.weight.shape, generator=generator) for target, layer in layers.items()}
    return {f"{kohya(one, *target)}.diff": delta for target, delta in deltas.items()}, deltas


def tucker(one: Family, layers: Mapping[Target, nn.Linear | nn.Conv2d]) -> tuple[Tensors, Deltas]:
    generator = torch.Generator().manual_seed(4)
    tensors, deltas = Tensors(), Deltas()
    for target, layer in layers.items():
        out, into, *window = layer.weight.shape
        down, up = torch.randn(2, into, generator=generator), torch.randn(out, 2, generator=generator)
        mid, stem = torch.randn(2, 2, *window, generator=generator), kohya(one, *target)
        tensors |= {f"{stem}.lora_down.weight": down[..., None, None], f"{stem}.lora_up.weight": up[..., None, None]}
        tensors |= {f"{stem}.lora_mid.weight": mid, f"{stem}.alpha": torch.tensor(3.0)}
        deltas[target] = torch.einsum("op,pqhw,qi->oihw", up, mid, down) * 1.5
    return tensors, deltas


def changed(change: Callable[[Tensors], object]) -> Callable[..., tuple[Tensors, Deltas]]:
    """Make a kohya file, and change it."""

    def make(one: Family, layers: Mapping[Target, nn.Linear | nn.Conv2d]) -> tuple[Tensors, Deltas]:
        tensors, deltas = lora(kohya, UP_DOWN, lambda _n: 1.0)(one, layers)
        change(tensors)
        return tensors, deltas

    return make


def _bundle(tensors: Tensors) -> None:
    two = any(key.startswith("lora_te2") for key in tensors)
    parts = {"clip_l": 64, "clip_g": 128} if two else {"string_to_param.*": 64}
    tensors |= {f"bundle_emb.glow.{part}": torch.ones(2, width) for part, width in parts.items()}


def _poison(tensors: Tensors) -> None:
    tensors[next(iter(tensors))].fill_(torch.nan)


ROWS: tuple[Format, ...] = (
    Format("kohya, attention and text encoder, one alpha", lora(kohya, UP_DOWN, lambda _n: 1.0)),
    Format("kohya, an alpha of its own for each layer", lora(kohya, UP_DOWN, lambda n: 0.5 + n % 4)),
    Format("kohya, ranks resized layer by layer", lora(kohya, UP_DOWN, lambda n: 1.0 + n % 3, mixed=True)),
    Format("kohya without alphas", lora(kohya, UP_DOWN)),
    Format("kohya LoCon, every layer", lora(kohya, UP_DOWN, lambda _n: 1.0), "."),
    Format("kohya, original names, every layer", lora(kohya_original, UP_DOWN, lambda _n: 1.0), "."),
    Format("kohya, text encoder without out_proj", lora(kohya, UP_DOWN, lambda _n: 1.0), r"self_attn\.[qkv]_proj|to_q"),
    Format("diffusers", lora(diffusers, AB), "."),
    Format("diffusers with alphas", lora(diffusers, AB, lambda n: 0.5 + n % 4)),
    Format("diffusers, older: processors", lora(old, OLD), UNET_ATTENTION),
    Format("diffusers, oldest: processors without `unet.`", lora(older, OLD), UNET_ATTENTION),
    Format("PEFT folder", lora(peft, AB), UNET_ATTENTION, config=True),
    Format("without any prefix", lora(bare, AB), UNET_ATTENTION),
    Format("ComfyUI, lora_up and lora_down", lora(comfy, UP_DOWN, lambda n: 0.5 + n % 4), "."),
    Format("ComfyUI, lora_A and lora_B", lora(comfy, AB), "."),
    Format("Tucker (lora_mid)", tucker, r"resnets\.\d\.conv\d"),
    Format("rsLoRA of LyCORIS", lycoris("rslora")),
    Format("DoRA", lycoris("dora")),
    Format("LoHa", lycoris("loha")),
    Format("LoKr", lycoris("lokr")),
    Format("LoKr, whole factors", lycoris("lokr-whole")),
    Format("full difference", full, "."),
    Format("IA3", lycoris("ia3-out")),
    Format("OFT", lycoris("oft")),
    Format("BOFT", lycoris("boft")),
    Format("GLoRA", lycoris("glora")),
    Format("kohya with bundled textual inversions", changed(_bundle)),
    Format("kohya, a value that is not a number", changed(_poison), read_here=False),
    Format(
        "kohya, a layer that the model has not",
        changed(lambda t: t.update({"lora_unet_nowhere.lora_down.weight": torch.ones(1, 1)})),
        read_here=False,
    ),
    Format(
        "kohya with changes to normalisation",
        changed(lambda t: t.update({"lora_unet_conv_norm_out.w_norm": torch.ones(32)})),
        read_here=False,
    ),
)


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
    return float((found - wanted).abs().max()) <= 1e-6 * max(1.0, float(wanted.abs().max()))


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
