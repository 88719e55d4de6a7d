"""Run an ONNX graph node by node over many photos at once, so that each layer can be looked at and changed in turn.

Costs one pass without fusion. Tensors are dropped after their last reader; the widest layer of a mobile network at 224
pixels takes some 5 MB a photo. A graph with a fixed batch is given as many photos at once as it takes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from ..errors import BadInput
from ..export.graph.free_batch import fixed_batch
from ..export.graph.quantizers import bodies_of


class Walk:
    """One graph and the tensors that are alive at a point of it.

    Args:
        model: any ONNX model.
        photos: what its one input takes, `(N, …)`; or such arrays by input name. Of a fixed batch, some whole ones:
            rows beyond the last are left out.

    Attributes:
        fed: names of these inputs.

    Raises:
        BadInput: too few photos for a fixed batch, or nodes with bodies.
    """

    def __init__(self, model: onnx.ModelProto, photos: np.ndarray | Mapping[str, np.ndarray]) -> None:
        require_no_bodies(model)
        graph = model.graph
        self._opsets, self._nodes = model.opset_import, list(graph.node)
        self._constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        fed, rows = photos if isinstance(photos, Mapping) else {graph.input[0].name: photos}, fixed_batch(model)
        self._alive = {name: _whole_batches(values, rows or len(values)) for name, values in fed.items()}
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
                self._constants |= {name: found for name, (found,) in self._run(node).items()}
                continue
            self._alive |= self._run(node)
            yield node
            self._drop(node)

    def get(self, name: str) -> np.ndarray:
        """A tensor that is alive, or a constant."""
        return _joined(self._alive[name]) if name in self._alive else self._constants[name]

    def is_alive(self, name: str) -> bool:
        """True for a computed tensor that some node still reads."""
        return name in self._alive

    def put(self, name: str, value: np.ndarray) -> None:
        """Exchange a tensor that is alive."""
        self._alive[name] = self._batches(name, value)

    def _run(self, node: onnx.NodeProto) -> dict[str, list[np.ndarray]]:
        return self._computed(
            node, {name: self._alive.get(name) or [self._constants[name]] for name in node.input if name}
        )

    def compute(self, node: onnx.NodeProto, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What a node of this graph's opset makes of other inputs, by their names."""
        found = self._computed(node, {name: self._batches(name, value) for name, value in feeds.items()})
        return {name: _joined(batches) for name, batches in found.items()}

    def _computed(self, node: onnx.NodeProto, feeds: Mapping[str, Sequence[np.ndarray]]) -> dict[str, list[np.ndarray]]:
        """Batch by batch; what has but one is the same for all."""
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(first.dtype), first.shape)
            for name, (first, *_) in feeds.items()
        ]
        names = [name for name in node.output if name]
        outputs = [onnx.ValueInfoProto(name=name) for name in names]
        model = helper.make_model(
            helper.make_graph([node], "node", inputs, outputs), opset_imports=self._opsets, ir_version=10
        )
        session = ort.InferenceSession(model.SerializeToString(), self._settings, providers=["CPUExecutionProvider"])
        answers: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for place in range(max(map(len, feeds.values()), default=1)):
            given = {name: _ort_value(batches[place % len(batches)]) for name, batches in feeds.items()}
            for name, value in zip(names, session.run_with_ort_values(names, given), strict=True):
                answers[name].append(_array(value))
        return answers

    def _batches(self, name: str, value: np.ndarray) -> list[np.ndarray]:
        """A value for a tensor, in as many batches as that is computed in."""
        count = len(self._alive.get(name, ()))
        return np.split(value, count) if count > 1 else [value]

    def _drop(self, node: onnx.NodeProto) -> None:
        for name in node.input:
            self._readers[name] -= 1
            if self._readers[name] <= 0:
                self._alive.pop(name, None)


def require_no_bodies(model: onnx.ModelProto) -> None:
    """Raises BadInput for If, Loop and Scan, whose bodies read tensors from outside: no node runs alone."""
    found = [f"{node.name or node.output[0]} ({node.op_type})" for node in model.graph.node if any(bodies_of(node))]
    if found:
        raise BadInput(f"the graph branches or loops: {', '.join(found[:10])}", "a graph without If, Loop and Scan",
                       "export it with one branch alone: torch.jit.trace keeps one")  # fmt: skip


def _whole_batches(values: np.ndarray, rows: int) -> list[np.ndarray]:
    count = len(values) // rows
    if not count:
        raise BadInput(f"{len(values)} photos for a graph that takes {rows} at a time", f"{rows} at least",
                       "give more photos, or export it with a free batch")  # fmt: skip
    return np.split(values[: count * rows], count)


def _joined(batches: Sequence[np.ndarray]) -> np.ndarray:
    return batches[0] if len(batches) == 1 else np.concatenate(batches)


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
