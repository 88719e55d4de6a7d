"""Text of others (names of rows, photos, labels) within CSV, which spreadsheets open."""

from __future__ import annotations

import re

_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")


def inert(text: str) -> str:
    """Behind an apostrophe where a spreadsheet would take it for a formula (OWASP, CSV injection)."""
    return f"'{text}" if _FORMULA.match(text) else text


def without_guard(text: str) -> str:
    """As it was before `inert`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text
