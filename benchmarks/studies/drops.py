"""How many points int8 costs a network that is trained as well as the photos allow: `tiffin optimize`, by its defaults.

    python benchmarks/studies/drops.py DATA FOLDER [--architecture NAME]... [--work out/drops]
    python benchmarks/studies/drops.py --table docs/zoo.md FOLDER

The parity matrix compares answers to 300 photos, too few to show half a point. Here each network learns the same ten
coarse classes from all their train photos, is searched for with its margin, and the winner is confirmed on all their
test photos. FOLDER gets `drop-NAME.json` with these answers and `drop-NAME-search.json` with the search; a network
that it has is left as it is.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tiffin.benchmarks.studies.matrix_training import Lesson, taught, trained
from tiffin.benchmarks.studies.page import fill
from tiffin.benchmarks.studies.steps import run_step
from tiffin.cli.render import Table, TerminalProgress, say
from tiffin.data import find_dataset
from tiffin.export.loaders import open_source
from tiffin.optimize.answer import sentence
from tiffin.optimize.budget import Budget, SearchOptions
from tiffin.optimize.optimize import optimize, roles
from tiffin.records import Record
from tiffin.records.classification import top_k
from tiffin.records.paired import flips, non_inferior
from tiffin.records.ratios import launch_ratios, ratio_over_launches
from tiffin.records.record import load_record

CALIBRATION_PER_CLASS = 3  # `tiffin optimize`'s
LIMIT_S = 4 * 3600.0


@dataclass(frozen=True)
class Case:
    """A network, how it is trained, and how much of its top-1 may be lost (0.005 = half a point)."""

    lesson: Lesson
    margin: float


CASES = {
    "mobilenet_v3_small": Case(Lesson("scratch", 60, 128, per_class=None), 0.01),
    "mobilenet_v2": Case(Lesson("scratch", 24, 128, per_class=None), 0.005),
    "resnet50": Case(Lesson("scratch", 6, 128, per_class=None), 0.005),
}


def run_one(name: str, data: Path, work: Path, out: Path) -> None:
    """Train, search, confirm, keep both records."""
    import torch

    case, folder, said = CASES[name], work / name, TerminalProgress()
    dataset = taught(case.lesson, find_dataset(data))
    torch.set_num_threads(1)
    weights = trained(name, case.lesson, dataset, folder)
    photos = roles(dataset, CALIBRATION_PER_CLASS, 0, folder / "cache")
    budget, search = Budget(max_drop=case.margin), SearchOptions(folder)
    answer = optimize([open_source(str(weights))], photos, budget, search, said)
    about = {"network": name, "lesson": {**asdict(case.lesson), "classes": len(dataset.labels)},
             "margin": case.margin, "reference": answer.choice.reference, "winner": answer.choice.winner,
             "shipped": answer.shipped, "sentence": sentence(answer)}  # fmt: skip
    _keep(answer.search, about, _searched(out, name))
    if answer.confirmation:
        _keep(load_record(folder / "confirm.json"), about, _confirmed(out, name))


def _keep(record: Record, about: dict[str, Any], path: Path) -> None:
    """Without logits, which no figure here is made of."""
    answers = {name: replace(found, logits=None) for name, found in record.predictions.items()}
    replace(record, options={**record.options, **about}, predictions=answers).save(path)


def _confirmed(folder: Path, name: str) -> Path:
    return folder / f"drop-{name}.json"


def _searched(folder: Path, name: str) -> Path:
    return folder / f"drop-{name}-search.json"


def table(folder: Path) -> str:
    """One row a network, for a page."""
    rows = [_row(name, folder) for name in CASES]
    header = ("network", "margin", "top-1 %, fp32", "shipped", "verdict", "flips", "p50, of fp32")
    return Table(header, rows, left=1).markdown()


def _row(name: str, folder: Path) -> tuple[str, ...]:
    if not _searched(folder, name).exists():
        return (name, *["not run"] * 6)
    search = load_record(_searched(folder, name))
    told = search.options
    margin = f"{100 * told['margin']:.1f} points"
    if not _confirmed(folder, name).exists():
        return (name, margin, "–", told["shipped"] or "nothing", told["sentence"], "–", "–")
    found = load_record(_confirmed(folder, name)).predictions
    base, winner = found[told["reference"]], found[told["winner"]]
    verdict, changed, top = non_inferior(winner, base, told["margin"]), flips(winner, base), top_k(base)
    ratio = ratio_over_launches(launch_ratios(search.rounds[told["winner"]], search.rounds[told["reference"]]))
    return (
        name, margin, f"{100 * top.value:.1f} ({100 * top.low:.1f}–{100 * top.high:.1f})", told["shipped"],
        f"{told['winner']}: {verdict.decision.value}, {verdict.reason}", f"{changed.count} of {changed.n}",
        f"{ratio.value:.2f} ({ratio.low:.2f}–{ratio.high:.2f})",
    )  # fmt: skip


def main() -> None:
    """Run what is missing, or write the table into a page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs=2, type=Path)
    words.add_argument("--work", type=Path, default=Path("out/drops"))
    words.add_argument("--architecture", action="append", choices=list(CASES), metavar="NAME")
    words.add_argument("--one", choices=list(CASES), help=argparse.SUPPRESS)
    words.add_argument("--table", action="store_true")
    asked = words.parse_args()
    if asked.table:
        fill(asked.paths[0], "drops", table(asked.paths[1]))
        return
    data, out = asked.paths
    if asked.one:
        run_one(asked.one, data, asked.work, out)
        return
    for name in asked.architecture or CASES:
        if not _searched(out, name).exists():
            say(name)
            say(
                run_step(__file__, [str(data), str(out), "--work", str(asked.work), "--one", name], LIMIT_S) or "  done"
            )


if __name__ == "__main__":
    main()
