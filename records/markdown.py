"""Text of others (names of classes, artifacts, files) within Markdown."""

from __future__ import annotations

import re


def escaped(text: str) -> str:
    """Text that stays text in a Markdown table: no line breaks, no HTML, no pipes, no links, no mentions."""
    plain = re.sub(r"[\x00-\x1f\x7f]+", " ", text)
    for mark, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "&#124;"), ("@", "&#64;")):
        plain = plain.replace(mark, entity)
    return re.sub(r"([\\`*_\[\]])", r"\\\1", plain)
