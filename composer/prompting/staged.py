"""Lets a plan's prompts change over the steps and join by AND, as their texts say; no method knows of it.

AND is that of composable diffusion (arXiv:2206.01714): with noise predictions e, e_i for prompts of weights w_i,

    cond = uncond + sum_i w_i (e_i - uncond),

which guidance then takes for the answer of one pass. All share the unconditional row of the first, since they have the
same negative prompt and LoRAs; a pass without one gets it here, and keeps it to itself. In negative prompts AND is a
word, as in A1111.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from composer.plan import Pass, Plan, Prediction, Prompt, Step
from composer.prompting import emphasis, schedule
from composer.prompting.schedule import Part


@dataclass(frozen=True)
class _Stages:
    """One prompt of a plan: for each step, the keys and weights of what stands for it."""

    prompts: Mapping[str, Prompt]
    steps: tuple[tuple[tuple[str, float], ...], ...]


def staged(plan: Plan, count: int) -> Plan:
    """Return the plan with every prompt read in A1111's grammar, for this number of steps."""
    stages = {key: _stages(key, prompt, count) for key, prompt in plan.prompts.items()}
    prompts = {key: prompt for one in stages.values() for key, prompt in one.prompts.items()}

    def expand(step: Step) -> Iterator[tuple[Pass, tuple[tuple[str, float], ...]]]:
        for one in plan.passes(step):
            yield one, stages[one.prompt].steps[step.index]

    def passes(step: Step) -> Sequence[Pass]:
        return [part for one, parts in expand(step) for part in _parts(one, parts)]

    def combine(step: Step, _passes: Sequence[Pass], predictions: Sequence[Prediction]) -> Prediction:
        answers = iter(predictions)
        wanted = list(expand(step))
        joined = [_joined(one, parts, [next(answers) for _ in parts]) for one, parts in wanted]
        return plan.combine(step, [one for one, _ in wanted], joined)

    return replace(plan, passes=passes, prompts=prompts, combine=combine)


def spoken(prompt: str, count: int) -> str:
    """Return the words of a prompt as the first of `count` steps has them, without weights, AND and BREAK."""
    return " ".join(emphasis.parse(part.at(0, count)).text for part in schedule.parse(prompt))


def joins(prompt: str) -> bool:
    """Tell whether a prompt is several, or counts other than once: that takes guidance."""
    return [part.weight for part in schedule.parse(prompt)] != [1.0]


def _stages(key: str, prompt: Prompt, count: int) -> _Stages:
    parts = schedule.parse(prompt.text)
    negative = schedule.parse_one(prompt.negative)
    texts = [[(part.at(index, count), negative.at(index, count)) for part in parts] for index in range(count)]
    distinct = list(dict.fromkeys(text for step in texts for text in step))
    keys = {text: key if place == 0 else f"{key}#{place}" for place, text in enumerate(distinct)}
    prompts = {keys[text, other]: replace(prompt, text=text, negative=other, weighted=True) for text, other in distinct}
    return _Stages(prompts, tuple(_weighted(parts, [keys[text] for text in step]) for step in texts))


def _weighted(parts: Sequence[Part], keys: Sequence[str]) -> tuple[tuple[str, float], ...]:
    return tuple((key, part.weight) for part, key in zip(parts, keys, strict=True))


def _parts(one: Pass, parts: Sequence[tuple[str, float]]) -> Iterator[Pass]:
    """Yield a pass for each prompt that stands for its own."""
    first, *others = (key for key, _ in parts)
    yield replace(one, prompt=first, uncond=one.uncond if _alone(parts) or one.uncond != "off" else "same")
    for key in others:
        yield replace(one, prompt=key, uncond="off")


def _alone(parts: Sequence[tuple[str, float]]) -> bool:
    return [weight for _, weight in parts] == [1.0]


def _joined(one: Pass, parts: Sequence[tuple[str, float]], predictions: Sequence[Prediction]) -> Prediction:
    first = predictions[0]
    if _alone(parts):
        return first
    if first.uncond is None:
        raise ValueError("AND needs guidance, which a request without it is refused for")
    cond = first.uncond
    for (_, weight), found in zip(parts, predictions, strict=True):
        cond = cond + weight * (found.cond - first.uncond)
    return Prediction(cond, None if one.uncond == "off" else first.uncond)
