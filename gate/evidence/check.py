"""What looking at a bundle comes to: checks that hold, fail or stay open, in words."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ...errors import TiffinError
from .layout import shown

_MOST_LINES = 8
# What reading what anyone may have written can raise.
UNREADABLE = (
    *(TiffinError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, MemoryError),
    *(OverflowError, ValueError, TypeError, KeyError, IndexError, AttributeError, OSError),
)


class State(str, Enum):
    """What one check came to."""

    HOLDS = "HOLDS"
    FAILS = "FAILS"
    OPEN = "OPEN"  # not asked, or nothing to hold it to


@dataclass(frozen=True)
class Check:
    """One thing that was looked at; the first line says what was found."""

    name: str
    state: State
    lines: tuple[str, ...]


def check(name: str, wrong: Iterable[str], holds: str) -> Check:
    """A check that fails with what is wrong, the first few of it."""
    lines = list(wrong)
    if not lines:
        return Check(name, State.HOLDS, (holds,))
    more = (f"and {len(lines) - _MOST_LINES:,} more",) if len(lines) > _MOST_LINES else ()
    return Check(name, State.FAILS, (*lines[:_MOST_LINES], *more))


def brief(error: BaseException, folder: Path) -> str:
    """One line, without the temporary folder that nobody knows."""
    text = error.what if isinstance(error, TiffinError) else f"{type(error).__name__}: {error}"
    return printable(" ".join(text.replace(f"{folder}/", "").split()))


def printable(text: str) -> str:
    """As it is where that is plain ASCII, else with escapes."""
    return text if text.isascii() and text.isprintable() else shown(text)
