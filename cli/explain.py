"""The command that says where an artifact lost answers, and the likeliest cause: explain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import notes, options, output, plain, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records import Record
    from ..records.causes import Cause
    from ..records.loss_budget import Stage

_SHOWN = 10
_HEADER = ("stage", "top-1 %", "harmed", "healed", "still wrong", "flips", "newly", "recov.", "photos")


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(explain)


def explain(
    artifact: Annotated[str, typer.Argument(help="Artifact; FOLDER@BACKEND runs it on another engine.")],
    checkpoint: Annotated[
        str | None, typer.Option(help="Source that it was exported from. Default: found beside it, or shipped.")
    ] = None,
    backend: options.Backend = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    data: options.Data = None,
    role: Annotated[str, typer.Option(help="Role of the photos: confirm or select.")] = "confirm",
    photos: Annotated[int | None, typer.Option(min=1, help="How many. Default: all.")] = None,
    cpu_classes: Annotated[
        str | None,
        typer.Option(help="Such as avx2,sse41, or none. Default: the certified ones; for int8 without, avx2."),
    ] = None,
    tries: Annotated[int, typer.Option(min=0, help="Photos that causes are tried on; 0 looks for none.")] = 200,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="Record to write.")] = Path("out/explain.json"),
    as_json: options.Json = False,
) -> None:
    """Where were answers lost, and why?

    Stage by stage from the checkpoint on. See docs/explain.md.
    """
    from ..benchmarks.explain.measure import Asked
    from ..benchmarks.explain.measure import explain as find
    from ..data import sample
    from ..errors import BadInput
    from .build import dataset_of

    if role not in ("confirm", "select"):
        raise BadInput(f"role {role!r} to explain on", "confirm or select: photos that training has not seen")
    (own,) = options.candidates([artifact], backend, threads, precision)
    if own.artifact:
        options.require_classifier(own.artifact)
    dataset = dataset_of(data)
    drawn = dataset.role(role) if photos is None else sample(dataset.role(role), photos, seed)
    asked = Asked(own, dataset, role, drawn, out.parent / "cache", checkpoint, _classes(cpu_classes), tries, seed)
    output.prepare_record(out)
    render.echo_options(data=dataset.name, role=role, photos=len(drawn), cpu_classes=cpu_classes or "default",
                        tries=tries, seed=seed, out=out)  # fmt: skip
    record = find(asked, (lambda name, total: lambda done: None) if as_json else render.TerminalProgress().bar)
    output.save(record, out)
    show_result(record, as_json)
    output.say_record(out)


def _classes(words: str | None) -> tuple[str, ...] | None:
    """None for the default; no class at all for the word none."""
    if words is None:
        return None
    named = tuple(word.strip().lower() for word in words.split(",") if word.strip())
    return () if named == ("none",) else named


def show_result(record: Record, as_json: bool, markdown: bool = False) -> None:
    """Print a record of kind "explain"."""
    if as_json:
        render.show(plain.as_json(explain_json(record)))
    else:
        render.show(explain_markdown(record) if markdown else f"\n{explain_text(record)}")


def explain_json(record: Record) -> dict[str, Any]:
    """Stages, sums, hypotheses and what is absent, as plain values."""
    from ..records.causes import causes
    from ..records.loss_budget import adds_up, loss_budget, worst_stage

    stages = loss_budget(record)
    worst = worst_stage(stages)
    tried = [{**asdict(each), "explains": each.explains, "undoes": each.undoes} for each in causes(record)]
    return {
        "environment": dict(record.environment),
        "data": dict(record.data),
        "stages": [asdict(stage) for stage in stages],
        "adds_up": adds_up(stages),
        "absent": {subject.name: subject.reason for subject in record.subjects if subject.reason},
        "worst": worst.name if worst else None,
        "photos": [photo for photo in _photos(record, worst, None)] if worst else [],
        "causes": tried,
        "ranges": list(record.options.get("ranges") or ()),
        "lost": list(record.options.get("lost") or ()),
    }


def explain_text(record: Record) -> str:
    """Table of at most 80 columns, sums, causes, and photos of the worst stage."""
    from ..records.loss_budget import loss_budget, worst_stage

    stages = loss_budget(record)
    worst = worst_stage(stages)
    said = [sums_line(stages), *_absent(record), *notes.data_notes(record)]
    parts = [_table(record, stages).text(), render.wrapped(said), render.wrapped(cause_lines(record))]
    if worst is not None:
        rows = [_photo_line(photo) for photo in _photos(record, worst, _SHOWN)]
        more = f", {_SHOWN} of them" if len(worst.rows) > _SHOWN else ""
        parts.append(render.wrapped([f"photos that flipped in the worst stage, {worst.name}{more}:", *rows]))
    return "\n\n".join(parts)


def explain_markdown(record: Record) -> str:
    """The table and the notes, for a page."""
    from ..records.loss_budget import loss_budget

    stages = loss_budget(record)
    said = [sums_line(stages), *cause_lines(record), *_absent(record), *notes.data_notes(record)]
    return _table(record, stages).markdown() + "\n\n" + "\n".join(f"- {line}" for line in said)


def _table(record: Record, stages: Sequence[Stage]) -> render.Table:
    from ..records.loss_budget import stage_like

    by_name = {stage.name: stage for stage in stages}
    listed = [subject for subject in record.subjects if stage_like(subject)]
    rows = [_row(by_name[each.name], stages[0]) if each.name in by_name else [each.name, "absent", *[""] * 7]
            for each in listed]  # fmt: skip
    return render.Table(_HEADER, rows).compact()


def _row(stage: Stage, first: Stage) -> list[str]:
    counts = (stage.harmed, stage.healed, stage.still_wrong, stage.flipped, stage.newly, stage.recovered)
    shown = [str(count) for count in counts] if stage is not first else [""] * len(counts)
    return [stage.name, f"{stage.right / stage.n * 100:.2f}", *shown, "" if stage.n == first.n else str(stage.n)]


def sums_line(stages: Sequence[Stage]) -> str:
    """Whether what each stage lost and won leads from the first to the last that all photos went through."""
    from ..records.loss_budget import adds_up

    steps = _unbranched(stages)
    harmed, healed, newly, recovered = (
        sum(getattr(stage, name) for stage in steps) for name in ("harmed", "healed", "newly", "recovered")
    )
    word, last = "the stages add up" if adds_up(tuple(stages)) else "THE STAGES DO NOT ADD UP", steps[-1]
    each = "" if len(steps) == len(stages) else f"; what follows comes after {last.name}, each by itself"
    return (
        f"{word}: {stages[0].right} right - {harmed} harmed + {healed} healed = {last.right}; "
        f"{newly} newly flipped - {recovered} recovered = {last.flipped} of {last.n}{each}"
    )


def _unbranched(stages: Sequence[Stage]) -> list[Stage]:
    """From the first as long as one stage alone, with all photos, comes after another."""
    steps = [stages[0]]
    while True:
        following = [stage for stage in stages if stage.after == steps[-1].name]
        if len(following) != 1 or following[0].n != stages[0].n:
            return steps
        steps.append(following[0])


def _absent(record: Record) -> list[str]:
    return [f"absent: {subject.name}: {subject.reason}" for subject in record.subjects if subject.reason]


def cause_lines(record: Record) -> list[str]:
    """The likeliest cause of each stage that hypotheses were tried on, or that none explains it."""
    from ..records.causes import by_stage, causes

    tried = causes(record)
    if not tried:
        return ["no hypothesis about a cause was tried"]
    stages = by_stage(tried)
    kinds = {cause.kind for cause in tried if cause.named}
    if not kinds:
        most = max(stages.values(), key=len)
        return [_unexplained(most[0].against, most)]
    lines = [line for name, held in stages.items() for line in _named(name, held)]
    return lines + _seen(record, kinds)


def _seen(record: Record, kinds: set[str]) -> list[str]:
    """What was seen in the graph of a cause that is named."""
    lines = []
    if "ranges" in kinds:
        lines += [f"worst range: {each['tensor']}: {each['low']:.3g} to {each['high']:.3g}, photos give "
                  f"{each['seen_low']:.3g} to {each['seen_high']:.3g}: {each['clipped'] * 100:.1f} % clipped"
                  for each in (record.options.get("ranges") or ())[:1]]  # fmt: skip
    if "activation" in kinds:
        lines += [f"behind {each['layer']}, without {each['wanted']}, values reach {each['low']:.3g} to "
                  f"{each['high']:.3g}" for each in (record.options.get("lost") or ())[:3]]  # fmt: skip
    return lines


def _named(stage: str, held: Sequence[Cause]) -> list[str]:
    """The cause that explains a stage best, and those that explain it as well; a later stage keeps what it inherits."""
    named = [cause for cause in held if cause.named]
    leads = [f"cause of {stage}: ", *[f"as likely for {stage}: "] * len(named)]
    return [f"{lead}{each.kind}: {_evidence(each)}" for lead, each in zip(leads, named, strict=False)]


def _unexplained(stage: str, held: Sequence[Cause]) -> str:
    """That nothing is lost, or that no hypothesis brings it back."""
    best = held[0]
    if not best.reference:
        return (
            f"{stage}: none of {len(held)} hypotheses raises its top-1 on {best.n} photos; nothing above it tells more"
        )
    lost = (best.right_reference or 0) - best.right
    if not best.flipped and lost <= 0:
        return f"{stage}: nothing to explain on {best.n} photos: no answer differs from {best.reference}"
    return (
        f"{stage}: no hypothesis explains it: {best.flipped} flips and {lost} photos lost from {best.reference} on; "
        f"{len(held)} tried on {best.n} photos, nearest {best.words} (flips {best.flipped} → {best.flipped_under}, "
        f"p = {best.p_value:.2g})"
    )


def _evidence(cause: Cause) -> str:
    """Such as `photos fed as BGR: explains 96 % of the loss on 200 photos; restores 12.0 → 88.5 of 89.0 %`."""
    share = []
    if cause.explains is not None:
        share.append(f"explains {min(cause.explains, 1) * 100:.0f} % of the loss on {cause.n} photos")
    top_1 = f"restores {cause.right / cause.n * 100:.1f} → {cause.right_under / cause.n * 100:.1f}"
    of = f" of {cause.right_reference / cause.n * 100:.1f}" if cause.right_reference is not None else ""
    share.append(f"{top_1}{of} % of {cause.n} photos" if not share else f"{top_1}{of} %")
    if cause.flipped:
        share.append(f"flips {cause.flipped} → {cause.flipped_under}")
    return f"{cause.words}: {'; '.join(share)} (p = {cause.p_value:.1g}, Holm)"


def _photos(record: Record, stage: Stage, most: int | None) -> list[dict[str, Any]]:
    """Photos that flipped in a stage, the harmed first."""
    from ..records.loss_budget import on_photos

    now = record.predictions[stage.name]
    before = on_photos(record.predictions[stage.after], now.photos)
    places = dict(zip(record.predictions[_first(record)].photos, record.data.get("files") or (), strict=False))
    labels = record.data["labels"]
    rows = sorted(stage.rows, key=lambda row: before.top[row, 0] != now.truth[row])[:most]
    return [
        {
            "photo": now.photos[row],
            "file": places.get(now.photos[row], now.photos[row][:16]),
            "truth": labels[int(now.truth[row])],
            "before": labels[int(before.top[row, 0])],
            "now": labels[int(now.top[row, 0])],
        }
        for row in rows
    ]


def _first(record: Record) -> str:
    return next(subject.name for subject in record.subjects if subject.name in record.predictions)


def _photo_line(photo: dict[str, Any]) -> str:
    mark = "harmed" if photo["before"] == photo["truth"] else "healed" if photo["now"] == photo["truth"] else "wrong"
    return f"  {mark}: {photo['file']}: {photo['before']} → {photo['now']}"
