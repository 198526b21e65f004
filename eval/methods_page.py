"""`docs/methods.md`: a paragraph on each method, what it makes of the same LoRAs and noise, what was measured of it.

The paragraph is what the method's own file says of itself, so that the page cannot say otherwise than the code. Figures
are those of folders that `eval run` or `eval benchmark` filled, if some are named.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from composer import registry
from composer.request import AdapterUse, Region, RenderRequest
from eval import commands, outputs, sheets
from eval.gallery import Gallery
from eval.method_figures import MethodFigures
from lora_zoo.world.vocabulary import concept
from pipelines.bars import bar
from pipelines.engine import Engine
from pipelines.sheet import Tile

_TOGETHER = ("zorp", "striped_vest", "neon")
_PLACED = ("krag", "momo")
_SEEDS = (1, 2, 3)
_STEPS, _SCHEDULER = 12, "dpmpp_2m"
_HEAD = """# Methods

Made by `python -m eval methods`; the words are those of the methods' own files in `composer/methods/`. Pictures are of
the embedded model, {steps} steps of {scheduler}, every parameter at its default and every LoRA at its preferred weight,
the same seeds for all.
They show {together}; methods that take regions show {placed}, one in each half of a picture of twice the width.
A look is an evaluation between steps, to see what attention reads. Figures are of the suites in
[benchmark.md](benchmark.md), brackets are 95 % intervals by bootstrap over sets, and seconds are those of a machine
that had other work too.
"""


def run(docs: Path, gallery: Gallery, results: Sequence[Path]) -> Path:
    """Render every method's strip, and write the page, with the figures of these folders; return its path."""
    engine = Engine()
    figures = MethodFigures([commands.known(folder, engine) for folder in results])
    names = registry.names()
    parts = [_HEAD.format(steps=_STEPS, scheduler=_SCHEDULER, together=_listed(_TOGETHER), placed=_listed(_PLACED))]
    with bar("methods", len(names) * len(_SEEDS)) as advance:
        for name in names:
            made = gallery.render([request(name, seed) for seed in _SEEDS], advance)
            tiles = tuple(Tile("", "", one.image) for one in made)
            outputs.write_sheet(sheets.page([sheets.Row("", tiles)], 2), docs / "figures" / "methods" / f"{name}.png")
            cost = {"passes": made[0].record.unet_passes, "looks": made[0].record.looks}
            cost["shallow passes"] = made[0].record.shallow_passes
            parts.append(section(name, cost, figures.markdown(name)))
    outputs.write_text("\n".join(parts), docs / "methods.md")
    return docs / "methods.md"


def request(name: str, seed: int) -> RenderRequest:
    """Return what a method's strip shows with one seed."""
    common = {"method": name, "seed": seed, "num_inference_steps": _STEPS, "scheduler": _SCHEDULER}
    if not registry.get(name).uses_regions:
        prompt = ", ".join(concept(one).phrase for one in _TOGETHER)
        return RenderRequest(prompt=prompt, adapters=tuple(AdapterUse(name=one) for one in _TOGETHER), **common)
    halves = ((0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0))
    uses = tuple(
        AdapterUse(name=one, region=Region(box=box, prompt=f"{concept(one).phrase} in a meadow"))
        for one, box in zip(_PLACED, halves, strict=True)
    )
    prompt = " and ".join(concept(one).phrase for one in _PLACED)
    return RenderRequest(prompt=f"{prompt} in a meadow", adapters=uses, width=128, height=64, **common)


def section(name: str, cost: Mapping[str, int], figures: str) -> str:
    """Return what the page says of one method: of what its strip took, and what was measured elsewhere."""
    info = registry.describe(name)
    told = ", ".join(f"{count} {key}" for key, count in cost.items() if count)
    strip = f"![{info.title}](figures/methods/{name}.png)"
    parts = [f"## {info.title} (`{name}`)", paragraph(name), strip, f"Each of these took {told}.", figures]
    return "\n\n".join(part for part in parts if part) + "\n"


def paragraph(name: str) -> str:
    """Return what a method's file says of itself as one paragraph of Markdown."""
    said = sys.modules[registry.get(name).__module__].__doc__ or ""
    return "".join(
        part if part.startswith("`") else escaped(part) for part in re.split(r"(`[^`]*`)", " ".join(said.split()))
    )


def escaped(text: str) -> str:
    """Return a text whose signs mean nothing in Markdown."""
    return re.sub(r"([*_<\[\]|\\])", r"\\\1", text)


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join(", ".join(f"`{one}`" for one in part) for part in (names[:-1], names[-1:]))
