"""Every Gemm → x·W + b: quantizers know no other, and drop a beta, or fail at a computed C or a transposed x."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .dialect import attributes_of
from .gemm import GemmLayer, GemmReader
from .quantizers import drop_unread, free_name, names_of


def plain_gemm(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float graph with alpha and beta in constants and one bias an output; the same object where it is so already.

    What no constant can hold becomes a node: a Transpose before, an Add behind. The alpha of a computed weight stays.
    Answers differ by float rounding only.
    """
    reader = GemmReader(model.graph)
    if all(node.op_type != "Gemm" or reader.is_plain(node) for node in model.graph.node):
        return model
    made = onnx.ModelProto()
    made.CopyFrom(model)
    writer, nodes = _Writer(made.graph, reader), []
    for node in made.graph.node:
        nodes += writer.plain(node) if node.op_type == "Gemm" and not reader.is_plain(node) else [node]
    made.graph.ClearField("node")
    made.graph.node.extend(nodes)
    drop_unread(made.graph)
    return made


class _Writer:
    """Adds constants to a graph; its nodes it only makes."""

    def __init__(self, graph: onnx.GraphProto, reader: GemmReader) -> None:
        self._graph, self._reader, self._names = graph, reader, names_of(graph)

    def plain(self, given: onnx.NodeProto) -> list[onnx.NodeProto]:
        """What stands in its place, in order; the Gemm keeps its name."""
        gemm = onnx.NodeProto()
        gemm.CopyFrom(given)
        before = self._transpose(gemm) if attributes_of(gemm).get("transA", 0) else []
        layer, after = self._reader.read(gemm), []
        if layer is None and len(gemm.input) > 2:
            after = self._add(gemm)
            layer = self._reader.read(gemm)
        if layer is not None:
            self._fold(gemm, layer)
        return [*before, gemm, *after]

    def _transpose(self, gemm: onnx.NodeProto) -> list[onnx.NodeProto]:
        name = self._name(f"{gemm.name}_transposed")
        node = helper.make_node("Transpose", gemm.input[:1], [name], name, perm=[1, 0])
        gemm.input[0] = name
        _drop(gemm, "transA")
        return [node]

    def _add(self, gemm: onnx.NodeProto) -> list[onnx.NodeProto]:
        """beta · C in nodes of its own."""
        addend, output, beta = gemm.input[2], gemm.output[0], attributes_of(gemm).get("beta", 1.0)
        gemm.output[0] = self._name(f"{gemm.name}_product")
        del gemm.input[2:]
        _drop(gemm, "beta")
        made = []
        if beta != 1:
            name = self._name(f"{gemm.name}_scaled")
            made.append(helper.make_node("Mul", [addend, self._constant(gemm, "beta", np.float32(beta))], [name], name))
            addend = name
        add = self._name(f"{gemm.name}_add")
        return [*made, helper.make_node("Add", [gemm.output[0], addend], [output], add)]

    def _fold(self, gemm: onnx.NodeProto, layer: GemmLayer) -> None:
        inputs = [gemm.input[0], self._constant(gemm, "weight", layer.values)]
        inputs += [] if layer.bias is None else [self._constant(gemm, "bias", layer.bias)]
        del gemm.input[:], gemm.attribute[:]
        gemm.input.extend(inputs)
        gemm.attribute.append(helper.make_attribute("transB", 1))

    def _constant(self, gemm: onnx.NodeProto, what: str, value: np.ndarray | np.float32) -> str:
        name = self._name(f"{gemm.name}_{what}")
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _name(self, wish: str) -> str:
        return free_name(self._names, wish)


def _drop(node: onnx.NodeProto, attribute: str) -> None:
    kept = [each for each in node.attribute if each.name != attribute]
    del node.attribute[:]
    node.attribute.extend(kept)
