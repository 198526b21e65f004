"""What the commands do, once their options are read."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from composer import registry
from composer.errors import BadRequest, UnknownChoice
from composer.request import RenderRequest
from lora_zoo import catalog, formats
from pipelines import cli_output, cli_zoo_commands, schedulers, specs
from pipelines.batching import TOGETHER
from pipelines.cli_flags import RenderFlags, existing, requests_from
from pipelines.cli_output import Row
from pipelines.engine import Engine
from pipelines.sources import ZooSource

if TYPE_CHECKING:
    from pipelines.images import Rendering

_NUMBERED = re.compile(r"(\d+)-.*\.(?:png|jpeg|webp|avif)")
_COLUMNS = {
    "methods": ("name", "title", "summary", "parameters"),
    "merges": ("name", "summary", "needs", "parameters"),
    "loras": ("name", "category", "family", "rank", "weight", "triggers"),
    "models": ("name", "family", "path"),
    "schedulers": ("name",),
}


def price(flags: RenderFlags, file_format: str, as_json: bool) -> None:
    """Say what a rendering would take, without loading a model; what a rendering refuses is refused."""
    engine, requests, _ = _checked(flags, file_format)
    goes = [engine.dry_run_many(some) for some in _goes(requests)]
    cost: dict[str, JsonValue] = {
        "pictures": len(requests),
        "unet_passes": sum(go.unet_passes for go in goes),
        "unet_rows": sum(go.unet_rows for go in goes),
        "unet_calls": sum(go.unet_calls for go in goes),
        "shallow_passes": sum(go.shallow_passes for go in goes),
        "looks": sum(go.looks for go in goes),
    }
    if as_json:
        resolved = [to_jsonable_python(engine.resolve(request).request) for request in requests]
        cli_output.document({"dry_run": True, **cost, "requests": resolved})
    else:
        cli_output.pairs(cost)


def render(flags: RenderFlags, out: Path, file_format: str, as_json: bool, findings: Path | None = None) -> None:
    """Render pictures and write them to a folder; what methods found on the way to another, if there is one."""
    engine, requests, suffix = _checked(flags, file_format)
    check_folder(out)
    if findings is not None:
        check_folder(findings, "--findings")
    written: list[Row] = []
    for some in _goes(requests):
        with cli_output.progress(len(some)) as on_step:
            done = engine.render_many(some, on_step)
        rows = [_write(rendering, out, suffix, as_json) for rendering in done]
        written.extend(rows if findings is None else _with_findings(rows, done, findings))
    if as_json:
        cli_output.document({"images": list(map(dict, written))})


def listing(what: str, zoos: Sequence[Path], as_json: bool) -> None:
    """List what there is of one kind."""
    listings = {
        "methods": _methods,
        "merges": _merges,
        "loras": partial(_loras, zoos),
        "models": _models,
        "schedulers": _schedulers,
    }
    if what not in listings:
        raise UnknownChoice("list", what, listings)
    rows = listings[what]()
    if as_json:
        cli_output.document({what: list(map(dict, rows))})
    else:
        cli_output.table([_short(row) for row in rows], _COLUMNS[what])


def inspect(file: Path, as_json: bool) -> None:
    """Describe a LoRA file or a model, or tell how a picture was made."""
    what, found = _found(file)
    if as_json:
        cli_output.document({what: dict(found)})
    else:
        cli_output.pairs(_short(found))


def _found(file: Path) -> tuple[str, Row]:
    from pipelines import images

    if not file.is_dir() and images.is_picture(existing(file)):
        return "picture", to_jsonable_python(images.read(file))
    if specs.is_model(file):
        return "model", specs.describe(specs.find(str(file)))
    return "lora", to_jsonable_python(formats.describe(file))


def _checked(flags: RenderFlags, file_format: str) -> tuple[Engine, list[RenderRequest], str]:
    """Return an engine, requests with room for their records in the files asked for, and these files' suffix."""
    from pipelines import images

    library = cli_zoo_commands.library(flags.zoos)
    engine, chosen = Engine(ZooSource(library), runtime=flags.runtime), images.format_named(file_format)
    requests = requests_from(flags, library)
    for request in requests:
        images.check_room(engine.resolve(request).request, chosen)
    return engine, requests, chosen.name


