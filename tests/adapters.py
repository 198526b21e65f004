"""Random adapters for a model's layout, in memory, and a provider of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from lora_zoo import writer
from lora_zoo.adapter import Adapter, Delta, DenseDelta, Layout, LowRank, tensors_of
from lora_zoo.errors import UnknownName
from lora_zoo.writer import Factors
from pipelines.sources import AdapterInfo

ATTENTION = r"attn\d\.to_|self_attn"
CONVOLUTIONS = r"attn\d\.to_|resnets|proj_|samplers|ff\.|self_attn|mlp"
#: Words of the tests' usual prompt, "a cat on a mat", that belong to the five.
TRIGGERS = {"lora0": ("cat",), "lora1": ("mat",), "lora2": ("on",), "lora3": ("a cat",), "lora4": ("a mat",)}
#: Shares of fine detail, as if they had been measured; the order of the five is that of their names.
FREQUENCIES = {f"lora{n}": 0.9 - 0.1 * n for n in range(5)}
UNET_ONLY = ("unet",)
BOTH = ("unet", "text_encoder")


@dataclass(frozen=True)
class Kind:
    """What a random adapter covers, and how strongly it acts."""

    rank: int
    alpha: float
    layers: str = ATTENTION
    components: tuple[str, ...] = UNET_ONLY
    strength: float = 0.3


def random_adapter(name: str, layout: Layout, kind: Kind, seed: int) -> Adapter:
    """Return an adapter whose deltas are a good part of typical weights, so that mistakes show."""
    generator = torch.Generator().manual_seed(seed)
    layers = {
        component: {
            path: _low_rank(shape, kind, generator)
            for path, shape in layout[component].items()
            if re.search(kind.layers, path)
        }
        for component in kind.components
    }
    return Adapter(name, content_digest(layers), layers)


def content_digest(layers: Mapping[str, Mapping[str, Delta]]) -> str:
    """Return what real files give: a digest of all that an adapter does, so that two that differ never share one."""
    digest = hashlib.sha256()
    for component, deltas in layers.items():
        for path, delta in deltas.items():
            digest.update(f"{component}.{path} {type(delta).__name__}".encode())
            for tensor in tensors_of(delta):
                digest.update(f"{tuple(tensor.shape)}".encode())
                digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def _low_rank(shape: tuple[int, ...], kind: Kind, generator: torch.Generator) -> LowRank:
    fan_in = torch.Size(shape[1:]).numel()
    down = torch.randn(kind.rank, *shape[1:], generator=generator) / fan_in**0.5
    up = torch.randn(shape[0], kind.rank, generator=generator) * kind.strength / kind.rank**0.5
    return LowRank(down, up * (kind.alpha / kind.rank))


def save_kohya(adapter: Adapter, path: Path, alpha: float) -> Path:
    """Write an adapter as a kohya file with this alpha on every layer."""
    prefixes = {"unet": "lora_unet_", "text_encoder": "lora_te_text_model_"}
    tensors: dict[str, torch.Tensor] = {}
    for component, deltas in adapter.layers.items():
        for layer, delta in deltas.items():
            assert isinstance(delta, LowRank)
            key = prefixes[component] + layer.replace(".", "_")
            up = delta.up * (delta.rank / alpha)
            tensors[f"{key}.lora_down.weight"] = delta.down.contiguous()
            tensors[f"{key}.lora_up.weight"] = up.reshape(*up.shape, *[1] * (delta.down.ndim - 2)).contiguous()
            tensors[f"{key}.alpha"] = torch.tensor(alpha)
    save_file(tensors, path)
    return path


def save_plain(adapter: Adapter, path: Path, dialect: writer.Dialect = "kohya") -> Path:
    """Write an adapter, of a model with one text encoder or two, as other tools do that store no alphas."""
    layers: dict[str, dict[str, Factors]] = {}
    for component, deltas in adapter.layers.items():
        for layer, delta in deltas.items():
            assert isinstance(delta, LowRank)
            layers.setdefault(component, {})[layer] = Factors(delta.down, delta.up, alpha=None)
    return writer.write(path, layers, dialect, {})


def dense_twin(adapter: Adapter, name: str) -> Adapter:
    """Return the same adapter with its deltas kept whole."""
    layers = {
        component: {path: DenseDelta(delta.dense()) for path, delta in deltas.items()}
        for component, deltas in adapter.layers.items()
    }
    return Adapter(name, content_digest(layers), layers)


class Shelf:
    """Adapters by name, as the engine asks for them."""

    def __init__(self, adapters: Iterable[Adapter] = ()) -> None:
        self._adapters = {adapter.name: adapter for adapter in adapters}

    def put(self, adapter: Adapter) -> None:
        self._adapters[adapter.name] = adapter

    def describe(self, name: str) -> AdapterInfo:
        if name not in self._adapters:
            raise UnknownName("LoRA", name, self._adapters)
        triggers = TRIGGERS.get(name, ())
        return AdapterInfo(name, self._adapters[name].digest, None, 1.0, triggers, frequency=FREQUENCIES.get(name, 0.5))

    def load(self, name: str, layout: Layout) -> Adapter:
        return self._adapters[name]


def five(layout: Layout) -> list[Adapter]:
    """Return five adapters that differ in rank, alpha and coverage; some reach the text encoder."""
    kinds = [
        Kind(4, 2.0, ATTENTION, BOTH),
        Kind(3, 5.0, CONVOLUTIONS),
        Kind(8, 8.0, CONVOLUTIONS, BOTH),
        Kind(1, 1.0, r"attn2\.to_[kv]"),
        Kind(6, 3.0, r"resnets|time_emb|conv_|attn1", BOTH),
    ]
    return [random_adapter(f"lora{n}", layout, kind, seed=n + 1) for n, kind in enumerate(kinds)]
