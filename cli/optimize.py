"""The command that does the whole: search, confirm, ship."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from ..errors import BadInput, NothingFits, command
from . import options, output, render, sources

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..artifact import Artifact
    from ..export.loaders import Source
    from ..optimize.answer import Answer
    from ..optimize.budget import Budget, Objective
    from ..optimize.choice import Row
    from ..records.rounds import Regime

_OF_RECORDS = (
    "from_records", "reference", "max_drop", "max_latency_ms", "max_size_mb", "objective", "portable", "as_json"
)  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(sources.takes_told(optimize))


def optimize(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help=f"fp32 ONNX artifact. {sources.HELP}", show_default=False)] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(help="May compete: a source with a smaller input, an int8 artifact. May repeat."),
    ] = None,
    data: options.Data = None,
    max_drop: Annotated[float, typer.Option(help="Points of top-1 that may be lost against fp32.")] = 1.0,
    max_latency_ms: Annotated[float | None, typer.Option(help="Bound of the median call. Default: none.")] = None,
    max_size_mb: Annotated[float | None, typer.Option(help="Bound of the artifact's files. Default: none.")] = None,
    objective: Annotated[str, typer.Option(help="latency, throughput or size.")] = "latency",
    regime: Annotated[str, typer.Option(help="back-to-back, paced or contended; throughput by --objective.")] = (
        "back-to-back"
    ),
    fps: Annotated[float, typer.Option(help="Pace of --regime paced, photos a second.")] = 30.0,
    portable: Annotated[
        bool,
        typer.Option("--portable/--this-cpu", help="Right answers on every CPU, or on CPUs like this one only."),
    ] = True,
    backend: Annotated[list[str] | None, typer.Option(help="Engine to consider, may repeat. Default: all.")] = None,
    threads: Annotated[list[int] | None, typer.Option(min=1, help="Threads to try, may repeat.")] = None,
    time_budget: Annotated[str, typer.Option(help="Such as 20m, 90s or 1h.")] = "20m",
    per_class: options.PerClass = options.PER_CLASS,
    seed: options.Seed = 0,
    from_records: Annotated[
        list[Path] | None,
        typer.Option(help="Decide from records (bench, score) made on a device; measures nothing. May repeat."),
    ] = None,
    reference: Annotated[
        str | None, typer.Option(help="With --from-records: the subject that is the fp32 model. Default: the first.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for artifacts, records and the winner.")] = Path("out/optimize"),
    as_json: options.Json = False,
    *,
    told: sources.Options,
) -> None:
    """The fastest artifact that is proven as accurate. For this device, with the evidence."""
    from ..optimize.budget import Budget, SearchOptions

    budget = Budget(
        max_drop / 100,
        max_latency_ms / 1e3 if max_latency_ms is not None else None,
        round(max_size_mb * 1e6) if max_size_mb is not None else None,
        cast("Objective", objective),
        portable,
    )
    if from_records:
        options.only(context, _OF_RECORDS, "--from-records")
        _decide(from_records, reference, budget, as_json)
        return
    options.refuse(context, ("reference",), "no --from-records", "--from-records, whose subjects it names")
    if regime != "paced":
        options.refuse(context, ("fps",), f"--regime {regime}", "--regime paced, whose pace it is")
    from .build import COMPARED, dataset_of, drawn_paths, need_build, require_same_preprocessing

    need_build()
    from ..artifact import Artifact
    from ..benchmarks.options import RoundOptions
    from ..optimize.optimize import labels_of, roles
    from ..optimize.optimize import optimize as find

    limit_s = seconds(time_budget)
    chosen = cast("Regime", "throughput" if objective == "throughput" else regime)
    rounds = RoundOptions(regime=chosen, fps=fps, seed=seed)
    output.make_parent(out / "search.json")
    first = _opened(model, told)
    others = [_opened(text) for text in also or ()]
    dataset = dataset_of(data)
    dataset = sources.matched(dataset, labels_of(first), model or "the shipped classifier")
    for each in (first, *others):
        if not isinstance(each, Artifact):
            advice = (
                () if each is first else (f"or `{command('export', each.text)}`, told more, and --also its artifact",)
            )
            require_same_preprocessing(each, None, lambda: drawn_paths(dataset, "select", COMPARED, seed), out, *advice)
    photos = roles(dataset, per_class, seed, out / "cache")
    render.echo_options(
        model=model or "shipped", also=", ".join(also or ()) or "nothing", max_drop=max_drop,
        objective=objective, regime=chosen, portable=portable, time_budget=time_budget, data=dataset.name,
        calibrate=len(photos.calibrate), select=len(photos.select), confirm=len(photos.confirm), seed=seed, out=out,
    )  # fmt: skip
    search = SearchOptions(out, limit_s, tuple(backend) if backend else None, tuple(threads) if threads else None,
                           rounds)  # fmt: skip
    answer = find([first, *others], photos, budget, search, render.TerminalProgress())
    _show(answer, budget, as_json)


def _opened(model: str | None, told: sources.Options | None = None) -> Source | Artifact:
    """An artifact by its folder, any other source by its loader."""
    from ..artifact import Artifact
    from ..export.loaders import is_source

    if model and not is_source(model):
        if told and sources.is_told(told):
            raise BadInput(f"{model} is an artifact, and more is told of it", "its own labels and preprocessing",
                           "leave these options out, or export its source with them")  # fmt: skip
        return Artifact.load(model)
    return sources.opened(model, told)


def seconds(words: str) -> float:
    """`20m`, `90s`, `1h` or plain seconds.

    Raises:
        BadInput: none of these, or not above 0.
    """
    unit = {"s": 1, "m": 60, "h": 3600}.get(words[-1:], 0)
    try:
        found = float(words[:-1]) * unit if unit else float(words)
    except ValueError:
        found = 0.0
    if not 0 < found < 1e7:
        raise BadInput(f"time budget {words!r}", "a time such as 20m, 90s or 1h")
    return found


def _decide(paths: list[Path], reference: str | None, budget: Budget, as_json: bool) -> None:
    """From a device's records: what to ship, unconfirmed where the photos were chosen by."""
    from ..optimize.answer import Answer
    from ..optimize.choice import choose
    from ..optimize.device import merged
    from ..records.record import load_record

    record, first = merged([load_record(path) for path in paths], [str(path) for path in paths], reference)
    choice = choose(record, budget, first)
    _show(Answer(record, choice, shipped=choice.winner), budget, as_json)


