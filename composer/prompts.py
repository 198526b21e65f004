"""Which LoRAs are active in the text encoder while a prompt is read.

Prompts are encoded once, before the loop. In the reference code of LoRA Switch and Composite (arXiv:2402.16843) the
text-encoder LoRAs active at that moment differ by method, unsaid: merge and composite read with all of them summed,
switch with the first one only. Here it is a policy of the request, and these are only the defaults:

none      the base text encoder
first     the first LoRA's part
all       every LoRA's part, summed
per_lora  each pass reads the prompt with the parts of the LoRAs active in that pass
"""

from __future__ import annotations

from composer.plan import MAIN, Job, JobAdapter, Merge, Prompt

BASE = ""  # no adapter has this name


def prompt_table(job: Job) -> dict[str, Prompt]:
    """Return the prompts of a method whose passes hold one adapter each; see `prompt_name` for their keys."""
    if job.text_policy == "per_lora":
        return {use.name: _read_with(job, (use,), 1.0) for use in job.adapters}
    return main_prompt(job)


def prompt_name(job: Job, use: JobAdapter) -> str:
    """Return the key in `prompt_table` of the prompt for a pass with this adapter alone."""
    return use.name if job.text_policy == "per_lora" else MAIN


def base_table(job: Job) -> dict[str, Prompt]:
    """Return `prompt_table` with the prompt for a pass without adapters; see `base_name` for its key."""
    return prompt_table(job) | ({BASE: _read_with(job, (), 1.0)} if job.text_policy == "per_lora" else {})


def base_name(job: Job) -> str:
    """Return the key in `base_table` of the prompt for a pass without adapters."""
    return BASE if job.text_policy == "per_lora" else MAIN


def main_prompt(job: Job, factor: float = 1.0, merge: Merge | None = None) -> dict[str, Prompt]:
    """Return the one prompt of a method whose passes hold all adapters, their text weights times `factor`, merged."""
    chosen = {"none": (), "first": job.adapters[:1]}.get(job.text_policy, job.adapters)
    return {MAIN: _read_with(job, chosen, factor, merge)}


def prompt_by(job: Job, readers: tuple[JobAdapter, ...], text: str) -> Prompt:
    """Return a prompt as the policy has it read; with `per_lora`, by these LoRAs."""
    policies = {"none": (), "first": job.adapters[:1], "all": job.adapters}
    weights = {use.name: use.text_encoder_weight for use in policies.get(job.text_policy, readers)}
    return Prompt(text, job.negative_prompt, weights)


def region_table(job: Job) -> dict[str, Prompt]:
    """Return the request's prompt, read by the LoRAs that act everywhere, and each region's, read by its own too."""
    everywhere = tuple(use for use in job.adapters if use.region is None)
    placed = {
        region_name(use): prompt_by(job, (*everywhere, use), use.region.prompt)
        for use in job.adapters
        if use.region is not None
    }
    return {MAIN: prompt_by(job, everywhere, job.prompt), **placed}


def region_name(use: JobAdapter) -> str:
    """Return the key in `region_table` of the prompt of an adapter's region."""
    return f"region:{use.name}"


def _read_with(job: Job, uses: tuple[JobAdapter, ...], factor: float, merge: Merge | None = None) -> Prompt:
    weights = {use.name: use.text_encoder_weight * factor for use in uses}
    return Prompt(job.prompt, job.negative_prompt, weights, merge)
