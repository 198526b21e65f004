"""From a request to one that leaves nothing open, or to the user's mistake, which is found here, before any work.

Nothing heavy is imported, so that a dry run answers at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, TypeVar

from composer import blocks, registry, words
from composer.errors import BadRequest
from composer.over_steps import factors, scheduled
from composer.plan import Job, JobAdapter, Pass, Plan, Step
from composer.prompting import tags
from composer.prompting.staged import spoken, staged
from composer.registry import MethodModel
from composer.request import AdapterUse, Hires, RenderRequest, parse_request
from pipelines import canvas, checks, passes, regions, specs
from pipelines.batching import deal
from pipelines.canvas import Canvas
from pipelines.lengths import Lengths
from pipelines.sources import AdapterInfo, AdapterSource
from pipelines.specs import ModelSpec

if TYPE_CHECKING:
    from composer.texts import TextEmbedding

_WHOLE = -1
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
    infos: Mapping[str, AdapterInfo] = field(default_factory=dict)  # LoRA -> what was known of it

    @property
    def count(self) -> int:
        """Return how many steps are done: the job's, or none."""
        return (self.request.num_inference_steps or 0) - self.skipped

    @property
    def guided(self) -> bool:
        return self.request.guidance_scale is not None and self.request.guidance_scale > 1.0

    @property
    def scripted(self) -> bool:
        """Whether signs in prompts mean something."""
        return self.request.prompt_syntax == "a1111"

    def rows(self, one: Pass) -> int:
        return 2 if self.guided and one.uncond != "off" else 1

    def plan(self, texts: Mapping[str, TextEmbedding] | None = None) -> Plan:
        """Start the method, with the texts that it wants to see if there is a model to read them.

        LoRAs' weights change over the steps as they are asked to; prompts do, and join, if their grammar is read.
        """
        plan = self.unread(replace(self.job, texts=texts or {}))
        return staged(plan, self.job.count) if self.scripted else plan

    def unread(self, job: Job) -> Plan:
        """Start the method for a job, whatever the signs in its prompts mean; LoRAs' weights change over the steps."""
        plan = self.method.start(job)
        over = {use.name: use.factors for use in job.adapters if use.factors}
        return scheduled(plan, over) if over else plan

    def spoken(self, text: str) -> str:
        """Return a text without the signs that mean something."""
        return spoken(text, self.job.count) if self.scripted else text


@dataclass(frozen=True)
class Cost:
    """What a rendering will take, counted without a model."""

    unet_passes: int  # evaluations the methods ask for, with or without an unconditional row
    unet_rows: int  # samples that go through the UNet
    unet_calls: int
    shallow_passes: int = 0  # on deep features of an earlier step; their rows are not among the above
    looks: int = 0  # evaluations between steps, at most; their calls are not among the above

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


def resolve(request: RenderRequest, source: AdapterSource) -> Resolved:
    """Replace every default; raise the first mistake found as a typed error."""
    request = with_tags(request)
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
    first = replace(first, infos={info.name: info for info in infos})
    method.check(first.job)
    if first.count:
        checks.check_acts(first.job)
    return first if filled.hires is None else replace(first, second=_second(first, filled.hires))


def _completed(
    request: RenderRequest, spec: ModelSpec, method: MethodModel, own_size: tuple[int, int]
) -> RenderRequest:
    """Return the request with the model's and the method's own defaults where it leaves something open."""
    return request.model_copy(
        update={
            "parameters": method.model_dump(),
            "prediction_type": request.prediction_type or spec.configs.prediction,
            "width": request.width or own_size[0],
            "height": request.height or own_size[1],
            "num_inference_steps": request.num_inference_steps or spec.defaults.num_inference_steps,
            "guidance_scale": request.guidance_scale or spec.defaults.guidance_scale,
            "scheduler": request.scheduler or spec.defaults.scheduler,
            "text_encoder_adapters": request.text_encoder_adapters or method.text_policy,
        }
    )


def _check(filled: RenderRequest, spec: ModelSpec, method: MethodModel) -> None:
    checks.check_size(filled, spec)
    checks.check_steps(filled)
    checks.check_sizes_told(filled, spec)
    checks.check_regions(filled, method)
    checks.check_joins(filled)


