"""What a request does in each step: told before any of it is done, without a model, and once its prompt was read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from composer.outline import Outline, outline
from composer.plan import Job
from pipelines.pricing import steps_of
from pipelines.resolve import Resolved

if TYPE_CHECKING:
    from composer.texts import TextEmbedding


def outlined(resolved: Resolved, texts: Mapping[str, TextEmbedding] | None = None) -> Outline:
    """Return the outline of a request, with that of its second pass behind it if it has one.

    Where a plan depends on what the prompt's words mean to the model, `texts` is what its text encoder made of them;
    without that, all LoRAs are taken to matter alike.
    """
    first = _told(resolved, texts or {})
    return first if resolved.second is None else first.then(_told(resolved.second, texts or {}))


def _told(resolved: Resolved, texts: Mapping[str, TextEmbedding]) -> Outline:
    job = replace(resolved.job, texts=texts)
    found = _of(resolved, job)
    turned = replace(job, adapters=tuple(replace(use, frequency=-(use.frequency or 0.0)) for use in job.adapters))
    ranked = _of(resolved, turned) != found
    return replace(found, read=bool(resolved.method.texts(job)), known=bool(texts), ranked=ranked)


def _of(resolved: Resolved, job: Job) -> Outline:
    names = [use.name for use in job.adapters]
    return outline(resolved.unread(job), names, steps_of(resolved.count))
