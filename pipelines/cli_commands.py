"""What the commands do, once their options are read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from composer import registry
from composer.errors import UnknownChoice
from lora_zoo import catalog, formats
from lora_zoo.foreign.text import escaped
from pipelines import cli_output, cli_zoo_commands, quotes, schedulers, specs
from pipelines.batching import TOGETHER
from pipelines.cli_flags import RenderFlags, existing, requests_from
from pipelines.cli_output import Row
from pipelines.engine import Engine
from pipelines.places import check_folder
from pipelines.resolve import Resolved

if TYPE_CHECKING:
    from pipelines.images import Rendering
    from pipelines.numbered import Numbered

_COLUMNS = {
    "methods": ("name", "title", "summary", "parameters"),
    "merges": ("name", "summary", "needs", "parameters"),
    "loras": ("name", "category", "family", "rank", "weight", "triggers"),
    "models": ("name", "family", "path"),
    "schedulers": ("name",),
}


def price(
    flags: RenderFlags, file_format: str, as_json: bool, out: Path | None = None, findings: Path | None = None
) -> None:
    """Say what a rendering would take, without loading a model; what a rendering refuses is refused.

    Args:
        flags: What is asked for.
        file_format: Name of the pictures' kind of file.
        as_json: Whether to tell it as JSON.
        out: The folder for pictures, if one was named, which must be one that can be written to.
        findings: That for masks, likewise.
    """
    engine, found, _ = _checked(flags, file_format)
    _check_folders(out, findings)
    flags.by.check_runtime()
    told = quotes.quote(engine, _goes(found), flags.by.runtime.dtype)
    if as_json:
        requests: list[JsonValue] = [to_jsonable_python(one.request) for one in found]
        cli_output.document({"dry_run": True, "pictures": len(found), **told.row(), "requests": requests})
    else:
        cli_output.pairs({"pictures": len(found), **told.line()})
    for remark in dict.fromkeys((*told.remarks, *(text for one in found for text in one.notices))):
        cli_output.notice(f"notice: {remark}")


def render(flags: RenderFlags, out: Path, file_format: str, as_json: bool, findings: Path | None = None) -> None:
    """Render pictures and write them to a folder; what methods found on the way to another, if there is one."""
    engine, found, suffix = _checked(flags, file_format)
    _check_folders(out, findings)
    from pipelines.numbered import Numbered

    for remark in quotes.remarks(engine, _goes(found)):
        cli_output.notice(f"notice: {remark}")
    folder, written = Numbered(out), list[Row]()
    try:
        for some in _goes(found):
            with cli_output.progress(len(some)) as on_step:
                done = engine.render_many(some, on_step)
            for rendering in done:
                row = _write(rendering, folder, suffix, as_json)
                written.append(row if findings is None else _with_findings(row, rendering, findings))
    except BaseException:
        cli_output.notice(f"{len(written)} of {len(found)} pictures are written, in {out}")
        if as_json and written:
            cli_output.document({"images": list(map(dict, written)), "missing": len(found) - len(written)})
        raise
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


def _check_folders(out: Path | None, findings: Path | None) -> None:
    for folder, option in ((out, "--out"), (findings, "--findings")):
        if folder is not None:
            check_folder(folder, option)


def _checked(flags: RenderFlags, file_format: str) -> tuple[Engine, list[Resolved], str]:
    """Return an engine, resolved requests whose records fit into the files asked for, and these files' suffix."""
    from pipelines import images

    chosen = images.format_named(file_format)
    library = flags.by.library()
    engine = flags.by.engine(library)
    found = engine.resolve_many(requests_from(flags, library, engine.drawn))
    for one in found:
        images.check_room(one.request, chosen)
    return engine, found, chosen.name


def _goes(found: Sequence[Resolved]) -> list[Sequence[Resolved]]:
    return [found[start : start + TOGETHER] for start in range(0, len(found), TOGETHER)]


def _write(rendering: Rendering, folder: Numbered, suffix: str, as_json: bool) -> Row:
    """Write one picture under a name that none has yet, and return what there is to say of it."""
    from pipelines import images

    record = rendering.record
    data = images.encode(rendering, images.format_named(suffix))
    path = folder.write(data, f"{record.method}-{record.seed}.{suffix}")
    for text in record.notices:
        cli_output.notice(f"notice: {text}")
    if not as_json:
        cost = f"{record.seconds or 0.0:.2f} s, {record.unet_passes} UNet passes in {record.unet_calls} calls"
        cli_output.line(f"{path}  seed {record.seed}, {cost}")
    return {
        "path": escaped(str(path)),
        "seed": record.seed,
        "sha256": hashlib.sha256(data).hexdigest(),
        "pixels_sha256": record.pixels_sha256,
        "seconds": record.seconds,
        "unet_passes": record.unet_passes,
        "unet_rows": record.unet_rows,
        "unet_calls": record.unet_calls,
        "shallow_passes": record.shallow_passes,
        "notices": list(record.notices),
    }


def _with_findings(row: Row, made: Rendering, folder: Path) -> Row:
    """Write what was found on the way, under the picture's name, and return the row with these files."""
    from pipelines import cli_findings

    return {**row, "findings": cli_findings.write(made, folder, Path(str(row["path"])).stem)}


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
    return [{**to_jsonable_python(entry), "path": escaped(str(library.path(entry)))} for entry in library.entries()]


def _models() -> list[Row]:
    return [to_jsonable_python(model) for model in catalog.models()]


def _schedulers() -> list[Row]:
    return [{"name": name} for name in schedulers.names()]
