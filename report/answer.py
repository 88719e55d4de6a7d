"""The first line: ship this, or nothing passes, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..records.differences import p_above
from ..records.environment import MACHINE, differing
from ..records.estimate import Decision
from ..records.findings import Finding, GateResult, Outcome
from ..records.multiple import holm
from ..records.paired import paired_losses
from ..records.ratios import unlike
from ..records.record import CONFIRM
from ..records.speed import Speed, compare_speeds
from ..words import counted
from .cell import ms, points
from .rows import Row, Timed

SHIP, NOTHING, OPEN = "ship", "nothing", "inconclusive"
_ALPHA = 0.05  # of what is shipped being less accurate, one-sided, however many were tested


@dataclass(frozen=True)
class Answer:
    """What to do, in words.

    Args:
        kind: "ship", "nothing" or "inconclusive".
        row: name of the row to ship; empty where there is none.
        line: the sentence that the report begins with.
        more: what qualifies it: ties, limits by CPU class, what would decide it.
    """

    kind: str
    row: str
    line: str
    more: tuple[str, ...] = ()


def by_records(rows: Sequence[Row], reference: str, margin: float) -> Answer:
    """By the records' own rules: not worse by more than the margin, and proven faster than the reference."""
    candidates = [row for row in rows if row.name != reference and not row.is_elsewhere and not row.subject.reason]
    fair = [row for row in candidates if row.accuracy and not (row.answered and row.answered.chosen_by)]
    good = [row for row in fair if _is(row, Decision.PASS)]
    faster = [row for row in fair if row.speed and row.speed.speed is Speed.FASTER]
    proven = [row for row in _as_accurate_together(faster, margin) if row in good]
    if not proven:
        return _none(candidates, good, reference, margin)
    best = min(proven, key=lambda row: _cost(row, proven))
    reason = f"{_faster(best, reference)}, and {_as_accurate(best, margin, len(faster))}"
    more = (*_ties(best, proven), *_alone([row for row in faster if row in good and row not in proven]))
    return Answer(SHIP, best.name, f"Ship {best.name}, because {reason}.", (*more, *limits(best, rows)))


def _as_accurate_together(rows: Sequence[Row], margin: float) -> list[Row]:
    """Those not worse by more than the margin, by Holm over all: the best of many is partly the luckiest.

    Only what is proven faster is tested: time is measured on no photo's answer, so it may choose who is.
    """
    pairs = [(row.answered.found, row.answered.base) for row in rows if row.answered and row.answered.base]
    adjusted = holm([p_above(-paired_losses(*pair), -margin) for pair in pairs])
    return [row for row, p in zip(rows, adjusted, strict=True) if p <= _ALPHA]


def _alone(rows: Sequence[Row]) -> list[str]:
    """What passes in the table, where each row is judged by itself."""
    return [f"Not proven as accurate, save if judged alone: {_list([row.name for row in rows])}."] if rows else []


def _cost(row: Row, others: Sequence[Row]) -> float:
    """Time a call; in times of the reference's where rows come from several runs, whose clocks are not compared."""
    runs = {other.timed.source.name for other in others if other.timed}
    if len(runs) > 1 and row.speed:
        return row.speed.ratio.value
    return row.timed.latency.p50_s.value if row.timed else 0.0


def _is(row: Row, decision: Decision) -> bool:
    return row.accuracy is not None and row.accuracy.decision is decision


def _faster(row: Row, reference: str) -> str:
    if row.speed is None or row.timed is None:
        return ""
    ratio, latency = row.speed.ratio, row.timed.latency.p50_s
    times = f"{1 / ratio.value:.2f} times as fast as {reference}"
    interval = f"95 % interval {1 / ratio.high:.2f} to {1 / ratio.low:.2f}"
    return f"it is proven {times} ({interval}; median {ms(latency.value)} ms{row.timed.per})"


