"""The parity matrix as Markdown: how each network was trained, then a row for each precision, a column a backend."""

from __future__ import annotations

from collections.abc import Iterator

from tiffin.benchmarks.simulation import is_simulated
from tiffin.benchmarks.studies.matrix_cell import BACKENDS, PRECISIONS, Cell
from tiffin.benchmarks.studies.matrix_training import LESSONS
from tiffin.records import Estimate, Record
from tiffin.records.classification import top_k
from tiffin.records.markdown import escaped
from tiffin.records.paired import agreement, difference, flips
from tiffin.records.ratios import launch_ratios, ratio_over_launches

NOT_RUN = "not run"


def tables(record: Record) -> str:
    """Both tables, with what was measured on what."""
    return "\n".join([*_networks(record), "", *_cells(record), "", *_notes(record)])


def _networks(record: Record) -> Iterator[str]:
    yield "| network | trained | input | top-1, torch fp32 | int8 on ORT, points |"
    yield "| --- | --- | --: | --: | --: |"
    for name in LESSONS:
        lesson = record.options["lessons"].get(name)
        first = record.predictions.get(Cell(name, "fp32", "torch").name)
        if lesson is None or first is None:
            yield f"| {name} | {NOT_RUN} | – | – | – |"
            continue
        size = record.options["cells"][Cell(name, "fp32", "torch").name]["size"]
        int8 = record.predictions.get(Cell(name, "int8", "onnxruntime").name)
        lost = _points(difference(int8, first)) if int8 else "–"
        yield f"| {name} | {_words(lesson)} | {size} | {_percent(top_k(first))} | {lost} |"


def _words(lesson: dict[str, object]) -> str:
    if lesson["mode"] == "shipped":
        return "the shipped checkpoint"
    if lesson["mode"] == "features":
        return f"head on frozen ImageNet features, {lesson['epochs']} epochs"
    return f"from drawn weights on {lesson['classes']} coarse classes, {lesson['epochs']} epochs"


def _cells(record: Record) -> Iterator[str]:
    yield f"| network | precision | {' | '.join(BACKENDS)} |"
    yield "| --- | --- |" + " --- |" * len(BACKENDS)
    for name in LESSONS:
        if name not in record.options["lessons"]:
            yield f"| {name} | all |" + f" {NOT_RUN} |" * len(BACKENDS)
            continue
        for precision in PRECISIONS:
            texts = (_text(record, Cell(name, precision, backend)) for backend in BACKENDS)
            yield f"| {name} | {precision} | {' | '.join(escaped(text) for text in texts)} |"


def _text(record: Record, cell: Cell) -> str:
    subject = next((each for each in record.subjects if each.name == cell.name), None)
    if subject is None:
        return NOT_RUN
    parts = ["built" if is_simulated(subject) else ""]
    if subject.reason:
        parts.append(f"not simulated: {subject.reason}" if is_simulated(subject) else subject.reason)
    else:
        parts += _answers(record, cell, is_simulated(subject))
        parts.append(_speed(record, cell))
    if "int8" in cell.name and cell.backend == "openvino" and not subject.reason:
        parts.append(_without_vnni(record, cell))
    return "; ".join(part for part in parts if part)


def _answers(record: Record, cell: Cell, in_float: bool) -> list[str]:
    """Agreement with its interval, flips, largest difference."""
    found = record.predictions.get(cell.name)
    reference = record.predictions.get(Cell(cell.architecture, "fp32", "torch").name)
    if found is None or reference is None:
        return ["no answers"]
    gap = record.options["cells"][cell.name][f"difference of {cell.name}"]
    changed = flips(found, reference).count
    words = "simulated " if in_float else ""
    return [
        f"{words}{_percent(agreement(found, reference))}",
        f"{changed} {'flip' if changed == 1 else 'flips'}",
        f"Δ {gap:.0e}",
    ]


def _speed(record: Record, cell: Cell) -> str:
    """p50 as a part of fp32's on the same backend."""
    if cell.precision == "fp32" or cell.backend == "tensorrt_rtx":
        return ""
    ours, theirs = record.rounds.get(cell.name), record.rounds.get(cell.beside)
    if ours is None or theirs is None:
        about = record.options["cells"][cell.name]
        return f"not timed: {next((why for what, why in about.items() if what.startswith('not timed')), 'left out')}"
    found = ratio_over_launches(launch_ratios(ours, theirs))
    return f"× {found.value:.2f} ({found.low:.2f}–{found.high:.2f})"


def _without_vnni(record: Record, cell: Cell) -> str:
    if not record.options["cells"][cell.name]["vnni"]:
        return "no VNNI here"
    found = record.predictions.get(cell.without_vnni)
    reference = record.predictions.get(Cell(cell.architecture, "fp32", "torch").name)
    if found is None or reference is None:
        return "without VNNI: no answers"
    return f"without VNNI {_percent(agreement(found, reference))}"


def _notes(record: Record) -> Iterator[str]:
    asked = record.options
    machines = dict.fromkeys((about["cpu"], about["vnni"]) for about in asked["cells"].values())
    on = " and ".join(f"{cpu} ({'with' if vnni else 'without'} VNNI)" for cpu, vnni in machines)
    timed = f"{asked['timing']['launches']} launches" if asked["timing"] else "not timed"
    yield (
        f"{on}, {asked['threads']} thread, {record.data['count']} test photos of "
        f"{record.data['name']}, {asked['per_class']} calibration photo a class, {timed}."
    )
    missing = [name for name in LESSONS if name not in asked["lessons"]]
    if missing:
        yield f"\nNot run yet: `make matrix ARGS='--architecture {missing[0]}'`, or all of them: `make matrix`."


def _percent(found: Estimate) -> str:
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f}–{100 * found.high:.1f})"


def _points(found: Estimate) -> str:
    return f"{100 * found.value:+.1f} ({100 * found.low:+.1f} to {100 * found.high:+.1f})"
