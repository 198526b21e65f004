"""Names of LoRA tensors: from any dialect met in the wild to (component, module of the model, part).

Two tables say it all: a suffix gives the kind of adapter and the part, a prefix gives the dialect and the component.
What lies between is a module name, in one of several spellings, which `Names` looks up among the model's own modules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lora_zoo import sgm
from lora_zoo.errors import BadFile, first_few

ALPHA = "alpha"
BIAS = "bias"  # a change to it, as it is
UP_BIAS = "up_bias"  # one of PEFT's up factor, which PEFT's trainer would scale
MAGNITUDE = "magnitude"  # LyCORIS's, of rows or of columns as its shape says
ROW_MAGNITUDE = "row_magnitude"  # PEFT's, always of rows

#: Suffix -> (kind of adapter, part). An alpha belongs to whatever kind its module is of.
SUFFIXES: Mapping[str, tuple[str, str]] = {
    ".alpha": ("", ALPHA),
    ".lora_down.weight": ("lora", "down"),
    ".lora_up.weight": ("lora", "up"),
    ".lora_A.weight": ("lora", "down"),
    ".lora_B.weight": ("lora", "up"),
    ".lora.down.weight": ("lora", "down"),
    ".lora.up.weight": ("lora", "up"),
    "_lora.down.weight": ("lora", "down"),
    "_lora.up.weight": ("lora", "up"),
    ".lora_linear_layer.down.weight": ("lora", "down"),
    ".lora_linear_layer.up.weight": ("lora", "up"),
    ".dora_scale": ("dora", MAGNITUDE),
    ".lora_magnitude_vector": ("dora", ROW_MAGNITUDE),
    ".magnitude": ("dora", ROW_MAGNITUDE),
    ".lora_magnitude_vector.weight": ("dora", ROW_MAGNITUDE),
    ".lora_mid.weight": ("tucker", "mid"),
    ".lora_embedding_A": ("embedding", "down"),
    ".lora_embedding_B": ("embedding", "up"),
    **{f".hada_{part}": ("loha", part) for part in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")},
    **{f".lokr_{part}": ("lokr", part) for part in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t1", "t2")},
    **{f".{part}.weight": ("glora", part) for part in ("a1", "a2", "b1", "b2", "bm")},
    ".diff": ("full", "weight"),
    ".diff_b": ("bias", BIAS),
    ".lora_B.bias": ("bias", UP_BIAS),
    ".w_norm": ("norm", "weight"),
    ".b_norm": ("norm", "bias"),
    ".weight": ("ia3", "weight"),
    ".on_input": ("ia3", "on_input"),
    ".ia3_l": ("ia3-peft", "weight"),
    ".oft_blocks": ("oft", "blocks"),
    ".oft_diag": ("oft", "blocks"),
    ".rescale": ("oft", "rescale"),
    ".oft_R.weight": ("oft-peft", "blocks"),
    ".boft_R": ("boft-peft", "blocks"),
    ".boft_s": ("boft-peft", "rescale"),
    ".shira_weight": ("shira", "values"),
    ".shira_indices": ("shira", "indices"),
}

#: Kinds that say something of layers which no adapter of ours can change, and why a file with one is refused.
UNREAD: Mapping[str, str] = {
    "norm": "changes normalisation layers, which are not among the layers that can be changed here",
    "embedding": "changes the table of token embeddings, and adapters here change linear layers and convolutions",
}
#: A bundled textual inversion, bundle_emb.WORD.VECTORS, by what its vectors are called.
_BUNDLED = "bundle_emb."
WORD = "word"
_VECTORS: Mapping[str, str] = {
    "string_to_param.*": "text_encoder",
    "emb_params": "text_encoder",
    "clip_l": "text_encoder",
    "clip_g": "text_encoder_2",
}

_PEFT = "base_model.model."
#: Where PEFT puts an adapter's name into its parts' keys, which its own files leave out.
_NAMED = re.compile(
    r"(.*\.(?:lora_[AB]|lora_magnitude_vector|oft_R|shira_indices))\.(?!weight$|bias$)([^.]+)(\.weight|)"
)

#: Prefix -> (dialect, component), longer before shorter.
_PREFIXES: Mapping[str, tuple[str, str | None]] = {
    "lycoris_": ("lycoris", None),
    "lora_unet_": ("kohya", "unet"),
    "oft_unet_": ("kohya", "unet"),
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

#: LyCORIS ends a layer's IA3 as a checkpoint ends a layer's own weight; only its beginning tells them apart.
_IA3 = re.compile(r"(lora|lycoris)_[^.]+\.weight")
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
    if raw.startswith(_BUNDLED):
        word, _, vectors = raw.removeprefix(_BUNDLED).partition(".")
        return Key(raw, "kohya", WORD, vectors, _VECTORS[vectors], word) if word and vectors in _VECTORS else None
    key = raw if (named := _NAMED.fullmatch(raw)) is None else named[1] + named[3]
    suffix = max((s for s in SUFFIXES if key.endswith(s)), key=len, default="")
    if not suffix or (suffix == ".weight" and not _IA3.fullmatch(key)):
        return None
    kind, part = SUFFIXES[suffix]
    name, component, dialect = _place(key[: -len(suffix)])
    if suffix.startswith(("_lora.", ".lora_linear_layer.")):
        name, dialect = _modern(name), "diffusers-old"
    return Key(raw, dialect, kind, part, component, name)


def _place(name: str) -> tuple[str, str | None, str]:
    """Return a module's name without what stands before it, the component that this tells, and the dialect."""
    component, dialect = None, "diffusers"
    if name.startswith(_PEFT):
        name, dialect = name.removeprefix(_PEFT), "peft"
    for prefix, (known_dialect, known_component) in _PREFIXES.items():
        if name.startswith(prefix):
            name, component = name.removeprefix(prefix), known_component
            dialect = dialect if dialect == "peft" else known_dialect
            break
    if component is not None and name.startswith(_PEFT):
        name, dialect = name.removeprefix(_PEFT), "peft"
    return name, component, dialect


