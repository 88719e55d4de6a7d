"""JUnit XML: one test suite an artifact, one test case a check."""

from __future__ import annotations

import re
from typing import Any

from ...errors import BadInput
from ...records.findings import Finding, GateResult, Outcome
from ..policy import BASELINE
from .markdown import reason

# What XML 1.0 cannot hold, not even as an entity.
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-�\U00010000-\U0010ffff]")


def as_junit(result: GateResult) -> bytes:
    """UTF-8.

    Raises:
        BadInput: junitparser is not installed.
    """
    try:
        from junitparser import JUnitXml, TestSuite
    except ModuleNotFoundError as error:
        raise BadInput("junit.xml needs junitparser", "the extra gate", 'run `pip install "tiffin[gate]"`') from error
    whole = JUnitXml("tiffin check")
    cases: dict[str, list[Any]] = {}
    for finding in result.findings:
        cases.setdefault(finding.artifact, []).append(_case(finding, result))
    for name, own in cases.items():
        suite = TestSuite(_clean(name))
        if result.created:
            suite.timestamp = result.created
        suite.add_testcases(own)
        whole.append(suite)  # add_testsuite compares with every suite so far
    whole.update_statistics()
    return bytes(whole.tostring())


def _case(finding: Finding, result: GateResult):  # type: ignore[no-untyped-def]
    from junitparser import Error, Failure, Skipped, TestCase

    against = f", against {finding.against}" if finding.against not in ("", BASELINE) else ""
    case = TestCase(_clean(finding.check + against), classname=_clean(finding.artifact), time=0)
    said = _clean(reason(finding))
    if finding.outcome is Outcome.FAIL:
        case.result = [Failure(said, type_=finding.check)]
    elif finding.outcome is Outcome.INCONCLUSIVE and result.policy.get("inconclusive") in ("fail", "measure-more"):
        case.result = [Error(f"inconclusive: {said}", type_=finding.check)]
    elif finding.outcome is not Outcome.PASS:
        case.result = [Skipped(f"{finding.outcome.value.lower()}: {said}")]
    case.system_out = "\n".join(part for part in (said, _clean(finding.sees)) if part)
    return case


def _clean(text: str) -> str:
    return _NO_XML.sub("�", text)
