"""What `zoo profile` does, once its options are read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic_core import to_jsonable_python

from composer.errors import BadRequest
from lora_zoo.library import Library
from pipelines import cli_output, places, specs
from pipelines.cli_engine import EngineFlags


@dataclass(frozen=True)
class Typed:
    """The options of `zoo profile` as typed."""

    names: tuple[str, ...]
    by: EngineFlags
    model: str
    pictures: int
    plot: Path | None


def run(typed: Typed, as_json: bool) -> None:
    """Measure, tell, and draw."""
    if typed.plot is not None and typed.plot.suffix.lower() != ".png":
        raise BadRequest(f"--plot {typed.plot}: the curves are a PNG; give a name that ends in .png")
    if typed.plot is not None:
        places.check_file(typed.plot, "--plot")
    library = typed.by.library()
    names = typed.names or _all(library, typed.model)
    if not names:
        raise BadRequest(f"there is no LoRA for model '{typed.model}' to measure; name one, or give --zoo FOLDER")
    from pipelines import profiling

    asked = profiling.Asked(typed.model, typed.pictures, again=bool(typed.names))
    with cli_output.files_progress("measuring") as on_lora:
        found = profiling.measure(typed.by.engine(library), library, names, asked, on_lora)
    found.sort(key=lambda one: -one.frequency)
    if typed.plot is not None:
        _plot({f"{one.name} {one.frequency:.3f}": one.profile for one in found}, typed.plot)
    if as_json:
        cli_output.document({"profiles": [to_jsonable_python(one) for one in found]})
    else:
        cli_output.table([{"name": one.name, "frequency": one.frequency} for one in found], ("name", "frequency"))


def _all(library: Library, model: str) -> tuple[str, ...]:
    """Return the LoRAs made for a model, by names that mean one of them each."""
    family = specs.find(model).family
    return tuple(library.handle(entry) for entry in library.entries() if entry.family == family)


def _plot(profiles: dict[str, tuple[float, ...]], path: Path) -> None:
    from lora_zoo.storage import atomic
    from pipelines import curves, sheet

    title = "Mean log spectrum of each LoRA's pictures, over its greatest value"
    atomic.write(sheet.png(curves.draw(title, "middle of the spectrum to its edge", profiles)), path)
