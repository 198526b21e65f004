"""How threads wait is decided before torch is imported, by the user first; later, it is said that it is too late."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_SAYS = """
import json, os, sys, logging
{before}
from pipelines import environment
done = environment.prepare()
again = environment.prepare()
print(json.dumps([done, again, *map(os.environ.get, ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")), "torch" in sys.modules]))
"""
_NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY")


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if name not in _NAMES}
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**plain, **environment},
        capture_output=True,
        text=True,
        check=True,
    )


def test_threads_are_told_to_spin_for_a_moment_and_then_to_sleep() -> None:
    assert json.loads(run(_SAYS.format(before="")).stdout) == [True, True, "PASSIVE", "2000", False]


@pytest.mark.parametrize("name", _NAMES)
def test_a_user_who_has_decided_is_not_overruled(name: str) -> None:
    done, again, policy, spins, _ = json.loads(run(_SAYS.format(before=""), **{name: "5"}).stdout)
    assert (done, again) == (True, True)
    assert policy == ("5" if name == "OMP_WAIT_POLICY" else None)
    assert spins == ("5" if name == "GOMP_SPINCOUNT" else None)


def test_what_comes_too_late_says_so() -> None:
    """A module of torch's name stands in for it: whether it is there is all that is looked at."""
    ended = run(_SAYS.format(before="sys.modules['torch'] = logging"))
    assert json.loads(ended.stdout) == [False, True, "PASSIVE", "2000", True]
    assert "torch was imported before" in ended.stderr and "OMP_WAIT_POLICY=PASSIVE and GOMP" in ended.stderr


_WAY_IN = """
import os, runpy, sys
sys.argv = {arguments!r}
try:
    {run}
except SystemExit:
    pass
print(os.environ.get("OMP_WAIT_POLICY"), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("arguments", "way"),
    [
        (["app.py", "list", "schedulers"], "runpy.run_path('app.py', run_name='__main__')"),
        (["eval", "--help"], "runpy.run_module('eval', run_name='__main__')"),
    ],
    ids=["app.py", "eval"],
)
def test_every_way_in_decides_it_first(arguments: list[str], way: str) -> None:
    ended = run(_WAY_IN.format(arguments=arguments, run=way))
    assert ended.stdout.splitlines()[-1] == "PASSIVE False"
