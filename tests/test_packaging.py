"""`pip install .`: a wheel holds all code, weights and pages, and its command runs from anywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("composer", "eval", "lora_zoo", "pipelines", "ui")
FILES = ("app.py", "pyproject.toml", "README.md", "LICENSE", *(path.name for path in ROOT.glob("requirements*.txt")))
NOT_OURS = ("__pycache__", "*.pyc", ".*")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build from a copy: building writes beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns(*NOT_OURS))
    for name in FILES:
        shutil.copy(ROOT / name, folder / "source" / name)
    build = f"from setuptools import build_meta; build_meta.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=folder / "source", check=True, capture_output=True, timeout=110)
    (found,) = folder.glob("medley-*.whl")
    return found


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    wanted = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    with zipfile.ZipFile(wheel) as packed:
        held = {name for name in packed.namelist() if ".dist-info/" not in name}
    assert held == wanted | {"app.py"}


def test_the_wheel_asks_for_what_the_project_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        (about,) = [packed.read(name).decode() for name in packed.namelist() if name.endswith("/METADATA")]
        (entry,) = [packed.read(name).decode() for name in packed.namelist() if name.endswith("/entry_points.txt")]
    wanted = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines()]
    names = {line.partition(">")[0] for line in wanted if line}
    asked = set(re.findall(r"^Requires-Dist: ([\w-]+)", about, re.MULTILINE))
    assert names <= asked and "Requires-Python: >=3.11" in about
    assert "medley = app:start" in entry


def test_what_was_installed_runs_from_anywhere(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as packed:
        packed.extractall(tmp_path / "site")
    (tmp_path / "work").mkdir()
    run = "import sys; from app import start; sys.argv = ['medley', *sys.argv[1:]]; start()"
    command = [sys.executable, "-c", run, "render", "--prompt", "zorp", "--lora", "zorp", "--dry-run"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    found = subprocess.run(command, cwd=tmp_path / "work", env=env, capture_output=True, text=True, timeout=110)
    assert (found.returncode, found.stderr) == (0, "")
    assert "unet_passes     20" in found.stdout
