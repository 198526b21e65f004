"""The way in: `python app.py` opens the page, `python app.py COMMAND …` does one thing; `--help` lists the commands."""

import signal
import sys
from typing import NoReturn

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C before a command begins ends this without a word

from eval.cli import commands  # noqa: E402
from pipelines import cli_exit, environment  # noqa: E402
from pipelines.cli import app, main  # noqa: E402
from ui.command import ui  # noqa: E402

app.add_typer(commands, name="eval")
app.command()(ui)


def start() -> NoReturn:
    """Do what the command line asks; without a word of it, open the page."""
    environment.prepare()
    cli_exit.leave(main(sys.argv[1:] or ["ui"]))


if __name__ == "__main__":
    start()
