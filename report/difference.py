"""Two pictures of one photo side by side with their difference, as PNG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

_GAP, _LINE = 8, 16  # pixels
_PAPER, _INK = (255, 255, 255), (30, 30, 30)


def side_by_side(theirs: np.ndarray, ours: np.ndarray, words: tuple[str, str] = ("reference", "artifact")) -> bytes:
    """Three panels: theirs, ours, and |theirs - ours| amplified until its largest value is white.

    Args:
        theirs, ours: levels 0 to 255, `(H, W, 3)`, of any real type.
    """
    gap = np.abs(np.asarray(theirs, np.float32) - ours)
    factor = 255 / max(float(gap.max()), 1.0)
    panels = (np.clip(np.rint(theirs), 0, 255), ours, np.clip(gap * factor, 0, 255))
    titles = (*words, f"difference x {factor:.3g}")
    height, width = gap.shape[:2]
    page = Image.new("RGB", (3 * width + 4 * _GAP, height + 2 * _GAP + _LINE), _PAPER)
    draw = ImageDraw.Draw(page)
    for place, (panel, title) in enumerate(zip(panels, titles, strict=True)):
        left = _GAP + place * (width + _GAP)
        draw.text((left, _GAP / 2), title, fill=_INK)
        page.paste(Image.fromarray(panel.astype(np.uint8)), (left, _GAP + _LINE))
    held = io.BytesIO()
    page.save(held, "PNG")
    return held.getvalue()
