"""How a rendering is stopped in the middle of its work: a look at the switch before each part of a model that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from pipelines.model import UNET, VAE, LoadedModel


@contextmanager
def interrupted(model: LoadedModel, check: Callable[[], None]) -> Iterator[None]:
    """Have `check` called before each part that runs inside: text encoders, UNet and its blocks, encoder, decoder.

    What it raises ends the call under way. A decoder that works in tiles is a part that runs once for each.
    """
    parts = model.modules()
    unet, vae = cast(Any, parts[UNET]), cast(Any, parts[VAE])
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    watched = [*parts.values(), vae.encoder, vae.decoder, *filter(None, blocks)]
    handles = [part.register_forward_pre_hook(lambda _part, _inputs: check()) for part in watched]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
