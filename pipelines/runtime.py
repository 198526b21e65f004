"""How a model is run on this machine: choices that decide time, memory and last bits, not the picture."""

from __future__ import annotations

from dataclasses import dataclass

from composer.errors import UnknownChoice

DTYPES = ("auto", "float32", "float16", "bfloat16")
ATTENTIONS = ("sdpa", "eager", "xformers")
OFFLOADS = ("none", "parts")
_SHORT = {"fp16": "float16", "half": "float16", "bf16": "bfloat16", "fp32": "float32"}  # as other tools have them


@dataclass(frozen=True)
class Runtime:
    """What a model is loaded with. A value that is not listed above is an error that tells the nearest.

    `dtype` "auto" is the fastest that the device computes soundly in: half precision on a GPU, single on a processor.
    `attention` "sdpa" is PyTorch's fused attention, "eager" its plain matrices, "xformers" the package of this name.
    `offload` "parts" keeps in a GPU's memory only the component in use: text encoders, UNet or VAE.
    `vae_tiling` decodes large pictures in overlapping tiles, whose seams are blended.
    """

    dtype: str = "auto"
    attention: str = "sdpa"
    offload: str = "none"
    vae_tiling: bool = False

    def __post_init__(self) -> None:
        choices = {"dtype": DTYPES, "attention": ATTENTIONS, "offload": OFFLOADS}
        for what, known in choices.items():
            value = getattr(self, what)
            if value not in known:
                meant = f"did you mean '{_SHORT[value]}'?" if value in _SHORT else ""
                raise UnknownChoice(what, value, known, known_as=meant)
