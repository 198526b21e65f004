"""What can go wrong with a batch beyond a wrong request."""

from __future__ import annotations

from lora_zoo.errors import ZooError


class BadJobs(ZooError):
    """A file of jobs, or one of its lines, that cannot be read."""


class BadLedger(ZooError):
    """A folder whose ledger is missing, of another version, or not a ledger."""


class EmptyLedger(BadLedger):
    """A ledger that knows nothing, which no command leaves behind."""


class NoRoom(ZooError):
    """A disk without the room that a batch will need."""
