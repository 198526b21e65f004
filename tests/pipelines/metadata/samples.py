"""Generated requests, and pictures with the metadata of other tools, made up for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from composer.request import AdapterUse, Hires, Start
from pipelines import schedulers
from pipelines.images import Rendering
from pipelines.metadata.hashes import FileHashes
from tests.composer.test_request import record

#: Words that readers look for, and characters that take formats apart.
TRAPS = [
    *[
        "Negative prompt: ",
        "Steps: 20, Sampler: x, CFG scale: 1",
        "Resources: ",
        "Hashed prompt: ",
        "<lora:x:9>",
        "<0:",
    ],
    *["\n", "\r\n", ",", ":", '"', "\\", "{", "}", "<", ">", "\0", "\x1b[31m", "é", "猫", "\u202e", "\u2028", "😀"],
]
WORDS = st.one_of(st.sampled_from(TRAPS), st.text(st.characters(exclude_categories=["Cs"]), max_size=12))
PROMPTS = st.lists(WORDS, max_size=8).map("".join)
NAMES = st.one_of(
    st.from_regex(r"[a-z][a-z0-9_.]{0,12}", fullmatch=True),
    st.lists(WORDS, min_size=1, max_size=3).map("".join).filter(bool),
)
WEIGHTS = st.floats(-3, 3, allow_subnormal=False)
#: The hash of nothing, which counts as none, is left out.
DIGESTS = st.text("0123456789abcdef", min_size=12, max_size=12).filter(lambda digest: digest != "e3b0c44298fc")
PIXELS = Image.new("RGB", (8, 8), (200, 30, 90))


HIRES = st.builds(
    Hires,
    scale=st.floats(1, 8, exclude_min=True),
    strength=st.floats(0.01, 1),
    num_inference_steps=st.integers(100, 1000),  # of which a strength does one at least
    upscaler=st.sampled_from(["pixels", "latent"]),
)
STARTS = st.builds(Start, image=st.just("a.png"), strength=st.floats(0, 1))


@st.composite
def renderings(draw: st.DrawFn, prompts: st.SearchStrategy[str] = PROMPTS) -> Rendering:
    """Generate a rendering of any request that leaves nothing open."""
    names = draw(st.lists(NAMES, max_size=5, unique=True))
    uses = tuple(AdapterUse(name=n, weight=draw(WEIGHTS), text_encoder_weight=draw(WEIGHTS)) for n in names)
    done = record(
        prompt=draw(prompts),
        negative_prompt=draw(prompts),
        adapters=uses,
        method=draw(st.sampled_from(["merge", "switch", "composite"])),
        parameters={"interval": draw(st.integers(1, 9))},
        scheduler=draw(st.sampled_from(schedulers.names())),
        seed=draw(st.integers(0, 2**64 - 1)),
        num_inference_steps=draw(st.integers(1, 1000)),
        start=draw(st.none() | STARTS),
        hires=draw(st.none() | HIRES),
        guidance_scale=draw(st.floats(1, 100)),
        width=draw(st.integers(1, 8192)),
        height=draw(st.integers(1, 8192)),
        notices=tuple(draw(st.lists(PROMPTS, max_size=1))),
    )
    return Rendering(PIXELS, done, FileHashes(None, {name: draw(DIGESTS) for name in names}))


def png(path: Path, **chunks: str) -> Path:
    """Write a picture with text chunks."""
    info = PngImagePlugin.PngInfo()
    for key, text in chunks.items():
        info.add_itxt(key, text)
    PIXELS.save(path, pnginfo=info)
    return path


A1111 = """a lighthouse at dusk, (stormy sea:1.2) <lora:salt:0.7> <lora:foam v2:0.4:1.1:lbw=OUTD>
second line
Negative prompt: people, "boats"
Steps: 24, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 4021, Size: 512x768, \
Model hash: 0a1b2c3d4e, Model: harbour_v3, Clip skip: 2, Lora hashes: "salt: 0123456789ab, foam v2: ba9876543210", \
ADetailer prompt: "a, b: c", Version: v1.10.1"""

FOOOCUS = {
    "full_prompt": ["a lighthouse", "cinematic still"],
    "prompt": "a lighthouse",
    "full_negative_prompt": ["blurry"],
    "steps": 30,
    "guidance_scale": 4.0,
    "seed": "77",
    "resolution": "(896, 1152)",
    "sampler": "dpmpp_2m_sde_gpu",
    "scheduler": "karras",
    "styles": "['Cinema']",
    "base_model": "harbour_v3",
    "base_model_hash": "0A1B2C3D4E",
    "loras": [["salt", 0.6, "0123456789"]],
    "version": "Fooocus v2.5",
}

INVOKEAI = {
    "generation_mode": "txt2img",
    "positive_prompt": "a lighthouse",
    "negative_prompt": "people",
    "width": 512,
    "height": 640,
    "seed": 99,
    "cfg_scale": 7.5,
    "steps": 20,
    "scheduler": "dpmpp_2m_k",
    "clip_skip": 0,
    "model": {"key": "k", "hash": "blake3:aa", "name": "harbour", "base": "sd-1", "type": "main"},
    "loras": [{"model": {"key": "l", "hash": "blake3:bb", "name": "salt", "base": "sd-1"}, "weight": 0.75}],
    "controlnets": [{"control_weight": 1}],
}


def _node(kind: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": kind, "inputs": inputs}


COMFYUI = {
    "1": _node("CheckpointLoaderSimple", ckpt_name="sd15\\harbour_v3.safetensors"),
    "2": _node(
        "LoraLoader",
        **{"model": ["1", 0], "clip": ["1", 1], "lora_name": "sub/salt.safetensors"},
        **{"strength_model": 0.7, "strength_clip": 0.2},
    ),
    "3": _node("LoraLoaderModelOnly", model=["2", 0], lora_name="foam.safetensors", strength_model=0.4),
    "4": _node("FreeU", model=["3", 0], b1=1.1),
    "5": _node("CLIPTextEncode", clip=["2", 1], text=["9", 0]),
    "6": _node("CLIPTextEncode", clip=["2", 1], text="people"),
    "7": _node("EmptyLatentImage", width=512, height=640, batch_size=2),
    "8": _node(
        "KSampler",
        **{"model": ["4", 0], "positive": ["5", 0], "negative": ["6", 0], "latent_image": ["7", 0], "seed": 5},
        **{"steps": 20, "cfg": 7.0, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1.0},
    ),
    "9": _node("PrimitiveString", value="a lighthouse"),
    "10": _node("KSampler", model=["4", 0], positive=["5", 0], negative=["6", 0], latent_image=["8", 0], seed=6),
}

_WIRES = [[1, 1, 0, 2, 0, "MODEL"], [2, 2, 0, 3, 0, "MODEL"], [3, 4, 0, 3, 1, "C"], [4, 5, 0, 3, 2, "C"]]
_WIRES.append([5, 6, 0, 3, 3, "LATENT"])


def _drawn(key: int, kind: str, values: list[Any], **links: int) -> dict[str, Any]:
    inputs = [{"name": name, "link": link} for name, link in links.items()]
    return {"id": key, "type": kind, "mode": 0, "inputs": inputs, "widgets_values": values}


WORKFLOW = {
    "nodes": [
        _drawn(1, "CheckpointLoaderSimple", ["harbour.safetensors"]),
        _drawn(2, "LoraLoader", ["salt.safetensors", 0.7, 0.2], model=1),
        _drawn(
            3,
            "KSampler",
            [5, "randomize", 20, 7.0, "euler", "normal", 1.0],
            **{"model": 2, "positive": 3, "negative": 4, "latent_image": 5},
        ),
        _drawn(4, "CLIPTextEncode", ["a lighthouse"]),
        _drawn(5, "CLIPTextEncode", ["people"]),
        _drawn(6, "EmptyLatentImage", [512, 640, 1]),
    ],
    "links": _WIRES,
}


def chunks(tool: str) -> dict[str, str]:
    """Return what a tool of this name would have put into a PNG."""
    return {
        "a1111": {"parameters": A1111},
        "fooocus": {"parameters": json.dumps(FOOOCUS), "fooocus_scheme": "fooocus"},
        "invokeai": {"invokeai_metadata": json.dumps(INVOKEAI)},
        "comfyui": {"prompt": json.dumps(COMFYUI), "workflow": "{}"},
        "workflow": {"workflow": json.dumps(WORKFLOW)},
    }[tool]
