"""Names of LoRA tensors: from any dialect met in the wild to (component, module of the model, part).

Two tables say it all: a suffix gives the kind of adapter and the part, a prefix gives the dialect and the component.
What lies between is a module name, in one of several spellings, which `Names` looks up among the model's own modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lora_zoo import sgm
from lora_zoo.errors import BadFile, UnsupportedKind, first_few

ALPHA = "alpha"

#: Suffix -> (kind of adapter, part). An alpha belongs to whatever kind its module is of.
SUFFIXES: Mapping[str, tuple[str, str]] = {
    ".alpha": ("", ALPHA),
    ".lora_down.weight": ("lora", "down"),
    ".lora_up.weight": ("lora", "up"),
    ".lora_A.weight": ("lora", "down"),
    ".lora_B.weight": ("lora", "up"),
    ".lora_A.default.weight": ("lora", "down"),
    ".lora_B.default.weight": ("lora", "up"),
    ".lora.down.weight": ("lora", "down"),
    ".lora.up.weight": ("lora", "up"),
    "_lora.down.weight": ("lora", "down"),
    "_lora.up.weight": ("lora", "up"),
    ".lora_linear_layer.down.weight": ("lora", "down"),
    ".lora_linear_layer.up.weight": ("lora", "up"),
    ".dora_scale": ("dora", "magnitude"),
    ".lora_magnitude_vector": ("dora", "magnitude"),
    ".lora_magnitude_vector.weight": ("dora", "magnitude"),
    ".lora_mid.weight": ("tucker", "mid"),
    ".lora_embedding_A": ("embedding", "down"),
    ".lora_embedding_B": ("embedding", "up"),
    **{f".hada_{part}": ("loha", part) for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f".lokr_{part}": ("lokr", part) for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t1", "t2")},
    **{f".{part}.weight": ("glora", part) for part in ("a1", "a2", "b1", "b2")},
    ".diff": ("full", "weight"),
    ".diff_b": ("full", "bias"),
    ".w_norm": ("norm", "weight"),
    ".b_norm": ("norm", "bias"),
    ".on_input": ("ia3", "on_input"),
    ".oft_blocks": ("oft", "blocks"),
    ".oft_diag": ("oft", "blocks"),
}

_PEFT = "base_model.model."

#: Prefix -> (dialect, component), longer before shorter.
_PREFIXES: Mapping[str, tuple[str, str]] = {
    "lora_unet_": ("kohya", "unet"),
    "lora_te1_": ("kohya", "text_encoder"),
    "lora_te2_": ("kohya", "text_encoder_2"),
    "lora_te_": ("kohya", "text_encoder"),
    "diffusion_model.": ("comfyui", "unet"),
    "text_encoders.clip_l.transformer.": ("comfyui", "text_encoder"),
    "text_encoders.clip_g.transformer.": ("comfyui", "text_encoder_2"),
    "clip_l.transformer.": ("comfyui", "text_encoder"),
    "clip_g.transformer.": ("comfyui", "text_encoder_2"),
    "clip_l.": ("comfyui", "text_encoder"),
    "clip_g.": ("comfyui", "text_encoder_2"),
    "unet.": ("diffusers", "unet"),
    "text_encoder_2.": ("diffusers", "text_encoder_2"),
    "text_encoder.": ("diffusers", "text_encoder"),
}

_OLD_PROJECTIONS = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


@dataclass(frozen=True)
class Key:
    """One tensor's name, taken apart."""

    raw: str
    dialect: str
    kind: str  # "" for an alpha
    part: str
    component: str | None  # None: the file does not say
    module: str  # dotted, or flattened with underscores


@dataclass(frozen=True)
class Module:
    """The tensors of one adapted layer: part -> key in the file."""

    kind: str
    parts: Mapping[str, str]
    spellings: tuple[str, ...]  # the module's name in the file and in the model; patterns of a config may mean either


def parse(raw: str) -> Key | None:
    """Take a tensor's name apart, None when it is no part of any known kind of adapter."""
    suffix = max((s for s in SUFFIXES if raw.endswith(s)), key=len, default="")
    if not suffix:
        return None
    kind, part = SUFFIXES[suffix]
    name, dialect = raw[: -len(suffix)], "diffusers"
    if name.startswith(_PEFT):
        name, dialect = name.removeprefix(_PEFT), "peft"
    component = None
    for prefix, (known_dialect, known_component) in _PREFIXES.items():
        if name.startswith(prefix):
            name, component = name.removeprefix(prefix), known_component
            dialect = dialect if dialect == "peft" else known_dialect
            break
    if suffix.startswith(("_lora.", ".lora_linear_layer.")):
        name, dialect = _modern(name), "diffusers-old"
    return Key(raw, dialect, kind, part, component, name)


