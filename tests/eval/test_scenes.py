"""Unseen means unseen: the repeated stream is the trainer's own."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, cast

import torch

from eval import scenes
from lora_zoo.train import unet


class Listening:
    """Stands where the trainer has its encoders, and notes what it is asked to read."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def latents(self, images: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(images), 1)

    def embeds(self, texts: list[str]) -> torch.Tensor:
        self.texts += texts
        return torch.zeros(len(texts), 1, 1)


def test_the_trainers_captions_are_repeated(tmp_path: Path) -> None:
    heard = Listening()
    unet.Cache.load(tmp_path / "cache.pt", cast(Any, heard), 20)
    assert scenes.trained(20).captions == set(heard.texts) - {""}


def test_as_many_as_the_trainer_takes() -> None:
    assert inspect.signature(unet.train).parameters["scenes"].default == scenes.TRAINED_SCENES


def test_unseen_scenes_are_new_different_and_a_third_of_them_has_two() -> None:
    found = scenes.unseen(30, "a test")
    known = scenes.trained()
    assert not {one.scene for one in found} & known.scenes
    assert not {one.text for one in found} & known.captions
    assert [len(one.scene.creatures) for one in found] == [1, 1, 2] * 10
    assert found == scenes.unseen(30, "a test")
