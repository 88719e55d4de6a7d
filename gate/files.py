"""From files to a verdict: what the command, the pytest plugin and whoever replays evidence call."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import machine
from ..errors import BadInput
from ..records import Record
from ..records.environment import describe, differing
from ..records.findings import GateResult
from ..records.record import load_record
from ..records.side_by_side import looks
from .baseline import Baseline, load_baseline, require_comparable
from .decide import decide
from .measured import Measured, cpu_class, rows_of
from .policy import Policy, parse_policy

POLICY = Path("tiffin.toml")


def load_policy(path: Path = POLICY) -> Policy:
    """Read a policy file.

    Raises:
        BadInput: missing, or not a policy; with the line.
    """
    try:
        return parse_policy(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError as error:
        raise BadInput(f"{path}: no such policy", "a file with [[rule]] tables", "see docs/gate.md") from error
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: no policy ({error})", "a text file in UTF-8") from error


def judge_files(
    records: Sequence[Path], policy: Path = POLICY, baseline: Path | None = None, other_checkpoint: bool = False
) -> GateResult:
    """Judge records by a policy.

    Raises:
        BadInput: a file that cannot be used, a rule that matches nothing, a baseline of another model.
    """
    chosen = load_policy(policy)
    loaded = {str(path): load_record(path) for path in records}
    known = load_baseline(baseline) if baseline else None
    about: dict[str, Any] = {"records": tuple(described(path) for path in records), "created": machine.utc_now()}
    if known is not None and baseline is not None:
        about["baseline"] = {**described(baseline), "created": known.created, "commit": known.commit}
    return judge(chosen, loaded, known, other_checkpoint, about=about)


def described(path: Path) -> dict[str, str]:
    """A file's name and sha256."""
    return {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


def judge(
    policy: Policy,
    records: Mapping[str, Record],
    baseline: Baseline | None = None,
    other_checkpoint: bool = False,
    today: datetime.date | None = None,
    about: Mapping[str, Any] | None = None,
) -> GateResult:
    """The same from what has been read; a side-by-side record brings what it is compared with.

    Raises:
        BadInput: as `judge_files`.
    """
    now, earlier = rows_of(records)
    before = baseline.rows(now) if baseline is not None else earlier or None
    require_comparable(now, before or {}, other_checkpoint)
    told = dict(about or {})
    told["notes"] = (*told.get("notes", ()), *_between(now, before or {}))
    return decide(_shared(policy, records), now, before, today, told)


def _shared(policy: Policy, records: Mapping[str, Record]) -> Policy:
    """The policy at its share of the error, where a record was looked at while it grew."""
    return replace(policy, confidence=1 - (1 - policy.confidence) / looks_at(records))


def looks_at(records: Mapping[str, Record]) -> int:
    """How often they may have been judged while they grew."""
    return max(map(looks, records.values()), default=1)


def _between(now: Mapping[str, Measured], before: Mapping[str, Measured]) -> list[str]:
    """What lies between the two: another machine of the same class of CPU, other versions."""
    pairs = [(now[name].environment, then.environment) for name, then in before.items() if name in now]
    across = {cpu_class(one) for one, other in pairs if one.get("cpu") != other.get("cpu")
              and cpu_class(one) == cpu_class(other)}  # fmt: skip
    changed = {describe(differing(other, one, ("versions",))) for one, other in pairs} - {""}
    return [
        *(f"answers are compared across machines of CPU class {name or 'unknown'}" for name in sorted(across)),
        *(f"differs: {words}" for words in sorted(changed)),
    ]
