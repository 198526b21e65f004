"""What is wrong with a server is told before anything heavy is imported."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from composer.errors import BadRequest
from tests.server import ROOT
from ui import early


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        port = there.getsockname()[1]
        with pytest.raises(BadRequest, match=f"port {port}: something listens there already; choose another --port"):
            early.bound("127.0.0.1", port)


def test_a_free_port_is_bound() -> None:
    (made,) = early.bound("127.0.0.1", 0)
    assert made.getsockname()[1] > 0
    made.close()


@pytest.mark.parametrize("listen", ["203.0.113.7", "no.such.name.invalid", "a" * 300])
def test_an_address_that_is_not_this_machines_is_told(listen: str) -> None:
    with pytest.raises(BadRequest, match="listen"):
        early.bound(listen, 0)


def test_a_data_folder_that_cannot_be_written_to_is_told(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    for folder, why in {
        tmp_path / "dangling": "is a link to nothing",
        tmp_path / "file": "is a file, not a folder",
        tmp_path / "file" / "below": "is a file, not a folder",
        tmp_path / "a\0b": "cannot be written to",
        Path("/proc/medley"): "cannot be written to",
    }.items():
        with pytest.raises(BadRequest, match=f"^--data .*{why}"):
            early.check_data(folder)
    early.check_data(tmp_path / "new" / "folder")
    assert (tmp_path / "new" / "folder").is_dir() and not list((tmp_path / "new" / "folder").iterdir())


def test_the_command_line_says_so_without_importing_what_takes_long(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    code = (
        "import sys; from pipelines.cli import main; import app\n"
        f"status = main(['ui', '--data', {str(tmp_path / 'dangling')!r}])\n"
        "heavy = {'torch', 'gradio', 'diffusers', 'transformers'} & sys.modules.keys()\n"
        "print(heavy, file=sys.stderr); sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is a link to nothing" in done.stderr and "set()" in done.stderr


def test_a_name_and_a_password_come_from_one_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(early.VARIABLE, raising=False)
    file = tmp_path / "auth"
    file.write_text("ada:from file\n")
    assert early.auth_of(None, None) is None
    assert early.auth_of("ada:secret", None) == "ada:secret"
    assert early.auth_of(None, file) == "ada:from file"
    with pytest.raises(BadRequest, match="--auth and --auth-file: .* stated twice"):
        early.auth_of("ada:secret", file)
    monkeypatch.setenv(early.VARIABLE, "ada:from outside")
    assert early.auth_of(None, None) == "ada:from outside"
    file.write_text("no colon")
    monkeypatch.delenv(early.VARIABLE)
    with pytest.raises(BadRequest, match="--auth-file: write USER:PASSWORD") as told:
        early.auth_of(None, file)
    assert "no colon" not in str(told.value)
    with pytest.raises(BadRequest, match="--auth-file .*gone: cannot be read"):
        early.auth_of(None, tmp_path / "gone")
