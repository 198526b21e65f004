"""The options of every command that loads a model: where its LoRAs are, and how the model is run.

They are plain values, so that the other processes of a batch can be given them and make an engine of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lora_zoo.library import Library
from pipelines import cli_zoo_commands
from pipelines.engine import Engine
from pipelines.runtime import Runtime
from pipelines.sources import ZooSource


@dataclass(frozen=True)
class EngineFlags:
    """`--zoo`, `--dtype`, `--attention`, `--offload`, `--vae-tiling` and `--wildcards` as typed."""

    zoos: tuple[Path, ...] = ()
    runtime: Runtime = Runtime()
    wildcards: Path | None = None  # folder of values for `__NAME__` in prompts

    def library(self) -> Library:
        """Return the LoRAs that can be named, the folders scanned; what a scan found new is told on stderr."""
        return cli_zoo_commands.library(self.zoos)

    def check_runtime(self) -> None:
        """Refuse what the machine cannot do, without loading a model; what is always done is not tried.

        Raises:
            BadRequest: The type, attention or offloading asked for cannot work here.
        """
        if self.runtime.dtype != "auto" or self.runtime.attention == "xformers" or self.runtime.offload != "none":
            from pipelines import devices  # torch with it, which takes seconds

            devices.check_at_hand(self.runtime)

    def engine(self, library: Library | None = None) -> Engine:
        """Return an engine that takes LoRAs from a library, by default from `library()`."""
        source = ZooSource(self.library() if library is None else library)
        return Engine(source, runtime=self.runtime, wildcards=self.wildcards)


def engine_flags(
    zoos: Sequence[Path] | None,
    dtype: str,
    attention: str,
    offload: str,
    vae_tiling: bool,
    wildcards: Path | None = None,
) -> EngineFlags:
    """Return the options as one value; a word that is no choice is an error that names the nearest."""
    return EngineFlags(tuple(zoos or ()), Runtime(dtype, attention, offload, vae_tiling), wildcards)
