"""A graph's QuantizeLinear and DequantizeLinear nodes, read with their constants and their surroundings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from ...errors import BadInput
from .dialect import QUANTIZERS, axis_of, constants_of, quantized_type
from .layers import LAYERS

QUANTIZE, DEQUANTIZE = QUANTIZERS
INTEGERS = {TensorProto.UINT8: np.uint8, TensorProto.INT8: np.int8}
FACTORS = (0, 1)  # positions of what a layer multiplies
# They move values and compute none: TensorRT moves Q and DQ across them (its guide, «Q/DQ propagation»).
MOVES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "MaxPool")


@dataclass(frozen=True)
class Quantizer:
    """One QuantizeLinear or DequantizeLinear.

    Args:
        node: as in the graph.
        kind: ONNX type of the quantized side; None where no constant says it.
        scale, zero: its constants; None where they are computed, and `zero` where it is left out.
        constant: what it reads, where that is a constant.
    """

    node: onnx.NodeProto
    kind: int | None
    scale: np.ndarray | None
    zero: np.ndarray | None
    constant: onnx.TensorProto | None

    @property
    def quantizes(self) -> bool:
        """False for a DequantizeLinear."""
        return self.node.op_type == QUANTIZE

    @property
    def shifted(self) -> bool:
        """Whether any zero point is not 0."""
        return self.zero is not None and bool(np.any(np.asarray(self.zero, np.float32)))

    @property
    def sound(self) -> bool:
        """Whether its scales are known and fit what is known of its tensor: one, or one a channel of an axis."""
        if self.scale is None or not self.scale.size or self.blocked:
            return False
        if self.zero is not None and self.zero.size not in (1, self.scale.size):
            return False
        if self.constant is None or self.scale.size == 1:
            return True
        sizes, axis = self.constant.dims, axis_of(self.node)
        return -len(sizes) <= axis < len(sizes) and sizes[axis] == self.scale.size

    @property
    def blocked(self) -> bool:
        """Whether scales run over blocks of an axis."""
        return any(attribute.name == "block_size" and attribute.i for attribute in self.node.attribute)


class QdqGraph:
    """A graph's nodes, those of the bodies of its If and Loop included, with their constants and readers."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(nodes_of(model.graph))
        self.opset = opset_of(model)
        self.main = {node.output[0] for node in model.graph.node if node.output}
        self.outputs = {output.name for output in model.graph.output}
        self.held: dict[str, onnx.TensorProto] = {}
        for graph in graphs_of(model.graph):
            self.held |= constants_of(graph)
        self.made_by = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
        for node in self.nodes:
            for place, name in enumerate(node.input):
                self.readers.setdefault(name, []).append((node, place))
        found = (
            self._read(node)
            for node in self.nodes
            if node.op_type in QUANTIZERS and len(node.input) > 1 and node.output
        )
        self.quantizers = {quantizer.node.output[0]: quantizer for quantizer in found}

    def array(self, name: str) -> np.ndarray | None:
        """A constant's value; None for a computed tensor."""
        return numbers(self.held[name]) if name in self.held else None

    def source(self, name: str) -> str:
        """The tensor that `name` holds the values of, moved."""
        for _ in self.nodes:  # as many steps at most: a graph that nobody checked may turn in circles
            node = self.made_by.get(name)
            if node is None or node.op_type not in MOVES or not node.input:
                break
            name = node.input[0]
        return name

    def restored(self, name: str) -> Quantizer | None:
        """The DequantizeLinear whose values a tensor holds, moved or not."""
        found = self.quantizers.get(self.source(name))
        return found if found is not None and not found.quantizes else None

    def pair_of(self, restore: Quantizer) -> Quantizer | None:
        """The QuantizeLinear before a DequantizeLinear."""
        found = self.quantizers.get(restore.node.input[0])
        return found if found is not None and found.quantizes else None

    def restores_of(self, quantize: Quantizer) -> list[Quantizer] | None:
        """The DequantizeLinear nodes behind a QuantizeLinear; None where another operator reads it as well."""
        name = quantize.node.output[0]
        readers = [self.quantizers.get("".join(node.output[:1])) for node, _ in self.readers.get(name, [])]
        restores = [reader for reader in readers if reader is not None and not reader.quantizes]
        return None if name in self.outputs or len(restores) < len(readers) else restores

    def is_weight(self, name: str) -> bool:
        """Whether a layer multiplies with this tensor, moved or not."""
        seen, waiting = {name}, [name]
        while waiting:
            for node, place in self.readers.get(waiting.pop(), []):
                if node.op_type in LAYERS and place in FACTORS:
                    return True
                if node.op_type in MOVES and place == 0 and not seen.issuperset(node.output):
                    waiting += node.output
                    seen.update(node.output)
        return False

    def _read(self, node: onnx.NodeProto) -> Quantizer:
        constant = self.held.get(node.input[0])
        zero = self.held.get(node.input[2]) if len(node.input) > 2 and node.input[2] else None
        kind = quantized_type(node, zero, constant)
        if kind is None and node.op_type == DEQUANTIZE:  # without a zero point, as the node before it says
            before = self.made_by.get(node.input[0])
            if before is not None and before.op_type == QUANTIZE:
                given = self.held.get(before.input[2]) if len(before.input) > 2 else None
                kind = quantized_type(before, given, None)
        return Quantizer(node, kind, self.array(node.input[1]), None if zero is None else numbers(zero), constant)


