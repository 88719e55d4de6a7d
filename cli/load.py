"""The command that hands an artifact to MLPerf LoadGen: loadgen."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BadInput
from . import options, output, plain, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..benchmarks.loadgen_logs import LoadgenResult
    from ..records import Record


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(loadgen)


def loadgen(
    artifact: Annotated[str, typer.Argument(help="Artifact; FOLDER@BACKEND runs it on another engine.")],
    scenario: Annotated[str, typer.Option(help="single-stream, multi-stream, offline or server.")] = "single-stream",
    mode: Annotated[str, typer.Option(help="performance or accuracy.")] = "performance",
    duration_s: Annotated[float | None, typer.Option(help="Seconds of a shortened run. Default: 10.")] = None,
    official: Annotated[bool, typer.Option("--official", help="MLPerf's durations and counts: 10 minutes.")] = False,
    lanes: Annotated[int, typer.Option(min=1, help="Requests in flight.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Samples a call; offline and multi-stream.")] = 1,
    target_qps: Annotated[float | None, typer.Option(help="Queries a second; the server scenario needs it.")] = None,
    target_latency_ms: Annotated[
        float | None, typer.Option(help="Server: bound of the 99th percentile. Default: 15, MLPerf's.")
    ] = None,
    photos: Annotated[int | None, typer.Option(help="How many. Default: all; 1024 for performance.")] = None,
    data: options.Data = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="Record to write; LoadGen's logs come beside it.")] = Path(
        "out/loadgen.json"
    ),
    as_json: options.Json = False,
) -> None:
    """Latency or throughput under MLPerf's own load."""
    from ..benchmarks.loadgen import check_options, run_loadgen
    from ..benchmarks.workers.loadgen import LoadOptions, need_loadgen

    if official and duration_s is not None:
        raise BadInput("--official with --duration-s", "one of them", "an official run lasts as long as MLPerf says")
    chosen = LoadOptions(scenario, mode, official, 10.0 if duration_s is None else duration_s, batch, target_qps,
                         target_latency_ms)  # fmt: skip
    check_options(chosen)
    need_loadgen()
    (candidate,) = options.candidates([artifact], None, threads, precision, lanes)
    output.prepare_record(out)
    prepared, about = _prepared(candidate.artifact, mode, photos, data, seed, out.parent / "cache")
    render.echo_options(scenario=scenario, mode=mode, duration="official" if official else f"{chosen.duration_s:g} s",
                        lanes=lanes, batch=batch, samples=about.get("count", "noise"), out=out)  # fmt: skip
    record = run_loadgen(candidate, chosen, prepared, out.with_name(f"{out.stem}-logs"), seed, about, render.say)
    output.save(record, out)
    show_result(record, as_json)
    render.say(f"record: {out}; LoadGen's logs: {out.with_name(f'{out.stem}-logs')}")


def show_result(record: Record, as_json: bool) -> None:
    """Print what LoadGen said."""
    render.show(plain.as_json(load_json(record)) if as_json else load_text(record))


def _prepared(artifact, mode: str, photos: int | None, data: Path | None, seed: int, cache: Path):  # type: ignore[no-untyped-def]
    """Photos of the confirm role, prepared, and what the record says of them; None for what is no classifier."""
    from ..data import sample
    from ..data.prepared import prepare_photos
    from .build import dataset_of

    if photos is not None and photos < 1:
        raise BadInput(f"{photos} photos", "at least 1")
    host = artifact.manifest.preprocess
    if host is None:
        return None, {}
    dataset = dataset_of(data)
    whole = dataset.role("confirm")
    # MLPerf's performance set for image classification is 1024 photos in memory.
    count = photos or (len(whole) if mode == "accuracy" else 1024)
    prepared = prepare_photos(sample(whole, count, seed), host, cache, dataset.kind)
    about = {"name": dataset.name, "kind": dataset.kind, "role": "confirm", "count": len(prepared), "of": len(whole)}
    return prepared, about


def load_json(record: Record) -> dict[str, Any]:
    """A LoadGen record's result as plain JSON."""
    from ..benchmarks.loadgen import result_of

    result, subject = result_of(record), record.subjects[0]
    answers = {"top1": vars(_top1(record))} if record.predictions and record.data["kind"] == "photos" else {}
    return {
        "name": subject.name,
        "artifact": subject.artifact,
        "verdict": result.verdict,
        **asdict(result),
        **answers,
        "applied": dict(subject.applied),
        "data": dict(record.data),
        "environment": dict(record.environment),
    }


def _top1(record: Record):  # type: ignore[no-untyped-def]
    from ..records.classification import top_k

    return top_k(next(iter(record.predictions.values())))


def load_text(record: Record) -> str:
    """A LoadGen record's result in lines of at most 80 columns."""
    from ..benchmarks.loadgen import result_of

    result, subject = result_of(record), record.subjects[0]
    rows = [
        ("candidate", subject.name),
        ("LoadGen", f"{result.version.split(' ')[0]}, {result.scenario}, {result.mode}"),
        ("result", result.verdict),
        *(("", reason) for reason in result.reasons),
        *(("shortened", f"{name}: {words}") for name, words in result.shortened.items()),
        *(_performance(result) if result.mode == "performance" else _accuracy(record)),
    ]
    return render.wrapped([f"{name:<11}{words}" for name, words in rows])


def _performance(result: LoadgenResult) -> list[tuple[str, str]]:
    of = f"queries of {result.samples_per_query}" if result.samples_per_query > 1 else "samples"
    shown = ", ".join(f"p{float(name):g} {value / 1e6:.3f}" for name, value in result.percentiles_ns.items())
    rows = [("ms", f"{shown} ({of})")] if result.scenario != "offline" else []
    bounds = [f"p{at} ≤ {result.early_stopping[f'p{at}_ns'] / 1e6:.3f} ms" for at in (90, 99)
              if f"p{at}_ns" in result.early_stopping]  # fmt: skip
    if bounds:
        rows.append(("bound", f"{', '.join(bounds)} at 99 % confidence (early stopping)"))
    rate = f"{result.samples_per_s:.1f} samples/s" if result.samples_per_s else "rate unknown"
    samples = (result.query_count or 0) * result.samples_per_query
    lasted = f" in {result.duration_s:.1f} s" if result.duration_s else ""
    return [*rows, ("throughput", f"{rate} ({samples} samples{lasted})")]


def _accuracy(record: Record) -> list[tuple[str, str]]:
    count = record.data["count"]
    if record.data["kind"] != "photos":
        return [("answers", f"{count} synthesized images, which have no accuracy; the record holds the answers")]
    top1 = _top1(record)
    interval = f"{top1.low * 100:.2f}–{top1.high * 100:.2f} at 95 %, Wilson"
    return [("top-1", f"{top1.value * 100:.2f} % ({interval}) on {count} photos of {record.data['name']}")]
