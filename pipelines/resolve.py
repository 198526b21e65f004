"""From a request to one that leaves nothing open, or to the user's mistake, which is found here, before any work.

Nothing heavy is imported, so that a dry run answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from composer import blocks, registry, words
from composer.errors import BadRequest
from composer.over_steps import factors, scheduled
from composer.plan import Job, JobAdapter, Pass, Plan, Prompt
from composer.prompting import comfyui
from composer.prompting.schedule import Timeline
from composer.prompting.staged import spoken, staged
from composer.registry import MethodModel
from composer.request import AdapterUse, Hires, RenderRequest
from pipelines import canvas, checks, passes, regions, schedulers, specs
from pipelines.canvas import Canvas
from pipelines.remarks import remarks
from pipelines.sources import AdapterInfo, AdapterSource, found_again
from pipelines.specs import ModelSpec
from pipelines.tagged import with_tags

if TYPE_CHECKING:
    from composer.texts import TextEmbedding

_T = TypeVar("_T")


@dataclass(frozen=True)
class Resolved:
    """A request with every default replaced, and what was found on the way."""

    request: RenderRequest  # a field is None only where that means none
    spec: ModelSpec
    method: MethodModel
    job: Job
    triggers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # LoRA -> its trigger words
    skipped: int = 0  # steps that are left out, since the picture begins with one
    canvas: Canvas | None = None  # that picture
    second: Resolved | None = None  # the pass over the picture enlarged
    earlier: int | None = None  # steps of the first pass, where this is the second
    notices: tuple[str, ...] = ()  # what the picture's record should tell
    infos: Mapping[str, AdapterInfo] = field(default_factory=dict)  # LoRA -> what was known of it

    def seeded(self, seed: int) -> Resolved:
        """Return the same with another seed, which decides nothing but the noise."""
        second = None if self.second is None else self.second.seeded(seed)
        return replace(self, request=self.request.model_copy(update={"seed": seed}), second=second)

    @property
    def count(self) -> int:
        """Return how many steps are done: the job's, or none."""
        return (self.request.num_inference_steps or 0) - self.skipped

    @property
    def guided(self) -> bool:
        return self.request.guidance_scale is not None and self.request.guidance_scale > 1.0

    @property
    def scripted(self) -> bool:
        """Whether prompts have A1111's grammar."""
        return self.request.prompt_syntax == "a1111"

    @property
    def timeline(self) -> Timeline:
        """Return the steps in which prompts are read."""
        return Timeline(self.job.count, self.earlier)

    def rows(self, one: Pass) -> int:
        return 2 if self.guided and one.uncond != "off" else 1

    def plan(self, texts: Mapping[str, TextEmbedding] | None = None) -> Plan:
        """Start the method, with the texts that it wants to see if there is a model to read them.

        LoRAs' weights change over the steps as they are asked to; prompts do, and join, if their grammar is read.
        """
        plan = self.unread(replace(self.job, texts=texts or {}))
        if self.request.prompt_syntax == "comfyui":
            return replace(plan, prompts={key: _weighed(prompt) for key, prompt in plan.prompts.items()})
        return staged(plan, self.timeline) if self.scripted else plan

    def unread(self, job: Job) -> Plan:
        """Start the method for a job, whatever the signs in its prompts mean; LoRAs' weights change over the steps."""
        plan = self.method.start(job)
        over = {use.name: use.factors for use in job.adapters if use.factors}
        return scheduled(plan, over) if over else plan

    def spoken(self, text: str) -> str:
        """Return a text without the signs that mean something."""
        if self.request.prompt_syntax == "comfyui":
            return comfyui.spoken(text)
        return spoken(text, self.timeline) if self.scripted else text


def _weighed(prompt: Prompt) -> Prompt:
    """Return a prompt of ComfyUI's grammar as one of A1111's, in which its weights are read."""
    return replace(
        prompt, text=comfyui.as_a1111(prompt.text), negative=comfyui.as_a1111(prompt.negative), weighted=True
    )


def resolve(request: RenderRequest, source: AdapterSource) -> Resolved:
    """Replace every default; raise the first mistake found as a typed error."""
    request = with_tags(request)
    request = request.model_copy(update={"adapters": found_again(request.adapters, source)})
    spec = specs.find(request.model)
    own_size = (spec.width, spec.height) if request.start is None else canvas.size_of(request.start)
    method = registry.create(request.method, request.parameters)
    infos = tuple(_checked(use, source.describe(use.name), spec) for use in request.adapters)
    if lacking := method.needs - spec.capabilities:
        raise BadRequest(f"method '{request.method}' needs {', '.join(sorted(lacking))}, which '{spec.name}' has not")
    if len(infos) < method.min_adapters:
        raise BadRequest(f"method '{request.method}' needs at least {method.min_adapters} LoRA; none is named")
    uses = tuple(_filled(use, info, request.prompt, spec) for use, info in zip(request.adapters, infos, strict=True))
    filled = _completed(request.model_copy(update={"adapters": uses}), spec, method, own_size)
    _check(filled, spec, method)
    if method.needs_words:
        for use, info in zip(uses, infos, strict=True):
            words.check(request.prompt, use.name, use.words or (), info.triggers)
    first = _begun(_without_files(filled, spec), spec, method, {info.name: info.triggers for info in infos})
    first = replace(first, infos={info.name: info for info in infos}, notices=remarks(filled, spec, infos))
    method.check(first.job)
    if first.count:
        checks.check_acts(first.job)
    return first if filled.hires is None else replace(first, second=_second(first, filled.hires))


