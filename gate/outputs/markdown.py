"""The gate's result as Markdown: for a step summary, a pull request, a page."""

from __future__ import annotations

from collections import Counter

from ...records.findings import Finding, GateResult, Outcome
from ...records.markdown import escaped

_MARKS = {Outcome.PASS: "✅", Outcome.FAIL: "❌", Outcome.INCONCLUSIVE: "❔", Outcome.EXPECTED: "☑️"}
_HEADER = "| | artifact | check | found | limit | why |\n| --- | --- | --- | --: | --: | --- |"
_SCALES = {"points": (100, " points"), "share": (100, " %"), "ratio": (1, " ×")}
# First what must be seen: these are the last to be left out where room is short.
ORDER = (Outcome.FAIL, Outcome.INCONCLUSIVE, Outcome.EXPECTED, Outcome.PASS)


def as_markdown(result: GateResult, most_bytes: int = 1_000_000) -> str:
    """Verdict, table, notes; rows are left out from the end, and counted, beyond `most_bytes` of UTF-8."""
    head = [f"## tiffin check: {result.outcome.value}", "", f"{counts(result)}; exit code {result.exit_code}.", ""]
    notes = ["", *(f"- {escaped(note)}" for note in result.notes[:50])]
    ordered = sorted(result.findings, key=lambda finding: ORDER.index(finding.outcome))
    left = most_bytes - len("\n".join([*head, _HEADER, *notes]).encode()) - 200
    rows: list[str] = []
    for finding in ordered:
        row = _row(finding)
        left -= len(row.encode()) + 1
        if left < 0:
            break
        rows.append(row)
    if len(rows) < len(ordered):
        notes.insert(0, f"\n{len(ordered) - len(rows)} of {len(ordered)} rows are left out; gate.json has them all.")
    return "\n".join([*head, _HEADER, *rows, *notes]) + "\n"


def counts(result: GateResult) -> str:
    """Such as `6 FAIL, 20 PASS`."""
    found = Counter(finding.outcome for finding in result.findings)
    return ", ".join(f"{found[outcome]} {outcome.value}" for outcome in ORDER if found[outcome])


def _row(finding: Finding) -> str:
    value = measured(finding.value.value, finding.unit) if finding.value else ""
    outcome = f"{_MARKS[finding.outcome]} {finding.outcome.value}"
    cells = [outcome, finding.artifact, finding.check, value, limit(finding), reason(finding)]
    return "| " + " | ".join(escaped(cell) for cell in cells) + " |"


def reason(finding: Finding) -> str:
    """Why, with what is known of an expected failure."""
    if finding.expected and finding.outcome is Outcome.EXPECTED:
        return f"{finding.reason}; expected until {finding.expected['until']}: {finding.expected['reason']}"
    return finding.reason


def limit(finding: Finding) -> str:
    """Such as `≤ 3 %`; empty where nothing could be compared."""
    if finding.limit is None:
        return ""
    return f"{'≥' if finding.check.startswith('min-') else '≤'} {measured(finding.limit, finding.unit)}"


def measured(value: float, unit: str) -> str:
    """With its unit: `0.16 points`, `0.386 ×`, `2.59 ms`."""
    scale, word = _SCALES.get(unit, (1, f" {unit}" if unit else ""))
    return f"{value * scale + 0:.3g}{word}"
