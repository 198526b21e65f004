"""CLIP's tokenizers against OpenCLIP's own, and against ids that are known everywhere."""

from __future__ import annotations

import pytest
from open_clip.tokenizer import SimpleTokenizer

from pipelines import clip_tokens

TEXTS = (
    "a photo of a cat",
    "An astronaut, riding a horse on Mars!! (best quality:1.2) 8k",
    "naïve café 猫 🙂 it's they've 1234",
    "",
)


@pytest.mark.parametrize("component", ["text_encoder", "text_encoder_2"])
def test_known_ids_and_paddings(component: str) -> None:
    tokenizer = clip_tokens.tokenizer(component)
    ids = tokenizer("a photo of a cat", padding="max_length")["input_ids"]
    assert ids[:7] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert set(ids[7:]) == {0 if component == "text_encoder_2" else 49407}
    assert len(ids) == tokenizer.model_max_length == 77
    assert len(tokenizer) == 49408
    assert tokenizer.convert_tokens_to_ids("!") == 0


def test_the_same_ids_as_open_clip() -> None:
    tokenizer, oracle = clip_tokens.tokenizer("text_encoder"), SimpleTokenizer()
    for text in TEXTS:
        assert tokenizer(text)["input_ids"][1:-1] == oracle.encode(text.lower())
