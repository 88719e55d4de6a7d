"""The gate as a pytest fixture. pytest loads this file in every session: it imports nothing else until it is used."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # numpy, which a session that does not use the gate does without
    from ..records.findings import GateResult

_INI = {
    "tiffin_records": ("records that `tiffin_gate` judges, one a line", "paths"),
    "tiffin_baseline": ("baseline that `tiffin_gate` compares with", "string"),
    "tiffin_policy": ("policy of `tiffin_gate`; default tiffin.toml", "string"),
}
StrPath = str | os.PathLike[str]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the ini options."""
    for name, (words, kind) in _INI.items():
        parser.addini(name, words, type=kind, default=[] if kind == "paths" else "")  # type: ignore[arg-type]


@pytest.fixture
def tiffin_gate(request: pytest.FixtureRequest) -> Callable[..., GateResult]:
    """`tiffin_gate("out/score.json", baseline=…, policy=…)` passes, skips or fails as `tiffin check` would.

    What a call leaves out is taken from the ini options, whose paths are relative to the ini file. A regression fails
    the test with the reasons; an inconclusive result skips it, or fails it where the policy says so.
    """
    config = request.config

    def gate(*records: StrPath, baseline: StrPath | None = None, policy: StrPath | None = None) -> GateResult:
        from .files import judge_files

        chosen = [Path(record) for record in records] or list(config.getini("tiffin_records"))
        if not chosen:
            pytest.fail("tiffin_gate: no records; give them to the call, or set tiffin_records", pytrace=False)
        known = _path(baseline, config, "tiffin_baseline")
        rules = _path(policy, config, "tiffin_policy") or config.rootpath / "tiffin.toml"
        result = judge_files(chosen, rules, known)
        _judge(result)
        return result

    return gate


def _path(given: StrPath | None, config: pytest.Config, name: str) -> Path | None:
    if given is not None:
        return Path(given)
    word = config.getini(name)
    return (config.inipath.parent if config.inipath else config.rootpath) / word if word else None


def _judge(result: GateResult) -> None:
    from ..records.findings import Outcome

    if result.exit_code:
        pytest.fail(_message(result, (Outcome.FAIL, Outcome.INCONCLUSIVE)), pytrace=False)
    if result.outcome is Outcome.INCONCLUSIVE:
        pytest.skip(_message(result, (Outcome.INCONCLUSIVE,)))


def _message(result: GateResult, outcomes: tuple[object, ...]) -> str:
    open_ = [finding for finding in result.findings if finding.outcome in outcomes]
    lines = [f"{one.outcome.value} {one.artifact}, {one.check} (line {one.line}): {one.reason}" for one in open_]
    return "\n".join([f"tiffin check: {result.outcome.value}", *lines])
