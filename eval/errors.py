"""What can go wrong in an evaluation that the user can put right."""

from __future__ import annotations

from lora_zoo.errors import ZooError


class NoResults(ZooError):
    """A report asks for figures that were not measured yet."""
