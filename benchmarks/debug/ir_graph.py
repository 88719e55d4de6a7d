"""An OpenVINO IR's points, and the IR with more results."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .point import Point

_SKIPPED = ("Constant", "Parameter", "Result", "ShapeOf")
_LAYERS = ("Convolution", "GroupConvolution", "MatMul", "ConvolutionBackpropData", "GroupConvolutionBackpropData")
_CONSTANT = ("Constant", "Convert", "Reshape", "Multiply")
_RESTORING = ("Convert", "Subtract")  # between FakeQuantize and the multiplication by its step


class IrGraph:
    """One IR, read; names of tensors are those of the ONNX model that it was converted from."""

    def __init__(self, path: Path) -> None:
        import openvino as ov

        self._path, self._core = path, ov.Core()

    def points(self) -> tuple[Point, ...]:
        """Named float tensors in the graph's order, each as its readers see it."""
        model = self._core.read_model(self._path)
        public = {name for output in model.outputs for name in output.get_names()}
        found = []
        for node in model.get_ordered_ops():
            if node.get_type_name() in _SKIPPED or not _is_float(node):
                continue
            found += [_point(node, name, public) for name in sorted(node.output(0).get_names())]
        return tuple(found)

    def tapped(self, points: Iterable[Point], out: Path) -> None:
        """Write the IR with these as results beside its own."""
        import openvino as ov

        model = self._core.read_model(self._path)
        public = {name for output in model.outputs for name in output.get_names()}
        wanted = {point.name: point.tap for point in points if point.tap not in public}
        for node in model.get_ordered_ops():
            names = node.output(0).get_names() if node.get_output_size() else set()
            for name in sorted(names & set(wanted)):
                port = _settled(node.output(0))
                port.get_tensor().add_names({wanted[name]})
                model.add_outputs([port])
        ov.save_model(model, out, compress_to_fp16=False)


def _point(node: Any, name: str, public: set[str]) -> Point:
    port, shape = node.output(0), node.output(0).get_partial_shape()
    settled = _settled(port)
    sizes = None
    if shape.rank.is_static:
        sizes = tuple(size.get_length() if size.is_static else None for size in shape)[1:]
    ends = settled.get_names() & public  # the graph's output, behind its rounding
    if ends:
        name = next(iter(ends))
    tap = name if name in public else f"{name}/tap"
    return Point(name, node.get_friendly_name(), _type(node), tap, sizes, is_output=name in public)


def _type(node: Any) -> str:
    """Of an addition that is a layer's bias, the layer's."""
    word = str(node.get_type_name())
    sources = [source.get_node().get_type_name() for source in node.input_values()]
    return sources[0] if word == "Add" and sources[0] in _LAYERS and sources[1] in _CONSTANT else word


def _is_float(node: Any) -> bool:
    return node.get_output_size() > 0 and node.output(0).get_element_type().is_real()


def _settled(port: Any) -> Any:
    """Where a tensor that is read but rounded is restored from int8; else the tensor itself."""
    readers = [target.get_node() for target in port.get_target_inputs()]
    if len(readers) != 1 or readers[0].get_type_name() != "FakeQuantize":
        return port
    found = readers[0].output(0)
    while True:
        following = [target.get_node() for target in found.get_target_inputs()]
        if len(following) != 1 or following[0].get_type_name() not in (*_RESTORING, "Multiply"):
            return found
        restored = following[0]
        if restored.get_type_name() == "Multiply":
            return restored.output(0) if port is not found and _is_int(found, restored) else found
        found = restored.output(0)


def _is_int(found: Any, multiply: Any) -> bool:
    """A multiplication by a constant behind a conversion: the step of int8."""
    return any(source.get_node().get_type_name() in _CONSTANT
               for source in multiply.input_values() if source.get_node() != found.get_node())  # fmt: skip
