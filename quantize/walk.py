"""Run an ONNX graph node by node over many photos at once, so that each layer can be looked at and changed in turn.

Costs one pass without fusion. Tensors are dropped after their last reader; the widest layer of a mobile network at 224
pixels takes some 5 MB a photo.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper


class Walk:
    """One graph and the tensors that are alive at a point of it.

    Args:
        model: any ONNX model.
        photos: what its one input takes, `(N, …)`; or such arrays by input name.

    Attributes:
        fed: names of these inputs.
    """

    def __init__(self, model: onnx.ModelProto, photos: np.ndarray | Mapping[str, np.ndarray]) -> None:
        graph = model.graph
        self._opsets, self._nodes = model.opset_import, list(graph.node)
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        self._alive = dict(photos) if isinstance(photos, Mapping) else {graph.input[0].name: photos}
        self.fed = tuple(self._alive)
        self._readers = Counter(name for node in graph.node for name in node.input)
        self._readers.update(output.name for output in graph.output)
        self._settings = ort.SessionOptions()
        self._settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        self._settings.log_severity_level = 3

    def __iter__(self) -> Iterator[onnx.NodeProto]:
        """Each node, just after it ran; its output may be exchanged by `put` before the next one runs."""
        for node in self._nodes:
            if all(not name or name in self._constants for name in node.input):
                self._constants |= self._run(node)
                continue
            self._alive |= self._run(node)
            yield node
            self._drop(node)

    def get(self, name: str) -> np.ndarray:
        """A tensor that is alive, or a constant."""
        return self._alive[name] if name in self._alive else self._constants[name]

    def is_alive(self, name: str) -> bool:
        """True for a computed tensor that some node still reads."""
        return name in self._alive

    def put(self, name: str, value: np.ndarray) -> None:
        """Exchange a tensor that is alive."""
        self._alive[name] = value

    def _run(self, node: onnx.NodeProto) -> dict[str, np.ndarray]:
        return self.compute(node, {name: self.get(name) for name in node.input if name})

    def compute(self, node: onnx.NodeProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What a node of this graph's opset makes of other inputs, by their names."""
        given = {name: _ort_value(value) for name, value in feeds.items()}
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in feeds.items()
        ]
        names = [name for name in node.output if name]
        outputs = [onnx.ValueInfoProto(name=name) for name in names]
        model = helper.make_model(
            helper.make_graph([node], "node", inputs, outputs), opset_imports=self._opsets, ir_version=10
        )
        session = ort.InferenceSession(model.SerializeToString(), self._settings, providers=["CPUExecutionProvider"])
        found = session.run_with_ort_values(names, given)
        return {name: _array(value) for name, value in zip(names, found, strict=True)}

    def _drop(self, node: onnx.NodeProto) -> None:
        for name in node.input:
            self._readers[name] -= 1
            if self._readers[name] <= 0:
                self._alive.pop(name, None)


# ONNX Runtime hands 8-bit floats over as their bytes.
_FP8 = np.dtype(ml_dtypes.float8_e4m3fn)


def _ort_value(value: np.ndarray) -> ort.OrtValue:
    if value.dtype != _FP8:
        return ort.OrtValue.ortvalue_from_numpy(np.asarray(value, order="C"))  # `ascontiguousarray` makes 0-d 1-d
    held = np.ascontiguousarray(value).view(np.uint8)
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(held, TensorProto.FLOAT8E4M3FN)


def _array(value: ort.OrtValue) -> np.ndarray:
    found = value.numpy()
    return found.view(_FP8) if value.element_type() == TensorProto.FLOAT8E4M3FN else found
