"""Architecture × precision × backend: what is exported, how near to torch fp32 it answers, how fast it is, or why not.

    python benchmarks/studies/matrix.py DATA RECORD.json [--architecture NAME]... [--photos 300] [--per-class 1]
    python benchmarks/studies/matrix.py --table docs/zoo.md RECORD.json

Each network is trained first (`matrix_training`); then each cell is measured in a process of its own with a time limit
(`matrix_cell`). RECORD.json is written anew after each cell and what it holds is not measured twice: an interrupted run
goes on where it was, one network joins the others. `--again` also tries cells that have a reason in place of answers,
`--anew` measures all that are asked for. One thread throughout.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tiffin import machine
from tiffin.artifact.files import sha256_file
from tiffin.benchmarks.options import RoundOptions
from tiffin.benchmarks.studies.matrix_cell import THREADS, Cell, Materials, cells, measure_cell, refused
from tiffin.benchmarks.studies.matrix_table import tables
from tiffin.benchmarks.studies.matrix_training import LESSONS, Lesson, taught, trained, weights_of
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
    folder, lesson = work / name, LESSONS[name]
    dataset = taught(lesson, dataset)
    checkpoint = load_checkpoint(trained(name, lesson, dataset, folder))
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
        trained(name, LESSONS[name], taught(LESSONS[name], dataset), asked.work / name)
        return
    cell = Cell(name, *rest)
    given = materials(name, dataset, asked.work, asked.photos, asked.per_class, not asked.untimed)
    measure_cell(cell, given).save(_file(asked.work, cell))


def run_all(asked: argparse.Namespace, dataset: Dataset) -> None:
    """All steps that are not done yet, cheapest architecture first."""
    record, how, data = asked.paths[1], conditions(asked), about(dataset, asked.photos)
    known = known_cells(record, how, data)
    shared = [*map(str, asked.paths), "--work", str(asked.work), "--photos", str(asked.photos),
              "--per-class", str(asked.per_class), *(["--untimed"] if asked.untimed else [])]  # fmt: skip
    for name in asked.architecture or LESSONS:
        if not missing(name, known, asked):
            continue
        say(f"{name}: training")
        failed = run_step(__file__, [*shared, "--one", name], asked.train_limit_s)
        if failed:  # no result: the next run trains on
            say(f"  {failed}")
            continue
        drop_other_weights(name, known, sha256_file(weights_of(LESSONS[name], asked.work / name)))
        for cell in missing(name, known, asked):
            say(cell.name)
            known[cell.name] = _run_cell(cell, asked.work, shared, asked.cell_limit_s)
            gather(known, how, data, dataset).save(record)


def missing(name: str, known: Mapping[str, Record], asked: argparse.Namespace) -> list[Cell]:
    """Cells of one network that are to be measured."""
    again = {each for each, part in known.items() if asked.anew or (asked.again and part.subject(each).reason)}
    return [cell for cell in cells(name) if cell.name not in known or cell.name in again]


def drop_other_weights(name: str, known: dict[str, Record], sha256: str) -> None:
    """Cells are compared with each other: where the network was trained again to other weights, none is kept."""
    mine = [cell.name for cell in cells(name) if cell.name in known]
    others = {row.checkpoint for each in mine for row in known[each].subjects if row.checkpoint} - {sha256}
    if others:
        say(f"  known cells are of weights {min(others)[:12]}, not {sha256[:12]}: all of {name} are measured again")
        for each in mine:
            del known[each]


def _run_cell(cell: Cell, work: Path, shared: list[str], limit_s: float) -> Record:
    """Its process writes what it found; where it did not come to that, the reason is the result."""
    if refused(cell):
        return without_answers(cell, refused(cell))
    failed = run_step(__file__, [*shared, "--one", cell.architecture, cell.precision, cell.backend], limit_s)
    if failed:
        say(f"  {failed}")
        return without_answers(cell, failed)
    return load_record(_file(work, cell))


def _file(work: Path, cell: Cell) -> Path:
    return work / "cells" / f"{cell.architecture}-{cell.precision}-{cell.backend}.json"


def without_answers(cell: Cell, reason: str) -> Record:
    """A record of a cell that has a reason in place of answers."""
    subject = Subject(cell.name, reason=reason)
    return Record("study", machine.environment(), (subject,), {cell.name: {}}, created=machine.utc_now())


def conditions(asked: argparse.Namespace) -> dict[str, Any]:
    """What all cells of a record have in common, beside their photos."""
    timing = None if asked.untimed else dataclasses.asdict(TIMING)
    return {"photos": asked.photos, "per_class": asked.per_class, "threads": THREADS, "timing": timing}


def about(dataset: Dataset, photos: int) -> dict[str, Any]:
    """The photos, as the record names them."""
    return {"name": dataset.name, "kind": dataset.kind, "role": "confirm", "count": photos,
            "labels": list(dataset.labels)}  # fmt: skip


def known_cells(path: Path, how: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Record]:
    """Cells that an earlier run measured, by name; none of a network that has another lesson by now.

    Args:
        how, data: `conditions` and `about` of this run.

    Raises:
        BadInput: the record's are others.
    """
    if not path.exists():
        return {}
    record = load_record(path)
    has = {**{word: record.options[word] for word in how}, **record.data}
    odd = [word for word, value in {**how, **data}.items() if has[word] != value]
    if odd:
        raise BadInput(f"{path} has cells of other {', '.join(odd)}", "those that this run measures with",
                       "name another RECORD.json, or run as it was run")  # fmt: skip
    parts = divided(record)
    kept = {name: part for name, part in parts.items() if _as_taught(record, name.split()[0])}
    for name in dict.fromkeys(each.split()[0] for each in parts if each not in kept):
        say(f"{name}: its cells are left out, it has another lesson by now")
    return kept


def _as_taught(record: Record, architecture: str) -> bool:
    return LESSONS.get(architecture) == Lesson.of(record.options["lessons"][architecture])


def gather(known: Mapping[str, Record], how: Mapping[str, Any], data: Mapping[str, Any], dataset: Dataset) -> Record:
    """One record of every cell that is known, in the matrix's order."""
    ordered = [known[cell.name] for name in LESSONS for cell in cells(name) if cell.name in known]
    names = [name for name in LESSONS if any(cell.name in known for cell in cells(name))]
    return gathered(ordered, {name: len(taught(LESSONS[name], dataset).labels) for name in names}, how, data)


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
    known: Sequence[Record], classes: Mapping[str, int], how: Mapping[str, Any], data: Mapping[str, Any]
) -> Record:
    """Records of cells as one.

    Args:
        classes: network → how many it tells apart.
        how: `conditions`; data: `about` the photos.
    """
    options = {
        **how,
        "lessons": {name: LESSONS[name].told(count) for name, count in classes.items()},
        "cells": {name: {**_measured(part), **about} for part in known for name, about in part.options.items()},
    }
    return Record(
        "study", machine.environment(), tuple(subject for part in known for subject in part.subjects), options, data,
        {name: rounds for part in known for name, rounds in part.rounds.items()},
        {name: found for part in known for name, found in part.predictions.items()},
        complete=len(known) == len(LESSONS) * len(cells("")), created=machine.utc_now(),
    )  # fmt: skip


