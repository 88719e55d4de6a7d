"""Architecture × precision × backend: what is exported, how near to torch fp32 it answers, how fast it is, or why not.

    python benchmarks/studies/matrix.py DATA RECORD.json [--architecture NAME]... [--photos 300] [--per-class 1]
    python benchmarks/studies/matrix.py --table docs/zoo.md RECORD.json

Each network is trained first (`matrix_training`); then each cell is measured in a process of its own with a time limit
(`matrix_cell`). RECORD.json is written anew after each cell and what it holds is not measured twice: an interrupted run
goes on where it was, one network joins the others, `--again` also tries cells that did not end in time. One thread
throughout.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiffin import machine
from tiffin.benchmarks.options import RoundOptions
from tiffin.benchmarks.studies.matrix_cell import THREADS, Cell, Materials, cells, measure_cell, refused
from tiffin.benchmarks.studies.matrix_table import tables
from tiffin.benchmarks.studies.matrix_training import LESSONS, taught, trained
from tiffin.benchmarks.studies.page import fill
from tiffin.benchmarks.studies.steps import run_step
from tiffin.cli.render import say
from tiffin.data import Dataset, balanced, find_dataset, sample
from tiffin.data.overlap import prove_disjoint
from tiffin.data.prepared import prepare_photos
from tiffin.errors import BadInput
from tiffin.records import Record, Subject
from tiffin.records.record import load_record
from tiffin.train import load_checkpoint

TIMING = RoundOptions(launches=4, blocks=5, block_s=0.1, warmup_s=0.2, target=None, time_limit_s=120)


def materials(name: str, dataset: Dataset, work: Path, photos: int, per_class: int, timed: bool = True) -> Materials:
    """A trained network, photos to answer and others to calibrate with, proven to be others."""
    folder, dataset = work / name, taught(name, dataset)
    checkpoint = load_checkpoint(trained(name, dataset, folder))
    drawn = balanced(dataset.role("calibrate"), per_class, 0)
    confirm = sample(dataset.role("confirm"), photos, 0)
    prove_disjoint(drawn, confirm, ("calibrate", "confirm"), work / "pixel-hashes.json")
    host, cache = checkpoint.preprocess, work / "cache"
    shown, calibration = (prepare_photos(part, host, cache, dataset.kind) for part in (confirm, drawn))
    return Materials(checkpoint, shown, calibration, folder / checkpoint.sha256[:12], TIMING if timed else None)


def one(asked: argparse.Namespace, dataset: Dataset) -> None:
    """The step that `--one` names: an architecture alone is trained, with precision and backend it is a cell."""
    import torch

    torch.set_num_threads(THREADS)
    name, *rest = asked.one
    if not rest:
        trained(name, taught(name, dataset), asked.work / name)
        return
    cell = Cell(name, *rest)
    given = materials(name, dataset, asked.work, asked.photos, asked.per_class, not asked.untimed)
    measure_cell(cell, given).save(_file(asked.work, cell))


def run_all(asked: argparse.Namespace, dataset: Dataset) -> None:
    """All steps that are not done yet, cheapest architecture first."""
    record, drawn = asked.paths[1], {"photos": asked.photos, "per_class": asked.per_class}
    known = known_cells(record, drawn)
    shared = [*map(str, asked.paths), "--work", str(asked.work), "--photos", str(asked.photos),
              "--per-class", str(asked.per_class), *(["--untimed"] if asked.untimed else [])]  # fmt: skip
    for name in asked.architecture or LESSONS:
        missing = [
            cell for cell in cells(name) if cell.name not in known or (asked.again and _failed(known[cell.name]))
        ]
        if not missing:
            continue
        say(f"{name}: training")
        failed = run_step(__file__, [*shared, "--one", name], asked.train_limit_s)
        if failed:  # no result: the next run trains on
            say(f"  {failed}")
            continue
        for cell in missing:
            say(cell.name)
            known[cell.name] = _run_cell(cell, asked.work, shared, asked.cell_limit_s)
            gather(known, drawn, dataset).save(record)


def _failed(part: Record) -> bool:
    return any(about.get("failed") for about in part.options.values())


def _run_cell(cell: Cell, work: Path, shared: list[str], limit_s: float) -> Record:
    """Its process writes what it found; where it did not come to that, the reason is the result."""
    if refused(cell):
        return without_answers(cell, refused(cell))
    failed = run_step(__file__, [*shared, "--one", cell.architecture, cell.precision, cell.backend], limit_s)
    if failed:
        say(f"  {failed}")
        return without_answers(cell, failed, failed=True)
    return load_record(_file(work, cell))


def _file(work: Path, cell: Cell) -> Path:
    return work / "cells" / f"{cell.architecture}-{cell.precision}-{cell.backend}.json"


def without_answers(cell: Cell, reason: str, failed: bool = False) -> Record:
    """A record of a cell that has a reason in place of answers; `failed` where another try may help."""
    subject = Subject(cell.name, reason=reason)
    return Record("study", machine.environment(), (subject,), {cell.name: {"failed": True} if failed else {}},
                  created=machine.utc_now())  # fmt: skip


def known_cells(path: Path, drawn: Mapping[str, int]) -> dict[str, Record]:
    """Cells that an earlier run measured, by name; none of a network that has another lesson by now.

    Args:
        drawn: as for `gathered`.

    Raises:
        BadInput: the record is of other photos.
    """
    if not path.exists():
        return {}
    record = load_record(path)
    if any(record.options[word] != count for word, count in drawn.items()):
        has = {word: record.options[word] for word in drawn}
        raise BadInput(f"{path} has cells of {has}", f"{dict(drawn)}, as this run measures", "name another RECORD.json")
    return {name: part for name, part in divided(record).items() if _as_taught(record, name.split()[0])}


def _as_taught(record: Record, architecture: str) -> bool:
    lesson = record.options["lessons"][architecture]
    return dataclasses.asdict(LESSONS[architecture]) == {key: lesson[key] for key in lesson if key != "classes"}


def gather(known: Mapping[str, Record], drawn: Mapping[str, int], dataset: Dataset) -> Record:
    """One record of every cell that is known, in the matrix's order."""
    ordered = [known[cell.name] for name in LESSONS for cell in cells(name) if cell.name in known]
    names = [name for name in LESSONS if any(cell.name in known for cell in cells(name))]
    data = {"name": dataset.name, "kind": dataset.kind, "role": "confirm", "count": drawn["photos"],
            "labels": dataset.labels}  # fmt: skip
    return gathered(ordered, {name: len(taught(name, dataset).labels) for name in names}, drawn, data)


