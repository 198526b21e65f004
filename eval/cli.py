"""The commands of `eval`: what can be typed. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines import cli_options as own

commands = typer.Typer(
    help="Compare methods on suites of LoRA sets. Stopped, each command goes on where it was.",
    rich_markup_mode=None,
    no_args_is_help=True,
)

Text = str | None
SuiteName = Annotated[str, typer.Argument(metavar="SUITE", help="See `eval list suites`; or a YAML file.")]
Methods = Annotated[
    str, typer.Option("--methods", metavar="A,B,…", help="NAME[:KEY=VALUE]…, `naive` (no LoRA), or `all`.")
]
Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the results.")]
Sets = Annotated[int | None, typer.Option(metavar="K", min=1, help="Sets of each size; all if not given.")]
Seeds = Annotated[int, typer.Option(metavar="S", min=1, max=1000, help="Pictures per set and method.")]
Mapped = Annotated[Path | None, typer.Option("--map", metavar="FILE", help="Of `composlora`: your LoRAs' files.")]
Model = Annotated[Text, typer.Option(metavar="NAME|FOLDER|FILE|ID", help="In place of the suite's model.")]
Steps = Annotated[int | None, typer.Option(metavar="N", min=1, help="In place of the suite's steps.")]
Guidance = Annotated[float | None, typer.Option(metavar="G", min=1, help="In place of the suite's guidance.")]
Scheduler = Annotated[Text, typer.Option(metavar="NAME", help="In place of the suite's scheduler.")]
Clip = Annotated[
    Text, typer.Option(metavar="MODEL:WEIGHTS|FOLDER", help="CLIP of CLIPScore, as open_clip names it; else embedded.")
]
Dino = Annotated[Text, typer.Option(metavar="MODEL[:FILE]", help="DINO as timm names it, to compare pictures by too.")]
Metrics = Annotated[Text, typer.Option(metavar="A,B,…", help="See `eval list metrics`; all usual ones if not given.")]
References = Annotated[int, typer.Option(metavar="N", min=0, max=64, help="Pictures of each LoRA alone, to compare.")]
Renew = Annotated[
    Text, typer.Option("--renew", metavar="A,B,…|all", help="Render anew what other code made for these methods.")
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="Give failed pictures a new start.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only count pictures, passes and UNet calls.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
What = Annotated[str, typer.Argument(metavar="suites|metrics", help="What to list.")]
Folders = Annotated[list[Path], typer.Argument(metavar="DIR...", help="Folders of results.")]
Page = Annotated[Path | None, typer.Option("--page", metavar="FILE.html", help="Where to; else DIR/report.html.")]


@commands.command()
def run(  # noqa: PLR0913  one parameter per option; they become a dataclass at once
    suite: SuiteName,
    methods: Methods,
    out: Out,
    sets: Sets = None,
    seeds: Seeds = 1,
    mapped: Mapped = None,
    model: Model = None,
    steps: Steps = None,
    guidance: Guidance = None,
    scheduler: Scheduler = None,
    clip: Clip = None,
    dino: Dino = None,
    metrics: Metrics = None,
    references: References = 0,
    workers: own.Workers = 1,
    ray: own.Ray = None,
    retry_failed: RetryFailed = False,
    renew: Renew = None,
    dtype: own.Dtype = "auto",
    attention: own.Attention = "sdpa",
    offload: own.Offload = "none",
    vae_tiling: own.VaeTiling = False,
    zoo: own.Zoo = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Render a suite by each method on the same noise, and measure the pictures."""
    from eval import commands as does
    from pipelines.cli_engine import engine_flags

    flags = does.RunFlags(
        suite=suite,
        methods=methods,
        out=out,
        sets=sets,
        seeds=seeds,
        mapped=mapped,
        overrides=does.Overrides(model=model, num_inference_steps=steps, guidance_scale=guidance, scheduler=scheduler),
        clip=clip,
        metrics=_listed(metrics),
        references=references,
        workers=workers,
        retry_failed=retry_failed,
        ray=ray,
        renew=_listed(renew),
        dino=dino,
        by=engine_flags(zoo, dtype, attention, offload, vae_tiling),
    )
    if dry_run:
        does.price(flags, as_json)
    elif not does.run(flags, as_json):
        raise typer.Exit(1)


