"""What the gate found, in the forms that CI systems read."""

from __future__ import annotations

from pathlib import Path

from ...artifact.files import replace_files
from ...errors import BadInput
from ...records.findings import GateResult
from .gitlab import as_metrics
from .junit import as_junit
from .markdown import as_markdown

FILES = ("gate.json", "junit.xml", "metrics.txt", "summary.md")


def write_outputs(result: GateResult, folder: Path) -> list[Path]:
    """Write gate.json, junit.xml (JUnit), metrics.txt (OpenMetrics, GitLab) and summary.md, each whole.

    Raises:
        BadInput: the folder cannot be written, or junitparser is missing: then nothing is written.
    """
    texts = (result.to_json().encode(), as_junit(result), as_metrics(result).encode(), as_markdown(result).encode())
    found = {folder / name: text for name, text in zip(FILES, texts, strict=True)}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_files(found)
    except OSError as error:
        raise BadInput(
            f"cannot write {folder} ({error.strerror})", "a writable folder", "choose another --out"
        ) from error
    return list(found)
