"""The gate: a damaged, lying or hostile file is refused with the fault named, cheaply, before its data is read."""

import gzip
import io
import json
import lzma
import pickle
import random
import struct
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from lora_zoo import formats
from lora_zoo.errors import BadFile
from tests.lora_zoo.files import DIALECTS, LAYOUT, make

Head = dict[str, Any]
Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
DOWN, UP, ALPHA = f"{Q}.lora_down.weight", f"{Q}.lora_up.weight", f"{Q}.alpha"


def split(data: bytes) -> tuple[Head, bytes]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(head: Head | str, data: bytes) -> bytes:
    text = head if isinstance(head, str) else json.dumps(head)
    return struct.pack("<Q", len(text.encode())) + text.encode() + data


def valid() -> bytes:
    return safetensors.torch.save(make(DIALECTS["kohya"]).tensors)


def tensors(change: Callable[[dict[str, Tensor]], object]) -> bytes:
    made = make(DIALECTS["kohya"]).tensors
    change(made)
    return safetensors.torch.save(made)


def head(change: Callable[[Head], object]) -> bytes:
    found, data = split(valid())
    change(found)
    return joined(found, data)


def twice(key: str) -> bytes:
    found, data = split(valid())
    return joined(json.dumps(found)[:-1] + f", {json.dumps(key)}: {json.dumps(found[key])}}}", data)


def shift(found: Head, by: int) -> None:
    found[UP]["data_offsets"] = [offset + by for offset in found[UP]["data_offsets"]]


