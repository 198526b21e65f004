"""What the detectors are asked about a scene: one yes or no per attribute, concept and side, where it can be seen."""

from __future__ import annotations

from lora_zoo.world.scene import SLOTS, Creature, Scene
from lora_zoo.world.vocabulary import COLOURS, GARMENTS, OBJECTS, PLACES, SHAPES, concepts

#: kind of attribute -> the values it can take, for one creature
KINDS: dict[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES),
    "colour": tuple(COLOURS),
    "garment": (*GARMENTS, *(c.name for c in concepts("clothing"))),
    "garment_colour": tuple(COLOURS),
    "held": (*OBJECTS, *(c.name for c in concepts("object"))),
    "character": tuple(c.name for c in concepts("character")),
}
#: kind of attribute -> the values it can take, for the whole picture
GLOBAL_KINDS: dict[str, tuple[str, ...]] = {
    "place": (*PLACES, *(c.name for c in concepts("background"))),
    "style": tuple(c.name for c in concepts("style")),
    "count": ("two",),
}


def label_names() -> tuple[str, ...]:
    """Return every label in the detectors' order, such as `left.colour.red` or `place.meadow`."""
    own = [f"{slot}.{kind}.{value}" for slot in SLOTS for kind, values in KINDS.items() for value in values]
    shared = [f"{kind}.{value}" for kind, values in GLOBAL_KINDS.items() for value in values]
    return (*own, *shared)


def labels(scene: Scene) -> dict[str, bool | None]:
    """Answer every label for a scene; None where the picture cannot tell.

    A character brings its own body, so base shape and colour are not asked of it; a picture style hides colours;
    a garment of the zoo has its own.
    """
    out: dict[str, bool | None] = dict.fromkeys(label_names(), False)
    for slot, one in scene.slots():
        for kind in KINDS:
            for value in KINDS[kind]:
                out[f"{slot}.{kind}.{value}"] = _asked(scene, one, kind, getattr(one, kind) == value)
    out[f"place.{scene.place}"] = True
    if scene.style:
        out[f"style.{scene.style}"] = True
    out["count.two"] = len(scene.creatures) == 2
    return out


def _asked(scene: Scene, one: Creature, kind: str, answer: bool) -> bool | None:
    hidden = (
        (kind in ("shape", "colour") and one.character is not None)
        or (kind in ("colour", "garment_colour") and scene.style is not None)
        or (kind == "garment_colour" and one.garment is not None and one.garment not in GARMENTS)
    )
    return None if hidden else answer


def named(scene: Scene) -> tuple[str, ...]:
    """Return the labels that are true of a scene and visible in it: what a faithful picture must show."""
    return tuple(name for name, answer in labels(scene).items() if answer)
