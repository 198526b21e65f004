"""The command line: what it prints, what it refuses and how, and that it stays light."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import save_file

from composer import registry
from composer.errors import BadRequest
from composer.record import RenderRecord
from composer.request import AdapterUse, Region
from lora_zoo.catalog import Catalog, entry_for, write_catalog
from pipelines import images
from pipelines.cli import main
from pipelines.cli_flags import parse_lora, parse_settings, parse_size
from pipelines.images import Rendering

ROOT = Path(__file__).parents[1]
LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
LORAS = ("zorp", "trident")


@pytest.fixture
def model(tmp_path: Path) -> str:
    """Return a model folder with configurations and no weights: enough for all that happens before loading."""
    folder = tmp_path / "model"
    configs = {
        "unet": {
            "cross_attention_dim": 32,
            "block_out_channels": [32, 32],
            "sample_size": 16,
            "down_block_types": ["CrossAttnDownBlock2D"],
        },
        "vae": {"block_out_channels": [8, 8, 8]},
    }
    for part in ("tokenizer", "text_encoder", "unet", "vae", "scheduler"):
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps(configs.get(part, {})))
    (folder / "scheduler" / "scheduler_config.json").write_text("{}")
    return str(folder)


@pytest.fixture(autouse=True)
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in an empty folder, with a catalogue of two small LoRA files."""
    folder = tmp_path / "zoo"
    folder.mkdir()
    for rank, name in enumerate(LORAS, start=2):
        down, up = numpy.ones((rank, 32), "float32"), numpy.ones((32, rank), "float32")
        tensors = {f"{LAYER}.lora_down.weight": down, f"{LAYER}.lora_up.weight": up}
        save_file(tensors, folder / f"{name}.safetensors", {"modelspec.trigger_phrase": f"{name}, the {name}"})
    path = folder / "catalog.json"
    write_catalog([entry_for(folder / f"{name}.safetensors") for name in LORAS], path)
    catalogue = Catalog.load(path)
    monkeypatch.setattr(Catalog, "load", lambda *_: catalogue)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


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


MISTAKES = {
    "unknown LoRA": (["--lora", "zrop"], "'zorp'"),
    "unknown method": (["--method", "swich"], "'switch'"),
    "unknown scheduler": (["--scheduler", "eular"], "'euler'"),
    "unknown model": (["--model", "tinny"], "'tiny'"),
    "model folder without parts": (["--model", "."], "unet"),
    "unknown parameter": (["--method", "switch", "--lora", "zorp", "--set", "intervall=2"], "'interval'"),
    "parameter out of range": (["--method", "switch", "--lora", "zorp", "--set", "interval=0"], "interval"),
    "parameter without a value": (["--set", "interval"], "KEY=VALUE"),
    "parameter given twice": (["--set", "combine=sum", "--set", "combine=mean"], "twice"),
    "NaN weight": (["--lora", "zorp:nan"], "finite"),
    "NaN text-encoder weight": (["--lora", "zorp:1:nan"], "finite"),
    "infinite guidance": (["--guidance", "inf"], "finite"),
    "a weight that is no number": (["--lora", "zorp:much"], "'much'"),
    "the same LoRA twice": (["--lora", "zorp", "--lora", "zorp"], "zorp"),
    "size not divisible": (["--size", "60x64"], "try"),
    "size that is none": (["--size", "big"], "WIDTHxHEIGHT"),
    "no steps": (["--steps", "0"], "num_inference_steps"),
    "negative seed": (["--seed", "-1"], "seed"),
    "no pictures": (["--count", "0"], "--count"),
    "method without LoRAs": (["--method", "composite"], "LoRA"),
    "missing LoRA file": (["--lora", "nowhere/x.safetensors"], "nowhere/x.safetensors"),
    "missing picture": (["--from", "nowhere.png"], "nowhere.png"),
    "picture without a record": (["--from", "../plain.png"], "no record"),
    "LoRA file that is none": (["--lora", "../plain.png"], "safetensors"),
    "unknown text policy": (["--text-policy", "al"], "'all'"),
    "folder that is a file": (["--out", "../plain.png/sub"], "file"),
    "words without a LoRA": (["--words", "zorp=zorp"], "none is known"),
    "words of another LoRA": (["--lora", "zorp", "--words", "zrop=zorp"], "'zorp'"),
    "words that are none": (["--lora", "zorp", "--words", "zorp=a,,b"], "words.1"),
    "words given twice": (["--lora", "zorp", "--words", "zorp=a", "--words", "zorp=b"], "twice"),
    "words not in the prompt": (["--lora", "zorp", "--words", "zorp=zorb", "--method", "w_switch"], "'zorp'"),
    "no trigger words in the prompt": (["--lora", "trident", "--method", "w_composite"], "'the trident'"),
    "a region of another LoRA": (["--lora", "zorp", "--region", "zrop=0,0,1,1"], "'zorp'"),
    "a region of three sides": (["--lora", "zorp", "--region", "zorp=0,0,1"], "LEFT,TOP,RIGHT,BOTTOM"),
    "a region that is no file": (["--lora", "zorp", "--region", "zorp=mask.png"], "no file of this name"),
    "a region out of the picture": (["--lora", "zorp", "--region", "zorp=0,0,1,2"], "all from 0 to 1"),
    "a region given twice": (["--lora", "zorp", "--region", "zorp=0,0,1,1", "--region", "zorp=0,0,1,1"], "twice"),
    "a region that the method ignores": (["--lora", "zorp", "--region", "zorp=0,0,1,1"], "regional"),
    "a prompt without a region": (["--lora", "zorp", "--region-prompt", "zorp=x"], "--region zorp="),
    "a frequency that nobody measured": (
        ["--lora", "zorp", "--lora", "trident", "--method", "cmlora"],
        "zoo profile zorp",
    ),
    "undesired strength out of range": (["--undesired-strength", "2"], "undesired_strength"),
    "unknown option": (["--promt", "x"], "--prompt"),
}


