"""How much each LoRA matters to a prompt, by what the text encoder makes of its words (arXiv:2606.03792).

triggers  u_i = cos(E(prompt), E(the LoRA's words, joined by commas))
ablation  u_i = max(1 - cos(E(prompt), E(prompt without the LoRA's words)), 0.05), and 2 if hardly a text is left

E is the mean of the tokens' embeddings, in the authors' code over padding too, which moves all cosines towards 1;
`pooling: words` takes the mean of the text's own tokens. Weights are u_i / sum u.
Deviations from the authors' code: texts are read without LoRAs (theirs by whichever LoRAs happen to be active); only
words that the prompt holds count, and a LoRA that has none there is refused (theirs gives it 0.1 or 0); a negative
cosine counts as 0. Without a text encoder, in a dry run, all LoRAs matter equally.
"""

from __future__ import annotations

from typing import Literal

from composer.plan import Job
from composer.words import without

Evidence = Literal["triggers", "ablation"]
Pooling = Literal["all", "words"]

_LEAST, _ALONE = 0.05, 2.0  # the authors' constants for ablation
_SHORTEST = 5  # characters; a text shorter than this is none


def compared(job: Job, evidence: Evidence) -> tuple[str, ...]:
    """Return the text of each LoRA that is compared with the prompt."""
    if evidence == "triggers":
        return tuple(", ".join(use.words) for use in job.adapters)
    return tuple(without(job.prompt, use.words) for use in job.adapters)


def relevance(job: Job, evidence: Evidence, pooling: Pooling) -> list[float]:
    """Return each LoRA's part in the prompt; they add up to 1. `job.texts` holds the prompt and what is compared."""
    if not job.texts:
        return [1.0 / len(job.adapters)] * len(job.adapters)
    raw = [_importance(job, text, evidence, pooling) for text in compared(job, evidence)]
    total = sum(raw)
    return [one / total for one in raw] if total else [1.0 / len(raw)] * len(raw)


def _importance(job: Job, text: str, evidence: Evidence, pooling: Pooling) -> float:
    from composer.texts import likeness

    if evidence == "ablation" and len(text) < _SHORTEST:
        return _ALONE
    prompt, other = job.texts[job.prompt], job.texts[text]
    alike = likeness(prompt.own, other.own) if pooling == "words" else likeness(prompt.embeds, other.embeds)
    return max(alike, 0.0) if evidence == "triggers" else max(1.0 - alike, _LEAST)
