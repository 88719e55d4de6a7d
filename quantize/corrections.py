"""Corrections in closed form: each layer's outputs are brought back to the float model's, layer after layer.

Empirical bias correction (Nagel et al., ICCV 2019, arXiv 1906.04721, section 4.2): the mean error of a channel over
calibration photos is taken off its bias. Compensation is the same with a scale: the least-squares line from a
channel's quantized outputs to the float ones (QwT-v2, CVPR 2025, for convolutions), folded into the channel's weight
scale and bias, so that the graph keeps its nodes and its time. Later layers see the corrected outputs of earlier ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from onnx import numpy_helper

from ..export.graph.quantizers import free_name, names_of
from .walk import Walk

_LAYERS = ("Conv", "Gemm")
_SLOPES = (0.5, 2.0)  # outside, the channel is next to constant and a line through it says nothing: slope 1
_ROUNDING = float(np.finfo(np.float32).eps)  # a variance below that share of the mean's square may be rounding alone
_INT32 = np.iinfo(np.int32)


@dataclass(frozen=True)
class Line:
    """`slope · y + shift` for each output channel y, through the means of both, float64 `(C,)`."""

    slope: np.ndarray
    mean_quantized: np.ndarray
    mean_wanted: np.ndarray

    @property
    def shift(self) -> np.ndarray:
        """What is added after the slope."""
        return self.mean_wanted - self.slope * self.mean_quantized

    def without_slope(self, channels: np.ndarray) -> Line:
        """With slope 1 in those, bool `(C,)`."""
        return replace(self, slope=np.where(channels, 1.0, self.slope))


def correct(
    parent: onnx.ModelProto,
    quantized: onnx.ModelProto,
    photos: np.ndarray | Mapping[str, np.ndarray],
    with_slope: bool,
) -> onnx.ModelProto:
    """A copy of the quantized graph with corrected biases, and weight scales if `with_slope`.

    Args:
        parent: the float graph that `quantized` was made from; layers have the same names in both, Gemm's are plain
            (`plain_gemm`). A layer whose bias is computed is left as it is.
        photos: uint8 `(N, H, W, 3)`, or arrays by input name; some tens of rows suffice.
    """
    corrected = onnx.ModelProto()
    corrected.CopyFrom(quantized)
    held = {tensor.name for tensor in parent.graph.initializer}
    layers = {
        node.name: None
        for node in parent.graph.node
        if node.op_type in _LAYERS and held.issuperset(filter(None, node.input[2:]))
    }
    wanted, found = Walk(parent, photos), Walk(in_order(quantized, list(layers)), photos)
    walk = iter(wanted)
    editor = _Editor(corrected)
    for node in found:
        if node.name not in layers or node.op_type not in _LAYERS:
            continue
        twin = next(other for other in walk if other.name == node.name)
        output = found.get(node.output[0])
        scalable = with_slope and editor.weight_scale(node) is not None
        line = editor.fold(node, fit_line(output, wanted.get(twin.output[0]), scalable))
        found.put(node.output[0], _applied(line, output))
    return corrected


def in_order(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """A copy whose nodes of these names run in this order: a quantizer may have sorted branches anew.

    Args:
        names: in an order that the graph allows.
    """
    made_by = {name: node for node in model.graph.node for name in node.output}
    named = {node.name: node for node in model.graph.node}
    sorted_nodes: dict[str, onnx.NodeProto] = {}  # by first output
    waiting = [*model.graph.node[::-1], *(named[name] for name in names[::-1] if name in named)]
    while waiting:
        node = waiting[-1]
        before = [
            made_by[name] for name in node.input if name in made_by and made_by[name].output[0] not in sorted_nodes
        ]
        if before:
            waiting += before
            continue
        sorted_nodes.setdefault(node.output[0], waiting.pop())
    ordered = onnx.ModelProto()
    ordered.CopyFrom(model)
    ordered.graph.ClearField("node")
    ordered.graph.node.extend(sorted_nodes.values())
    return ordered


def fit_line(quantized: np.ndarray, wanted: np.ndarray, with_slope: bool) -> Line:
    """Least squares over photos and positions, channels in axis 1; without slope the difference of the means.

    A channel that is constant here may wake on other photos: it keeps its slope.
    """
    x, y = (np.moveaxis(value, 1, 0).reshape(value.shape[1], -1) for value in (quantized, wanted))
    mean_x, mean_y = x.mean(1, dtype=np.float64), y.mean(1, dtype=np.float64)
    line = Line(np.ones_like(mean_x), mean_x, mean_y)
    if not with_slope:
        return line
    spread = (x.astype(np.float64) ** 2).mean(1) - mean_x**2
    common = np.multiply(x, y, dtype=np.float64).mean(1) - mean_x * mean_y
    slope = np.divide(common, spread, out=line.slope.copy(), where=spread > _ROUNDING * mean_x**2)
    least, most = _SLOPES
    return replace(line, slope=slope).without_slope((slope < least) | (slope > most))


def _applied(line: Line, output: np.ndarray) -> np.ndarray:
    shape = (1, -1) + (1,) * (output.ndim - 2)
    return output * line.slope.reshape(shape).astype(np.float32) + line.shift.reshape(shape).astype(np.float32)


class _Editor:
    """Rewrites the constants of a QDQ graph in place."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph, self._names = model.graph, names_of(model.graph)
        self._held = {tensor.name: tensor for tensor in model.graph.initializer}
        self._made_by = {name: node for node in model.graph.node for name in node.output}
        self._node = {node.name: node for node in model.graph.node}
        self._readers = Counter(name for node in model.graph.node for name in node.input)

    def weight_scale(self, node: onnx.NodeProto) -> str | None:
        """Name of the layer's per-channel weight scale; None where it has no scale of its own for each channel."""
        source = self._made_by.get(node.input[1])
        if source is None or source.op_type != "DequantizeLinear" or source.input[1] not in self._held:
            return None
        own = self._readers[node.input[1]] == 1 and self._readers[source.input[1]] == 1
        return source.input[1] if own and self._array(source.input[1]).ndim == 1 else None

    def fold(self, node: onnx.NodeProto, line: Line) -> Line:
        """Put the line behind a layer into its weight scale and bias.

        Returns:
            The line as folded: without the slopes that an int32 bias has no room for.
        """
        bias = node.input[2] if len(node.input) > 2 else ""
        source = self._made_by.get(bias)
        if source is not None:
            line = line.without_slope(np.abs(self._int32_bias(source, line)[0]) > _INT32.max)
        name = self.weight_scale(node)
        if name is not None:
            self._set(name, (self._array(name) * line.slope).astype(np.float32))
        if source is not None:
            self._fold_int32(source, line)
        elif bias and self._readers[bias] == 1:
            self._set(bias, self._shifted(bias, line))
        else:
            self._add_bias(node, self._shifted(bias, line) if bias else line.shift.astype(np.float32))
        return line

    def _shifted(self, bias: str, line: Line) -> np.ndarray:
        return (self._array(bias) * line.slope + line.shift).astype(np.float32)

    def _fold_int32(self, source: onnx.NodeProto, line: Line) -> None:
        whole, scale = self._int32_bias(source, line)
        self._set(source.input[0], np.clip(whole, _INT32.min, _INT32.max).astype(np.int32))
        self._set(source.input[1], scale.astype(np.float32))

    def _int32_bias(self, source: onnx.NodeProto, line: Line) -> tuple[np.ndarray, np.ndarray]:
        """Whole numbers of any size, and their scale, which stays the product of the scales of input and weight."""
        before, scale = self._array(source.input[0]), self._array(source.input[1])
        after = np.broadcast_to(scale * line.slope, before.shape)
        value = before * scale * line.slope + line.shift
        return np.rint(value / after), after

    def _add_bias(self, node: onnx.NodeProto, value: np.ndarray) -> None:
        """A bias of the layer's own, where it had none or shared one."""
        name = free_name(self._names, f"{node.name}_bias")
        self._graph.initializer.append(numpy_helper.from_array(value, name))
        inputs = [*node.input[:2], name]
        del self._node[node.name].input[:]
        self._node[node.name].input.extend(inputs)

    def _array(self, name: str) -> np.ndarray:
        return numpy_helper.to_array(self._held[name])

    def _set(self, name: str, value: np.ndarray) -> None:
        self._held[name].CopyFrom(numpy_helper.from_array(value, name))
