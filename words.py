"""How a count is said, and a foreign name."""

from __future__ import annotations


def counted(number: int, word: str, plural: str = "") -> str:
    """«1 photo», «2,485 photos»."""
    return f"{number:,} {word if number == 1 else plural or word + 's'}"


def launch_count(number: int) -> str:
    """«1 launch», «12 launches»."""
    return counted(number, "launch", "launches")


def printable(text: str) -> str:
    """With escapes for what cannot be printed: it would steer the terminal, break the line or turn it around."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