def is_peft(raw: str) -> bool:
    """Tell whether a key is spelled as PEFT spells those of its models."""
    return _PEFT in raw


def check_adapters(raw_keys: Iterable[str], where: str) -> None:
    """Refuse a file with the parts of several of PEFT's adapters, of which it does not say which is meant."""
    names = sorted({match[2] for raw in raw_keys if (match := _NAMED.fullmatch(raw)) is not None})
    if len(names) > 1:
        raise BadFile(
            f"{where}: holds several adapters: {first_few(names)}; save the one that is meant in a file of its own"
        )


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


def with_norms(layers: Mapping[str, Iterable[str]], norms: Mapping[str, Iterable[str]]) -> dict[str, list[str]]:
    """Return the names of all modules that may be changed, by component."""
    return {component: [*paths, *norms.get(component, ())] for component, paths in layers.items()}


@dataclass(frozen=True)
class Bound:
    """The tensors of a file, by the layers of a model that they change, in the model's order."""

    modules: Mapping[tuple[str, str], Module]
    lacking: tuple[Module, ...] = ()  # whole changes of modules that the model has not
    strange: tuple[str, ...] = ()  # keys that are no part of a known change
    unread: tuple[Key, ...] = ()  # of kinds that change what cannot be changed here


def bind(
    raw_keys: Iterable[str],
    layers: Mapping[str, Iterable[str]],
    where: str,
    norms: Mapping[str, Iterable[str]] | None = None,
) -> Bound:
    """Assign every tensor of a file to a layer of the model; `norms` are normalisation layers that may be changed too.

    Raises:
        BadFile: Nothing of the file is a change of this model's, or parts of a layer contradict each other.
    """
    known = list(raw_keys)
    check_adapters(known, where)
    changeable = {(component, path) for component, paths in (norms or {}).items() for path in paths}
    modules = with_norms(layers, norms or {})
    names = Names(modules)
    found: dict[tuple[str, str], list[Key]] = {}
    lacking: dict[tuple[str | None, str], list[Key]] = {}
    unread: list[Key] = []
    strange: list[str] = []
    for raw in known:
        key = parse(raw)
        target = None if key is None else names.find(key)
        if key is None:
            strange.append(raw)
        elif key.kind == WORD:
            continue
        elif key.kind in UNREAD and target not in changeable:
            unread.append(key)
        elif target is None:
            lacking.setdefault((key.component, key.module), []).append(key)
        else:
            found.setdefault(target, []).append(key)
    ordered = [(component, path) for component, paths in modules.items() for path in paths]
    return Bound(
        {target: _module(found[target], target[1], where) for target in ordered if target in found},
        tuple(_module(group, module, where) for (_, module), group in lacking.items()),
        tuple(strange),
        tuple(unread),
    )


