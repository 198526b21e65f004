"""From a request to one adapter made of its LoRAs: by a merging method, or by a fit, which needs the model loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from composer import registry
from composer.errors import BadRequest, UnknownChoice
from composer.merging import MergingMethod
from composer.registry import Parameter
from composer.request import Frozen, RenderRequest
from pipelines import layout, sources
from pipelines.engine import Engine
from pipelines.fitting import FITS, Fit
from pipelines.progress import Watch
from pipelines.resolve import Resolved

if TYPE_CHECKING:
    from composer.merges.common import Parameters
    from composer.request import AdapterUse
    from lora_zoo.adapter import Adapter, Layout

MEASURED = "medley.measured"  # metadata of what a fit made: what it measured, as JSON


@dataclass(frozen=True)
class MergeOrder:
    """What to make one of, and how: only model, method, parameters and adapters of the request have a part in it."""

    request: RenderRequest
    rank: int | None = None  # for a method that has a rank; in a LoRA file, what any other result is cut to
    prompts: Mapping[str, str] = field(default_factory=dict[str, str])  # LoRA -> what calls for it, for fits
    dtype: str | None = None  # in which a LoRA file stores its values; None: half precision


@dataclass(frozen=True, eq=False)
class Merged:
    """What was made, and of what."""

    resolved: Resolved
    members: tuple[Adapter, ...]
    adapter: Adapter
    measured: Mapping[str, float]  # by a fit

    @property
    def changed(self) -> int:
        """Return how many layers change, be it a bias alone."""
        weights = {(c, path) for c, paths in self.adapter.layers.items() for path in paths}
        rest = {(c, path.rpartition(".")[0]) for c, changes in self.adapter.vectors.items() for path in changes}
        return len(weights | rest)


@dataclass(frozen=True)
class Checked:
    """An order in which no mistake was found."""

    order: MergeOrder
    resolved: Resolved
    by: MergingMethod | Fit


def names() -> tuple[str, ...]:
    """Return the names of all merges."""
    able = (name for name in registry.names() if issubclass(registry.get(name), MergingMethod))
    return tuple(sorted([*able, *FITS]))


def describe(name: str) -> dict[str, object]:
    """Return what a listing says of a merge."""
    needs = "the model at work" if is_fit(name) else "the files"
    return {"name": name, "summary": registry.summary_of(_model(name)), "needs": needs, "parameters": parameters(name)}


def is_fit(name: str) -> bool:
    """Return whether a merge needs the model at work, and prompts that call for its LoRAs."""
    return name in FITS


def parameters(name: str) -> tuple[Parameter, ...]:
    """Return what a merge can be told; an unknown name is an error that tells the nearest one."""
    return registry.parameters_of(_model(name))


def check(engine: Engine, order: MergeOrder) -> Checked:
    """Resolve an order; raise the user's mistake as a typed error, before any work."""
    order = replace(order, request=_with_rank(order.request, order.rank))
    request, by = order.request, _maker(order.request)
    plain = request.model_copy(update={"method": "cat", "parameters": {}}) if isinstance(by, Fit) else request
    resolved = engine.resolve(plain)
    if not any(use.weight or use.text_encoder_weight for use in resolved.request.adapters):
        raise BadRequest("nothing to write: every weight is 0")
    if timed := [use.name for use in resolved.request.adapters if use.schedule is not None]:
        raise BadRequest(f"LoRA '{timed[0]}' acts in some steps only, and what is made of it has no steps")
    if not isinstance(by, Fit) and order.prompts:
        raise BadRequest(f"method '{request.method}' needs no prompts; they are for {', '.join(FITS)}")
    if isinstance(by, Fit) and resolved.spec.configs.sdxl:
        raise BadRequest(f"method '{request.method}' fits models of SD1.5's architecture; '{request.model}' is SDXL")
    if isinstance(by, Fit):
        order = replace(order, prompts=_prompts(engine, resolved, order.prompts))
    return Checked(order, resolved, by)


def make(engine: Engine, checked: Checked, watch: Watch) -> Merged:
    """Make the one adapter; a merging method reads the model's layout alone, from the heads of its files."""
    resolved, by = checked.resolved, checked.by
    if isinstance(by, Fit):
        return _fitted(engine, checked, by, watch)
    shapes = layout.read(layout.folder_of(resolved.spec))
    members = tuple(_member(engine, use, shapes) for use in resolved.request.adapters)
    return Merged(resolved, members, _merged(resolved, by, members), {})


