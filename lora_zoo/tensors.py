"""From a LoRA file's tensors to deltas, bound to the layers of a model: all of the file, or an error.

What each kind of adapter makes of a layer's parts is in `lora_zoo.kinds`; here the parts are found and checked.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from lora_zoo import by_peft, families, fields, keys, leftovers, scaling, strangers, words
from lora_zoo.adapter import Adapter, BaseLayer, Delta, DenseDelta, Layout, ModelLayout, partial_digest, tensors_of
from lora_zoo.errors import BadFile, UnsupportedKind, first_few
from lora_zoo.foreign import files
from lora_zoo.header import MAX_FILE, Header, header, parse
from lora_zoo.keys import Module
from lora_zoo.kinds import Layer, Misfit, read_layer
from lora_zoo.sources import PEFT_CONFIG, Part, locate

#: The greatest value of a factor, a scale and a delta. A trained weight is of the order of 1 and its change is smaller;
#: what goes past this is a damaged file, which turns every picture black and still looks like one that loads.
_LARGEST = 1e4

#: Parts that count or switch instead of measuring, hence may be stored as whole numbers.
_WHOLE_NUMBERS = ("indices", "on_input")


def read(path: Path, layout: Layout, name: str | None = None, allow_partial: bool = False) -> Adapter:
    """Read a LoRA file, or a PEFT folder, for a model of the given layout.

    With `allow_partial` what cannot be used is left out and told in the adapter's notices, and the adapter's identity
    is that of the rest; a file of which nothing can be used is an error in any case.
    """
    source = locate(path)
    digest = hashlib.sha256()
    gathered = _Gathered()
    for part in source.parts:
        head = header(part.weights)  # before any of the data: what fails here has cost nothing
        reader = _Reader(part, head, layout, digest, allow_partial)
        try:
            gathered.add(reader, reader.read(_wanted(part, layout, str(path)), path))
        except BadFile as error:
            raise families.explained(error, head, layout) from error
    return gathered.adapter(
        source.name if name is None else name,
        partial_digest(digest.hexdigest()) if allow_partial else digest.hexdigest(),
    )


class _Gathered:
    """What the files of one LoRA make together."""

    def __init__(self) -> None:
        self._layers: dict[str, dict[str, Delta]] = {}
        self._metadata: dict[str, str] = {}
        self._words: dict[str, dict[str, Tensor]] = {}
        self._vectors: dict[str, dict[str, Tensor]] = {}
        self._notices: list[str] = []

    def add(self, reader: _Reader, found: Iterable[tuple[tuple[str, str], Delta]]) -> None:
        for (component, layer), delta in found:
            self._layers.setdefault(component, {})[layer] = delta
        for component, changed in reader.vectors.items():
            self._vectors.setdefault(component, {}).update(changed)
        self._words |= reader.words
        self._metadata |= reader.head.metadata
        self._notices += reader.notices

    def adapter(self, name: str, digest: str) -> Adapter:
        notices = tuple(f"LoRA '{name}': {notice}" for notice in self._notices)
        return Adapter(name, digest, self._layers, self._metadata, self._words, self._vectors, notices)


def _vectors_of(layout: Layout) -> Layout:
    return layout.vectors if isinstance(layout, ModelLayout) else {}


def _norms(layout: Layout, wanted: Layout) -> Mapping[str, Sequence[str]]:
    if not isinstance(layout, ModelLayout):
        return {}
    norms = layout.norms()
    return {component: paths for component, paths in norms.items() if component in wanted}


def _wanted(part: Part, layout: Layout, where: str) -> Layout:
    """Return the components that a file may mean: all, or the one that its folder is named after."""
    if part.component is None:
        return layout
    if part.component not in layout:
        raise BadFile(f"{where}: has an adapter for {part.component}, which this model has not")
    return {part.component: layout[part.component]}


class _Reader:
    """Reads the layers of one file."""

    def __init__(self, part: Part, head: Header, layout: Layout, digest: _Digest, allow_partial: bool) -> None:
        self.head = head
        self._part = part
        self._layout = layout
        self._digest = digest
        self._allow_partial = allow_partial
        self._configs: scaling.Configs = {}
        self.vectors: dict[str, dict[str, Tensor]] = {}
        self.words: dict[str, dict[str, Tensor]] = {}
        self.notices: list[str] = []

    @cached_property
    def tensors(self) -> Mapping[str, Tensor]:
        return _load(self._part, self.head, self._digest)

    def read(self, wanted: Layout, path: Path) -> Iterable[tuple[tuple[str, str], Delta]]:
        """Read every layer and word of the file."""
        foreign = scaling.foreign(self._part)
        found = self._here(wanted, path) if foreign is None else self.by_peft(foreign, wanted, path)
        try:
            self.words = words.read(self.tensors, self._layout, str(path), _checked)
        except BadFile as error:
            self._leave_out(str(path), str(error).removeprefix(f"{path}: "), error)
        return found

    def _here(self, wanted: Layout, path: Path) -> Iterable[tuple[tuple[str, str], Delta]]:
        """Read an adapter of a kind that is read here."""
        norms = _norms(self._layout, wanted)
        bound = keys.bind(self.head.tensors, wanted, str(path), norms)
        left = leftovers.of(bound, keys.Names(keys.with_norms(wanted, norms)), lambda: self.tensors)
        for told in left.told() if self._allow_partial else ():
            self._leave_out(str(path), told)
        if not bound.modules:
            strangers.explain(self.head, str(path))
        if not self._allow_partial or not bound.modules:
            left.refuse(str(path))
        if not bound.modules:
            raise BadFile(f"{path}: the file holds no {'change of this model' if self.head.tensors else 'tensors'}")
        self._configs = scaling.configs(self._part, self.head)
        self.notices += _unstated(self._part, self.head)
        return self.all(bound.modules, path)

    def _leave_out(self, where: str, told: str, error: BadFile | None = None) -> None:
        """Tell what is left out of a file, if it may be; else refuse it."""
        if not self._allow_partial:
            raise error or BadFile(f"{where}: {told}")
        self.notices.append(f"used without what cannot be read of it: {told}")

    def all(self, modules: Mapping[tuple[str, str], Module], path: Path) -> Iterable[tuple[tuple[str, str], Delta]]:
        """Read every layer; what cannot be used is reported together."""
        found: list[tuple[tuple[str, str], Delta]] = []
        problems: list[str] = []
        for target, module in modules.items():
            try:
                delta = self._read(target, module)
            except Misfit as misfit:
                problems.append(f"{next(iter(module.parts.values()))} ({misfit})")
            else:
                if delta is not None:
                    found.append((target, delta))
        if problems:
            self._leave_out(str(path), f"layers that cannot be used: {first_few(problems)}")
            if not found and not self.vectors:
                raise BadFile(f"{path}: nothing of the file can be used: {first_few(problems)}")
        return found

    def by_peft(self, config: fields.Object, wanted: Layout, path: Path) -> Iterable[tuple[tuple[str, str], Delta]]:
        """Read an adapter of a kind of which PEFT says what it changes."""
        if not isinstance(self._layout, ModelLayout):
            kind = str(config.get("peft_type", "LORA")).lower()
            told = f"an adapter of kind {kind} is stated relative to the model's weights, and needs a model in memory"
            raise UnsupportedKind(f"{path}: {told}")
        among = ModelLayout(wanted, self._layout.base, self._layout.vectors)
        found: list[tuple[tuple[str, str], Delta]] = []
        try:
            whole = {key: t if not t.is_floating_point() else _checked(key, t) for key, t in self.tensors.items()}
            for change in by_peft.read(config, whole, among, str(path)):
                _check_values(f"the change of {change.path}", change.weight)
                found.append(((change.component, change.path), DenseDelta(change.weight)))
                if change.bias is not None:
                    self._keep_vector(change.component, f"{change.path}.bias", change.bias)
        except Misfit as misfit:
            raise BadFile(f"{path}: cannot be used: {misfit}") from misfit
        return found

    def _read(self, target: tuple[str, str], module: Module) -> Delta | None:
        """Return a layer's delta, None for one of whose weight nothing is changed; vectors are kept apart."""
        component, layer = target
        stored = {part: self.tensors[key] for part, key in module.parts.items()}
        _check_types(stored)
        parts = {part: _checked(part, tensor) for part, tensor in stored.items()}
        if layer not in self._layout[component]:
            return self._read_norm(target, parts)
        _refuse_bias(parts.pop(keys.UP_BIAS, None))
        if keys.BIAS in parts:
            self._keep_vector(component, f"{layer}.bias", parts.pop(keys.BIAS))
        alpha = _alpha(parts.pop(keys.ALPHA, None))
        if not parts and alpha is None:
            return None
        config = scaling.config_for(self._configs, component) or scaling.PeftConfig()
        if config.dora and keys.ROW_MAGNITUDE not in parts:
            raise Misfit("has no magnitude, though the configuration says DoRA")
        scale = scaling.scale(alpha, self._configs, component, module.spellings)
        shape = self._layout[component][layer]
        delta = read_layer(module.kind, Layer(parts, scale, shape, lambda: self._base(component, layer), config.oft))
        for tensor in tensors_of(delta):
            _check_values("delta", tensor)
        return delta

    def _read_norm(self, target: tuple[str, str], parts: Mapping[str, Tensor]) -> None:
        if strange := set(parts) - {"weight", keys.BIAS}:
            raise Misfit(f"has {' and '.join(sorted(strange))}, which a change of normalisation has not")
        for part, change in parts.items():
            self._keep_vector(target[0], f"{target[1]}.{part}", change)

    def _keep_vector(self, component: str, path: str, change: Tensor) -> None:
        """Keep a change to a parameter of one dimension; one by nothing is none."""
        if not bool((change != 0).any()):
            return
        wanted = _vectors_of(self._layout).get(component, {}).get(path)
        if wanted is None:
            raise Misfit("changes a bias that is not among the parameters which can be changed here")
        if change.squeeze().shape != wanted:
            raise Misfit(f"{list(change.shape)} does not fit the {list(wanted)} of {path}")
        self.vectors.setdefault(component, {})[path] = change.reshape(wanted)

    def _base(self, component: str, layer: str) -> BaseLayer:
        if not isinstance(self._layout, ModelLayout):
            raise Misfit("is stated relative to the model's weight, so that it needs a model in memory")
        return self._layout.base(component, layer)


