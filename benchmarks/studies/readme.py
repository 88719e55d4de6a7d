"""Write a page's table from a committed record, between the two marks that name it.

python benchmarks/studies/readme.py README.md benchmarks/results/default.json
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tiffin.benchmarks.studies.page import fill


def main() -> None:
    """Replace what stands between `<!-- table NAME: … -->` and `<!-- end of NAME -->`."""
    page, record = Path(sys.argv[1]), Path(sys.argv[2])
    show = "from tiffin.cli.app import main; main()"
    shown = subprocess.run(
        [sys.executable, "-c", show, "show", record, "--markdown"], check=True, capture_output=True, text=True
    )
    parts = shown.stdout.strip().split("\n\n")
    *tables, notes = parts
    kept = tables[:-1] or tables  # the last of several has the details, which are a command away
    fill(page, record.stem, "\n\n".join([*kept, notes]))


if __name__ == "__main__":
    main()
