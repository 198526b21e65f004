"""CLIP's tokenizers, for model files that bring none: built from the vocabulary that OpenCLIP's package holds."""

from __future__ import annotations

import gzip
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

_START, _END = "<|startoftext|>", "<|endoftext|>"
_SIZE = 49408
_LENGTH = 77
#: What fills a text up to full length. OpenCLIP's model was trained with token 0, which happens to be "!".
PADDING = {"text_encoder": _END, "text_encoder_2": "!"}


def tokenizer(component: str) -> CLIPTokenizer:
    """Return the tokenizer of a text encoder, "text_encoder" or SDXL's "text_encoder_2"."""
    bytes_ = sorted(ByteLevel.alphabet())  # bytes that can be printed stand for themselves, the others come after
    pieces = [*bytes_, *(f"{one}</w>" for one in bytes_)]
    merges: Any = _merges(_SIZE - len(pieces) - 2)
    tokens = [*pieces, *("".join(pair) for pair in merges), _START, _END]
    return CLIPTokenizer(
        vocab={token: place for place, token in enumerate(tokens)},
        merges=merges,
        pad_token=PADDING[component],
        model_max_length=_LENGTH,
    )


def _merges(count: int) -> list[tuple[str, str]]:
    """Return the first merges of byte-pair encoding, best first; the file's first line is a heading."""
    path = Path(str(distribution("open-clip-torch").locate_file("open_clip/bpe_simple_vocab_16e6.txt.gz")))
    lines = gzip.decompress(path.read_bytes()).decode("utf-8").splitlines()[1 : count + 1]
    return [(first, second) for first, second in (line.split() for line in lines)]
