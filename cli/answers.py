"""What a record's predictions say in detail: by class, confused pairs, calibration, flipped photos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .render import Table

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..records import Predictions, Record

MOST_FLIPS = 20  # shown a row; all are in the JSON
MOST_PAIRS = 5


def answers_table(record: Record, reference: str) -> Table:
    """Each row: calibration error, photos lost and won against the reference with McNemar's p, the worst class."""
    from ..records.multiple import worst_class
    from ..records.paired import mcnemar

    rows = []
    for name in record.predictions:
        found, base = record.answers(name, reference)
        if found is None or base is None or found.kind != "photos":
            continue
        test = mcnemar(found, base)
        worst = worst_class(found, base, classes_of(record, found))
        rows.append(
            [
                name,
                _calibration(record, name),
                f"{test.lost}/{test.won}",
                f"{test.p_value:.2g}",
                f"{label(record, worst.label)} -{worst.lost - worst.won} of {worst.n}" if worst else "none",
            ]
        )
    return Table(("answers", "calibration error %", "lost/won", "p", "class proven worse"), rows)


def _calibration(record: Record, name: str) -> str:
    """Calibration error at temperature 1 and at the artifact's, per cent."""
    from ..records.calibration import calibration_error

    found, temperature = record.predictions[name], temperature_of(record, name)
    if found.logits is None:
        return "not known: no logits"
    plain = f"{calibration_error(found) * 100:.2f}"
    if temperature in (None, 1.0):
        return plain
    return f"{plain} → {calibration_error(found, temperature=temperature) * 100:.2f}"


def temperature_of(record: Record, name: str) -> float | None:
    """What a row's artifact divides its logits by; None where the record does not tell."""
    found: float | None = record.options.get("temperatures", {}).get(name)
    return found


def confidence_notes(record: Record) -> list[str]:
    """Each row's calibration error with its interval, at temperature 1 and at the artifact's."""
    notes = []
    for name, found in record.predictions.items():
        temperature = temperature_of(record, name)
        if found.kind == "photos" and len(found) and found.logits is not None and temperature is not None:
            said = "; ".join(_error(found, each) for each in dict.fromkeys((1.0, temperature)))
            notes.append(f"{name}: calibration error (95 %) {said}")
    return notes


def _error(found: Predictions, temperature: float) -> str:
    from ..records.calibration import error_estimate

    error = error_estimate(found, temperature=temperature)
    value, low, high = (each * 100 for each in (error.value, error.low, error.high))
    return f"{value:.1f} % ({low:.1f}–{high:.1f}) at temperature {temperature:g}"


def confidence_json(record: Record, name: str) -> dict[str, Any] | None:
    """Temperature, calibration error and log-likelihood of a row; None where the record cannot tell."""
    from ..records.calibration import error_estimate, negative_log_likelihood

    found, temperature = record.predictions.get(name), temperature_of(record, name)
    if found is None or found.kind != "photos" or not len(found) or found.logits is None or temperature is None:
        return None
    return {
        "temperature": temperature,
        **{
            when: {
                "calibration_error": vars(error_estimate(found, temperature=each)),
                "negative_log_likelihood": negative_log_likelihood(found, each),
            }
            for when, each in (("before", 1.0), ("after", temperature))
        },
    }


def classes_of(record: Record, found: Predictions) -> int:
    """How many classes there are, by the record's labels or by what was answered."""
    return len(record.data.get("labels") or ()) or int(max(found.truth.max(), found.top.max())) + 1


def label(record: Record, index: int) -> str:
    """A class's name, or its number where the record has no names."""
    labels: Sequence[str] = record.data.get("labels") or ()
    return labels[index] if index < len(labels) else str(index)


def coarse_table(record: Record, reference: str) -> Table:
    """Coarse top-1 of each group of classes, for the reference (row 1) and the next two rows."""
    from ..records.classification import by_group

    groups = record.data.get("coarse")
    names = [reference, *(name for name in record.predictions if name != reference)][:3]
    kept = [name for name in names if name in record.predictions and record.predictions[name].kind == "photos"]
    if not groups or not kept:
        return Table((), ())
    found = {name: by_group(record.predictions[name], groups) for name in kept}
    rows = [
        [str(group), str(first.n), *(f"{found[name][group].value * 100:.1f}" for name in kept)]
        for group, first in found[kept[0]].items()
    ]
    return Table(("coarse class, top-1 %", "n", *(f"row {names.index(name) + 1}" for name in kept)), rows)


def answer_notes(record: Record, reference: str) -> list[str]:
    """The smallest drop that this sample sees, pairs confused most, and the flipped photos."""
    notes = []
    for name, found in record.predictions.items():
        if found.kind == "photos":
            notes += [*_visible(record, name, reference), f"{name}: confused most: {_confused(record, found)}"]
        flipped = flips_of(record, name, reference)
        shown = "; ".join(f"{row['photo']}: {row['before']} → {row['now']}" for row in flipped[:MOST_FLIPS])
        more = f"; {len(flipped) - MOST_FLIPS} more in --json" if len(flipped) > MOST_FLIPS else ""
        notes += [f"{name}: flipped: {shown}{more}"] if flipped else []
    return notes


def _visible(record: Record, name: str, reference: str) -> list[str]:
    from ..records.paired import mcnemar
    from ..records.power import smallest_visible_drop

    found, base = record.answers(name, reference)
    if found is None or base is None or name == reference:
        return []
    discordance = mcnemar(found, base).discordance(len(found))
    visible = smallest_visible_drop(len(found), discordance)
    said = f"drops from {visible * 100:.2f} points on" if visible else "no drop: too few photos changed sides"
    return [f"{name}: {len(found)} photos, of which {discordance:.2%} changed sides, show {said} (in 4 of 5 samples)"]


def _confused(record: Record, found: Predictions) -> str:
    import numpy as np

    from ..records.classification import confusion

    counts = confusion(found, classes_of(record, found))
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [(*np.unravel_index(index, counts.shape), int(counts.flat[index])) for index in order]
    words = [f"{label(record, int(t))} as {label(record, int(a))} {n}" for t, a, n in pairs if n]
    return ", ".join(words) or "none"


def flips_of(record: Record, name: str, reference: str) -> list[Mapping[str, Any]]:
    """Every photo whose answer differs from the reference's: file or pixel hash, truth, both answers."""
    from ..records.paired import flipped_photos

    found, base = record.answers(name, reference)
    if found is None or base is None or name == reference:
        return []
    files = dict(zip(found.photos, record.data.get("files") or found.photos, strict=False))
    return [
        {
            "photo": files[row.photo],
            "truth": label(record, row.truth),
            "before": label(record, row.before),
            "now": label(record, row.now),
        }
        for row in flipped_photos(found, base)
    ]
