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


class Unavailable(ZooError):
    """The server cannot do that now; the request may be sound, and may be sent again."""


class CannotStore(Unavailable):
    """The history's file is locked, full or out of reach; the same may be tried again."""


class DamagedHistory(Unavailable):
    """The history's file is damaged as a whole, or is none."""


class DamagedRow(ZooError):
    """One job or picture of the history that cannot be read; the others can."""


class FolderInUse(ZooError):
    """Another server works in this data folder."""
