"""A roofline: each layer's time as the engine tells it, against the least that it can take on this CPU.

Williams, Waterman, Patterson, "Roofline", CACM 2009: a layer takes at least its operations at the CPU's peak, and at
least its bytes at memory's bandwidth. Most layers of a small network fit in a cache, so the bandwidth is measured at
several sizes (Ilic, Pratas, Sousa, "Cache-aware Roofline Model", 2014).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact import Artifact, RunConfig
from ..errors import BadInput
from .limits import Limits, Progress, ask_profiler, measure_limits
from .rounds import random_feeds
from .workers.client import WorkerClient
from .workers.place import NATIVE

BACKENDS = ("onnxruntime", "openvino")

_BYTES = {"float32": 4, "int32": 4, "float16": 2, "bfloat16": 2, "int64": 8}  # of other types one
# Layers that change neither value nor number of their elements.
_MOVES = ("Reorder", "ReorderInput", "ReorderOutput", "Transpose", "Reshape", "Convert", "Cast", "Concat", "Split")

Tensors = Sequence[tuple[str, Sequence[int]]]


@dataclass(frozen=True)
class LayerTime:
    """One layer as the engine executes it, with what it has fused into it.

    Args:
        kernel: the engine's word for its code, where it tells.
        arithmetic: "float" or "int8".
        ops: additions and multiplications. bytes: of all inputs, weights and outputs, each once.
        compute_s, memory_s: the least that each can take.
    """

    name: str
    op: str
    kernel: str
    arithmetic: str
    seconds: float
    ops: float
    bytes: int
    compute_s: float
    memory_s: float

    @property
    def bound_s(self) -> float:
        """The least that the layer can take."""
        return max(self.compute_s, self.memory_s)

    @property
    def bound_by(self) -> str:
        """What bounds it: "compute" or "memory"."""
        return "compute" if self.compute_s >= self.memory_s else "memory"

    @property
    def left_s(self) -> float:
        """What a perfect kernel would save."""
        return max(0.0, self.seconds - self.bound_s)


@dataclass(frozen=True)
class Roofline:
    """All layers that were executed, in the engine's order.

    Args:
        call_s: median of whole calls in another process, which does not profile.
        applied: RunConfig as it took effect, and the engine's version.
    """

    layers: tuple[LayerTime, ...]
    limits: Limits
    call_s: float
    applied: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "layers": [{**asdict(row), "bound_s": row.bound_s} for row in self.layers]}


def measure_roofline(
    artifact: Artifact, run: RunConfig, calls: int = 50, batch: int = 1, progress: Progress = lambda line: None
) -> Roofline:
    """Profile an artifact and measure the CPU's limits, each in a process of its own, one after the other.

    Raises:
        BadInput: not a CPU, or an engine whose profile is not read here.
        EngineMissing, EngineFailed, WorkerFailed: as the worker says.
    """
    if run.backend not in BACKENDS or run.device != "cpu":
        raise BadInput(f"no roofline of {run.backend} on {run.device}", f"{' or '.join(BACKENDS)} on cpu")
    feeds = random_feeds(artifact, batch, 0)
    with WorkerClient(artifact, run, NATIVE, feeds) as worker:
        progress("timing whole calls")
        worker.time(0.5, 3)
        call_s = float(np.median(worker.time(1.0, calls).ns)) / 1e9
        applied = worker.applied
    progress("profiling layers")
    told = _profile(artifact, run, feeds, calls)
    if run.backend == "onnxruntime":
        _in_words_of_the_graph(artifact, told)
    limits = measure_limits(run, {_arithmetic(row) for row in told}, progress)
    return Roofline(tuple(_layer(row, limits) for row in told), limits, call_s, applied)


def _profile(artifact: Artifact, run: RunConfig, feeds: Mapping[str, np.ndarray], calls: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as scratch:
        paths = {}
        for number, (name, array) in enumerate(feeds.items()):
            paths[name] = str(Path(scratch) / f"{number}.npy")
            np.save(paths[name], array)
        asked: dict[str, Any] = {"artifact": str(artifact.folder), "run": vars(run), "feeds": paths, "calls": calls}
        return ask_profiler("layers", **asked)["layers"]


def _arithmetic(told: Mapping[str, Any]) -> str:
    """What it multiplies: int8 where its input is of 8 bits, as far as it computes at all."""
    first = told["inputs"][0][0] if told["inputs"] else ""
    return "int8" if first in ("uint8", "int8") and _multiplies(told["op"]) else "float"


def _multiplies(op: str) -> bool:
    return any(word in op for word in ("Conv", "Gemm", "MatMul", "FullyConnected")) and op != "Convert"


def _in_words_of_the_graph(artifact: Artifact, told: Sequence[dict[str, Any]]) -> None:
    """ONNX Runtime names a layer after a tensor and leaves out weights that it has packed: the graph tells both."""
    import onnx

    graph = onnx.load(artifact.model_path).graph
    made = {name: node for node in graph.node for name in node.output}
    nodes = {node.name: node for node in graph.node}
    shapes = {tensor.name: (tensor.data_type, tuple(tensor.dims)) for tensor in graph.initializer}
    for row in told:
        node = nodes.get(row["name"], made.get(row["name"]))
        while node is not None and _multiplies(row["op"]) and not _multiplies(node.op_type):
            node = made.get(node.input[0])  # from the activation that was fused into it
        if node is None:
            continue
        row["name"] = node.name
        if _multiplies(node.op_type):
            source = made.get(node.input[1])
            _, shape = shapes.get(source.input[0] if source is not None else node.input[1], (0, ()))
            row["weights"] = shape
            if not any(_is_kernel(there, shape) for _, there in row["inputs"][1:]):
                row["inputs"].append(("int8" if _arithmetic(row) == "int8" else "float32", shape))


def _is_kernel(there: Sequence[int], shape: Sequence[int]) -> bool:
    """True for weights of that shape, their channels padded or not."""
    return len(there) == len(shape) and tuple(there[2:]) == tuple(shape[2:])


def _layer(told: Mapping[str, Any], limits: Limits) -> LayerTime:
    arithmetic, ops = _arithmetic(told), operations(told["op"], told["inputs"], told["outputs"], told.get("weights"))
    size = sum(_BYTES.get(kind, 1) * math.prod(shape) for kind, shape in (*told["inputs"], *told["outputs"]))
    return LayerTime(told["name"], told["op"], told["how"], arithmetic, told["ns"] / 1e9, ops, size,
                     ops / limits.ops_per_s[arithmetic], limits.memory_s(size))  # fmt: skip


def operations(op: str, inputs: Tensors, outputs: Tensors, weights: Sequence[int] | None = None) -> float:
    """Additions and multiplications of a layer, as its shapes tell; those of what is fused into it are left out.

    Args:
        weights: their shape, where it is not that of the second input.
    """
    if not inputs or not outputs or op in _MOVES:
        return 0.0
    given, found = inputs[0][1], outputs[0][1]
    if "Conv" in op:
        held = weights or inputs[1][1]
        channels = math.prod(held[:2]) if len(held) > len(found) else held[0]  # group, channel, … or channel, …
        # In float, ONNX Runtime pads the channels of its outputs to the width of AVX-512; in int8 they come last.
        there = channels if channels in (found[1], found[-1]) else found[1]
        return 2.0 * math.prod(found) / there * math.prod(held)
    if _multiplies(op):
        return 2.0 * math.prod(found) * given[-1]
    return float(max(math.prod(given), math.prod(found)))