def _show(answer: Answer, budget: Budget, as_json: bool) -> None:
    from ..optimize.answer import plain, sentence

    if as_json:
        render.show(plain(answer))
    else:
        render.show("\n" + "\n\n".join([render.wrapped([sentence(answer)]), _table(answer).text(),
                                        render.wrapped(_notes(answer, budget))]))  # fmt: skip
    if answer.shipped is None:
        raise NothingFits(answer.choice.because, "a budget that some candidate meets", "relax a bound")
    if answer.artifact is not None:
        render.say(f"wrote {answer.artifact.folder} ({answer.artifact.size_bytes / 1e6:.1f} MB)")
        render.next_command("predict", answer.artifact.folder, "PHOTO")


def _table(answer: Answer) -> render.Table:
    """Those that were timed, fastest first; marked what is shipped, what was not confirmed, and Pareto's front."""
    timed = sorted((row for row in answer.choice.rows if row.cost), key=lambda row: row.cost.value if row.cost else 0.0)
    header = ["candidate", "p50 ms", "× fp32 (95 %)", "top-1 Δ", "flips", "MB", ""]
    return render.Table(header, [_cells(row, answer) for row in timed])


def _cells(row: Row, answer: Answer) -> list[str]:
    assert row.cost is not None
    ratio = row.speed.ratio if row.speed else None
    marks = {answer.choice.winner: "unproven", answer.shipped: "ship"}
    mark = marks.get(row.name) or ("out" if row.refused else "front" if row.front else "")
    return [
        row.name,
        f"{row.cost.value * 1e3:.2f}",
        f"{ratio.value:.3f} ({ratio.low:.3f}–{ratio.high:.3f})" if ratio else "first",
        f"{row.top_1_change.value * 100:+.2f}" if row.top_1_change else "–",
        f"{row.flips.count}" if row.flips else "–",
        f"{row.size_bytes / 1e6:.1f}",
        mark,
    ]


def _notes(answer: Answer, budget: Budget) -> list[str]:
    """What the reader must know: which photos chose, what is risked, why the others are out."""
    from .notes import cut_notes, setting_notes

    record, data = answer.search, answer.search.data
    notes = []
    if data:
        notes = [f"chosen on {data['count']} photos ({data['role']}) of {data['name']}; top-1 Δ and flips are theirs"]
    if record.rounds:
        notes += [*setting_notes(record), *cut_notes(record)]
    if answer.confirmation:
        notes.append(f"looks at the confirm photos so far, this one included: {answer.looks}")
    if not budget.portable:
        notes.append("--this-cpu: on CPUs with other instruction sets the same file may answer otherwise")
    return notes + [f"out: {row.name}: {row.refused}" for row in answer.choice.rows if row.refused]
