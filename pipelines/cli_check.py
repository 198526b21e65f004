"""What `check` does, once its options are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from composer.errors import BadRequest
from composer.request import RenderRequest, parse_request
from pipelines import cli_output, cli_zoo_commands, places
from pipelines.cli_flags import parse_lora
from pipelines.engine import Engine
from pipelines.preflight import LoraReport, Report, check
from pipelines.sources import ZooSource

_MOST_CONFLICTS = 12  # in words; all of them are in the JSON and in the plot


@dataclass(frozen=True)
class CheckFlags:
    """The options of `check` as typed; None means "not given"."""

    loras: tuple[str, ...]
    model: str | None
    plot: Path | None
    zoos: tuple[Path, ...]


def run(flags: CheckFlags, as_json: bool) -> int:
    """Report, and return the exit code: 0 if every LoRA can be used, else 2."""
    if not flags.loras:
        raise BadRequest("nothing to check: name LoRAs with --lora")
    if flags.plot is not None and flags.plot.suffix.lower() != ".png":
        raise BadRequest(f"--plot {flags.plot}: the heat map is a PNG; give a name that ends in .png")
    if flags.plot is not None:
        places.check_file(flags.plot, "--plot")
    model = RenderRequest.model_fields["model"].default if flags.model is None else flags.model
    asked = parse_request({"model": model, "adapters": [parse_lora(text) for text in flags.loras]})
    report = check(Engine(ZooSource(cli_zoo_commands.library(flags.zoos))), asked.model, asked.adapters)
    if flags.plot is not None:
        _plot(report, flags.plot)
    if as_json:
        cli_output.document(_document(report))
    else:
        _tell(report)
    return 0 if report.usable else 2


def _plot(report: Report, path: Path) -> None:
    from lora_zoo.storage import atomic
    from pipelines import heatmap, sheet

    if not report.conflicts:
        raise BadRequest("--plot: there is nothing to draw; it takes two LoRAs that can be used and share a layer")
    atomic.write(sheet.png(heatmap.draw(report.conflicts)), path)


def _document(report: Report) -> dict[str, JsonValue]:
    loras: list[JsonValue] = [
        {**to_jsonable_python(one), "fits": one.fit is not None and one.fit.fits} for one in report.loras
    ]
    conflicts: list[JsonValue] = [
        {**to_jsonable_python(one), "notable": one.notable, "told": one.told()} for one in report.conflicts
    ]
    return {"model": report.model, "usable": report.usable, "loras": loras, "conflicts": conflicts}


def _tell(report: Report) -> None:
    for one in report.loras:
        cli_output.line(cli_output.printable(f"{one.name}:{one.weight:g}  {_state(one)}"))
        for part in one.fit.components if one.fit else ():
            ranks = "" if part.ranks is None else f", rank {_range(part.ranks)}"
            strength = "" if part.strengths is None else f", alpha/rank {_range(part.strengths)}"
            kinds = "+".join(part.kinds)
            cli_output.line(f"  {part.component}: {part.matched} of {part.total} modules fit, {kinds}{ranks}{strength}")
        for size in one.sizes:
            cli_output.line(
                f"  {size.component}: the change is {size.frobenius:.1%} of the weights changed (Frobenius); "
                f"at most {size.spectral:.1%} (spectral), in {size.strongest}"
            )
    notable = sorted((one for one in report.conflicts if one.notable), key=lambda one: -(one.overlap + one.cancelled))
    for conflict in notable[:_MOST_CONFLICTS]:
        cli_output.line(cli_output.printable(conflict.told()))
    if len(notable) > _MOST_CONFLICTS:
        cli_output.line(f"{len(notable) - _MOST_CONFLICTS} more of this kind; --json tells all")
    if report.conflicts and not notable:
        cli_output.line("no two of them fight in any block")


def _state(one: LoraReport) -> str:
    if one.fit is None or (one.error and one.fit.fits):
        return f"cannot be used: {one.error}" if one.error else "fits"
    return f"{'cannot be used' if one.error else 'fits'}: {one.verdict}"


def _range(pair: tuple[float, float]) -> str:
    least, greatest = pair
    return f"{least:g}" if least == greatest else f"{least:g} to {greatest:g}"
