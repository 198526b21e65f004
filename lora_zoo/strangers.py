"""What a safetensors file is that holds no LoRA, told from its head: the commonest of what people take for one."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lora_zoo.errors import BadFile
from lora_zoo.header import Header, TensorInfo

_MODEL = "model.diffusion_model."
#: Words of textual inversions by the tool that wrote them: A1111's, and SDXL's for its two text encoders.
_INVERSION = ("emb_params", "string_to_param.*", "clip_l", "clip_g")
_WIDTHS = (768, 1024, 1280)  # of text encoders' token embeddings
_BEGINNINGS: Mapping[str, str] = {
    _MODEL: "a whole model, not a LoRA; name it with --model",
    "first_stage_model.": "a VAE, not a LoRA",
    "conditioner.": "a model's text encoders, not a LoRA",
    "cond_stage_model.": "a model's text encoder, not a LoRA",
    "control_model.": "a ControlNet, which is not read",
    "controlnet_cond_embedding.": "a ControlNet, which is not read",
    "image_proj.": "an IP-Adapter, which is not read",
    "ip_adapter.": "an IP-Adapter, which is not read",
}
_COMPONENT = re.compile(r"(down_blocks|up_blocks|mid_block|encoder|decoder|text_model)\..+\.(weight|bias)")
_ADAPTED = re.compile(r"lora|hada_|lokr_|oft_|dora_|shira_|\.(alpha|diff|diff_b|ia3_l|on_input)$")


def told(head: Header) -> str:
    """Return what a file is that is no LoRA, "" if nothing is known of it."""
    tensors = head.tensors
    if vectors := _inversion(tensors):
        number, width = vectors
        what = "1 vector" if number == 1 else f"{number} vectors"
        return (
            f"a textual inversion, {what} of width {width}: words for a prompt, not a LoRA; such files are not read yet"
        )
    if any(_ADAPTED.search(key) for key in tensors):
        return ""
    for beginning, what in _BEGINNINGS.items():
        if any(key.startswith(beginning) for key in tensors):
            return what
    if any(_COMPONENT.fullmatch(key) for key in tensors):
        return "one component of a model, not a LoRA"
    return ""


def explain(head: Header, where: str) -> None:
    """Raise an error that names a file for what it is, if it is no LoRA and known."""
    if what := told(head):
        raise BadFile(f"{where}: {what}")


def _inversion(tensors: Mapping[str, TensorInfo]) -> tuple[int, int] | None:
    """Return how many vectors a textual inversion has and how wide they are, None for what is none."""
    shapes = [info.shape for info in tensors.values() if 1 <= len(info.shape) <= 2]
    if not 1 <= len(tensors) <= 2 or len(shapes) < len(tensors):
        return None
    named = set(tensors) <= set(_INVERSION)
    alone = len(tensors) == 1 and shapes[0][-1] in _WIDTHS and "." not in next(iter(tensors))  # diffusers' own form
    if not named and not alone:
        return None
    return max(shape[0] if len(shape) == 2 else 1 for shape in shapes), max(shape[-1] for shape in shapes)
