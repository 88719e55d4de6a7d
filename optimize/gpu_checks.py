"""What a record of `tiffin selftest` proves, judged from the record alone; needs neither torch nor a GPU."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..records import Record
from ..records.paired import agreement
from ..runtime.selfcheck import Check

REFERENCE = "onnxruntime fp32"
# What the answers of each precision must share with fp32's, as a part of the photos; None: told, not judged.
AGREEMENT: Mapping[str, float | None] = {
    "fp32": 0.995, "fp16": 0.995, "bf16": None, "int8": 0.985, "int8 fp16": 0.985, "fp8": None,
}  # fmt: skip

# What a call by our runtime may take beside the bare loop: so many times its time, or so many microseconds more. One
# call's Python takes some 20 µs, so that kernels of 150 µs can be told from it no closer.
MOST_OVERHEAD, MOST_OVERHEAD_US = 1.05, 50.0


def counted(text: str) -> dict[str, int]:
    """What pytest's last line counts, such as `3 passed, 1 skipped in 2.1s`."""
    lines = [line for line in text.splitlines() if re.search(r"\d+ (passed|failed|skipped|error)", line)]
    found = re.findall(r"(\d+) (passed|failed|skipped|error)", lines[-1]) if lines else []
    return {word: int(count) for count, word in found}


def checks(record: Record) -> tuple[Check, ...]:
    """Every engine's parity, what our runtime costs, the GPU tests."""
    found = [_parity(record, subject.name, subject.reason) for subject in record.subjects[1:]]
    found += [_overhead(name, told) for name, told in record.options.get("raw", {}).items()]
    return (*found, _tests_check(record.options.get("gpu_tests", {})))


def _parity(record: Record, name: str, reason: str) -> Check:
    words = name.split(" ", 1)[1].removesuffix(" gpu")
    if reason:
        return Check(name, "not run", reason)
    if name not in record.predictions or REFERENCE not in record.predictions:
        return Check(name, "not run", "not scored")
    shared, least = agreement(record.predictions[name], record.predictions[REFERENCE]), AGREEMENT[words]
    said = f"top-1 agreement with fp32 {shared.value:.2%} on {shared.n} photos"
    if least is None:
        return Check(name, "passed", f"{said}; nothing is asked of it")
    return Check(name, "passed" if shared.value >= least else "failed", f"{said}, asked: {least:.1%}")


def _overhead(name: str, told: Mapping[str, Any]) -> Check:
    """Our runtime's time beside a bare loop's, over pairs of neighbouring blocks."""
    label = f"{name}, session / bare loop"
    if "reason" in told:
        return Check(label, "not run", str(told["reason"]))
    quarters = (0.25, 0.5, 0.75)
    low, ratio, high = np.quantile(np.divide(told["session"], told["raw"]), quarters)
    least, more_us, most = np.quantile(np.subtract(told["session"], told["raw"]) / 1e3, quarters)
    spread = f"half of {len(told['raw'])} pairs within {low:.3f}–{high:.3f}, {least:+.1f} to {most:+.1f} µs"
    asked = f"at most {MOST_OVERHEAD}, or {MOST_OVERHEAD_US:+.0f} µs"
    said = f"{ratio:.3f}, {more_us:+.1f} µs ({spread}), asked: {asked}"
    return Check(label, "passed" if ratio <= MOST_OVERHEAD or more_us <= MOST_OVERHEAD_US else "failed", said)


def _tests_check(told: Mapping[str, Any]) -> Check:
    if "exit_code" not in told:
        return Check("tests marked gpu", "not run", str(told.get("reason", "not recorded")))
    words = ", ".join(f"{told[word]} {word}" for word in ("passed", "failed", "error", "skipped") if word in told)
    good = told["exit_code"] == 0 and told.get("passed", 0) > 0
    return Check("tests marked gpu", "passed" if good else "failed", words or f"pytest ended with {told['exit_code']}")