class _Digest(Protocol):
    """A hash under way."""

    def update(self, data: bytes, /) -> None: ...


def _load(part: Part, head: Header, digest: _Digest) -> dict[str, Tensor]:
    """Load the tensors and the digest from one reading, so that they cannot be of different files."""
    data = files.read(part.weights, MAX_FILE)
    if parse(io.BytesIO(data), len(data), part.weights) != head:
        raise BadFile(f"{part.weights}: changed while it was read")
    digest.update((part.component or "").encode())
    digest.update(data)
    if part.config is not None:
        digest.update(files.read(part.config, scaling.MAX_CONFIG, within=part.config.parent))
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, KeyError) as error:
        raise BadFile(f"{part.weights}: {error}") from error


def _unstated(part: Part, head: Header) -> list[str]:
    """Return what to say of PEFT's keys without PEFT's configuration, which alone holds their strength."""
    stated = part.config is not None or scaling.has_config(head) or any(key.endswith(".alpha") for key in head.tensors)
    if stated or not any(keys.is_peft(key) for key in head.tensors):
        return []
    return [f"its keys are PEFT's, but no {PEFT_CONFIG} is beside it: alpha is unknown, and taken as the rank"]


def _check_types(parts: Mapping[str, Tensor]) -> None:
    """Refuse a layer whose factors are of several types: half of it was relabelled, since they are saved together."""
    strange = [
        name for name, tensor in parts.items() if not (tensor.is_floating_point() or _may_be_whole(name, tensor))
    ]
    if strange:
        raise Misfit(f"{' and '.join(strange)} of type {parts[strange[0]].dtype}, not floating point")
    types = {name: tensor.dtype for name, tensor in parts.items() if name not in _WHOLE_NUMBERS}
    short = {kind for kind in types.values() if kind.itemsize == 2}
    factors = {kind for name, kind in types.items() if name not in (keys.ALPHA, keys.MAGNITUDE, keys.ROW_MAGNITUDE)}
    if len(short) > 1 or len(factors) > 1:
        raise Misfit(
            f"parts of types {', '.join(sorted({str(kind) for kind in types.values()}))} do not belong together"
        )


