"""Which candidate to ship, from a record alone: acceptable, fastest beyond noise, and the reason in words.

Never slower: a candidate that departs further from the given model must be proven faster than the best of those that
depart less, or the latter wins. Departure has three steps: the given model's own answers in float, other floats (16
bits, a student with a smaller input), quantized.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..artifact.scheme import SCHEMES
from ..records import Estimate, Predictions, Record, Subject
from ..records.divergence import divergence
from ..records.estimate import Decision
from ..records.latency import launch_medians_s, summarize
from ..records.paired import Flips, difference, flips, non_inferior, paired_counts, same_answers
from ..records.ratios import FEWEST_LAUNCHES, ratio_over_launches
from ..records.rounds import Rounds
from ..records.speed import Comparison, Speed, compare_speeds
from ..words import launch_count
from .budget import Budget

_TIED = 0.01  # artifacts of equal speed: the most faithful of them wins


@dataclass(frozen=True)
class Row:
    """One candidate as the record has it.

    Args:
        cost: seconds a call (a photo, under throughput), median over launches; None where it was not timed.
        speed: against the reference, which has none itself.
        top_1_change: top-1 less the reference's on the photos of the search, with its interval; None without accuracy.
        departure: 0 the given model with the reference's answers in float, 1 another float, 2 quantized.
        refused: why it may not be shipped; empty where it may.
        front: no other acceptable row is at least as fast, as faithful and as small, and better in one of them.
    """

    name: str
    size_bytes: int
    cost: Estimate | None = None
    speed: Comparison | None = None
    top_1_change: Estimate | None = None
    flips: Flips | None = None
    divergence: Estimate | None = None
    departure: int = 2
    refused: str = ""
    front: bool = False


@dataclass(frozen=True)
class Choice:
    """What to ship.

    Args:
        reference: the given model in fp32, which the others are compared with.
        winner: None where nothing meets the budget; then `because` names the nearest.
        fallback: what is shipped if the winner is not confirmed: the best row that does not depart from the given
            model, or the reference where the winner is such a row itself.
    """

    rows: tuple[Row, ...]
    reference: str
    winner: str | None
    because: str
    fallback: str | None = None

    def row(self, name: str) -> Row:
        """Raises KeyError if there is none of that name."""
        return {row.name: row for row in self.rows}[name]


def choose(record: Record, budget: Budget, reference: str) -> Choice:
    """Decide.

    Args:
        record: rounds of one run, predictions on photos that the search may see.
        reference: the subject that is the given model in fp32.
    """
    rows = _with_front([_row(record, subject, budget, reference) for subject in _candidates(record)])
    allowed = [row for row in rows if not row.refused]
    if not allowed:
        return Choice(tuple(rows), reference, None, _nearest(rows, budget))
    winner, because = _winner(allowed, record, budget)
    equal = [row for row in allowed if row.departure == 0]
    fallback = _best(equal, record, budget).name if winner.departure and equal else reference
    return Choice(tuple(rows), reference, winner.name, because, fallback)


def _candidates(record: Record) -> list[Subject]:
    return [subject for subject in record.subjects if subject.place == "native"]


def _row(record: Record, subject: Subject, budget: Budget, reference: str) -> Row:
    name = subject.name
    (found, base), rounds = record.answers(name, reference), record.rounds.get(name)
    latency = summarize(rounds) if rounds else None
    departure = _departure(record, subject, reference)
    row = Row(name, subject.size_bytes, latency.p50_s if latency else None, departure=departure)
    if found is not None and base is not None:
        kept = found.logits is not None and base.logits is not None
        row = replace(
            row,
            flips=flips(found, base),
            top_1_change=difference(found, base) if found.kind == "photos" else None,
            divergence=divergence(found, base) if kept else None,
        )
    if rounds and name != reference and reference in record.rounds:
        row = replace(row, speed=compare_speeds({name: (rounds, record.rounds[reference])})[name])
    return replace(row, refused=_refusal(record, subject, row, budget, record.predictions.get(reference)))


def _departure(record: Record, subject: Subject, reference: str) -> int:
    if subject.precision == "int8":
        return 2
    if not _is_given(record, subject, reference):
        return 1
    found, base = record.answers(subject.name, reference)
    same = found is not None and base is not None and same_answers(found, base)
    half = str(subject.requested.get("execution_precision", "fp32")) != "fp32" or subject.precision != "fp32"
    return 0 if same and not half else 1


def _is_given(record: Record, subject: Subject, reference: str) -> bool:
    """Made from the given model: a search says so; of a device's records the checkpoint does."""
    named = record.options.get("given")
    if named is not None:
        return subject.name in named
    return subject.checkpoint == record.subject(reference).checkpoint