MALFORMED: dict[str, tuple[Callable[[], bytes], str]] = {
    "not a number": (lambda: tensors(lambda t: t[UP].fill_(torch.nan)), "not finite"),
    "infinite": (lambda: tensors(lambda t: t[DOWN].fill_(-torch.inf)), "not finite"),
    "absurdly large": (lambda: tensors(lambda t: t[UP].fill_(1e30)), r"holds 1e\+30"),
    "no down": (lambda: tensors(lambda t: t.pop(DOWN)), "has no down"),
    "no up": (lambda: tensors(lambda t: t.pop(UP)), "has no up"),
    "unknown extra keys": (lambda: tensors(lambda t: t.update({"extra.thing": torch.ones(1)})), "extra.thing"),
    "no tensors": (lambda: joined({}, b""), "no tensors|without LoRA"),
    "empty": (lambda: b"", "an empty file"),
    "int8": (lambda: tensors(lambda t: t.update({UP: t[UP].to(torch.int8)})), "not floating point"),
    "int64": (lambda: tensors(lambda t: t.update({UP: t[UP].long(), DOWN: t[DOWN].long()})), "not floating point"),
    "one half in fp8": (lambda: tensors(lambda t: t.update({UP: t[UP].to(torch.float8_e4m3fn)})), "do not belong"),
    "wrong shape": (lambda: tensors(lambda t: t.update({DOWN: torch.ones(1, 9)})), "do not fit"),
    "unequal ranks": (lambda: tensors(lambda t: t.update({UP: torch.ones(8, 5)})), "do not fit"),
    "rank 0": (lambda: tensors(lambda t: t.update({DOWN: torch.ones(0, 8)})), "a tensor of nothing"),
    "three dimensions": (lambda: tensors(lambda t: t.update({DOWN: torch.ones(1, 8, 2)})), "do not fit"),
    "alpha not a number": (
        lambda: tensors(lambda t: t[ALPHA].fill_(torch.nan)),
        "alpha holds values that are not finite",
    ),
    "alpha 1e38": (lambda: tensors(lambda t: t[ALPHA].fill_(1e38)), "alpha is not one number"),
    "negative alpha": (lambda: tensors(lambda t: t[ALPHA].fill_(-1)), "alpha is not one number"),
    "truncated": (lambda: valid()[:-5], "lie outside the file"),
    "trailing bytes": (lambda: valid() + b"PK\x03\x04", "4 bytes at the end belong to no tensor"),
    "key twice": (lambda: twice(DOWN), "a key is stated twice, 'lora_unet"),
    "overlap": (lambda: head(lambda h: shift(h, -4)), "overlap|leave a gap"),
    "gap": (lambda: head(lambda h: h.pop(ALPHA)), "leave a gap|at the end"),
    "outside": (lambda: head(lambda h: shift(h, 1 << 20)), "lie outside the file|leave a gap"),
    "reversed offsets": (lambda: head(lambda h: h[UP]["data_offsets"].reverse()), "not a beginning and an end"),
    "bytes do not add up": (lambda: head(lambda h: h[UP].update(shape=[8, 3])), "does not match its"),
    "a tensor of nothing": (
        lambda: head(lambda h: h.update(x={"dtype": "F32", "shape": [0, 1 << 62], "data_offsets": [0, 0]})),
        "a tensor of nothing",
    ),
    "declares too much": (
        lambda: head(lambda h: h[UP].update(shape=[1 << 40, 1 << 40], data_offsets=[0, 1 << 82])),
        "declares more than",
    ),
    "unknown type": (lambda: head(lambda h: h[UP].update(dtype="C64")), "'C64' is not known"),
    "unknown field": (lambda: head(lambda h: h[UP].update(scale=2)), "'scale'"),
    "control characters": (lambda: head(lambda h: h.update({"a\0b": h.pop(UP)})), "control characters"),
    "text order override": (lambda: head(lambda h: h.update({"a\u202eb": h.pop(UP)})), "control characters"),
    "not in normal form": (lambda: head(lambda h: h.update({"cafe\u0301": h.pop(UP)})), "normal form"),
    "half a character": (lambda: head(lambda h: h.update(__metadata__={"a": "\ud800"})), "half of a character"),
    "deep JSON": (lambda: joined('{"a":' * 50_000 + "1" + "}" * 50_000, b""), "nested more than 64 deep"),
    "NaN in JSON": (lambda: joined('{"a": NaN}', b""), "NaN is not a number"),
    "UTF-16": (lambda: struct.pack("<Q", 4) + "{}".encode("utf-16-le"), "not JSON"),
    "no header": (lambda: struct.pack("<Q", 0) + b"{}", "0 bytes"),
    "header of 2^63": (lambda: struct.pack("<Q", 1 << 63) + b"{}", "9,223,372,036,854,775,808 bytes"),
    "header over the limit": (lambda: struct.pack("<Q", 17 << 20) + b"{" + bytes(17 << 20), "are allowed"),
    "pickle": (lambda: pickle.dumps({"a": 1}), "a pickle"),
    "zip": (lambda: b"PK\x03\x04" + bytes(40), "a zip archive"),
    "web page": (lambda: b"<!DOCTYPE html><html></html>", "a web page"),
    "LFS pointer": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_file_is_refused_by_its_fault(case: str, tmp_path: Path) -> None:
    content, fault = MALFORMED[case]
    path = tmp_path / "a.safetensors"
    path.write_bytes(content())
    with pytest.raises(BadFile, match=fault) as error:
        formats.read(path, LAYOUT)
    assert str(path) in str(error.value)
    assert len(str(error.value)) < 2000


@pytest.mark.parametrize("suffix", ["safetensors", "pt", "ckpt", "bin"])
def test_torchs_own_files_are_refused_unopened_whatever_their_name(suffix: str, tmp_path: Path) -> None:
    harm = Runs(tmp_path / "ran")
    path = tmp_path / f"a.{suffix}"
    torch.save({"a": harm}, path)
    assert zipfile.is_zipfile(path)
    legacy = tmp_path / f"b.{suffix}"
    legacy.write_bytes(pickle.dumps(harm, protocol=2))
    for file in (path, legacy):
        with pytest.raises(BadFile, match="which can run code"):
            formats.read(file, LAYOUT)
    assert not (tmp_path / "ran").exists()


class Runs:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def archive(rng: random.Random, content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as packed:
        packed.writestr(rng.choice(["archive/data.pkl", "data.pkl", "../x", "a" * 200]), content)
    return file.getvalue()


def tape(rng: random.Random, content: bytes) -> bytes:
    file, entry = io.BytesIO(), tarfile.TarInfo("data.pkl")
    entry.size = len(content)
    with tarfile.open(fileobj=file, mode="w") as packed:
        packed.addfile(entry, io.BytesIO(content))
    return rng.choice([bytes, gzip.compress, lzma.compress])(file.getvalue())


def hostile(rng: random.Random, marker: Path) -> bytes:
    """Return one of many files that would run code if a loader of pickles or archives had it."""
    harm = pickle.dumps([Runs(marker), rng.randbytes(rng.randrange(50))], protocol=rng.randrange(6))
    length = struct.pack("<Q", len(harm))
    forms: list[Callable[[], bytes]] = [
        *(lambda: harm, lambda: archive(rng, harm), lambda: tape(rng, harm), lambda: joined("{}", harm)),
        *(lambda: length + harm, lambda: b"{" + harm, lambda: length + b"{" + harm),
        *(lambda: valid() + harm, lambda: harm + valid()),
        *(lambda: valid() + archive(rng, harm), lambda: archive(rng, harm) + valid()),
    ]
    return rng.choice(forms)()


def test_500_files_that_would_run_code_are_refused_unopened(tmp_path: Path) -> None:
    rng, marker = random.Random(7), tmp_path / "ran"
    for number in range(500):
        path = tmp_path / f"a.{('safetensors', 'pt', 'ckpt', 'bin', 'zip')[number % 5]}"
        path.write_bytes(hostile(rng, marker))
        with pytest.raises(BadFile):
            formats.read(path, LAYOUT)
        path.unlink()
    assert not marker.exists()


@pytest.mark.parametrize(
    "start", [b"", joined({"a": {"dtype": "F16", "shape": [50_000_000_000], "data_offsets": [0, 10**11]}}, b"")]
)
def test_100_gigabytes_are_refused_at_once(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + 10**11)
    tracemalloc.start()
    fastest = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        with pytest.raises(BadFile, match="is no adapter"):
            formats.read(path, LAYOUT)
        fastest = min(fastest, time.perf_counter() - began)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fastest < 0.05
    assert peak < 16 << 20
