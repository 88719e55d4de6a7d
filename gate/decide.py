"""Rules × rows → findings → one result. Errors are controlled over the whole run.

FAIL is claimed where «the limit is exceeded» is proven, its p value adjusted by Holm over every such test of the run:
with nothing exceeded anywhere, the chance of any FAIL is at most 1 - confidence. PASS needs no correction: the gate
passes only if every check does, and a true excess anywhere lets its own check pass with at most 1 - confidence (an
intersection-union test, Berger 1982, Technometrics 24:295).
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import BadInput
from ..records.findings import Finding, GateResult, Outcome
from ..records.multiple import holm
from ..records.record import CONFIRM
from .checks import CHECKS, OF_ANSWERS
from .checks.check import Answer, NothingToCompare, Question
from .measured import Measured
from .policy import BASELINE, Policy, Rule, matches

Rows = Mapping[str, Measured]
_SHOWN = 5  # names in a note


@dataclass(frozen=True)
class _Asked:
    """One check of one row, and its answer."""

    name: str
    key: str
    rule: Rule
    answer: Answer


def decide(
    policy: Policy,
    now: Rows,
    before: Rows | None = None,
    today: datetime.date | None = None,
    about: Mapping[str, Any] | None = None,
) -> GateResult:
    """Judge rows by a policy.

    Args:
        now: the rows to judge, by name.
        before: the baseline's rows, or those measured earlier side by side; None where there is nothing.
        today: for expected failures; None takes the clock's date (UTC).
        about: further fields of the result, such as `records`, `baseline` and `created`.

    Raises:
        BadInput: a rule that matches no row, an expected failure of no check, another checkpoint, other labels or
            other photos.
    """
    today = today or datetime.datetime.now(datetime.timezone.utc).date()
    asked = [one for rule in policy.rules for one in _ask(rule, now, before, policy)]
    _require_expected(policy, asked)
    findings = _expected(policy, _found(asked, policy), today)
    outcome, code = _overall(findings, policy)
    rest: dict[str, Any] = dict(about or {})
    notes = (*rest.pop("notes", ()), *_notes(policy, now, before, findings, today))
    environment = next((row.environment for row in now.values()), {})
    return GateResult(outcome, code, findings, _applied(policy), environment=environment, notes=notes, **rest)


def _ask(rule: Rule, now: Rows, before: Rows | None, policy: Policy) -> list[_Asked]:
    names = [name for name in now if rule.matches(name)]
    if not names:
        raise BadInput(
            f"line {rule.line} of the policy: no row matches {', '.join(rule.artifacts)}",
            f"one of: {', '.join(now) or 'none'}",
        )
    other = _other(rule, now)
    found = []
    if names == [other]:
        raise BadInput(f"line {rule.line} of the policy: {other} alone matches {', '.join(rule.artifacts)}",
                       f"rows beside it to compare with it: {', '.join(now)}")  # fmt: skip
    for name in names:
        if name == other:
            continue  # a row is no judge of itself
        compared = now[other] if other else (before or {}).get(name)
        for key, limit in rule.checks.items():
            question = Question(now[name], compared, limit, policy.confidence)
            found.append(_Asked(name, key, rule, _answer(key, question)))
    return found


def _other(rule: Rule, now: Rows) -> str | None:
    """The row that a rule compares with; None: the baseline."""
    if rule.against == BASELINE:
        return None
    found = [rule.against] if rule.against in now else [name for name in now if matches((rule.against,), name)]
    if len(found) != 1:
        raise BadInput(
            f"line {rule.line} of the policy: {len(found)} rows match against = {rule.against!r}",
            f"one of: {', '.join(now)}",
        )
    return found[0]


def _answer(key: str, question: Question) -> Answer:
    if question.now.reason:
        return Answer(f"did not run: {question.now.reason}")
    try:
        answer = CHECKS[key].run(question)
    except NothingToCompare as nothing:
        return Answer(str(nothing))
    if answer.within and key in OF_ANSWERS and (role := question.now.role) not in ("", CONFIRM):
        told = f"{answer.reason}, on {role} photos, which choices are made by: score the {CONFIRM} photos"
        return replace(answer, within=None, reason=told)
    return answer


def _found(asked: Sequence[_Asked], policy: Policy) -> tuple[Finding, ...]:
    """Outcomes after Holm's correction over every test of the run."""
    tested = [one for one in asked if isinstance(one.answer.exceeded, float)]
    adjusted = holm([float(one.answer.exceeded or 0.0) for one in tested])
    p_values = {id(one): float(p) for one, p in zip(tested, adjusted, strict=True)}
    return tuple(_finding(one, p_values.get(id(one)), policy) for one in asked)


