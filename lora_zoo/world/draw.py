"""Scene + seed -> ground-truth picture, the same on every machine."""

from __future__ import annotations

from random import Random

from PIL import Image

from lora_zoo.world import figures, places, styles
from lora_zoo.world.brush import FINE, SIZE, Brush
from lora_zoo.world.scene import Creature, Scene
from lora_zoo.world.vocabulary import COLOURS

_SINGLE = ((28.5, 36.0, 1.0, 1),)
_PAIR = ((20.0, 40.0, 0.72, -1), (44.0, 40.0, 0.72, 1))
_JITTER = 1.5


def draw(scene: Scene, seed: int) -> Image.Image:
    """Return the 64x64 RGB picture of a scene; the seed varies positions, sizes and small details."""
    rng = Random(seed)
    image = Image.new("RGB", (SIZE * FINE, SIZE * FINE))
    places.PAINTERS[scene.place](Brush(image), rng)
    stands = _SINGLE if len(scene.creatures) == 1 else _PAIR
    for one, (x, y, scale, side) in zip(scene.creatures, stands, strict=True):
        origin = (x + rng.uniform(-_JITTER, _JITTER), y + rng.uniform(-_JITTER, _JITTER))
        _figure(Brush(image, origin, scale * rng.uniform(0.96, 1.04), side), one)
    if scene.style:
        image = styles.apply(image, scene.style)
    return image.reduce(FINE)


def _figure(brush: Brush, one: Creature) -> None:
    figures.limbs(brush)
    if one.character:
        figures.CHARACTERS[one.character](brush)
    else:
        assert one.shape and one.colour, "a creature has a body or a character"
        figures.body(brush, one.shape, COLOURS[one.colour])
        figures.face(brush)
    if one.garment:
        figures.GARMENTS[one.garment](brush, COLOURS[one.garment_colour or "white"])
    if one.held:
        figures.OBJECTS[one.held](brush)