def ending(raw: str, names: Names) -> str:
    """Return what follows the name of a layer of the model in a key, "" if there is no such name in it."""
    place = len(raw)
    while (place := raw.rfind(".", 0, place)) > 0:
        name, component, dialect = _place(raw[:place])
        if names.find(Key(raw, dialect, "", "", component, name)) is not None:
            return raw[place:]
    return ""


def group(raw_keys: Iterable[str]) -> dict[tuple[str, str], list[Key]]:
    """Group the keys of a file by layer without knowing the model; what is no part of a layer is left out."""
    groups: dict[tuple[str, str], list[Key]] = {}
    for key in filter(None, map(parse, raw_keys)):
        if key.kind == WORD:
            continue
        component = key.component or ("text_encoder" if re.match(r"text_model\.|encoder\.", key.module) else "unet")
        groups.setdefault((component, key.module), []).append(key)
    return groups


def foreign(raw_keys: Iterable[str], kind: str) -> dict[tuple[str, str], list[Key]]:
    """Group the keys of an adapter of a kind that PEFT reads; what several layers share is no part of one."""
    groups: dict[tuple[str, str], list[Key]] = {}
    for raw in raw_keys:
        module, _, part = raw.removeprefix(_PEFT).removesuffix(".weight").rpartition(".")
        if raw.startswith(_PEFT) and module:
            component = "text_encoder" if re.match(r"text_model\.|encoder\.", module) else "unet"
            groups.setdefault((component, module), []).append(Key(raw, "peft", kind, part, None, module))
    return groups


def words(raw_keys: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the textual inversions that a file bundles: word -> component -> key."""
    found: dict[str, dict[str, str]] = {}
    for key in filter(None, map(parse, raw_keys)):
        if key.kind == WORD and key.component is not None:
            found.setdefault(key.module, {})[key.component] = key.raw
    return found


def kind_of(keys: Iterable[Key]) -> str:
    """Return the kind of adapter that a layer's keys make. A LoRA with an extra part is what that part makes it."""
    kinds = sorted({key.kind for key in keys if key.kind}, key=lambda kind: (kind == "lora", kind == "bias", kind))
    return "dora" if "dora" in kinds else kinds[0] if kinds else ""


def _module(keys: list[Key], path: str, where: str) -> Module:
    parts = {key.part: key.raw for key in keys}
    if len(parts) < len(keys):
        raise BadFile(f"{where}: several keys for the same part of {path}: {first_few(key.raw for key in keys)}")
    kinds = {key.kind for key in keys} - {"", "dora", "bias"}  # these add to another kind, the rest stand alone
    if "tucker" in kinds:
        kinds.discard("lora")
    if len(kinds) > 1:
        raise BadFile(
            f"{where}: {path} is of several kinds at once, {' and '.join(sorted(kinds))}: {first_few(parts.values())}"
        )
    return Module(next(iter(kinds), ""), parts, tuple(dict.fromkeys([*(key.module for key in keys), path])))
