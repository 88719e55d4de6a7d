"""An ONNX graph's points, and its parts: the model with more outputs, and what lies between some of its tensors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING

from ...export.graph.layers import LAYERS
from .point import Point, plain_name

if TYPE_CHECKING:
    import onnx

_QUANTIZE, _RESTORE = "QuantizeLinear", "DequantizeLinear"
_RESTORED = "/restored"  # behind the name of what is tapped behind its rounding


class Graph:
    """One model, read."""

    def __init__(self, model: onnx.ModelProto) -> None:
        from ...export.graph.dialect import constants_of

        self.model = model
        self.made = {name: node for node in model.graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in reads(node):
                self.readers[name].append(node)
        self.outputs = [output.name for output in model.graph.output]
        self.constant = {*constants_of(model.graph), ""}
        for node in model.graph.node:  # sorted by topology
            if all(name in self.constant for name in reads(node)):
                self.constant.update(node.output)
        self._shapes = _shapes(model)

    @cached_property
    def named(self) -> dict[str, Point]:
        """Its points by name."""
        return {point.name: point for point in self.points()}

    def points(self) -> tuple[Point, ...]:
        """Computed float tensors in the graph's order, each as its readers see it: rounded where all of them round."""
        found = []
        for node in self.model.graph.node:
            if node.op_type in (_QUANTIZE, _RESTORE):
                continue
            found += [self._point(node, name) for name in node.output if name and name not in self.constant]
        return tuple(point for point in found if self._is_float(point))

    def _is_float(self, point: Point) -> bool:
        kind = self._shapes.get(point.name, (None, 1))[1]
        return kind in (0, 1, 10, 11, 16)  # unknown, float, float16, double, bfloat16

    def _point(self, node: onnx.NodeProto, name: str) -> Point:
        tap, public = name, name
        quantizer = self.quantizer(name)
        if quantizer is not None:
            tap = name + _RESTORED
            last = [each for each in self.readers[quantizer.output[0]] if each.output[0] in self.outputs]
            public = tap = last[0].output[0] if last else tap
        shape = self._shapes.get(name, (None, 1))[0]
        is_output = public in self.outputs
        return Point(public if is_output else name, node.name or name, node.op_type, tap, shape,
                     self._weight(node), is_output)  # fmt: skip

    def quantizer(self, name: str) -> onnx.NodeProto | None:
        """What rounds a tensor, where nobody reads it but rounded."""
        readers = self.readers.get(name, [])
        rounded = bool(readers) and all(each.op_type == _QUANTIZE for each in readers)
        return readers[0] if rounded and name not in self.outputs else None

    def _weight(self, node: onnx.NodeProto) -> str:
        if node.op_type not in LAYERS or len(node.input) < 2:
            return ""
        name = node.input[1]
        while name in self.made and self.made[name].op_type in (_QUANTIZE, _RESTORE):
            name = self.made[name].input[0]
        return plain_name(name.removesuffix("_quantized"))

    def raw(self, point: Point) -> str:
        """The tensor that the point's node itself gives."""
        if point.tap != point.name:
            return point.name
        node = self.made.get(point.name)
        if node is None or node.op_type != _RESTORE:
            return point.name
        return self.made[node.input[0]].input[0]  # the graph's output, behind its rounding

    def tapped(self, points: Iterable[Point]) -> onnx.ModelProto:
        """A copy with these as outputs, beside its own; a rounded one restored by a node of its own, so that what is
        fused around it still may be.
        """
        import onnx

        made = onnx.ModelProto()
        made.CopyFrom(self.model)
        for point in points:
            if point.tap in self.outputs:
                continue
            if point.tap.endswith(_RESTORED):
                made.graph.node.append(self._restored(point))
            made.graph.output.append(onnx.ValueInfoProto(name=point.tap))
        return made

    def _restored(self, point: Point) -> onnx.NodeProto:
        import onnx

        quantizer = self.quantizer(point.name)
        assert quantizer is not None
        node = onnx.NodeProto()
        node.CopyFrom(quantizer)
        node.op_type, node.name = _RESTORE, point.tap
        node.input[0] = quantizer.output[0]
        node.output[:] = [point.tap]
        kept = [each for each in node.attribute if each.name in ("axis", "block_size")]
        del node.attribute[:]
        node.attribute.extend(kept)
        return node

    def between(self, stops: Iterable[str], wanted: str) -> tuple[onnx.ModelProto, list[str]]:
        """The nodes that make `wanted` of tensors in `stops` or of the graph's inputs, as a model; its inputs."""
        import onnx

        kept, inputs = self._needed(set(stops), wanted)
        made = onnx.ModelProto()
        made.CopyFrom(self.model)
        graph = made.graph
        for field in ("node", "input", "output", "initializer", "value_info"):
            graph.ClearField(field)
        graph.node.extend(node for node in self.model.graph.node if node.output[0] in kept)
        read = {name for node in graph.node for name in reads(node)}
        graph.initializer.extend(each for each in self.model.graph.initializer if each.name in read)
        graph.input.extend(self._info(name) for name in inputs)
        graph.output.append(self._info(wanted))
        return made, inputs

    def _needed(self, stops: set[str], wanted: str) -> tuple[set[str], list[str]]:
        kept: set[str] = set()
        inputs: list[str] = []
        waiting = [wanted]
        while waiting:
            name = waiting.pop()
            node = self.made.get(name)
            if node is None or (name in stops and name != wanted):
                if name and name not in self.constant and name not in inputs:
                    inputs.append(name)
                continue
            if node.output[0] not in kept:
                kept.add(node.output[0])
                waiting += reads(node)
        return kept, inputs

    def _info(self, name: str) -> onnx.ValueInfoProto:
        from onnx import helper

        own = next((each for each in (*self.model.graph.input, *self.model.graph.output) if each.name == name), None)
        if own is not None:
            return own
        shape, kind = self._shapes.get(name, (None, 1))
        return helper.make_tensor_value_info(name, kind or 1, None if shape is None else [None, *shape])


def reads(node: onnx.NodeProto) -> list[str]:
    """What a node takes: its inputs, and what its branches or its body read from outside."""
    names = list(node.input)
    for attribute in node.attribute:
        for body in (attribute.g, *attribute.graphs) if attribute.type in (5, 10) else ():
            own = {each.name for each in (*body.input, *body.initializer)}
            own |= {name for inner in body.node for name in inner.output}
            names += [name for inner in body.node for name in reads(inner) if name not in own]
    return names


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[tuple[int | None, ...] | None, int]]:
    """Shape without the batch, and ONNX element type, of each tensor that inference knows."""
    from onnx import shape_inference

    known = shape_inference.infer_shapes(model).graph
    found = {}
    for each in (*known.value_info, *known.output, *known.input):
        kind = each.type.tensor_type
        sizes = [size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim]
        shape = tuple(sizes[1:]) if kind.HasField("shape") and sizes else None
        found[each.name] = (shape, kind.elem_type)
    return found
