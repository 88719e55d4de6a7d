"""Does the gate keep its word? Thousands of re-runs whose truth is known, drawn from real answers to real photos.

    python benchmarks/studies/gate.py benchmarks/results/default.json benchmarks/results/gate-simulation.json
    python benchmarks/studies/gate.py --table docs/gate.md benchmarks/results/gate-simulation.json

Each re-run draws as many photos as the record has, with replacement, and with them what an fp32 row and an int8 row
answered to each. How often photos are drawn that only one of the two got right is set so that the true drop of top-1
and the true share of discordant photos are those wanted; fp32's top-1 stays what it is. Then each rule decides.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tiffin import machine
from tiffin.artifact.files import sha256_file
from tiffin.benchmarks.studies.page import fill
from tiffin.cli.render import Table, say
from tiffin.gate.decide import decide
from tiffin.gate.measured import Measured
from tiffin.gate.policy import parse_policy
from tiffin.records import Predictions
from tiffin.records.classification import wilson
from tiffin.records.distributions import binomial_cdf, binomial_tail
from tiffin.records.paired import paired_counts
from tiffin.records.record import load_record

REFERENCE = "openvino fp32"
SUBJECT = "openvino int8 cpu-vnni ort, without VNNI"  # of all rows the most photos that only one of the two got right
MARGIN, DISCORDANCE, CONFIDENCE = 0.01, 0.02, 0.95
DROPS = (0.0, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02)
OUTCOMES = ("PASS", "FAIL", "INCONCLUSIVE")

Rule = Callable[[Predictions, Predictions], str]


class Population:
    """Real pairs of answers, drawn in other proportions than they were found."""

    def __init__(self, subject: Predictions, reference: Predictions) -> None:
        self.subject, self.reference = subject, reference
        right, before = (found.top[:, 0] == found.truth for found in (subject, reference))
        cells = (right & before, ~right & before, right & ~before, ~right & ~before)
        self._rows = tuple(np.flatnonzero(cell) for cell in cells)
        self._accuracy = float(before.mean())
        self._photos = tuple(f"{number:064x}" for number in range(len(subject)))  # each draw is another photo

    def draw(self, chance: np.random.Generator, drop: float, discordance: float) -> tuple[Predictions, Predictions]:
        """Subject and reference of one re-run in which the true drop is `drop`, 0.01 = one point."""
        lost, won = (discordance + drop) / 2, (discordance - drop) / 2
        shares = (self._accuracy - lost, lost, won, 1 - self._accuracy - won)
        counts = chance.multinomial(len(self._photos), shares)
        rows = np.concatenate([chance.choice(cell, count) for cell, count in zip(self._rows, counts, strict=True)])
        subject, reference = (
            Predictions(self._photos, found.truth[rows], found.top[rows], found.scores[rows])
            for found in (self.subject, self.reference)
        )
        return subject, reference


POLICY = parse_policy(f"""
[gate]
confidence = {CONFIDENCE}
[[rule]]
artifacts = "int8"
against = "fp32"
accuracy-drop = {MARGIN}
""")


def gate(subject: Predictions, reference: Predictions) -> str:
    """What `tiffin check` decides, by its own code from the policy on."""
    rows = {name: Measured(name, answers=found) for name, found in (("int8", subject), ("fp32", reference))}
    (finding,) = decide(POLICY, rows).findings
    return finding.outcome.value


def observed(subject: Predictions, reference: Predictions) -> float:
    """Drop of top-1 as it is seen."""
    _, won, lost, _ = paired_counts(subject, reference)
    return (lost - won) / len(subject)


def point_rule(subject: Predictions, reference: Predictions) -> str:
    """What other gates do: the drop as it is seen, against the limit."""
    return "FAIL" if observed(subject, reference) > MARGIN else "PASS"


def any_drop(subject: Predictions, reference: Predictions) -> str:
    """The strict form of it: no drop is allowed."""
    return "FAIL" if observed(subject, reference) > 0 else "PASS"


RULES: dict[str, Rule] = {"tiffin check": gate, "point rule": point_rule, "no drop allowed": any_drop}


def simulate(
    rule: Rule, population: Population, drop: float, runs: int, seed: int = 0, discordance: float = DISCORDANCE
) -> dict[str, int]:
    """How often a rule says what, over re-runs that are the same for every rule."""
    chance = np.random.default_rng([seed, round(drop * 1e6)])
    said = Counter(rule(*population.draw(chance, drop, discordance)) for _ in range(runs))
    return {outcome: said[outcome] for outcome in OUTCOMES}


@dataclass(frozen=True)
class Promise:
    """How often a rule may (`most`) or must at least (`least`) say `outcome` where the true drop is `drop`."""

    words: str
    drop: float
    outcome: str
    most: float = 1.0
    least: float = 0.0

    def broken(self, said: Mapping[str, int], doubt: float = 1e-3) -> bool:
        """True if the counts cannot be chance: exact binomial, one-sided."""
        count, runs = said[self.outcome], sum(said.values())
        return binomial_tail(count, runs, self.most) < doubt or binomial_cdf(count, runs, self.least) < doubt


PROMISES = (
    Promise("an equal model fails in at most 1 %", 0.0, "FAIL", most=0.01),
    Promise("an equal model passes in at least 90 %", 0.0, "PASS", least=0.9),
    Promise("a drop of the margin passes in at most 5 %", MARGIN, "PASS", most=1 - CONFIDENCE),
    Promise("a drop of twice the margin fails in at least 90 %", 2 * MARGIN, "FAIL", least=0.9),
)


def broken(rule: Rule, population: Population, runs: int, seed: int = 0) -> list[str]:
    """The promises that a rule does not keep."""
    said = {promise.drop: simulate(rule, population, promise.drop, runs, seed) for promise in PROMISES}
    return [promise.words for promise in PROMISES if promise.broken(said[promise.drop])]


def measure(record: Path, runs: int, seed: int) -> dict[str, Any]:
    """All rules over all drops, as plain values."""
    found = load_record(record)
    subject, reference = found.predictions[SUBJECT], found.predictions[REFERENCE]
    population = Population(subject, reference)
    rows = []
    for drop in DROPS:
        for name, rule in RULES.items():
            say(f"true drop {drop * 100:g} points: {name}")
            rows.append({"rule": name, "drop": drop, "said": simulate(rule, population, drop, runs, seed)})
    both, won, lost, neither = paired_counts(subject, reference)
    return {
        "kind": "gate-simulation",
        "source": {"record": record.name, "arrays_sha256": sha256_file(record.with_suffix(".npz")),
                   "reference": REFERENCE, "subject": SUBJECT,
                   "photos": {"both": both, "lost": lost, "won": won, "neither": neither}},
        "options": {"runs": runs, "seed": seed, "margin": MARGIN, "discordance": DISCORDANCE,
                    "confidence": CONFIDENCE},
        "rows": rows,
        "versions": machine.versions(("numpy",)),
        "created": machine.utc_now(),
    }  # fmt: skip


def table(result: Mapping[str, Any]) -> str:
    """A row a true drop: what the gate says, how often the others pass or fail, and which promises are kept."""
    said = {(row["rule"], row["drop"]): row["said"] for row in result["rows"]}
    first, *others = dict.fromkeys(row["rule"] for row in result["rows"])
    head = ["true drop", *(f"{first}: {outcome}" for outcome in OUTCOMES), *(f"{name}: FAIL" for name in others)]
    rows = [
        [f"{drop * 100:g}", *(share(said[first, drop], outcome) for outcome in OUTCOMES),
         *(share(said[name, drop], "FAIL") for name in others)]
        for drop in dict.fromkeys(row["drop"] for row in result["rows"])
    ]  # fmt: skip
    return "\n\n".join([Table(head, rows).markdown(), "\n".join(f"- {line}" for line in notes(result, said))])


def share(said: Mapping[str, int], outcome: str) -> str:
    """Per cent, with Wilson's 95 % interval where it is neither never nor always."""
    count, runs = said[outcome], sum(said.values())
    low, high = (100 * bound for bound in wilson(count, runs))
    return f"{100 * count / runs:.1f} ({low:.1f}–{high:.1f})" if 0 < count < runs else f"{100 * count / runs:.0f}"


