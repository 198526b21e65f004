"""What is compared: a method with its parameters is a column, and every column is asked the same questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from composer import registry
from composer.errors import BadRequest
from composer.request import AdapterUse, RenderRequest
from eval.errors import BadSuite
from eval.suites.model import Case, Member, Suite

NAIVE = registry.NAIVE
TRUTH = "truth"  # the drawn picture


@dataclass(frozen=True)
class Column:
    """A method with parameters, and what it is called in tables."""

    label: str  # as typed: NAME[:KEY=VALUE]…
    method: str
    parameters: Mapping[str, JsonValue]

    @property
    def uses_regions(self) -> bool:
        return registry.get(self.method).uses_regions

    def request(self, case: Case) -> RenderRequest:
        """Return what this column is asked for a case: prompt, noise and settings do not depend on the column."""
        asked = case.set
        members = () if self.label == NAIVE else asked.members
        return RenderRequest(
            **asked.settings.model_dump(),
            method=self.method,
            parameters=self.parameters,
            adapters=tuple(self._use(one) for one in members),
            prompt=asked.prompt,
            negative_prompt=asked.negative,
            seed=case.seed,
        )

    def _use(self, member: Member) -> AdapterUse:
        return AdapterUse(name=member.lora, weight=member.weight, region=member.region if self.uses_regions else None)


def parse(text: str) -> Column:
    """Read NAME[:KEY=VALUE]…; a wrong name or parameter is told at once."""
    if text == NAIVE:
        return Column(NAIVE, "merge", {})
    name, parameters = registry.parse(text)
    return Column(text, name, parameters)


def parse_all(text: str, suite: Suite, leave_out: bool = False) -> list[Column]:
    """Read a list of columns, separated by commas; `all` stands for every method that the suite can ask.

    What it cannot ask is an error, or left out: a list that is meant for several suites holds what only some can ask.
    """
    words = [one.strip() for one in text.split(",") if one.strip()]
    labels = [label for word in words for label in (every(suite) if word == "all" else [word])]
    columns = [parse(label) for label in dict.fromkeys(labels)]
    if not columns:
        raise BadRequest("--methods names no method; for example --methods naive,merge,switch")
    if leave_out:
        return [one for one in columns if suite.regional or not one.uses_regions]
    check(columns, suite)
    return columns


def every(suite: Suite) -> list[str]:
    """Return the prompt alone and all registered methods, but those that need regions where a suite has none."""
    return [NAIVE, *(name for name in registry.names() if suite.regional or not registry.get(name).uses_regions)]


def check(columns: Sequence[Column], suite: Suite) -> None:
    """Refuse what a suite cannot ask."""
    for column in columns:
        if column.uses_regions and not suite.regional:
            raise BadSuite(
                f"method '{column.method}' needs to know where each LoRA belongs; suite '{suite.name}' does not say"
            )
