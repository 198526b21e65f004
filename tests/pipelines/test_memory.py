"""Freed memory is kept: seen in a process of its own, for an allocator is told once for all."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

COUNT = """
import resource, sys
from pipelines.memory import keep_freed
kept = keep_freed() if sys.argv[1] == "keep" else None
def faults(): return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step(): return len([bytearray(b"x") * (4 << 20) for _ in range(10)])
for _ in range(3): step()
before = faults()
for _ in range(10): step()
print(kept, faults() - before)
"""


def counted(how: str, **environment: str) -> tuple[str, int]:
    """Return what `keep_freed` said, and how many pages ten steps took from the system, of ten arrays of 4 MB each."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    ran = subprocess.run(
        [sys.executable, "-c", COUNT, how], env=clean | environment, capture_output=True, text=True, check=True
    )
    said, pages = ran.stdout.split()
    return said, int(pages)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator that is told")
def test_arrays_of_the_same_size_take_no_new_pages() -> None:
    _, usual = counted("leave")
    said, kept = counted("keep")
    assert said == "True"
    assert usual > 10 * 5 * 1024  # an array has 1,024 pages
    assert kept < 1024


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator that is told")
def test_what_the_user_has_set_stays() -> None:
    said, pages = counted("keep", MALLOC_MMAP_THRESHOLD_="131072")
    assert said == "False"
    assert pages > 10 * 5 * 1024


HOLES = """
import sys
from pipelines import memory
kept = memory.keep_freed() if sys.argv[1] == "keep" else None
blocks = [bytearray(1 << 20) for _ in range(800)]
for block in blocks: block[:] = b"x" * len(block)
pieces = blocks[1::2]  # what is in use lies between what is freed, so the top never shrinks
del blocks, block
held = memory._free()
print(kept, held >> 20, memory.give_back(), memory._free() >> 20, memory.give_back())
"""


@pytest.mark.thorough
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc's allocator that is told")
def test_freed_memory_between_what_is_in_use_is_given_back() -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    for how, expected in (("keep", ("True", "True")), ("leave", ("None", "False"))):
        ran = subprocess.run([sys.executable, "-c", HOLES, how], env=clean, capture_output=True, text=True, check=True)
        kept, held, gave, left, again = ran.stdout.split()
        assert (kept, gave, again) == (*expected, "False")
        if how == "keep":
            assert int(held) >= 400 and int(left) < 100  # MB
