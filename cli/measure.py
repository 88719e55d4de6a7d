"""Commands that measure: bench, score, demo; and show, which prints a record."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import typer

from ..artifact import Artifact
from ..errors import BadInput, EngineMissing
from . import options, render

MARGIN = 0.01  # one point


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(bench)
    app.command()(score)
    app.command()(demo)
    app.command()(show)


Subjects = Annotated[
    list[str], typer.Argument(help="Artifacts; FOLDER@BACKEND runs one on another engine.", show_default=False)
]


def _candidates(words: list[str], backend: str | None, threads: int | None, precision: str | None):  # type: ignore[no-untyped-def]
    from ..benchmarks.candidate import Candidate
    from ..runtime import backends, default_run

    found = []
    for word in words:
        folder, _, named = word.partition("@")
        artifact = Artifact.load(folder)
        run = default_run(artifact)
        chosen = named or backend or run.backend
        backends.backend(chosen)  # an unknown word is refused now, not a row that cannot run
        run = replace(run, backend=chosen, threads=threads, execution_precision=precision or run.execution_precision)
        found.append(Candidate(f"{folder}@{chosen}", artifact, run))
    names = [candidate.name for candidate in found]
    if len(set(names)) < len(names):
        raise BadInput("one candidate is named twice", "different artifacts or backends")
    return found


def bench(
    artifacts: Subjects,
    backend: options.Backend = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    batch: Annotated[int, typer.Option(min=1, help="Photos a call.")] = 1,
    launches: Annotated[int, typer.Option(min=1, help="Times each worker is started anew.")] = 5,
    blocks: Annotated[int, typer.Option(min=1, help="Timed blocks a launch.")] = 5,
    block_s: Annotated[float, typer.Option(min=0.01, help="Seconds a block.")] = 0.5,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="Record to write.")] = Path("out/bench.json"),
    as_json: options.Json = False,
) -> None:
    """Latency of artifacts side by side, each in a process of its own."""
    from .. import machine
    from ..benchmarks.rounds import RoundOptions, measure
    from ..records import Record

    candidates = _candidates(artifacts, backend, threads, precision)
    _make_parent(out)
    chosen = RoundOptions(launches, blocks, block_s, batch=batch, seed=seed)
    render.echo_options(**asdict(chosen), threads=threads or machine.usable_cores(), out=out)
    environment = machine.environment()
    say = (lambda line: None) if as_json else (lambda line: render.say(f"timing: {line}"))
    subjects, rounds = measure(candidates, chosen, say)
    record = Record("bench", environment, subjects, asdict(chosen), rounds=rounds, created=machine.utc_now())
    _finish(record, out, as_json, "")


def score(
    artifacts: Subjects,
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
    """Top-1, top-5, agreement and flips of artifacts on the same photos."""
    from .. import machine
    from ..benchmarks.accuracy import score as answer
    from ..data import find_dataset, sample
    from ..data.prepared import prepare_photos
    from ..records import Record

    words = [reference, *(word for word in artifacts if word != reference)] if reference else artifacts
    candidates = _candidates(words, backend, threads, precision)
    labels = {candidate.artifact.manifest.labels for candidate in candidates}
    hosts = [candidate.artifact.manifest.preprocess for candidate in candidates]
    if len(labels) > 1 or len({host.digest() if host else "" for host in hosts}) > 1:
        raise BadInput("artifacts with different labels or preprocessing", "artifacts of one classifier")
    host = hosts[0]
    if host is None:
        raise BadInput(f"{words[0]}: no classifier", "an artifact with labels and preprocessing")
    dataset = find_dataset(data, progress=sys.stderr.isatty())
    drawn = dataset.role(role) if photos is None else sample(dataset.role(role), photos, seed)
    _make_parent(out)
    render.echo_options(data=dataset.name, role=role, photos=len(drawn), reference=candidates[0].name, out=out)
    cache = out.parent / "cache"
    prepared = prepare_photos(drawn, host, cache, dataset.kind)
    progress = render.TerminalProgress()
    subjects, answers = [], {}
    for candidate in candidates:
        answers[candidate.name], applied = answer(
            candidate, prepared, cache, progress.bar(f"scoring {candidate.name}", len(prepared))
        )
        subjects.append(candidate.subject(applied=applied))
    about = {"name": dataset.name, "kind": dataset.kind, "role": role, "count": len(prepared)}
    record = Record("score", machine.environment(), tuple(subjects), {"seed": seed}, about,
                    predictions=answers, created=machine.utc_now())  # fmt: skip
    _finish(record, out, as_json, candidates[0].name)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for artifacts, cache and record.")] = Path("out/demo"),
    checkpoint: Annotated[Path | None, typer.Option(help="Trained weights. Default: shipped.")] = None,
    data: options.Data = None,
    photos: Annotated[int, typer.Option(min=1, help="Photos to score.")] = 500,
    full: Annotated[
        bool, typer.Option("--full", help="All photos, more launches, the full-range schemes too.")
    ] = False,
    seed: options.Seed = 0,
    as_json: options.Json = False,
) -> None:
    """Checkpoint to a table of backends and precisions, measured on this machine."""
    from .build import need_build

    need_build()
    from ..benchmarks.rounds import RoundOptions
    from ..data import find_dataset
    from ..optimize.candidates import REFERENCE
    from ..optimize.demo import run_demo
    from ..optimize.pipeline import Recipe
    from ..train.checkpoint import DEFAULT_CHECKPOINT

    _make_parent(out / "record.json")
    recipe = Recipe(out, checkpoint or DEFAULT_CHECKPOINT, None if full else photos, seed=seed, full=full)
    rounds = RoundOptions(launches=5, blocks=4, seed=seed) if full else RoundOptions(launches=3, blocks=2, seed=seed)
    dataset = find_dataset(data, progress=sys.stderr.isatty())
    render.echo_options(data=dataset.name, photos=recipe.photos or "all", launches=rounds.launches, seed=seed, out=out)
    record = run_demo(recipe, rounds, dataset, render.TerminalProgress())
    _finish(record, out / "record.json", as_json, REFERENCE)
    render.next_command(f"tiffin predict {out / 'artifacts' / 'int8-cpu-nncf'} PHOTO --backend openvino")


def show(
    record: Annotated[Path, typer.Argument(help="A record's .json.")],
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables in Markdown.")] = False,
    as_json: options.Json = False,
) -> None:
    """Print a record's tables again; measures nothing."""
    from ..optimize.candidates import REFERENCE
    from ..records.record import load_record

    loaded = load_record(record)
    names = [subject.name for subject in loaded.subjects]
    if not names:
        raise BadInput(f"{record}: a record of nothing", "a record with subjects")
    reference = REFERENCE if REFERENCE in names else names[0]
    _print(loaded, reference, as_json, markdown)


