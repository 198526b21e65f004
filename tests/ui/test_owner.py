"""A data folder belongs to one server at a time, and to nobody once that is dead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.server import ROOT
from ui.errors import FolderInUse
from ui.owner import Owner

HOLD = "import sys; from pathlib import Path; from ui.owner import Owner\n"
HOLD += "owner = Owner(Path(sys.argv[1]), 'http://127.0.0.1:7'); print('held', flush=True); sys.stdin.read()"


def test_the_second_is_refused_with_the_address_of_the_first(tmp_path: Path) -> None:
    first = Owner(tmp_path, "http://127.0.0.1:7860")
    with pytest.raises(FolderInUse, match=r"in use by the server at http://127.0.0.1:7860 \(process \d+\); open that"):
        Owner(tmp_path)
    first.release()
    first.release()
    second = Owner(tmp_path)
    with pytest.raises(FolderInUse, match="in use by the server without a page"):
        Owner(tmp_path, "http://127.0.0.1:7861")
    second.release()


@pytest.mark.parametrize("note", [b"", b"[]", b'{"pid": "x", "address": 7}', b"\xff", b"x" * 20_000])
def test_a_note_that_means_nothing_is_no_hindrance(note: bytes, tmp_path: Path) -> None:
    first = Owner(tmp_path)
    (tmp_path / ".server.json").write_bytes(note)
    with pytest.raises(FolderInUse, match="in use by the server"):
        Owner(tmp_path)
    first.release()
    (tmp_path / ".server.json").write_bytes(note)
    Owner(tmp_path).release()


def test_the_folder_of_a_server_that_was_killed_is_free(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(FolderInUse, match=f"at http://127.0.0.1:7 .process {holder.pid}."):
            Owner(tmp_path)
        holder.kill()
        holder.wait()
    assert (tmp_path / ".server.json").exists()
    Owner(tmp_path).release()


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".server.lock").mkdir()
    with pytest.raises(FolderInUse, match="cannot be locked"):
        Owner(tmp_path)
