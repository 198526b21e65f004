"""PEFT's many other kinds of adapter (VeRA, FourierFT, HRA, PiSSA, ...): PEFT itself says what they change.

The layers that a folder's keys name are set up under the names that PEFT knew, with the model's own weights. PEFT puts
the adapter on them and merges it, in double precision; what differs then is the delta. A kind that it cannot merge has
none, and is refused. Tensors that PEFT leaves unused, and parameters that it finds no tensor for, are refused too.
"""

from __future__ import annotations

import importlib
import string
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from lora_zoo import fields
from lora_zoo.adapter import BaseLayer, ModelLayout
from lora_zoo.errors import BadFile, UnsupportedKind, first_few
from lora_zoo.foreign import patterns

_ROOT = "base_model.model."
_LARGEST = 1 << 16  # of a configuration's numbers, which become sizes; seeds may be larger
_SEEDS = ("seed", "key")
_SAID = 300  # characters of what PEFT says of a failure
#: Kinds that do nothing but change layers. Others, such as X-LoRA and learned prompts, fetch what their configuration
#: names: files of this machine, models and code from the hub.
_KINDS = frozenset(
    """
    adalora adamss beft boft bone c3a deft delora fourierft glora gralora hira hra ia3 lily loha lokr lora miss oft osf
    psoft pvera randlora road shira tinylora unilora vblora vera waveft
    """.split()
)
#: How a LoRA may begin to be trained. Others quantise, take files, or run as many rounds as they say.
_BEGINNINGS = ("gaussian", "eva", "orthogonal", "olora", "pissa", *(f"pissa_niter_{n}" for n in range(1, 65)))
_NAME = frozenset(string.ascii_letters + string.digits + "_.-^")  # in what nothing repeats, so that it takes no time
#: Fields that say of which model and of which of its layers an adapter is, which the keys say too.
_ELSEWHERE = (
    "auto_mapping",
    "base_model_name_or_path",
    "exclude_modules",
    "layers_pattern",
    "layers_to_transform",
    "revision",
    "task_type",
)
_RAISED = (ValueError, TypeError, KeyError, RuntimeError, AttributeError, IndexError, AssertionError, ImportError)


class _Loaded(Protocol):
    missing_keys: list[str]
    unexpected_keys: list[str]


class _Peft(Protocol):
    """The typed face of PEFT, as far as it is used."""

    def get_peft_config(self, config_dict: dict[str, object]) -> object: ...
    def get_peft_model(self, model: nn.Module, peft_config: object, *, autocast_adapter_dtype: bool) -> nn.Module: ...
    def set_peft_model_state_dict(self, model: nn.Module, peft_model_state_dict: dict[str, Tensor]) -> _Loaded: ...


class _Tuned(Protocol):
    """A layer with an adapter on it."""

    def merge(self) -> None: ...
    def get_base_layer(self) -> nn.Linear | nn.Conv2d: ...


@dataclass(frozen=True, eq=False)
class Change:
    """What an adapter changes of one layer."""

    component: str
    path: str
    weight: Tensor
    bias: Tensor | None


def read(config: fields.Object, tensors: Mapping[str, Tensor], layout: ModelLayout, where: str) -> list[Change]:
    """Return what a PEFT folder's adapter changes of a model; `tensors` are checked, in float32."""
    kind = fields.text(config.get("peft_type", "LORA"), f"{where}: peft_type").lower()
    if kind not in _KINDS:
        raise UnsupportedKind(
            f"{where}: adapters of kind {kind} are not read; of PEFT's, {', '.join(sorted(_KINDS))} are"
        )
    component, names = _layers(tensors, layout, where)
    state = torch.get_rng_state()  # PEFT draws what it is about to load
    try:
        model = _loaded(_prepared(config, names, where), names, tensors, _Bases(layout, component), where)
        found = list(_changes(model, names, _Bases(layout, component)))
        if not any(bool(one.weight.any()) or (one.bias is not None and bool(one.bias.any())) for one in found):
            raise ValueError("merging it changes nothing")
        return found
    except BadFile:
        raise
    except _RAISED as error:
        why = " ".join(str(error).split())[:_SAID]
        told = f"{where}: PEFT states no change of weights for this adapter of kind {kind}: {why}"
        raise UnsupportedKind(told) from error
    finally:
        torch.set_rng_state(state)


@dataclass(frozen=True, eq=False)
class _Bases:
    layout: ModelLayout
    component: str

    def __getitem__(self, path: str) -> BaseLayer:
        return self.layout.base(self.component, path)


def _layers(tensors: Mapping[str, Tensor], layout: ModelLayout, where: str) -> tuple[str, dict[str, str]]:
    """Return the component that keys are of, and its layers that they name: name in the file -> path in the model."""
    best: tuple[str, dict[str, str]] = ("", {})
    for component, paths in layout.items():
        short = {path: path.removeprefix("text_model.") for path in paths}
        spelled = {f"text_model.{short[path]}": path for path in paths} | {short[path]: path for path in paths}
        spelled |= {path: path for path in paths}
        found = {name: spelled[name] for key in tensors for name in _prefixes(key) if name in spelled}
        if len(found) > len(best[1]):
            best = component, found
    if not best[0]:
        raise BadFile(f"{where}: keys that match no layer of this model: {first_few(tensors)}")
    return best


