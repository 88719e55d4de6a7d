"""What one lane holds on the GPU for a set of input shapes: buffers, and a context with what was recorded of it."""

from __future__ import annotations

import ctypes
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...errors import EngineFailed
from ._cuda import Gpu

SHAPES_KEPT = 8

# Of each input: its shape, and its address where it already lies on the device, else 0.
Key = tuple[tuple[tuple[int, ...], int], ...]
Copy = tuple[int, int, int]  # to, from, bytes


class Buffer:
    """Device memory for one tensor and pinned host memory for its copy; both grow."""

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self.size_bytes = self.device = self.host = 0

    def reserve(self, size_bytes: int) -> None:
        """Make room; addresses change. Nothing may be in flight."""
        self.free()
        self.device = self._gpu.allocate(size_bytes)
        self.host = self._gpu.allocate_pinned(size_bytes)
        self.size_bytes = size_bytes

    def view(self, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """The pinned memory as an array."""
        size = dtype.itemsize * int(np.prod(shape))
        memory = memoryview((ctypes.c_byte * size).from_address(self.host))
        return np.frombuffer(memory, dtype).reshape(shape)

    def free(self) -> None:
        """Give both back; a second call does nothing."""
        if self.device:
            self._gpu.runtime.cudaFree(self.device)
        if self.host:
            self._gpu.runtime.cudaFreeHost(self.host)
        self.size_bytes = self.device = self.host = 0


@dataclass
class Plan:
    """A context bound to one set of shapes and addresses, with what must be copied around it.

    `graph` is copies and kernels, `kernels` the kernels alone; None where they are not recorded.
    """

    context: Any
    bound: bool = False
    calls: int = 0
    inputs: dict[str, np.ndarray] = field(default_factory=dict)
    outputs: dict[str, np.ndarray] = field(default_factory=dict)
    before: list[Copy] = field(default_factory=list)
    after: list[Copy] = field(default_factory=list)
    graph: Any = None
    kernels: Any = None

    def fill(self, feeds: Mapping[str, np.ndarray]) -> None:
        """Copy host arrays of any strides into pinned memory."""
        for name, view in self.inputs.items():
            np.copyto(view, feeds[name])

    def drop(self, runtime: Any) -> None:
        """Forget what was recorded, and that it is bound."""
        for graph in (self.graph, self.kernels):
            if graph is not None:
                runtime.cudaGraphExecDestroy(graph)
        self.graph = self.kernels = None
        self.bound, self.calls = False, 0


class Plans:
    """The plans of a lane by key, at most `SHAPES_KEPT` for host arrays and as many for arrays on the device.

    Apart, so that arrays at ever new addresses do not drive out what is recorded of the usual calls.
    """

    def __init__(self) -> None:
        self._kept: tuple[OrderedDict[Key, Plan], ...] = (OrderedDict(), OrderedDict())

    def get(self, key: Key) -> Plan | None:
        """The plan of a key, now the last used."""
        kept = self._of(key)
        if key in kept:
            kept.move_to_end(key)
        return kept.get(key)

    def put(self, key: Key, plan: Plan) -> None:
        """Keep a new one."""
        self._of(key)[key] = plan

    def take_oldest(self, key: Key) -> Plan | None:
        """Where there is no room for `key`: the plan that was not used for longest; it is kept no more."""
        kept = self._of(key)
        return kept.popitem(last=False)[1] if len(kept) >= SHAPES_KEPT else None

    def all(self) -> list[Plan]:
        """Every plan."""
        return [plan for kept in self._kept for plan in kept.values()]

    def clear(self) -> None:
        """Let the contexts go."""
        for kept in self._kept:
            kept.clear()

    def _of(self, key: Key) -> OrderedDict[Key, Plan]:
        return self._kept[any(address for _, address in key)]


def output_shape(context: Any, name: str) -> tuple[int, ...]:
    """Of a context whose input shapes are set.

    Raises:
        EngineFailed: only running it tells.
    """
    shape = tuple(context.get_tensor_shape(name))
    if min(shape, default=0) < 0:
        raise EngineFailed(f"the size of output {name} depends on the data", "outputs whose size the inputs tell")
    return shape
