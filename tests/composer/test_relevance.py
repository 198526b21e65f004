"""How much each LoRA matters to a prompt, checked by hand; and the turns and shares that follow from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import JsonValue

from composer import registry
from composer.plan import Job, JobAdapter, Pass, Step
from composer.relevance import Evidence, compared, relevance
from composer.schedules import in_blocks
from composer.texts import TextEmbedding

JOB = Job(
    adapters=(JobAdapter("a", 0.8, 0.5, ("cat",)), JobAdapter("b", 1.0, 1.0, ("small mat", "mat"))),
    prompt="a cat, small mat",
    negative_prompt="",
    text_policy="first",
    count=20,
    height=8,
    width=8,
)
PADDING = [0.0, 0.0, 6.0]


def text(*own: float) -> TextEmbedding:
    """Return a text of one token, between a start and padding."""
    return TextEmbedding(torch.tensor([[0.0, 0.0, 0.0], [*own, 0.0], PADDING]), 1)


#: cosines of the own tokens with the prompt's: 0.8 and 0.6 for the words, 0.6 and 0.0 for what is left without them.
TEXTS = {
    "a cat, small mat": text(1.0, 0.0),
    "cat": text(4.0, 3.0),
    "small mat, mat": text(3.0, -4.0),
    "a, small mat": text(0.6, 0.8),
    "a cat": text(0.0, 2.0),
}
READ = replace(JOB, texts=TEXTS)


def test_what_is_compared() -> None:
    assert compared(JOB, "triggers") == ("cat", "small mat, mat")
    assert compared(JOB, "ablation") == ("a, small mat", "a cat")


def test_relevance_by_hand() -> None:
    assert relevance(READ, "triggers", "words") == pytest.approx([0.8 / 1.4, 0.6 / 1.4])
    assert relevance(READ, "ablation", "words") == pytest.approx([0.4 / 1.4, 1.0 / 1.4])
    # with the padding, means are a third of (1, 0, 6), (4, 3, 6) and (3, -4, 6)
    raw = [40 / (37 * 61) ** 0.5, 39 / (37 * 61) ** 0.5]
    assert relevance(READ, "triggers", "all") == pytest.approx([one / sum(raw) for one in raw])


def test_least_and_greatest_importance() -> None:
    alike = replace(READ, texts={**TEXTS, "a, small mat": text(1.0, 0.0)})
    assert relevance(alike, "ablation", "words") == pytest.approx([0.05 / 1.05, 1.0 / 1.05])
    alone = replace(READ, prompt="cat, mat", texts={name: text(1.0, 0.0) for name in ("cat, mat", "mat", "cat")})
    assert relevance(alone, "ablation", "all") == [0.5, 0.5]  # 2 and 2: three letters are no text
    against = replace(READ, texts={**TEXTS, "cat": text(-1.0, 0.0)})
    assert relevance(against, "triggers", "words") == [0.0, 1.0]


@pytest.mark.parametrize("evidence", ["triggers", "ablation"])
def test_without_a_text_encoder_all_matter_equally(evidence: Evidence) -> None:
    assert relevance(JOB, evidence, "all") == [0.5, 0.5]


def turns(job: Job, **parameters: JsonValue) -> str:
    plan = registry.create("w_switch", parameters).start(job)
    found = [plan.passes(Step(index, job.count, 999.0 - index, 1.0)) for index in range(job.count)]
    assert all(len(passes) == 1 for passes in found)
    return "".join(next(iter(passes[0].adapters)) for passes in found)


def test_turns_by_hand() -> None:
    # ablation: 0.4 and 1.0, so round(5 * 0.4) = 2 steps and 5
    assert turns(READ, pooling="words") == "aabbbbbaabbbbba" + "aaaaa"
    assert turns(READ, pooling="words", tail=0, evidence="triggers", interval=4) == "aaaabbbaaaabbbaaaabb"
    assert turns(READ, pooling="words", tail=0, interval=1) == "ab" * 10
    assert turns(READ, tail=50) == "a" * 20


def test_equal_relevance_is_switch_with_a_tail() -> None:
    switch = registry.create("switch", {"interval": 3}).start(JOB)
    equal = registry.create("w_switch", {"interval": 3, "tail": 4}).start(JOB)
    for index in range(20):
        step = Step(index, 20, 999.0, 1.0)
        assert equal.passes(step) == (switch.passes(step) if index < 16 else [Pass({"a": 0.8})])
    assert equal.prompts == switch.prompts


def test_blocks() -> None:
    assert [in_blocks(index, [2, 1, 3]) for index in range(9)] == [0, 0, 1, 2, 2, 2, 0, 0, 1]
    assert [in_blocks(index, [1]) for index in range(3)] == [0, 0, 0]


def test_shares_are_the_relevance() -> None:
    plan = registry.create("w_composite", {"pooling": "words"}).start(READ)
    passes = plan.passes(Step(3, 20, 900.0, 1.0))
    assert [dict(one.adapters) for one in passes] == [{"a": 0.8}, {"b": 1.0}]
    assert [one.share for one in passes] == pytest.approx([0.8 / 1.4, 0.6 / 1.4])
    assert registry.describe("w_composite").text_policy == "all"


@pytest.mark.parametrize(("method", "second"), [("w_switch", "a, small mat"), ("w_composite", "cat")])
def test_methods_ask_for_what_they_compare(method: str, second: str) -> None:
    texts = registry.create(method, {}).texts(JOB)
    assert (texts[:2], len(texts)) == (("a cat, small mat", second), 3)
    assert registry.create("composite", {}).texts(JOB) == ()