def _finding(one: _Asked, p: float | None, policy: Policy) -> Finding:
    answer, check = one.answer, CHECKS[one.key]
    exceeded = answer.exceeded is True or (p is not None and p <= 1 - policy.confidence)
    outcome = Outcome.FAIL if exceeded else Outcome.PASS if answer.within else Outcome.INCONCLUSIVE
    against = one.rule.against if check.compares else ""
    return Finding(one.name, one.key, outcome, answer.reason, against, check.unit, answer.limit, answer.value, p,
                   answer.sees, one.rule.lines.get(one.key, one.rule.line))  # fmt: skip


def _require_expected(policy: Policy, asked: Sequence[_Asked]) -> None:
    """Raises BadInput for an [[expect]] that no check of any row is meant by: a typo would look like a failure."""
    for known in policy.expected:
        if not any(known.matches(one.name, one.key) for one in asked):
            checked = dict.fromkeys(one.name for one in asked if one.key == known.check)
            raise BadInput(f"line {known.line} of the policy: [[expect]] of {known.check} matches no row that a rule "
                           f"checks so: {', '.join(known.artifacts)}",
                           f"one of: {', '.join(checked) or 'none'}")  # fmt: skip


def _expected(policy: Policy, findings: Sequence[Finding], today: datetime.date) -> tuple[Finding, ...]:
    """Failures that the policy knows of; past their date they are failures again."""
    found = []
    for finding in findings:
        known = next((one for one in policy.expected if one.matches(finding.artifact, finding.check)), None)
        if known is not None and finding.outcome is Outcome.FAIL:
            about = {"reason": known.reason, "until": known.until.isoformat()}
            if today <= known.until:
                finding = replace(finding, outcome=Outcome.EXPECTED, expected=about)
            else:
                late = f"{finding.reason}; it was expected to fail until {known.until} ({known.reason})"
                finding = replace(finding, reason=late, expected=about)
        found.append(finding)
    return tuple(found)


def _overall(findings: Sequence[Finding], policy: Policy) -> tuple[Outcome, int]:
    outcomes = {finding.outcome for finding in findings}
    if Outcome.FAIL in outcomes:
        return Outcome.FAIL, 1
    if Outcome.INCONCLUSIVE in outcomes and policy.inconclusive != "pass":
        return Outcome.INCONCLUSIVE, 0 if policy.inconclusive == "warn" else 3
    return Outcome.PASS, 0


def _applied(policy: Policy) -> dict[str, Any]:
    return {
        "confidence": policy.confidence,
        "inconclusive": policy.inconclusive,
        "budget_s": policy.budget_s,
        "rules": len(policy.rules),
        "text": policy.text,
    }


def _notes(
    policy: Policy, now: Rows, before: Rows | None, findings: Sequence[Finding], today: datetime.date
) -> list[str]:
    ruled = [name for name in now if any(rule.matches(name) for rule in policy.rules)]
    free = [name for name in now if name not in ruled]
    notes = [f"no rule for {len(free)} of {len(now)} rows: {_some(free)}"] if free else []
    notes += [f"{name} did not run in {row.failed}" for name, row in now.items() if row.failed]
    gone = [name for name in before or {} if name not in now]
    notes += [f"in the baseline only: {_some(gone)}"] if gone else []
    passed = {(finding.artifact, finding.check) for finding in findings if finding.outcome is Outcome.PASS}
    for known in policy.expected:
        healed = [name for name, check in passed if known.matches(name, check)]
        notes += [f"{name}: {known.check} was expected to fail and passes: take [[expect]] on line {known.line} out"
                  for name in sorted(healed)]  # fmt: skip
        if known.until < today:
            notes.append(f"[[expect]] on line {known.line} ended on {known.until}")
    return notes


def _some(names: Sequence[str]) -> str:
    """The first few."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
