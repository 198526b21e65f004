"""What others are told holds no place of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_zoo.errors import BadFile
from pipelines import specs
from ui import discreet


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("/srv/loras/x.safetensors: not a LoRA", "x.safetensors: not a LoRA"),
        ("cannot read '/srv/a/b.png'", "cannot read 'b.png'"),
        ("known: a, /mnt/zoo/b, c", "known: a, b, c"),
        (r"C:\Users\ada\loras\x.pt is a pickle", "x.pt is a pickle"),
        ("at medley/pictures/0123.png", "at medley/pictures/0123.png"),
        ("see /medley/api/loras", "see /medley/api/loras"),
        ("https://example.com/a/b", "https://example.com/a/b"),
        ("1/2 of the steps, and/or 3/4", "1/2 of the steps, and/or 3/4"),
    ],
)
def test_of_a_path_the_last_part_is_left(text: str, left: str) -> None:
    assert discreet.said(BadFile(text)) == left


def test_folders_that_are_known_are_left_out_whole(tmp_path: Path) -> None:
    folder = tmp_path / "my own loras"
    discreet.know([folder])
    assert discreet.said(f"{folder}/of cats/x.pt: a pickle, in {folder}") == "of cats/x.pt: a pickle, in "
    assert discreet.said("/srv/my own loras/x") == "my own loras/x"  # not known: cut at the first blank


def test_a_model_is_offered_by_a_name_and_found_by_it(small_folder: Path, tmp_path: Path) -> None:
    name = specs.offer(str(small_folder))
    assert name == small_folder.name
    found = specs.find(name)
    assert (found.name, found.path) == (name, small_folder.resolve())
    assert specs.offer(str(small_folder)) == name  # again
    other = tmp_path / name
    other.symlink_to(small_folder)
    (tmp_path / "deeper").mkdir()
    assert specs.offer(str(other)) == name  # the same one, by a link
    assert specs.offer("tiny") == "tiny"
    assert specs.offer("nobody/no-such-model") == "nobody/no-such-model"
