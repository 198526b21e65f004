"""A picture of ours made again: what its record names by name and hash only must be found, or given."""

from __future__ import annotations

from composer.errors import BadRequest
from composer.record import RenderRecord
from composer.request import RenderRequest
from lora_zoo.errors import ZooError
from pipelines import cli_output, engine, specs


def request_of(record: RenderRecord, model: str | None) -> RenderRequest:
    """Return the request of a record, to be rendered by the model that was typed, or by its own if that is here.

    Raises:
        BadRequest: Its own model is not here by its name; how to give it is told.
    """
    wanted = record.model_sha256
    if model is None:
        try:
            specs.find(record.model)
        except ZooError as error:
            digest = "" if wanted is None else f" (sha256 {wanted})"
            raise BadRequest(f"the picture's model{digest} is not here; give it with --model: {error}") from error
    if wanted is not None:
        _compare(model or record.model, wanted, asked_for=model is None)
    return record.request()


def _compare(model: str, wanted: str, asked_for: bool) -> None:
    """Refuse, or tell, that a model is not the one that made the picture."""
    try:
        there = engine.model_sha256(model)
    except ZooError:
        return  # told where the request is resolved
    if there == wanted:
        return
    if asked_for:
        raise BadRequest(
            f"model '{model}' is not the one that made the picture: its sha256 is {there}, not {wanted}; "
            "give that one, or this one, with --model"
        )
    cli_output.notice(f"notice: model '{model}' is not the one that made the picture, whose sha256 is {wanted}")
