"""The records that a report is made from, each with its file name and sha256: what every figure is traced to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..artifact.files import sha256_file
from ..errors import BadInput
from ..records import Record, load_record

# Kinds with a chart of their own; the subjects of all others are rows of the table.
APART = ("explain", "robustness", "certify", "loadgen", "sensitivity", "overhead")


@dataclass(frozen=True)
class Source:
    """One record and where it came from.

    Args:
        name: of the file, unique in the report.
        sha256: of the JSON, which names the hash of the arrays beside it.
    """

    name: str
    sha256: str
    record: Record

    @property
    def has_rows(self) -> bool:
        """True if its subjects are candidates to ship."""
        return self.record.kind not in APART


def load_sources(paths: Sequence[Path]) -> tuple[Source, ...]:
    """Read records, each once.

    Raises:
        BadInput: none given, one of them is missing, cut short or no record, or one is given twice.
    """
    if not paths:
        raise BadInput("a report on nothing", "at least one record", "`tiffin score ARTIFACT` makes one")
    once = list(dict.fromkeys(path.resolve() for path in paths))
    if len(once) < len(paths):
        raise BadInput("one record is given twice", "each record once")
    read = [(load_record(path), sha256_file(path)) for path in paths]
    return tuple(Source(name, digest, record) for name, (record, digest) in zip(_names(list(paths)), read, strict=True))


def _names(paths: list[Path]) -> list[str]:
    """File names, with their folder where two are alike."""
    short = [path.name for path in paths]
    return [str(path) if short.count(path.name) > 1 else path.name for path in paths]
