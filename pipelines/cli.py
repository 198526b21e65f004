"""The command line: what can be typed, and which code answers it. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipelines import cli_options as own
from pipelines.cli_options import FileFormat, Json, Zoo
from pipelines.cli_zoo import commands

app = typer.Typer(
    help="Medley: several LoRAs in one picture.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(commands, name="zoo")

Text = str | None
From = Annotated[
    Path | None,
    typer.Option("--from", metavar="IMAGE", help="Repeat a picture, also another tool's; other options change it."),
]
Lora = Annotated[
    list[str] | None,
    typer.Option("--lora", metavar="NAME[:WEIGHT[:TE_WEIGHT]]", help="A LoRA by name or file; repeat for more."),
]
Words = Annotated[
    list[str] | None,
    typer.Option("--words", metavar="NAME=WORDS[,WORDS]", help="Words of the prompt that belong to a LoRA."),
]
Regions = Annotated[
    list[str] | None,
    typer.Option("--region", metavar="NAME=L,T,R,B|MASK", help="A LoRA's place: a box, 0 to 1, or a mask's file."),
]
RegionPrompts = Annotated[
    list[str] | None, typer.Option("--region-prompt", metavar="NAME=TEXT", help="What is at a LoRA's place.")
]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the method; repeat for more.")
]
Prompt = Annotated[Text, typer.Option(metavar="TEXT", help="What the picture shows.")]
Negative = Annotated[Text, typer.Option(metavar="TEXT", help="What it should not show.")]
Undesired = Annotated[Text, typer.Option(metavar="TEXT", help="What the prompt's embedding is freed of.")]
UndesiredStrength = Annotated[float | None, typer.Option(metavar="A", help="How much of that, 0 to 1; 1 if not given.")]
Method = Annotated[Text, typer.Option(metavar="NAME", help="How the LoRAs are combined; see `list methods`.")]
Policy = Annotated[
    Text, typer.Option(metavar="none|first|all|per_lora", help="Whose text-encoder LoRA reads the prompt.")
]
Model = Annotated[
    Text,
    typer.Option(metavar="NAME|FOLDER|FILE|ID", help="A model by name, diffusers folder, .safetensors file or hub id."),
]
Prediction = Annotated[
    Text, typer.Option(metavar="epsilon|v_prediction", help="What the model predicts, if its files do not say.")
]
Steps = Annotated[int | None, typer.Option(metavar="N", help="Denoising steps.")]
Guidance = Annotated[float | None, typer.Option(metavar="G", help="Guidance scale; 1 switches guidance off.")]
Rescale = Annotated[float | None, typer.Option(metavar="R", help="Guidance rescale, 0 to 1.")]
Size = Annotated[Text, typer.Option(metavar="WxH", help="Size in pixels, for example 64x64.")]
Scheduler = Annotated[Text, typer.Option(metavar="NAME", help="See `list schedulers`.")]
Seed = Annotated[int | None, typer.Option(metavar="S", help="Seed of the first picture; 0 if not given, drawn if -1.")]
Count = Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="Pictures, with seeds S, S+1, …")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count passes, rows and UNet calls; load no model.")]
What = Annotated[str, typer.Argument(metavar="methods|merges|loras|models|schedulers", help="What to list.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="A LoRA, a model, or a picture made here or elsewhere.")]

Plot = Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the conflicts as a heat map.")]
Merged = Annotated[list[str], typer.Argument(metavar="NAME[:WEIGHT[:TE_WEIGHT]]...", help="LoRAs by name or file.")]
MergedOut = Annotated[Path | None, typer.Option("--out", "-o", metavar="OUT.safetensors", help="The file to write.")]
Into = Annotated[
    Path | None,
    typer.Option("--into-checkpoint", metavar="FOLDER", help="Write a whole model with the LoRAs in it instead."),
]
MergeMethod = Annotated[
    str, typer.Option("--method", metavar="NAME", help="How; cat is the exact sum; see `list merges`.")
]
MergePrompts = Annotated[
    list[str] | None,
    typer.Option("--prompt", metavar="NAME=TEXT", help="For a fit: what calls for a LoRA; else its trigger words."),
]
Rank = Annotated[int | None, typer.Option(metavar="R", min=1, help="Cut to this rank; else as exact as the ranks.")]


BatchWords = Annotated[
    list[str], typer.Argument(metavar="JOBS | resume DIR | status DIR | verify DIR", help="A file, or what to do.")
]
BatchFormat = Annotated[
    Text, typer.Option("--format", metavar="png|jpeg|webp|avif", help="Kind of file; png, or as the batch has.")
]
AxisOption = Annotated[Text, typer.Option(metavar="FIELD=V1,V2,…", help="Repeat every job for these values.")]


@app.command()
def render(  # noqa: PLR0913  one parameter per option; they become a dataclass at once
    source: From = None,
    prompt: Prompt = None,
    negative: Negative = None,
    undesired: Undesired = None,
    undesired_strength: UndesiredStrength = None,
    syntax: own.Syntax = None,
    wildcards: own.Wildcards = None,
    choices: own.Choices = None,
    lora: Lora = None,
    words: Words = None,
    blocks: own.Blocks = None,
    during: own.During = None,
    region: Regions = None,
    region_prompt: RegionPrompts = None,
    allow_partial: own.AllowPartial = None,
    method: Method = None,
    settings: Settings = None,
    text_policy: Policy = None,
    model: Model = None,
    steps: Steps = None,
    guidance: Guidance = None,
    guidance_rescale: Rescale = None,
    size: Size = None,
    init: own.Init = None,
    mask: own.Mask = None,
    strength: own.Strength = None,
    hires: own.HiresScale = None,
    hires_strength: own.HiresStrength = None,
    hires_steps: own.HiresSteps = None,
    hires_upscaler: own.HiresUpscaler = None,
    scheduler: Scheduler = None,
    spacing: own.Spacing = None,
    prediction: Prediction = None,
    original_size: own.OriginalSize = None,
    crop: own.Crop = None,
    target_size: own.TargetSize = None,
    seed: Seed = None,
    count: Count = 1,
    dtype: own.Dtype = "auto",
    attention: own.Attention = "sdpa",
    offload: own.Offload = "none",
    vae_tiling: own.VaeTiling = False,
    zoo: Zoo = None,
    out: own.Out = own.OUT,
    file_format: FileFormat = "png",
    findings: own.Findings = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Render pictures from a prompt and any number of LoRAs."""
    from pipelines import cli_commands
    from pipelines.cli_engine import engine_flags
    from pipelines.cli_flags import RenderFlags
    from pipelines.cli_start import StartFlags
    from pipelines.cli_uses import UseFlags

    flags = RenderFlags(
        source=source,
        prompt=prompt,
        negative=negative,
        undesired=undesired,
        undesired_strength=undesired_strength,
        loras=tuple(lora or ()),
        of_loras=UseFlags(
            *(tuple(typed or ()) for typed in (words, blocks, during, region, region_prompt, allow_partial))
        ),
        start=StartFlags(init, mask, strength, hires, hires_strength, hires_steps, hires_upscaler),
        method=method,
        settings=tuple(settings or ()),
        text_policy=text_policy,
        model=model,
        steps=steps,
        guidance=guidance,
        guidance_rescale=guidance_rescale,
        size=size,
        scheduler=scheduler,
        prediction=prediction,
        original_size=original_size,
        crop=crop,
        target_size=target_size,
        seed=seed,
        count=count,
        by=engine_flags(zoo, dtype, attention, offload, vae_tiling, wildcards),
        syntax=syntax,
        choices=choices,
        spacing=spacing,
    )
    if dry_run:
        cli_commands.price(flags, file_format, as_json, None if out == own.OUT else out, findings)
    else:
        cli_commands.render(flags, out, file_format, as_json, findings)


