"""On which line of a TOML file each key stands: `tomllib` tells values, not places."""

from __future__ import annotations

import re

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]\]?\s*(#.*)?$")
_KEY = re.compile(r"""\s*([\w-]+|"[^"]*"|'[^']*')\s*=""")
Path = tuple["str | int", ...]


def lines_of(text: str) -> dict[Path, int]:
    """Path of each table and key → its line, from 1; the entries of an array of tables are numbered from 0.

    Keys within an inline table stand where the table stands. Lines within a string of several lines are no keys.
    """
    found: dict[Path, int] = {}
    counts: dict[str, int] = {}
    at: Path = ()
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            inside = "" if inside in line else inside
            continue
        if header := _HEADER.match(line):
            at = _table(header[1] == "[[", header[2], counts)
            found.setdefault(at, number)
        elif key := _KEY.match(line):
            found.setdefault((*at, key[1].strip("\"'")), number)
        inside = next((mark for mark in ('"""', "'''") if line.count(mark) % 2), "")
    return found


def _table(is_array: bool, name: str, counts: dict[str, int]) -> Path:
    """`[[rule]]` begins the next entry of rule; `[rule.critical]` belongs to the entry begun last."""
    first, *rest = (part.strip().strip("\"'") for part in name.split("."))
    if is_array and not rest:
        counts[first] = counts.get(first, -1) + 1
    return (first, counts[first], *rest) if first in counts else (first, *rest)


def line_of(found: dict[Path, int], path: Path) -> int:
    """The line of a path, or of the nearest that stands somewhere above it; 1 where nothing does."""
    while path and path not in found:
        path = path[:-1]
    return found.get(path, 1)
