"""Textual inversions that a LoRA file bundles: words for prompts, each some vectors in place of token embeddings."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor

from lora_zoo import keys
from lora_zoo.adapter import Layout
from lora_zoo.errors import BadFile, first_few
from lora_zoo.kinds import Misfit

_READER = re.compile(r"(.*\.)?self_attn\.q_proj")  # of a text encoder: reads states as wide as embeddings
_MOST = 75  # vectors of a word: what a text encoder reads at once


def read(
    tensors: Mapping[str, Tensor], layout: Layout, where: str, checked: Callable[[str, Tensor], Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Return the words of a file, word -> component -> [n, width], for each text encoder of a model; or `BadFile`."""
    widths = {component: width for component in layout if (width := _width(layout[component])) is not None}
    found: dict[str, dict[str, Tensor]] = {}
    problems: list[str] = []
    for word, places in keys.words(tensors).items():
        try:
            if set(places) != set(widths):
                raise Misfit(f"is for {' and '.join(sorted(places))}; this model has {' and '.join(sorted(widths))}")
            vectors = {component: _vectors(tensors[key], widths[component]) for component, key in places.items()}
            found[word] = {component: checked(component, vectors[component]) for component in widths}
        except Misfit as misfit:
            problems.append(f"{word!r} ({misfit})")
    if problems:
        raise BadFile(f"{where}: words that cannot be used: {first_few(problems)}")
    return found


def _width(layers: Mapping[str, tuple[int, ...]]) -> int | None:
    return next((shape[1] for path, shape in layers.items() if _READER.fullmatch(path)), None)


def _vectors(tensor: Tensor, width: int) -> Tensor:
    if not tensor.is_floating_point() or tensor.ndim not in (1, 2) or tensor.shape[-1] != width:
        raise Misfit(f"{list(tensor.shape)} of {tensor.dtype}; this model's are [n, {width}]")
    rows = tensor.reshape(-1, width)
    if len(rows) > _MOST:
        raise Misfit(f"has {len(rows)} vectors; a text encoder reads {_MOST} at once")
    return rows
