"""Measure the embedded model, its zoo and the methods: `python -m eval --help` lists what there is."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from eval.bench import Bench

app = typer.Typer(
    help="Measure the embedded model, its zoo and the methods. Stopped, each goes on where it was.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    no_args_is_help=True,
)

Out = Annotated[Path, typer.Option(metavar="DIR", help="Folder for rows, summaries, sheets and pictures.")]
Docs = Annotated[Path, typer.Option(metavar="DIR", help="Folder of the documentation.")]
Count = Annotated[int, typer.Option(metavar="N", min=1, help="Pictures, or pictures per LoRA.")]
Groups = Annotated[int, typer.Option(metavar="N", min=1, help="Groups of 100 pictures.")]
Sets = Annotated[int, typer.Option(metavar="N", min=2, help="Sets of each size; 192 takes all 480 there are.")]
Seeds = Annotated[int, typer.Option(metavar="N", min=1, help="Pictures per set and method.")]
Results = Annotated[
    list[Path] | None,
    typer.Option(metavar="DIR", help="A folder that `eval run` filled; repeat for more."),
]
_OUT = Path("outputs/figures")


@app.command()
def detectors(out: Out = _OUT, count: Count = 2000) -> None:
    """Balanced accuracy of the judge on fresh drawn pictures."""
    from eval import accuracy, tables

    typer.echo(tables.of_detectors(accuracy.run(_bench(out), count)))


@app.command()
def clip(out: Out = _OUT, groups: Groups = 10) -> None:
    """Top-1 retrieval of the small CLIP, through open_clip's ordinary API."""
    from eval import clip as suite
    from eval import tables
    from pipelines.bars import bar

    typer.echo(tables.of_clip(suite.run(out, bar, groups)))


@app.command()
def base(out: Out = _OUT, count: Count = 512) -> None:
    """What the base model shows of captions it never saw."""
    from eval import base as suite
    from eval import tables

    typer.echo(tables.of_base(suite.run(_bench(out), count)))


@app.command()
def loras(out: Out = _OUT, count: Count = 64) -> None:
    """Each LoRA alone: its concept found, the rest of the prompt kept."""
    from eval import loras as suite
    from eval import tables

    typer.echo(tables.of_loras(suite.run(_bench(out), count)))


@app.command()
def compose(out: Out = _OUT, sets: Sets = 40, seeds: Seeds = 1) -> None:
    """Two to five LoRAs in one picture, by each method."""
    from eval import compose as suite
    from eval import tables

    typer.echo(tables.of_compose(suite.run(_bench(out), sets, seeds)))


@app.command()
def methods(out: Docs = Path("docs"), pictures: Out = _OUT, results: Results = None) -> None:
    """Write the page on methods: what each says of itself, a strip of pictures, and figures if there are some."""
    from eval import methods_page
    from eval.gallery import Gallery

    typer.echo(methods_page.run(out, Gallery(pictures / "pictures"), results or []))


@app.command()
def report(out: Out = _OUT, docs: Docs = Path("docs")) -> None:
    """Put the summaries that there are into docs/embedded.md and docs/figures."""
    from eval import report as suite

    typer.echo(suite.run(out, docs))


def _bench(out: Path) -> Bench:
    from eval.bench import Bench
    from eval.gallery import Gallery
    from lora_zoo.detectors import Detectors
    from pipelines.bars import bar

    return Bench(out, Gallery(out / "pictures"), Detectors.load(), bar)


def main() -> int:
    """Run one command; return 0 when done, 2 for the user's mistake; see `cli_exit` for the rest."""
    from pipelines import cli_exit, cli_output, environment

    environment.prepare()
    cli_output.quiet_libraries()
    return cli_exit.run(app, sys.argv[1:], "python -m eval")


if __name__ == "__main__":
    from pipelines import cli_exit

    cli_exit.leave(main())
