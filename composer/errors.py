"""The user's mistakes that a request can hold: the message says what is wrong, the value and what is allowed."""

from __future__ import annotations

from lora_zoo.errors import UnknownName, ZooError


class BadRequest(ZooError):
    """A request that cannot be served as it stands."""


class BadParameter(BadRequest):
    """A method's parameter is unknown or out of range."""


class UnknownChoice(BadRequest, UnknownName):
    """No method, model or scheduler has this name."""
