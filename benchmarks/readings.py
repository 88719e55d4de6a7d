"""How a file of /proc or /sys is read, and what is said where it does not tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

Probe = Callable[[], float]


class NotTold(Exception):
    """The machine does not tell this; the message says why."""


def reason(error: Exception) -> str:
    """An error in the words of a record."""
    if isinstance(error, OSError):
        return f"{error.filename}: {(error.strerror or str(error)).lower()}"
    return str(error)


def listed(root: Path, pattern: str) -> list[Path]:
    """Paths of a pattern, sorted."""
    return sorted(root.glob(pattern))


def number(path: Path) -> float:
    """A file that holds one number.

    Raises:
        OSError: it cannot be read now.
        ValueError: it holds something else.
    """
    return float(path.read_text())


def readable(paths: Iterable[Path]) -> list[float]:
    """The numbers of those that can be read now: a zone may be off, a core asleep."""
    numbers = []
    for path in paths:
        try:
            numbers.append(number(path))
        except (OSError, ValueError):
            continue
    return numbers