def notes(result: Mapping[str, Any], said: Mapping[tuple[str, float], Mapping[str, int]]) -> list[str]:
    """What was drawn from what, and each promise."""
    asked, source = result["options"], result["source"]
    photos = sum(source["photos"].values())
    lines = [
        f"per cent of {asked['runs']:,} re-runs of {photos:,} photos each (95 % interval), at a margin of "
        f"{asked['margin'] * 100:g} point and {asked['discordance'] * 100:g} % discordance",
        f"drawn from {source['record']}: {source['reference']} against {source['subject']}, "
        f"{source['photos']['lost']} photos lost, {source['photos']['won']} won",
    ]
    for promise in PROMISES:
        kept = [name for name, drop in said if drop == promise.drop and not promise.broken(said[name, drop])]
        lines.append(f"{promise.words}: kept by {', '.join(dict.fromkeys(kept)) or 'none'}")
    return lines


def main() -> None:
    """Simulate, or write the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs=2, type=Path)
    words.add_argument("--table", action="store_true", help="PAGE RECORD.json: write the page's table")
    words.add_argument("--runs", type=int, default=2000)
    words.add_argument("--seed", type=int, default=0)
    asked = words.parse_args()
    first, second = asked.paths
    if asked.table:
        fill(first, "gate-simulation", table(json.loads(second.read_text(encoding="utf-8"))))
        return
    second.write_text(json.dumps(measure(first, asked.runs, asked.seed), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
