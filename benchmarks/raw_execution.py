"""What the runtime itself costs on a GPU: `Session.run` beside the same engine in a bare loop, in turns.

The bare loop is that of NVIDIA's `trtexec --useCudaGraph`: upload, kernels and download recorded as one CUDA graph,
launched and waited for, with nothing between; and as any caller must, it fills the pinned input and copies the output
out of memory that the next call overwrites. Blocks alternate, so that clocks and heat are shared.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns as clock
from types import TracebackType
from typing import Any

import numpy as np

from ..artifact import Artifact, RunConfig
from ..errors import EngineFailed
from ..runtime.backends import _cuda, _trt
from ..runtime.backends._cuda import Gpu, check
from ..runtime.backends._trt_engine import Engine, shared_engine
from ..runtime.backends._trt_plan import Buffer
from ..runtime.session import Session

WARM_UP = 20


def raw_comparison(artifact: Artifact, run: RunConfig, blocks: int = 20, block_s: float = 0.1) -> dict[str, list[int]]:
    """Median nanoseconds of each block: "session" and "raw", in turns.

    Raises:
        EngineMissing, EngineFailed, BadArtifact: as opening the engine does.
    """
    rng = np.random.default_rng(0)
    feeds = {
        spec.name: rng.integers(0, 255, [size or 1 for size in spec.shape]).astype(spec.dtype)
        for spec in artifact.manifest.inputs
    }
    found: dict[str, list[int]] = {"session": [], "raw": []}
    with Session(artifact, run) as session, _Raw(artifact, run, feeds) as raw:
        calls: dict[str, Callable[[], object]] = {"session": lambda: session.run(feeds), "raw": raw.run}
        for call in calls.values():
            for _ in range(WARM_UP):
                call()
        for _ in range(blocks):
            for name, call in calls.items():
                found[name].append(_block(call, block_s))
    return found


def _block(call: Callable[[], object], seconds: float) -> int:
    taken: list[int] = []
    end = clock() + int(seconds * 1e9)
    while not taken or clock() < end:
        start = clock()
        call()
        taken.append(clock() - start)
    return int(np.median(taken))


class _Raw:
    """The session's engine with one context and one graph, and nothing around them."""

    def __init__(self, artifact: Artifact, run: RunConfig, feeds: dict[str, np.ndarray]) -> None:
        library = _trt.library(run.backend)
        self._gpu = Gpu(_cuda.cuda_runtime(), _cuda.gpu_index(run.device))
        self._runtime = self._gpu.runtime
        self._buffers, self._scratch = list[Buffer](), 0
        self._inputs, self._outputs = list[tuple[np.ndarray, np.ndarray]](), list[np.ndarray]()
        self._current = self._gpu.current()
        self._current.__enter__()
        self._stream = 0
        self._context: Any = None
        self._graph: Any = None
        try:
            self._open(shared_engine(artifact, library, self._gpu, run.cache), artifact, feeds)
        except BaseException:
            self.close()
            raise

    def _open(self, engine: Engine, artifact: Artifact, feeds: dict[str, np.ndarray]) -> None:
        self._context = engine.context()
        if engine.scratch_bytes:
            self._scratch = self._gpu.allocate(engine.scratch_bytes)
            self._context.set_device_memory(self._scratch, engine.scratch_bytes)
        self._stream = int(check(self._runtime.cudaStreamCreateWithFlags(self._runtime.cudaStreamNonBlocking)))
        self._graph = self._recorded(artifact, feeds)

    def _recorded(self, artifact: Artifact, feeds: dict[str, np.ndarray]) -> Any:
        for name, array in feeds.items():
            self._context.set_input_shape(name, array.shape)
        before: list[tuple[int, int, int]] = []
        after: list[tuple[int, int, int]] = []
        for spec in (*artifact.manifest.inputs, *artifact.manifest.outputs):
            given = feeds.get(spec.name)
            shape = given.shape if given is not None else tuple(self._context.get_tensor_shape(spec.name))
            size = int(np.prod(shape)) * np.dtype(spec.dtype).itemsize
            buffer = Buffer(self._gpu)
            self._buffers.append(buffer)
            buffer.reserve(size)
            view = buffer.view(np.dtype(spec.dtype), shape)
            self._context.set_tensor_address(spec.name, buffer.device)
            if given is None:
                self._outputs.append(view)
            else:
                self._inputs.append((view, given))
            (after if given is None else before).append((buffer.device, buffer.host, size))

        def enqueue() -> None:
            for device, host, size in before:
                self._gpu.copy(device, host, size, self._stream)
            if not self._context.execute_async_v3(self._stream):
                raise EngineFailed("the engine failed in a bare loop")
            for device, host, size in after:
                self._gpu.copy(host, device, size, self._stream)

        enqueue()  # TensorRT may allocate in its first run, which a recording forbids
        check(self._runtime.cudaStreamSynchronize(self._stream))
        return self._gpu.record(self._stream, enqueue)

    def run(self) -> list[np.ndarray]:
        """Fill, launch, wait; copies of the outputs."""
        for view, given in self._inputs:
            np.copyto(view, given)
        check(self._runtime.cudaGraphLaunch(self._graph, self._stream))
        check(self._runtime.cudaStreamSynchronize(self._stream))
        return [view.copy() for view in self._outputs]

    def __enter__(self) -> _Raw:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free all that lies on the device; once."""
        if self._stream:
            self._runtime.cudaStreamSynchronize(self._stream)
        if self._graph is not None:
            self._runtime.cudaGraphExecDestroy(self._graph)
        self._context = None
        self._inputs, self._outputs = [], []
        for buffer in self._buffers:
            buffer.free()
        if self._scratch:
            self._runtime.cudaFree(self._scratch)
        if self._stream:
            self._runtime.cudaStreamDestroy(self._stream)
        self._current.__exit__(None, None, None)