@commands.command()
def report(
    folders: Folders,
    page: Page = None,
    docs: Annotated[Path | None, typer.Option(metavar="DIR", help="Renew its benchmark.md too.")] = None,
    zoo: own.Zoo = None,
) -> None:
    """Write one page of tables, plots and pictures, and the figures as CSV and JSON."""
    from eval import commands as does
    from pipelines.cli_engine import EngineFlags

    does.report(tuple(folders), page, docs, EngineFlags(tuple(zoo or ())))


@commands.command("list")
def list_(what: What, as_json: Json = False) -> None:
    """List suites or metrics."""
    from eval import commands_list as does

    does.listing(what, as_json)


@commands.command()
def check(suite: SuiteName = "compos", sets: Sets = 20, clip: Clip = None, as_json: Json = False) -> None:
    """Hold every metric against the truth: drawings, drawings with a concept taken out, drawings of other sets."""
    from eval import commands as does

    if not does.check(suite, sets, clip, as_json):
        raise typer.Exit(1)


@commands.command()
def benchmark(  # noqa: PLR0913  one parameter per option; they become a dataclass at once
    methods: Annotated[str, typer.Option("--methods", metavar="A,B,…", help="As `eval run` takes them.")] = "all",
    out: Out = Path("outputs/benchmark"),
    docs: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the documentation.")] = Path("docs"),
    sets: Annotated[int | None, typer.Option(metavar="K", min=1, help="Sets of each suite; all if not given.")] = None,
    suites: Annotated[Text, typer.Option("--suites", metavar="A,B,…", help="Of the embedded world; else all.")] = None,
    seeds: Seeds = 1,
    references: References = 0,
    workers: own.Workers = 1,
    ray: own.Ray = None,
    retry_failed: RetryFailed = False,
    renew: Renew = None,
    dtype: own.Dtype = "auto",
    attention: own.Attention = "sdpa",
    offload: own.Offload = "none",
    vae_tiling: own.VaeTiling = False,
) -> None:
    """Run the suites of the embedded world and write docs/benchmark.md. Stopped, it goes on."""
    from eval import commands as does
    from pipelines.cli_engine import engine_flags

    by = engine_flags(None, dtype, attention, offload, vae_tiling)
    flags = does.BenchmarkFlags(
        methods, out, docs, sets, seeds, references, workers, retry_failed, ray, _listed(renew), _listed(suites), by
    )
    if not does.benchmark(flags):
        raise typer.Exit(1)


Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder of results.")]
Some = Annotated[Text, typer.Option("--methods", metavar="A,B,…", help="Only these; all of the folder if not given.")]
Against = Annotated[Text, typer.Option(metavar="METHOD", help="What each is held against; merge if it is there.")]


@commands.command()
def judge(  # noqa: PLR0913  one parameter per option; they become a dataclass at once
    folder: Folder,
    url: Annotated[str, typer.Option("--judge-url", metavar="URL", help="OpenAI-compatible, ending in /v1.")],
    model: Annotated[str, typer.Option("--judge-model", metavar="NAME", help="A model that sees pictures.")],
    protocol: Annotated[str, typer.Option(metavar="gpt4v|cmlora", help="What is asked.")] = "gpt4v",
    against: Against = None,
    methods: Some = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before it costs something.")] = False,
    zoo: own.Zoo = None,
) -> None:
    """Lay pairs of pictures before a vision model, in both orders. Answers are kept; the key is OPENAI_API_KEY."""
    from eval import commands_judge as does
    from pipelines.cli_engine import EngineFlags

    flags = does.JudgeFlags(folder, url, model, protocol, against, methods, yes, EngineFlags(tuple(zoo or ())))
    if not does.judge(flags, lambda told: typer.confirm(f"{told}. Go on?", err=True)):
        raise typer.Exit(1)


@commands.command()
def study(
    folder: Folder,
    votes: Annotated[list[Path] | None, typer.Argument(metavar="[VOTES.csv...]", help="To be read and rated.")] = None,
    against: Against = None,
    methods: Some = None,
    zoo: own.Zoo = None,
    as_json: Json = False,
) -> None:
    """Write a page of blind pairs for people; or, with files of votes, rate the methods by Bradley-Terry."""
    from eval import commands_judge as does
    from pipelines.cli_engine import EngineFlags

    if votes:
        does.study_import(folder, votes, as_json)
    else:
        does.study_export(folder, methods, against, EngineFlags(tuple(zoo or ())))


def _listed(text: str | None) -> tuple[str, ...]:
    """Return the words of a list that commas part."""
    return tuple(one.strip() for one in (text or "").split(",") if one.strip())