@app.command("list")
def list_(what: What, zoo: Zoo = None, as_json: Json = False) -> None:
    """List methods, merges, LoRAs, models or schedulers."""
    from pipelines import cli_commands

    cli_commands.listing(what, zoo or (), as_json)


@app.command()
def inspect(file: File, as_json: Json = False) -> None:
    """Tell what a LoRA file or a model is, or how a picture was made."""
    from pipelines import cli_commands

    cli_commands.inspect(file, as_json)


@app.command()
def merge(  # noqa: PLR0913  one parameter per option; they become a dataclass at once
    loras: Merged,
    out: MergedOut = None,
    into: Into = None,
    method: MergeMethod = "cat",
    rank: Rank = None,
    settings: Settings = None,
    prompts: MergePrompts = None,
    model: Model = None,
    stored_dtype: own.StoredDtype = None,
    dtype: own.Dtype = "auto",
    attention: own.Attention = "sdpa",
    offload: own.Offload = "none",
    vae_tiling: own.VaeTiling = False,
    zoo: Zoo = None,
    as_json: Json = False,
) -> None:
    """Make one LoRA file of several, or a model with them in it, for use here and in other tools."""
    from pipelines import cli_merge
    from pipelines.cli_engine import engine_flags

    flags = cli_merge.MergeFlags(
        loras=tuple(loras),
        out=out,
        into=into,
        method=method,
        rank=rank,
        settings=tuple(settings or ()),
        prompts=tuple(prompts or ()),
        model=model,
        by=engine_flags(zoo, dtype, attention, offload, vae_tiling),
        stored_dtype=stored_dtype,
    )
    cli_merge.merge(flags, as_json)


