"""What a gate found: one finding an artifact and check, and the result over all of them, as JSON that others read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from ..artifact.strict import parse_json
from ..errors import BadInput
from .estimate import Estimate
from .kinds import RESULT, require
from .record import finite

SCHEMA_VERSION = 1


def schema_path() -> Path:
    """JSON Schema (draft 2020-12) of gate.json as this version writes it."""
    return Path(__file__).with_name("gate.schema.json")


class Outcome(str, Enum):
    """What one check of one artifact came to."""

    PASS = "PASS"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"
    EXPECTED = "EXPECTED"  # it fails, as the policy says it does until a date


@dataclass(frozen=True)
class Finding:
    """One check of one artifact.

    Args:
        artifact: name of the row.
        check: the policy's key, such as "accuracy-drop".
        outcome: after expected failures.
        reason: one line: what was seen, how sure, against what.
        against: what it was compared with: "baseline", a row's name, or "" for an absolute limit.
        unit: of value and limit: "points" (0.01 is one point of top-1), "share", "ratio", "ms", "MB", "s", "photos".
        limit: the policy's.
        value: what was measured, with its interval; None where nothing could be compared.
        p_value: of the claim that the limit is exceeded, adjusted by Holm over all checks; None where none is tested.
        sees: what this sample can see, in words; may be empty.
        line: of the rule in the policy file.
        expected: reason and date of an expected failure; None where none applies.
    """

    artifact: str
    check: str
    outcome: Outcome
    reason: str
    against: str = ""
    unit: str = ""
    limit: float | None = None
    value: Estimate | None = None
    p_value: float | None = None
    sees: str = ""
    line: int = 0
    expected: Mapping[str, str] | None = None


@dataclass(frozen=True)
class GateResult:
    """All findings of one run of the gate.

    Args:
        outcome: PASS, FAIL or INCONCLUSIVE, by the policy.
        exit_code: 0 pass, 1 regression, 3 inconclusive where the policy says that it fails.
        policy: as applied, plain values; `policy["text"]` is the file's own text.
        baseline: what it was compared with, in plain values: path, commit, fingerprint; empty where there was none.
        environment: of the machine whose records were judged.
        records: file name and sha256 of each record judged.
        notes: what a reader must know: comparisons across CPUs of a class, rows without a rule, and the like.
    """

    outcome: Outcome
    exit_code: int
    findings: tuple[Finding, ...]
    policy: Mapping[str, Any] = field(default_factory=dict)
    baseline: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    records: tuple[Mapping[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    created: str = ""

    def to_json(self) -> str:
        """gate.json's text, of the schema that `schema_path` names."""
        return json.dumps(finite({"schema": SCHEMA_VERSION, **asdict(self)}), indent=1, ensure_ascii=False) + "\n"


def load_result(path: Path) -> GateResult:
    """Read gate.json.

    Raises:
        BadInput: missing, not the gate's, or of a newer schema.
    """
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
        require(RESULT, raw, str(path))
        version = int(raw.pop("schema"))
        if version > SCHEMA_VERSION:
            raise BadInput(
                f"{path}: schema {version} of the gate's result", f"at most {SCHEMA_VERSION}", "upgrade tiffin"
            )
        lists = {name: tuple(raw.pop(name)) for name in ("records", "notes")}
        findings = tuple(_finding(one) for one in raw.pop("findings"))
        return GateResult(**{**raw, **lists, "findings": findings, "outcome": Outcome(raw["outcome"])})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{path}: no result of the gate ({error})", "the gate.json that `tiffin check` wrote") from error


def _finding(raw: dict[str, Any]) -> Finding:
    value = Estimate(**_bounded(raw["value"])) if raw["value"] else None
    return Finding(**{**raw, "outcome": Outcome(raw["outcome"]), "value": value})


def _bounded(raw: dict[str, Any]) -> dict[str, Any]:
    """JSON has null for the infinite end of an interval."""
    return {**raw, "high": float("inf") if raw["high"] is None else raw["high"]}
