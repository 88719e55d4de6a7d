"""Are the probabilities true? Calibration error before and after the fitted temperature, and what `--unknown` costs.

python benchmarks/studies/confidence.py ARTIFACT@BACKEND … [--data FOLDER] [--out RECORD.json]
python benchmarks/studies/confidence.py --table docs/confidence.md benchmarks/results/confidence.json
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tiffin import machine
from tiffin.benchmarks.accuracy import score, temperatures
from tiffin.benchmarks.studies.page import fill
from tiffin.cli.options import candidates
from tiffin.cli.render import Table
from tiffin.data import find_dataset
from tiffin.data.prepared import prepare_photos
from tiffin.records import Record
from tiffin.records.calibration import coverage, error_estimate, likelihood_gain
from tiffin.records.estimate import Estimate
from tiffin.records.record import load_record

THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)


def main() -> None:
    """Score and save, or fill the page's tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("subjects", nargs="*")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/confidence.json"))
    parser.add_argument("--table", nargs=2, type=Path, metavar=("PAGE", "RECORD"))
    asked = parser.parse_args()
    if asked.table:
        page, record = asked.table[0], load_record(asked.table[1])
        fill(page, "confidence", errors(record))
        fill(page, "coverage", unknown(record))
    else:
        measure(asked.subjects, asked.data, Path("out/cache")).save(asked.out)


def measure(words: list[str], data: Path | None, cache: Path) -> Record:
    """Answers of every subject to the whole confirm role, with the temperatures of their artifacts."""
    rows, dataset = candidates(words, None, None, None, only_scored=True), find_dataset(data)
    photos, environment = dataset.role("confirm"), machine.environment()
    assert rows[0].artifact is not None
    prepared = prepare_photos(photos, rows[0].artifact.preprocess, cache, dataset.kind)
    subjects, answers, options = [], {}, {"temperatures": temperatures(rows)}
    for row in rows:
        answers[row.name], applied = score(row, prepared, cache)
        subjects.append(row.subject(applied=applied))
    return Record("score", environment, tuple(subjects), options, dataset.about("confirm", photos),
                  predictions=answers, created=machine.utc_now())  # fmt: skip


def errors(record: Record) -> str:
    """Each subject's temperature, calibration error before and after, and gain of log-likelihood."""
    rows = []
    for name, found in record.predictions.items():
        fitted = float(record.options["temperatures"][name])
        gain = likelihood_gain(found, fitted)
        before, after = (_percent(error_estimate(found, temperature=each)) for each in (1.0, fitted))
        rows.append([name, f"{fitted:g}", before, after,
                     f"{gain.value:.3f} ({gain.low:.3f}–{gain.high:.3f})"])  # fmt: skip
    return Table(
        ("artifact", "temperature", "error % before (95 %)", "after (95 %)", "log-loss gained, nats"), rows
    ).markdown()


def _percent(share: Estimate | None) -> str:
    if share is None:
        return "none"
    return f"{share.value * 100:.1f} ({share.low * 100:.1f}–{share.high * 100:.1f})"


def unknown(record: Record) -> str:
    """Coverage against accuracy of the first and the second subject."""
    chosen = list(record.predictions.items())[:2]
    found = [coverage(answers, THRESHOLDS, float(record.options["temperatures"][name])) for name, answers in chosen]
    rows = [
        [f"{row[0].threshold:g}", *(cell for one in row for cell in (_percent(one.answered), _percent(one.right)))]
        for row in zip(*found, strict=True)
    ]
    header = ["confidence at least"]
    for name, _ in chosen:
        header += [f"{name}: answered %", "of these right %"]
    return Table(header, rows).markdown()


if __name__ == "__main__":
    main()
