"""Suites by name. The embedded world's are made here; the published testbed and users' own come from their files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from composer.errors import UnknownChoice
from eval.errors import BadSuite
from eval.suites import compos, composlora, duet, subject_style, user
from eval.suites.model import Suite

#: name -> its sets
EMBEDDED: Mapping[str, Callable[[], Suite]] = {
    compos.NAME: compos.suite,
    duet.NAME: duet.suite,
    subject_style.NAME: subject_style.suite,
}
_SUFFIXES = (".yaml", ".yml")


def load(name: str, mapped: Path | None = None) -> Suite:
    """Return a suite by its name, or the one in a YAML file; `mapped` says where the published testbed's LoRAs are."""
    if name == composlora.NAME:
        if mapped is None:
            raise BadSuite("suite 'composlora' needs --map FILE, which says where its LoRAs and checkpoints are")
        return composlora.suite(mapped)
    if mapped is not None:
        raise BadSuite(f"--map belongs to suite 'composlora', not to {name!r}")
    if name in EMBEDDED:
        return EMBEDDED[name]()
    if Path(name).suffix in _SUFFIXES:
        return user.suite(Path(name))
    raise UnknownChoice("suite", name, (*EMBEDDED, composlora.NAME, "FILE.yaml"))
