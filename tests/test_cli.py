"""The command line: what it prints, and that it stays light."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from composer import registry
from composer.record import RenderRecord
from composer.request import AdapterUse, Region
from pipelines import images
from pipelines.cli import main
from pipelines.images import Rendering
from tests.stand_ins import model_without_weights, two_loras

ROOT = Path(__file__).parents[1]


@pytest.fixture
def model(tmp_path: Path) -> str:
    return model_without_weights(tmp_path / "model")


@pytest.fixture(autouse=True)
def _zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two_loras(tmp_path, monkeypatch)


def picture(path: Path, model: str) -> Path:
    """Write a picture of ours, as if `switch` had rendered it."""
    record = RenderRecord(
        model=model,
        method="switch",
        parameters={"interval": 2, "legacy_offset": False},
        adapters=(AdapterUse(name="zorp", weight=0.5, text_encoder_weight=0.5, sha256=None),),
        prompt="zorp",
        negative_prompt="fog",
        width=64,
        height=64,
        num_inference_steps=6,
        guidance_scale=3.0,
        guidance_rescale=0.0,
        scheduler="ddim",
        seed=7,
        text_encoder_adapters="first",
        versions={"torch": "2"},
        dtype="float32",
        device="cpu",
        rows_per_call=2,
        unet_passes=6,
        unet_calls=6,
        seconds=0.5,
        pixels_sha256="0" * 64,
    )
    images.save(Rendering(Image.new("RGB", (64, 64)), record), path)
    return path


def test_listings_are_one_json_document_each(capsys: pytest.CaptureFixture[str]) -> None:
    listed: dict[str, list[dict[str, object]]] = {}
    for what in ("methods", "loras", "models", "schedulers"):
        assert main(["list", what, "--json"]) == 0
        listed |= json.loads(capsys.readouterr().out)
    assert {"name", "path", "category", "family", "triggers", "weight", "rank"} <= listed["loras"][0].keys()
    assert [(one["name"], one["rank"]) for one in listed["loras"]] == [("zorp", 2), ("trident", 3)]
    assert Path(str(listed["loras"][0]["path"])).is_file()
    assert listed["models"][0].keys() >= {"name", "path", "family"}
    assert [one["name"] for one in listed["methods"]] == list(registry.names())
    assert all(one.keys() >= {"name", "title", "parameters"} for one in listed["methods"])
    names = "ddim euler euler_a dpmpp_2m dpmpp_2m_karras dpmpp_sde unipc lcm"
    assert listed["schedulers"] == [{"name": name} for name in names.split()]


def test_listings_for_people_name_everything(capsys: pytest.CaptureFixture[str]) -> None:
    for what, word in (
        ("methods", "interval=5"),
        ("merges", "ssr"),
        ("loras", "zorp"),
        ("models", "tiny"),
        ("schedulers", "dpmpp_sde"),
    ):
        assert main(["list", what]) == 0
        assert word in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "passes", "rows"),
    [
        (["--method", "composite", "--lora", "zorp", "--lora", "trident"], 16, 32),
        (["--method", "switch", "--lora", "zorp", "--lora", "trident"], 8, 16),
        (["--method", "composite", "--set", "unconditional=mean", "--lora", "zorp", "--lora", "trident"], 16, 24),
        (["--method", "w_switch", "--lora", "zorp", "--words", "zorp=x"], 8, 16),
        (["--guidance", "1"], 8, 8),
        (["--count", "3"], 24, 48),
    ],
)
def test_a_dry_run_counts(
    options: list[str], passes: int, rows: int, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["render", "--prompt", "x", "--model", model, "--steps", "8", "--dry-run", "--json", *options]) == 0
    counted = json.loads(capsys.readouterr().out)
    assert (counted["unet_passes"], counted["unet_rows"]) == (passes, rows)
    assert list(Path.cwd().iterdir()) == []


def test_a_picture_brings_its_request_and_flags_change_it(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["render", "--from", str(picture(tmp_path / "p.png", model)), "--model", model, "--dry-run", "--json"]

    def asked(*options: str) -> dict[str, Any]:
        assert main([*command, *options]) == 0
        return json.loads(capsys.readouterr().out)["requests"][0]

    same = asked()
    assert (same["method"], same["seed"], same["num_inference_steps"], same["negative_prompt"]) == (
        "switch",
        7,
        6,
        "fog",
    )
    assert same["parameters"] == {"interval": 2, "legacy_offset": False}
    assert asked("--seed", "8") == same | {"seed": 8}
    assert asked("--set", "interval=3")["parameters"] == {"interval": 3, "legacy_offset": False}
    assert asked("--undesired", "fog")["undesired"] == "fog"
    assert uses(same)["words"] == ["zorp"] and uses(asked("--prompt", "the Zorp"))["words"] == ["zorp", "the zorp"]
    assert uses(asked("--words", "zorp=the,a"))["words"] == ["the", "a"]
    other = asked("--method", "merge")
    assert (other["parameters"], other["text_encoder_adapters"]) == ({"combine": "sum"}, "all")


def test_regions_are_typed_and_kept(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A box, a mask's file, what is there; of a picture with regions, only what is typed changes."""
    Image.new("L", (64, 64), 255).save(tmp_path / "mask.png")
    options = ["--method", "regional", "--lora", "zorp", "--lora", "trident", "--dry-run", "--json", "--model", model]
    regions = ["--region", "zorp=0,0,0.5,1", "--region-prompt", "zorp=fog", "--region", f"trident={tmp_path}/mask.png"]
    assert main(["render", "--prompt", "x", *options, *regions]) == 0
    asked = json.loads(capsys.readouterr().out)["requests"][0]
    one, other = (use["region"] for use in asked["adapters"])
    assert one == {"box": [0.0, 0.0, 0.5, 1.0], "mask": None, "prompt": "fog"}
    assert (other["box"], other["prompt"]) == (None, None) and other["mask"].startswith("data:image/png;base64,")

    record = images.read(picture(tmp_path / "p.png", model))
    assert isinstance(record, RenderRecord)
    placed = record.adapters[0].model_copy(update={"region": Region(box=(0, 0, 0.5, 1), prompt="fog")})
    again = record.model_copy(update={"method": "regional", "parameters": {}, "adapters": (placed,)})
    images.save(Rendering(Image.new("RGB", (64, 64)), again), tmp_path / "q.png")
    begun = ["render", "--from", str(tmp_path / "q.png"), "--model", model]
    command = [*begun, "--dry-run", "--json", "--region", "zorp=0.5,0,1,1"]
    assert main([*command, "--method", "lora_composer", "--set", "update=0"]) == 0
    assert json.loads(capsys.readouterr().out)["looks"] == 1
    assert main(command) == 0
    moved = uses(json.loads(capsys.readouterr().out)["requests"][0])["region"]
    assert moved == {"box": [0.5, 0.0, 1.0, 1.0], "mask": None, "prompt": "fog"}


