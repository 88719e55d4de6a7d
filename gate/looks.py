"""Measure until it is decided, or the budget ends: a few looks, each at its share of the error.

Who looks again and again at growing data finds something at last. So there are four looks at most, and each decides at
1 - (1 - confidence) / 4 (Bonferroni; Pocock 1977 shares the error a little better and needs normal data): over all of
them, the policy's confidence holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from ..records import Record
from ..records.findings import GateResult, Outcome
from .checks import CHECKS
from .policy import Policy
from .side_by_side import SideBySide

LOOKS = 4
Judge = Callable[[Policy, Record], GateResult]
MorePhotos = Callable[[], bool]  # scores more photos where there are any; False where there are none


def judge_in_looks(policy: Policy, run: SideBySide, judge: Judge, more_photos: MorePhotos) -> tuple[GateResult, Record]:
    """Judge what has been measured; where the policy says so, measure more and judge again.

    Launches double from look to look. What neither more launches nor more photos can decide ends it too.

    Returns:
        The last result, with a note on the looks taken, and the record that it was judged by.
    """
    began = time.monotonic()
    many = policy.inconclusive == "measure-more"
    shared = replace(policy, confidence=1 - (1 - policy.confidence) / LOOKS) if many else policy
    for look in range(1, LOOKS + 1):
        record = run.record()
        result = judge(shared, record)
        if not many or look == LOOKS or not _measured_more(result, run, more_photos, policy.budget_s, began):
            break
    note = f"looked {look} times at most {LOOKS}, each at {shared.confidence:.2%} confidence".replace("%", " %")
    return (replace(result, notes=(*result.notes, note)) if many else result), record


def _measured_more(result: GateResult, run: SideBySide, more_photos: MorePhotos, budget_s: float, began: float) -> bool:
    """True if there is more to judge now."""
    undecided = [finding.check for finding in result.findings if finding.outcome is Outcome.INCONCLUSIVE]
    more = False
    if any(CHECKS[check].timed for check in undecided) and run.launches:
        more = _launched(run, budget_s - (time.monotonic() - began))
    if any(not CHECKS[check].timed for check in undecided):
        more = more_photos() or more
    return more


def _launched(run: SideBySide, left_s: float) -> bool:
    """As many launches again, or as the time allows; fewer than two are not worth a look."""
    count = min(run.launches, int(left_s / run.launch_s)) if run.launch_s else run.launches
    if count < 2:
        return False
    run.time(count)
    return True
