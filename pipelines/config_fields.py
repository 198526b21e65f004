"""The fields of a model's configurations that decide how it is built: what each may be, checked before any is used.

A configuration comes with a stranger's model. Numbers in it become sizes and counts, and words in it name classes,
files and code. So sizes have bounds, and of a text encoder's only the fields listed here reach transformers, which
would fetch kernels and code from the hub for some others.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from pipelines.errors import BadModel

_SHOWN = 80

#: A field's test, and what it asks for, in words.
Field = tuple[Callable[[object], bool], str]


def _whole(least: int, most: int) -> Field:
    return lambda value: type(value) is int and least <= value <= most, f"a whole number from {least:,} to {most:,}"


def _number(least: float, most: float) -> Field:
    def fits(value: object) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most

    return fits, f"a number from {least:g} to {most:g}"


def _list(of: Field, most: int = 16) -> Field:
    return lambda value: isinstance(value, list) and 1 <= len(value) <= most and all(map(of[0], value)), (
        f"a list of 1 to {most:,}, each {of[1]}"
    )


def _either(*fields: Field) -> Field:
    return lambda value: any(fits(value) for fits, _ in fields), " or ".join(words for _, words in fields)


def _text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _SHOWN


_TEXT: Field = (_text, f"a text of at most {_SHOWN} characters")
_FLAG: Field = (lambda value: isinstance(value, bool), "true or false")
_WIDTH, _COUNT, _LAYERS = _whole(1, 1 << 16), _whole(1, 1024), _whole(0, 100)
_ID = _whole(-1, 1 << 20)

UNET: Mapping[str, Field] = {
    "addition_time_embed_dim": _WIDTH,
    "attention_head_dim": _either(_COUNT, _list(_COUNT)),
    "block_out_channels": _list(_WIDTH),
    "cross_attention_dim": _either(_WIDTH, _list(_WIDTH)),
    "down_block_types": _list(_TEXT),
    "in_channels": _COUNT,
    "layers_per_block": _either(_LAYERS, _list(_LAYERS)),
    "norm_num_groups": _COUNT,
    "num_attention_heads": _either(_COUNT, _list(_COUNT)),
    "out_channels": _COUNT,
    "projection_class_embeddings_input_dim": _WIDTH,
    "sample_size": _COUNT,
    "transformer_layers_per_block": _either(_LAYERS, _list(_either(_LAYERS, _list(_LAYERS)))),
    "up_block_types": _list(_TEXT),
}
VAE: Mapping[str, Field] = {
    "block_out_channels": _list(_WIDTH),
    "decoder_block_out_channels": _list(_WIDTH),
    "encoder_block_out_channels": _list(_WIDTH),
    "down_block_types": _list(_TEXT),
    "up_block_types": _list(_TEXT),
    "in_channels": _COUNT,
    "latent_channels": _COUNT,
    "layers_per_block": _LAYERS,
    "norm_num_groups": _COUNT,
    "num_decoder_blocks": _list(_LAYERS),
    "num_encoder_blocks": _list(_LAYERS),
    "out_channels": _COUNT,
    "sample_size": _whole(1, 1 << 16),
    "scaling_factor": _number(1e-6, 1e6),
    "shift_factor": _number(-1e6, 1e6),
}
SCHEDULER: Mapping[str, Field] = {
    "beta_end": _number(0, 1),
    "beta_schedule": _TEXT,
    "beta_start": _number(0, 1),
    "num_train_timesteps": _whole(1, 10_000),
    "prediction_type": _TEXT,
    "rescale_betas_zero_snr": _FLAG,
    "steps_offset": _whole(0, 100),
    "timestep_spacing": _TEXT,
    "trained_betas": _list(_number(0, 1), 10_000),
}
#: All that a text encoder is built from; nothing else of its configuration is used.
TEXT: Mapping[str, Field] = {
    "attention_dropout": _number(0, 1),
    "bos_token_id": _ID,
    "eos_token_id": _ID,
    "hidden_act": _TEXT,
    "hidden_size": _WIDTH,
    "initializer_factor": _number(0, 100),
    "initializer_range": _number(0, 100),
    "intermediate_size": _whole(1, 1 << 18),
    "layer_norm_eps": _number(0, 1),
    "max_position_embeddings": _whole(3, 1 << 14),
    "num_attention_heads": _COUNT,
    "num_hidden_layers": _LAYERS,
    "pad_token_id": _ID,
    "projection_dim": _WIDTH,
    "vocab_size": _whole(1, 1 << 20),
}
#: What else may stand there: numbers within reason, lists and short texts.
_REST = _number(-1e9, 1e9)
#: Fields that ask a library for code, files or formats of somebody else's.
_NEVER = ("auto_map", "attn_implementation", "_attn_implementation", "_name_or_path")


def check(stated: Mapping[str, Any], known: Mapping[str, Field], where: str) -> dict[str, Any]:
    """Return a configuration whose fields are what they may be; null stands for one that is not stated.

    Raises:
        BadModel: A field is of another type, or beyond its bounds.
    """
    _check_plain_weights(stated, where)
    for name, value in stated.items():
        fits, words = known.get(name, (_plain, "plain values, numbers within ±1e9"))
        if value is not None and not fits(value):
            shown = repr(value)
            shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}..."
            raise BadModel(f"{where}: {name} is {shown}; it should be {words}")
    return {name: value for name, value in stated.items() if name not in _NEVER}


def text_encoder(stated: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return what a text encoder is built from, checked; the rest of its configuration is left out."""
    kind = stated.get("model_type", "clip_text_model")
    if kind == "clip" and isinstance(stated.get("text_config"), dict):  # of a whole CLIP
        stated = stated["text_config"]
    if kind not in ("clip_text_model", "clip"):
        raise BadModel(f"{where}: a text encoder of type {str(kind)[:_SHOWN]!r}; CLIP's, of SD1.5 and SDXL, are read")
    _check_plain_weights(stated, where)
    found = {name: value for name, value in stated.items() if name in TEXT and value is not None}
    return check(found, TEXT, where)


def _check_plain_weights(stated: Mapping[str, Any], where: str) -> None:
    if stated.get("quantization_config") is not None:
        raise BadModel(f"{where}: quantised weights (quantization_config) are not read")


def _plain(value: object) -> bool:
    if isinstance(value, list):
        return all(map(_plain, value))
    if isinstance(value, dict):
        return all(map(_plain, value.values()))
    if isinstance(value, str):
        return len(value) <= 10_000
    return value is None or isinstance(value, bool) or (_REST[0](value) and math.isfinite(value))  # type: ignore[arg-type]
