"""A bar chart as SVG, by hand: no plotting library is worth a dependency for one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_ROW, _LABEL, _BAR, _TELL, _HEAD = 16, 180, 420, 170, 48  # pixels
_STYLE = "text{font:11px sans-serif;fill:#222}.head{font-size:14px}rect{fill:#3b6ea5}"


@dataclass(frozen=True)
class Bar:
    """One row: what it is about, its value (0 or more), and the words behind it."""

    label: str
    value: float
    told: str


def bar_chart(title: str, unit: str, bars: Sequence[Bar]) -> str:
    """One horizontal bar a row, from 0, all to one scale; hovering tells the value."""
    largest = max((bar.value for bar in bars), default=0.0) or 1.0
    width, height = _LABEL + _BAR + _TELL, _HEAD + _ROW * len(bars) + 8
    rows = [_row(bar, number, largest, unit) for number, bar in enumerate(bars)]
    head = f'<text class="head" x="8" y="20">{escape(title)}</text>'
    scale = f'<text x="{_LABEL}" y="40">{escape(unit)}, longest bar {largest:.3g}</text>'
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f'<style>{_STYLE}</style><rect width="100%" height="100%" style="fill:#fff"/>',
        head, scale, *rows, "</svg>\n",
    ])  # fmt: skip


def _row(bar: Bar, number: int, largest: float, unit: str) -> str:
    top = _HEAD + number * _ROW
    length = _BAR * max(0.0, bar.value) / largest
    label = f'<text x="{_LABEL - 6}" y="{top + 11}" text-anchor="end">{escape(bar.label)}</text>'
    shape = f'<rect x="{_LABEL}" y="{top + 2}" width="{length:.1f}" height="{_ROW - 4}"/>'
    told = f'<text x="{_LABEL + length + 6:.1f}" y="{top + 11}">{escape(bar.told)}</text>'
    return f"<g><title>{escape(bar.label)}: {bar.value:.4g} {escape(unit)}</title>{label}{shape}{told}</g>"