@pytest.mark.parametrize(("options", "told"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_told_and_nothing_is_written(
    options: list[str], told: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    before = sorted(tmp_path.rglob("*"))
    assert main(["render", "--prompt", "zorp", "--model", model, *options]) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert said.out == ""
    assert "Traceback" not in said.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["render"], "--prompt"),
        (["list", "lora"], "'loras'"),
        (["inspect", "../zoo/zorp.safetensor"], "zorp.safetensors"),
        (["inspect", "../zoo/catalog.json"], "safetensors"),
        (["inspect", ".."], "PEFT"),
        (["rendr"], "rendr"),
    ],
)
def test_other_mistakes_are_told_too(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert said.out == ""


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
    command = ["render", "--from", str(picture(tmp_path / "p.png", model)), "--dry-run", "--json"]

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
    command = ["render", "--from", str(tmp_path / "q.png"), "--dry-run", "--json", "--region", "zorp=0.5,0,1,1"]
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


@pytest.mark.parametrize(
    ("text", "name", "weights"),
    [
        ("zorp", "zorp", ()),
        ("zorp:0.8", "zorp", (0.8,)),
        ("zorp:0.8:-0.5", "zorp", (0.8, -0.5)),
        ("dir/zorp.safetensors:1", "dir/zorp.safetensors", (1.0,)),
        ("C:\\loras\\zorp.safetensors:1:0", "C:\\loras\\zorp.safetensors", (1.0, 0.0)),
        ("C:\\loras\\zorp.safetensors", "C:\\loras\\zorp.safetensors", ()),
    ],
)
def test_a_lora_is_a_name_and_up_to_two_weights(text: str, name: str, weights: tuple[float, ...]) -> None:
    assert tuple(parse_lora(text).values()) == (name, *weights)


@settings(max_examples=40)
@given(st.from_regex(r"[a-z][a-z_0-9]{0,20}", fullmatch=True), st.floats(-9, 9), st.floats(-9, 9))
def test_weights_are_read_exactly(name: str, weight: float, text_weight: float) -> None:
    assert tuple(parse_lora(f"{name}:{weight!r}:{text_weight!r}").values()) == (name, weight, text_weight)


def test_settings_are_json_or_text() -> None:
    settings = parse_settings(("a=2", "b=true", "c=mean", "d=[1, 2]", "e=NaN", "f="))
    assert settings == {"a": 2, "b": True, "c": "mean", "d": [1, 2], "e": "NaN", "f": ""}


def test_sizes() -> None:
    assert parse_size("64x128") == (64, 128)
    for wrong in ("64", "64x", "64×64", "-8x8", "6.4x8"):
        with pytest.raises(BadRequest, match="WIDTHxHEIGHT"):
            parse_size(wrong)
