"""Remake what the zoo ships: `python -m lora_zoo.train vae|clip|detectors|unet|decoder|loras|all`, each resumable."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

PARTS = ("vae", "clip", "detectors", "unet", "decoder", "loras")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lora_zoo.train", description=__doc__)
    parser.add_argument("part", choices=(*PARTS, "all"), help="what to train; `all` takes the parts in order")
    parser.add_argument("names", nargs="*", help="for loras: only these concepts")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the checkpoints")
    parser.add_argument("--threads", type=int, default=0, help="processor threads; 0 leaves torch's own choice")
    chosen = parser.parse_intermixed_args()  # names may follow options
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if chosen.threads:
        import torch

        torch.set_num_threads(chosen.threads)
    for part in PARTS if chosen.part == "all" else (chosen.part,):
        _train(part, chosen.runs, chosen.names)


def _train(part: str, runs: Path, names: list[str]) -> None:
    if part == "loras":
        from lora_zoo.train import loras
        from lora_zoo.train.recipes import RECIPES, recipe

        for one in [recipe(n) for n in names] or RECIPES:
            loras.train_once(one, runs)
        return
    if part == "decoder":
        from lora_zoo.train import vae

        vae.refine(runs)
        return
    from importlib import import_module

    import_module(f"lora_zoo.train.{part}").train(runs)


if __name__ == "__main__":
    main()
