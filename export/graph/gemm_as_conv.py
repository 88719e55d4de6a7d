"""Gemm → Reshape, 1×1 Conv, Reshape: the same sums by an operator that every engine compiles.

TensorRT-RTX 1.7 has no float32 Gemm for compute capability 7.5 («FP32 GEMM is not supported»), neither for int8 graphs,
whose Gemm it does not fuse there; it has the convolution. A fully connected layer is a convolution with a kernel of
the input's size (Long et al., CVPR 2015, arXiv 1411.4038, section 3.1), here 1×1.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .gemm import GemmLayer, GemmReader
from .quantizers import DEQUANTIZE, QUANTIZE, drop_unread, free_name, names_of


def gemm_as_conv(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A copy with each Gemm as a convolution of that name, and the names of the nodes that were changed.

    Input and weight may be behind Q/DQ pairs, which then stand directly before the convolution; alpha and beta go into
    weight (or its scale) and bias. Left as it is: a Gemm whose weight or bias is computed or whose first matrix is
    transposed, a bias behind a DequantizeLinear, a quantized weight times an alpha that is not positive. Answers
    differ by float rounding only.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    reader, rewriter, names = GemmReader(changed.graph), _Rewriter(changed.graph), []
    for gemm in [node for node in changed.graph.node if node.op_type == "Gemm"]:
        if layer := reader.read(gemm):
            rewriter.replace(gemm, layer)
            names.append(gemm.name)
    drop_unread(changed.graph)
    return changed, tuple(names)


class _Rewriter:
    """Edits a graph in place; constants that others read as well are copied, never changed."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._made_by = {name: node for node in graph.node for name in node.output}
        self._names = names_of(graph)

    def replace(self, gemm: onnx.NodeProto, layer: GemmLayer) -> None:
        """Put the three nodes where the Gemm stood."""
        made: list[onnx.NodeProto] = []
        outputs, inputs = layer.values.shape
        before = self._reshaped_input(gemm, inputs, made)
        weight = self._weight(gemm, layer, made)
        bias = [] if layer.bias is None else [self._constant(gemm, "bias", layer.bias)]
        after = self._name(f"{gemm.output[0]}_as_conv")
        made.append(helper.make_node("Conv", [before, weight, *bias], [after], gemm.name, kernel_shape=[1, 1]))
        made.append(self._reshape(gemm, after, gemm.output[0], (0, outputs)))
        place = next(index for index, node in enumerate(self._graph.node) if node.output == gemm.output)
        del self._graph.node[place]
        for offset, node in enumerate(made):
            self._graph.node.insert(place + offset, node)

    def _reshaped_input(self, gemm: onnx.NodeProto, inputs: int, made: list[onnx.NodeProto]) -> str:
        """`(batch, K)` → `(batch, K, 1, 1)`, before the Q/DQ pair if there is one, so that the layer stays fused."""
        name, restore = gemm.input[0], self._made_by.get(gemm.input[0])
        quantize = (
            self._made_by.get(restore.input[0]) if restore is not None and restore.op_type == DEQUANTIZE else None
        )
        pair = [quantize, restore] if quantize is not None and quantize.op_type == QUANTIZE else []
        current = self._name(f"{name}_as_conv")
        made.append(self._reshape(gemm, pair[0].input[0] if pair else name, current, (0, inputs, 1, 1)))
        for node in pair:
            following = self._name(f"{node.output[0]}_as_conv")
            twin = onnx.NodeProto()
            twin.CopyFrom(node)
            twin.name = self._name(f"{node.name}_as_conv")
            twin.input[0], twin.output[0] = current, following
            made.append(twin)
            current = following
        return current

    def _weight(self, gemm: onnx.NodeProto, layer: GemmLayer, made: list[onnx.NodeProto]) -> str:
        values = self._constant(gemm, "weight", layer.values[:, :, None, None])
        if layer.scale is None:
            return values
        inputs = [values, self._constant(gemm, "weight_scale", layer.scale)]
        inputs += [] if layer.zero is None else [self._constant(gemm, "weight_zero_point", layer.zero)]
        name = self._name(f"{gemm.name}_weight_dequantized")
        made.append(helper.make_node(DEQUANTIZE, inputs, [name], name, axis=0))
        return name

    def _reshape(self, gemm: onnx.NodeProto, before: str, after: str, shape: Sequence[int]) -> onnx.NodeProto:
        """0 keeps the batch."""
        sizes = self._constant(gemm, "shape", np.array(shape, np.int64))
        return helper.make_node("Reshape", [before, sizes], [after], self._name(f"{gemm.name}_reshape"))

    def _constant(self, gemm: onnx.NodeProto, what: str, value: np.ndarray) -> str:
        name = self._name(f"{gemm.name}_{what}")
        self._graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def _name(self, wish: str) -> str:
        return free_name(self._names, wish)
