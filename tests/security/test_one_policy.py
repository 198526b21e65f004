"""One policy for all that comes from outside: `lora_zoo.foreign` opens, parses and compiles it, and nothing else does.

The whole of the product's code is read, and every place that could open a file, parse a document, run a pattern, decode
a picture or unpickle is found. Each must be in `lora_zoo/foreign`, or in the table below with the reason why what it
reads is not a stranger's. A line of the table that nothing needs any longer is a fault too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("lora_zoo", "composer", "pipelines", "eval", "ui", "app.py")
DOOR = "lora_zoo/foreign/"

#: Calls that read, parse, run or decode something, by the last two parts of what is called.
CALLS = {
    *(
        "json.load",
        "json.loads",
        "json.JSONDecoder",
        "yaml.full_load",
        "yaml.unsafe_load",
        "yaml.compose",
        "yaml.load",
        "yaml.safe_load",
        "yaml.safe_load_all",
        "yaml.load_all",
        "yaml.parse",
    ),
    *("tomllib.load", "tomllib.loads", "configparser.ConfigParser", "ElementTree.parse", "ElementTree.fromstring"),
    *(
        "os.open",
        "io.open",
        "codecs.open",
        "numpy.load",
        "numpy.fromfile",
        "numpy.memmap",
        "numpy.loadtxt",
        "numpy.genfromtxt",
        "mmap.mmap",
        "torch.load",
        "hub.load",
        "hub.load_state_dict_from_url",
    ),
    *("torch.load_file", "torch.safe_open", "safetensors.safe_open", "sqlite3.connect", "Image.open", "cv2.imread"),
    *("pickle.load", "pickle.loads", "marshal.loads", "shelve.open", "dill.load", "joblib.load"),
    *("runpy.run_path", "linecache.getlines", "fileinput.input", "minidom.parse", "minidom.parseString"),
    *("zipfile.ZipFile", "tarfile.open", "gzip.open", "gzip.decompress", "bz2.open", "lzma.open", "zlib.decompress"),
}
NAMES = {"open", "eval", "exec"}  # built in; imports of the others are seen as imports
METHODS = {"read_text", "read_bytes", "validate_json", "model_validate_json", "parse_raw", "parse_file"}
METHODS |= {"from_pretrained", "from_single_file", "torch_load"}
PATTERNS = {"compile", "match", "fullmatch", "search", "sub", "subn", "split", "findall", "finditer"}
ENGINES = {"re", "regex", "re2"}
#: Modules that run what they read.
UNSAFE = {"pickle", "cPickle", "marshal", "shelve", "dill", "joblib"}

CODE = "the program's own code"
SHIPPED = "a file that comes with the program, or with a library of its"
OURS = "what the program itself wrote"
LITERAL = "a pattern of the program's own, with escaped or own words in it"
SYSTEM = "a file of the system's"
#: File -> what is called there -> why that is not a stranger's.
ALLOWED: dict[str, dict[str, str]] = {
    "composer/words.py": {"re.compile": LITERAL},
    "eval/dino.py": {"torch.load_file": SHIPPED},
    "eval/judge/protocols.py": {"re.findall": LITERAL},
    "eval/machine.py": {"read_text": SYSTEM},
    "eval/memory.py": {"read_text": SYSTEM},
    "eval/outputs.py": {"read_bytes": OURS},
    "eval/page/elements.py": {"Image.open": OURS},
    "eval/page/sections.py": {"json.loads": SHIPPED, "read_text": SHIPPED},
    "eval/suites/composlora.py": {"json.loads": SHIPPED, "read_text": SHIPPED},
    "lora_zoo/index/store.py": {"json.loads": OURS},
    "lora_zoo/storage/atomic.py": {"os.open": "a folder, to force its names to the disk; a name, to claim it"},
    "lora_zoo/train/common.py": {"json.loads": OURS, "read_text": OURS, "torch.load": OURS},
    "lora_zoo/train/loras.py": {"from_pretrained": OURS},
    "lora_zoo/train/tokenizer.py": {"from_pretrained": OURS, "json.loads": OURS, "read_text": OURS},
    "lora_zoo/train/unet.py": {"from_pretrained": OURS, "torch.load": OURS},
    "lora_zoo/train/vae.py": {"from_pretrained": OURS},
    "pipelines/cards.py": {"json.loads": OURS},
    "pipelines/clip_tokens.py": {"gzip.decompress": SHIPPED, "read_bytes": SHIPPED},
    "pipelines/cli_exit.py": {"os.open": "the place that the system has for what nobody reads"},
    "pipelines/jobs/keys.py": {"re.compile": LITERAL, "re.findall": LITERAL},
    "pipelines/memory.py": {"read_text": SYSTEM},
    "pipelines/metadata/infotext.py": {"json.JSONDecoder": "values in a text, which is bounded and else stays text"},
    "pipelines/numbered.py": {"os.open": "a counter that is appended to and never read, checked to be a regular file"},
    "pipelines/revision.py": {"read_bytes": CODE},
    "pipelines/single_file.py": {"re.match": LITERAL},
    "pipelines/text.py": {"re.split": LITERAL},
    "pipelines/weight_files.py": {"safetensors.safe_open": "a file whose head was checked, and that is a regular one"},
    "ui/discreet.py": {"re.compile": LITERAL, "re.sub": LITERAL},
    "ui/early.py": {
        "open": "the user's own file with a password, which may be a pipe; a few thousand characters are read"
    },
    "ui/routes.py": {"read_text": SHIPPED},
    "ui/server.py": {"read_text": SHIPPED},
    "ui/walls/routes.py": {"re.compile": LITERAL},
    "ui/walls/tickets.py": {"json.loads": "the answer of gradio, in this process"},
}


def sources() -> Iterator[Path]:
    for name in PACKAGES:
        place = ROOT / name
        yield from [place] if place.is_file() else sorted(place.rglob("*.py"))


def uses(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the lines that read something, and what they call or hand on to be called."""
    names = dict(_renamed(tree))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (found := _call(node, names)):
            yield node.lineno, found
        elif isinstance(node, ast.Attribute) and (found := _named(node, names)):
            yield node.lineno, found
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((node.lineno, name) for name in _imported(node))


