"""Reading the text lists that datasets come with."""

from __future__ import annotations

import csv
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import BadDataset

T = TypeVar("T")
_MOST_DIGITS = 18  # Python itself reads no more than some thousand


def read_lines(path: Path) -> list[str]:
    """Lines of a UTF-8 file, stripped, without the empty ones.

    Raises:
        BadDataset: unreadable, or not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadDataset(f"{path}: cannot be read ({error})", "a text file in UTF-8") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def read_rows(path: Path, columns: Sequence[str]) -> list[list[str]]:
    """Values of the named columns of a CSV with a header, stripped.

    Raises:
        BadDataset: unreadable, a quote is not closed, or a column is missing in the header or in a row.
    """
    header, *rows = [_values(line, f"{path}: row {number}") for number, line in enumerate(read_lines(path), 1)] or [[]]
    expected = f"a CSV with the columns {', '.join(columns)} in every row"
    if missing := [column for column in columns if column not in header]:
        raise BadDataset(f"{path}: no column {missing[0]!r} in its header", expected)
    places = [header.index(column) for column in columns]
    for number, row in enumerate(rows, 2):
        if len(row) <= max(places):
            raise BadDataset(f"{path}: row {number} is too short: {','.join(row)}", expected)
    return [[row[place] for place in places] for row in rows]


def _values(line: str, where: str) -> list[str]:
    """A row by itself: a quote that is not closed would take the rows after it for its value."""
    try:
        (row,) = csv.reader([line], skipinitialspace=True, strict=True)
    except csv.Error as error:
        expected = "a row of CSV: quotes around whole values, each closed on its line"
        raise BadDataset(f"{where}: {line[:80]} ({error})", expected) from error
    return [word.strip() for word in row]


def class_name(word: str) -> str:
    """A class name in its composed form (NFC): Macs write `è` as two characters, which look the same and differ."""
    return unicodedata.normalize("NFC", word)


def class_index(word: str, places: Mapping[str, int], where: Path) -> int:
    """Class index of a label that is written as a class name (a key of `places`) or as an index.

    Raises:
        BadDataset: it is neither; the error names the file `where`.
    """
    if (name := class_name(word)) in places:
        return places[name]
    if word.isascii() and word.isdigit() and len(word) <= _MOST_DIGITS:
        return int(word)
    raise BadDataset(f"{where}: label {word[:80]!r}", "a class name or an index from 0")


def in_order(named: Mapping[int, T], where: Path) -> list[T]:
    """What each class index names, index 0 first.

    Raises:
        BadDataset: an index is missing.
    """
    if sorted(named) != list(range(len(named))):
        raise BadDataset(f"{where}: class ids have gaps", f"every id from 0 to {len(named) - 1}")
    return [named[index] for index in range(len(named))]


def folder_with(root: Path, folders: Iterable[str], files: Sequence[str]) -> Path | None:
    """The first of root and its named folders that has all the files."""
    bases = (root, *(root / folder for folder in folders))
    return next((base for base in bases if all((base / file).is_file() for file in files)), None)
