"""Write the README's table from a committed record, between its two marks.

python benchmarks/studies/readme.py README.md benchmarks/results/default.json
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

START, END = "<!-- table: made by `make records` -->", "<!-- end of table -->"


def main() -> None:
    """Replace what stands between the marks."""
    page, record = Path(sys.argv[1]), sys.argv[2]
    show = "from tiffin.cli.app import main; main()"
    shown = subprocess.run(
        [sys.executable, "-c", show, "show", record, "--markdown"], check=True, capture_output=True, text=True
    )
    text = page.read_text()
    head, tail = text.split(START)[0], text.split(END)[1]
    main_table, _, notes = shown.stdout.strip().split("\n\n")  # the details are a command away
    page.write_text(f"{head}{START}\n{main_table}\n\n{notes}\n{END}{tail}")


if __name__ == "__main__":
    main()
