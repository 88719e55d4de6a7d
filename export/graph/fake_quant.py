"""Rounding to integers and back, simulated in float32 with gradients: what a QDQ pair computes.

Rounding hands its gradient straight through, and clipping none (Jacob et al., CVPR 2018, arXiv 1712.05877, section 3).
torch's `fake_quantize_per_tensor_affine` computes the same and takes three times as long on a CPU.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from .dialect import spread

_SEVEN_BITS = 64
_HALF = 0.49  # of a step beyond the last value: what rounds to it; a whole half might round to the next


class _Round(torch.autograd.Function):
    """What QuantizeLinear and DequantizeLinear do together."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, grid: Grid) -> torch.Tensor:
        levels = values / grid.scale
        if grid.zero is not None:
            levels += grid.zero
        ctx.save_for_backward(levels)
        ctx.limits = grid.low - _HALF, grid.high + _HALF
        whole = F.hardtanh(levels, *ctx.limits).round_()
        if grid.zero is not None:
            whole -= grid.zero
        return whole.mul_(grid.scale)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return torch.ops.aten.hardtanh_backward(gradients[0], *ctx.saved_tensors, *ctx.limits), None


@dataclass(frozen=True)
class Grid:
    """The values that a quantized tensor can take.

    Args:
        scale: the step between them; one, or of each channel in a shape that spreads over the tensor.
        zero: zero points in that shape where channels differ in them; None where `low` and `high` count from 0.
        low, high: the first and the last, in steps.
    """

    scale: torch.Tensor
    zero: torch.Tensor | None
    low: int
    high: int

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        """Round and clip."""
        return _Round.apply(values, self)

    def lies_within(self, low: float, high: float) -> bool:
        """Whether a clip to `low` and `high` changes nothing that this does not."""
        shift = 0 if self.zero is None else self.zero
        first, last = (self.low - shift) * self.scale, (self.high - shift) * self.scale
        slack = _HALF * self.scale
        return bool((first >= low - slack).all() and (last <= high + slack).all())


def grid_of(scale: np.ndarray, zero: np.ndarray, axis: int, dimensions: int, limits: tuple[int, int]) -> Grid:
    """A grid from a QDQ node's constants.

    Args:
        scale, zero: of the whole tensor, or of each channel along `axis` of a tensor with so many dimensions.
        limits: the first and the last integer.
    """
    shape = spread(scale.size, axis, dimensions)
    step, offset = torch.tensor(scale.reshape(shape)), zero.astype(np.int64).reshape(shape)
    if np.unique(offset).size == 1:
        shift = int(offset.flat[0])
        return Grid(step, None, limits[0] - shift, limits[1] - shift)
    return Grid(step, torch.tensor(offset), *limits)


class Rounded(nn.Module):
    """A constant that is kept in float and read as its integers would be.

    Args:
        integers: what the graph holds. int32 ones, which are biases, have no range worth simulating: only what is
            written of them is rounded.
        scale, zero_point: of the whole tensor, or of each channel along `axis`.
        before: the float constant that was quantized: values start there where they round to `integers`.
    """

    def __init__(
        self, integers: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, axis: int, before: np.ndarray | None
    ) -> None:
        super().__init__()
        shape = spread(scale.size, axis, integers.ndim)
        self._step, self._zero = scale.reshape(shape), zero_point.astype(np.int64).reshape(shape)
        self._type = integers.dtype
        self._grid = (
            grid_of(scale, zero_point, axis, integers.ndim, _limits(integers)) if self._type != np.int32 else None
        )
        held = (integers.astype(np.int64) - self._zero) * self._step
        self.value = nn.Parameter(torch.tensor(held, dtype=torch.float32))
        if self._grid and before is not None and before.shape == integers.shape:
            self.value.data = torch.tensor(_rescaled(before, held, self._step), dtype=torch.float32)
            strays = torch.tensor(self.integers() != integers)
            self.value.data[strays] = torch.tensor(held, dtype=torch.float32)[strays]

    def forward(self) -> torch.Tensor:
        """As the graph computes with it."""
        return self._grid(self.value) if self._grid else self.value

    def integers(self) -> np.ndarray:
        """As the graph holds it."""
        values = self().detach().contiguous().numpy().astype(np.float64)
        kind = np.iinfo(self._type)
        return np.clip(np.round(values / self._step) + self._zero, kind.min, kind.max).astype(self._type)


def _rescaled(before: np.ndarray, held: np.ndarray, step: np.ndarray) -> np.ndarray:
    """Float weights in the scale that a correction has given to each channel since (`quantize.corrections`)."""
    axes = tuple(axis for axis in range(held.ndim) if step.ndim == 0 or step.shape[axis] == 1)
    size = np.maximum((before.astype(np.float64) ** 2).sum(axes, keepdims=True), 1e-30)
    return before * (held * before).sum(axes, keepdims=True) / size


def _limits(integers: np.ndarray) -> tuple[int, int]:
    """Of the type, or ±64 where the quantizer kept to 7 bits, so that no sum of two products overflows."""
    kind = np.iinfo(integers.dtype)
    seven = integers.dtype == np.int8 and np.abs(integers.astype(int)).max() <= _SEVEN_BITS
    return (-_SEVEN_BITS, _SEVEN_BITS) if seven else (int(kind.min), int(kind.max))
