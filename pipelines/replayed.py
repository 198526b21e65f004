"""A picture of ours made again: what its record names by name and hash only must be found, or given."""

from __future__ import annotations

from composer.errors import BadRequest
from composer.record import RenderRecord
from composer.request import RenderRequest
from lora_zoo.errors import ZooError
from pipelines import cli_output, engine, specs


def request_of(record: RenderRecord, model: str | None) -> RenderRequest:
    """Return the request of a record, to be rendered by the model that was typed, or by its own if that is here.

    A model that was typed and is the picture's own, by its hash, is named in the request.

    Raises:
        BadRequest: The record's model is not here by its name, or another one is; how to give it is told.
    """
    request, wanted = record.request(), record.model_sha256
    there = _typed(model, wanted) if model is not None else _recorded(record)
    if model is None or wanted is None:
        return request
    if there == wanted:
        return request.model_copy(update={"model": model})
    cli_output.notice(f"notice: model '{model}' is not the one that made the picture, whose sha256 is {wanted}")
    return request


def _typed(model: str, wanted: str | None) -> str | None:
    """Return the hash of a model that was typed, if it is asked for; a mistake in its name is told later."""
    try:
        return engine.model_sha256(model) if wanted else None
    except ZooError:
        return wanted


def _recorded(record: RenderRecord) -> str | None:
    """Return the hash of a record's model, which must be here, and be the same."""
    wanted = record.model_sha256
    try:
        there = engine.model_sha256(record.model) if wanted else None
        specs.find(record.model)
    except ZooError as error:
        digest = f" (sha256 {wanted})" if wanted else ""
        raise BadRequest(f"the picture's model{digest} is not here; give it with --model: {error}") from error
    if there != wanted:
        raise BadRequest(
            f"model '{record.model}' here is not the one that made the picture: its sha256 is {there}, not {wanted}; "
            "give that one, or this one, with --model"
        )
    return there
