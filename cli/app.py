"""`tiffin`: the commands, and the one place where an error becomes a message and an exit code."""

from __future__ import annotations

import io
import os
import signal
import sys
from types import FrameType

import typer

from .. import __version__
from ..errors import TiffinError
from . import (
    baseline,
    build,
    certify,
    check,
    compile,
    debug,
    decide,
    device,
    doctor,
    evidence,
    explain,
    explore,
    fidelity,
    load,
    measure,
    optimize,
    predict,
    preprocessing,
    quantize,
    report,
    robustness,
    selftest,
    serve,
    ship,
    train,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Trained classifier in, the fastest artifact that is provably as accurate out.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
_MAKING = (build, quantize, doctor, compile, train, optimize)
_MEASURING = (measure, fidelity, preprocessing, robustness, explain, debug, explore, load, certify)
for commands in (
    *_MAKING,
    *_MEASURING,
    check,
    baseline,
    decide,
    report,
    evidence,
    ship,
    predict,
    serve,
    device,
    selftest,
):
    commands.register(app)


class Interrupted(BaseException):
    """A signal asked us to stop; passes through everything but `finally`."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tiffin {__version__}")
        raise typer.Exit()


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Export, quantize, compile, run and measure food classifiers."""


def _stop(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


def main() -> None:
    """Run one command; exit 0, 1 (failed), 2 (bad input) or 128 + signal (130 for Ctrl-C)."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a table's line that an old code page lacks is no failure
    try:
        app()
    except TiffinError as error:
        _fail(str(error), error.exit_code)
    except Interrupted as stop:
        _fail("interrupted; no file was left half-written", 128 + stop.args[0])
    except Exception as error:
        told = f"internal error: {type(error).__name__}: {error}\n  fix: set TIFFIN_DEBUG=1 and report the traceback"
        _fail(told, getattr(error, "exit_code", 1))


def _fail(message: str, code: int) -> None:
    if os.environ.get("TIFFIN_DEBUG") == "1":
        raise
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    sys.stdout.flush()
    sys.exit(code)