def _as_accurate(row: Row, margin: float, tested: int) -> str:
    if row.change is None or row.top_1 is None:
        return ""
    seen = f"{points(row.change.value)} points, 95 % interval {points(row.change.low)} to {points(row.change.high)}"
    most = f"{100 * margin:g} point{'s' * (margin != 0.01)}"
    role = f"{row.answered.role} " if row.answered and row.answered.role else ""
    found = f"top-1 {_percent(row.top_1.value)}; {seen}; {row.top_1.n:,} {role}photos"
    found += f"; {tested} rows tested together" if tested > 1 else ""
    return f"not less accurate by {most} or more ({found})"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _ties(best: Row, proven: Sequence[Row]) -> list[str]:
    """Rows that the best is not proven faster than."""
    others = [
        row
        for row in proven
        if row.name != best.name and row.timed and best.timed and row.timed.source is best.timed.source
    ]
    found = compare_speeds(
        {row.name: (row.timed.rounds, best.timed.rounds) for row in others if row.timed and best.timed}
    )
    level = [name for name, compared in found.items() if compared.speed is not Speed.SLOWER]
    if level:
        return [f"Not proven faster than {_list(level)}, which {'passes' if len(level) == 1 else 'pass'} as well."]
    told = f"{counted(len(others), 'other row')} of its record that pass{'es' * (len(others) == 1)}"
    return [f"Proven faster than the {told}."] if others else []


def limits(best: Row, rows: Sequence[Row]) -> list[str]:
    """Where the same artifact answers worse: on other CPUs."""
    found = []
    for row in rows:
        if row.is_elsewhere and row.subject.artifact and row.subject.artifact == best.subject.artifact and row.accuracy:
            words = {
                Decision.FAIL: "Not on CPUs",
                Decision.PASS: "It holds on CPUs",
                Decision.INCONCLUSIVE: "Not proven on CPUs",
            }
            seen = f"{points(row.change.value)} points" if row.change else ""
            found.append(f"{words[row.accuracy.decision]} {row.subject.place}: {seen} there.")
    return found


def _none(candidates: Sequence[Row], good: Sequence[Row], reference: str, margin: float) -> Answer:
    judged = [row for row in candidates if row.accuracy]
    if not judged:
        what = "no record given compares answers to photos with the reference's" if candidates else "no candidate ran"
        return Answer(
            OPEN,
            "",
            f"INCONCLUSIVE: nothing can be shipped on this evidence, because {what}.",
            ("`tiffin score ARTIFACTS` records answers.",),
        )
    failed = [row for row in judged if _is(row, Decision.FAIL)]
    chosen = [row for row in judged if _is(row, Decision.PASS) and row not in good]
    roles = " and ".join(sorted({row.answered.role for row in chosen if row.answered}))
    alone = [row for row in good if row.speed and row.speed.speed is Speed.FASTER]
    parts = [
        (len(failed), f"proven to lose more than {100 * margin:g} point of top-1"),
        (len(chosen), f"as accurate on {roles} photos only, which choices are made by"),
        (len(judged) - len(failed) - len(chosen) - len(good), "INCONCLUSIVE in accuracy"),
        (len(alone), "proven faster, but as accurate only if judged alone, not as the best of several"),
        (len(good) - len(alone), f"as accurate but not proven faster than {reference}"),
    ]
    told = ", ".join(f"{count} {'is' if count == 1 else 'are'} {words}" for count, words in parts if count)
    because = f"of {counted(len(judged), 'candidate')} {told}"
    if len(judged) == 1:
        because = f"the only candidate is {next(words for count, words in parts if count)}"
    no_gain = [row for row in good if row.speed and row.speed.speed in (Speed.SLOWER, Speed.SAME)]
    if len(failed) + len(no_gain) == len(judged):
        return Answer(NOTHING, "", f"Nothing passes, because {because}.")
    more = (
        f"`tiffin score ARTIFACTS` answers the {CONFIRM} photos."
        if chosen and not good
        else "More photos or launches can decide it."
        if any(row.timed for row in judged)
        else "`tiffin bench` records latencies."
    )
    return Answer(OPEN, "", f"INCONCLUSIVE: nothing passes yet, because {because}.", (more,))


