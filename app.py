"""The way in: `python app.py COMMAND …`; `python app.py --help` lists the commands."""

import sys

from eval.cli import commands
from pipelines.cli import app, main

app.add_typer(commands, name="eval")

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
