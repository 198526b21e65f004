"""The commands of `zoo`: what can be typed about folders of LoRAs. Nothing heavy is imported before it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

commands = typer.Typer(help="Folders of LoRAs: scan, list, show, find copies.", rich_markup_mode=None)

Zoo = Annotated[
    list[Path] | None,
    typer.Option("--zoo", metavar="FOLDER", envvar="MEDLEY_ZOO", help="A folder of LoRAs with all below; repeatable."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Query = Annotated[str, typer.Argument(metavar="[TEXT]", help="Part of a name, trigger word or title; or a hash.")]
Family = Annotated[str | None, typer.Option(metavar="NAME", help="Only LoRAs for this family, for example sd15.")]
Refused = Annotated[bool, typer.Option("--refused", help="Only files that cannot be used, with the reason.")]
Name = Annotated[str, typer.Argument(metavar="NAME|HASH|FILE", help="Which LoRA.")]


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
def dedupe(zoo: Zoo = None, as_json: Json = False) -> None:
    """List the LoRAs that are there more than once. Nothing is deleted."""
    from pipelines import cli_zoo_commands

    cli_zoo_commands.dedupe(zoo or (), as_json)
