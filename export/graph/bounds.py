"""What is known of a tensor's least and greatest value, from the operator that gives it."""

from __future__ import annotations

import numpy as np
import onnx

from .dialect import QUANTIZERS
from .quantizers import INTEGERS, MOVES, QdqGraph

_INFINITY = float("inf")
_ALWAYS = {
    "Relu": (0.0, _INFINITY),
    "Sigmoid": (0.0, 1.0),
    "HardSigmoid": (0.0, 1.0),
    "Softmax": (0.0, 1.0),
    "Abs": (0.0, _INFINITY),
}
# Of means and moves no value lies outside those that went in.
_WITHIN = (*MOVES, "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceMin")


class Bounds:
    """Bounds of a graph's tensors as it was when this was made: later changes to its nodes are not seen."""

    def __init__(self, graph: QdqGraph) -> None:
        self._graph = graph
        self._known: dict[str, tuple[float, float]] = {}
        for node in graph.nodes:
            if node.output:
                self._known[node.output[0]] = self._read(node)

    def of(self, name: str) -> tuple[float, float]:
        """Least and greatest value; infinite where unknown."""
        if name not in self._known and (value := self._graph.array(name)) is not None and value.size:
            self._known[name] = float(value.min()), float(value.max())
        return self._known.get(name, (-_INFINITY, _INFINITY))

    def _read(self, node: onnx.NodeProto) -> tuple[float, float]:
        if node.op_type in _ALWAYS:
            return _ALWAYS[node.op_type]
        if node.op_type == "Clip":
            return self._clip(node)
        if node.op_type in _WITHIN and node.input:
            return self.of(node.input[0])
        if node.op_type in QUANTIZERS:
            return self._quantizer(node)
        return -_INFINITY, _INFINITY

    def _clip(self, node: onnx.NodeProto) -> tuple[float, float]:
        """Limits were attributes before opset 11."""
        said = {attribute.name: attribute.f for attribute in node.attribute}
        given = [self._graph.array(name) if name else None for name in node.input[1:3]] + [None, None]
        low = said.get("min", -_INFINITY) if given[0] is None else float(given[0])
        high = said.get("max", _INFINITY) if given[1] is None else float(given[1])
        return low, high

    def _quantizer(self, node: onnx.NodeProto) -> tuple[float, float]:
        """Of a DequantizeLinear; a QuantizeLinear's integers are nobody's business."""
        found = self._graph.quantizers[node.output[0]]
        if found.quantizes or found.scale is None or not found.sound or found.kind not in INTEGERS:
            return -_INFINITY, _INFINITY
        limits = np.iinfo(INTEGERS[found.kind])
        zero = np.zeros(1) if found.zero is None else found.zero.astype(np.float64).reshape(-1)
        scale = np.asarray(found.scale, np.float64).reshape(-1)
        return float(((limits.min - zero) * scale).min()), float(((limits.max - zero) * scale).max())
