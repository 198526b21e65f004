"""What can go wrong with a judge."""

from __future__ import annotations

from lora_zoo.errors import ZooError


class Unreadable(ZooError):
    """An answer without the scores that were asked for."""


class NoJudge(ZooError):
    """A judge that cannot be reached, or not be spoken to."""


class BadVotes(ZooError):
    """A file of votes that does not belong to the study, or cannot be read."""


class NoRatings(ZooError):
    """Votes that cannot be rated, since what rates them is not installed."""
