"""What is told of a rendering before it is made: what it takes, how long here, and whether that is a great deal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from pydantic import JsonValue

from pipelines import estimates
from pipelines.engine import Engine
from pipelines.estimates import Estimate, amount, machine_memory
from pipelines.pricing import Cost, price, steps_of, usual_gflop
from pipelines.resolve import Resolved

#: Usual pictures of a model, at its own size and steps with one pass in each, that one picture may take unremarked.
MOST_USUAL = 256


@dataclass(frozen=True)
class Quote:
    """What pictures take, rendered in goes; the seconds are None until something was measured here."""

    cost: Cost
    estimate: Estimate | None
    remarks: tuple[str, ...] = ()

    def row(self) -> dict[str, JsonValue]:
        """Return all of it as JSON: counts, GFLOP, bytes, seconds and what these were taken from."""
        found = self.estimate
        taken = None if found is None else f"{found.of} renderings on {found.device} in {found.dtype}"
        return {**asdict(self.cost), "seconds": None if found is None else found.seconds, "seconds_from": taken}

    def line(self) -> dict[str, JsonValue]:
        """Return all of it for people."""
        cost, row = self.cost, self.row()
        del row["seconds_from"], row["pass_gflop"]
        worded = {"gflop": f"{cost.gflop:,.1f}", "memory": f"{amount(cost.memory)} beside model and LoRAs"}
        return {**row, **worded, "seconds": estimates.told(self.estimate)}


def quote(engine: Engine, goes: Iterable[Sequence[Resolved]], dtype: str = "auto") -> Quote:
    """Return what goes take one after the other, in a type if it is chosen; the same go again is priced once."""
    total, told = Cost(0, 0, 0), dict[str, None]()
    estimate: Estimate | None = None
    cost, priced = total, list[Resolved]()
    for go in goes:
        if go is not priced:
            cost, priced = engine.price(go), go
        total += cost
        told |= dict.fromkeys(_remarks(go, cost))
        estimate = estimates.estimate(go[0].spec, total, dtype)
    return Quote(total, estimate, tuple(told))


def remarks(engine: Engine, goes: Sequence[Sequence[Resolved]]) -> list[str]:
    """Return what there is to say of goes that take a great deal; of those alike, once."""
    first = {tuple(sorted({id(one.job) for one in go})): go for go in goes}
    return list(dict.fromkeys(said for go in first.values() for said in _remarks(go, engine.price(go))))


def much(one: Resolved, most: int = MOST_USUAL) -> str:
    """Return a sentence of a picture that takes more than so many usual ones of its model; "" if it does not."""
    found, usual = price([one], 1).gflop, usual_gflop(one.spec)
    if found <= most * usual:
        return ""
    return (
        f"one picture takes {found:,.0f} GFLOP, as much as {found / usual:,.0f} usual ones of model '{one.spec.name}'"
    )


def lower(one: Resolved) -> str:
    """Return what makes a picture take more than a usual one, the gravest first, to be lowered."""
    spec, job, last = one.spec, one.job, one.second or one
    passes = len(one.plan().passes(steps_of(job.count)[0]))
    causes = {
        f"a smaller size than {size(last)} (self-attention grows with the square of its pixels)": (
            last.job.height * last.job.width * spec.latent_factor**2 / (spec.height * spec.width)
        ),
        f"fewer steps than {job.count}": job.count / spec.defaults.num_inference_steps,
        f"fewer passes in a step than {passes:,} (joined prompts, LoRAs, method '{one.request.method}')": passes,
    }
    ranked = sorted(causes, key=lambda cause: -causes[cause])
    return ", ".join(cause for cause in ranked if causes[cause] > 1) or "fewer steps, or another method"


def size(one: Resolved) -> str:
    """Return a picture's width and height in pixels."""
    return f"{one.request.width}x{one.request.height}"


def _remarks(go: Sequence[Resolved], cost: Cost) -> list[str]:
    """Return what there is to say of a great deal of arithmetic or memory."""
    firsts = {id(one.job): one for one in go}.values()
    told = [f"{said}; to lower it, ask for {lower(one)}" for one in firsts if (said := much(one))]
    there = machine_memory()
    if there and cost.memory > there:
        told.append(f"this takes about {amount(cost.memory)} beside the model; this machine has {amount(there)}")
    return told
