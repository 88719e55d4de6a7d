"""Commands that measure: bench, score, demo."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..errors import command
from . import options, output, render, sources

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records.rounds import Regime

_OF_REGIME = {"fps": "paced", "burners": "contended", "sustain_s": "sustained"}


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(bench)
    app.command()(score)
    app.command()(sources.takes_told(demo))


def bench(
    context: typer.Context,
    artifacts: options.Subjects,
    backend: options.Backend = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    batch: Annotated[int, typer.Option(min=1, help="Photos a call.")] = 1,
    lanes: Annotated[int, typer.Option(min=1, help="Requests in flight; for --regime throughput.")] = 1,
    regime: Annotated[
        str, typer.Option(help="back-to-back, paced, contended, sustained or throughput; see docs/measuring.md.")
    ] = "back-to-back",
    fps: Annotated[float, typer.Option(help="Pace of --regime paced, photos a second.")] = 30.0,
    burners: Annotated[int, typer.Option(min=1, help="Busy processes beside, of --regime contended.")] = 1,
    sustain_s: Annotated[float, typer.Option(min=1, help="Seconds a candidate, of --regime sustained.")] = 180.0,
    target: Annotated[
        float, typer.Option(help="Stop at this half-width of the ratio's 95 % interval; 0.01 is one per cent.")
    ] = 0.01,
    time_limit_s: Annotated[
        float, typer.Option(min=1, help="Seconds, all in all; rows that have not reached --target by then say TIME.")
    ] = 300.0,
    launches: Annotated[int, typer.Option(min=1, help="Times each worker is started anew, at least.")] = 6,
    blocks: Annotated[int, typer.Option(min=1, help="Timed blocks a launch.")] = 8,
    block_s: Annotated[float, typer.Option(min=0.01, help="Seconds a block.")] = 0.08,
    cpus: Annotated[str | None, typer.Option(help="Cores the workers may run on, such as 0,2. Default: all.")] = None,
    different_models: Annotated[
        bool, typer.Option("--different-models", help="Compare artifacts of other labels or inputs all the same.")
    ] = False,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="Record to write.")] = Path("out/bench.json"),
    as_json: options.Json = False,
) -> None:
    """Latency of artifacts side by side. Each in processes of its own, until the ratio to the first is known."""
    from .. import machine
    from ..benchmarks.options import RoundOptions
    from ..benchmarks.rounds import Measurement

    unfit = [name for name, its in _OF_REGIME.items() if its != regime]
    options.refuse(context, unfit, f"--regime {regime}", "options of this regime")
    candidates = options.candidates(artifacts, backend, threads, precision, lanes, options.cpu_list(cpus))
    if not different_models:
        options.require_one_model(candidates)
    chosen = RoundOptions(launches=launches, blocks=blocks, block_s=block_s, batch=batch, seed=seed,
                          regime=cast("Regime", regime), fps=fps, burners=burners, sustain_s=sustain_s, target=target,
                          time_limit_s=time_limit_s)  # fmt: skip
    output.prepare_record(out)
    render.echo_options(**asdict(chosen), threads=threads or machine.usable_cores(), lanes=lanes, out=out)
    environment = machine.environment()
    progress = render.TerminalProgress()
    run = Measurement(candidates, chosen, (lambda status: None) if as_json else progress.timing, _photos())

    def record(complete: bool):  # type: ignore[no-untyped-def]
        from ..records import Record

        about = {**asdict(chosen), "elapsed_s": round(run.elapsed_s, 1), "not_told": run.missing_sensors()}
        return Record("bench", environment, run.subjects(), about, rounds=run.rounds(), stages=run.stages(),
                      created=machine.utc_now(), complete=complete)  # fmt: skip

    try:
        run.run()
    except BaseException:
        if run.rounds():
            part = out.with_name(f"{out.stem}.partial.json") if out.exists() else out  # never over a complete one
            output.save(record(complete=False), part)
            render.say(f"\nkept what had been measured: {part} (print it: {command('show', part)})")
        raise
    finally:
        progress.timed()
    output.finish(record(complete=True), out, as_json, _first_that_ran(run.subjects()))


def _photos() -> list[Path]:
    """A few of the shipped images, on which photo to label is split."""
    from ..data import synthesized

    return [photo.path for photo in synthesized().role("confirm")[:8]]


def _first_that_ran(subjects) -> str:  # type: ignore[no-untyped-def]
    """What the others are compared with."""
    return next((subject.name for subject in subjects if not subject.reason), subjects[0].name)


def score(
    artifacts: options.Scored,
    reference: Annotated[
        str | None, typer.Option(help="Artifact that flips count against. Default: the first.")
    ] = None,
    backend: options.Backend = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    data: options.Data = None,
    role: Annotated[str, typer.Option(help="Role of the photos: confirm or select.")] = "confirm",
    photos: Annotated[int | None, typer.Option(min=1, help="How many. Default: all.")] = None,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="Record to write.")] = Path("out/score.json"),
    as_json: options.Json = False,
) -> None:
    """Top-1, top-5, agreement, flips on the same photos."""
    from .. import machine
    from ..benchmarks.accuracy import score as answer
    from ..benchmarks.accuracy import temperatures
    from ..data import sample
    from ..data.prepared import prepare_photos
    from ..records import Record
    from .build import dataset_of

    words = [reference, *(word for word in artifacts if word != reference)] if reference else artifacts
    candidates = options.candidates(words, backend, threads, precision, only_scored=True)
    host = options.one_preprocess(candidates)
    dataset = options.labelled(dataset_of(data), candidates)
    drawn = dataset.role(role) if photos is None else sample(dataset.role(role), photos, seed)
    output.prepare_record(out)
    render.echo_options(data=dataset.name, role=role, photos=len(drawn), reference=candidates[0].name, out=out)
    environment, cache = machine.environment(), out.parent / "cache"
    prepared = prepare_photos(drawn, host, cache, dataset.kind)
    progress = render.TerminalProgress()
    subjects, answers = [], {}
    for candidate in candidates:
        if candidate.reason:
            subjects.append(candidate.subject())
            continue
        answers[candidate.name], applied = answer(
            candidate, prepared, cache, progress.bar(f"scoring {candidate.name}", len(prepared))
        )
        subjects.append(candidate.subject(applied=applied))
    about = {"seed": seed, "temperatures": temperatures(candidates)}
    record = Record("score", environment, tuple(subjects), about, dataset.about(role, drawn),
                    predictions=answers, created=machine.utc_now())  # fmt: skip
    output.finish(record, out, as_json, candidates[0].name)


def demo(
    source: Annotated[str | None, typer.Argument(help=sources.HELP, show_default=False)] = None,
    out: Annotated[Path, typer.Option(help="Folder for artifacts, cache and record.")] = Path("out/demo"),
    data: options.Data = None,
    photos: Annotated[int, typer.Option(min=1, help="Photos to score.")] = 500,
    full: Annotated[
        bool, typer.Option("--full", help="All photos, more launches, the full-range schemes too.")
    ] = False,
    seed: options.Seed = 0,
    as_json: options.Json = False,
    *,
    told: sources.Options,
) -> None:
    """The whole way: a classifier to a table of backends. Each in its precisions, measured on this machine."""
    from .build import COMPARED, dataset_of, drawn_paths, need_build, require_same_preprocessing

    need_build()
    from ..benchmarks.options import RoundOptions
    from ..optimize.demo import run_demo
    from ..optimize.pipeline import Recipe
    from ..optimize.proof import reference_of

    output.make_parent(out / "record.json")
    opened = sources.opened(source, told)
    dataset = dataset_of(data)
    dataset = sources.matched(dataset, opened.model.labels, source or "the shipped classifier")
    require_same_preprocessing(opened, None, lambda: drawn_paths(dataset, "confirm", COMPARED, seed), out)
    recipe = Recipe(out, opened, None if full else photos, seed=seed, full=full)
    launches, blocks = (12, 8) if full else (6, 6)
    rounds = RoundOptions(launches=launches, blocks=blocks, seed=seed, target=None, time_limit_s=3600)
    render.echo_options(data=dataset.name, photos=recipe.photos or "all", launches=rounds.launches, seed=seed, out=out)
    record = run_demo(recipe, rounds, dataset, render.TerminalProgress())
    output.finish(record, out / "record.json", as_json, reference_of(record))
    render.next_command("predict", out / "artifacts" / "int8-cpu-nncf", "PHOTO", backend="openvino")
