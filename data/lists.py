"""Reading the text lists that datasets come with."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import BadDataset

T = TypeVar("T")


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
        BadDataset: unreadable, or a column is missing in the header or in a row.
    """
    header, *lines = list(csv.reader(read_lines(path), skipinitialspace=True)) or [[]]
    try:
        places = [[word.strip() for word in header].index(column) for column in columns]
        return [[row[place].strip() for place in places] for row in lines]
    except (ValueError, IndexError) as error:
        expected = f"a CSV with the columns {', '.join(columns)} in every row"
        raise BadDataset(f"{path}: {error}", expected) from error


def class_index(word: str, places: Mapping[str, int], where: Path) -> int:
    """Class index of a label that is written as a class name (a key of `places`) or as an index.

    Raises:
        BadDataset: it is neither; the error names the file `where`.
    """
    if word in places:
        return places[word]
    if word.isascii() and word.isdigit():
        return int(word)
    raise BadDataset(f"{where}: label {word!r}", "a class name or an index from 0")


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