def _may_be_whole(name: str, tensor: Tensor) -> bool:
    """Allow whole numbers where they are written: LyCORIS stores an alpha of 4 as what Python makes of it, an int64."""
    return name in _WHOLE_NUMBERS or (name == keys.ALPHA and tensor.dtype == torch.int64)


def _checked(name: str, tensor: Tensor) -> Tensor:
    """Return a part in float32, its values checked."""
    if name in _WHOLE_NUMBERS and not tensor.is_floating_point():
        return tensor
    wide = tensor.float()
    _check_values(name, wide, torch.inf if name in (*_WHOLE_NUMBERS, keys.ALPHA) else _LARGEST)
    return wide


def _check_values(name: str, tensor: Tensor, largest: float = _LARGEST) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise Misfit(f"{name} holds values that are not finite")
    greatest = float(tensor.abs().max())
    if greatest > largest:
        raise Misfit(f"{name} holds {greatest:.3g}; no trained value is greater than {largest:g}")


def _refuse_bias(bias: Tensor | None) -> None:
    if bias is not None and bool((bias != 0).any()):
        raise Misfit("has a bias of its up factor, which is not read")


def _alpha(tensor: Tensor | None) -> float | None:
    if tensor is None:
        return None
    if tensor.numel() != 1 or not 0 <= float(tensor) <= _LARGEST:
        raise Misfit(f"alpha is not one number from 0 to {_LARGEST:g}")
    return float(tensor)
