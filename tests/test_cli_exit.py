"""How commands end: by signals, without a reader, with arguments of any bytes; never with a traceback."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import typer

from pipelines import cli_exit, cli_output
from pipelines.cli_exit import Stopped

ROOT = Path(__file__).parents[1]
APP = [sys.executable, str(ROOT / "app.py")]
SLOW = """
import sys, time
sys.path.insert(0, {root!r})
from pipelines.cli_exit import leave, run
import typer
app = typer.Typer()

@app.command()
def wait() -> None:
    print("begun", flush=True)
    time.sleep(100)

leave(run(app, [], "x"))
"""


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, error = process.communicate(timeout=60)
    return process.returncode, error.decode()


def slow(**how: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", SLOW.format(root=str(ROOT))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)  # type: ignore[call-overload]
    assert process.stdout is not None and process.stdout.readline() == b"begun\n"
    return process


@pytest.mark.parametrize(
    ("number", "code", "said"),
    [
        (signal.SIGINT, 130, "stopped by Ctrl-C\n"),
        (signal.SIGTERM, 143, "stopped by SIGTERM\n"),
        (signal.SIGHUP, 129, "stopped by SIGHUP: its terminal is closed\n"),
    ],
)
def test_a_signal_ends_a_command_in_a_line(number: int, code: int, said: str) -> None:
    process = slow()
    process.send_signal(number)
    assert ended(process) == (code, said)


def test_what_was_to_be_ignored_is_ignored() -> None:
    """As `nohup` has it: a terminal that is closed does not end the command."""
    process = slow(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (143, "stopped by SIGTERM\n")


def app_of(act: object) -> typer.Typer:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(act)  # type: ignore[type-var]
    return app


def test_a_stop_reaches_what_holds_something(capsys: pytest.CaptureFixture[str]) -> None:
    given_back: list[str] = []

    def act() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
        except KeyboardInterrupt as stop:
            assert isinstance(stop, Stopped) and stop.number == signal.SIGTERM
            given_back.append("claim")
            raise

    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert cli_exit.run(app_of(act), [], "x") == 143
    assert given_back == ["claim"] and capsys.readouterr().err == "stopped by SIGTERM\n"
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_fault_of_ours_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> None:
        raise KeyError("\x1b[31mred")

    assert cli_exit.run(app_of(act), [], "x") == 1
    said = capsys.readouterr().err
    assert said.startswith("error: a fault of Medley's own, KeyError: ") and "Traceback" not in said
    assert said.count("\n") == 1 and "\x1b" not in said


def test_the_terminal_is_not_steered_by_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def act() -> None:
        raise FileNotFoundError(errno.ENOENT, "no such file", "\x1b]0;title\x07x")

    assert cli_exit.run(app_of(act), [], "x") == 1
    assert "\x1b" not in capsys.readouterr().err


def run(command: Sequence[str | bytes], **how: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, cwd=ROOT, capture_output="stdout" not in how, timeout=100, **how)  # type: ignore[call-overload]


def test_an_output_that_nobody_reads_ends_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        found = run([*APP, "list", "methods", "--json"], stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (found.returncode, found.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_under_the_output_is_told() -> None:
    with open("/dev/full", "wb") as full:
        found = run([*APP, "list", "methods"], stdout=full, stderr=subprocess.PIPE)
    assert found.returncode == 1
    assert found.stderr.startswith(b"error: ") and b"No space left" in found.stderr and b"Traceback" not in found.stderr


def test_closed_outputs_are_no_trouble() -> None:
    found = run(["sh", "-c", '"$@" >&- 2>&-', "sh", *APP, "list", "models"])
    assert found.returncode == 0


ASCII: Mapping[str, str] = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}


@pytest.mark.parametrize("env", [{}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"}, ASCII])
def test_any_locale_prints_everything(env: Mapping[str, str]) -> None:
    found = run([*APP, "list", "methods", "--json"], env={**os.environ, **env})
    assert (found.returncode, found.stderr) == (0, b"")
    assert b"methods" in found.stdout


@pytest.mark.parametrize("env", [{}, ASCII])
def test_bytes_that_are_no_text_are_refused(env: Mapping[str, str]) -> None:
    found = run([*map(os.fsencode, APP), b"render", b"--prompt", b"caf\xe9"], env={**os.environ, **env})
    assert found.returncode == 2
    assert found.stderr == b"error: an argument is not text in UTF-8, nor the name of a file: 'caf\\udce9'\n"


def test_a_file_whose_name_is_no_text_can_be_given(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
    found = run([*map(os.fsencode, APP), b"inspect", path])
    assert found.returncode == 2 and b"caf\\udce9.png" in found.stderr and b"Traceback" not in found.stderr


def test_json_is_json_in_every_encoding(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import io
    import json

    for encoding in ("ascii", "latin-1", "utf-8"):
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding, errors="backslashreplace")
        monkeypatch.setattr(sys, "stdout", stream)
        cli_output.document({"text": "é 猫 😀"})
        stream.flush()
        assert json.loads(raw.getvalue().decode(encoding)) == {"text": "é 猫 😀"}


def test_a_server_ends_as_it_does_by_sigterm_when_its_terminal_is_closed(capsys: pytest.CaptureFixture[str]) -> None:
    ended_well: list[int] = []

    def serve() -> None:
        own = signal.signal(signal.SIGTERM, lambda number, _frame: ended_well.append(number))  # as servers do
        with cli_exit.ended_gently():
            os.kill(os.getpid(), signal.SIGHUP)
            while not ended_well:
                time.sleep(0.01)
            signal.signal(signal.SIGTERM, own)
            signal.raise_signal(signal.SIGTERM)

    assert cli_exit.run(app_of(serve), [], "x") == 129
    assert ended_well == [signal.SIGTERM] and "terminal is closed" in capsys.readouterr().err