def _goes(requests: Sequence[RenderRequest]) -> list[Sequence[RenderRequest]]:
    return [requests[start : start + TOGETHER] for start in range(0, len(requests), TOGETHER)]


def _write(rendering: Rendering, out: Path, suffix: str, as_json: bool) -> Row:
    """Write one picture under a name that none has yet, and return what there is to say of it."""
    from pipelines import images

    record = rendering.record
    out.mkdir(parents=True, exist_ok=True)
    path = out / f"{_next_number(out):04d}-{record.method}-{record.seed}.{suffix}"
    digest = images.save(rendering, path)
    for text in record.notices:
        cli_output.notice(f"notice: {text}")
    if not as_json:
        cost = f"{record.seconds or 0.0:.2f} s, {record.unet_passes} UNet passes in {record.unet_calls} calls"
        cli_output.line(f"{path}  seed {record.seed}, {cost}")
    return {
        "path": str(path),
        "seed": record.seed,
        "sha256": digest,
        "pixels_sha256": record.pixels_sha256,
        "seconds": record.seconds,
        "unet_passes": record.unet_passes,
        "unet_rows": record.unet_rows,
        "unet_calls": record.unet_calls,
        "shallow_passes": record.shallow_passes,
        "notices": list(record.notices),
    }


def _with_findings(rows: Sequence[Row], made: Sequence[Rendering], folder: Path) -> list[Row]:
    """Write what was found on the way, under the pictures' names, and return the rows with these files."""
    from pipelines import cli_findings

    both = zip(rows, made, strict=True)
    return [{**row, "findings": cli_findings.write(one, folder, Path(str(row["path"])).stem)} for row, one in both]


def _next_number(folder: Path) -> int:
    matches = (_NUMBERED.fullmatch(one.name) for one in folder.iterdir())
    return max((int(match[1]) for match in matches if match), default=0) + 1


def check_folder(folder: Path, option: str = "--out") -> None:
    """Refuse, before any work, a folder that cannot be written to."""
    there = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    if not there.is_dir():
        raise BadRequest(f"{option} {folder}: '{there}' is a file, not a folder")
    if not os.access(there, os.W_OK):
        raise BadRequest(f"{option} {folder}: '{there}' cannot be written to")


def _methods() -> list[Row]:
    return [to_jsonable_python(registry.describe(name)) for name in registry.names()]


def _merges() -> list[Row]:
    from pipelines import merges

    return [to_jsonable_python(merges.describe(name)) for name in merges.names()]


def _short(row: Row) -> Row:
    """Return a row for people: parameters as names and defaults, a picture's LoRAs as one would type them."""
    short: dict[str, JsonValue] = dict(row)
    if isinstance(parameters := row.get("parameters"), list):
        short["parameters"] = {str(one["name"]): one["default"] for one in parameters if isinstance(one, dict)}
    if isinstance(adapters := row.get("adapters"), list):
        keys = ("name", "weight", "text_encoder_weight")
        short["adapters"] = [":".join(str(one[key]) for key in keys) for one in adapters if isinstance(one, dict)]
    return short


def _loras(zoos: Sequence[Path]) -> list[Row]:
    library = cli_zoo_commands.library(zoos)
    for row in library.rows():
        if row.error:
            cli_output.notice(cli_output.printable(f"{row.file} cannot be used: {row.error}"))
    return [
        {**to_jsonable_python(entry), "path": cli_output.storable(str(library.path(entry)))}
        for entry in library.entries()
    ]


def _models() -> list[Row]:
    return [to_jsonable_python(model) for model in catalog.models()]


def _schedulers() -> list[Row]:
    return [{"name": name} for name in schedulers.names()]
