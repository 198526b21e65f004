"""What can go wrong with a cluster."""

from __future__ import annotations

from lora_zoo.errors import ZooError


class NoCluster(ZooError):
    """Ray that is not installed, or a cluster that cannot be reached."""


class NoMachine(ZooError):
    """A cluster none of whose machines can do the work."""
