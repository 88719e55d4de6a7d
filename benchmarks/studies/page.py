"""A table of a page, between the two marks that name it."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def fill(page: Path, name: str, table: str) -> None:
    """Replace what stands between `<!-- table NAME: … -->` and `<!-- end of NAME -->`."""
    marks = rf"(<!-- table {name}: [^\n]* -->\n).*?(<!-- end of {name} -->)"
    text, found = re.subn(marks, lambda mark: f"{mark[1]}{table}\n{mark[2]}", page.read_text(), flags=re.DOTALL)
    if not found:
        sys.exit(f"{page} has no place for {name}")
    page.write_text(text)
