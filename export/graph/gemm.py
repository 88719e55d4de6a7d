"""What a Gemm computes with: y = alpha · x·W + beta · C, where alpha and beta can be part of constants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from .dialect import attributes_of, axis_of, constants_of
from .quantizers import DEQUANTIZE


@dataclass(frozen=True)
class GemmLayer:
    """The constants of a Gemm, alpha and beta folded into them.

    Args:
        values: the weight as it is stored, `(N, K)`, float or quantized.
        scale, zero: of the DequantizeLinear that it is read through, over N where there are several; None without.
        bias: `(N,)`, or None.
    """

    values: np.ndarray
    scale: np.ndarray | None
    zero: np.ndarray | None
    bias: np.ndarray | None


class GemmReader:
    """Reads the layers of a graph as it is now; changes nothing."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._held = constants_of(graph)
        self._made_by = {name: node for node in graph.node for name in node.output}

    def read(self, gemm: onnx.NodeProto) -> GemmLayer | None:
        """None where constants alone do not say it: weight or bias computed, or the first matrix transposed."""
        said = attributes_of(gemm)
        alpha, beta = said.get("alpha", 1.0), said.get("beta", 1.0)
        weight = self._weights(gemm, 0 if said.get("transB", 0) else 1)
        if weight is None or said.get("transA", 0) or (weight[1] is not None and alpha <= 0):
            return None
        values, scale, zero = weight
        bias, known = self._bias(gemm, beta, len(values))
        if not known:
            return None
        if scale is not None:
            return GemmLayer(values, _times(scale, alpha), zero, bias)
        return GemmLayer(_times(values, alpha), None, None, bias)

    def is_plain(self, gemm: onnx.NodeProto) -> bool:
        """Whether it is x·W + b, one matrix transposed or not, b one constant for each output or left out."""
        said = attributes_of(gemm)
        if said.get("transA", 0) or said.get("alpha", 1.0) != 1:
            return False
        bias = [self._array(name) for name in gemm.input[2:] if name]
        layer = self.read(gemm)
        return not bias or (said.get("beta", 1.0) == 1 and layer is not None
                            and bias[0] is not None and bias[0].shape == (len(layer.values),))  # fmt: skip

    def _weights(
        self, gemm: onnx.NodeProto, rows: int
    ) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None] | None:
        """`(N, K)` as stored, where outputs lie along axis `rows`; scale and zero point if it is quantized."""
        source = self._made_by.get(gemm.input[1])
        quantized = source if source is not None and source.op_type == DEQUANTIZE else None
        found = [self._array(name) for name in (quantized.input if quantized else gemm.input[1:2]) if name]
        values, scale, zero = (*found, None, None)[:3]
        if values is None or any(array is None for array in found):
            return None
        if quantized is not None and scale is not None and scale.size > 1 and axis_of(quantized) % 2 != rows:
            return None  # scales along the sum
        return np.ascontiguousarray(values.T if rows else values), scale, zero

    def _bias(self, gemm: onnx.NodeProto, beta: float, outputs: int) -> tuple[np.ndarray | None, bool]:
        """As `(N,)`, None without one; and whether it is a constant of one value an output."""
        if len(gemm.input) < 3 or not gemm.input[2]:
            return None, True
        value = self._array(gemm.input[2])
        if value is None or value.size not in (1, outputs) or (value.size > 1 and value.shape[-1] != outputs):
            return None, False  # computed, or one value a row of the batch
        return _times(np.broadcast_to(value.reshape(-1), (outputs,)), beta), True

    def _array(self, name: str) -> np.ndarray | None:
        return numpy_helper.to_array(self._held[name]) if name in self._held else None


def _times(value: np.ndarray, factor: float) -> np.ndarray:
    """In the value's own type."""
    return value if factor == 1 else (value.astype(np.float64) * factor).astype(value.dtype)
