"""The import rules: packages look left only, private names stay home, each heavy library has one home."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ORDER = ("lora_zoo", "composer", "pipelines", "eval", "ui", "app")
HOMES = {  # library -> where it may be imported
    "diffusers": ("pipelines/", "lora_zoo/train/"),
    "transformers": ("pipelines/", "lora_zoo/train/"),
    "open_clip": ("eval/", "lora_zoo/train/"),
    "gradio": ("app.py", "ui/"),
    "ray": ("pipelines/cluster/",),
    "fastapi": ("ui/",),
    "uvicorn": ("ui/",),
}
FILES = [ROOT / "app.py", *sorted(path for package in ORDER[:-1] for path in (ROOT / package).rglob("*.py"))]


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield every dotted name that a file imports, `from a import b` as a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{'.' * node.level}{node.module or ''}.{alias.name}" for alias in node.names)


def breaches(path: str, source: str) -> list[str]:
    """Return what one file, given by its path from the root, imports against the rules."""
    own = path.split("/")[0].removesuffix(".py")
    found: list[str] = []
    for name in imported(ast.parse(source)):
        package = name.split(".")[0]
        if package in ORDER and ORDER.index(package) > ORDER.index(own):
            found.append(f"{path}: {own} must not import {name}")
        if package in ORDER and package != own and any(part.startswith("_") for part in name.split(".")):
            found.append(f"{path}: {name} is private to {package}")
        if package in HOMES and not path.startswith(HOMES[package]):
            found.append(f"{path}: {package} is imported only in {' and '.join(HOMES[package])}")
        if name.startswith(".") or name == "eval":
            found.append(f"{path}: write the full name, from package.module import …, not {name}")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_imports_follow_the_rules(file: Path) -> None:
    assert breaches(file.relative_to(ROOT).as_posix(), file.read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("composer/plan.py", "from pipelines.engine import Engine"),
        ("lora_zoo/catalog.py", "import composer.request"),
        ("pipelines/engine.py", "from composer.plan import _hidden"),
        ("eval/run.py", "from gradio import Blocks"),
        ("eval/run.py", "from ui.service import Service"),
        ("lora_zoo/formats.py", "def f():\n    import diffusers"),
        ("composer/plan.py", "from . import request"),
        ("app.py", "import eval"),
    ],
)
def test_each_rule_bites(path: str, source: str) -> None:
    assert len(breaches(path, source)) == 1
