"""Lets a plan's prompts change over the steps and join by AND, as their texts say; no method knows of it.

AND is that of composable diffusion (arXiv:2206.01714): with noise predictions e, e_i for prompts of weights w_i,

    cond = uncond + sum_i w_i (e_i - uncond),

which guidance then takes for the answer of one pass. All share the unconditional row of the first, since they have the
same negative prompt and LoRAs; a pass without one gets it here, and keeps it to itself. In negative prompts AND is a
word, as in A1111.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from composer.plan import Area, Attention, Look, Pass, Plan, Prediction, Prompt, Step
from composer.prompting import emphasis, schedule
from composer.prompting.schedule import Part, Timeline

if TYPE_CHECKING:
    from torch import Tensor


#: The keys and weights of the prompts that stand for one.
Parts = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class _Stages:
    """One prompt of a plan: for each step, the keys and weights of what stands for it."""

    prompts: Mapping[str, Prompt]
    steps: tuple[Parts, ...]


def staged(plan: Plan, timeline: Timeline) -> Plan:
    """Return the plan with every prompt read in A1111's grammar, for the steps of a pass."""
    stages = {key: _stages(key, prompt, timeline) for key, prompt in plan.prompts.items()}
    prompts = {key: prompt for one in stages.values() for key, prompt in one.prompts.items()}

    def expand(step: Step) -> Iterator[tuple[Pass, Parts]]:
        for one in plan.passes(step):
            areas = (replace(area, prompt=_first(stages[area.prompt], step)) for area in one.areas)
            yield replace(one, areas=tuple(areas)), stages[one.prompt].steps[step.index]

    def passes(step: Step) -> Sequence[Pass]:
        return [part for one, parts in expand(step) for part in _passes(one, parts)]

    def combine(step: Step, _passes: Sequence[Pass], predictions: Sequence[Prediction]) -> Prediction:
        answers = iter(predictions)
        wanted = list(expand(step))
        joined = [_joined(one, parts, [next(answers) for _ in parts]) for one, parts in wanted]
        return plan.combine(step, [one for one, _ in wanted], joined)

    def before(step: Step, latents: Tensor, look: Look) -> Tensor:
        keys = {key: _first(one, step) for key, one in stages.items()}
        return latents if plan.before_step is None else plan.before_step(step, latents, _Look(look, keys))

    begins = None if plan.before_step is None else before
    return replace(plan, passes=passes, prompts=prompts, combine=combine, before_step=begins)


@dataclass(frozen=True)
class _Look:
    """A look at passes whose prompts say what they say at one step, ahead too; of what AND joins, at the first."""

    look: Look
    keys: Mapping[str, str]

    def attention(self, latents: Tensor, passes: Sequence[Pass]) -> list[Attention]:
        return self.look.attention(latents, self._now(passes))

    def slope(
        self, latents: Tensor, passes: Sequence[Pass], loss: Callable[[Sequence[Attention]], Tensor]
    ) -> tuple[float, Tensor]:
        return self.look.slope(latents, self._now(passes), loss)

    def ahead(self, latents: Tensor, one: Pass, count: int) -> Attention:
        return self.look.ahead(latents, self._now([one])[0], count)

    def _now(self, passes: Sequence[Pass]) -> list[Pass]:
        return [replace(one, prompt=self.keys[one.prompt], areas=tuple(map(self._area, one.areas))) for one in passes]

    def _area(self, area: Area) -> Area:
        return replace(area, prompt=self.keys[area.prompt])


def spoken(prompt: str, timeline: Timeline) -> str:
    """Return the words of a prompt as the first step of a pass has them, without weights, AND and BREAK."""
    return " ".join(emphasis.parse(part.at(0, timeline)).text for part in schedule.parse(prompt))


def joins(prompt: str) -> bool:
    """Tell whether a prompt is several, or counts other than once: that takes guidance."""
    return [part.weight for part in schedule.parse(prompt)] != [1.0]


def _stages(key: str, prompt: Prompt, timeline: Timeline) -> _Stages:
    parts = schedule.parse(prompt.text)
    negative = schedule.parse_one(prompt.negative)
    steps = range(timeline.count)
    texts = [[(part.at(index, timeline), negative.at(index, timeline)) for part in parts] for index in steps]
    distinct = list(dict.fromkeys(text for step in texts for text in step))
    keys = {text: key if place == 0 else f"{key}#{place}" for place, text in enumerate(distinct)}
    prompts = {keys[text, other]: replace(prompt, text=text, negative=other, weighted=True) for text, other in distinct}
    return _Stages(prompts, tuple(_weighted(parts, [keys[text] for text in step]) for step in texts))


def _weighted(parts: Sequence[Part], keys: Sequence[str]) -> Parts:
    return tuple((key, part.weight) for part, key in zip(parts, keys, strict=True))


def _first(stages: _Stages, step: Step) -> str:
    return stages.steps[step.index][0][0]


def _passes(one: Pass, parts: Parts) -> Iterator[Pass]:
    """Yield a pass for each prompt that stands for its own; each keeps deep features of its own."""
    first, *others = (key for key, _ in parts)
    yield replace(one, prompt=first, uncond=one.uncond if _alone(parts) or one.uncond != "off" else "same")
    for place, key in enumerate(others, start=1):
        reuse = None if one.reuse is None else replace(one.reuse, slot=f"{one.reuse.slot}#{place}")
        yield replace(one, prompt=key, uncond="off", reuse=reuse)


def _alone(parts: Parts) -> bool:
    return [weight for _, weight in parts] == [1.0]


def _joined(one: Pass, parts: Parts, predictions: Sequence[Prediction]) -> Prediction:
    first = predictions[0]
    if _alone(parts):
        return first
    if first.uncond is None:
        raise ValueError("AND needs guidance, which a request without it is refused for")
    cond = first.uncond
    for (_, weight), found in zip(parts, predictions, strict=True):
        cond = cond + weight * (found.cond - first.uncond)
    return Prediction(cond, None if one.uncond == "off" else first.uncond, first.attention)
