"""A small CLIP in open_clip's format; its text tower, frozen, is the text encoder of `tiny`.

Trained contrastively on the whole world, the 22 concepts included, as the real CLIP has seen umbrellas. Each batch is
made of siblings: a scene and three copies with one thing changed each. What siblings never change, the text tower has
no reason to tell: without changed shapes its states held almost nothing of a shape, and the UNet drew any.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

import open_clip
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from lora_zoo.train import tokenizer as bpe
from lora_zoo.train.common import FILES, TINY, Run, Schedule, drawn, pixels
from lora_zoo.train.muon import Muon
from lora_zoo.world.captions import caption
from lora_zoo.world.draw import draw
from lora_zoo.world.scene import Creature, Scene, sample_any
from lora_zoo.world.vocabulary import COLOURS, GARMENTS, SHAPES

log = logging.getLogger(__name__)

FOLDER = FILES / "clip"
WIDTH, LAYERS, HEADS = 128, 3, 4
EMBED = 128
GROUP = 4  # a scene and its siblings

#: What two creatures can exchange: fields that belong together; bodies go whole when one is a character's.
_BODY = ("shape", "colour", "character")
_KINDS = (_BODY, ("shape",), ("colour",), ("garment", "garment_colour"), ("held",))


def config(vocabulary: int) -> dict[str, object]:
    """Return open_clip's `model_cfg`."""
    return {
        "embed_dim": EMBED,
        "quick_gelu": False,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 24, "head_width": 64},
        "text_cfg": {
            "context_length": bpe.LENGTH,
            "vocab_size": vocabulary,
            "hf_tokenizer_name": "tokenizer.json",
            "tokenizer_kwargs": {},
            "width": WIDTH,
            "heads": HEADS,
            "layers": LAYERS,
            "eos_id": vocabulary - 1,
            "pool_type": "eos",
        },
    }


def sibling(scene: Scene, rng: Random) -> Scene:
    """Return the scene with one thing changed: of one creature, between two, or around them."""
    ways = [_repaint, _repaint, _replace_one]
    if len(scene.creatures) == 2 and scene.creatures[0] != scene.creatures[1]:
        ways += [_swap, _exchange, _exchange]
    while (made := rng.choice(ways)(scene, rng)) == scene:
        pass
    return made


def _swap(scene: Scene, rng: Random) -> Scene:
    """Let the two stand on the other side."""
    return replace(scene, creatures=scene.creatures[::-1])


def _exchange(scene: Scene, rng: Random) -> Scene:
    """Give each of the two what the other has of one kind."""
    one, other = scene.creatures
    kinds = [k for k in _KINDS if k == _BODY or not ((one.character or other.character) and set(k) < set(_BODY))]
    fields = rng.choice(kinds)
    mine, theirs = ({x: getattr(c, x) for x in fields} for c in (one, other))
    return replace(scene, creatures=(replace(one, **theirs), replace(other, **mine)))


def _repaint(scene: Scene, rng: Random) -> Scene:
    """Change the shape, the colour or the garment's colour of one creature; another body if it is a character."""
    at = rng.randrange(len(scene.creatures))
    one = scene.creatures[at]
    names = ["shape", "colour"] if one.character is None else ["character"]
    field = rng.choice(names + ["garment_colour"] * (one.garment in GARMENTS))
    if field == "character":
        body = replace(one, character=None, shape=rng.choice(tuple(SHAPES)), colour=rng.choice(tuple(COLOURS)))
    else:
        known = tuple(SHAPES if field == "shape" else COLOURS)
        body = replace(one, **{field: rng.choice([v for v in known if v != getattr(one, field)])})
    return _with_creature(scene, at, body)


def _replace_one(scene: Scene, rng: Random) -> Scene:
    """Bring the garment, the held object or the place of another scene."""
    other, at = sample_any(rng), rng.randrange(len(scene.creatures))
    its = other.creatures[0]
    kind = rng.choice(("garment", "held", "place"))
    if kind == "place":
        return replace(scene, place=other.place)
    fields = ("garment", "garment_colour") if kind == "garment" else ("held",)
    return _with_creature(scene, at, replace(scene.creatures[at], **{x: getattr(its, x) for x in fields}))


def _with_creature(scene: Scene, at: int, one: Creature) -> Scene:
    return replace(scene, creatures=(*scene.creatures[:at], one, *scene.creatures[at + 1 :]))


