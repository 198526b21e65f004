"""`python app.py ui`: opens the page. Importing this costs nothing; gradio comes in with the server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from composer.errors import BadRequest
from pipelines import cli_options as own
from pipelines import cli_output
from pipelines.cli_options import Wildcards, Zoo

Listen = Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 is every network.")]
Port = Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="The port.")]
Auth = Annotated[str | None, typer.Option(metavar="USER:PASSWORD", help="Let in only who knows these.")]
RootPath = Annotated[str, typer.Option(metavar="/PATH", help="Where a proxy puts the page, if not at its root.")]
Data = Annotated[Path, typer.Option(metavar="DIR", help="Folder for history, pictures and uploads.")]
Models = Annotated[
    list[str] | None,
    typer.Option("--model", metavar="NAME|FOLDER|FILE|ID", help="A model to offer beside `tiny`; repeat for more."),
]

Reports = Annotated[
    list[Path] | None,
    typer.Option("--reports", metavar="DIR", help="Where evaluation reports lie; repeat for more. [default: outputs]"),
]

JobSeconds = Annotated[
    float,
    typer.Option(metavar="S", min=1, help="Stop a job that takes longer; larger ones are refused before they begin."),
]

_HERE = ("127.0.0.1", "localhost", "::1")  # only people at this machine can come in


def ui(  # noqa: PLR0913  one parameter per option; they become a dataclass at once
    listen: Listen = "127.0.0.1",
    port: Port = 7860,
    auth: Auth = None,
    root_path: RootPath = "",
    data: Data = Path("outputs/ui"),
    model: Models = None,
    zoo: Zoo = None,
    reports: Reports = None,
    dtype: own.Dtype = "auto",
    attention: own.Attention = "sdpa",
    offload: own.Offload = "none",
    vae_tiling: own.VaeTiling = False,
    job_seconds: JobSeconds = 3600.0,
    wildcards: Wildcards = None,
) -> None:
    """Open the page in which pictures are composed. What is run without a command."""
    import torch

    from pipelines import cli_commands, specs
    from pipelines.cli_engine import engine_flags
    from ui import server
    from ui.limits import of_machine
    from ui.service import Offer, Service

    if auth is not None and not all(auth.partition(":")):
        raise BadRequest("--auth: write USER:PASSWORD, both of them")
    if root_path and (not root_path.startswith("/") or root_path.endswith("/")):
        raise BadRequest(f"--root-path {root_path}: write it as /PATH, without a slash at its end")
    by = engine_flags(zoo, dtype, attention, offload, vae_tiling, wildcards)
    models = tuple(model or ())
    for name in models:
        specs.find(name)
    cli_commands.check_folder(data)
    here = listen in _HERE and not root_path
    offer = Offer(models, by.zoos, tuple(reports or (Path("outputs"),)))
    limits = of_machine(job_seconds, torch.cuda.is_available(), here or auth is not None)
    service = Service(by.engine(), data, offer, limits)
    server.run(service, server.Options(listen, port, auth, root_path), cli_output.line)
