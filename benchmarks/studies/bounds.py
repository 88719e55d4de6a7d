"""Which one-sided bound of a paired drop keeps its word? Chances summed over all that can happen, nothing simulated.

    python benchmarks/studies/bounds.py benchmarks/results/gate-bounds.json
    python benchmarks/studies/bounds.py --table docs/gate.md benchmarks/results/gate-bounds.json

A gate errs twice: it passes a drop that equals the margin, and it fails one. Each may happen in 5 % at most.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

from tiffin import machine
from tiffin.benchmarks.studies.page import fill
from tiffin.cli.render import Table
from tiffin.records.differences import p_of_counts
from tiffin.records.distributions import binomial_cdf, binomial_pmf
from tiffin.records.paired import newcombe_paired

MARGIN, CONFIDENCE, ACCURACY = 0.01, 0.95, 0.89
PHOTOS, DISCORDANCES = (300, 1000, 2485), (0.012, 0.02, 0.04)
_Z = NormalDist().inv_cdf(CONFIDENCE)

Says = Callable[[int, int, int], bool]  # photos lost, won, in all → is it claimed?


def _newcombe(lost: int, won: int, n: int) -> tuple[float, float]:
    right = min(max(round(ACCURACY * n), lost), n - won)
    found = newcombe_paired(right - lost, won, lost, n - right - won, _Z)
    return found.low, found.high


def tango_score(first: int, second: int, n: int, difference: float) -> float:
    """Score statistic of the hypothesis that p1 - p2 is `difference` (Tango 1998): normal if it is true.

    Its variance takes the likeliest P(only the second) under the hypothesis, the root of a quadratic. Without any
    discordant pair and at difference 0 it is 0.
    """
    gap = first - second - n * difference
    b = (2 * n - first + second) * difference - first - second
    c = -second * difference * (1 - difference)
    root = math.sqrt(max(0.0, b * b - 8 * n * c))
    likeliest = (root - b) / (4 * n) if b < 0 else (-2 * c / (b + root) if b + root else 0.0)
    variance = n * (2 * likeliest + difference * (1 - difference))
    if variance <= 0:
        return math.copysign(math.inf, gap) if gap else 0.0
    return gap / math.sqrt(variance)


BOUNDS: dict[str, tuple[Says, Says]] = {  # passes, fails
    "Newcombe": (
        lambda lost, won, n: _newcombe(lost, won, n)[0] >= -MARGIN,
        lambda lost, won, n: _newcombe(lost, won, n)[1] < -MARGIN,
    ),
    "Tango": (
        lambda lost, won, n: tango_score(won, lost, n, -MARGIN) >= _Z,
        lambda lost, won, n: tango_score(won, lost, n, -MARGIN) <= -_Z,
    ),
    "exact tail": (
        lambda lost, won, n: p_of_counts([lost, n - lost - won, won], -MARGIN) <= 1 - CONFIDENCE,
        lambda lost, won, n: p_of_counts([won, n - lost - won, lost], MARGIN) <= 1 - CONFIDENCE,
    ),
}


def passing(says: Says, n: int, discordance: float, drop: float) -> float:
    """Chance of a pass: the more photos are won, the more may be lost."""
    lost_share, won_share = (discordance + drop) / 2, (discordance - drop) / 2
    most, total = -1, 0.0
    for won in range(_reach(n, won_share)):
        while most + 1 + won <= n and says(most + 1, won, n):
            most += 1
        total += binomial_pmf(won, n, won_share) * binomial_cdf(most, n - won, lost_share / (1 - won_share))
    return total


def failing(says: Says, n: int, discordance: float, drop: float) -> float:
    """Chance of a failure: the more are won, the more must be lost."""
    lost_share, won_share = (discordance + drop) / 2, (discordance - drop) / 2
    least, total = 0, 0.0
    for won in range(_reach(n, won_share)):
        while least + won <= n and not says(least, won, n):
            least += 1
        total += binomial_pmf(won, n, won_share) * (1 - binomial_cdf(least - 1, n - won, lost_share / (1 - won_share)))
    return total


def _reach(n: int, share: float) -> int:
    """Counts beyond weigh less than 1e-9."""
    return min(n, round(n * share + 7 * (n * share) ** 0.5 + 15)) + 1


def measure() -> dict[str, Any]:
    """All bounds, as plain values."""
    rows = [
        {"bound": name, "photos": n, "discordance": share, "passes_at_margin": passing(passes, n, share, MARGIN),
         "fails_at_margin": failing(fails, n, share, MARGIN), "passes_equal": passing(passes, n, share, 0.0)}
        for n in PHOTOS for share in DISCORDANCES for name, (passes, fails) in BOUNDS.items()
    ]  # fmt: skip
    options = {"margin": MARGIN, "confidence": CONFIDENCE, "accuracy": ACCURACY}
    return {"kind": "gate-bounds", "options": options, "rows": rows, "created": machine.utc_now()}


def table(result: Mapping[str, Any]) -> str:
    """A row a case: each bound's two errors, and its power."""
    found = {(row["photos"], row["discordance"], row["bound"]): row for row in result["rows"]}
    names = list(dict.fromkeys(row["bound"] for row in result["rows"]))
    head = ["photos, discordance", *(f"{name}: passes / fails / equal passes" for name in names)]
    rows = [
        [f"{n:,}, {share * 100:g} %", *(_cell(found[n, share, name], result["options"]) for name in names)]
        for n, share in dict.fromkeys((row["photos"], row["discordance"]) for row in result["rows"])
    ]
    asked = result["options"]
    said = (
        f"- chances in per cent, margin {asked['margin'] * 100:g} point, bounds of {asked['confidence'] * 100:g} %: "
        "that a drop of the margin passes, that it fails, that an equal model passes; in bold what is above the promise"
    )
    return f"{Table(head, rows).markdown()}\n\n{said}"


def _cell(row: Mapping[str, float], asked: Mapping[str, float]) -> str:
    promised = 1 - asked["confidence"] + 1e-9
    errors = [row["passes_at_margin"], row["fails_at_margin"]]
    words = [f"**{100 * value:.1f}**" if value > promised else f"{100 * value:.1f}" for value in errors]
    return " / ".join([*words, f"{100 * row['passes_equal']:.0f}"])


def main() -> None:
    """Sum, or write the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs="+", type=Path)
    words.add_argument("--table", action="store_true", help="PAGE RECORD.json: write the page's table")
    asked = words.parse_args()
    if not asked.table:
        asked.paths[0].write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
        return
    fill(asked.paths[0], "gate-bounds", table(json.loads(asked.paths[1].read_text(encoding="utf-8"))))


if __name__ == "__main__":
    main()
