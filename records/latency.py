"""Latency summaries. Spread is the range of block medians: rounds of one launch are no independent samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .rounds import Rounds


@dataclass(frozen=True)
class Latency:
    """Seconds a call; `low` and `high` are the least and greatest block median; `n` timed calls, outliers included."""

    p50_s: float
    p95_s: float
    low_s: float
    high_s: float
    throughput: float
    n: int


def summarize(rounds: Rounds) -> Latency | None:
    """p50 and p95 over all timed calls, throughput in photos a second; None without any."""
    ns = rounds.all_ns()
    if not len(ns):
        return None
    medians = rounds.block_medians_s()
    p50, p95 = (float(value) for value in np.percentile(ns, [50, 95]) / 1e9)
    return Latency(
        p50, p95, float(medians.min()), float(medians.max()), rounds.batch * len(ns) / (ns.sum() / 1e9), len(ns)
    )


@dataclass(frozen=True)
class Ratio:
    """Median of paired ratios of block medians with the least and greatest pair."""

    value: float
    low: float
    high: float
    pairs: int


def paired_ratio(subject: Rounds, reference: Rounds) -> Ratio | None:
    """subject / reference, block by block: the k-th blocks of both were measured in one interleaved round."""
    pairs = min(len(subject.blocks), len(reference.blocks))
    if not pairs:
        return None
    ratios = subject.block_medians_s()[:pairs] / reference.block_medians_s()[:pairs]
    return Ratio(float(np.median(ratios)), float(ratios.min()), float(ratios.max()), pairs)


def clearly_faster(subject: Rounds, reference: Rounds) -> bool:
    """True if every paired block was faster: the spread does not reach 1."""
    ratio = paired_ratio(subject, reference)
    return ratio is not None and ratio.high < 1
