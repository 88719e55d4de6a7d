"""A chart as the page takes it: SVG for wide and narrow screens, a caption, and its data as a table."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...words import counted
from ..cell import Cell

WIDE, NARROW = 720, 330  # CSS pixels of a whole picture, axes and labels included
MOST_ROWS = 24  # candidates drawn; a table holds all
# Colours are CSS variables: the page sets them for light, dark and print.
INK, QUIET, RULE, ACCENT, BAD, SOFT, PAPER = (
    f"var(--{name})" for name in ("ink", "quiet", "rule", "accent", "bad", "soft", "paper")
)
_FONT = "Helvetica Neue, Arial, Liberation Sans, sans-serif"
_INNER = re.compile(r' (?:role|aria-[a-z]+|pointer-events)="[^"]*"')
_TAG = re.compile(r'<(?:[^<>"]|"[^"]*")*>')
_EMPTY = re.compile(r'<path class="(?:background|foreground)"[^>]*?(?: display="none"|d="M0,0h0v0h0Z")[^>]*/>')


@dataclass(frozen=True)
class Chart:
    """One figure of the page.

    Args:
        key: for its id.
        caption: how to read it.
        label: what it shows with its values, for those who do not see it.
        wide, narrow: SVG.
        header, rows: its data; the first column is the name.
        note: what is left out of the picture; may be empty.
    """

    key: str
    title: str
    caption: str
    label: str
    wide: str
    narrow: str
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Missing:
    """A chart without data, and the command whose record would bring it."""

    title: str
    why: str
    command: str


def both(key: str, draw: Callable[[int], Any]) -> tuple[str, str]:
    """The picture for a wide and for a narrow screen; `draw` takes the width and gives an Altair chart."""
    return svg(draw(WIDE), f"{key}-w"), svg(draw(NARROW), f"{key}-n")


def svg(chart: Any, prefix: str) -> str:
    """Render with the page's manner; ids get a prefix, so that several fit into one page."""
    import vl_convert

    styled = (
        chart.configure(font=_FONT, background="transparent", padding=2)
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=QUIET,
            titleColor=QUIET,
            gridColor=RULE,
            domainColor=RULE,
            tickColor=RULE,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelPadding=6,
            titlePadding=10,
            labelLimit=240,
            tickSize=4,
        )
        .configure_text(fontSize=12, color=INK)
        .configure_header(
            labelColor=INK, labelFontSize=12, titleColor=QUIET, labelFontWeight="bold", labelAnchor="start"
        )
        .configure_title(color=INK, fontSize=13, anchor="start", fontWeight="bold", offset=10)
        .configure_legend(
            labelColor=QUIET,
            titleColor=QUIET,
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
        )
        .configure_concat(spacing=28)
    )
    return _slim(vl_convert.vegalite_to_svg(styled.to_dict()), prefix)


def _slim(text: str, prefix: str) -> str:
    """Without what only Vega's own reader wants; the page names the picture as a whole. Texts stay as they are."""
    return _TAG.sub(lambda tag: _slim_tag(tag[0], prefix), text)


def _slim_tag(tag: str, prefix: str) -> str:
    tag = _EMPTY.sub("", _INNER.sub("", tag))
    tag = re.sub(r'id="([^"]+)"', rf'id="{prefix}-\1"', tag)
    tag = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", tag)
    tag = re.sub(r"(\d+\.\d{2})\d+", r"\1", tag)
    return tag.replace(' xmlns:xlink="http://www.w3.org/1999/xlink"', "").replace(' class="marks"', "")


def undrawn(count: int, most: int = MOST_ROWS, what: str = "row", plural: str = "") -> str:
    """What the picture has no room for; the table beside it holds all."""
    more = count - most
    return f"The table has {counted(more, f'more {what}', plural and f'more {plural}')}." if more > 0 else ""


def spoken(what: str, values: Sequence[str], most: int = 30) -> str:
    """One sentence for a screen reader: what, then values."""
    shown = "; ".join(values[:most])
    more = f"; and {len(values) - most} more in the table" if len(values) > most else ""
    return f"{what}: {shown}{more}."


def data(values: Sequence[Mapping[str, Any]]) -> Any:
    """Rows for Altair."""
    import altair as alt

    return alt.Data(values=[dict(one) for one in values])


def tone(name: str, focus: str, reference: str) -> str:
    """Colour of a row: one accent for what is shipped, ink for the reference, quiet for the rest."""
    return ACCENT if name == focus else INK if name == reference else SOFT


def short(name: str, most: int) -> str:
    """A name cut in its middle, where its ends tell it apart."""
    if len(name) <= most:
        return name
    half = (most - 1) // 2
    return f"{name[:half]}…{name[len(name) - (most - 1 - half) :]}"
