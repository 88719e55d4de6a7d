"""GitHub: the step summary, and annotations at the rule's line of the policy file."""

from __future__ import annotations

import os
from pathlib import Path

from ...errors import BadInput
from ...records.findings import Finding, GateResult, Outcome
from .markdown import as_markdown, reason

SUMMARY_BYTES = 1_000_000  # GitHub refuses a step's summary above 1 MiB
SHOWN = 10  # annotations of one kind that GitHub shows for a step
_KINDS = {Outcome.FAIL: "error", Outcome.INCONCLUSIVE: "warning", Outcome.EXPECTED: "notice"}


def announce(result: GateResult, policy: Path) -> list[str]:
    """Append the summary to `$GITHUB_STEP_SUMMARY` and `outcome=…` to `$GITHUB_OUTPUT`, where GitHub names them.

    Returns:
        Lines to print, to stdout or stderr: workflow commands that annotate.

    Raises:
        BadInput: a file that GitHub names cannot be written.
    """
    _append("GITHUB_STEP_SUMMARY", as_markdown(result, SUMMARY_BYTES))
    _append("GITHUB_OUTPUT", f"outcome={result.outcome.value}\n")
    return annotation_lines(result, policy)


def annotation_lines(result: GateResult, policy: Path) -> list[str]:
    """`::error file=…,line=…::…` and its like: ten of a kind, then one line that counts the rest."""
    lines = []
    for outcome, kind in _KINDS.items():
        found = [finding for finding in result.findings if finding.outcome is outcome]
        shown = found if len(found) <= SHOWN else found[: SHOWN - 1]
        lines += [_annotation(kind, finding, policy) for finding in shown]
        if len(shown) < len(found):
            lines.append(f"::{kind} title=tiffin check::{len(found) - len(shown)} more, see the step's summary")
    return lines


def _annotation(kind: str, finding: Finding, policy: Path) -> str:
    title = f"{finding.outcome.value} {finding.artifact}, {finding.check}"
    place = f"file={_property(policy.as_posix())},line={finding.line},title={_property(title)}"
    return f"::{kind} {place}::{_data(reason(finding))}"


def _data(text: str) -> str:
    """A workflow command's message (actions/toolkit, `command.ts`): one line whatever the text holds."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _append(variable: str, text: str) -> None:
    path = os.environ.get(variable)
    if not path:
        return
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise BadInput(f"${variable} cannot be written ({error.strerror})", "a file that the runner made") from error
