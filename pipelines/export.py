"""A merge as a file: several LoRAs made into one that diffusers, A1111-style tools, ComfyUI and this engine load.

The file is in kohya's dialect and stores no alphas, which all readers take for alpha = rank: where alphas or ranks
differ between layers, diffusers applies the alphas of kohya files wrongly. A delta that is not of low rank is cut to
the sum of its members' ranks, unless a rank is given; how much that keeps is told, and written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from composer import registry
from composer.errors import BadRequest
from composer.merging import MergingMethod
from composer.request import RenderRequest
from pipelines.engine import Engine
from pipelines.resolve import Resolved

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    layers: int
    ranks: tuple[int, int]  # least, greatest
    energy_kept: float  # squared norm of the file / of the merge before it was cut to a rank


def export(engine: Engine, request: RenderRequest, rank: int | None, out: Path) -> Exported:
    """Merge the LoRAs of a request by its method and write them as one; mistakes are found before any work."""
    if out.suffix != _SUFFIX:
        raise BadRequest(f"-o {out}: a LoRA file ends in {_SUFFIX}")
    if out.exists():
        raise BadRequest(f"-o {out}: there is a file of this name already; choose another")
    resolved = engine.resolve(_with_rank(request, rank))
    method = resolved.method
    if not isinstance(method, MergingMethod):
        able = [name for name in registry.names() if issubclass(registry.get(name), MergingMethod)]
        raise BadRequest(
            f"method '{request.method}' acts while a picture is made, so it has no file; choose one of "
            f"{', '.join(able)} ('cat' is the plain sum)"
        )
    if not any(use.weight or use.text_encoder_weight for use in resolved.request.adapters):
        raise BadRequest("nothing to write: every weight is 0")
    return _write(engine, resolved, method, rank, out)


def _with_rank(request: RenderRequest, rank: int | None) -> RenderRequest:
    """Let a method that has a rank of its own choose by it, rather than cut what it has chosen."""
    if rank is None or "rank" in request.parameters or "rank" not in registry.get(request.method).model_fields:
        return request
    return request.model_copy(update={"parameters": {**request.parameters, "rank": rank}})


def _write(engine: Engine, resolved: Resolved, method: MergingMethod, rank: int | None, out: Path) -> Exported:
    from composer.merges.svd import ENERGY, truncated
    from lora_zoo import writer

    layout = engine.model(resolved.spec.name).layout
    members = [engine.source.load(use.name, layout) for use in resolved.request.adapters]
    merged = _merged(resolved, method, members)
    cut, kept = truncated(
        merged.layers, lambda component, path: rank or sum(_rank(one, component, path) for one in members)
    )
    kept *= float(merged.metadata.get(ENERGY, 1.0))
    factors = {component: {path: _factors(one) for path, one in paths.items()} for component, paths in cut.items()}
    ranks = sorted(one.rank for paths in cut.values() for one in paths.values())
    stated = str(ranks[0]) if ranks[0] == ranks[-1] else "Dynamic"
    metadata = {
        **_about(resolved, members, out.stem),
        **merged.metadata,
        ENERGY: f"{kept:.6f}",
        "ss_network_dim": stated,
        "ss_network_alpha": stated,
        "sshs_model_hash": writer.data_sha256(factors, "kohya"),
    }
    writer.write(out, factors, "kohya", metadata)
    return Exported(out, len(ranks), (ranks[0], ranks[-1]), kept)


def _merged(resolved: Resolved, method: MergingMethod, members: Sequence[Adapter]) -> Adapter:
    """Merge as a picture would: the text encoder's part with the weights for text."""
    from composer.merges.common import RECIPE, Weighted

    uses = resolved.request.adapters
    unet = method.prepare([Weighted(one, use.weight or 0.0) for one, use in zip(members, uses, strict=True)])
    text = method.prepare(
        [Weighted(one, use.text_encoder_weight or 0.0) for one, use in zip(members, uses, strict=True)]
    )
    if text.digest == unet.digest:
        return unet
    layers = {**text.layers, "unet": unet.component("unet")}
    metadata = {**unet.metadata, f"{RECIPE}.text_encoder": text.metadata[RECIPE]}
    return replace(unet, layers={name: paths for name, paths in layers.items() if paths}, metadata=metadata)


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
