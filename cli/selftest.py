"""The command that tests this machine's GPU."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInput, EngineFailed
from . import options, output, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records import Record


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(selftest)


def selftest(
    gpu: Annotated[
        bool, typer.Option("--gpu", help="TensorRT on this machine's NVIDIA GPU: the only test so far.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for artifacts, cache and record.")] = Path("out/selftest"),
    checkpoint: Annotated[Path | None, typer.Option(help="Trained weights. Default: shipped.")] = None,
    data: options.Data = None,
    photos: Annotated[int | None, typer.Option(min=1, help="Photos to score. Default: all.")] = None,
    time_limit_s: Annotated[float, typer.Option(min=1, help="Of timing, seconds.")] = 300.0,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Build every precision, compare with fp32 on photos, run the GPU tests, time: one record."""
    if not gpu:
        raise BadInput("nothing to test", "what to test", "pass --gpu: `tiffin selftest --gpu`")
    from .build import need_build

    need_build()
    from ..benchmarks.options import RoundOptions
    from ..data import find_dataset
    from ..optimize.gpu_checks import REFERENCE
    from ..optimize.pipeline import Recipe
    from ..optimize.selftest import require_gpu, run_selftest
    from ..train.checkpoint import DEFAULT_CHECKPOINT

    require_gpu()
    output.make_parent(out / "selftest.json")
    dataset = find_dataset(data, progress=sys.stderr.isatty())
    render.echo_options(data=dataset.name, photos=photos or "all", time_limit_s=time_limit_s, seed=seed, out=out)
    recipe = Recipe(out, checkpoint or DEFAULT_CHECKPOINT, photos, seed=seed)
    rounds = RoundOptions(seed=seed, time_limit_s=time_limit_s)
    record = run_selftest(recipe, rounds, dataset, render.TerminalProgress())
    output.finish(record, out / "selftest.json", as_json, REFERENCE)
    if not as_json:
        render.show("\n" + checks_text(record))
    _require_passed(record)


def checks_text(record: Record) -> str:
    """Each check's outcome, for a terminal."""
    from ..optimize.gpu_checks import checks

    return render.wrapped([f"{check.outcome}: {check.name}: {check.words}" for check in checks(record)])


def _require_passed(record: Record) -> None:
    from ..optimize.gpu_checks import checks

    failed = [check.name for check in checks(record) if check.outcome == "failed"]
    if failed:
        raise EngineFailed(
            f"{len(failed)} failed: {', '.join(failed)}", "every check passed", "the reasons stand above"
        )
