"""The rows of the table of file formats: how a file of each is made, with every layer of SD1.5 and of SDXL.

The models have the true structure, hence the true keys, at reduced width. What a LoRA is, is a formula; what the other
kinds are, LyCORIS says, whose modules are compared in use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from lora_zoo import sgm
from lora_zoo.adapter import BaseLayer, ModelLayout
from pipelines.vectors import vector_parameters
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
        return ModelLayout(shapes, self._base, self.vectors)

    @property
    def vectors(self) -> dict[str, dict[str, tuple[int, ...]]]:
        """Return the shapes of biases and of normalisation's parameters: component -> path -> shape."""
        return {
            component: {path: tuple(p.shape) for path, p in vector_parameters(module).items()}
            for component, module in self.modules.items()
            if component != "vae"
        }

    def _base(self, component: str, path: str) -> BaseLayer:
        return BaseLayer(self.layers[component, path].weight, self.layers[component, path].bias)


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


def omi(one: Family, component: str, path: str) -> str:
    if component == "unet":
        return f"diffusion_model.{one.originals[path]}"
    return f"text_encoders.{'clip_g' if component.endswith('2') else 'clip_l'}.transformer.text_model.{_short(path)}"


def lycoris_name(_one: Family, _component: str, path: str) -> str:
    return "lycoris_" + path.replace(".", "_")


def both_names(one: Family, component: str, path: str) -> str:
    """Name every second layer as the original does."""
    places = list(one.layers)
    return (kohya_original if places.index((component, path)) % 2 else kohya)(one, component, path)


def old(one: Family, component: str, path: str) -> str:
    if component != "unet":
        return f"{component}.text_model.{_short(path)}"
    head, _, last = path.removesuffix(".0").rpartition(".")
    return f"unet.{head}.processor.{last}"


def older(one: Family, component: str, path: str) -> str:
    return old(one, component, path).removeprefix("unet.")


AB, UP_DOWN = (".lora_A.weight", ".lora_B.weight"), (".lora_down.weight", ".lora_up.weight")
NAMED = (".lora_A.style.weight", ".lora_B.style.weight")
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


def peft_within(_one: Family, component: str, path: str) -> str:
    return f"{component}.base_model.model.{path}"


def dora(spell: Spell, endings: tuple[str, str], ending: str) -> Callable[..., tuple[Tensors, Deltas]]:
    """Make DoRAs with a length for each row, and no other dimensions: W' = m * (W + B A) / |W + B A|."""

    def make(one: Family, layers: Mapping[Target, nn.Linear | nn.Conv2d]) -> tuple[Tensors, Deltas]:
        tensors, deltas = lora(spell, endings)(one, layers)
        generator = torch.Generator().manual_seed(6)
        for target, layer in layers.items():
            base = layer.weight.detach().double()
            lengths = torch.rand(len(base), generator=generator) + 0.5
            changed = base + deltas[target].double()
            norms = changed.flatten(1).norm(dim=1)
            tensors[f"{spell(one, *target)}{ending}"] = lengths
            deltas[target] = (changed * (lengths / norms)[:, None] - base).float()
        return tensors, deltas

    return make


def kohya_oft(one: Family, layers: Mapping[Target, nn.Linear | nn.Conv2d]) -> tuple[Tensors, Deltas]:
    """Make what kohya's networks/oft.py trains: Q = B - B', |Q| <= alpha * out, W' = blocks((I + Q) / (I - Q))' W."""
    generator = torch.Generator().manual_seed(7)
    tensors, deltas = Tensors(), Deltas()
    for target, layer in layers.items():
        base, alpha = layer.weight.detach().double(), 0.01
        blocks = torch.randn(4, len(base) // 4, len(base) // 4, generator=generator)
        skew = blocks.double() - blocks.double().mT
        skew *= min(1.0, alpha * len(base) / float(skew.norm()))
        eye = torch.eye(skew.shape[-1], dtype=torch.float64)
        turn = torch.block_diag(*((eye + skew) @ torch.linalg.inv(eye - skew)))
        stem = kohya(one, *target).replace("lora_unet_", "oft_unet_")
        tensors |= {f"{stem}.oft_blocks": blocks, f"{stem}.alpha": torch.tensor(alpha)}
        deltas[target] = (turn.T @ base - base).float()
    return tensors, deltas


def full(one: Family, layers: Mapping[Target, nn.Linear | nn.Conv2d]) -> tuple[Tensors, Deltas]:
    generator = torch.Generator().manual_seed(3)
    deltas = {target: torch.randn(layer.weight.shape, generator=generator) for target, layer in layers.items()}
    return {f"{kohya(one, *target)}.diff": delta for target, delta in deltas.items()}, deltas


def with_vectors(one: Family, layers: Mapping[Target, nn.Linear | nn.Conv2d]) -> tuple[Tensors, Deltas]:
    """Make what LyCORIS trains as full differences: of weights, of biases, and of normalisation."""
    tensors, deltas = full(one, layers)
    generator = torch.Generator().manual_seed(5)
    for component, shapes in one.vectors.items():
        for path, shape in shapes.items():
            owner, _, name = path.rpartition(".")
            ending = "diff_b" if (component, owner) in one.layers else f"{name[0]}_norm"
            change = torch.randn(shape, generator=generator)
            tensors[f"{kohya(one, component, owner)}.{ending}"] = deltas[component, path] = change
    return tensors, deltas


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


def _nothing(tensors: Tensors) -> None:
    """Add what changes nothing, of layers and of a text encoder that the model has not."""
    for stem in ("lora_unet_down_blocks_7_attentions_0_proj_in", "lora_te3_text_model_encoder_layers_0_mlp_fc1"):
        tensors |= {f"{stem}.lora_down.weight": torch.ones(2, 4), f"{stem}.lora_up.weight": torch.zeros(4, 2)}


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
    Format("ComfyUI, text encoders by their place", lora(omi, AB), "."),
    Format("kohya, original names and diffusers' in one file", lora(both_names, UP_DOWN, lambda n: 0.5 + n % 4), "."),
    Format("LyCORIS's own names", lora(lycoris_name, UP_DOWN, lambda n: 0.5 + n % 4), UNET_ATTENTION),
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
    Format("full difference, of biases and normalisation too", with_vectors, "."),
    Format("PEFT's keys without a configuration", lora(peft, AB), UNET_ATTENTION),
    Format("PEFT's keys, the adapter's name in them", lora(peft, NAMED), UNET_ATTENTION),
    Format("PEFT's keys behind the component's name", lora(peft_within, AB)),
    Format("DoRA as `magnitude` beside lora_A and lora_B", dora(diffusers, AB, ".magnitude")),
    Format("DoRA, dora_scale of one dimension", dora(kohya, UP_DOWN, ".dora_scale"), r"ff\.net\.2|mlp\.fc"),
    Format("OFT of kohya's (oft_unet_)", kohya_oft, UNET_ATTENTION),
    Format("kohya, changes by nothing of layers that the model has not", changed(_nothing)),
)
