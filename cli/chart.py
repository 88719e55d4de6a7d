"""Charts as SVG, by hand: no plotting library is worth a dependency for two pictures."""

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


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _FOOT = 760, 300, 60, 16, 44  # pixels of the chart by depth
_MOST_DB = 140.0  # what is the same, or nearly, is drawn here
_DEPTH_STYLE = (
    "text{font:11px sans-serif;fill:#222}.head{font-size:14px}.rule{stroke:#ddd}"
    ".floor{stroke:#b23;stroke-dasharray:5 3}"
    ".line{fill:none;stroke:#3b6ea5;stroke-width:1.5}circle{fill:#3b6ea5}.bad{fill:#b23}"
)


@dataclass(frozen=True)
class Dot:
    """One tensor: its place in the graph, its value in dB, what it is."""

    place: int
    value: float
    label: str


def depth_chart(title: str, unit: str, dots: Sequence[Dot], floor: float, marked: int | None) -> str:
    """A line of values over depth, the floor dashed, one dot marked; hovering tells each."""
    last = max((dot.place for dot in dots), default=0) or 1
    low = min([0.0, *(max(dot.value, -20.0) for dot in dots)])
    at = [(_LEFT + (_WIDTH - _LEFT - _RIGHT) * dot.place / last, _level(dot.value, low)) for dot in dots]
    path = "M" + " L".join(f"{x:.1f} {y:.1f}" for x, y in at) if at else ""
    rules = [_rule(level, low) for level in range(0, int(_MOST_DB) + 1, 20)]
    drawn = [_dot(dot, x, y, dot.place == marked, unit) for dot, (x, y) in zip(dots, at, strict=True)]
    line = _level(floor, low)
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{_HEIGHT}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}">',
        f'<style>{_DEPTH_STYLE}</style><rect width="100%" height="100%" fill="#fff"/>',
        f'<text class="head" x="8" y="20">{escape(title)}</text>', *rules,
        f'<line class="floor" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{line:.1f}" y2="{line:.1f}"/>',
        f'<path class="line" d="{path}"/>', *drawn,
        f'<text x="8" y="38">{escape(unit)}</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 10}" text-anchor="end">tensors, first to last; dashed: parted '
        f'below {floor:g}</text>', "</svg>\n",
    ])  # fmt: skip


def _level(value: float, low: float) -> float:
    """Pixels from above; what is infinite lies at the edges."""
    held = min(max(value, low), _MOST_DB)
    return _HEAD + (_HEIGHT - _HEAD - _FOOT) * (_MOST_DB - held) / (_MOST_DB - low)


def _rule(level: int, low: float) -> str:
    y = _level(level, low)
    line = f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
    return f'{line}<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{level}</text>'


def _dot(dot: Dot, x: float, y: float, marked: bool, unit: str) -> str:
    look = f'class="bad" cx="{x:.1f}" cy="{y:.1f}" r="5"' if marked else f'cx="{x:.1f}" cy="{y:.1f}" r="2.5"'
    return f"<g><title>{escape(dot.label)}: {dot.value:.4g} {escape(unit)}</title><circle {look}/></g>"
