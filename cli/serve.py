"""The command that answers over HTTP: serve."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInput
from . import options, render
from .build import need_build

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..artifact import Artifact, RunConfig

_PACKAGES = ("starlette", "uvicorn", "httptools", "prometheus_client", "python_multipart")
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(serve)


def serve(
    artifacts: Annotated[
        list[str],
        typer.Argument(help="Artifacts or .tiffin files; NAME=ARTIFACT names one in the URL.", show_default=False),
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    backend: options.Backend = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    lanes: options.Lanes = None,
    priority: options.Priority = None,
    cpus: options.Cpus = None,
    cache: options.Cache = None,
    max_batch: Annotated[int, typer.Option(min=1, help="Photos of one request, and of a joined run.")] = 8,
    max_delay_ms: Annotated[float, typer.Option(min=0, help="Milliseconds a free lane waits for more requests.")] = 0.0,
    queue: Annotated[int, typer.Option(min=1, help="Requests of an artifact inside at once; more get 503.")] = 64,
    deadline_s: Annotated[float, typer.Option(min=0.001, help="Seconds from admission to answer, else 504.")] = 30.0,
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="Largest body, MB.")] = 32.0,
    unknown: Annotated[
        float | None, typer.Option(min=0, max=1, help="Say unknown where the best score is lower.")
    ] = None,
    grace_s: Annotated[float, typer.Option(min=0, help="At the end, seconds for what is being answered.")] = 10.0,
    allow_uncertified: Annotated[
        bool, typer.Option("--allow-uncertified", help="Run what is known to answer worse on this class of CPU.")
    ] = False,
) -> None:
    """Answer over HTTP. Open Inference Protocol v2, POST /predict, a page at /."""
    need_build(_PACKAGES, "serve")
    from ..deploy.serve.model import Limits
    from ..deploy.serve.server import listen
    from ..deploy.serve.server import serve as serve_all
    from ..runtime import resolve

    limits = Limits(max_batch, max_delay_ms / 1e3, queue, deadline_s, round(max_body_mb * 1e6), grace_s=grace_s,
                    unknown=unknown)  # fmt: skip
    changes = options.run_changes(threads, precision, lanes, priority, cpus, cache)
    named: list[tuple[str, Artifact, RunConfig]] = []
    for word in artifacts:
        name, path = _named(word)
        named.append((name, *resolve(path, backend, allow_uncertified, **changes)))
    with listen(host, port) as listening:
        serve_all(named, limits, listening, render.echo_session, lambda: _started(host, listening.getsockname()[1]))
    render.say("stopped")


def _named(word: str) -> tuple[str, Path]:
    """`NAME=ARTIFACT`, or an artifact that is named by its folder or file."""
    name, given, path = word.partition("=")
    if not given:
        path = word
        name = Path(word).resolve().stem if word.endswith(".tiffin") else Path(word).resolve().name
    if not name or not path or "/" in name:
        raise BadInput(f"model {word!r}", "NAME=ARTIFACT, or an artifact")
    return name, Path(path)


def _started(host: str, port: int) -> None:
    shown = f"[{host}]" if ":" in host else host
    if host not in _LOOPBACK:
        render.say(f"listening on {host}: whoever reaches it may ask; there is no authentication and no TLS here")
    render.show(f"http://{shown}:{port}")
    sys.stdout.flush()
