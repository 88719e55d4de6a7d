"""Options that several commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    Path | None,
    typer.Option(help="Dataset folder; else $TIFFIN_DATA, the user cache, the official download."),
]
Out = Annotated[Path, typer.Option(help="Folder to write the artifact to.")]
Backend = Annotated[
    str | None,
    typer.Option(help="Engine to run on; see `tiffin backends`. Default: by the artifact's format."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of one lane. Default: usable cores.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Precision = Annotated[str | None, typer.Option(help="Float layers computed in: fp32, fp16 or bf16. Default: fp32.")]
Seed = Annotated[int, typer.Option(help="Seed of every draw.")]
