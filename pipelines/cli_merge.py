"""What `merge` does, once its options are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from composer.request import parse_request
from pipelines import cli_output, cli_zoo_commands
from pipelines.cli_flags import parse_lora, parse_settings
from pipelines.engine import Engine
from pipelines.sources import ZooSource


@dataclass(frozen=True)
class MergeFlags:
    """The options of `merge` as typed; None means "not given"."""

    loras: tuple[str, ...]
    out: Path
    method: str
    rank: int | None
    settings: tuple[str, ...]
    model: str | None
    zoos: tuple[Path, ...] = ()


def merge(flags: MergeFlags, as_json: bool) -> None:
    """Make one LoRA file of several."""
    from pipelines import export

    asked: dict[str, object] = {
        "method": flags.method,
        "parameters": parse_settings(flags.settings),
        "adapters": [parse_lora(text) for text in flags.loras],
    }
    if flags.model is not None:
        asked["model"] = flags.model
    engine = Engine(ZooSource(cli_zoo_commands.library(flags.zoos)))
    made = export.export(engine, parse_request(asked), flags.rank, flags.out)
    if as_json:
        cli_output.document(
            {
                "path": str(made.path),
                "layers": made.layers,
                "ranks": list(made.ranks),
                "energy_kept": made.energy_kept,
            }
        )
        return
    least, greatest = made.ranks
    ranks = f"rank {least}" if least == greatest else f"ranks {least} to {greatest}"
    cli_output.line(f"{made.path}  {made.layers} layers of {ranks}, {made.energy_kept:.2%} of the energy kept")