def _refusal(record: Record, subject: Subject, row: Row, budget: Budget, base: Predictions | None) -> str:
    """The first reason not to ship a row; what is cheapest to know comes first."""
    if subject.reason:
        return subject.reason
    if budget.portable and (why := unportable(subject, _limited(record, subject), base, budget.max_drop)):
        return why
    if base is None or row.flips is None:
        return "not scored on the reference's photos"
    if why := accuracy_refusal(record.predictions[row.name], base, budget.max_drop):
        return why
    if why := size_refusal(row.size_bytes, budget):
        return why
    if row.cost is None:
        return "not timed"
    return latency_refusal(record.rounds[row.name], budget.max_latency_s)


def size_refusal(size_bytes: int, budget: Budget) -> str:
    """Why an artifact is too large; empty where it is not."""
    if budget.max_size_bytes is None or size_bytes <= budget.max_size_bytes:
        return ""
    return f"{size_bytes / 1e6:.1f} MB is more than {budget.max_size_bytes / 1e6:g}"


def latency_refusal(rounds: Rounds, bound_s: float | None) -> str:
    """Why a median call is not proven to be within a bound, one-sided 95 % over launches; empty where it is."""
    if bound_s is None:
        return ""
    launches = launch_medians_s(rounds)
    if len(launches) < FEWEST_LAUNCHES:
        return f"{launch_count(len(launches))}, no proof of a bound of time: {FEWEST_LAUNCHES} at least are needed"
    found = ratio_over_launches(launches, confidence=0.9)
    within = found.high <= bound_s
    return "" if within else f"{milliseconds(found)} is not proven to be within {bound_s * 1e3:g} ms"


def unportable(subject: Subject, limited: Mapping[str, Predictions], base: Predictions | None, max_drop: float) -> str:
    """Why its answers do not hold on CPUs without VNNI: by its scheme, or as seen where the engine can be limited.

    Args:
        limited: its answers by the place that was limited.
    """
    scheme = SCHEMES.get(subject.scheme or "")
    if scheme and scheme.needs_vnni and subject.requested.get("device", "cpu") == "cpu":
        return f"scheme {scheme.name} answers wrongly on CPUs without VNNI; --this-cpu admits it"
    for place, found in limited.items():
        if base is not None and (why := accuracy_refusal(found, base, max_drop)):
            return f"{place}: {why}"
    return ""


def _limited(record: Record, subject: Subject) -> dict[str, Predictions]:
    return {
        other.place: record.predictions[other.name]
        for other in record.subjects
        if other.place != "native" and other.name in record.predictions
        and (other.artifact, other.requested) == (subject.artifact, subject.requested)
    }  # fmt: skip


def accuracy_refusal(found: Predictions, base: Predictions, max_drop: float) -> str:
    """Why these answers are too far from the reference's, on photos that serve to choose; empty where they are not.

    A few hundred photos seldom prove a margin of one point, so what is not disproven and not observed passes here; the
    proof is asked of the winner, on photos that no choice has seen. One photo less is no observation, where photos are
    so few that it is more than the margin.
    """
    if found.kind == "photos":
        _, won, lost, _ = paired_counts(found, base)
        fewer, n = lost - won, len(found)
        if fewer > 1 and fewer > max_drop * n:
            return f"top-1 {-100 * fewer / n:+.2f} points on {n} photos"
    return disproof(found, base, max_drop)


def disproof(found: Predictions, base: Predictions, max_drop: float) -> str:
    """The same on a part of the photos: only what is proven counts."""
    if found.kind != "photos":
        changed = flips(found, base)
        return f"{changed.count} of {changed.n} synthesized images flip" if changed.rate.low > max_drop else ""
    verdict = non_inferior(found, base, max_drop)
    return f"top-1 proven worse ({verdict.reason})" if verdict.decision is Decision.FAIL else ""


