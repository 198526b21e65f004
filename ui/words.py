"""Records and costs in words, as HTML in which nothing of a user's is ever markup."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from pydantic import JsonValue

from composer.record import RenderRecord
from composer.request import AdapterUse, Hires, Region, Start
from composer.sharing import shared
from pipelines import estimates
from pipelines.estimates import Estimate
from pipelines.pricing import Cost
from ui import more
from ui.history import Kept


def use(one: AdapterUse) -> str:
    """Return a LoRA with its weights."""
    weight, text = one.weight or 0.0, one.text_encoder_weight
    beside = "" if text is None or text == weight else f", in the text encoder {text:g}"
    return f"{one.name} at {weight:g}{beside}{_place(one.region)}{_shape(one)}"


def method(record: RenderRecord) -> str:
    parameters = ", ".join(f"{key} {_value(value)}" for key, value in record.parameters.items())
    return f"{record.method} ({parameters})" if parameters else record.method


def cost(found: Cost, pictures: int, soon: Estimate | None) -> str:
    """Return how long a job takes and what of, in one line."""
    more = [f"{found.shallow_passes} shallow passes"] if found.shallow_passes else []
    more += [f"{found.looks} looks at the attention"] if found.looks else []
    beside = f", {', '.join(more)}" if more else ""
    of = f" for {pictures} pictures" if pictures > 1 else ""
    counts = f"{found.unet_passes} passes{beside}, {found.unet_rows} rows in {found.unet_calls} model calls{of}"
    time = estimates.told(soon)
    return f"{time[0].upper()}{time[1:]}. {counts}; {found.gflop:,.0f} GFLOP, {estimates.amount(found.memory)}"


def beside(begun: bool, twice: bool, further: Iterable[str]) -> str:
    """Return what is asked for in fields that are folded away, in one line; nothing if nothing is."""
    stated = ["a picture to begin with"] * begun + ["a second pass"] * twice
    stated += [name.replace("_", " ") for name in further]
    return f"Set under More: {', '.join(stated)}." if stated else ""


def record(kept: Kept) -> str:
    """Return how a picture was made, as a description list."""
    one = shared(kept.record)
    facts = {
        "Prompt": one.prompt,
        "Negative prompt": one.negative_prompt,
        "LoRAs": "; ".join(map(use, one.adapters)) or "none",
        "Method": method(one),
        "Model": one.model,
        "Sampling": f"{one.scheduler}, {one.num_inference_steps} steps, guidance {one.guidance_scale:g}, "
        f"{one.width}x{one.height}, seed {one.seed}",
        "Begins with": "" if one.start is None else _begun(one.start),
        "Second pass": "" if one.hires is None else _again(one.hires),
        "Cost": f"{one.unet_passes} passes, {one.unet_rows} rows in {one.unet_calls} model calls; {kept.seconds:.2f} s",
        "Made with": f"{one.device}, {one.dtype}, "
        + ", ".join(f"{name} {version}" for name, version in one.versions.items()),
        "Pixels": f"sha256 {one.pixels_sha256[:16]}…",
        "Notices": "; ".join(one.notices),
    }
    rows = "".join(f"<dt>{key}</dt><dd>{escape(text)}</dd>" for key, text in facts.items() if text)
    saw = "".join(
        f'<figure><img src="{escape(data)}" alt="" class="m-pixel"><figcaption>{escape(name)}</figcaption></figure>'
        for name, data in kept.findings.items()
    )
    seen = f'<p>What the method saw:</p><div class="m-gallery m-findings">{saw}</div>' if saw else ""
    return f'<dl class="m-record">{rows}</dl>{seen}'


def finished(pictures: list[Kept]) -> str:
    """Return what a job took, once it is done."""
    seconds = sum(one.seconds for one in pictures)
    passes = sum(one.record.unet_passes for one in pictures)
    what = "1 picture" if len(pictures) == 1 else f"{len(pictures)} pictures"
    return f"{what} in {seconds:.2f} s, {passes} passes."


def download(picture: str) -> str:
    """Return links by which a picture is saved as a file; each holds its record."""
    place = f"medley/pictures/{escape(picture)}"
    whole = f'<a class="m-button" href="{place}.png?download=true" download>Download PNG</a>'
    others = " ".join(f'<a href="{place}.{kind}" download>{kind.upper()}</a>' for kind in ("jpg", "webp", "avif"))
    return f'<p class="m-save">{whole} <span>or {others}</span></p>'


def _value(value: JsonValue) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _place(region: Region | None) -> str:
    if region is None:
        return ""
    where = "a painted mask" if region.box is None else _box(region.box)
    return f", in {where}" if region.prompt is None else f", in {where}, where is “{region.prompt}”"


def _shape(one: AdapterUse) -> str:
    """Return a LoRA's weights by block and over the steps, as the page's fields have them."""
    told = {
        "by block": more.blocks_text(one.blocks),
        "in steps": more.steps_text(one.schedule),
        "over the steps": more.curve_text(one.schedule),
    }
    return "".join(f", {what} {text}" for what, text in told.items() if text)


def _begun(start: Start) -> str:
    where = " where its mask says" if start.mask else ""
    return f"a picture, {start.strength:.0%} of the steps made anew{where}"


def _again(hires: Hires) -> str:
    steps = "" if hires.num_inference_steps is None else f" of {hires.num_inference_steps} steps"
    return f"{hires.scale:g} times as large, {hires.strength:.0%}{steps} done again, enlarged as {hires.upscaler}"


def _box(box: tuple[float, float, float, float]) -> str:
    return "x".join(f"{side:.0%}" for side in box)