def _model(name: str) -> type[Frozen]:
    if name not in names():
        raise UnknownChoice("merge", name, names())
    return FITS[name] if name in FITS else registry.get(name)


def _maker(request: RenderRequest) -> MergingMethod | Fit:
    if request.method in FITS:
        return registry.checked(FITS[request.method], request.method, request.parameters)
    if request.method not in registry.names():
        raise UnknownChoice("method", request.method, names())
    method = registry.create(request.method, request.parameters)
    if not isinstance(method, MergingMethod):
        raise BadRequest(
            f"method '{request.method}' acts while a picture is made, so it has no file; choose one of "
            f"{', '.join(names())} ('cat' is the plain sum)"
        )
    return method


def _with_rank(request: RenderRequest, rank: int | None) -> RenderRequest:
    """Let a method that has a rank of its own choose by it, rather than cut what it has chosen."""
    if rank is None or "rank" in request.parameters or request.method not in registry.names():
        return request
    if "rank" not in registry.get(request.method).model_fields:
        return request
    return request.model_copy(update={"parameters": {**request.parameters, "rank": rank}})


def _prompts(engine: Engine, resolved: Resolved, given: Mapping[str, str]) -> dict[str, str]:
    """Return what calls for each LoRA: as given, or its trigger words."""
    found: dict[str, str] = {}
    chosen = [use.name for use in resolved.request.adapters]
    for name in given:
        if name not in chosen:
            raise UnknownChoice("LoRA to prompt for", name, chosen)
    for name in chosen:
        found[name] = given.get(name) or ", ".join(engine.source.describe(name).triggers)
        if not found[name]:
            raise BadRequest(f"LoRA '{name}' states no trigger words; say what calls for it: --prompt '{name}=TEXT'")
    return found


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
    vectors = {**text.vectors, "unet": unet.vectors.get("unet", {})}
    metadata = {**unet.metadata, f"{RECIPE}.text_encoder": text.metadata[RECIPE]}
    return replace(
        unet,
        layers={name: paths for name, paths in layers.items() if paths},
        metadata=metadata,
        vectors={name: changes for name, changes in vectors.items() if changes},
    )


def _member(engine: Engine, use: AdapterUse, shapes: Layout) -> Adapter:
    """Return a LoRA as the request uses it; what a file of weights cannot hold is an error."""
    from composer.blocks import shaped

    adapter = sources.loaded(engine.source, use, shapes)
    if adapter.words:
        words = ", ".join(map(repr, adapter.words))
        raise BadRequest(f"LoRA '{use.name}' brings words along ({words}), which would be lost in what is made of it")
    return shaped(adapter, use.blocks, shapes) if isinstance(use.blocks, dict) else adapter


def _fitted(engine: Engine, checked: Checked, fit: Fit, watch: Watch) -> Merged:
    from composer.merges.common import Recipe, Weighted, refuse_vectors
    from pipelines.fitting.base import Member, strengthened
    from pipelines.fitting.studio import Studio

    resolved, order = checked.resolved, checked.order
    model, uses = engine.model(resolved.spec.name), resolved.request.adapters
    members = tuple(_member(engine, use, model.layout) for use in uses)
    weighted = [Weighted(one, use.weight or 0.0) for one, use in zip(members, uses, strict=True)]
    refuse_vectors(order.request.method, [Weighted(one, 1.0) for one in members])
    strong = [
        Member(strengthened(one, use.weight or 0.0, use.text_encoder_weight or 0.0), order.prompts[use.name])
        for one, use in zip(members, uses, strict=True)
    ]
    with model.lock:  # a picture made meanwhile would be heard as one of the fit's own
        made = fit.fit(Studio(model), [one for one in strong if one.adapter.layers], watch)
    texts = {use.name: use.text_encoder_weight for use in uses}
    parameters: Parameters = {
        **fit.model_dump(),
        "model_sha256": model.parameter_digest(),
        "prompts": json.dumps(order.prompts),
        "text_encoder_weights": json.dumps(texts),
    }
    adapter = Recipe(order.request.method, parameters).adapter(weighted, made.layers)
    metadata = {**adapter.metadata, MEASURED: json.dumps(made.measured)}
    return Merged(resolved, members, replace(adapter, metadata=metadata), made.measured)
