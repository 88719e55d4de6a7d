"""The policy: what an artifact must keep, in TOML. Every error names its line."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from ..errors import BadInput
from .checks import CHECKS
from .checks.check import number
from .lines import Path, line_of, lines_of

INCONCLUSIVE = ("pass", "warn", "fail", "measure-more")
BASELINE = "baseline"
_TABLES = ("gate", "rule", "expect")
_GATE = ("confidence", "inconclusive", "budget-s")
_RULE = ("artifacts", "against")
_EXPECT = ("artifacts", "check", "reason", "until")


@dataclass(frozen=True)
class Rule:
    """What the rows that match must keep.

    Args:
        artifacts: globs over names of rows.
        against: "baseline", or the name of a row of the same records.
        checks: policy key → its value.
        line: in the file; `lines` of each check.
    """

    artifacts: tuple[str, ...]
    checks: Mapping[str, Any]
    against: str = BASELINE
    line: int = 1
    lines: Mapping[str, int] = field(default_factory=dict)

    def matches(self, name: str) -> bool:
        """Is this row meant?"""
        return matches(self.artifacts, name)


@dataclass(frozen=True)
class Expected:
    """A check that is known to fail, and until when that is accepted."""

    artifacts: tuple[str, ...]
    check: str
    reason: str
    until: datetime.date
    line: int = 1

    def matches(self, name: str, check: str) -> bool:
        """Is this row's check meant?"""
        return check == self.check and matches(self.artifacts, name)


@dataclass(frozen=True)
class Policy:
    """A whole file.

    Args:
        confidence: of every one-sided bound, and 1 minus the chance of any false FAIL in a run.
        inconclusive: what an undecided check means, one of `INCONCLUSIVE`.
        budget_s: seconds of measuring more, where that is the policy.
        text: of the file.
    """

    rules: tuple[Rule, ...]
    expected: tuple[Expected, ...] = ()
    confidence: float = 0.95
    inconclusive: str = "warn"
    budget_s: float = 600.0
    text: str = ""


def matches(globs: Iterable[str], name: str) -> bool:
    """Is this row meant by one of them? A name means itself, whatever brackets it has."""
    return any(name == glob or fnmatchcase(name, glob) for glob in globs)


def parse_policy(text: str, where: str = "tiffin.toml") -> Policy:
    """Read a policy.

    Args:
        where: the file's name, for messages.

    Raises:
        BadInput: no TOML, an unknown key, a value out of range, two rules that say the same; with the line.
    """
    return _Reader(text, where).policy()


