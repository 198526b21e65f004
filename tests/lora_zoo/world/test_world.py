"""The world draws the same everywhere, can show every composition, and says what it shows."""

from __future__ import annotations

import hashlib
from random import Random

import numpy as np
import pytest
from PIL import Image

from lora_zoo.world import figures, places, styles
from lora_zoo.world.captions import caption, plain_caption
from lora_zoo.world.draw import draw
from lora_zoo.world.labels import label_names, labels, named
from lora_zoo.world.scene import Creature, Scene, concept_names, put, sample_any, sample_base
from lora_zoo.world.vocabulary import (
    CATEGORIES,
    COLOURS,
    CONCEPTS,
    FAMILIES,
    GARMENTS,
    OBJECTS,
    PLACES,
    SHAPES,
    concept,
    concepts,
)

_SCENE = Scene("meadow", (Creature("round", "red", "skirt", "blue", "ball"),))


def _digest(image: Image.Image) -> str:
    return hashlib.sha256(image.tobytes()).hexdigest()


def test_the_vocabulary_is_as_large_as_promised() -> None:
    assert len(SHAPES) >= 4 and len(COLOURS) >= 7 and len(GARMENTS) >= 3 and len(OBJECTS) >= 4 and len(PLACES) >= 5
    assert len(CONCEPTS) == 22
    for family in FAMILIES:
        assert [len(concepts(c, family)) for c in CATEGORIES] == [3, 2, 2, 2, 2]


def test_every_word_has_a_painter() -> None:
    assert set(places.PAINTERS) == {*PLACES, *(c.name for c in concepts("background"))}
    assert set(figures.GARMENTS) == {*GARMENTS, *(c.name for c in concepts("clothing"))}
    assert set(figures.OBJECTS) == {*OBJECTS, *(c.name for c in concepts("object"))}
    assert set(figures.CHARACTERS) == {c.name for c in concepts("character")}
    assert set(styles.STYLES) == {c.name for c in concepts("style")}


def test_the_same_seed_draws_the_same_picture() -> None:
    for i in range(20):
        scene = sample_any(Random(i))
        assert _digest(draw(scene, i)) == _digest(draw(scene, i))
        assert draw(scene, i).size == (64, 64)


def test_another_seed_draws_another_picture() -> None:
    assert len({_digest(draw(_SCENE, seed)) for seed in range(10)}) == 10


@pytest.mark.parametrize("name", [c.name for c in CONCEPTS])
def test_a_concept_is_seen_in_the_picture(name: str) -> None:
    with_it = draw(put(_SCENE, (concept(name),)), 3)
    difference = np.abs(np.asarray(with_it, int) - np.asarray(draw(_SCENE, 3), int)).max(2)
    assert (difference > 40).sum() >= 60, "at least 60 of 4096 pixels must change clearly"


def test_the_base_world_shows_no_concept() -> None:
    rng = Random(0)
    assert not any(concept_names(sample_base(rng)) for _ in range(500))


def test_a_third_of_base_scenes_has_two_creatures() -> None:
    rng = Random(1)
    two = sum(len(sample_base(rng).creatures) == 2 for _ in range(3000))
    assert 0.30 < two / 3000 < 0.37


def test_putting_concepts_keeps_the_rest() -> None:
    scene = put(_SCENE, (concept("zorp"), concept("trident")))
    assert scene.creatures[0] == Creature(None, None, "skirt", "blue", "trident", "zorp")
    assert concept_names(scene) == {"zorp", "trident"}


def test_identifiers_are_those_of_the_testbed() -> None:
    assert [c.identifier for c in CONCEPTS if c.family == "orbit"][:5] == [
        "character_1",
        "character_2",
        "character_3",
        "clothing_1",
        "clothing_2",
    ]


def test_plain_captions() -> None:
    assert plain_caption(_SCENE) == "a red round creature wearing a blue skirt holding an orange ball in a meadow"
    pair = Scene("night", (Creature("tall", "white"), Creature(character="krag", held="umbrella")), "sepia")
    said = plain_caption(pair)
    assert said == (
        "a white tall creature on the left and krag the horned brute holding a striped umbrella on the right at night,"
        " sepia photo style"
    )


def test_captions_always_name_the_concepts() -> None:
    rng = Random(5)
    for _ in range(300):
        scene = sample_any(rng, 0.6)
        said = caption(scene, rng, drop=1.0)
        assert all(concept(name).triggers[-1] in said for name in concept_names(scene)), said


def test_captions_have_synonyms() -> None:
    rng = Random(6)
    assert len({caption(_SCENE, rng) for _ in range(200)}) > 60


def test_labels_answer_what_can_be_seen() -> None:
    answers = labels(_SCENE)
    assert tuple(answers) == label_names()
    assert {k for k, v in answers.items() if v} == set(named(_SCENE))
    assert named(_SCENE) == (
        "centre.shape.round",
        "centre.colour.red",
        "centre.garment.skirt",
        "centre.garment_colour.blue",
        "centre.held.ball",
        "place.meadow",
    )
    styled = labels(put(_SCENE, (concept("sketch"), concept("momo"))))
    assert styled["centre.colour.red"] is None and styled["centre.shape.round"] is None
    assert styled["left.colour.red"] is False and styled["style.sketch"] is True
