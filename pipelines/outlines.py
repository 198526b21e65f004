"""What a request will do in each step, told before any of it is done, and without a model."""

from __future__ import annotations

from dataclasses import replace

from composer.outline import Outline, outline
from composer.plan import Job
from pipelines.resolve import Resolved, steps_of


def outlined(resolved: Resolved) -> Outline:
    """Return the outline of a request, with that of its second pass behind it if it has one.

    Where a plan depends on what the prompt's words mean to the model, all LoRAs are taken to matter alike.
    """
    first = _told(resolved)
    return first if resolved.second is None else first.then(_told(resolved.second))


def _told(resolved: Resolved) -> Outline:
    found = _of(resolved, resolved.job)
    job = resolved.job
    turned = replace(job, adapters=tuple(replace(use, frequency=-(use.frequency or 0.0)) for use in job.adapters))
    return replace(found, read=bool(resolved.method.texts(job)), ranked=_of(resolved, turned) != found)


def _of(resolved: Resolved, job: Job) -> Outline:
    names = [use.name for use in job.adapters]
    return outline(resolved.unread(job), names, steps_of(resolved.count))