def _completed(
    request: RenderRequest, spec: ModelSpec, method: MethodModel, own_size: tuple[int, int]
) -> RenderRequest:
    """Return the request with the model's and the method's own defaults where it leaves something open."""
    scheduler = request.scheduler or spec.defaults.scheduler
    return request.model_copy(
        update={
            "parameters": method.model_dump(),
            "prediction_type": request.prediction_type or spec.configs.prediction,
            "width": request.width or own_size[0],
            "height": request.height or own_size[1],
            "num_inference_steps": request.num_inference_steps or spec.defaults.num_inference_steps,
            "guidance_scale": request.guidance_scale or spec.defaults.guidance_scale,
            "scheduler": scheduler,
            "spacing": schedulers.spacing(scheduler, request.spacing, spec.configs.scheduler),
            "text_encoder_adapters": request.text_encoder_adapters or method.text_policy,
        }
    )


def _check(filled: RenderRequest, spec: ModelSpec, method: MethodModel) -> None:
    checks.check_size(filled, spec)
    checks.check_steps(filled)
    checks.check_sizes_told(filled, spec)
    checks.check_regions(filled, method)
    checks.check_joins(filled)
    checks.check_undesired(filled)


def _begun(
    filled: RenderRequest, spec: ModelSpec, method: MethodModel, triggers: Mapping[str, tuple[str, ...]]
) -> Resolved:
    """Return what is done first: from noise, or from the picture that the request begins with."""
    if filled.start is None:
        return Resolved(filled, spec, method, _job(filled, spec), triggers)
    start, begun = canvas.read(filled.start, filled.width or 0, filled.height or 0)
    request = filled.model_copy(update={"start": start})
    skipped = passes.skipped(request.num_inference_steps or 0, start.strength)
    return Resolved(request, spec, method, _job(request, spec, skipped), triggers, skipped=skipped, canvas=begun)


def _second(first: Resolved, hires: Hires) -> Resolved:
    """Return the second pass as a request of its own, which begins with the first one's picture."""
    request = passes.enlarged(first.request, hires, first.spec)
    checks.check_size(request, first.spec)
    checks.check_steps(request)
    skipped = passes.skipped(request.num_inference_steps or 0, hires.strength)
    job = _job(request, first.spec, skipped)
    return replace(first, request=request, job=job, skipped=skipped, canvas=None, earlier=first.count)


def _checked(use: AdapterUse, info: AdapterInfo, spec: ModelSpec) -> AdapterInfo:
    if info.family is not None and spec.family is not None and info.family != spec.family:
        raise BadRequest(f"LoRA '{use.name}' is made for {info.family}; model '{spec.name}' is {spec.family}")
    return info


def _filled(use: AdapterUse, info: AdapterInfo, prompt: str, spec: ModelSpec) -> AdapterUse:
    weight = info.weight if use.weight is None else use.weight
    text = weight if use.text_encoder_weight is None else use.text_encoder_weight
    own = words.found(prompt, info.triggers) if use.words is None else use.words
    frequency = info.frequency if use.frequency is None else use.frequency
    by_block = None if use.blocks is None else _of(use, lambda: blocks.table(use.blocks or "", spec.blocks))
    found = {"weight": weight, "text_encoder_weight": text, "words": own, "blocks": by_block, "sha256": info.sha256}
    return use.model_copy(update={**found, "frequency": frequency})


def _of(use: AdapterUse, act: Callable[[], _T]) -> _T:
    """Do something for one LoRA; a mistake is told with its name."""
    try:
        return act()
    except BadRequest as error:
        raise BadRequest(f"LoRA '{use.name}': {error}") from error


def _without_files(request: RenderRequest, spec: ModelSpec) -> RenderRequest:
    """Return the request with the masks of its regions inline."""
    height, width = (request.height or 0) // spec.latent_factor, (request.width or 0) // spec.latent_factor
    uses = (
        use if use.region is None else use.model_copy(update={"region": regions.inlined(use.region, height, width)})
        for use in request.adapters
    )
    return request.model_copy(update={"adapters": tuple(uses)})


def _job_adapter(use: AdapterUse, prompt: str, count: int) -> JobAdapter:
    region = None if use.region is None else regions.placed(use.region, prompt)
    over = () if use.schedule is None else factors(use.schedule, count)
    text = use.text_encoder_weight or 0.0
    return JobAdapter(use.name, use.weight or 0.0, text, use.words or (), region, use.frequency, over)


def _job(request: RenderRequest, spec: ModelSpec, skipped: int = 0) -> Job:
    count = max(1, (request.num_inference_steps or 0) - skipped)  # a plan that is never asked has a step too
    return Job(
        adapters=tuple(_job_adapter(use, request.prompt, count) for use in request.adapters),
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        text_policy=request.text_encoder_adapters or "none",
        count=count,
        height=(request.height or 0) // spec.latent_factor,
        width=(request.width or 0) // spec.latent_factor,
    )