def _measured(part: Record) -> dict[str, Any]:
    """On what and when: cells of one matrix may come from several machines and versions."""
    here = part.environment
    return {"cpu": here["cpu"], "vnni": not machine.VNNI_FEATURES.isdisjoint(here["cpu_features"]),
            "created": part.created, **{word: here[word] for word in ("git_commit", "versions")}}  # fmt: skip


def words() -> argparse.ArgumentParser:
    """What the study is called with."""
    known = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known.add_argument("paths", nargs=2, type=Path)
    known.add_argument("--work", type=Path, default=Path("out/matrix"))
    known.add_argument("--architecture", action="append", choices=list(LESSONS), metavar="NAME")
    known.add_argument("--photos", type=int, default=300, help="test photos that are answered")
    known.add_argument("--per-class", type=int, default=1, help="calibration photos of each class")
    known.add_argument("--train-limit-s", type=float, default=3600.0)
    known.add_argument("--cell-limit-s", type=float, default=1200.0)
    known.add_argument("--untimed", action="store_true", help="answers alone")
    known.add_argument("--again", action="store_true", help="also cells that have a reason in place of answers")
    known.add_argument("--anew", action="store_true", help="also cells that the record has")
    known.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    known.add_argument("--table", action="store_true")
    return known


def main() -> None:
    """Run what is missing, or write the table into a page."""
    asked = words().parse_args()
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
