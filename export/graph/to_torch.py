"""ONNX graph → torch module with gradients, in which a QDQ graph's rounding is simulated in float32."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn

from ...errors import BadInput
from .canonical import PROLOGUE
from .dialect import QUANTIZERS, axis_of
from .fake_quant import Grid, Rounded, grid_of
from .torch_ops import Operator, operator_of

# Weights and biases, by position: what training may change. Other constants (limits, axes, shapes) stay.
_LEARNED = {"Conv": (1, 2), "Gemm": (1, 2), "MatMul": (1,)}

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Step:
    run: Callable[..., torch.Tensor]
    inputs: tuple[str, ...]
    output: str
    done: tuple[str, ...] = ()  # tensors that nobody reads later

    @property
    def is_clip(self) -> bool:
        return isinstance(self.run, Operator) and self.run.kind == "Clip"


class TorchGraph(nn.Module):
    """A classifier's ONNX graph behind its prologue: normalized float `(N, 3, H, W)` → logits.

    Args:
        model: float, or QDQ as the quantizers write it.
        parent: the float model that a QDQ one was made from. Weights start at its values where these round to the
            quantized ones: a weight's place between two integers is lost otherwise.

    Raises:
        BadInput: the graph has no prologue of Tiffin's, or an operator that is not known here.
    """

    def __init__(self, model: onnx.ModelProto, parent: onnx.ModelProto | None = None) -> None:
        super().__init__()
        graph, arrays = model.graph, _arrays(model.graph)
        self._entry = next((node.output[0] for node in graph.node if node.name == PROLOGUE[-1]), "")
        if not self._entry:
            raise BadInput("this graph does not begin with tiffin's preprocessing", "what `tiffin export` wrote")
        self._output = graph.output[0].name
        nodes = [node for node in graph.node if node.name not in PROLOGUE]
        self._keys: dict[str, str] = {}  # a tensor's name → where the module keeps it
        self.learned, self.rounded = nn.ParameterDict(), nn.ModuleDict()
        self._keep_rounded(nodes, arrays, _learned_of(parent) if parent else {})
        self._keep_floats(nodes, arrays)
        self._steps = _with_ends(_read_steps(nodes, arrays), self._output)

    def _key(self, name: str) -> str:
        """Without what torch forbids in a name."""
        return self._keys.setdefault(name, f"{len(self._keys)}_{name.replace('.', '_').replace('/', '_')}")

    def _keep_rounded(self, nodes: list[onnx.NodeProto], arrays: Arrays, before: dict[tuple[str, int], Any]) -> None:
        readers = {name: (node.name, place) for node in nodes for place, name in enumerate(node.input)}
        for node in nodes:
            if node.op_type == "DequantizeLinear" and node.input[0] in arrays:
                integers, scale, *zero = (arrays[name] for name in node.input)
                axis = axis_of(node)
                source = before.get(readers.get(node.output[0], ("", 0)))
                zero_point = zero[0] if zero else np.zeros(scale.shape, integers.dtype)
                self.rounded[self._key(node.input[0])] = Rounded(integers, scale, zero_point, axis, source)

    def _keep_floats(self, nodes: list[onnx.NodeProto], arrays: Arrays) -> None:
        for node in (node for node in nodes if node.op_type not in QUANTIZERS):
            for place, name in enumerate(node.input):
                if name not in arrays or name in self._keys:
                    continue
                value = torch.tensor(arrays[name])
                if place in _LEARNED.get(node.op_type, ()):
                    self.learned[self._key(name)] = nn.Parameter(value)
                else:
                    self.register_buffer(self._key(name), value)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """In float32, autocast or not: bfloat16 would add an error as large as the one that is simulated."""
        with torch.autocast(images.device.type, enabled=False):
            tensors: dict[str, Any] = {"": None, self._entry: images.float()}
            tensors |= {name: self._constant(key) for name, key in self._keys.items()}
            for step in self._steps:
                tensors[step.output] = step.run(*(tensors[name] for name in step.inputs))
                for name in step.done:
                    del tensors[name]
            return tensors[self._output]

    def _constant(self, key: str) -> torch.Tensor:
        if key in self.rounded:
            return self.rounded[key]()
        return self.learned[key] if key in self.learned else getattr(self, key)

    def write(self, model: onnx.ModelProto) -> onnx.ModelProto:
        """A copy of the model that was read, its weights and biases as they are now."""
        made = onnx.ModelProto()
        made.CopyFrom(model)
        for tensor in made.graph.initializer:
            key = self._keys.get(tensor.name, "")
            if key in self.rounded:
                tensor.CopyFrom(numpy_helper.from_array(self.rounded[key].integers(), tensor.name))
            elif key in self.learned:
                value = self.learned[key].detach().contiguous().numpy()
                tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
        return made


def _arrays(graph: onnx.GraphProto) -> Arrays:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}


def _learned_of(model: onnx.ModelProto) -> dict[tuple[str, int], np.ndarray]:
    """Float weights and biases by the node that reads them, whose name a quantizer keeps, and position."""
    arrays = _arrays(model.graph)
    return {
        (node.name, place): arrays[name]
        for node in model.graph.node
        for place, name in enumerate(node.input)
        if name in arrays and place in _LEARNED.get(node.op_type, ())
    }


def _read_steps(nodes: list[onnx.NodeProto], arrays: Arrays) -> list[_Step]:
    steps: dict[str, _Step] = {}
    readers = Counter(name for node in nodes for name in node.input)
    for node in nodes:
        if node.op_type == "QuantizeLinear":
            source, grid = node.input[0], _activation_grid(node, arrays)
            clip = steps.get(source)
            if clip and clip.is_clip and readers[source] == 1 and grid.lies_within(*_clip_limits(clip, arrays)):
                source = clip.inputs[0]
                del steps[clip.output]
            steps[node.output[0]] = _Step(grid, (source,), node.output[0])
        elif node.op_type == "DequantizeLinear":  # what is rounded is float already
            steps[node.output[0]] = _Step(Operator("Identity", {}), (node.input[0],), node.output[0])
        else:
            steps[node.output[0]] = _Step(operator_of(node), tuple(node.input), node.output[0])
    return list(steps.values())


def _activation_grid(node: onnx.NodeProto, arrays: Arrays) -> Grid:
    scale, zero = (arrays[name] for name in node.input[1:3])
    axis = axis_of(node)
    kind = np.iinfo(zero.dtype)
    return grid_of(scale, zero, axis, 4, (int(kind.min), int(kind.max)))


def _clip_limits(clip: _Step, arrays: Arrays) -> tuple[float, float]:
    given = [arrays[name].item() if name else None for name in clip.inputs[1:]] + [None, None]
    low, high = given[:2]
    return (float("-inf") if low is None else low), (float("inf") if high is None else high)


def _with_ends(steps: Iterable[_Step], output: str) -> list[_Step]:
    """Each step with the tensors that it is the last to read."""
    seen, made = {output, ""}, []
    for step in reversed(list(steps)):
        done = tuple({name for name in step.inputs if name not in seen})
        seen |= set(step.inputs)
        made.append(_Step(step.run, step.inputs, step.output, done))
    return made[::-1]