def _renamed(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield what imports call by another name, and its own."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname, alias.name.rpartition(".")[2]) for alias in node.names if alias.asname)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Yield what an import takes that runs code, or that is then called without the name of its module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name in UNSAFE)
        return
    module = (node.module or "").rpartition(".")[2]
    if module in UNSAFE:
        yield module
    for alias in node.names:
        taken = f"{module}.{alias.name}"
        if taken in CALLS or (module in ENGINES and alias.name in PATTERNS):
            yield taken


def _owner(function: ast.Attribute, names: Mapping[str, str]) -> str:
    owner = function.value
    last = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    return names.get(last, last)


def _named(function: ast.Attribute, names: Mapping[str, str]) -> str:
    """Return what an attribute is that reads something, whether it is called here or handed on."""
    owner = _owner(function, names)
    if owner == "files" and function.attr.startswith("read"):
        return ""  # the door itself
    if ast.unparse(function) == "safetensors.torch.load":
        return ""  # of bytes that were read, and without code
    called = f"{owner}.{function.attr}"
    return called if called in CALLS else function.attr if function.attr in METHODS else ""


def _call(call: ast.Call, names: Mapping[str, str]) -> str:
    """Return what a call is that reads something, or not, by what it is given."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id if function.id in NAMES and not _writes(call, 1) else ""
    if not isinstance(function, ast.Attribute):
        return ""
    owner = _owner(function, names)
    called = f"{owner}.{function.attr}"
    if owner in ENGINES and function.attr in PATTERNS:
        literal = bool(call.args) and isinstance(call.args[0], ast.Constant)
        return "" if literal else called
    opens = function.attr == "open" and called not in CALLS and owner != "webbrowser"
    return "open" if opens and not _writes(call, 0) else ""


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
        ("from pickle import loads", ["pickle", "pickle.loads"]),
        ("from json import loads", ["json.loads"]),
        ("from re import compile", ["re.compile"]),
        ("from safetensors.torch import load_file", ["torch.load_file"]),
        ("from PIL.Image import open", ["Image.open"]),
        ("from PIL import Image as Pillow\nPillow.open(path)", ["Image.open"]),
        ("import json as j\nj.loads(text)", ["json.loads"]),
        ("import numpy as np\nnp.load(path)", ["numpy.load"]),
        ("map(json.loads, lines)", ["json.loads"]),
        ("map(Path.read_text, paths)", ["read_text"]),
        ("io.open(path, 'w')", ["io.open"]),
        ("from lora_zoo.foreign import files as foreign\nforeign.read_text(path, 9)", []),
        ("eval(text)", ["eval"]),
        ("exec(text)", ["exec"]),
        ("CLIPTextModel.from_pretrained(folder)", ["from_pretrained"]),
    ],
)
def test_every_way_is_seen(source: str, what: list[str]) -> None:
    assert [found for _, found in uses(ast.parse(source))] == what


@pytest.mark.parametrize("what", sorted(CALLS))
def test_every_call_of_the_list_is_seen(what: str) -> None:
    assert [found for _, found in uses(ast.parse(f"a = {what}(b)"))] == [what]


@pytest.mark.parametrize("what", sorted(METHODS))
def test_every_method_of_the_list_is_seen(what: str) -> None:
    assert [found for _, found in uses(ast.parse(f"a = b.{what}(c)"))] == [what]


@pytest.mark.parametrize("what", sorted(f"{engine}.{call}" for engine in ENGINES for call in PATTERNS))
def test_every_way_to_run_a_pattern_is_seen(what: str) -> None:
    assert [found for _, found in uses(ast.parse(f"a = {what}(b, c)"))] == [what]
    assert not list(uses(ast.parse(f"a = {what}('a+', c)")))


def test_a_forbidden_use_in_a_file_is_told_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "made_up.py"
    path.write_text("import json\n\n\ndef read(text):\n    return json.loads(text)\n", "utf-8")
    assert found_in(path) == {"json.loads": [5]}