def _make_parent(out: Path) -> None:
    """Before minutes of measuring: can the record be written at all?"""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(out, error.strerror) from error
    if out.is_dir() or not os.access(out.parent, os.W_OK | os.X_OK):
        raise _unwritable(out, "it is a folder" if out.is_dir() else "permission denied")


def _unwritable(out: Path, reason: str | None) -> BadInput:
    return BadInput(f"cannot write {out} ({reason})", "a file in a writable folder", "choose another --out")


def _finish(record, out: Path, as_json: bool, reference: str) -> None:  # type: ignore[no-untyped-def]
    try:
        record.save(out)
    except OSError as error:
        raise _unwritable(out, error.strerror) from error
    _print(record, reference, as_json, markdown=False)
    render.say(f"record: {out} (print it again: tiffin show {out})")
    if all(subject.reason for subject in record.subjects):
        raise EngineMissing(
            "nothing could run here; the reasons stand above", "at least one engine", "see `tiffin backends`"
        )


def _print(record, reference: str, as_json: bool, markdown: bool) -> None:  # type: ignore[no-untyped-def]
    from ..optimize.candidates import vnni_notes
    from ..optimize.proof import not_faster

    if as_json:
        render.show(json.dumps(render.record_json(record, reference), indent=1))
        return
    marks = not_faster(record)
    main, detail = render.main_table(record, reference, marks), render.detail_table(record, reference)
    notes = render.record_notes(record, reference, marks)
    if any(subject.precision == "int8" for subject in record.subjects) and record.predictions:
        notes += vnni_notes(record.environment)
    notes += render.verdict_lines(record, reference, MARGIN)
    if markdown:
        parts = [render.legend(record), main.markdown(), detail.markdown(), "\n".join(f"- {note}" for note in notes)]
    else:
        parts = [render.legend(record), main.text(), detail.text(), render.wrapped(notes)]
    render.show(("" if markdown else "\n") + "\n\n".join(part for part in parts if part))
