"""How a command ends: with an exit code and plain words, never with a traceback, whatever ends it.

0: done. 2: the user's mistake. 1: anything else that went wrong. 141: nobody reads the output any more. 128 + n: signal
n asked for the end; 130 is the keyboard's Ctrl-C, 129 a terminal that was closed, 143 what `kill` sends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import NoReturn, Protocol

import typer

from lora_zoo.errors import ZooError
from lora_zoo.foreign.text import escaped
from pipelines import cli_empty, cli_output

#: Signals that ask a process to end; the last is missing on Windows.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_WHY = {"SIGINT": "by Ctrl-C", "SIGTERM": "by SIGTERM", "SIGHUP": "by SIGHUP: its terminal is closed"}
_SIGNALED = 128
_NO_READER = _SIGNALED + 13  # as a shell shows SIGPIPE, on systems without it too


class Stopped(KeyboardInterrupt):
    """A signal asked this process to end. It arrives as the keyboard's does: what was claimed is given back."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(number)
        self.number = number


class _Shown(Protocol):
    """A mistake in what was typed, as typer tells it."""

    exit_code: int

    def show(self) -> None: ...


def run(app: typer.Typer, arguments: Sequence[str], name: str) -> int:
    """Run one command of an app, and return its exit code."""
    _ready_streams()
    with stoppable():
        try:
            code = _told(lambda: _command(app, arguments, name))
            sys.stdout.flush()
            return code
        except BrokenPipeError:
            _leave_stdout()
            return _NO_READER
        except OSError as error:  # of the last flush: a full disk
            cli_output.error(f"the output cannot be written: {error}")
            _leave_stdout()
            return 1
        except KeyboardInterrupt as stop:
            return _stopped(stop)


def leave(code: int) -> NoReturn:
    """End this process. After a signal, at once: native threads may be at work, and abort when torn down under way."""
    if code <= _SIGNALED:
        sys.exit(code)
    with suppress(OSError, ValueError):
        sys.stderr.flush()
    os._exit(code)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let requests to end arrive as `Stopped`, unless they were to be ignored, as under `nohup`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.getsignal(one) for one in _SIGNALS}
    for one, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(one, _stop)
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


@contextmanager
def ended_gently() -> Iterator[None]:
    """Let a server that ends well when it is asked by SIGTERM end so when its terminal is closed too."""
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is None or signal.getsignal(hangup) is not _stop:
        yield
        return
    closed: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        closed.append(number)
        signal.raise_signal(signal.SIGTERM)

    signal.signal(hangup, ask)
    try:
        yield
    except Stopped as stop:
        raise Stopped(closed[0] if closed else stop.number) from None
    finally:
        signal.signal(hangup, _stop)


def _stop(number: int, _frame: FrameType | None) -> None:
    raise Stopped(number)


def _stopped(stop: KeyboardInterrupt) -> int:
    number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
    name = signal.Signals(number).name
    cli_output.notice(f"stopped {_WHY.get(name, f'by {name}')}")
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    return _SIGNALED + number


def _told(act: Callable[[], int]) -> int:
    """Do something; tell what goes wrong in a line, and return the exit code."""
    try:
        return act()
    except ZooError as error:
        cli_output.error(str(error))
        return 2
    except BrokenPipeError:
        raise
    except OSError as error:
        cli_output.error(str(error))
        return 1
    except MemoryError:
        cli_output.error("there is not enough memory for this")
        return 1
    except Exception as error:  # noqa: BLE001  a front end: whatever it is, it is told in a line
        if isinstance(getattr(error, "exit_code", None), int) and hasattr(error, "show"):
            return _shown(error)  # pyright: ignore[reportArgumentType]  # typer keeps this type to itself
        _tell_fault(error)
        return 1


def _command(app: typer.Typer, arguments: Sequence[str], name: str) -> int:
    for argument in arguments:
        _check_characters(argument)
    command = typer.main.get_command(app)
    cli_empty.check(command, arguments)
    try:
        with command.make_context(name, list(arguments)) as context:
            command.invoke(context)
    except typer.Exit as ended:
        return ended.exit_code
    except (typer.Abort, EOFError):
        cli_output.notice("stopped: the question was not answered")
        return 1
    return 0


def _check_characters(argument: str) -> None:
    """Refuse an argument that is not text in the terminal's encoding, unless it names a file that is there."""
    try:
        argument.encode("utf-8")
    except UnicodeEncodeError:
        if not os.path.lexists(argument):
            raise ZooError(f"an argument is not text in UTF-8, nor the name of a file: '{escaped(argument)}'") from None


def _shown(error: _Shown) -> int:
    error.show()
    return error.exit_code


def _tell_fault(error: Exception) -> None:
    """Tell of an error that nobody foresaw; where it was raised is told to developers."""
    if sys.flags.dev_mode:
        traceback.print_exception(error)
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in place)
    said = f"{type(error).__name__}: {error}".replace("\n", " ")
    cli_output.error(f"a fault of Medley's own, {said}{where}; `python -X dev` tells more")


def _ready_streams() -> None:
    """Let every text be printed: what an output's encoding lacks, as escapes; and a closed output takes anything."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by who started this; its number must not become that of another file
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  open as long as the process
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _leave_stdout() -> None:
    """Send what is still to be written nowhere, so that the end of the process does not try once more."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
