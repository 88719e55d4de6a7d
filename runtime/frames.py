"""Raw frames of cameras and decoders → RGB, by integer arithmetic that gives the same bytes on every platform.

NV12 and YUYV are BT.601 in limited range (luma 16–235, chroma 16–240 around 128), as V4L2 cameras hand them over.
With coefficients in three decimals, in units of 2⁻²⁰, and one rounding at the end:

    R = 1.164·max(Y − 16, 0) + 1.596·(V − 128)
    G = 1.164·max(Y − 16, 0) − 0.391·(U − 128) − 0.813·(V − 128)
    B = 1.164·max(Y − 16, 0) + 2.018·(U − 128)

clipped to 0–255. A chroma sample serves each pixel that it was taken for; none is interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import BadInput

_SHAPES = {
    "rgb": "(H, W, 3)",
    "bgr": "(H, W, 3)",
    "gray": "(H, W)",
    "nv12": "(H·3/2, W), H and W even",
    "yuyv": "(H, W, 2), W even",
}
LAYOUTS = tuple(_SHAPES)

_BITS = 20
_LUMA, _RED_V, _GREEN_U, _GREEN_V, _BLUE_U = (
    round(value * 2**_BITS) for value in (1.164, 1.596, -0.391, -0.813, 2.018)
)


@dataclass(frozen=True)
class Frame:
    """One raw frame.

    Args:
        pixels: uint8; strides may be any, negative ones too.
        layout: "rgb" or "bgr" `(H, W, 3)`, "gray" `(H, W)`, "nv12" `(H·3/2, W)` (a plane of Y, then rows of U and V in
            turn), "yuyv" `(H, W, 2)` (Y, and U and V in turn).

    Raises:
        BadInput: another layout, or pixels of another dtype or shape than the layout has.
    """

    pixels: np.ndarray
    layout: str

    def __post_init__(self) -> None:
        if self.layout not in _SHAPES:
            raise BadInput(f"layout {self.layout!r}", f"one of {', '.join(LAYOUTS)}")
        shape = np.shape(self.pixels)
        if getattr(self.pixels, "dtype", None) != np.uint8 or not _fits(self.layout, shape):
            got = f"{getattr(self.pixels, 'dtype', type(self.pixels).__name__)} {shape}"
            raise BadInput(f"frame of {got}", f"{self.layout}: uint8 {_SHAPES[self.layout]}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.pixels.shape[:2]
        return (height * 2 // 3 if self.layout == "nv12" else height), width

    def rgb(self) -> np.ndarray:
        """uint8 RGB `(H, W, 3)`; the frame's own memory where it is RGB or BGR."""
        if self.layout == "rgb":
            return self.pixels
        if self.layout == "bgr":
            return self.pixels[..., ::-1]
        if self.layout == "gray":
            return np.repeat(self.pixels[..., None], 3, axis=2)
        height, width = self.size
        if self.layout == "nv12":
            chroma = self.pixels[height:].reshape(height // 2, width // 2, 2)
            return _from_yuv(self.pixels[:height], chroma, (2, 2))
        chroma = np.stack([self.pixels[:, 0::2, 1], self.pixels[:, 1::2, 1]], axis=2)
        return _from_yuv(self.pixels[..., 0], chroma, (1, 2))


def _fits(layout: str, shape: tuple[int, ...]) -> bool:
    if 0 in shape:
        return False
    if layout in ("rgb", "bgr"):
        return len(shape) == 3 and shape[2] == 3
    if layout == "gray":
        return len(shape) == 2
    if layout == "nv12":
        return len(shape) == 2 and shape[0] % 3 == 0 and shape[1] % 2 == 0
    return len(shape) == 3 and shape[2] == 2 and shape[1] % 2 == 0


def _from_yuv(luma: np.ndarray, chroma: np.ndarray, block: tuple[int, int]) -> np.ndarray:
    """Luma `(H, W)`, chroma `(H / block[0], W / block[1], 2)` → RGB."""
    bright = np.maximum(luma, 16).astype(np.int32)
    bright -= 16
    bright *= _LUMA
    bright += 1 << (_BITS - 1)  # the half that rounds
    u, v = (chroma[..., index].astype(np.int32) - 128 for index in (0, 1))
    out = np.empty((*luma.shape, 3), np.uint8)
    for channel, part in enumerate((_RED_V * v, _GREEN_U * u + _GREEN_V * v, _BLUE_U * u)):
        whole = bright + part.repeat(block[0], axis=0).repeat(block[1], axis=1)
        whole >>= _BITS
        out[..., channel] = whole.clip(0, 255)
    return out
