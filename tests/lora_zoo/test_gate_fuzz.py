"""Structure-aware mutants of sound files of every kind: nothing half-read gets through.

A mutant may be accepted only if it gives the very same deltas. Two mutations cannot be told from a file in its own
right and are left out: exchanging the data of two tensors of one shape, and relabelling all half-precision tensors at
once. The digest, which the catalogue keeps, tells those apart.
"""

import io
import json
import random
import resource
import struct
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lora_zoo import formats
from lora_zoo.adapter import BaseLayer, ModelLayout
from lora_zoo.errors import BadFile
from lora_zoo.header import parse
from tests.lora_zoo.test_gate import Head, joined, split
from tests.lora_zoo.test_kinds import parts_of

SHAPE = (12, 8, 3, 3)
WEIGHT = torch.randn(SHAPE, generator=torch.Generator().manual_seed(1))
FUZZED = ModelLayout({"unet": {"conv_in": SHAPE, "conv_out": SHAPE}}, lambda component, path: BaseLayer(WEIGHT, None))
KINDS = (
    "lora",
    "tucker",
    "loha",
    "loha-tucker",
    "lokr-half",
    "lokr-tucker",
    "full",
    "dora-peft",
    "ia3-out",
    "oft",
    "glora",
)


def file_of(kind: str) -> bytes:
    half = {
        f"lora_unet_{layer}.{name}": part.half() if part.is_floating_point() else part
        for layer in ("conv_in", "conv_out")
        for name, part in (parts_of(kind, SHAPE) | {"alpha": torch.tensor(3.0 if layer == "conv_in" else 5.0)}).items()
    }
    return safetensors.torch.save(half, {"format": "pt"})


def rename(found: Head, key: str, rng: random.Random) -> None:
    found[rng.choice([key + "x", key.replace("conv_in", "conv_out"), key[:-1], "x", ""])] = found.pop(key)


def reshape(found: Head, key: str, rng: random.Random) -> None:
    shape = found[key]["shape"]
    permuted = rng.sample(shape, len(shape))
    strange = rng.choice([[], [0], shape + [1], shape[:-1], [-1], [1.0], [True], [1 << 70], None, "8"])
    found[key]["shape"] = rng.choice([permuted, strange])


def relabel(found: Head, key: str, rng: random.Random) -> None:
    found[key]["dtype"] = rng.choice(["F32", "BF16", "I16", "I32", "F8_E4M3", "BOOL", "X", "f16", None, 3])


def move(found: Head, key: str, rng: random.Random) -> None:
    found[key]["data_offsets"] = [offset + rng.choice([-8, -2, 0, 2, 8]) for offset in found[key]["data_offsets"]]


def drop(found: Head, key: str, rng: random.Random) -> None:
    del found[key]


def add_nothing(found: Head, key: str, rng: random.Random) -> None:
    found[rng.choice(["x", f"{key}.x"])] = {"dtype": "F16", "shape": [0, 1 << 62], "data_offsets": [0, 0]}


def annotate(found: Head, key: str, rng: random.Random) -> None:
    found["__metadata__"] = rng.choice([{"a": 1}, [], {"a": None}, {"note": "harmless"}, 7])


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def extend(data: bytes, rng: random.Random) -> bytes:
    return data + rng.randbytes(rng.randint(1, 9))


def restate_length(data: bytes, rng: random.Random) -> bytes:
    by = rng.choice([-9, -1, 1, 9, 1 << 31, 1 << 62])
    return struct.pack("<Q", int.from_bytes(data[:8], "little") + by) + data[8:]


def flip(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(8 + int.from_bytes(data[:8], "little"))
    return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]


def repeat(data: bytes, rng: random.Random) -> bytes:
    found, payload = split(data)
    key = rng.choice(list(found))
    return joined(json.dumps(found)[:-1] + f", {json.dumps(key)}: {json.dumps(found[key])}}}", payload)


def spoil(data: bytes, rng: random.Random) -> bytes:
    """Make a value of one tensor infinite, undefined or absurd."""
    found, payload = split(data)
    end = rng.choice([entry["data_offsets"][1] for entry in found.values() if entry.get("dtype") == "F16"])
    value = struct.pack("<e", rng.choice([float("nan"), float("inf"), 6e4]))
    return joined(found, payload[: end - 2] + value + payload[end:])


IN_HEAD = (rename, reshape, reshape, relabel, move, drop, add_nothing, annotate)
IN_BYTES = (cut, extend, restate_length, flip, flip, repeat, spoil)


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Change one thing of a valid file."""
    chosen = rng.randrange(len(IN_HEAD) + len(IN_BYTES))
    if chosen >= len(IN_HEAD):
        return IN_BYTES[chosen - len(IN_HEAD)](data, rng)
    found, payload = split(data)
    IN_HEAD[chosen](found, rng.choice([name for name in found if name != "__metadata__"]), rng)
    return joined(found, payload)


def fuzz(count: int, path: Path, seed: int) -> int:
    """Read mutants; return how many were accepted, each with the deltas of the file it was made from."""
    rng = random.Random(seed)
    files = {kind: file_of(kind) for kind in KINDS}
    wanted: dict[str, dict[str, Tensor]] = {}
    accepted = 0
    for number in range(count):
        kind = KINDS[number % len(KINDS)]
        if kind not in wanted:
            path.write_bytes(files[kind])
            wanted[kind] = {name: d.dense() for name, d in formats.read(path, FUZZED).component("unet").items()}
        mutant = mutated(files[kind], rng)
        path.write_bytes(mutant)
        try:
            found = formats.read(path, FUZZED).component("unet")
        except BadFile:
            continue
        accepted += 1
        assert found.keys() == wanted[kind].keys(), (kind, mutant[:2000])
        for name, delta in found.items():
            assert torch.equal(delta.dense(), wanted[kind][name]), (kind, name, mutant[:2000])
    return accepted


def peak() -> int:
    """Return the most memory that this process has taken so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def test_no_mutant_is_accepted_unless_it_means_the_same(tmp_path: Path) -> None:
    assert fuzz(300, tmp_path / "a.safetensors", seed=20) < 60


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(20, 40))
def test_no_mutant_of_100000_is_accepted_unless_it_means_the_same(seed: int, tmp_path: Path) -> None:
    """Twenty parts of 5,000 each, so that they can be run apart."""
    fuzz(500, tmp_path / "a.safetensors", seed=-seed)
    before = peak()
    assert fuzz(5_000, tmp_path / "a.safetensors", seed) < 1000
    assert peak() - before < 64 << 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_mutated_heads_are_refused_or_mean_the_same() -> None:
    """Bytes of the head are changed anyhow; no reading may fail in another way, nor keep memory."""
    rng, path = random.Random(21), Path("a.safetensors")
    files = [file_of(kind) for kind in KINDS]
    sound = [parse(io.BytesIO(data), len(data), path) for data in files]
    refused, before = 0, 0
    for number in range(1_000_000):
        mutant = bytearray(files[number % len(KINDS)])
        end = 8 + int.from_bytes(mutant[:8], "little")
        for _ in range(rng.choice((1, 1, 2, 8))):
            mutant[rng.randrange(end)] = rng.randrange(256)
        try:
            found = parse(io.BytesIO(mutant), len(mutant), path)
        except BadFile:
            refused += 1
        else:
            wanted = sound[number % len(KINDS)].tensors
            assert {(t.begin, t.end) for t in found.tensors.values()} == {(t.begin, t.end) for t in wanted.values()}
        if number == 10_000:
            before = peak()
    assert refused > 500_000
    assert peak() - before < 64 << 20
