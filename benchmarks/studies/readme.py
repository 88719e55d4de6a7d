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
    table = f"{parts[0]}\n\n{parts[-1]}"  # the details between table and notes are a command away
    fill(page, record.stem, table)


if __name__ == "__main__":
    main()
