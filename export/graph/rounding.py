"""Where a QDQ graph rounds, layer by layer, and graphs that round at some of those layers only.

The graphs are built upon the float parent: a layer's share of the quantization (its rounded inputs, its rounded
weights, its corrected bias) is copied onto the parent's node of that name. A Clip that a quantizer dropped, because
the rounding behind it clips as well, is thus still there where the rounding is not.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...errors import BadInput
from .dialect import QUANTIZERS, axis_of, constants_of, dequantize

# They move values and compute none: rounding to one scale commutes with them.
COMMUTING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity")
# Norm of the difference that rounding makes, relative to the weights': 0.01 at 8 bits, 0.2 at 4.
_ROUNDING = 0.3

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Step:
    """One rounding of a tensor: scale float32, zero point of the quantized type, the axis that several run along."""

    scale: np.ndarray
    zero_point: np.ndarray
    axis: int

    @property
    def key(self) -> tuple[bytes, bytes, int]:
        """Equal for equal steps."""
        return self.scale.tobytes(), self.zero_point.tobytes(), self.axis


@dataclass
class RoundedLayer:
    """What quantization does to one node of the float parent.

    Args:
        steps: rounding of its inputs, by position.
        constants: weights and biases as the quantized graph computes with them, float32, by position.
        output: rounding of its output, where that is the model's.
    """

    node: str
    op: str
    steps: dict[int, Step] = field(default_factory=dict)
    constants: dict[int, np.ndarray] = field(default_factory=dict)
    output: Step | None = None

    @property
    def rounds(self) -> bool:
        """False where at most a bias was corrected."""
        return bool(self.steps or self.output)


def rounded_layers(parent: onnx.ModelProto, quantized: onnx.ModelProto) -> list[RoundedLayer]:
    """The nodes that round, in the parent's order.

    Raises:
        BadInput: `quantized` is not the parent with QDQ in it.
    """
    own = {node.name for node in parent.graph.node}
    twins = {node.name: node for node in quantized.graph.node if node.op_type not in QUANTIZERS}
    if strangers := sorted(set(twins) - own):
        raise _not_its_parent(f"its node {strangers[0]} is not in the float graph")
    graph, weights = _Graph(quantized.graph), _arrays(parent.graph)
    found = {node.name: RoundedLayer(node.name, node.op_type) for node in parent.graph.node}
    for node in parent.graph.node:
        for position, name in enumerate(twins[node.name].input if node.name in twins else ()):
            before = weights.get(node.input[position]) if position < len(node.input) else None
            graph.read(found[node.name], position, name, before)
    made = {name: node.name for node in parent.graph.node for name in node.output}
    for output in quantized.graph.output:
        found[made[output.name]].output = graph.step(output.name)
    _move_down(parent.graph, found)
    if not any(layer.rounds for layer in found.values()):
        raise _not_its_parent("none of its nodes rounds")
    return [layer for layer in found.values() if layer.rounds]


def _not_its_parent(why: str) -> BadInput:
    return BadInput(
        f"no quantized form of that float graph: {why}",
        "an int8 artifact and the fp32 artifact that it was made from, their weights alike but for rounding",
        "quantize again without what rewrites the float graph first",
    )


class _Graph:
    """A QDQ graph, read backwards from its layers' inputs."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._made = {name: node for node in graph.node for name in node.output}
        self._held = _arrays(graph)

    def step(self, name: str) -> Step | None:
        """The rounding that gives tensor `name`, if one does."""
        restored = self._made.get(name)
        if restored is None or restored.op_type != "DequantizeLinear" or restored.input[0] in self._held:
            return None
        scale = np.asarray(self._held[restored.input[1]], np.float32)
        zero = self._held[restored.input[2]] if len(restored.input) > 2 else np.zeros(scale.shape, np.uint8)
        return Step(scale, zero, axis_of(restored))

    def read(self, layer: RoundedLayer, position: int, name: str, before: np.ndarray | None) -> None:
        """What happens to one input of a layer; `before` is its constant in the float graph."""
        step, value = self.step(name), self._constant(name)
        if step:
            layer.steps[position] = step
        elif value is not None and (before is None or not np.array_equal(value, before)):
            if before is not None and before.ndim > 1 and not _is_rounded(value, before):
                raise _not_its_parent(f"the weights of {layer.node} are others")
            layer.constants[position] = value

    def _constant(self, name: str) -> np.ndarray | None:
        if name in self._held:
            return self._held[name]
        node = self._made.get(name)
        if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in self._held:
            return None
        whole, scale, *zero = (self._held[given] for given in node.input)
        return dequantize(whole, scale, zero[0] if zero else None, axis_of(node)).astype(np.float32)