def divided(record: Record) -> dict[str, Record]:
    """The cells that `gathered` put together, by name."""
    return {
        name: dataclasses.replace(
            record, options={name: about}, data={},
            subjects=tuple(each for each in record.subjects if _belongs(each.name, name)),
            rounds={key: each for key, each in record.rounds.items() if _belongs(key, name)},
            predictions={key: each for key, each in record.predictions.items() if _belongs(key, name)},
        )
        for name, about in record.options["cells"].items()
    }  # fmt: skip


def _belongs(subject: str, cell: str) -> bool:
    return subject == cell or subject.startswith(f"{cell}, ")


def gathered(
    known: Sequence[Record], classes: Mapping[str, int], drawn: Mapping[str, int], data: Mapping[str, Any]
) -> Record:
    """Records of cells as one.

    Args:
        classes: network → how many it tells apart.
        drawn: how many photos are answered, and how many a class calibrate.
    """
    options = {
        **drawn,
        "threads": THREADS,
        "timing": dataclasses.asdict(TIMING),
        "lessons": {name: {**dataclasses.asdict(LESSONS[name]), "classes": count} for name, count in classes.items()},
        "cells": {name: {**_machine(part), **about} for part in known for name, about in part.options.items()},
    }
    return Record(
        "study", machine.environment(), tuple(subject for part in known for subject in part.subjects), options, data,
        {name: rounds for part in known for name, rounds in part.rounds.items()},
        {name: found for part in known for name, found in part.predictions.items()},
        complete=len(known) == len(LESSONS) * len(cells("")), created=machine.utc_now(),
    )  # fmt: skip


def _machine(part: Record) -> dict[str, Any]:
    """What a cell was measured on: cells of one matrix may come from several machines."""
    features = part.environment["cpu_features"]
    return {"cpu": part.environment["cpu"], "vnni": not machine.VNNI_FEATURES.isdisjoint(features)}


def main() -> None:
    """Run what is missing, or write the table into a page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs=2, type=Path)
    words.add_argument("--work", type=Path, default=Path("out/matrix"))
    words.add_argument("--architecture", action="append", choices=list(LESSONS), metavar="NAME")
    words.add_argument("--photos", type=int, default=300, help="test photos that are answered")
    words.add_argument("--per-class", type=int, default=1, help="calibration photos of each class")
    words.add_argument("--train-limit-s", type=float, default=3600.0)
    words.add_argument("--cell-limit-s", type=float, default=1200.0)
    words.add_argument("--untimed", action="store_true", help="answers alone")
    words.add_argument("--again", action="store_true", help="also cells that failed or did not end in time")
    words.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    words.add_argument("--table", action="store_true")
    asked = words.parse_args()
    if asked.table:
        fill(asked.paths[0], "matrix", tables(load_record(asked.paths[1])))
        return
    dataset = find_dataset(asked.paths[0])
    if asked.one:
        one(asked, dataset)
    else:
        run_all(asked, dataset)


if __name__ == "__main__":
    main()