def _begun(
    filled: RenderRequest, spec: ModelSpec, method: MethodModel, triggers: Mapping[str, tuple[str, ...]]
) -> Resolved:
    """Return what is done first: from noise, or from the picture that the request begins with."""
    if filled.start is None:
        return Resolved(filled, spec, method, _job(filled, spec), triggers)
    start, begun = canvas.read(filled.start, filled.width or 0, filled.height or 0)
    request = filled.model_copy(update={"start": start})
    skipped = passes.skipped(request.num_inference_steps or 0, start.strength)
    return Resolved(request, spec, method, _job(request, spec, skipped), triggers, skipped, begun)


def _second(first: Resolved, hires: Hires) -> Resolved:
    """Return the second pass as a request of its own, which begins with the first one's picture."""
    request = passes.enlarged(first.request, hires, first.spec)
    checks.check_size(request, first.spec)
    checks.check_steps(request)
    skipped = passes.skipped(request.num_inference_steps or 0, hires.strength)
    return replace(first, request=request, job=_job(request, first.spec, skipped), skipped=skipped, canvas=None)


def price(resolved: Sequence[Resolved], max_rows: int) -> Cost:
    """Count passes, rows and UNet calls of requests rendered together, by asking their plans."""
    seconds = [one.second for one in resolved if one.second is not None]
    first = _price(resolved, max_rows)
    return first + _price(seconds, max_rows) if seconds else first


def _price(resolved: Sequence[Resolved], max_rows: int) -> Cost:
    plans = [one.plan() for one in resolved]
    lengths = [Lengths(one, plan.prompts) for one, plan in zip(resolved, plans, strict=True)]
    passes = rows = calls = shallow = 0
    steps = [steps_of(one.count) for one in resolved]
    for index in range(max(map(len, steps), default=0)):
        wanted: dict[tuple[int, ...], list[int]] = {}
        for one, plan, own, read in zip(resolved, plans, steps, lengths, strict=True):
            for found in plan.passes(own[index]) if index < len(own) else ():
                alike = (one.job.height, one.job.width, len(found.areas), read.of(found), _part(found))
                wanted.setdefault(alike, []).append(one.rows(found))
        for (*_, part), sizes in wanted.items():
            calls += len(deal(sizes, int, max_rows))
            if part == _WHOLE:
                passes += len(sizes)
                rows += sum(sizes)
            else:
                shallow += len(sizes)
    looks = sum(plan.looks(step) for plan, own in zip(plans, steps, strict=True) for step in own)
    return Cost(passes, rows, calls, shallow, looks)


def _part(one: Pass) -> int:
    """Return which part of the UNet a pass computes."""
    return one.reuse.layers if one.reuse is not None and one.shallow else _WHOLE


def steps_of(count: int) -> list[Step]:
    """Return steps as a scheduler would; none is built for a dry run, and a straight line stands for noise levels."""
    return [Step(index, count, 999.0 * (1.0 - index / count), 1.0 - index / count) for index in range(count)]


def _checked(use: AdapterUse, info: AdapterInfo, spec: ModelSpec) -> AdapterInfo:
    if info.family is not None and spec.family is not None and info.family != spec.family:
        raise BadRequest(f"LoRA '{use.name}' is made for {info.family}; model '{spec.name}' is {spec.family}")
    if use.sha256 is not None and use.sha256 != info.sha256:
        raise BadRequest(f"LoRA '{use.name}' is not the file asked for: its sha256 is {info.sha256}, not {use.sha256}")
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


def with_tags(request: RenderRequest) -> RenderRequest:
    """Return a request whose `<lora:...>` tags are LoRAs of it, behind those it names already."""
    if request.prompt_syntax == "plain":
        return request
    regional = [("region's prompt", use.region.prompt or "") for use in request.adapters if use.region is not None]
    others = [("negative prompt", request.negative_prompt), ("undesired text", request.undesired), *regional]
    for name, text in others:
        if tags.extract(text).loras:
            raise BadRequest(f"a LoRA tag in the {name}: a LoRA acts on all that is read; put it into the prompt")
    tagged = tags.extract(request.prompt)
    if not tagged.loras:
        return request
    used = [
        {
            "name": tag.name,
            "weight": tag.weight,
            "text_encoder_weight": tag.text_encoder_weight,
            "blocks": tag.blocks or None,
            "schedule": tag.schedule and tag.schedule.model_dump(),
        }
        for tag in tagged.loras
    ]
    asked = request.model_dump()
    return parse_request({**asked, "prompt": tagged.text, "adapters": [*asked["adapters"], *used]})


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