def _prefixes(key: str) -> Iterator[str]:
    """Return what in a key may be a layer's name."""
    name = key.removeprefix(_ROOT)
    while name := name.rpartition(".")[0]:
        yield name


def _prepared(config: fields.Object, names: Mapping[str, str], where: str) -> dict[str, object]:
    """Return a configuration that aims at the layers that keys name, its numbers within reason."""
    if config.get("modules_to_save"):
        raise UnsupportedKind(f"{where}: holds whole modules beside the adapter (modules_to_save), which are not read")
    beginning = config.get("init_lora_weights")
    if isinstance(beginning, str) and beginning not in _BEGINNINGS:
        raise UnsupportedKind(f"{where}: LoRAs that begin as {beginning!r} are not read")
    for name, value in config.items():
        _check_field(name, value, where)
    aimed = {**dict.fromkeys(_ELSEWHERE), "target_modules": list(names), "inference_mode": False}
    return {"peft_type": "LORA", **config, **{name: value for name, value in aimed.items() if name in config}}


def _check_field(name: str, value: object, where: str) -> None:
    """Refuse numbers beyond reason, wherever in a field they are, and patterns: PEFT's engine can take for ever."""
    if isinstance(value, dict):
        items = cast(dict[str, object], value)
        if name.endswith("_pattern"):
            _check_patterns(items, f"{where}: {name}")
        for key, item in items.items():
            _check_field(f"{name}.{key}", item, where)
    elif isinstance(value, list):
        for item in cast(list[object], value):
            _check_field(name, item, where)
    elif isinstance(value, str) and name == "feedforward_modules":
        _check_patterns([value], f"{where}: {name}")
    elif isinstance(value, int | float) and not isinstance(value, bool) and not name.endswith(_SEEDS):
        if not abs(value) <= _LARGEST:
            raise BadFile(f"{where}: {name} is {value}; {_LARGEST} is the largest that is read")


def _check_patterns(found: Collection[str], where: str) -> None:
    if len(found) > patterns.MAX_NUMBER:
        raise BadFile(f"{where}: {len(found):,} patterns; at most {patterns.MAX_NUMBER:,} are read")
    for pattern in found:
        if len(pattern) > patterns.MAX_LENGTH or not _NAME.issuperset(pattern.replace("\\.", ".").removesuffix("$")):
            raise UnsupportedKind(
                f"{where}: {pattern[:80]!r} is no name of a layer; other patterns are read of LoRAs only"
            )


def _loaded(
    config: dict[str, object], names: Mapping[str, str], tensors: Mapping[str, Tensor], bases: _Bases, where: str
) -> nn.Module:
    peft = cast(_Peft, importlib.import_module("peft"))
    root = nn.Module()
    for name, path in names.items():
        _put(root, name, _layer(bases[path]))
    model = peft.get_peft_model(root, peft.get_peft_config(config), autocast_adapter_dtype=False)
    loaded = peft.set_peft_model_state_dict(model, dict(tensors))
    if missing := _missing(model, loaded):
        raise BadFile(f"{where}: tensors that are missing: {first_few(missing)}")
    if loaded.unexpected_keys:
        raise BadFile(f"{where}: tensors that belong to nothing: {first_few(loaded.unexpected_keys)}")
    return model.eval().double()


def _missing(model: nn.Module, loaded: _Loaded) -> list[str]:
    """Return the adapter's parameters for which there was no tensor; one that layers share has several names."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            names.setdefault(id(parameter), []).append(name)
    unset = set(loaded.missing_keys)
    return [one[0] for one in names.values() if unset.issuperset(one)]


def _changes(model: nn.Module, names: Mapping[str, str], bases: _Bases) -> Iterator[Change]:
    for name, path in names.items():
        tuned, base = cast(_Tuned, model.get_submodule(_ROOT + name)), bases[path]
        tuned.merge()
        merged = tuned.get_base_layer()
        weight = merged.weight.detach() - base.weight.detach().to("cpu", torch.float64)
        bias = None
        if merged.bias is not None and base.bias is not None:
            bias = (merged.bias.detach() - base.bias.detach().to("cpu", torch.float64)).float()
        yield Change(bases.component, path, weight.float(), bias)


def _put(root: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer under a dotted name, as a model has it."""
    *parents, last = name.split(".")
    for parent in parents:
        children = dict(root.named_children())
        if parent not in children:
            root.add_module(parent, nn.Module())
        root = root.get_submodule(parent)
    root.add_module(last, layer)


def _layer(base: BaseLayer) -> nn.Linear | nn.Conv2d:
    """Return a layer of its own with a model's weight."""
    out, into, *window = base.weight.shape
    has_bias = base.bias is not None
    layer = (
        nn.Conv2d(into, out, (window[0], window[1]), bias=has_bias, device="meta")
        if window
        else nn.Linear(into, out, bias=has_bias, device="meta")
    )
    layer.weight = nn.Parameter(base.weight.detach().to("cpu", torch.float32, copy=True), requires_grad=False)
    if base.bias is not None:
        layer.bias = nn.Parameter(base.bias.detach().to("cpu", torch.float32, copy=True), requires_grad=False)
    return layer
