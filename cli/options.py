"""Options that several commands share, each said once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

Data = Annotated[
    Optional[Path],  # noqa: UP045  typer evaluates this on Python 3.10
    typer.Option(help="Dataset folder; else $TIFFIN_DATA, the user cache, the official download."),
]
Out = Annotated[Path, typer.Option(help="Folder to write the artifact to.")]
Backend = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(help="Engine to run on; see `tiffin backends`. Default: by the artifact's format."),
]
Threads = Annotated[Optional[int], typer.Option(min=1, help="Threads of one lane. Default: usable cores.")]  # noqa: UP045
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Precision = Annotated[Optional[str], typer.Option(help="Float layers computed in: fp32, fp16 or bf16. Default: fp32.")]  # noqa: UP045
Seed = Annotated[int, typer.Option(help="Seed of every draw.")]