def _is_rounded(value: np.ndarray, before: np.ndarray) -> bool:
    if value.shape != before.shape:
        return False
    return bool(np.linalg.norm(value - before) <= _ROUNDING * np.linalg.norm(before))


def _arrays(graph: onnx.GraphProto) -> Arrays:
    return {name: numpy_helper.to_array(tensor) for name, tensor in constants_of(graph).items()}


def _move_down(graph: onnx.GraphProto, found: dict[str, RoundedLayer]) -> None:
    """A step before a node that only moves values belongs to the layers behind it."""
    for node in graph.node:  # in order, so that a step passes through several
        layer = found[node.name]
        step = layer.steps.get(0)
        if node.op_type not in COMMUTING or step is None or step.scale.size > 1:
            continue
        readers = [(other.name, at) for other in graph.node for at, name in enumerate(other.input)
                   if name == node.output[0]]  # fmt: skip
        for reader, at in readers:
            found[reader].steps.setdefault(at, step)
        if readers:
            del layer.steps[0]


def partly_quantized(
    parent: onnx.ModelProto, layers: Iterable[RoundedLayer], compared: RoundedLayer | None = None
) -> onnx.ModelProto:
    """The float parent, rounding at `layers`, which `rounded_layers` read.

    Args:
        compared: one of them, whose output is compared with what its node gives for float inputs: the sums of squares
            of the difference and of that become the outputs "noise" and "signal", float32 scalars.
    """
    model = onnx.ModelProto()
    model.CopyFrom(parent)
    model.graph.ClearField("node")
    model.graph.ClearField("value_info")
    named, build = {layer.node: layer for layer in layers}, _Build(model.graph)
    for node in parent.graph.node:
        if node.name in named:
            build.rounded(node, named[node.name])
        else:
            build.copied(node)
        if compared and node.name == compared.node:
            build.compared(node)
    return model


class _Build:
    """Appends nodes; equal roundings of one tensor are written once."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._done: dict[tuple[str, tuple[bytes, bytes, int]], str] = {}

    def copied(self, node: onnx.NodeProto) -> onnx.NodeProto:
        made = self._graph.node.add()
        made.CopyFrom(node)
        return made

    def rounded(self, node: onnx.NodeProto, layer: RoundedLayer) -> None:
        inputs = list(node.input)
        for position, value in sorted(layer.constants.items()):
            name = f"{layer.node}/{position}"
            self._graph.initializer.append(numpy_helper.from_array(value, name))
            inputs[position : position + 1] = [name]  # or behind the last: a bias that the float node lacks
        for position, step in layer.steps.items():
            inputs[position] = self._round(inputs[position], step)
        made, wanted = self.copied(node), node.output[0]
        made.input[:] = inputs
        if layer.output:
            made.output[0] = f"{wanted}/exact"
            self._round(made.output[0], layer.output, wanted)

    def _round(self, name: str, step: Step, wanted: str = "") -> str:
        """Name of the rounded tensor."""
        if (name, step.key) not in self._done:
            base = f"{name}/{len(self._done)}"
            self._done[name, step.key] = out = wanted or f"{base}/rounded"
            for what, array in (("scale", step.scale), ("zero", step.zero_point)):
                self._graph.initializer.append(numpy_helper.from_array(array, f"{base}/{what}"))
            by = [f"{base}/scale", f"{base}/zero"]
            for op, given, found in zip(QUANTIZERS, (name, f"{base}/whole"), (f"{base}/whole", out), strict=True):
                self._graph.node.append(helper.make_node(op, [given, *by], [found], axis=step.axis))
        return self._done[name, step.key]

    def compared(self, node: onnx.NodeProto) -> None:
        rounded, twin = node.output[0], self.copied(node)
        twin.name, twin.output[0] = f"{node.name}/float", f"{rounded}/float"
        self._graph.node.append(helper.make_node("Sub", [rounded, twin.output[0]], [f"{rounded}/difference"]))
        for name, tensor in (("noise", f"{rounded}/difference"), ("signal", twin.output[0])):
            self._graph.node.append(helper.make_node("ReduceSumSquare", [tensor], [name], keepdims=0))
            self._graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, []))
