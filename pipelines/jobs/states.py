"""How far a job got: one vocabulary for the batches of the command line and the queue of the page."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """How far a job got."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # it raised an error
    QUARANTINED = "quarantined"  # the process died of it, again and again
    CANCELLED = "cancelled"  # somebody stopped it; a batch is stopped as a whole, so its jobs never are


#: A job that is not over.
OPEN = (State.WAITING, State.RUNNING)
#: What can be tried again.
STOPPED = (State.FAILED, State.QUARANTINED, State.CANCELLED)
