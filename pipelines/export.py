"""A merge as a file: several LoRAs made into one that diffusers, A1111-style tools, ComfyUI and this engine load.

The file is in kohya's dialect and stores no alphas, which all readers take for alpha = rank: where alphas or ranks
differ between layers, diffusers applies the alphas of kohya files wrongly. A delta that is not of low rank is cut to
the sum of its members' ranks, unless a rank is given; how much that keeps is told, and written down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from composer.errors import BadRequest
from pipelines import merges, places
from pipelines.engine import Engine
from pipelines.merges import Merged, MergeOrder
from pipelines.progress import Watch, unwatched
from pipelines.resolve import Resolved

if TYPE_CHECKING:
    from lora_zoo.adapter import Adapter, LowRank
    from lora_zoo.writer import Factors

_SUFFIX = ".safetensors"
_ARCHITECTURES = {
    "sd15": "stable-diffusion-v1/lora",
    "sd2": "stable-diffusion-v2-768-v/lora",
    "sdxl": "stable-diffusion-xl-v1-base/lora",
    "tiny": "medley-tiny/lora",
}
_BASES = {"sd15": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0", "tiny": "medley_tiny"}


@dataclass(frozen=True)
class Exported:
    """A file that was written."""

    path: Path
    layers: int  # that it changes
    ranks: tuple[int, int]  # least, greatest
    energy_kept: float  # squared norm of the file / of the merge before it was cut to a rank
    measured: Mapping[str, float]  # by a fit


def export(engine: Engine, order: MergeOrder, out: Path, watch: Watch = unwatched) -> Exported:
    """Merge LoRAs and write the result as one; mistakes are found before any work."""
    if out.suffix != _SUFFIX:
        raise BadRequest(f"-o {out}: a LoRA file ends in {_SUFFIX}")
    if out.exists():
        raise BadRequest(f"-o {out}: there is a file of this name already; choose another")
    places.check_file(out, "-o")
    from lora_zoo import writer

    dtype = order.dtype or writer.DTYPES[0]
    writer.check_dtype(dtype)
    return _write(merges.make(engine, merges.check(engine, order), watch), order.rank, out, dtype)


def _write(made: Merged, rank: int | None, out: Path, dtype: str) -> Exported:
    from composer.merges.svd import ENERGY, truncated
    from lora_zoo import writer

    merged, members = made.adapter, made.members
    cut, kept = truncated(
        merged.layers, lambda component, path: rank or sum(_rank(one, component, path) for one in members)
    )
    kept *= float(merged.metadata.get(ENERGY, 1.0))
    factors = {component: {path: _factors(one) for path, one in paths.items()} for component, paths in cut.items()}
    ranks = sorted(one.rank for paths in cut.values() for one in paths.values()) or [0]  # a LoRA of biases has none
    stated = str(ranks[0]) if ranks[0] == ranks[-1] else "Dynamic"
    metadata = {
        **_about(made.resolved, members, out.stem),
        **merged.metadata,
        ENERGY: f"{kept:.6f}",
        "ss_network_dim": stated,
        "ss_network_alpha": stated,
        "sshs_model_hash": writer.data_sha256(factors, "kohya", dtype, merged.vectors),
    }
    writer.write(out, factors, "kohya", metadata, dtype, merged.vectors)
    return Exported(out, made.changed, (ranks[0], ranks[-1]), kept, made.measured)


def _rank(member: Adapter, component: str, path: str) -> int:
    from composer.merges.common import rank_of

    delta = member.component(component).get(path)
    return 0 if delta is None else rank_of(delta)


def _factors(delta: LowRank) -> Factors:
    """Give each rank's row and column equal norms, so that half precision serves both."""
    from lora_zoo.writer import Factors

    rows = delta.down.flatten(1).norm(dim=1)
    columns = delta.up.norm(dim=0)
    root = ((columns / rows).sqrt()).nan_to_num(nan=1.0, posinf=1.0).where(columns > 0, rows.new_ones(()))
    down = delta.down * root.reshape(-1, *[1] * (delta.down.ndim - 1))
    return Factors(down, delta.up / root, alpha=None)


def _about(resolved: Resolved, members: Sequence[Adapter], title: str) -> Mapping[str, str]:
    """Return what other tools show of a LoRA file."""
    about = {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.implementation": "diffusers",
        "modelspec.title": title,
        "modelspec.resolution": f"{resolved.spec.width}x{resolved.spec.height}",
        "modelspec.merged_from": ", ".join(one.name for one in members),
        "ss_output_name": title,
        "ss_network_module": "networks.lora",
    }
    if resolved.spec.family in _ARCHITECTURES:
        about["modelspec.architecture"] = _ARCHITECTURES[resolved.spec.family]
        about["ss_base_model_version"] = _BASES[resolved.spec.family]
    for key in ("modelspec.trigger_phrase", "modelspec.license"):
        found = [one.metadata[key] for one in members if one.metadata.get(key)]
        if found:
            about[key] = ", ".join(dict.fromkeys(found))
    return about
