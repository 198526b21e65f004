"""What `merge` does, once its options are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from composer.errors import BadRequest
from composer.request import parse_request
from pipelines import cli_output, merges
from pipelines.cli_engine import EngineFlags
from pipelines.cli_flags import parse_lora, parse_settings
from pipelines.merges import MergeOrder
from pipelines.runtime import Runtime


@dataclass(frozen=True)
class MergeFlags:
    """The options of `merge` as typed; None means "not given"."""

    loras: tuple[str, ...]
    out: Path | None
    into: Path | None
    method: str
    rank: int | None
    settings: tuple[str, ...]
    prompts: tuple[str, ...]
    model: str | None
    by: EngineFlags = EngineFlags()
    stored_dtype: str | None = None


def merge(flags: MergeFlags, as_json: bool) -> None:
    """Make one LoRA file of several, or a model with them in it."""
    if (flags.out is None) == (flags.into is None):
        raise BadRequest("say where to: -o OUT.safetensors for a LoRA file, or --into-checkpoint FOLDER for a model")
    if flags.by.runtime != Runtime() and not merges.is_fit(flags.method):
        raise BadRequest(
            f"--dtype, --attention, --offload and --vae-tiling say how a model is run, and '{flags.method}' runs none; "
            "how a LoRA file stores its values is --stored-dtype"
        )
    order, engine = _order(flags), flags.by.engine()
    with cli_output.working() as watch:
        if flags.out is not None:
            from pipelines import export

            made = export.export(engine, order, flags.out, watch)
            facts: dict[str, JsonValue] = {"ranks": list(made.ranks), "energy_kept": made.energy_kept}
            told = f"layers of {_ranks(*made.ranks)}, {made.energy_kept:.2%} of the energy kept"
        else:
            from pipelines import checkpoint

            made = checkpoint.export(engine, order, flags.into or Path(), watch)
            facts, told = {}, "layers changed"
    if as_json:
        cli_output.document({"path": str(made.path), "layers": made.layers, **facts, "measured": dict(made.measured)})
        return
    cli_output.line(f"{made.path}  {made.layers} {told}")
    if made.measured:
        cli_output.line(_measured(made.measured))


def _order(flags: MergeFlags) -> MergeOrder:
    asked: dict[str, object] = {
        "method": flags.method,
        "parameters": parse_settings(flags.settings),
        "adapters": [parse_lora(text) for text in flags.loras],
    }
    if flags.model is not None:
        asked["model"] = flags.model
    return MergeOrder(parse_request(asked), flags.rank, _prompts(flags.prompts), flags.stored_dtype)


def _prompts(texts: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, prompt = text.partition("=")
        if not (name and equals and prompt):
            raise BadRequest(f"--prompt {text!r}: write NAME=TEXT, for example --prompt 'zorp=zorp the alien'")
        if name in found:
            raise BadRequest(f"--prompt {name}: given twice, as {found[name]!r} and {prompt!r}")
        found[name] = prompt
    return found


def _ranks(least: int, greatest: int) -> str:
    return f"rank {least}" if least == greatest else f"ranks {least} to {greatest}"


def _measured(measured: Mapping[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in measured.items())
