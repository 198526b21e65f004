"""How fast the engine is, beside a plain diffusers + PEFT loop doing the same maths: `python -m eval.speed`.

All ways run in one process, one after the other in every round, so that what else the machine does meets them all; the
median over rounds is reported. "first" is the engine's first picture with these LoRAs, which prepares what later ones
find ready. "limit" is the bare base UNet on as many rows, with reading the prompts and decoding the picture.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from composer.request import AdapterUse, RenderRequest
from eval import peft_loop
from lora_zoo.adapter import Adapter, Layout, LowRank
from lora_zoo.catalog import Catalog
from pipelines import specs
from pipelines.engine import Engine
from pipelines.model import LoadedModel
from pipelines.progress import Cancel, StepReport
from pipelines.sources import AdapterInfo

ADAPTED = ("to_q", "to_k", "to_v", "to_out.0", "proj_in", "proj_out", "ff.net.0.proj", "ff.net.2", "conv1", "conv2")
RANK, HELD, PROMPT = 8, 11, "a picture of a small thing"
Timed = Callable[[], object]


@dataclass(frozen=True)
class Bench:
    """All that is timed runs on these."""

    model: LoadedModel
    adapters: Sequence[Adapter]
    unet: peft_loop.PeftUNet  # a copy, with PEFT's layers
    steps: int
    rounds: int
    cpu_time: bool

    def describe(self, name: str) -> AdapterInfo:
        return AdapterInfo(name, self.load(name, {}).digest, None, 1.0)

    def load(self, name: str, layout: Layout) -> Adapter:
        return next(adapter for adapter in self.adapters if adapter.name == name)


@dataclass(frozen=True)
class Case:
    """One line of the table: a method with N adapters, and the rows it runs per step."""

    method: str
    count: int
    bar: float | None  # times faster than the plain loop

    @property
    def rows(self) -> int:
        return 2 * self.count if self.method == "composite" else 2


CASES = (
    Case("merge", 1, None),
    Case("merge", 3, 1.8),
    Case("merge", 5, None),
    Case("switch", 3, 1.1),
    Case("composite", 3, 2.8),
    Case("composite", 5, 2.8),
)


def random_adapters(layout: Layout, count: int) -> list[Adapter]:
    """Return adapters on attention, projections, feed-forward and ResNet convolutions."""
    generator = torch.Generator().manual_seed(0)
    adapters: list[Adapter] = []
    for n in range(count):
        deltas = {
            path: LowRank(
                torch.randn(RANK, *shape[1:], generator=generator) / torch.Size(shape[1:]).numel() ** 0.5,
                torch.randn(shape[0], RANK, generator=generator) * 0.02,
            )
            for path, shape in layout["unet"].items()
            if path.endswith(ADAPTED)
        }
        adapters.append(Adapter(f"random{n}", f"{n:064x}", {"unet": deltas}))
    return adapters


def zoo_adapters(layout: Layout, family: str | None, count: int) -> list[Adapter]:
    """Return the catalogue's first LoRAs of a family."""
    catalog = Catalog.load()
    entries = [entry for entry in catalog.entries if entry.family == family][:count]
    return [catalog.read(entry, layout) for entry in entries]


def prepare(arguments: argparse.Namespace) -> Bench:
    model = LoadedModel.load(specs.find(arguments.model))
    adapters = zoo_adapters(model.layout, model.spec.family, HELD)
    if len(adapters) < HELD:
        adapters = random_adapters(model.layout, HELD)
    unet = cast(peft_loop.PeftUNet, copy.deepcopy(model.unet))
    peft_loop.load(unet, adapters)
    return Bench(model, adapters, unet, arguments.steps, arguments.rounds, arguments.cpu_time)


def request(bench: Bench, method: str, names: Sequence[str], seed: int = 0) -> RenderRequest:
    return RenderRequest(
        model=bench.model.spec.name,
        method=method,
        adapters=tuple(AdapterUse(name=name, weight=0.8) for name in names),
        prompt=PROMPT,
        num_inference_steps=bench.steps,
        guidance_scale=4.0,
        scheduler="ddim",
        seed=seed,
        text_encoder_adapters="none",
    )


