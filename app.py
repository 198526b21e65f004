"""The way in: `python app.py` opens the page, `python app.py COMMAND …` does one thing; `--help` lists the commands."""

import sys

from eval.cli import commands
from pipelines import environment
from pipelines.cli import app, main
from ui.command import ui

app.add_typer(commands, name="eval")
app.command()(ui)

if __name__ == "__main__":
    environment.prepare()
    sys.exit(main(sys.argv[1:] or ["ui"]))