def opset_of(model: onnx.ModelProto) -> int:
    """Of ONNX's own operators; 1 where the model does not say it."""
    return next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 1)


def graphs_of(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the bodies of its If, Loop and Scan nodes."""
    yield graph
    for node in graph.node:
        for body in bodies_of(node):
            yield from graphs_of(body)


def bodies_of(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """Of an If, Loop or Scan; none of any other node."""
    for attribute in node.attribute:
        if attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS):
            yield from (attribute.g, *attribute.graphs)


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Its nodes and those of the bodies within."""
    for each in graphs_of(graph):
        yield from each.node


def drop_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that nothing reads, bodies within included, and notes about them."""
    outputs, left = {output.name for output in graph.output}, -1
    while left != len(graph.node):  # what only a removed node read goes next
        left = len(graph.node)
        read = outputs | {name for node in nodes_of(graph) for name in node.input}
        _keep(graph.node, [node for node in graph.node if not read.isdisjoint(node.output)])
    read |= {each.name for each in graph.input} - {tensor.name for tensor in graph.initializer}
    for entries in (graph.initializer, graph.value_info, graph.input):
        _keep(entries, [entry for entry in entries if entry.name in read])


def _keep(entries: Any, kept: list[Any]) -> None:
    if len(kept) < len(entries):
        del entries[:]
        entries.extend(kept)


def free_name(taken: set[str], wish: str) -> str:
    """That, or with a number behind it where it is taken; takes it."""
    name, count = wish, 2
    while name in taken:
        name, count = f"{wish}_{count}", count + 1
    taken.add(name)
    return name


def names_of(graph: onnx.GraphProto) -> set[str]:
    """Of all its tensors and nodes."""
    tensors = {name for node in nodes_of(graph) for name in (node.name, *node.input, *node.output)}
    return tensors | {entry.name for each in graphs_of(graph) for entry in (*each.initializer, *each.input)}


def type_word(kind: int | None) -> str:
    """Such as `uint8`."""
    return TensorProto.DataType.Name(kind).lower() if kind in TensorProto.DataType.values() else "unknown"


def numbers(tensor: onnx.TensorProto) -> np.ndarray:
    """A constant's value.

    Raises:
        BadInput: its data does not fit its shape or type.
    """
    try:
        return np.asarray(numpy_helper.to_array(tensor))
    except Exception as error:  # numpy's ValueError, onnx's TypeError: data that does not fit its shape or type
        raise BadInput(f"constant {tensor.name}: {error}", "a whole ONNX file", "export it again") from error
