"""The way in: `python app.py COMMAND …`; `python app.py --help` lists the commands."""

import sys

from pipelines.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
