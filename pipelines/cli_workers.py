"""The other processes of a batch on this machine, and how all of them are stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

from pipelines import cli_output
from pipelines.cli_exit import stoppable
from pipelines.engine import Engine


@contextmanager
def helpers(folder: Path, workers: int, make: Callable[[], Engine] = Engine) -> Iterator[list[BaseProcess]]:
    """Start the other processes, and stop them if this one is stopped."""
    context = get_context("spawn")
    asked = (folder, workers, make)
    others: list[BaseProcess] = [context.Process(target=help_out, args=asked) for _ in range(workers - 1)]
    for helper in others:
        helper.start()
    try:
        yield others
    finally:
        for helper in others:
            if helper.is_alive():
                helper.terminate()
            helper.join()


def help_out(folder: Path, workers: int, make: Callable[[], Engine] = Engine) -> None:
    """Be one of several processes of a batch: the processor's cores are shared among them."""
    from pipelines.jobs import worker

    cli_output.quiet_libraries()
    share_cores(workers)
    with stoppable():
        with suppress(KeyboardInterrupt):  # the process that started this one tells of the stop
            worker.work(folder, make(), lambda _: None)


def share_cores(workers: int) -> None:
    """Leave the others of so many processes their part of the processor."""
    import torch

    if workers > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // workers))
