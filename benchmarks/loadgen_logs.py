"""What LoadGen wrote: its detail log (a JSON object a line after `:::MLLOG`), its summary, its answers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import WorkerFailed

_MARK = ":::MLLOG "
_PERCENTILE = re.compile(r"result_([\d.]+)_percentile_(per_query_)?latency_ns")
_CONSTRAINTS = {
    "result_perf_constraints_met": "latency constraint not met",
    "result_min_duration_met": "least duration not met",
    "result_min_queries_met": "least count of queries not met",
}


@dataclass(frozen=True)
class LoadgenResult:
    """One test, in LoadGen's own numbers.

    Args:
        scenario, mode: words of the command line.
        valid: LoadGen's own verdict; None in accuracy mode, which has none.
        reasons: why it is INVALID, and errors that LoadGen logged.
        shortened: setting → "applied of official", for each that is less than MLPerf's rules ask; none in an official
            run.
        percentiles_ns: "50.00" … "99.90" → nanoseconds, of queries in multi-stream and of samples elsewhere; LoadGen
            times a server's query from when it was due, and every offline sample from the start.
        min_ns, mean_ns, max_ns: of the same.
        samples_per_s: completed; multi-stream's, of which LoadGen says nothing, is samples / duration.
        early_stopping: `met`, `text`, and the bounds `p90_ns`, `p99_ns` of the true percentiles at 99 % confidence.
        duration_s: first query issued → last answered, by the worker's clock.
        version: of LoadGen.
        settings: as LoadGen applied them (its `effective_…`).
    """

    scenario: str
    mode: str
    valid: bool | None
    reasons: tuple[str, ...] = ()
    shortened: Mapping[str, str] = field(default_factory=dict)
    percentiles_ns: Mapping[str, int] = field(default_factory=dict)
    min_ns: int | None = None
    mean_ns: int | None = None
    max_ns: int | None = None
    samples_per_s: float | None = None
    early_stopping: Mapping[str, Any] = field(default_factory=dict)
    duration_s: float | None = None
    query_count: int | None = None
    samples_per_query: int = 1
    version: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """LoadGen's word, and ours where the run was shortened: "VALID", "VALID, shortened", "INVALID"…"""
        word = {True: "VALID", False: "INVALID", None: "accuracy"}[self.valid]
        return f"{word}, shortened" if self.shortened else word


def read_result(
    folder: Path, scenario: str, mode: str, shortened: Mapping[str, str], duration_s: float | None = None
) -> LoadgenResult:
    """The result of the test whose logs lie in `folder`.

    Raises:
        WorkerFailed: there are none, or one of a performance test's two tells no verdict.
    """
    found, errors = _detail(folder)
    words = found.get("result_validity"), _summary_word(folder)
    if not found or mode == "performance" and not set(words) <= {"VALID", "INVALID"}:
        raise WorkerFailed(f"LoadGen left no result in {folder.name}", "a verdict in its detail log and in its summary")
    per_query = scenario == "multi-stream"
    kind = "query_latency_ns" if per_query else "latency_ns"
    each = int(found.get("generated_samples_per_query", 1))
    # LoadGen fills the counts of an accuracy run with what no one measured.
    timed = found if mode == "performance" else {}
    return LoadgenResult(
        scenario,
        mode,
        None if mode != "performance" else "INVALID" not in words,
        tuple(_reasons(timed) + errors),
        dict(shortened),
        percentiles_ns=_percentiles(timed, per_query),
        min_ns=timed.get(f"result_min_{kind}"),
        mean_ns=timed.get(f"result_mean_{kind}"),
        max_ns=timed.get(f"result_max_{kind}"),
        samples_per_s=_samples_per_s(timed, each, duration_s),
        early_stopping=_early_stopping(timed, scenario),
        duration_s=duration_s,
        query_count=timed.get("result_query_count"),
        samples_per_query=each,
        version=str(found.get("loadgen_version", "")),
        settings={key.removeprefix("effective_"): found[key] for key in found if key.startswith("effective_")},
    )


def _detail(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Last value of each key, and the errors logged. A line that is no JSON (LoadGen writes `nan` as it is) is left."""
    found: dict[str, Any] = {}
    errors = []
    for entry in _entries(folder / "mlperf_log_detail.txt"):
        found[entry["key"]] = entry["value"]
        if entry.get("metadata", {}).get("is_error"):
            errors.append(f"{entry['key']}: {entry['value']}")
    return found, errors


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    lines = path.read_text(errors="replace").splitlines() if path.exists() else []
    for line in lines:
        try:
            entry = json.loads(line.removeprefix(_MARK))
        except ValueError:
            continue
        if line.startswith(_MARK) and isinstance(entry, dict) and {"key", "value"} <= entry.keys():
            yield entry


def _summary_word(folder: Path) -> str:
    """The summary's verdict beside the detail log's: LoadGen words them apart, and both must say VALID."""
    path = folder / "mlperf_log_summary.txt"
    match = re.search(r"^Result is : (\w+)", path.read_text(errors="replace"), re.M) if path.exists() else None
    return match[1] if match else ""


def _reasons(found: Mapping[str, Any]) -> list[str]:
    reasons = [words for key, words in _CONSTRAINTS.items() if found.get(key) is False]
    if found.get("early_stopping_met") is False:
        reasons.append(f"early stopping: {_one_line(found.get('early_stopping_result', ''))}")
    advice = _one_line(found.get("result_invalid_reason", ""))
    return [*reasons, f"LoadGen: {advice}"] if advice else reasons


def _one_line(text: object) -> str:
    return " ".join(str(text).replace("*", " ").split())


def _percentiles(found: Mapping[str, Any], per_query: bool) -> dict[str, int]:
    matches = ((_PERCENTILE.fullmatch(key), value) for key, value in found.items())
    return {match[1]: value for match, value in matches if match and bool(match[2]) == per_query}


def _samples_per_s(found: Mapping[str, Any], each: int, duration_s: float | None) -> float | None:
    for key in (
        "result_samples_per_second",
        "result_completed_samples_per_sec",
        "result_qps_with_loadgen_overhead",
    ):
        if isinstance(found.get(key), (int, float)):
            return float(found[key])
    queries = found.get("result_query_count")
    return queries * each / duration_s if queries and duration_s else None


def _early_stopping(found: Mapping[str, Any], scenario: str) -> dict[str, Any]:
    if scenario == "offline" or "early_stopping_met" not in found:
        return {}
    text = _one_line(found.get("early_stopping_result", ""))
    bounds = {"p90_ns": found.get("early_stopping_latency_ss"), "p99_ns": found.get("early_stopping_latency_ms")}
    # LoadGen leaves 0 where the queries were too few.
    return {"met": found["early_stopping_met"], "text": text, **{key: value for key, value in bounds.items() if value}}


def read_answers(folder: Path, count: int, classes: int) -> np.ndarray:
    """Logits that LoadGen logged in accuracy mode, float32 `(count, classes)`; NaN where it has none.

    Raises:
        WorkerFailed: the log is no JSON, or an answer is no row of `classes` float32.
    """
    logits = np.full((count, classes), np.nan, np.float32)
    try:
        for entry in json.loads((folder / "mlperf_log_accuracy.json").read_text()):
            logits[entry["qsl_idx"]] = np.frombuffer(bytes.fromhex(entry["data"]), np.float32)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise WorkerFailed(f"LoadGen's answers cannot be read ({error})", f"{classes} float32 a photo") from error
    return logits
