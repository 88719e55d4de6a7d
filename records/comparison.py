"""Two records: what changed from one to the other, row by row.

Rows of two records were not measured side by side. If both hold the same reference (same artifact, same request, same
engine version), each row is taken relative to it, and drift between the two hours cancels; without one it does not.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ..errors import BadInput
from .estimate import Estimate, Verdict
from .latency import launch_medians_s, median_interval
from .multiple import holm
from .paired import Flips, McNemar, difference, flips, mcnemar, non_inferior
from .power import smallest_visible_drop
from .predictions import Predictions
from .ratios import Trimmed, launch_ratios, require_alike, resampled, spread, trimmed
from .record import Record
from .rounds import Rounds
from .speed import ALPHA, THRESHOLD, Comparison, verdict

# Their answers are of stages, of spoiled photos or of two versions, not one row's to one set of photos.
_OTHERWISE = ("explain", "robustness", "side-by-side")


@dataclass(frozen=True)
class Answers:
    """What changed in the answers to the same photos.

    Args:
        top_1: after minus before, Newcombe's paired interval; None on synthesized images.
        mcnemar: its p adjusted by Holm over the rows.
        non_inferior: at the margin asked for.
        visible: the smallest drop that so many photos with this discordance can see in 4 of 5 runs; None where none.
    """

    flips: Flips
    top_1: Estimate | None = None
    mcnemar: McNemar | None = None
    non_inferior: Verdict | None = None
    visible: float | None = None


@dataclass(frozen=True)
class Change:
    """One row of both records. `speed` is after / before; None where one of them was not timed."""

    name: str
    before_s: Estimate | None = None
    after_s: Estimate | None = None
    speed: Comparison | None = None
    answers: Answers | None = None


@dataclass(frozen=True)
class RecordChange:
    """All rows that both records have, the names that only one has, and the row that both are relative to, if any."""

    rows: tuple[Change, ...]
    gone: tuple[str, ...]
    new: tuple[str, ...]
    anchor: str | None


def compare_records(
    before: Record, after: Record, threshold: float = THRESHOLD, alpha: float = ALPHA, margin: float = 0.01
) -> RecordChange:
    """Compare row by row, names being equal; two records of one row each are compared whatever its name.

    Raises:
        BadInput: nothing in common, or rows of other regimes, photos or labels.
    """
    for record in (before, after):
        if record.kind in _OTHERWISE:
            raise BadInput(f"a record of kind {record.kind}", "records of bench, score or demo",
                           "see `tiffin show RECORD`, or judge it: `tiffin check RECORD`")  # fmt: skip
    pairs = _matched(before, after)
    if not pairs:
        raise BadInput("two records with no row in common", "rows of the same name", "see `tiffin show RECORD`")
    anchor = anchor_of(before, after)
    logs = {
        name: (_logs(before, one, anchor), _logs(after, other, anchor))
        for name, (one, other) in pairs.items()
        if one in before.rounds and other in after.rounds and name != anchor
    }
    for one, other in pairs.values():
        if one in before.rounds and other in after.rounds:
            require_alike(before.rounds[one], after.rounds[other], (before.options, after.options))
    speeds = _speeds(logs, threshold, alpha)
    answers = _answers(before, after, pairs, margin)
    rows = tuple(
        Change(
            name, _median(before.rounds.get(one)), _median(after.rounds.get(other)), speeds.get(name), answers.get(name)
        )
        for name, (one, other) in pairs.items()
    )
    mine, theirs = ({subject.name for subject in record.subjects} for record in (before, after))
    matched = {name for pair in pairs.values() for name in pair}
    return RecordChange(rows, tuple(sorted(mine - matched)), tuple(sorted(theirs - matched)), anchor)


def _matched(before: Record, after: Record) -> dict[str, tuple[str, str]]:
    """Name of the row → its name in both; rows that did not run are in neither."""
    mine, theirs = ([row.name for row in record.subjects if not row.reason] for record in (before, after))
    if len(mine) == len(theirs) == 1:
        return {theirs[0]: (mine[0], theirs[0])}
    return {name: (name, name) for name in mine if name in theirs}


def anchor_of(before: Record, after: Record) -> str | None:
    """The row that both hold as the same thing (artifact, request, place, engine version), and that is steadiest.

    Steadiest: with the least spread of the other rows' ratios to it, which says nothing of how they changed. Of two
    rows each is as steady as the other, but for rounding: then the first of the record, which is the reference.
    """
    names = [subject.name for subject in before.subjects if subject.name in before.rounds]
    shared = [name for name in names if name in after.rounds and _same_thing(before, after, name)]
    if len(before.rounds) < 2 or len(after.rounds) < 2:
        return None
    return min(shared, key=lambda name: max(_unrest(before, name), _unrest(after, name)), default=None)


def _same_thing(before: Record, after: Record, name: str) -> bool:
    one, other = before.subject(name), after.subject(name)
    fields = ("artifact", "requested", "place")
    same = all(getattr(one, field) == getattr(other, field) for field in fields)
    return same and one.applied.get("version") == other.applied.get("version")


def _unrest(record: Record, name: str) -> float:
    others = [launch_ratios(rounds, record.rounds[name]) for key, rounds in record.rounds.items() if key != name]
    found = np.median([np.log(ratios).std() if len(ratios) > 1 else math.inf for ratios in others])
    return float(f"{found:.9g}")


def _logs(record: Record, name: str, anchor: str | None) -> np.ndarray:
    """One log a launch: of the ratio to the anchor, or of the median itself."""
    rounds = record.rounds[name]
    return np.log(launch_ratios(rounds, record.rounds[anchor]) if anchor else launch_medians_s(rounds))


def _median(rounds: Rounds | None) -> Estimate | None:
    return median_interval(launch_medians_s(rounds)) if rounds is not None and rounds.blocks else None


def _speeds(logs: dict[str, tuple[np.ndarray, np.ndarray]], threshold: float, alpha: float) -> dict[str, Comparison]:
    p_values = holm([yuen_p(*pair) for pair in logs.values()])
    return {
        name: verdict(two_sample_ratio(*pair), float(p), threshold, alpha, _spread(*pair))
        for (name, pair), p in zip(logs.items(), p_values, strict=True)
    }


def _spread(before: np.ndarray, after: np.ndarray) -> float | None:
    one, other = spread(before), spread(after)
    return None if one is None or other is None else math.hypot(one, other)


def two_sample_ratio(before: np.ndarray, after: np.ndarray, confidence: float = 0.95) -> Estimate:
    """after / before from the logs of two independent samples of launches.

    Bootstrap of the difference of trimmed means, both samples resampled, and never narrower than Yuen's interval; `n`
    is the smaller sample's.
    """
    n, method = min(len(before), len(after)), "bootstrap over launches of both records, at least Yuen's"
    if n < 2:
        value = float(after.mean() - before.mean()) if n else math.nan
        return Estimate(math.exp(value), 0.0, math.inf, confidence, n, method)
    found = launch_difference(before, after)
    drawn = resampled(after) - np.random.default_rng(0).permutation(resampled(before))
    return found.ratio(drawn, confidence, n, method)


def yuen_p(before: np.ndarray, after: np.ndarray) -> float:
    """Two-sided p of Yuen's test of trimmed means (Biometrika 61, 1974), degrees of freedom rounded down; 1 below two
    launches.
    """
    return launch_difference(before, after).p_value if min(len(before), len(after)) > 1 else 1.0


def launch_difference(before: np.ndarray, after: np.ndarray) -> Trimmed:
    """after - before of trimmed means, its standard error and its degrees of freedom (Welch and Satterthwaite)."""
    one, other = trimmed(before), trimmed(after)
    total = one.error**2 + other.error**2
    spent = sum(part.error**4 / part.degrees for part in (one, other))
    degrees = max(1, int(total**2 / spent)) if spent else min(one.degrees, other.degrees)
    return Trimmed(other.value - one.value, math.sqrt(total), degrees)


def _answers(before: Record, after: Record, pairs: dict[str, tuple[str, str]], margin: float) -> dict[str, Answers]:
    scored = {
        name: (after.predictions[other], before.predictions[one])
        for name, (one, other) in pairs.items()
        if one in before.predictions and other in after.predictions
    }
    if scored:
        _require_same_labels(before, after)
    found = {name: answers_of(*pair, margin) for name, pair in scored.items()}
    tested = {name: row.mcnemar for name, row in found.items() if row.mcnemar}
    adjusted = holm([test.p_value for test in tested.values()])
    for (name, test), p in zip(tested.items(), adjusted, strict=True):
        found[name] = replace(found[name], mcnemar=replace(test, p_value=float(p)))
    return found


def _require_same_labels(before: Record, after: Record) -> None:
    one, other = (list(record.data.get("labels") or ()) for record in (before, after))
    if one and other and one != other:
        odd = [f"{a!r} / {b!r}" for a, b in zip(one, other, strict=False) if a != b] or [f"{len(one)} / {len(other)}"]
        raise BadInput(f"answers with other labels ({odd[0]})", "two records of one set of labels")


def answers_of(subject: Predictions, reference: Predictions, margin: float) -> Answers:
    """Flips, and on photos the paired tests of top-1.

    Raises:
        BadInput: other photos or other labels.
    """
    changed = flips(subject, reference)
    if subject.kind != "photos":
        return Answers(changed)
    test = mcnemar(subject, reference)
    return Answers(
        changed, difference(subject, reference), test, non_inferior(subject, reference, margin),
        smallest_visible_drop(len(subject), test.discordance(len(subject))),
    )  # fmt: skip
