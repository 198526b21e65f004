"""The table of readers: whose metadata are read, and in which order they are asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipelines.metadata import a1111, comfyui, fooocus, invokeai
from pipelines.metadata.found import Found

#: Each returns None where its tool wrote nothing. A1111's text comes before ComfyUI's graph: nodes that write both put
#: hashes and the sampler's outcome into the text. A reader that finds its own and cannot read it raises.
READERS: Mapping[str, Callable[[Mapping[str, str]], Found | None]] = {
    "invokeai": invokeai.read,
    "fooocus": fooocus.read,
    "a1111": a1111.read,
    "comfyui": comfyui.read,
}


def read(texts: Mapping[str, str]) -> Found | None:
    """Return what the first tool that is recognised says; None if none is."""
    found = (reader(texts) for reader in READERS.values())
    return next((one for one in found if one is not None), None)
