"""Does the gate's p99 keep its word? Re-runs whose p99 is known, with slow calls that come together or by launches.

    python benchmarks/studies/tails.py benchmarks/results/gate-tails.json
    python benchmarks/studies/tails.py --table docs/gate.md benchmarks/results/gate-tails.json

In one half calls take 10 ms or, with the chance given, 30 ms; the limit is 20 ms, so that a PASS is wrong at any chance
above 1 %, and a FAIL below. In the other half launches are biased and the limit is the p99 of all their calls.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

from tiffin import machine
from tiffin.benchmarks.studies.page import fill
from tiffin.cli.render import Table, say
from tiffin.records.slow_calls import SlowCalls

CHANCES, LAUNCHES, CALLS, ALPHA = (0.0099, 0.0101, 0.015, 0.02, 0.03), (5, 17, 40, 100), 40, 0.05
_NOISE = 0.01  # of a call, in logarithms

Draw = Callable[[np.random.Generator, float, int], np.ndarray]  # chance of a slow call, launches → chance of each call


def _alone(chance: np.random.Generator, share: float, launches: int) -> np.ndarray:
    return np.full((launches, 1), share)


def _correlated(by: float) -> Draw:
    def draw(chance: np.random.Generator, share: float, launches: int) -> np.ndarray:
        scale = 1 / by - 1
        return chance.beta(share * scale, (1 - share) * scale, (launches, 1))

    return draw


def _disturbed(part: float) -> Draw:
    def draw(chance: np.random.Generator, share: float, launches: int) -> np.ndarray:
        return (chance.random((launches, 1)) < part) * share / part

    return draw


SLOW: dict[str, Draw] = {
    "each call alone": _alone,
    "calls of a launch correlated by 0.05": _correlated(0.05),
    "by 0.1": _correlated(0.1),
    "by 0.2": _correlated(0.2),
    "in one launch of ten": _disturbed(0.1),
    "in one launch of five": _disturbed(0.2),
}
BIASES = (0.005, 0.01, 0.02, 0.05)


def spiky(chance: np.random.Generator, draw: Draw, share: float, launches: int) -> np.ndarray:
    """Milliseconds `(launches, calls)`."""
    calls = 10 * np.exp(chance.normal(0, _NOISE, (launches, CALLS)))
    return np.where(chance.random(calls.shape) < draw(chance, share, launches), 3 * calls, calls)


def biased(chance: np.random.Generator, bias: float, launches: int) -> np.ndarray:
    """Milliseconds `(launches, calls)`: each launch slower or faster as a whole."""
    return 10 * np.exp(chance.normal(0, bias, (launches, 1)) + chance.normal(0, _NOISE, (launches, CALLS)))


def said(draw: Callable[[np.random.Generator], np.ndarray], limit_ms: float, runs: int, seed: int) -> dict[str, int]:
    """How often p99 is proven below the limit and above it."""
    chance, counts = np.random.default_rng(seed), {"PASS": 0, "FAIL": 0}
    for _ in range(runs):
        calls = SlowCalls.of(dict(enumerate((1e6 * draw(chance)).astype(np.int64))))
        counts["PASS"] += calls.p_below(1e6 * limit_ms) <= ALPHA
        counts["FAIL"] += calls.p_above(1e6 * limit_ms) <= ALPHA
    return counts


def measure(runs: int, seed: int) -> dict[str, Any]:
    """All cases, as plain values."""
    rows = []
    for launches in LAUNCHES:
        for name, draw in SLOW.items():
            say(f"{launches} launches, {name}")
            for share in CHANCES:
                found = said(lambda rng, d=draw, p=share, n=launches: spiky(rng, d, p, n), 20, runs, seed)  # type: ignore[misc]
                rows.append({"slow": name, "chance": share, "launches": launches, "said": found})
        for bias in BIASES:
            limit = 10 * math.exp(NormalDist().inv_cdf(0.99) * math.hypot(bias, _NOISE))
            found = said(lambda rng, b=bias, n=launches: biased(rng, b, n), limit, runs, seed)  # type: ignore[misc]
            rows.append({"bias": bias, "launches": launches, "said": found})
    options = {"runs": runs, "seed": seed, "calls": CALLS, "confidence": 1 - ALPHA, "noise": _NOISE}
    return {"kind": "gate-tails", "options": options, "rows": rows, "versions": machine.versions(("numpy",)),
            "created": machine.utc_now()}  # fmt: skip


def table(result: Mapping[str, Any]) -> str:
    """A row a case: the most often that a wrong PASS and a wrong FAIL were said, over the chances of a slow call."""
    launches = list(dict.fromkeys(row["launches"] for row in result["rows"]))
    cases = list(dict.fromkeys(_case(row) for row in result["rows"]))
    runs = result["options"]["runs"]
    lines = []
    for case in cases:
        line = [case]
        for count in launches:
            mine = [row for row in result["rows"] if _case(row) == case and row["launches"] == count]
            errors = (
                max((row["said"][word] for row in mine if _wrong(row, word)), default=0) for word in ("PASS", "FAIL")
            )
            line.append(" / ".join(f"{100 * error / runs:.1f}" for error in errors))
        lines.append(line)
    asked = result["options"]
    notes = (
        f"- per cent of {runs:,} re-runs of {asked['calls']} calls a launch: wrong PASS / wrong FAIL, the worst of the "
        f"chances {', '.join(f'{100 * share:g}' for share in _shares(result))} % of a slow call; promised are "
        f"{100 * (1 - asked['confidence']):.0f} % at most"
    )
    return f"{Table(['slow calls', *(f'{count} launches' for count in launches)], lines).markdown()}\n\n{notes}"


def _shares(result: Mapping[str, Any]) -> list[float]:
    return list(dict.fromkeys(row["chance"] for row in result["rows"] if "chance" in row))


def _case(row: Mapping[str, Any]) -> str:
    return row["slow"] if "slow" in row else f"launches biased by {100 * row['bias']:g} %"


def _wrong(row: Mapping[str, Any], word: str) -> bool:
    """Below 1 % of slow calls a PASS is right, above it a FAIL; at the p99 itself neither is."""
    return "bias" in row or (row["chance"] > 0.01) is (word == "PASS")


def main() -> None:
    """Simulate, or write the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs="+", type=Path)
    words.add_argument("--table", action="store_true", help="PAGE RECORD.json: write the page's table")
    words.add_argument("--runs", type=int, default=500)
    words.add_argument("--seed", type=int, default=0)
    asked = words.parse_args()
    if asked.table:
        fill(asked.paths[0], "gate-tails", table(json.loads(asked.paths[1].read_text(encoding="utf-8"))))
        return
    asked.paths[0].write_text(json.dumps(measure(asked.runs, asked.seed), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