def _modern(name: str) -> str:
    """Rename an attention projection of old diffusers, where LoRA layers belonged to the attention's processor."""
    name, _, last = name.rpartition(".")
    if name.endswith(".processor"):
        return f"{name.removesuffix('.processor')}.{'to_out.0' if last == 'to_out' else last}"
    return f"{name}.{_OLD_PROJECTIONS.get(last, last)}"


class Names:
    """All spellings of a model's module names."""

    def __init__(self, modules: Mapping[str, Iterable[str]]) -> None:
        self._spellings = {component: _spellings(component, list(paths)) for component, paths in modules.items()}

    def find(self, key: Key) -> tuple[str, str] | None:
        """Return (component, module path) of the layer that a key means."""
        for component in self._spellings if key.component is None else (key.component,):
            path = self._spellings.get(component, {}).get(key.module)
            if path is not None:
                return component, path
        return None


def _spellings(component: str, paths: list[str]) -> dict[str, str]:
    if component == "unet":
        others = sgm.names(paths)
    else:  # transformers dropped the prefix in its version 5; files are older than that, or newer
        short = {path: path.removeprefix("text_model.") for path in paths}
        others = {other: path for path in paths for other in (short[path], f"text_model.{short[path]}")}
    dotted = {**others, **{path: path for path in paths}}
    return {**{name.replace(".", "_"): path for name, path in dotted.items()}, **dotted}


def bind(raw_keys: Iterable[str], modules: Mapping[str, Iterable[str]], where: str) -> dict[tuple[str, str], Module]:
    """Assign every tensor of a file to a layer of the model, in the model's order: all of them, or none."""
    names = Names(modules)
    found: dict[tuple[str, str], list[Key]] = {}
    strange: list[str] = []
    for raw in raw_keys:
        key = parse(raw)
        target = None if key is None else names.find(key)
        if key is None or target is None:
            strange.append(raw)
        else:
            found.setdefault(target, []).append(key)
    if strange:
        raise BadFile(f"{where}: keys that match no layer of this model: {first_few(strange)}")
    if not found:
        raise BadFile(f"{where}: the file holds no tensors")
    ordered = [(component, path) for component, paths in modules.items() for path in paths]
    return {target: _module(found[target], target[1], where) for target in ordered if target in found}


def group(raw_keys: Iterable[str]) -> dict[tuple[str, str], list[Key]]:
    """Group the keys of a file by layer without knowing the model; what is no part of an adapter is left out."""
    groups: dict[tuple[str, str], list[Key]] = {}
    for key in filter(None, map(parse, raw_keys)):
        component = key.component or ("text_encoder" if re.match(r"text_model\.|encoder\.", key.module) else "unet")
        groups.setdefault((component, key.module), []).append(key)
    return groups


def kind_of(keys: Iterable[Key]) -> str:
    """Return the kind of adapter that a layer's keys make. A LoRA with an extra part is what that part makes it."""
    kinds = sorted({key.kind for key in keys if key.kind}, key=lambda kind: (kind == "lora", kind))
    return kinds[0] if kinds else ""


def _module(keys: list[Key], path: str, where: str) -> Module:
    parts = {key.part: key.raw for key in keys}
    if len(parts) < len(keys):
        raise BadFile(f"{where}: several keys for the same part of {path}: {first_few(key.raw for key in keys)}")
    return Module(kind_of(keys), parts, tuple(dict.fromkeys([*(key.module for key in keys), path])))


def refuse_kinds(modules: Iterable[Module], known: Iterable[str], where: str) -> None:
    """Refuse a file with any layer of a kind that is not read, naming the kind."""
    readable = tuple(known)
    others = [module for module in modules if module.kind and module.kind not in readable]
    if others:
        kinds = ", ".join(sorted({module.kind for module in others}))
        keys = first_few(key for module in others for key in module.parts.values())
        raise UnsupportedKind(f"{where}: adapters of kind {kinds} are not read, only {', '.join(readable)}: {keys}")