def _with_front(rows: Sequence[Row]) -> list[Row]:
    """Mark Pareto's front over time, divergence and size among the acceptable."""
    marks = {row.name: _merits(row) for row in rows if not row.refused}

    def beaten(name: str) -> bool:
        ours = marks[name]
        return any(
            all(their <= our for their, our in zip(theirs, ours, strict=True)) and theirs != ours
            for other, theirs in marks.items()
            if other != name
        )

    return [replace(row, front=row.name in marks and not beaten(row.name)) for row in rows]


def _merits(row: Row) -> tuple[float, float, float]:
    """Less is better: seconds, divergence (flips where there are no logits), bytes."""
    assert row.cost is not None and row.flips is not None
    apart = row.divergence.value if row.divergence else row.flips.rate.value
    return row.cost.value, apart, float(row.size_bytes)


def _best(rows: Sequence[Row], record: Record, budget: Budget) -> Row:
    """The best of one step of departure; among those as good as the best, the most faithful."""
    if budget.objective == "size":
        return min(rows, key=lambda row: (row.size_bytes, _merits(row)))
    first = min(rows, key=_merits)
    ratios = _ratios(first, rows, record.rounds)
    tied = [row for row in rows if row is first or ratios[row.name].ratio.value <= 1 + _TIED]
    return min(tied, key=lambda row: (_merits(row)[1], _merits(row)[0]))


def _ratios(first: Row, rows: Sequence[Row], rounds: Mapping[str, Rounds]) -> dict[str, Comparison]:
    return compare_speeds({row.name: (rounds[row.name], rounds[first.name]) for row in rows if row is not first})


def _winner(allowed: Sequence[Row], record: Record, budget: Budget) -> tuple[Row, str]:
    """Step by step away from the reference: each step must be proven better than what stands."""
    steps = [[row for row in allowed if row.departure == step] for step in range(3)]
    bests = [_best(rows, record, budget) for rows in steps if rows]
    standing, said = bests[0], list[str]()
    for rival in bests[1:]:
        if budget.objective == "size":
            better, why = rival.size_bytes < standing.size_bytes, _sizes(rival, standing)
        else:
            better, why = _is_faster(rival, standing, record)
        standing, said = (rival, [*said, why]) if better else (standing, [*said, f"{rival.name} is {why}"])
    return standing, "; ".join(said[-2:]) or "it is the only acceptable kind"


def _is_faster(rival: Row, standing: Row, record: Record) -> tuple[bool, str]:
    found = compare_speeds({rival.name: (record.rounds[rival.name], record.rounds[standing.name])})[rival.name]
    ratio = found.ratio
    if found.speed is Speed.FASTER:
        return (
            True,
            f"it is {1 / ratio.value:.2f} × ({1 / ratio.high:.2f}–{1 / ratio.low:.2f}) as fast as {standing.name}",
        )
    timed = f"takes {ratio.value:.2f} ({ratio.low:.2f}–{ratio.high:.2f}) of its time: {found.speed.value}"
    return False, f"not proven faster than {standing.name} ({timed})"


def _sizes(rival: Row, standing: Row) -> str:
    return f"{rival.size_bytes / 1e6:.1f} MB against {standing.size_bytes / 1e6:.1f} of {standing.name}"


def _nearest(rows: Sequence[Row], budget: Budget) -> str:
    """What comes closest to a budget that nothing meets."""
    bounds = f"a loss of at most {budget.max_drop * 100:g} points"
    if budget.max_latency_s is not None:
        bounds += f", {budget.max_latency_s * 1e3:g} ms"
    if budget.max_size_bytes is not None:
        bounds += f", {budget.max_size_bytes / 1e6:g} MB"
    timed = [row for row in rows if row.cost is not None and row.flips is not None]
    accurate = [row for row in timed if not row.refused.startswith(("top-1", "scheme", "without"))]
    if not timed:
        return f"nothing meets {bounds}: nothing ran"
    near = min(accurate or timed, key=_merits)
    assert near.cost is not None
    return f"nothing meets {bounds}: the nearest is {near.name} at {milliseconds(near.cost)} ({near.refused})"


def milliseconds(cost: Estimate) -> str:
    """`14.7 ms (14.6–15.0)`."""
    return f"{cost.value * 1e3:.3g} ms ({cost.low * 1e3:.3g}–{cost.high * 1e3:.3g})"
