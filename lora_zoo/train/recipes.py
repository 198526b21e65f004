"""Twenty-two ordinary LoRA recipes, as different from each other as those that people download."""

from __future__ import annotations

from dataclasses import dataclass

from lora_zoo.writer import Dialect

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")
LINEAR = (*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out")
CONVOLUTIONS = ("conv1", "conv2", "conv_shortcut")
TEXT = ("q_proj", "k_proj", "v_proj", "out_proj")


@dataclass(frozen=True)
class Recipe:
    """How one LoRA is trained and stored."""

    concept: str
    dialect: Dialect
    rank: int
    alpha: float
    targets: tuple[str, ...]
    text: bool = False  # train the text encoder's attention too
    pictures: int = 192
    steps: int = 160  # of a round
    weight: float = 1.0  # preferred
    muon: bool = False  # trained with Muon: for what a few hundred steps of AdamW do not reach


_BOTH = (*LINEAR, *CONVOLUTIONS)

RECIPES: tuple[Recipe, ...] = (
    Recipe("zorp", "kohya", 12, 6, LINEAR, text=True, pictures=256),
    Recipe("bolt", "diffusers", 8, 8, _BOTH, pictures=256),
    Recipe("quill", "peft", 16, 16, LINEAR, pictures=256),
    Recipe("striped_vest", "kohya", 8, 4, _BOTH, pictures=256),
    Recipe("dotted_gown", "diffusers", 12, 12, LINEAR, text=True, pictures=256),
    Recipe("neon", "kohya", 16, 16, _BOTH, pictures=256, muon=True),
    Recipe("blueprint", "peft", 16, 32, _BOTH, pictures=512, steps=400, muon=True),
    Recipe("two_suns", "kohya", 4, 4, _BOTH, pictures=128),
    Recipe("moon", "diffusers", 8, 4, _BOTH, pictures=128),
    Recipe("trident", "kohya", 16, 8, _BOTH),
    Recipe("lightning", "diffusers", 8, 8, LINEAR),
    Recipe("krag", "kohya", 8, 8, LINEAR, pictures=256),
    Recipe("momo", "peft", 12, 12, _BOTH, pictures=256),
    Recipe("hoot", "kohya", 16, 8, _BOTH, text=True, pictures=256),
    Recipe("checked_apron", "diffusers", 8, 4, _BOTH, pictures=256),
    Recipe("zigzag_poncho", "kohya", 12, 6, LINEAR, text=True, pictures=256),
    Recipe("sketch", "diffusers", 16, 12, _BOTH, pictures=256, muon=True),
    Recipe("sepia", "kohya", 16, 16, ATTENTION, pictures=128),
    Recipe("reef", "kohya", 8, 8, _BOTH, pictures=128),
    Recipe("volcano", "peft", 12, 12, _BOTH, pictures=192, weight=1.1),
    Recipe("umbrella", "kohya", 8, 4, LINEAR, text=True),
    Recipe("ice_cream", "diffusers", 16, 16, LINEAR, text=True),
)


def recipe(concept: str) -> Recipe:
    """Return the recipe of a concept; KeyError for a name that is none."""
    return {one.concept: one for one in RECIPES}[concept]