@app.command()
def check(lora: Lora = None, model: Model = None, plot: Plot = None, zoo: Zoo = None, as_json: Json = False) -> None:
    """Tell before rendering whether LoRAs fit a model, how strong they are, and where they will fight."""
    from pipelines import cli_check

    flags = cli_check.CheckFlags(tuple(lora or ()), model, plot, tuple(zoo or ()))
    raise typer.Exit(cli_check.run(flags, as_json))


@app.command()
def batch(  # noqa: PLR0913  one parameter per option; they become a dataclass at once
    words: BatchWords,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of the batch.")] = None,
    x: AxisOption = None,
    y: AxisOption = None,
    z: AxisOption = None,
    wildcards: own.Wildcards = None,
    workers: own.Workers = 1,
    ray: own.Ray = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Give failed jobs a new start.")] = False,
    model: Annotated[Text, typer.Option(metavar="NAME|FOLDER|FILE|ID", help="Of jobs that name no model.")] = None,
    method: Annotated[Text, typer.Option(metavar="NAME", help="Of jobs that name no method.")] = None,
    file_format: BatchFormat = None,
    dtype: own.Dtype = "auto",
    attention: own.Attention = "sdpa",
    offload: own.Offload = "none",
    vae_tiling: own.VaeTiling = False,
    zoo: Zoo = None,
    dry_run: DryRun = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print events, or one document, as JSON.")] = False,
) -> None:
    """Render a file of jobs (JSONL, CSV, YAML, A1111 lines). Killed at any moment, it goes on where it was."""
    from pipelines import cli_batch
    from pipelines.cli_engine import engine_flags

    by = engine_flags(zoo, dtype, attention, offload, vae_tiling, wildcards)
    typed = cli_batch.Typed(tuple(words), out, (x, y, z), workers, retry_failed, dry_run, as_json, ray, by)
    if not cli_batch.command(replace(typed, model=model, method=method, file_format=file_format)):
        raise typer.Exit(1)


@app.command()
def demo(out: own.Out = Path("outputs/demo"), seed: Seed = None) -> None:
    """Compose three LoRAs in three ways and lay the pictures side by side."""
    from composer.request import drawn
    from pipelines import demo

    demo.run(out, demo.Scene(seed=drawn(seed or 0)))


def main(arguments: Sequence[str]) -> int:
    """Run one command; return 0 when done, 2 for the user's mistake; see `cli_exit` for the rest."""
    from pipelines import cli_exit, cli_output

    cli_output.quiet_libraries()
    return cli_exit.run(app, arguments or ["--help"], "python app.py")
