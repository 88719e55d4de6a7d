"""What a training says of itself, as a record and as a table.

    python benchmarks/studies/training.py CHECKPOINT.json RECORD.json
    python benchmarks/studies/training.py --table docs/train.md RECORD.json...
    python benchmarks/studies/training.py --paired docs/train.md SCORES.json

The record is the training record of the checkpoint with what it was trained to be, without its confusion matrices.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tiffin.benchmarks.studies.page import fill
from tiffin.cli.render import Table
from tiffin.records import Record
from tiffin.records.paired import difference
from tiffin.records.record import load_record

_KEPT = ("architecture", "sha256", "preprocess")
_SPLITS = {"select": "val", "confirm": "test"}  # as the dataset's authors call them
_HEADER = ("training", "scored on", "photos", "epochs", "top-1 % (95 %)", "seconds, all", "an epoch")


def record_of(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """What is committed of a checkpoint's JSON."""
    training = checkpoint["training"]
    about = {key: checkpoint[key] for key in _KEPT}
    parts = {"parts": [_briefly(part) for part in training["parts"]]} if "parts" in training else {}
    return {"kind": "training", **about, "training": {**_briefly(training), **parts}}


def _briefly(told: dict[str, Any]) -> dict[str, Any]:
    scores = [{key: value for key, value in each.items() if key != "confusion"} for each in told["scores"]]
    return {**told, "scores": scores}


def rows(record: dict[str, Any]) -> list[tuple[str, ...]]:
    """One a set of photos that was scored."""
    training = record["training"]
    head = f"{record['architecture']}, {_method(training)}"
    found: list[tuple[str, ...]] = []
    for told in training["scores"]:
        value, low, high = (100 * told["top_1"][key] for key in ("value", "low", "high"))
        scored = f"{told['photos']} {_SPLITS.get(told['role'], told['role'])} photos"
        fitted, *took = _work(training)
        found.append((head, scored, *fitted, f"{value:.2f} ({low:.1f}–{high:.1f})", *took))
    return found


def _method(training: dict[str, Any]) -> str:
    if training["method"] == "average":
        return f"mean of {len(training['parts'])}"
    return f"{training['method']}, seed {training['options']['fit']['seed']}"


def _work(training: dict[str, Any]) -> tuple[tuple[str, str], str, str]:
    """Photos and epochs, seconds of all, of an epoch."""
    epochs = training.get("history")
    if not epochs:
        return ("–", "–"), "–", "–"
    seconds = sum(epoch["seconds"] for epoch in epochs)
    whole = max(training["last_run_seconds"], seconds)  # a run that was cut tells its last part
    return (str(training["photos"]), str(len(epochs))), f"{whole:.0f}", f"{seconds / len(epochs):.1f}"


def table(records: list[dict[str, Any]]) -> str:
    """For a page."""
    return Table(_HEADER, [row for record in records for row in rows(record)], left=2).markdown()


def paired(record: Record) -> str:
    """Each candidate against those before it, on the same photos, for a page."""
    names = list(record.predictions)
    pairs = [(one, other) for at, one in enumerate(names) for other in names[:at]]
    found = [(*pair, difference(*(record.predictions[name] for name in pair))) for pair in pairs]
    told = [
        (one, other, f"{100 * each.value:+.2f} ({100 * each.low:+.2f} to {100 * each.high:+.2f})")
        for one, other, each in found
    ]
    note = f"- paired on {len(record.predictions[names[0]].photos)} test photos, two-sided, {found[0][2].method}"
    return Table(("candidate", "against", "top-1, points (95 %)"), told, left=2).markdown() + "\n\n" + note


def main() -> None:
    """Make a record of a checkpoint, or a page's table of records."""
    if sys.argv[1] == "--paired":
        fill(Path(sys.argv[2]), "average-paired", paired(load_record(Path(sys.argv[3]))))
        return
    if sys.argv[1] == "--table":
        fill(Path(sys.argv[2]), "training", table([json.loads(Path(path).read_text()) for path in sys.argv[3:]]))
        return
    told = record_of(json.loads(Path(sys.argv[1]).read_text()))
    Path(sys.argv[2]).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
