"""One policy for all that comes from outside: `lora_zoo.foreign` opens, parses and compiles it, and nothing else does.

The whole of the product's code is read, and every place that could open a file, parse a document, run a pattern, decode
a picture or unpickle is found. Each must be in `lora_zoo/foreign`, or in the table below with the reason why what it
reads is not a stranger's. A line of the table that nothing needs any longer is a fault too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("lora_zoo", "composer", "pipelines", "eval", "ui", "app.py")
DOOR = "lora_zoo/foreign/"

#: Calls that read, parse, run or decode something, by the last two parts of what is called.
CALLS = {
    *("json.load", "json.loads", "yaml.load", "yaml.safe_load", "yaml.safe_load_all", "yaml.load_all", "yaml.parse"),
    *("tomllib.load", "tomllib.loads", "configparser.ConfigParser", "ElementTree.parse", "ElementTree.fromstring"),
    *("os.open", "io.open", "codecs.open", "np.load", "numpy.load", "np.fromfile", "torch.load", "torch.hub"),
    *("torch.load_file", "torch.safe_open", "safetensors.safe_open", "sqlite3.connect", "Image.open", "Pillow.open"),
    *("pickle.load", "pickle.loads", "marshal.loads", "shelve.open", "dill.load", "joblib.load"),
    *("zipfile.ZipFile", "tarfile.open", "gzip.open", "gzip.decompress", "bz2.open", "lzma.open", "zlib.decompress"),
}
NAMES = {"open", "safe_open", "load_file", "eval", "exec"}
METHODS = {"read_text", "read_bytes", "validate_json", "model_validate_json", "parse_raw", "parse_file"}
METHODS |= {"from_pretrained", "from_single_file", "torch_load"}
PATTERNS = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
ENGINES = {"re", "regex", "re2"}

CODE = "the program's own code"
SHIPPED = "a file that comes with the program, or with a library of its"
OURS = "what the program itself wrote"
LITERAL = "a pattern of the program's own, with escaped or own words in it"
TYPED = "what the user typed"
#: File -> what is called there -> why that is not a stranger's.
ALLOWED: dict[str, dict[str, str]] = {
    "composer/words.py": {"re.compile": LITERAL},
    "eval/dino.py": {"load_file": SHIPPED},
    "eval/judge/protocols.py": {"re.findall": LITERAL},
    "eval/machine.py": {"read_text": "a file of the system's"},
    "eval/memory.py": {"read_text": "a file of the system's"},
    "eval/outputs.py": {"read_bytes": OURS, "validate_json": OURS},
    "eval/page/document.py": {"read_text": OURS},
    "eval/page/elements.py": {"Image.open": OURS},
    "eval/page/sections.py": {"json.loads": SHIPPED, "read_text": SHIPPED},
    "eval/report.py": {"read_text": OURS},
    "eval/suites/composlora.py": {"json.loads": SHIPPED, "read_text": SHIPPED},
    "lora_zoo/index/store.py": {"json.loads": OURS, "sqlite3.connect": OURS},
    "lora_zoo/train/common.py": {"json.loads": OURS, "read_text": OURS, "torch.load": OURS},
    "lora_zoo/train/loras.py": {"from_pretrained": OURS},
    "lora_zoo/train/tokenizer.py": {"from_pretrained": OURS, "json.loads": OURS, "read_text": OURS},
    "lora_zoo/train/unet.py": {"from_pretrained": OURS, "torch.load": OURS},
    "lora_zoo/train/vae.py": {"from_pretrained": OURS},
    "pipelines/cards.py": {"json.loads": OURS},
    "pipelines/clip_tokens.py": {"gzip.decompress": SHIPPED, "read_bytes": SHIPPED},
    "pipelines/cluster/renderer.py": {"read_bytes": CODE},
    "pipelines/images.py": {"os.open": "a folder, to force its names to the disk"},
    "pipelines/jobs/ledger.py": {"sqlite3.connect": OURS},
    "pipelines/revision.py": {"read_bytes": CODE},
    "pipelines/single_file.py": {"re.match": LITERAL},
    "pipelines/text.py": {"re.split": LITERAL},
    "pipelines/weight_files.py": {"safe_open": "a file whose head was checked, and that is a regular one"},
    "ui/base.py": {"sqlite3.connect": OURS},
    "ui/routes.py": {"read_text": SHIPPED},
    "ui/server.py": {"read_text": SHIPPED},
}


def sources() -> Iterator[Path]:
    for name in PACKAGES:
        place = ROOT / name
        yield from [place] if place.is_file() else sorted(place.rglob("*.py"))


def uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the lines that read something, and what they call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (found := _use(node)):
            yield node.lineno, found
        elif isinstance(node, ast.Import | ast.ImportFrom):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            yield from ((node.lineno, name) for name in modules if name in ("pickle", "marshal", "shelve", "dill"))


def _use(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Name):
        return function.id if function.id in NAMES and not _writes(call, 1) else ""
    if not isinstance(function, ast.Attribute):
        return ""
    owner = function.value
    last = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    called = f"{last}.{function.attr}"
    if last == "files" and function.attr.startswith("read"):
        return ""  # the door itself
    if ast.unparse(function) == "safetensors.torch.load":
        return ""  # of bytes that were read, and without code
    if last in ENGINES and function.attr in PATTERNS:
        literal = bool(call.args) and isinstance(call.args[0], ast.Constant)
        return "" if literal else called
    if called in CALLS:
        return called
    if function.attr in METHODS:
        return function.attr
    if function.attr == "open" and not _writes(call, 0) and last != "webbrowser":
        return called if last in ("Image", "Pillow") else "open"
    return ""


def _writes(call: ast.Call, place: int) -> bool:
    """Tell whether a call of `open` states a mode that makes a file."""
    modes = [word.value for word in call.keywords if word.arg == "mode"] or call.args[place : place + 1]
    return any(isinstance(mode, ast.Constant) and str(mode.value)[:1] in tuple("wxa") for mode in modes)


def found_in(path: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for line, what in uses(ast.parse(path.read_text("utf-8"))):
        found.setdefault(what, []).append(line)
    return found


@pytest.mark.parametrize("path", list(sources()), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_comes_from_outside_comes_by_the_one_door(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    if name.startswith(DOOR):
        return
    found, allowed = found_in(path), ALLOWED.get(name, {})
    beside = [f"{name}:{line}: {what}" for what, lines in found.items() if what not in allowed for line in lines]
    assert not beside, f"read by lora_zoo.foreign, or say in ALLOWED why it is no stranger's: {beside}"
    assert not set(allowed) - set(found), "a line of ALLOWED that nothing needs any longer"


def test_the_table_names_files_that_there_are() -> None:
    assert not [name for name in ALLOWED if not (ROOT / name).is_file()]


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("open(path)", ["open"]),
        ("open(path, 'wb')", []),
        ("path.open('rb')", ["open"]),
        ("path.open('w')", []),
        ("path.read_text()", ["read_text"]),
        ("re.compile(r'a+')", []),
        ("re.compile(text)", ["re.compile"]),
        ("re.match(f'{a}', b)", ["re.match"]),
        ("json.loads(text)", ["json.loads"]),
        ("yaml.safe_load(text)", ["yaml.safe_load"]),
        ("PIL.Image.open(path)", ["Image.open"]),
        ("safetensors.torch.load_file(path)", ["torch.load_file"]),
        ("torch.load(path)", ["torch.load"]),
        ("sqlite3.connect(path)", ["sqlite3.connect"]),
        ("Kind.model_validate_json(text)", ["model_validate_json"]),
        ("files.read_text(path, 9)", []),
        ("safetensors.torch.load(data)", []),
        ("import pickle", ["pickle"]),
        ("CLIPTextModel.from_pretrained(folder)", ["from_pretrained"]),
    ],
)
def test_every_way_is_seen(source: str, what: list[str]) -> None:
    assert [found for _, found in uses(ast.parse(source))] == what
