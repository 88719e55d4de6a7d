"""A record for the repository: every answer with its top 5, without the other logits, which are most of its bytes.

python benchmarks/studies/without_logits.py RECORD OUT
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from tiffin.records import Record
from tiffin.records.record import load_record


def without_logits(record: Record) -> Record:
    """The same, each answer with its top alone."""
    return replace(record, predictions={name: replace(one, logits=None) for name, one in record.predictions.items()})


def main() -> None:
    """Read one, write the other."""
    source, out = map(Path, sys.argv[1:])
    without_logits(load_record(source)).save(out)


if __name__ == "__main__":
    main()
