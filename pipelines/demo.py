"""The demo: a character, a garment and an object from three LoRAs in one picture, in three ways, side by side.

Everything here goes through the public API; it is also an example of how to use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from composer.request import AdapterUse, RenderRequest
from lora_zoo.storage import atomic
from pipelines import cli_output, images, places, sheet
from pipelines.engine import Engine
from pipelines.images import Rendering


@dataclass(frozen=True)
class Scene:
    """What the demo composes."""

    prompt: str = "zorp the one-eyed alien wearing a striped vest, holding a golden trident, in a meadow"
    loras: tuple[str, ...] = ("zorp", "striped_vest", "trident")
    model: str = "tiny"
    seed: int = 0

    def request(self, method: str | None) -> RenderRequest:
        """Return the request for one method; None leaves the LoRAs out."""
        uses = tuple(AdapterUse(name=name) for name in self.loras) if method else ()
        return RenderRequest(
            prompt=self.prompt, model=self.model, seed=self.seed, method=method or "merge", adapters=uses
        )


#: File name -> title and method, in the order of the sheet.
_WAYS = {
    "prompt-only": ("Prompt only", None),
    "merge": ("Merge", "merge"),
    "switch": ("Switch", "switch"),
    "composite": ("Composite", "composite"),
}


def run(out: Path, scene: Scene, engine: Engine | None = None) -> Path:
    """Render the scene every way into `out`, tell what each took, and return the contact sheet's path."""
    engine = engine or Engine()
    places.check_folder(out)
    requests = {name: scene.request(method) for name, (_, method) in _WAYS.items()}
    for request in requests.values():
        engine.resolve(request)
    cli_output.line(f"prompt  {scene.prompt}\nLoRAs   {', '.join(scene.loras)}\n")
    out.mkdir(parents=True, exist_ok=True)
    engine.render(requests["prompt-only"])  # the first picture pays for loading and warming up; not shown
    tiles: list[sheet.Tile] = []
    for name, request in requests.items():
        rendering = engine.render(request)
        path = out / f"{name}.png"
        images.save(rendering, path)
        tiles.append(_tile(_WAYS[name][0], rendering))
        cli_output.line(f"{tiles[-1].title:<12} {tiles[-1].note:<40} {path}")
    sheet_path = out / "sheet.png"
    page = sheet.draw(f"{scene.prompt}  ·  {' + '.join(scene.loras)}  ·  seed {scene.seed}", tiles)
    atomic.write(sheet.png(page), sheet_path)
    cli_output.line(f"\nside by side: {sheet_path}")
    return sheet_path


def _tile(title: str, rendering: Rendering) -> sheet.Tile:
    record = rendering.record
    note = f"{record.seconds or 0.0:.2f} s, {record.unet_passes} UNet passes in {record.unet_calls} calls"
    return sheet.Tile(title, note, rendering.image)