class Siblings:
    """Scenes and their siblings, drawn once; captions are written anew at each visit."""

    def __init__(self, count: int, seed: str) -> None:
        rng = Random(seed)
        first = [sample_any(rng, 0.45, two=0.6) for _ in range(count)]
        self.scenes = [s for one in first for s in (one, *(sibling(one, rng) for _ in range(GROUP - 1)))]
        self.images = torch.cat([_bytes(draw(s, rng.getrandbits(31))) for s in self.scenes])

    def batch(self, rng: Random, groups: int) -> tuple[Tensor, list[str]]:
        picked = rng.sample(range(len(self.scenes) // GROUP), groups)
        rows = [GROUP * i + j for i in picked for j in range(GROUP)]
        texts = [caption(self.scenes[i], rng, 0.08) for i in rows]
        return self.images[rows].float().div(127.5).sub(1), texts


def _bytes(image: Image.Image) -> Tensor:
    return pixels([image]).add(1).mul(127.5).round().to(torch.uint8)


def tokens(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Return token ids [n, 77], padded as Stable Diffusion pads."""
    return tokenizer(texts, padding="max_length", max_length=bpe.LENGTH, truncation=True, return_tensors="pt").input_ids


def _loss(model: open_clip.CLIP, images: Tensor, ids: Tensor) -> Tensor:
    image = model.encode_image(images, normalize=True)
    text = _short_text(model, ids)
    logits = model.logit_scale.exp().clamp(max=100) * image @ text.T
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _short_text(model: open_clip.CLIP, ids: Tensor) -> Tensor:
    """Encode only up to the longest caption: the tower is causal, so what follows the end token changes nothing."""
    end = ids.max()
    length = int((ids != end).sum(1).max()) + 1
    places, mask = model.get_parameter("positional_embedding"), model.get_buffer("attn_mask")
    x = model.get_submodule("token_embedding")(ids[:, :length]) + places[:length]
    x = model.get_submodule("transformer")(x, attn_mask=mask[:length, :length])
    x = model.get_submodule("ln_final")(x)
    last = (ids == end).int().argmax(1)
    return F.normalize(x[torch.arange(len(x)), last] @ model.text_projection, dim=-1)


@torch.no_grad()
def retrieval(model: open_clip.CLIP, tokenizer: CLIPTokenizer, groups: int = 10, seed: int = 3) -> float:
    """Return top-1 of picking a fresh picture's caption among 100 captions of other scenes."""
    model.eval()
    rng, right = Random(f"retrieval {seed}"), 0
    for _ in range(groups):
        scenes = [sample_any(rng) for _ in range(100)]
        image = model.encode_image(drawn(scenes, rng), normalize=True)
        text = _short_text(model, tokens(tokenizer, [caption(s, rng) for s in scenes]))
        right += int(((image @ text.T).argmax(1) == torch.arange(100)).sum())
    model.train()
    return right / (100 * groups)


def text_encoder(model: open_clip.CLIP, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """Return the text tower as transformers' CLIPTextModel, weight for weight."""
    made = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            projection_dim=EMBED,
            num_hidden_layers=LAYERS,
            num_attention_heads=HEADS,
            max_position_embeddings=bpe.LENGTH,
            hidden_act="gelu",
            bos_token_id=len(tokenizer) - 2,
            eos_token_id=len(tokenizer) - 1,
            pad_token_id=len(tokenizer) - 1,
        )
    )
    made.load_state_dict(_renamed(model.state_dict()), strict=True)
    return made.eval()


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    out = {
        "embeddings.token_embedding.weight": state["token_embedding.weight"],
        "embeddings.position_embedding.weight": state["positional_embedding"],
        "final_layer_norm.weight": state["ln_final.weight"],
        "final_layer_norm.bias": state["ln_final.bias"],
    }
    for i in range(LAYERS):
        theirs, ours = f"transformer.resblocks.{i}.", f"encoder.layers.{i}."
        for kind in ("weight", "bias"):
            parts = state[f"{theirs}attn.in_proj_{kind}"].chunk(3)
            for name, part in zip(("q_proj", "k_proj", "v_proj"), parts, strict=True):
                out[f"{ours}self_attn.{name}.{kind}"] = part.clone()
            out[f"{ours}self_attn.out_proj.{kind}"] = state[f"{theirs}attn.out_proj.{kind}"]
            out[f"{ours}layer_norm1.{kind}"] = state[f"{theirs}ln_1.{kind}"]
            out[f"{ours}layer_norm2.{kind}"] = state[f"{theirs}ln_2.{kind}"]
            out[f"{ours}mlp.fc1.{kind}"] = state[f"{theirs}mlp.c_fc.{kind}"]
            out[f"{ours}mlp.fc2.{kind}"] = state[f"{theirs}mlp.c_proj.{kind}"]
    return out


def write(model: open_clip.CLIP, tokenizer: CLIPTokenizer) -> None:
    """Write open_clip's folder and the text encoder of `tiny`, and check that both say the same."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    saved = {"model_cfg": config(len(tokenizer)), "preprocess_cfg": preprocess}
    (FOLDER / "open_clip_config.json").write_text(json.dumps(saved, indent=2) + "\n")
    save_file({k: _stored(k, v) for k, v in model.state_dict().items()}, FOLDER / "open_clip_model.safetensors")
    tokenizer.save_pretrained(FOLDER)
    text_encoder(model, tokenizer).save_pretrained(TINY / "text_encoder")


def _stored(name: str, weight: Tensor) -> Tensor:
    """Keep the image tower in half precision, for size; the text tower stays what the text encoder is."""
    half = name.startswith("visual.") and weight.is_floating_point()
    return (weight.half() if half else weight).contiguous()


def _adam(module: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(module.parameters(), lr, betas=(0.9, 0.99), weight_decay=0.05)


#: (steps, learning rate, optimiser) of each turn; a turn starts from the average of the one before
TURNS = ((1100, 1.5e-3, _adam), (700, 1e-3, _adam), (520, 6e-3, Muon))


def train(runs: Path, groups: int = 24) -> None:
    """Train, report retrieval and write both folders."""
    torch.manual_seed(0)
    tokenizer = bpe.write()
    model = open_clip.CLIP(**config(len(tokenizer)))  # pyright: ignore  # open_clip takes dicts
    data = Siblings(5000, "clip siblings")

    def loss_of(step: int, rng: Random) -> Tensor:
        images, texts = data.batch(rng, groups)
        return _loss(model, images, tokens(tokenizer, texts))

    for turn, (steps, lr, optimiser) in enumerate(TURNS, 1):
        run = Run(f"clip{turn}", runs, model, Schedule(steps, lr, 100), partial(optimiser, lr=lr), decay=0.99)
        model.load_state_dict(run.train(loss_of).state_dict())
    log.info(f"top-1 {retrieval(model, tokenizer):.3f}")
    write(model, tokenizer)
