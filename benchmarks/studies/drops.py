"""How many points int8 costs a network that is trained longer than the parity matrix's: `tiffin optimize`, by a margin.

    python benchmarks/studies/drops.py DATA FOLDER [--architecture NAME]... [--work out/drops]
    python benchmarks/studies/drops.py --table docs/zoo.md FOLDER

The parity matrix compares answers to 300 photos, too few to show half a point. Here each network learns the same ten
coarse classes from all their train photos and is searched for, by the command's defaults but for the margin. What is
shipped, and each int8 artifact that the search made, answers all their test photos. FOLDER gets
`drop-NAME-search.json` and `drop-NAME.json`; what it has of the same lesson and margin is not run again, save by
`--anew`.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.store import is_artifact
from tiffin.benchmarks.accuracy import score
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.studies.matrix_training import Lesson, taught, trained
from tiffin.benchmarks.studies.page import fill
from tiffin.benchmarks.studies.steps import run_step
from tiffin.benchmarks.studies.without_logits import without_logits
from tiffin.cli.options import PER_CLASS
from tiffin.cli.render import Table, TerminalProgress, say
from tiffin.cli.tables import VERDICT_HEADER, verdict_cells
from tiffin.data import Dataset, find_dataset
from tiffin.data.prepared import prepare_photos
from tiffin.errors import TiffinError
from tiffin.export.loaders import open_source
from tiffin.optimize.answer import sentence
from tiffin.optimize.budget import Budget, SearchOptions
from tiffin.optimize.optimize import optimize, roles
from tiffin.records import Record
from tiffin.records.classification import top_k
from tiffin.records.paired import flips, non_inferior
from tiffin.records.ratios import launch_ratios, ratio_over_launches
from tiffin.records.record import load_record

LIMIT_S = 4 * 3600.0


@dataclass(frozen=True)
class Case:
    """A network, how it is trained, and how much of its top-1 may be lost (0.005 = half a point)."""

    lesson: Lesson
    margin: float


# The margins that peers' published drops on ImageNet ask for: 0.2 to 0.5 points, MobileNetV3 0.85 and far more.
CASES = {
    "mobilenet_v3_small": Case(Lesson("scratch", 60, 128, per_class=None), 0.01),
    "mobilenet_v2": Case(Lesson("scratch", 24, 128, per_class=None), 0.005),
    "resnet50": Case(Lesson("scratch", 6, 128, per_class=None), 0.005),
}


def searched(name: str, dataset: Dataset, folder: Path) -> Record:
    """Train and search; the search's record. What an earlier run has built, answered and timed is found again.

    Args:
        dataset: as `taught` gives it.
        folder: for weights, artifacts and answers.
    """
    case = CASES[name]
    weights = trained(name, case.lesson, dataset, folder)
    photos = roles(dataset, PER_CLASS, 0, folder / "cache")
    budget, search = Budget(max_drop=case.margin), SearchOptions(folder)
    answer = optimize([open_source(str(weights))], photos, budget, search, TerminalProgress())
    about = {"network": name, "lesson": case.lesson.told(len(dataset.labels)),
             "margin": case.margin, "reference": answer.choice.reference, "winner": answer.choice.winner,
             "shipped": answer.shipped, "sentence": sentence(answer)}  # fmt: skip
    return replace(without_logits(answer.search), options={**answer.search.options, **about})


def _known(path: Path, case: Case) -> bool:
    """True for a record of this lesson and margin."""
    if not path.exists():
        return False
    told = load_record(path).options
    return bool(Lesson.of(told["lesson"]) == case.lesson and told["margin"] == case.margin)


def confirmed(name: str, data: Path, work: Path, out: Path) -> None:
    """What was shipped and every int8 artifact of the search on the confirm role, with what they are compared with."""
    environment = machine.environment()
    dataset, folder = taught(CASES[name].lesson, find_dataset(data)), work / name
    search = searched(name, dataset, folder)
    search.save(out / f"drop-{name}-search.json")
    told = search.options
    made = [Artifact.load(each) for each in sorted((folder / "artifacts").iterdir()) if is_artifact(each)]
    artifacts = {each.digest: each for each in made}
    host = artifacts[search.subject(told["reference"]).artifact].preprocess  # that of all: one network was searched for
    photos = prepare_photos(dataset.role("confirm"), host, folder / "cache", dataset.kind)
    rows, answers, subjects = [told["reference"], told["shipped"]], {}, []
    int8 = [each for each in search.subjects if each.precision == "int8" and each.place == "native"]
    rows += [each.name for each in int8 if each.artifact in artifacts]  # others could not be built
    for row in map(search.subject, dict.fromkeys(rows)):
        candidate = Candidate(row.name, artifacts[row.artifact], RunConfig(**row.requested))
        say(f"confirming {row.name}")
        try:
            answers[row.name], applied = score(candidate, photos, folder / "cache")
        except TiffinError as error:  # one that an engine cannot run is a row, too
            subjects.append(replace(candidate, reason=error.what).subject())
        else:
            subjects.append(candidate.subject(applied=applied))
    about = {**search.data, "role": "confirm", "count": len(photos)}
    options = {word: told[word] for word in ("network", "lesson", "margin", "reference", "shipped")}
    record = Record("score", environment, tuple(subjects), options, about, predictions=answers,
                    created=machine.utc_now())  # fmt: skip
    without_logits(record).save(out / f"drop-{name}.json")


def table(folder: Path) -> str:
    """What was shipped and each int8 artifact of each network, for a page."""
    header = ("network", "artifact", "top-1 %", "flips", *VERDICT_HEADER, "p50, × first row")
    rows = [row for name in CASES for row in _rows(name, folder)]
    return Table(header, rows, left=2).markdown()


def _rows(name: str, folder: Path) -> Iterator[tuple[str, ...]]:
    path = folder / f"drop-{name}.json"
    if not path.exists():
        yield (name, *["not run"] * 7)
        return
    record, search = load_record(path), load_record(folder / f"drop-{name}-search.json")
    told = record.options
    reference, shipped = told["reference"], told["shipped"]
    base = record.predictions[reference]
    for subject in (each.name for each in record.subjects):
        words = re.sub("^checkpoint-?", lambda mark: "fp32" * ("-" not in mark[0]), subject)
        words += ", shipped" * (subject == shipped)
        if subject not in record.predictions:
            yield (name, words, *["–"] * 5, record.subject(subject).reason)
            continue
        found = record.predictions[subject]
        top, changed = top_k(found), flips(found, base)
        answers = (name, words, f"{100 * top.value:.2f}", f"{changed.count} of {changed.n}")
        if subject == reference:
            yield (*answers, *["–"] * 4)
            continue
        *difference, decision = verdict_cells(non_inferior(found, base, told["margin"]))
        yield (*answers, *difference, f"{decision} at {100 * told['margin']:.1f}", _speed(search, subject, reference))


def _speed(search: Record, subject: str, reference: str) -> str:
    if subject not in search.rounds:
        return f"not timed: {search.subject(subject).reason}"
    found = ratio_over_launches(launch_ratios(search.rounds[subject], search.rounds[reference]))
    return f"{found.value:.2f} ({found.low:.2f}–{found.high:.2f})"


def main() -> None:
    """Run what is missing, or write the table into a page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs=2, type=Path)
    words.add_argument("--work", type=Path, default=Path("out/drops"))
    words.add_argument("--architecture", action="append", choices=list(CASES), metavar="NAME")
    words.add_argument("--anew", action="store_true", help="also those that FOLDER has")
    words.add_argument("--one", choices=list(CASES), help=argparse.SUPPRESS)
    words.add_argument("--table", action="store_true")
    asked = words.parse_args()
    if asked.table:
        fill(asked.paths[0], "drops", table(asked.paths[1]))
        return
    data, out = asked.paths
    if asked.one:
        import torch

        torch.set_num_threads(1)  # one network after the other, others may be trained beside it
        confirmed(asked.one, data, asked.work, out)
        return
    for name in asked.architecture or CASES:
        if asked.anew or not _known(out / f"drop-{name}.json", CASES[name]):
            say(name)
            say(
                run_step(__file__, [str(data), str(out), "--work", str(asked.work), "--one", name], LIMIT_S) or "  done"
            )


if __name__ == "__main__":
    main()