class _Reader:
    """One file being read; knows its lines."""

    def __init__(self, text: str, where: str) -> None:
        self.text, self.where, self.lines = text, where, lines_of(text)
        self.raw = _toml(text, where)

    def policy(self) -> Policy:
        self._known(self.raw, _TABLES, ())
        gate = self.raw.get("gate", {})
        if not isinstance(gate, dict):
            raise self._wrong(("gate",), "gate", "a table [gate]")
        self._known(gate, _GATE, ("gate",))
        rules = tuple(self._rule(entry, index) for index, entry in enumerate(self._entries("rule")))
        if not rules:
            raise BadInput(f"{self.where}: no [[rule]]", "one rule at least", "see docs/gate.md")
        self._no_twins(rules)
        return Policy(
            rules,
            tuple(self._expected(entry, index) for index, entry in enumerate(self._entries("expect"))),
            self._number(gate, "confidence", 0.95, (0.5, 0.9999)),
            self._word(gate, "inconclusive", "warn"),
            self._number(gate, "budget-s", 600.0, (1, 1e6)),
            self.text,
        )

    def _entries(self, table: str) -> list[dict[str, Any]]:
        found = self.raw.get(table, [])
        if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
            raise self._wrong((table,), table, f"tables [[{table}]], with two brackets")
        return found

    def _rule(self, entry: dict[str, Any], index: int) -> Rule:
        at: Path = ("rule", index)
        self._known(entry, (*_RULE, *CHECKS), at)
        against = entry.get("against", BASELINE)
        if not isinstance(against, str) or not against:
            raise self._wrong((*at, "against"), "against", 'a row\'s name, or "baseline"')
        checks = {key: value for key, value in entry.items() if key in CHECKS}
        if not checks:
            raise self._wrong(at, "a rule without a check", f"one of {', '.join(CHECKS)}")
        for key, value in checks.items():
            if problem := CHECKS[key].validate(value):
                raise self._wrong((*at, key), f"{key} = {_shown(value)}", problem)
            if against == BASELINE and (held := CHECKS[key].not_kept):
                raise self._wrong((*at, key), f"{key} against the baseline, which holds no {held}",
                                  "against = \"…\", a row of the same record")  # fmt: skip
        lines = {key: line_of(self.lines, (*at, key)) for key in checks}
        return Rule(self._globs(entry, at), checks, against, line_of(self.lines, at), lines)

    def _expected(self, entry: dict[str, Any], index: int) -> Expected:
        at: Path = ("expect", index)
        self._known(entry, _EXPECT, at)
        check, reason, until = (entry.get(key) for key in ("check", "reason", "until"))
        if check not in CHECKS:
            raise self._wrong((*at, "check"), f"check = {_shown(check)}", f"one of {', '.join(CHECKS)}")
        if not isinstance(reason, str) or not reason.strip():
            raise self._wrong((*at, "reason"), f"reason = {_shown(reason)}", "why this failure is accepted, in words")
        if type(until) is not datetime.date:
            raise self._wrong((*at, "until"), f"until = {_shown(until)}", "a date such as 2026-12-31, without quotes")
        return Expected(self._globs(entry, at), check, reason, until, line_of(self.lines, at))

    def _globs(self, entry: Mapping[str, Any], at: Path) -> tuple[str, ...]:
        found = entry.get("artifacts")
        globs = [found] if isinstance(found, str) else found
        if not isinstance(globs, list) or not globs or not all(isinstance(glob, str) and glob for glob in globs):
            raise self._wrong((*at, "artifacts"), f"artifacts = {_shown(found)}", 'a glob such as "*int8*", or a list')
        return tuple(globs)

    def _number(self, table: Mapping[str, Any], key: str, default: float, span: tuple[float, float]) -> float:
        value = table.get(key, default)
        if problem := number(*span)[0](value):
            raise self._wrong(("gate", key), f"{key} = {_shown(value)}", problem)
        return float(value)

    def _word(self, table: Mapping[str, Any], key: str, default: str) -> str:
        value = table.get(key, default)
        if value not in INCONCLUSIVE:
            raise self._wrong(("gate", key), f"{key} = {_shown(value)}", f"one of {', '.join(INCONCLUSIVE)}")
        return str(value)

    def _known(self, table: Mapping[str, Any], keys: Iterable[str], at: Path) -> None:
        known = tuple(keys)
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                fix = f"did you mean {near[0]!r}?" if near else ""
                raise self._wrong((*at, key), f"unknown key {key!r}", f"one of {', '.join(known)}", fix)

    def _no_twins(self, rules: Iterable[Rule]) -> None:
        """The same check of the same artifacts against the same thing twice: which one counts?"""
        seen: dict[tuple[tuple[str, ...], str, str], int] = {}
        for rule in rules:
            for check, line in rule.lines.items():
                key = (rule.artifacts, rule.against, check)
                if key in seen:
                    raise BadInput(f"{self.where}:{line}: {check} of {', '.join(rule.artifacts)} stands on line "
                                   f"{seen[key]} already", "each check of an artifact once")  # fmt: skip
                seen[key] = line

    def _wrong(self, at: Path, what: str, expected: str, fix: str = "") -> BadInput:
        return BadInput(f"{self.where}:{line_of(self.lines, at)}: {what}", expected, fix)


def _toml(text: str, where: str) -> dict[str, Any]:
    try:
        import tomllib
    except ModuleNotFoundError as error:
        raise BadInput("a policy is read by Python 3.11 and later", "Python ≥ 3.11",
                       "check records on a workstation or in CI; devices only measure") from error  # fmt: skip
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{where}: no TOML: {error}", "a policy file as docs/gate.md shows") from error


def _shown(value: Any) -> str:
    return "nothing" if value is None else repr(value)


def schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a policy, for editors: `policy.schema.json` holds its text."""
    globs = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    rule = {"artifacts": globs, "against": {"type": "string"}, **{key: dict(one.schema) for key, one in CHECKS.items()}}
    expect = {"artifacts": globs, "check": {"enum": list(CHECKS)}, "reason": {"type": "string"}, "until": {}}
    gate = {
        "confidence": {"type": "number", "minimum": 0.5, "maximum": 0.9999},
        "inconclusive": {"enum": list(INCONCLUSIVE)},
        "budget-s": {"type": "number", "minimum": 1, "maximum": 1e6},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:tiffin:policy:1",
        "title": "Policy of `tiffin check`",
        "type": "object",
        "required": ["rule"],
        "additionalProperties": False,
        "properties": {
            "gate": {"type": "object", "additionalProperties": False, "properties": gate},
            "rule": {"type": "array", "minItems": 1, "items": _table(rule, ["artifacts"])},
            "expect": {"type": "array", "items": _table(expect, list(_EXPECT))},
        },
    }


def _table(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}
