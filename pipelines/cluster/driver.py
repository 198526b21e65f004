"""A batch on a cluster. Only this process writes: pictures and ledger are where they would be without a cluster."""

from __future__ import annotations

from pathlib import Path

from pipelines.cluster.connect import cluster
from pipelines.cluster.crew import Crew, Place, Told
from pipelines.jobs import grids
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.states import State
from pipelines.jobs.worker import OnEvent


def work(folder: Path, place: Place, on_event: OnEvent, told: Told) -> None:
    """Have the jobs of a folder done on a cluster, until all are done, failed or quarantined.

    Machines may join and leave meanwhile. A stop by an exception, the keyboard's included, gives back what was claimed.
    Raises `NoCluster` where there is none, and `NoMachine` if none of its machines has the files that are asked for.
    """
    ledger = Ledger(folder)
    try:
        counts = ledger.counts()
        if counts[State.WAITING] + counts[State.RUNNING]:
            with cluster(place.address) as ray, Crew(ray, ledger, place, on_event, told) as crew:
                while crew.go():
                    pass
        grids.draw_missing(ledger)
    finally:
        ledger.close()
