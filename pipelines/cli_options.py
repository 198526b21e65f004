"""Options that several commands share, and those of `render` that say more of a LoRA or of a picture to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Zoo = Annotated[
    list[Path] | None,
    typer.Option("--zoo", metavar="FOLDER", envvar="MEDLEY_ZOO", help="A folder of LoRAs with all below; repeatable."),
]
FileFormat = Annotated[str, typer.Option("--format", metavar="png|jpeg|webp|avif", help="Kind of file.")]
Wildcards = Annotated[Path | None, typer.Option(metavar="FOLDER", help="NAME.txt files, for __NAME__ in prompts.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Blocks = Annotated[
    list[str] | None,
    typer.Option(
        "--blocks", metavar="NAME=WEIGHTS", help="A LoRA's weights by block: IN04:0.5,MID:0, a list, a preset."
    ),
]
During = Annotated[
    list[str] | None,
    typer.Option("--during", metavar="NAME=STEPS", help="When a LoRA acts: 5-20, or weights as 0@0,1@0.4."),
]
AllowPartial = Annotated[
    list[str] | None,
    typer.Option("--allow-partial", metavar="NAME", help="Use a LoRA without what of its file cannot be read."),
]
Init = Annotated[Path | None, typer.Option("--init", metavar="IMAGE", help="Begin with this picture.")]
Mask = Annotated[Path | None, typer.Option("--mask", metavar="IMAGE", help="Of --init: paint where it is white.")]
Strength = Annotated[float | None, typer.Option(metavar="A", help="Of --init: share of the steps done; 0.75.")]
HiresScale = Annotated[float | None, typer.Option("--hires", metavar="SCALE", help="A second pass, so much larger.")]
HiresStrength = Annotated[float | None, typer.Option(metavar="A", help="Share of the steps done again; 0.55.")]
HiresSteps = Annotated[int | None, typer.Option(metavar="N", help="Steps of the second pass; as the first.")]
HiresUpscaler = Annotated[str | None, typer.Option(metavar="pixels|latent", help="What is enlarged for it.")]
Dtype = Annotated[str, typer.Option(metavar="auto|float32|float16|bfloat16", help="Precision of the computing.")]
Attention = Annotated[str, typer.Option(metavar="sdpa|eager|xformers", help="How attention is computed.")]
Offload = Annotated[str, typer.Option(metavar="none|parts", help="On a GPU, hold only the part in use there.")]
VaeTiling = Annotated[bool, typer.Option("--vae-tiling", help="Decode in tiles: large pictures in little memory.")]
OUT = Path("outputs")  # where pictures go if nothing is typed
Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for the pictures.")]
Findings = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for masks that a method found on the way.")]
StoredDtype = Annotated[
    str | None,
    typer.Option("--stored-dtype", metavar="float16|bfloat16|float32", help="How a LoRA file stores values; float16."),
]
Workers = Annotated[
    int, typer.Option(metavar="N", min=1, max=256, help="Processes at work; with --ray, on each machine.")
]
Ray = Annotated[
    str | None,
    typer.Option("--ray", metavar="local|auto|HOST:PORT", help="Work on a Ray cluster: begun here, found here, there."),
]

Syntax = Annotated[
    str | None, typer.Option(metavar="a1111|comfyui|plain", help="Whose signs in prompts mean something, if any's.")
]
Choices = Annotated[str | None, typer.Option(metavar="drawn|text", help="What {a|b} and __NAME__ in prompts are.")]
Spacing = Annotated[
    str | None,
    typer.Option(metavar="leading|trailing|linspace", help="How steps are spaced; models for few steps want trailing."),
]
OriginalSize = Annotated[str | None, typer.Option(metavar="WxH", help="SDXL: size before scaling; else the picture's.")]
Crop = Annotated[str | None, typer.Option(metavar="X,Y", help="SDXL: corner of the crop, from the left and the top.")]
TargetSize = Annotated[str | None, typer.Option(metavar="WxH", help="SDXL: size aimed at; else the picture's.")]
