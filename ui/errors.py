"""What the service refuses beyond a wrong request."""

from __future__ import annotations

from lora_zoo.errors import ZooError


class TooBusy(ZooError):
    """The queue is full; the request itself may be sound."""


class TooMuch(ZooError):
    """A request that takes more than this server gives to one."""


class NotThere(ZooError):
    """No job or picture has this id."""


class NotAllowed(ZooError):
    """Something that a page may not ask a server for, such as any of its files by path."""
