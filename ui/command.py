"""`python app.py ui`: opens the page. Importing this costs nothing; gradio comes in with the server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from composer.errors import BadRequest
from pipelines import cli_exit, cli_output
from pipelines import cli_options as own
from pipelines.cli_options import Wildcards, Zoo

Listen = Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; 0.0.0.0 is every network.")]
Port = Annotated[int, typer.Option(metavar="N", min=1, max=65535, help="The port.")]
Auth = Annotated[
    str | None,
    typer.Option(metavar="USER:PASSWORD", help="Let in only who knows these. Others can see it in the process list."),
]
AuthFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The same, read from a file; or set MEDLEY_AUTH. Neither is seen by others."),
]
HostNames = Annotated[
    list[str] | None,
    typer.Option("--host-name", metavar="NAME", help="A name under which the page is reached; repeat for more."),
]
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
    auth_file: AuthFile = None,
    host_name: HostNames = None,
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
    from pipelines.cli_engine import engine_flags
    from ui import early

    if root_path and (not root_path.startswith("/") or root_path.endswith("/")):
        raise BadRequest(f"--root-path {root_path}: write it as /PATH, without a slash at its end")
    by = engine_flags(zoo, dtype, attention, offload, vae_tiling, wildcards)
    known = early.auth_of(auth, auth_file)
    early.check_data(data)
    sockets = early.bound(listen, port)

    import torch

    from pipelines import specs
    from ui import server
    from ui.limits import of_machine
    from ui.service import Offer, Service

    for name in model or ():
        specs.find(name)
    models = tuple(map(specs.offer, model or ()))
    here = listen in _HERE and not root_path
    private = _private(by.zoos, reports, model)
    options = server.Options(listen, port, known, root_path, tuple(host_name or ()), private)
    offer = Offer(models, by.zoos, tuple(reports or (Path("outputs"),)), options.address)
    limits = of_machine(job_seconds, torch.cuda.is_available(), here or known is not None)
    service = Service(by.engine(), data, offer, limits)
    with cli_exit.ended_gently():
        server.run(service, options, sockets, cli_output.line)


def _private(zoos: Sequence[Path], reports: list[Path] | None, models: list[str] | None) -> tuple[Path, ...]:
    """Return the folders that were named, and those of the models."""
    return (*zoos, *(reports or ()), *(Path(one).expanduser().parent for one in models or ()))
