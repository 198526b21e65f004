"""What can go wrong between a request and its picture, beyond the mistakes that `composer.errors` names."""

from __future__ import annotations

from lora_zoo.errors import ZooError


class BadModel(ZooError):
    """A model folder that cannot be read or is of another architecture."""


class NoRecord(ZooError):
    """A picture that does not hold a record of ours."""


class BadMetadata(ZooError):
    """What a picture says of itself is malformed, beyond what is read, or does not fit into its format."""


class OutOfMemory(ZooError):
    """A device whose memory is too little, however little is done at a time."""


class OutOfTime(ZooError):
    """A rendering that was stopped because it took longer than it was given."""


class Cancelled(Exception):
    """The user stopped a rendering. Not a mistake: nothing is wrong with the request."""
