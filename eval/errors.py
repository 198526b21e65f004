"""What can go wrong in an evaluation that the user can put right."""

from __future__ import annotations

from lora_zoo.errors import ZooError


class NoResults(ZooError):
    """A report asks for figures that were not measured yet."""


class BadSuite(ZooError):
    """A suite that cannot be read, or not be used as asked."""


class BadMetric(ZooError):
    """A metric that cannot be computed: the pictures do not have what it needs, or its model is not there."""


class BadRun(ZooError):
    """A folder of results that does not hold what is asked of it."""
