"""A record for the repository: every answer with its top 5, without the other logits, which are most of its bytes.

python benchmarks/studies/without_logits.py RECORD OUT
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from tiffin.records.record import load_record


def main() -> None:
    """Read one, write the other."""
    source, out = map(Path, sys.argv[1:])
    record = load_record(source)
    slim = {name: replace(found, logits=None) for name, found in record.predictions.items()}
    replace(record, predictions=slim).save(out)


if __name__ == "__main__":
    main()
