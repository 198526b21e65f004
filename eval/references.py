"""Pictures of each LoRA of a suite alone, for metrics that compare with them; they have a ledger of their own."""

from __future__ import annotations

from pathlib import Path

from PIL.Image import Image

from composer.request import AdapterUse, RenderRequest
from eval.running import Run
from eval.suites.model import Composition, Member, stable
from lora_zoo.foreign import files, pictures
from pipelines.engine import Engine
from pipelines.jobs.identity import digest
from pipelines.jobs.ledger import Ledger
from pipelines.jobs.planning import Job, together
from pipelines.jobs.states import State

FOLDER = "references"


def folder(run: Run) -> Path:
    return run.folder / FOLDER


def plan(run: Run, engine: Engine) -> None:
    """Write the jobs to a ledger: for every member as many pictures as the run wishes for."""
    folder(run).mkdir(parents=True, exist_ok=True)
    ledger = Ledger(folder(run), create=True)
    ledger.add(together([job for some in jobs(run, engine).values() for job in some]))
    ledger.close()


def load(run: Run, engine: Engine) -> dict[str, list[Image]]:
    """Return the pictures by member, those that are there."""
    if not run.wish.references:
        return {}
    ledger = Ledger(folder(run))
    files = {one.digest: ledger.folder / one.file for one in ledger.entries() if one.state is State.DONE}
    ledger.close()
    wanted = jobs(run, engine)
    return {name: [_opened(files[job.digest]) for job in some if job.digest in files] for name, some in wanted.items()}


def jobs(run: Run, engine: Engine) -> dict[str, list[Job]]:
    """Return the jobs of every member: as many pictures as the run wishes for."""
    known = {member.name: (member, one) for one in run.suite.sets for member in one.members}
    return {
        name: [_job(engine, member, one, number) for number in range(run.wish.references)]
        for name, (member, one) in known.items()
    }


def _job(engine: Engine, member: Member, one: Composition, number: int) -> Job:
    request = RenderRequest(
        **one.settings.model_dump(),
        adapters=(AdapterUse(name=member.lora, weight=member.weight),),
        prompt=member.text,
        negative_prompt=one.negative,
        seed=stable(f"reference {member.name} {number}") >> 33,
    )
    resolved = engine.resolve(request)
    return Job(digest(resolved), resolved.request)


def _opened(path: Path) -> Image:
    return pictures.decoded(path, files.shown(path)).convert("RGB")
