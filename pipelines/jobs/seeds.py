"""Seeds of jobs that ask for any: drawn once for a batch, and the same whenever its file is planned again.

A batch that was stopped goes on by the same command. So what is drawn depends on what a job says and on a salt that
the batch keeps, and neither on the time nor on where in the file the job stands.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections import Counter
from collections.abc import Mapping

_BITS = 32  # as other tools draw them


class Seeds:
    """Draws seeds for one reading of a file of jobs."""

    def __init__(self, salt: str | None = None) -> None:
        """Take the batch's salt; None: a new one, so that every reading draws others."""
        self.salt = salt or secrets.token_hex(16)
        self._drawn: Counter[str] = Counter()

    @property
    def used(self) -> bool:
        """Whether any seed was drawn."""
        return bool(self._drawn)

    def drawn(self, data: Mapping[str, object]) -> int:
        """Return a seed for a job; jobs that say the same have different ones."""
        said = json.dumps(data, sort_keys=True, default=str)
        self._drawn[said] += 1
        text = json.dumps([self.salt, said, self._drawn[said]])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()) % (1 << _BITS)