def by_gate(result: GateResult, rows: Sequence[Row]) -> Answer:
    """By the gate's findings: the fastest artifact whose every check passes, of those whose latencies compare."""
    held: dict[str, list[Finding]] = {}
    for finding in result.findings:
        held.setdefault(finding.artifact, []).append(finding)
    passing = {name for name, found in held.items() if all(one.outcome is Outcome.PASS for one in found)}
    if not passing:
        return _none_of_gate(result, held)
    ranked, apart = _ranked([row for row in rows if row.name in passing])
    best = ranked[0].name if ranked else sorted(passing)[0]
    checks = held[best]
    told = ", ".join(f"{one.check} {_value(one)}" for one in checks[:4] if one.value)
    passed = f"{'all ' if len(checks) > 1 else ''}{counted(len(checks), 'check')}"
    line = f"Ship {best}, because it passes {passed} of the policy"
    line += f" ({told})" if told else ""
    if ranked and ranked[0].timed and len(ranked) > 1:
        line += f" and has the least median time of the {len(ranked)} artifacts that do: {ms(_p50(ranked[0]))} ms"
        line += ranked[0].timed.per
    others = (f"Not ranked with it: {_list(apart)}, timed on another machine or at another pace.",) if apart else ()
    return Answer(
        SHIP, best, f"{line}.", (*others, *_rest(held, passing), *(limits(ranked[0], rows) if ranked else ()))
    )


def _ranked(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """By median latency, those that compare with the first that was timed; and the names of the others."""
    first = next((row.timed for row in rows if row.timed), None)
    kept = [row for row in rows if row.timed is None or first is None or _compare(row.timed, first)]
    return sorted(kept, key=_p50), [row.name for row in rows if row not in kept]


def _compare(one: Timed, other: Timed) -> bool:
    records = one.source.record, other.source.record
    return not unlike(one.pace, other.pace) and not differing(records[0].environment, records[1].environment, MACHINE)


def _p50(row: Row) -> float:
    return row.timed.latency.p50_s.value if row.timed else float("inf")


def _value(finding: Finding) -> str:
    scale, unit = {"points": (100, "points"), "share": (100, "%"), "ratio": (1, "×")}.get(
        finding.unit, (1, finding.unit)
    )
    value = f"{finding.value.value * scale + 0.0:.3g}" if finding.value else "–"
    limit = (
        f" of at most {finding.limit * scale:.3g}"
        if finding.limit is not None and not finding.check.startswith("min-")
        else ""
    )
    return f"{value}{limit} {unit}".strip()


def _rest(held: dict[str, list[Finding]], passing: set[str]) -> list[str]:
    counts = Counter(_worst(found).value for name, found in held.items() if name not in passing)
    words = {"FAIL": "fail", "EXPECTED": "fail as the policy expects", "INCONCLUSIVE": "are INCONCLUSIVE"}
    told = [f"{count} {words[name]}" for name, count in counts.items()]
    return [f"Of the other {counted(sum(counts.values()), 'artifact')}: {', '.join(told)}."] if told else []


def _worst(found: Sequence[Finding]) -> Outcome:
    order = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.EXPECTED, Outcome.PASS)
    return min((one.outcome for one in found), key=order.index)


def _none_of_gate(result: GateResult, held: dict[str, list[Finding]]) -> Answer:
    bad = [one for one in result.findings if one.outcome in (Outcome.FAIL, Outcome.EXPECTED)]
    shown = bad or [one for one in result.findings if one.outcome is Outcome.INCONCLUSIVE]
    told = "; ".join(f"{one.artifact}, {one.check}: {one.reason}" for one in shown[:3])
    more = f"; and {len(shown) - 3} more" if len(shown) > 3 else ""
    failing = {one.artifact for one in bad}
    if held and failing >= set(held):
        return Answer(NOTHING, "", f"Nothing passes, because {told}{more}.")
    if not held:
        return Answer(OPEN, "", "INCONCLUSIVE: the gate checked nothing.")
    return Answer(OPEN, "", f"INCONCLUSIVE: nothing passes yet, because {told}{more}.")


def _list(names: Sequence[str]) -> str:
    shown = list(names[:3]) + ([f"{len(names) - 3} more"] if len(names) > 3 else [])
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