def plain(bench: Bench, case: Case, names: Sequence[str]) -> Tensor:
    """Render by the plain loop, reading prompts and decoding as the engine does."""
    weights = dict.fromkeys(names, 0.8)
    schedule = {
        "merge": peft_loop.merge(weights),
        "switch": peft_loop.switch(weights, 5),
        "composite": peft_loop.composite(weights),
    }[case.method]
    model, spec = bench.model, bench.model.spec
    with torch.no_grad():
        embeds = torch.cat([model.encode("", ()).embeds, model.encode(PROMPT, ()).embeds])
        generator = torch.Generator().manual_seed(0)
        scheduler = cast(peft_loop.StockScheduler, model.new_solver("ddim", bench.steps, generator).inner)
        factor = spec.latent_factor
        noise = model.initial_noise(spec.height // factor, spec.width // factor, generator)
        latents = peft_loop.sample(bench.unet, scheduler, peft_loop.Sampling(noise, embeds, 4.0), schedule)
        model.decode(latents)
    return latents


@torch.no_grad()
def limit(bench: Bench, rows: int, pictures: int = 1) -> None:
    """Run the base UNet on so many rows, once per step."""
    model, factor = bench.model, bench.model.spec.latent_factor
    generator = torch.Generator().manual_seed(0)
    noise = model.initial_noise(model.spec.height // factor, model.spec.width // factor, generator)
    solver = model.new_solver("ddim", bench.steps, generator)
    embeds = torch.cat([model.encode("", ()).embeds, model.encode(PROMPT, ()).embeds])
    latents, embeds = noise.repeat(rows, 1, 1, 1), embeds.repeat(rows // 2, 1, 1)
    for step in solver.steps:
        predicted = model.predict_noise(latents, torch.full((rows,), step.timestep), embeds)
        noise = solver.advance(predicted[:1], step, noise)
    for _ in range(pictures):
        model.decode(noise)


@dataclass(frozen=True)
class Taken:
    """The seconds of one way."""

    first: float
    median: float


def seconds(bench: Bench, *timed: Timed) -> list[Taken]:
    """Return what each way takes, taken in turn."""
    clock = time.process_time if bench.cpu_time else time.perf_counter
    taken: list[list[float]] = [[] for _ in timed]
    for _ in range(1 + bench.rounds):
        for act, times in zip(timed, taken, strict=True):
            started = clock()
            act()
            times.append(clock() - started)
    return [Taken(first, statistics.median(later)) for first, *later in taken]


def difference(bench: Bench, engine: Engine, case: Case, names: Sequence[str]) -> float:
    """Return the greatest difference between the final latents of both ways."""
    last: list[Tensor] = []

    def keep(report: StepReport) -> None:
        last[:] = [report.pictures[0].latents]

    engine.render(request(bench, case.method, names), keep, Cancel())
    return float((last[0] - plain(bench, case, names)).abs().max())


def compare(bench: Bench) -> None:
    titles = ("plain", "first", "engine", "faster", "bar", "limit", "of limit", "difference")
    write(" " * 13 + "".join(f"{title:>11}" for title in titles))
    engine = Engine(bench, load=lambda _spec: bench.model)
    for case in CASES:
        names = [adapter.name for adapter in bench.adapters[: case.count]]
        wanted = request(bench, case.method, names)
        theirs, ours, floor = seconds(
            bench,
            lambda case=case, names=names: plain(bench, case, names),
            lambda wanted=wanted: engine.render(wanted),
            lambda case=case: limit(bench, case.rows),
        )
        numbers = (theirs.median, ours.first, ours.median, theirs.median / ours.median, case.bar or 0.0)
        numbers = (*numbers, floor.median, ours.median / floor.median)
        gap = difference(bench, engine, case, names)
        write(f"{case.method:<10}N={case.count}" + "".join(f"{n:>11.3f}" for n in numbers) + f"{gap:>11.1e}")


def together(bench: Bench) -> None:
    """Time ten requests of different LoRA sets, one by one and together."""
    names = [adapter.name for adapter in bench.adapters]
    methods = ("merge", "switch", "merge", "switch", "merge") * 2
    requests = [
        request(bench, method, [names[(n + k) % len(names)] for k in range(2 + n % 2)], seed=n)
        for n, method in enumerate(methods)
    ]
    engine = Engine(bench, load=lambda _spec: bench.model)
    single, many, floor = seconds(
        bench,
        lambda: [engine.render(one) for one in requests],
        lambda: engine.render_many(requests),
        lambda: limit(bench, 20, pictures=10),
    )
    write(
        f"\nten requests of different LoRA sets: one by one {single.median:.3f} s, "
        f"together {many.median:.3f} s, {single.median / many.median:.2f} times faster (bar 2.0); "
        f"first {many.first:.3f} s; {many.median / floor.median:.2f} of the limit"
    )


def write(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", help="name of a model, or a folder")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cpu-time", action="store_true", help="count processor seconds, for a busy machine")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    bench = prepare(arguments)
    compare(bench)
    together(bench)


if __name__ == "__main__":
    main()
