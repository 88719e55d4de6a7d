"""The command that tests this machine: photos and engines on any, everything of TensorRT with a GPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInput, EngineFailed
from . import options, output, render, sources

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records import Record
    from ..runtime.selfcheck import Check


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(selftest)


def selftest(
    artifact: Annotated[
        Path | None, typer.Argument(help="Check its golden hashes, and the engines that take it.", show_default=False)
    ] = None,
    gpu: Annotated[
        bool,
        typer.Option("--gpu", help="TensorRT on this machine's NVIDIA GPU: build, score, time; needs tiffin[build]."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="With --gpu: folder for artifacts, cache and record. Default: out/selftest.")
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="With --gpu: a source (docs/sources.md). Default: the shipped classifier.")
    ] = None,
    data: options.Data = None,
    photos: Annotated[int | None, typer.Option(min=1, help="With --gpu: photos to score. Default: all.")] = None,
    time_limit_s: Annotated[
        float | None, typer.Option(min=1, help="With --gpu: of timing, seconds. Default: 300.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="With --gpu: seed of every draw. Default: 0.")] = None,
    as_json: options.Json = False,
) -> None:
    """Does this machine answer as every other?

    Does it make of photos what every other does, and do its engines agree?

    With --gpu: build every precision, compare with fp32 on photos, run the GPU tests, time: one record.
    """
    if not gpu:
        _require_unused(out=out, checkpoint=checkpoint, data=data, photos=photos, time_limit_s=time_limit_s, seed=seed)
        _test_machine(artifact, as_json)
        return
    if artifact is not None:
        raise BadInput(f"{artifact} beside --gpu", "--gpu, which builds its own artifacts, or an artifact")
    from .build import dataset_of, need_build

    need_build()
    from ..benchmarks.options import RoundOptions
    from ..optimize.gpu_checks import REFERENCE, checks
    from ..optimize.pipeline import Recipe
    from ..optimize.selftest import require_gpu, run_selftest

    require_gpu()
    out, seed = out or Path("out/selftest"), seed or 0
    time_limit_s = 300.0 if time_limit_s is None else time_limit_s
    output.make_parent(out / "selftest.json")
    opened = sources.opened(checkpoint)
    dataset = sources.matched(dataset_of(data), opened.model.labels, opened.text)
    render.echo_options(data=dataset.name, photos=photos or "all", time_limit_s=time_limit_s, seed=seed, out=out)
    recipe = Recipe(out, opened, photos, seed=seed)
    rounds = RoundOptions(seed=seed, time_limit_s=time_limit_s)
    record = run_selftest(recipe, rounds, dataset, render.TerminalProgress())
    output.finish(record, out / "selftest.json", as_json, REFERENCE)
    if not as_json:
        render.show("\n" + checks_text(record))
    require_passed(checks(record))


def _require_unused(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            word = f"--{name.replace('_', '-')}"
            raise BadInput(f"{word} without --gpu", f"--gpu and {word}, or neither", "`tiffin selftest --gpu`")


def _test_machine(folder: Path | None, as_json: bool) -> None:
    from ..artifact import Artifact
    from ..data import synthesized
    from ..runtime import selfcheck

    pictures = synthesized()
    found = [*selfcheck.photo_checks(pictures.root), selfcheck.default_check()]
    if folder is not None:
        artifact = Artifact.load(folder)
        if artifact.manifest.preprocess is not None:
            found.append(selfcheck.preprocess_check(artifact.manifest.preprocess, folder.name))
        found += selfcheck.engine_checks(artifact, [photo.path for photo in pictures.role("confirm")])
    if as_json:
        rows = [{"name": check.name, "outcome": check.outcome, "words": check.words} for check in found]
        render.show(json.dumps({"checks": rows}, indent=1))
    else:
        render.show(lines(found))
    require_passed(found)


def lines(checks: Sequence[Check]) -> str:
    """Each check's outcome, for a terminal."""
    return render.wrapped([f"{check.outcome}: {check.name}: {check.words}" for check in checks])


def checks_text(record: Record) -> str:
    """The outcome of each check of a record of a GPU."""
    from ..optimize.gpu_checks import checks

    return lines(checks(record))


def require_passed(checks: Sequence[Check]) -> None:
    """Raises EngineFailed, with the names of those that failed."""
    failed = [check.name for check in checks if check.outcome == "failed"]
    if failed:
        raise EngineFailed(
            f"{len(failed)} failed: {', '.join(failed)}", "every check passed", "the reasons stand above"
        )
