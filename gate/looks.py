"""Measure until it is decided, or the budget ends: a few looks, each at its share of the error.

Who looks again and again at growing data finds something at last. So there are four looks at most, and each decides
with a quarter of the policy's error (Bonferroni; Pocock 1977 shares it a little better and needs normal data): over
all of them, the policy's confidence holds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from ..records import Record
from ..records.findings import GateResult, Outcome
from .checks import OF_ANSWERS, OF_TIME
from .policy import Policy
from .side_by_side import SideBySide

MOST = 4

Judge = Callable[[Record], GateResult]
MorePhotos = Callable[[], bool]  # scores more photos where there are any; False where there are none


def looks_of(policy: Policy) -> int:
    """How often a run may be judged by this policy: `judge` shares the error among so many."""
    return MOST if policy.inconclusive == "measure-more" else 1


def judge_in_looks(policy: Policy, run: SideBySide, judge: Judge, more_photos: MorePhotos) -> tuple[GateResult, Record]:
    """Judge what has been measured; where the policy says so, measure more and judge again.

    Launches and photos double from look to look. What neither can decide ends it too.

    Args:
        judge: `files.judge` of one record, which knows from it among how many looks the error is shared.

    Returns:
        The last result, with a note on the looks taken, and the record that it was judged by.
    """
    began = time.monotonic()
    for look in range(1, run.looks + 1):
        record = run.record()
        result = judge(record)
        if look == run.looks or not _measured_more(result, run, more_photos, policy.budget_s, began):
            break
    if run.looks == 1:
        return result, record
    return replace(result, notes=(*result.notes, looked(look, run.looks, policy))), record


def looked(look: int, looks: int, policy: Policy) -> str:
    """The note on the looks taken."""
    return f"looked {look} of {looks} times; at least {policy.confidence:.0%} hold over all".replace("%", " %")


def _measured_more(result: GateResult, run: SideBySide, more_photos: MorePhotos, budget_s: float, began: float) -> bool:
    """True if there is more to judge now."""
    undecided = {finding.check for finding in result.findings if finding.outcome is Outcome.INCONCLUSIVE}
    more = False
    if undecided & OF_ANSWERS and _left_s(budget_s, began) > 0:
        more = more_photos()
    if undecided & OF_TIME and run.launches:
        more = _launched(run, _left_s(budget_s, began)) or more
    return more


def _left_s(budget_s: float, began: float) -> float:
    return budget_s - (time.monotonic() - began)


def _launched(run: SideBySide, left_s: float) -> bool:
    """As many launches again, or as the time allows; fewer than two are not worth a look."""
    count = min(run.launches, int(left_s / run.launch_s)) if run.launch_s else run.launches
    if count < 2:
        return False
    run.time(count)
    return True