def uses(request: dict[str, Any]) -> dict[str, Any]:
    return request["adapters"][0]


def test_inspect_tells_a_lora_from_a_picture(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for file, kind, key in (("zoo/zorp.safetensors", "lora", "ranks"), ("p.png", "picture", "seed")):
        picture(tmp_path / "p.png", model)
        assert main(["inspect", str(tmp_path / file), "--json"]) == 0
        assert key in json.loads(capsys.readouterr().out)[kind]
        assert main(["inspect", str(tmp_path / file)]) == 0
        assert key in capsys.readouterr().out


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    program = (
        "import sys; from pipelines.cli import main; main(['--help']); main(['render', '--help'])\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'gradio', 'PIL', 'rich'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else 0)"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "render" in done.stdout
    assert time.perf_counter() - started < 5.0  # a tenth of that on a machine at rest


def test_a_dry_run_loads_no_model_library(model: str) -> None:
    program = (
        "import sys; from pipelines.cli import main\n"
        f"render = ['render', '--prompt', 'zorp', '--model', {model!r}, '--lora', 'zorp', '--dry-run']\n"
        "names = 'merge', 'composite', 'w_switch', 'w_composite', 'loratorio', 'multlfg'\n"
        "code = sum(main([*render, '--method', name]) for name in names)\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'gradio'} & set(sys.modules)\n"
        "sys.exit(f'imported: {heavy}' if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_help_names_the_page_which_is_what_no_command_opens() -> None:
    done = subprocess.run([sys.executable, "app.py", "--help"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Commands:" in done.stdout and "Open the page" in done.stdout
    program = "import runpy, sys; sys.argv = ['app.py', '--help']; runpy.run_path('app.py', run_name='__main__')"
    quick = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program], cwd=ROOT, capture_output=True, check=False
    )
    assert b"gradio" not in quick.stderr and b"torch" not in quick.stderr
