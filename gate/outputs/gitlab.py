"""GitLab's metrics report (`artifacts:reports:metrics`): OpenMetrics text, which merge requests show as changes."""

from __future__ import annotations

import math

from ...records.findings import Finding, GateResult, Outcome

_CODES = {Outcome.PASS: 0, Outcome.EXPECTED: 0, Outcome.INCONCLUSIVE: 1, Outcome.FAIL: 2}


def as_metrics(result: GateResult) -> str:
    """One gauge a finding's value, its limit, and its outcome (0 pass or expected, 1 inconclusive, 2 fail)."""
    values = [(one, one.value.value) for one in result.findings if one.value]
    families = [
        ("tiffin_value", "what a check found, in its unit", values),
        ("tiffin_limit", "the policy's limit", [(one, one.limit) for one in result.findings if one.limit is not None]),
        ("tiffin_outcome", "0 pass or expected, 1 inconclusive, 2 fail",
         [(one, float(_CODES[one.outcome])) for one in result.findings]),
    ]  # fmt: skip
    lines = []
    for name, words, samples in families:
        lines += [f"# TYPE {name} gauge", f"# HELP {name} {words}"]
        lines += [f"{name}{_labels(one)} {value:.9g}" for one, value in samples if math.isfinite(value)]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _labels(finding: Finding) -> str:
    pairs = {"artifact": finding.artifact, "check": finding.check, "against": finding.against, "unit": finding.unit}
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in pairs.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", " ")
