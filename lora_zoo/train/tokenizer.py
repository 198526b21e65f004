"""A byte-level BPE tokenizer in CLIP's layout, its merges learnt from the world's captions.

All 256 bytes are in the vocabulary, alone and at a word's end, so any text has tokens and none is unknown.
"""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from lora_zoo.train.common import TINY
from lora_zoo.world.captions import caption
from lora_zoo.world.scene import sample_any

LENGTH = 77
START, END = "<|startoftext|>", "<|endoftext|>"


def _merges(count: int) -> list[tuple[str, str]]:
    """Learn merges from captions, most frequent first."""
    rng = Random("captions for the tokenizer")
    texts = [caption(sample_any(rng), rng, 0.1) for _ in range(20_000)]
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    learner.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=count, end_of_word_suffix="</w>"))
    return [tuple(pair) for pair in json.loads(learner.to_str())["model"]["merges"]]


def build(count: int = 700) -> CLIPTokenizer:
    """Return the tokenizer; the same captions give the same vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = _merges(count)
    tokens = [*alphabet, *(c + "</w>" for c in alphabet)]
    tokens += [t for t in dict.fromkeys(a + b for a, b in merges) if t not in set(tokens)]
    vocab = {token: i for i, token in enumerate([*tokens, START, END])}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=LENGTH)  # pyright: ignore[reportArgumentType]


def write(folder: Path = TINY / "tokenizer") -> CLIPTokenizer:
    """Write the tokenizer's folder, the older vocab.json + merges.txt included, and return what is read back."""
    build().save_pretrained(folder)
    model = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    merges = [" ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]))
    return CLIPTokenizer.from_pretrained(folder)
