"""The commands of `zoo`: what can be typed about folders of LoRAs. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipelines import cli_options as own
from pipelines.cli_options import Json, Zoo

commands = typer.Typer(help="Folders of LoRAs: scan, list, show, find copies.", rich_markup_mode=None)

Query = Annotated[str, typer.Argument(metavar="[TEXT]", help="Part of a name, trigger word or title; or a hash.")]
Family = Annotated[str | None, typer.Option(metavar="NAME", help="Only LoRAs for this family, for example sd15.")]
Refused = Annotated[bool, typer.Option("--refused", help="Only files that cannot be used, with the reason.")]
Name = Annotated[str, typer.Argument(metavar="NAME|HASH|FILE", help="Which LoRA.")]

Names = Annotated[list[str] | None, typer.Argument(metavar="[NAME|HASH|FILE]...", help="Which LoRAs.")]
Model = Annotated[str, typer.Option(metavar="NAME|FOLDER|FILE|ID", help="The model to measure them on.")]
Pictures = Annotated[int, typer.Option(metavar="N", min=1, max=1000, help="Pictures of each.")]
Plot = Annotated[Path | None, typer.Option(metavar="FILE.png", help="Draw the profiles.")]


@commands.command()
def scan(zoo: Zoo = None, as_json: Json = False) -> None:
    """Bring the index of the folders up to date and tell what has changed."""
    from pipelines import cli_zoo_commands

    cli_zoo_commands.scan(zoo or (), as_json)


@commands.command("list")
def list_(
    query: Query = "", zoo: Zoo = None, family: Family = None, refused: Refused = False, as_json: Json = False
) -> None:
    """List the LoRAs of the folders, all or those that match."""
    from pipelines import cli_zoo_commands

    cli_zoo_commands.listing(zoo or (), cli_zoo_commands.Filter(query, family, refused), as_json)


@commands.command()
def show(name: Name, zoo: Zoo = None, as_json: Json = False) -> None:
    """Tell all that is known of one LoRA, or why its file cannot be used."""
    from pipelines import cli_zoo_commands

    cli_zoo_commands.show(zoo or (), name, as_json)


@commands.command()
def profile(  # noqa: PLR0913  one parameter per option; they become a dataclass at once
    names: Names = None,
    zoo: Zoo = None,
    model: Model = "tiny",
    pictures: Pictures = 8,
    plot: Plot = None,
    dtype: own.Dtype = "auto",
    attention: own.Attention = "sdpa",
    offload: own.Offload = "none",
    vae_tiling: own.VaeTiling = False,
    as_json: Json = False,
) -> None:
    """Measure LoRAs' frequencies, for `cmlora`: of those named; else of all that fit the model, each once."""
    from pipelines import cli_profile
    from pipelines.cli_engine import engine_flags

    by = engine_flags(zoo, dtype, attention, offload, vae_tiling)
    cli_profile.run(cli_profile.Typed(tuple(names or ()), by, model, pictures, plot), as_json)


@commands.command()
def dedupe(zoo: Zoo = None, as_json: Json = False) -> None:
    """List the LoRAs that are there more than once. Nothing is deleted."""
    from pipelines import cli_zoo_commands

    cli_zoo_commands.dedupe(zoo or (), as_json)
