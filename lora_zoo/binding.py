"""From a file's keys to the layers of a model that they change: which part each is, and what is left over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from lora_zoo.errors import BadFile, first_few
from lora_zoo.keys import UNREAD, WORD, Key, Names, check_adapters, parse, placed, with_norms


@dataclass(frozen=True)
class Module:
    """The tensors of one adapted layer: part -> key in the file."""

    kind: str
    parts: Mapping[str, str]
    spellings: tuple[str, ...]  # the module's name in the file and in the model; patterns of a config may mean either


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
        name, component, dialect = placed(raw[:place])
        if names.find(Key(raw, dialect, "", "", component, name)) is not None:
            return raw[place:]
    return ""


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
