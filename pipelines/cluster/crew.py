"""Who works on a batch, and on what: a seat per process on each machine of the cluster, manned for as long as it lives.

A seat has a name of its own among the ledger's workers. When its process or its machine dies, that name dies, and the
ledger does with the seat's jobs what it does after any death: they wait again, and are put aside after three attempts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from pipelines.cluster.errors import NoMachine
from pipelines.cluster.renderer import Asked, Home, Renderer, Trouble
from pipelines.engine import Engine
from pipelines.jobs import worker
from pipelines.jobs.ledger import Claim, Ledger, State
from pipelines.jobs.worker import Encoded, Event, OnEvent

_WAIT = 0.5  # seconds between looks at the cluster and at what other processes do
_FALLS = 3  # times that a process may die before it has begun

Told = Callable[[str], None]
Key = tuple[str, int]  # Ray's name of a machine, and the number of a seat there


@dataclass(frozen=True)
class Place:
    """Where to work: "local", or HOST:PORT of a cluster; with how many processes on each machine; by which engines."""

    address: str
    per_machine: int = 1
    engine: Callable[[], Engine] = Engine


@dataclass(frozen=True)
class Machine:
    """A machine of the cluster, and the share of it that each seat has."""

    node: str  # Ray's name of it
    host: str
    seats: int
    cpus: float
    gpus: float

    @classmethod
    def of(cls, node: Mapping[str, Any], per_machine: int) -> Machine:
        """Divide a machine: as many seats as asked, and at least one for each of its GPUs."""
        there: Mapping[str, float] = node["Resources"]
        cpus, gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
        seats = max(per_machine, int(gpus)) if cpus else 0
        cpus, gpus = cpus / (seats or 1), gpus / (seats or 1)
        named = node["NodeName"] != node["NodeManagerAddress"]  # by `ray start --node-name`
        host = node["NodeName"] if named else node["NodeManagerHostname"]
        return cls(node["NodeID"], host, seats, int(cpus) or cpus, min(1.0, gpus))


@dataclass(eq=False)
class Seat:
    """A process on a machine, alive in the ledger for as long as its door is open."""

    machine: Machine
    owner: str
    door: ExitStack
    actor: Any
    answer: Any  # what is waited for; None: it is idle
    claim: Claim | None = None  # None: it has not begun yet, or is idle
    warm: frozenset[str] = frozenset()  # models and LoRAs that it has in memory


class Crew:
    """All seats; leaving it gives back what they had claimed."""

    def __init__(self, ray: Any, ledger: Ledger, place: Place, on_event: OnEvent, told: Told) -> None:
        self._ray, self._ledger, self._per_machine = ray, ledger, place.per_machine
        self._on_event, self._told = on_event, told
        self._home = Home.here(place.engine)
        self._remote = ray.remote(Renderer)
        self._near = import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        self._machines: Mapping[str, Machine] | None = None  # that are there, by Ray's name; None: not looked yet
        self._unfit: dict[str, str] = {}  # why a machine is asked no more
        self._seats: dict[Key, Seat] = {}
        self._falls: dict[Key, int] = {}  # deaths of a seat's processes, one after another, before they had begun
        self._needs: dict[int, frozenset[str]] = {}  # models and LoRAs of a go

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for seat in self._seats.values():
            self._ledger.release(seat.owner)
            seat.door.close()

    def go(self) -> bool:
        """Give work to whoever is idle and take what is done; return whether there may be more."""
        self._man()
        for seat in [one for one in self._seats.values() if one.answer is None]:
            claim = self._ledger.claim(seat.owner, self._chooser(seat))
            if claim is not None:
                self._begin(seat, claim)
        counts = self._ledger.counts()
        if not counts[State.WAITING] + counts[State.RUNNING]:
            return False
        if not self._seats and self._unfit:
            raise NoMachine("no machine can do this; " + "; ".join(self._unfit.values()))
        self._take()
        return True

    def _man(self) -> None:
        """Fill the seats of machines that are there, and clear those of machines that are not."""
        nodes = [Machine.of(one, self._per_machine) for one in self._ray.nodes() if one["Alive"]]
        machines = {one.node: one for one in nodes if one.seats}
        for key, seat in list(self._seats.items()):
            if seat.machine.node not in machines:
                self._clear(key)
        before = self._machines or {}
        for node in sorted(machines.keys() ^ before.keys()):
            joined = node in machines
            host = (machines if joined else before)[node].host
            self._told(f"machine {host} has {'joined' if joined else 'left'}")
        if not machines and self._machines != machines:
            self._told("no machine is there; waiting for one to join")
        self._machines = machines
        for machine in machines.values():
            for place in range(machine.seats if machine.node not in self._unfit else 0):
                if (machine.node, place) not in self._seats:
                    self._seats[machine.node, place] = self._come(machine)

    def _come(self, machine: Machine) -> Seat:
        door = ExitStack()
        owner = door.enter_context(self._ledger.owners.enter())
        near = self._near(node_id=machine.node, soft=False)
        options = self._remote.options(num_cpus=machine.cpus, num_gpus=machine.gpus, scheduling_strategy=near)
        actor = options.remote()
        return Seat(machine, owner, door, actor, actor.fit.remote(self._home, max(1, int(machine.cpus))))

    def _begin(self, seat: Seat, claim: Claim) -> None:
        asked = [Asked(one.digest, one.request, one.suffix) for one in claim.entries]
        seat.claim, seat.answer = claim, seat.actor.render.remote(asked)
        seat.warm |= self._needed(claim.entries[0].go)

    def _chooser(self, seat: Seat) -> Callable[[Sequence[int]], int]:
        """Prefer jobs whose models and LoRAs this seat has in memory, then those that no other seat has."""
        others = frozenset[str]().union(*(one.warm for one in self._seats.values() if one is not seat)) - seat.warm

        def worth(go: int) -> tuple[int, int, int]:
            needed = self._needed(go)
            return len(needed & seat.warm), -len(needed & others), -go

        return lambda goes: max(goes, key=worth)

    def _needed(self, go: int) -> frozenset[str]:
        if go not in self._needs:
            asked = self._ledger.requests(go)
            loras = {use.sha256 or use.name for one in asked for use in one.adapters}
            self._needs[go] = frozenset(loras | {one.model for one in asked})
        return self._needs[go]

    def _take(self) -> None:
        """Wait a moment for answers, and take those that are there."""
        waited = {seat.answer: key for key, seat in self._seats.items() if seat.answer is not None}
        if not waited:
            time.sleep(_WAIT)
            return
        ready, _ = self._ray.wait(list(waited), num_returns=1, timeout=_WAIT)
        for answer in ready:
            key = waited[answer]
            try:
                self._taken(key, self._ray.get(answer))
            except self._ray.exceptions.RayError as error:
                self._fallen(key, str(error).strip().splitlines()[0])

    def _taken(self, key: Key, found: list[Encoded] | Trouble | None) -> None:
        seat = self._seats[key]
        claim, seat.claim, seat.answer = seat.claim, None, None

        def on_event(event: Event) -> None:
            self._on_event(replace(event, machine=seat.machine.host))

        if isinstance(found, Trouble) and found.of_machine:
            self._ledger.release(seat.owner)
            self._refuse(seat.machine, found.told)
        elif claim is None:
            self._falls[key] = 0
        elif isinstance(found, Trouble):
            worker.raised(self._ledger, seat.owner, claim, found.told, on_event)
        else:
            for entry, made in zip(claim.entries, found or (), strict=True):
                if entry.number in claim.wanted:
                    worker.finish(self._ledger, entry, made, on_event)

    def _fallen(self, key: Key, why: str) -> None:
        """Clear the seat of a process that died; it is manned anew unless it keeps dying before it has begun."""
        seat = self._seats[key]
        begun = seat.claim is not None
        self._told(f"a process on {seat.machine.host} died: {why}")
        self._clear(key)
        self._falls[key] = 0 if begun else self._falls.get(key, 0) + 1
        if self._falls[key] >= _FALLS:
            self._refuse(seat.machine, f"its processes die before they have begun: {why}")

    def _refuse(self, machine: Machine, why: str) -> None:
        """Ask no more of a machine."""
        self._unfit[machine.node] = f"{machine.host}: {why}"
        self._told(f"machine {machine.host} is left out: {why}")
        for key in [key for key, seat in self._seats.items() if seat.machine.node == machine.node]:
            self._ledger.release(self._seats[key].owner)
            self._clear(key)

    def _clear(self, key: Key) -> None:
        """Let a seat die: what it had claimed and was not given back counts as an attempt."""
        seat = self._seats.pop(key)
        self._ray.kill(seat.actor)
        seat.door.close()
