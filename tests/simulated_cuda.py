"""A simulated CUDA runtime and TensorRT, on which the TensorRT backend's own code runs without a GPU.

Device memory is host memory in a table of addresses: use after free, copies out of bounds and double frees are found.
Streams do their work when they are waited for and no earlier, so a missing wait shows as a wrong answer. An "engine" is
an ONNX model run by ONNX Runtime on the bytes at the given addresses. Nothing here says how fast a GPU is.

Every name is one of the real bindings: `cuda_functions` and `trt_members` list them for the test that looks them up.
"""

from __future__ import annotations

import ctypes
import functools
import inspect
import json
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tiffin.artifact import Artifact
from tiffin.artifact.engine_stamp import EngineStamp
from tiffin.artifact.store import save
from tiffin.runtime.backends import _cuda, _trt

CAPABILITY, GPU_NAME = "8.9", "Simulated GPU"


class Misuse(AssertionError):
    """What would be undefined behaviour, or a crash, on a real device."""


class Status(IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(IntEnum):  # noqa: N801  the real name
    cudaMemcpyDefault = 4


class cudaStreamCaptureMode(IntEnum):  # noqa: N801
    cudaStreamCaptureModeThreadLocal = 1


@dataclass
class Block:
    """Some memory that CUDA gave out."""

    address: int
    size: int
    kind: str  # "device" or "host"
    gpu: int
    store: Any


@dataclass
class Stream:
    gpu: int
    pending: list[Callable[[], None]] = field(default_factory=list)
    recording: list[Callable[[], None]] | None = None
    broken: bool = False
    recorder: int = 0  # the thread that records


def _call(function: Callable[..., Any]) -> Callable[..., Any]:
    """Counts calls, one at a time, and fails the one that a test names."""

    @functools.wraps(function)
    def called(self: SimulatedCuda, *arguments: Any) -> Any:
        with self._lock:
            name = function.__name__
            self.calls[name] += 1
            status = self.failures.get((name, self.calls[name]))
            if status is not None:
                if name == "cudaStreamEndCapture":  # it ends whatever it answers
                    self.streams[arguments[0]].recording = None
                return status, None
            return function(self, *arguments)

    return called


class SimulatedCuda:
    """Stands for the module `cuda.bindings.runtime`.

    Args:
        gpus: how many there are.
        capacity: bytes of device memory of each.
    """

    cudaMemcpyKind, cudaStreamCaptureMode = cudaMemcpyKind, cudaStreamCaptureMode
    cudaStreamNonBlocking = 1
    cudaEventDefault = 0

    def __init__(self, gpus: int = 1, capacity: int = 1 << 30) -> None:
        self._gpus, self._capacity = gpus, capacity
        self._lock = threading.RLock()
        self._thread = threading.local()
        self._graveyard: list[Any] = []  # freed memory is never given out again, so that its use is found
        self._next = 0x10000
        self.blocks: dict[int, Block] = {}
        self.streams: dict[int, Stream] = {}
        self.events: dict[int, tuple[Stream | None, list[int]]] = {}
        self.graphs: dict[int, list[Callable[[], None]]] = {}
        self.executables: dict[int, list[Callable[[], None]]] = {}
        self.calls: Counter[str] = Counter()
        self.failures: dict[tuple[str, int], Status] = {}
        self.driver_version, self.runtime_version, self.driver_too_old = 12060, 13000, False
        self.contexts: set[int] = set()  # GPUs on which this process has a primary context

    # What a test asks

    def left(self) -> list[str]:
        """All that was not given back."""
        kinds = {"block": self.blocks, "stream": self.streams, "event": self.events, "graph": self.graphs,
                 "executable": self.executables}  # fmt: skip
        return [f"{kind} {handle:#x}" for kind, table in kinds.items() for handle in table]

    def used_bytes(self) -> int:
        return sum(block.size for block in self.blocks.values() if block.kind == "device")

    def array_at(self, address: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
        """Memory as an array; whole or not at all."""
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        if not any(b.address <= address and address + size <= b.address + b.size for b in self.blocks.values()):
            raise Misuse(f"{size} bytes at {address:#x} are not allocated")
        return np.frombuffer((ctypes.c_byte * size).from_address(address), dtype).reshape(shape)

    def device_array(self, array: np.ndarray, gpu: int = 0, offset: int = 0) -> int:
        """Address of a copy on the device."""
        address = self._give(array.nbytes + offset, "device", gpu) + offset
        self.array_at(address, array.dtype, array.shape)[...] = array
        return address

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        self._used(stream)
        found = self.streams[stream]
        (found.pending if found.recording is None else found.recording).append(work)

    def is_recording(self, stream: int) -> bool:
        return self._stream(stream).recording is not None

    def allocate_while_running(self, stream: int) -> bool:
        """What TensorRT may do at a first run; while recording it breaks the recording."""
        found = self._stream(stream)
        found.broken = found.broken or found.recording is not None
        return found.recording is None

    # Devices

    @_call
    def cudaGetDeviceCount(self) -> tuple[Status, int | None]:
        return (Status.cudaErrorInsufficientDriver, None) if self.driver_too_old else (Status.cudaSuccess, self._gpus)

    @_call
    def cudaDriverGetVersion(self) -> tuple[Status, int]:
        return Status.cudaSuccess, self.driver_version

    @_call
    def cudaRuntimeGetVersion(self) -> tuple[Status, int]:
        return Status.cudaSuccess, self.runtime_version

    @_call
    def cudaGetDevice(self) -> tuple[Status, int]:
        return Status.cudaSuccess, getattr(self._thread, "gpu", 0)

    @_call
    def cudaSetDevice(self, device: int) -> tuple[Status]:
        self._thread.gpu = device
        self.contexts.add(device)  # since CUDA 12
        return (Status.cudaSuccess,)

    @_call
    def cudaGetLastError(self) -> tuple[Status]:
        return (Status.cudaSuccess,)

    @_call
    def cudaMemGetInfo(self) -> tuple[Status, int, int]:
        return Status.cudaSuccess, self._capacity - self.used_bytes(), self._capacity

    # Memory

    @_call
    def cudaMalloc(self, size: int) -> tuple[Status, int | None]:
        for stream in self.streams.values():
            here = stream.recording is not None and stream.recorder == threading.get_ident()
            stream.broken = stream.broken or here
        if self.used_bytes() + size > self._capacity:
            return Status.cudaErrorMemoryAllocation, None
        return Status.cudaSuccess, self._give(size, "device", self._current())

    @_call
    def cudaMallocHost(self, size: int) -> tuple[Status, int]:
        return Status.cudaSuccess, self._give(size, "host", self._current())

    @_call
    def cudaFree(self, devPtr: int) -> tuple[Status]:  # noqa: N803
        return self._take(devPtr, "device")

    @_call
    def cudaFreeHost(self, ptr: int) -> tuple[Status]:
        return self._take(ptr, "host")

    @_call
    def cudaPointerGetAttributes(self, ptr: int) -> tuple[Status, Any]:
        for block in self.blocks.values():
            if block.address <= ptr < block.address + block.size:
                told = SimpleNamespace(type=2 if block.kind == "device" else 1, device=block.gpu)
                return Status.cudaSuccess, told
        return Status.cudaSuccess, SimpleNamespace(type=0, device=-2)

    @_call
    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: cudaMemcpyKind, stream: int) -> tuple[Status]:
        assert kind is cudaMemcpyKind.cudaMemcpyDefault

        def copy() -> None:
            byte = np.dtype(np.uint8)
            self.array_at(dst, byte, (count,))[...] = self.array_at(src, byte, (count,))

        self.enqueue(stream, copy)
        return (Status.cudaSuccess,)

    def _give(self, size: int, kind: str, gpu: int) -> int:
        store = np.full(size + 256, 0xCD, np.uint8)
        address = -(-store.ctypes.data // 256) * 256
        self.blocks[address] = Block(address, size, kind, gpu, store)
        return address

    def _take(self, address: int, kind: str) -> tuple[Status]:
        block = self.blocks.pop(address, None)
        if block is None or block.kind != kind:
            raise Misuse(f"{address:#x} is freed as {kind} memory, and is none")
        if any(stream.pending for stream in self.streams.values() if stream.gpu == block.gpu):
            self.blocks[address] = block
            raise Misuse(f"{address:#x} is freed while work is in flight")
        block.store[...] = 0xDD
        self._graveyard.append(block.store)
        return (Status.cudaSuccess,)

    # Streams and events

    @_call
    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Status, int]:
        assert flags == self.cudaStreamNonBlocking
        handle = self._handle()
        self.streams[handle] = Stream(self._current())
        return Status.cudaSuccess, handle

    @_call
    def cudaStreamDestroy(self, stream: int) -> tuple[Status]:
        if self._stream(stream).pending:
            raise Misuse(f"stream {stream:#x} is destroyed while work is in flight")
        del self.streams[stream]
        return (Status.cudaSuccess,)

    @_call
    def cudaStreamSynchronize(self, stream: int) -> tuple[Status]:
        found = self._stream(stream)
        if found.recording is not None:
            found.broken = True
            return (Status.cudaErrorStreamCaptureUnsupported,)
        self._flush(found)
        return (Status.cudaSuccess,)

    @_call
    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[Status]:
        producer = self.events[event][0]
        self.enqueue(stream, lambda: self._flush(producer) if producer else None)
        return (Status.cudaSuccess,)

    @_call
    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Status, int]:
        handle = self._handle()
        self.events[handle] = None, []
        return Status.cudaSuccess, handle

    @_call
    def cudaEventRecord(self, event: int, stream: int) -> tuple[Status]:
        if event not in self.events:
            raise Misuse(f"event {event:#x} does not exist")
        found = self._stream(stream)
        times: list[int] = []
        self.events[event] = found, times
        found.pending.append(lambda: times.append(time.perf_counter_ns()))
        return (Status.cudaSuccess,)

    @_call
    def cudaEventElapsedTime(self, start: int, end: int) -> tuple[Status, float]:
        (began,), (ended,) = (self.events[event][1] for event in (start, end))
        return Status.cudaSuccess, (ended - began) / 1e6

    @_call
    def cudaEventDestroy(self, event: int) -> tuple[Status]:
        del self.events[event]
        return (Status.cudaSuccess,)

    # Graphs

    @_call
    def cudaStreamBeginCapture(self, stream: int, mode: cudaStreamCaptureMode) -> tuple[Status]:
        assert mode is cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._used(stream)
        found = self._stream(stream)
        found.recording, found.broken, found.recorder = [], False, threading.get_ident()
        return (Status.cudaSuccess,)

    @_call
    def cudaStreamEndCapture(self, stream: int) -> tuple[Status, int | None]:
        found = self._stream(stream)
        work, found.recording = found.recording, None
        if found.broken or work is None:
            return Status.cudaErrorStreamCaptureInvalidated, None
        handle = self._handle()
        self.graphs[handle] = work
        return Status.cudaSuccess, handle

    @_call
    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Status, int]:
        handle = self._handle()
        self.executables[handle] = list(self.graphs[graph])
        return Status.cudaSuccess, handle

    @_call
    def cudaGraphDestroy(self, graph: int) -> tuple[Status]:
        del self.graphs[graph]
        return (Status.cudaSuccess,)

    @_call
    def cudaGraphLaunch(self, graphExec: int, stream: int) -> tuple[Status]:  # noqa: N803
        if graphExec not in self.executables:
            raise Misuse(f"graph {graphExec:#x} does not exist")
        for work in self.executables[graphExec]:
            self.enqueue(stream, work)
        return (Status.cudaSuccess,)

    @_call
    def cudaGraphExecDestroy(self, graphExec: int) -> tuple[Status]:  # noqa: N803
        if self.executables.pop(graphExec, None) is None:
            raise Misuse(f"graph {graphExec:#x} is destroyed twice")
        return (Status.cudaSuccess,)

    def _handle(self) -> int:
        self._next += 0x100
        return self._next

    def _current(self) -> int:
        return getattr(self._thread, "gpu", 0)

    def _stream(self, stream: int) -> Stream:
        if stream not in self.streams:
            raise Misuse(f"stream {stream:#x} does not exist")
        return self.streams[stream]

    def _used(self, stream: int) -> None:
        """Work is put on a stream only by a thread whose device is the stream's, and was set."""
        if getattr(self._thread, "gpu", None) != self._stream(stream).gpu:
            raise Misuse(f"this thread's device is not that of stream {stream:#x}")

    def _flush(self, stream: Stream) -> None:
        while stream.pending:
            stream.pending.pop(0)()


def cuda_functions() -> dict[str, int]:
    """Simulated functions of `cuda.bindings.runtime` → how many arguments each takes."""
    functions = inspect.getmembers(SimulatedCuda, inspect.isfunction)
    return {name: len(inspect.signature(function).parameters) - 1
            for name, function in functions if name.startswith("cuda")}  # fmt: skip


# TensorRT

_MAGIC = b"SIMULATED ENGINE\n"


class Severity(IntEnum):
    INTERNAL_ERROR = 0
    ERROR = 1


class ExecutionContextAllocationStrategy(IntEnum):
    USER_MANAGED = 2


class DynamicShapesKernelSpecializationStrategy(IntEnum):
    EAGER = 1


class EngineValidity(IntEnum):
    VALID = 0
    SUBOPTIMAL = 1
    INVALID = 2


class EngineInvalidityDiagnostics(IntEnum):
    VERSION_MISMATCH = 1
    UNSUPPORTED_CC = 2
    OLD_CUDA_DRIVER = 4
    OLD_CUDA_RUNTIME = 8
    INSUFFICIENT_GPU_MEMORY = 16
    MALFORMED_ENGINE = 32
    CUDA_ERROR = 64


class ILogger:
    def log(self, severity: Severity, message: str) -> None:
        raise NotImplementedError


class IPluginRegistry:
    def get_creator(self, type: str, version: str, plugin_namespace: str = "") -> object:
        return object() if type == "Known" else None


class IRuntimeCache:
    def __init__(self, world: SimulatedTensorRt) -> None:
        self._world, self._kernels = world, b""

    def serialize(self) -> bytes:
        return self._kernels

    def deserialize(self, blob: bytes) -> bool:
        if not blob.startswith(b"kernels"):
            return False
        self._kernels = bytes(blob)
        return True

    def _compile(self) -> None:
        if not self._kernels:
            self._world.compiled += 1
            self._kernels = b"kernels of this GPU"


class IRuntimeConfig:
    dynamic_shapes_kernel_specialization_strategy: Any = None

    def __init__(self, world: SimulatedTensorRt) -> None:
        self._world = world
        self._cache: Any = None
        self._strategy: Any = None

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self._strategy = strategy

    def create_runtime_cache(self) -> IRuntimeCache:
        return IRuntimeCache(self._world)

    def set_runtime_cache(self, cache: IRuntimeCache) -> bool:
        self._cache = weakref.ref(cache)  # as the real one: it does not keep it alive
        return True


class Runtime:
    engine_host_code_allowed = False
    DLA_core = -1
    num_DLA_cores = 2

    def __init__(self, world: SimulatedTensorRt, logger: ILogger) -> None:
        self._world, self._logger = world, logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        self._world.deserialized += 1
        if not serialized_engine.startswith(_MAGIC) or self._world.refuses_engines:
            self._logger.log(Severity.ERROR, "[runtime.cpp] magicTag does not match")
            return None
        self._world.runtimes.append((self.engine_host_code_allowed, self.DLA_core))
        try:
            return self._world.ICudaEngine(self._world, serialized_engine[len(_MAGIC) :], self._logger)
        except MemoryError:
            self._logger.log(Severity.ERROR, "[virtualMemoryBuffer.cpp] OutOfMemory (no further information)")
            return None

    def get_engine_validity(self, buffer: bytes) -> tuple[EngineValidity, int]:
        return self._world.validity


class ICudaEngine:
    """Weights on the device: as many bytes as the model."""

    device_memory_size_v2 = 4096

    def __init__(self, world: SimulatedTensorRt, blob: bytes, logger: ILogger) -> None:
        import onnxruntime as ort

        header, _, model = blob.partition(b"\n")
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._world, self._logger = world, logger
        told = json.loads(header)
        self._profiles, self._stripped = told["profiles"], told["stripped"]
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._weights = world.hold(self, len(model))

    def create_runtime_config(self) -> IRuntimeConfig:
        return self._world.IRuntimeConfig(self._world)

    def create_execution_context(self, strategy: Any) -> IExecutionContext | None:
        if self._world.contexts_left == 0:
            self._logger.log(Severity.ERROR, "[executionContext.cpp] an allocation failed: out of memory")
            return None
        self._world.contexts_left -= 1
        if isinstance(strategy, IRuntimeConfig):
            cache = strategy._cache()
            if cache is None:
                raise Misuse("the runtime cache is gone")
            assert strategy.dynamic_shapes_kernel_specialization_strategy is not None
            cache._compile()
            strategy = strategy._strategy
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED
        return self._world.IExecutionContext(self)


class IExecutionContext:
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine, self._world = engine, engine._world
        self._profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._scratch: tuple[int, int] | None = None
        self._version = 0  # raised by every change: a graph of an older one must not run
        self._ready = False

    @property
    def active_optimization_profile(self) -> int:
        return self._profile

    def set_device_memory(self, memory: int, size: int) -> None:
        self._changed()
        self._scratch = memory, size

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if self._world.refuses_profiles or not 0 <= profile_index < len(self._engine._profiles):
            self._engine._logger.log(Severity.ERROR, "[executionContext.cpp] Profile is in use")
            raise RuntimeError("Error in set optimization profile async.")
        self._changed()
        self._profile = profile_index
        self._world.profiles_set.append(profile_index)
        self._world.cuda.enqueue(stream_handle, lambda: None)
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine._profiles[self._profile]
        if self._shapes.get(name) != shape:
            self._changed()
        self._shapes[name] = shape
        return least <= shape[0] <= most

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        batch = next(iter(self._shapes.values()))[0]
        sizes = next(output.shape for output in self._engine._session.get_outputs() if output.name == name)
        return self._world.output_shape or tuple(size if isinstance(size, int) else batch for size in sizes)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if memory % 256:
            raise Misuse(f"{name} at {memory:#x} is not aligned")
        if self._addresses.get(name) != memory:
            self._changed()
        self._addresses[name] = memory
        return True

    def is_stream_capturable(self, stream: int) -> bool:
        return self._world.capturable

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._world.fails_to_run:
            self._engine._logger.log(Severity.ERROR, "[genericReformat.cu] Cask (Cask convolution execution)")
            return False
        cuda, engine, version = self._world.cuda, self._engine, self._version
        if not self._ready and not cuda.allocate_while_running(stream_handle):
            return True  # the recording is broken; only its end tells
        self._ready = True
        shapes, addresses, scratch = dict(self._shapes), dict(self._addresses), self._scratch
        outputs = {output.name: self.get_tensor_shape(output.name) for output in engine._session.get_outputs()}

        def kernels() -> None:
            if self._version != version:
                raise Misuse("kernels run after their context was changed")
            if engine._stripped:
                raise Misuse("the engine has no weights")
            if scratch is None or scratch[1] < engine.device_memory_size_v2:
                raise Misuse("the context has no scratch memory")
            cuda.array_at(scratch[0], np.dtype(np.uint8), (scratch[1],))[...] = 0xEE
            feeds = {item.name: cuda.array_at(addresses[item.name], _dtype(item.type), shapes[item.name])
                     for item in engine._session.get_inputs()}  # fmt: skip
            for name, found in zip(outputs, engine._session.run(list(outputs), feeds), strict=True):
                cuda.array_at(addresses[name], found.dtype, outputs[name])[...] = found

        cuda.enqueue(stream_handle, kernels)
        self._world.executed += 1
        return True

    def _changed(self) -> None:
        self._version += 1
        self._ready = False


class Refitter:
    def __init__(self, engine: ICudaEngine, logger: ILogger) -> None:
        self._engine, self._given = engine, b""

    def refit_cuda_engine(self) -> bool:
        self._engine._stripped = False
        return True

    def get_missing_weights(self) -> list[str]:
        return ["conv1.weight", "conv2.weight"] if self._engine._stripped else []


class OnnxParserRefitter:
    def __init__(self, refitter: Refitter, logger: ILogger) -> None:
        pass

    def refit_from_file(self, model: str) -> bool:
        return Path(model).is_file() and Path(model).stat().st_size > 100


_CLASSES = (ILogger, IPluginRegistry, IRuntimeCache, IRuntimeConfig, Runtime, ICudaEngine, IExecutionContext, Refitter,
            OnnxParserRefitter, ExecutionContextAllocationStrategy, DynamicShapesKernelSpecializationStrategy,
            EngineValidity, EngineInvalidityDiagnostics)  # fmt: skip
_FUNCTIONS = ("get_plugin_registry", "init_libnvinfer_plugins")
# Only TensorRT-RTX has these; the backend reaches them through `Library.has`.
RTX_ONLY = frozenset({
    ("IRuntimeCache", ""), ("IRuntimeCache", "serialize"), ("IRuntimeCache", "deserialize"),
    ("IRuntimeConfig", "create_runtime_cache"), ("IRuntimeConfig", "set_runtime_cache"),
    ("IRuntimeConfig", "dynamic_shapes_kernel_specialization_strategy"),
    ("Runtime", "get_engine_validity"), ("IExecutionContext", "is_stream_capturable"),
    ("DynamicShapesKernelSpecializationStrategy", ""), ("DynamicShapesKernelSpecializationStrategy", "EAGER"),
    ("EngineValidity", ""), ("EngineInvalidityDiagnostics", ""),
    *(("EngineValidity", name) for name in EngineValidity.__members__),
    *(("EngineInvalidityDiagnostics", name) for name in EngineInvalidityDiagnostics.__members__),
})  # fmt: skip
# TensorRT 10.3 has no runtime configuration; it is asked for only where `create_runtime_cache` is.
NOT_IN_10_3 = frozenset({("ICudaEngine", "create_runtime_config"), ("IRuntimeConfig", ""),
                         ("IRuntimeConfig", "set_execution_context_allocation_strategy")})  # fmt: skip


def trt_members() -> list[tuple[str, str]]:
    """(class, member) of every simulated name, members of the module itself with an empty class; "" is the class."""
    found = [("", name) for name in _FUNCTIONS]
    for kind in _CLASSES:
        names = kind.__members__ if issubclass(kind, IntEnum) else [name for name in vars(kind) if name[0] != "_"]
        found += [(kind.__name__, ""), *((kind.__name__, name) for name in names)]
    return found


class SimulatedTensorRt:
    """Stands for the module `tensorrt`, or with `rtx` for `tensorrt_rtx`, which has more."""

    def __init__(self, cuda: SimulatedCuda, rtx: bool) -> None:
        self.cuda = cuda
        self.__version__ = "1.7.1" if rtx else "10.3.0"
        self.deserialized = self.executed = self.compiled = 0
        self.profiles_set: list[int] = []
        self.runtimes: list[tuple[bool, int]] = []
        self.contexts_left = 100
        self.capturable, self.fails_to_run, self.refuses_engines, self.refuses_profiles = True, False, False, False
        self.output_shape: tuple[int, ...] | None = None
        self.validity = EngineValidity.VALID, 0
        self.ILogger = ILogger
        for kind in _CLASSES:
            if rtx or (kind.__name__, "") not in RTX_ONLY | NOT_IN_10_3:
                setattr(self, kind.__name__, kind if rtx else _without(kind))
        self.Runtime = self._made("Runtime")
        self.get_plugin_registry = IPluginRegistry
        self.init_libnvinfer_plugins = lambda logger, namespace: True

    def hold(self, owner: object, size: int) -> int:
        """Device memory that goes with its owner."""
        status, address = self.cuda.cudaMalloc(size)
        if status:
            raise MemoryError
        weakref.finalize(owner, self.cuda.cudaFree, address)
        return address

    def _made(self, name: str) -> Any:
        """A class whose objects know this world."""
        kind, world = getattr(self, name), self

        class Made(kind):  # type: ignore[misc, valid-type]
            def __init__(self, logger: ILogger) -> None:
                super().__init__(world, logger)

        return Made


def _without(kind: type) -> type:
    """A class as the full TensorRT 10.3 has it."""
    gone = {name for owner, name in RTX_ONLY | NOT_IN_10_3 if owner == kind.__name__}
    if issubclass(kind, IntEnum) or not gone:
        return kind
    return type(kind.__name__, (), {name: value for name, value in vars(kind).items()
                                    if name not in gone and name not in ("__dict__", "__weakref__")})  # fmt: skip


def _dtype(told: str) -> np.dtype:
    return np.dtype({"tensor(float)": "float32", "tensor(uint8)": "uint8"}[told])


@dataclass(frozen=True)
class World:
    """What a test holds: the device, the library, and the word by which sessions are opened."""

    cuda: SimulatedCuda
    trt: SimulatedTensorRt
    backend: str

    def engine(self, folder: Path, source: Artifact, **stamp: Any) -> Artifact:
        """An artifact that loads here; `stamp` changes what its stamp says."""
        import dataclasses

        built_for = EngineStamp(**{
            "library": self.backend, "engine_version": self.trt.__version__, "compute_capabilities": (CAPABILITY,),
            "platform": _trt.this_platform(), "device": GPU_NAME, "profiles": ((1, 1, 16),), **stamp,
        })  # fmt: skip
        header = {"profiles": built_for.profiles, "stripped": built_for.stripped}
        plan = _MAGIC + json.dumps(header).encode() + b"\n" + source.model_path.read_bytes()
        manifest = dataclasses.replace(source.manifest, format=self.backend, built_for=built_for.plain())
        return save(folder, manifest, {"model.engine": plan, "source.onnx": source.model_path})


def install(patch: pytest.MonkeyPatch, rtx: bool = False, **cuda: Any) -> World:
    """Put the simulation in the place of driver, runtime and library."""
    device = SimulatedCuda(**cuda)
    backend = "tensorrt_rtx" if rtx else "tensorrt"
    world = World(device, SimulatedTensorRt(device, rtx), backend)
    patch.setattr(_cuda, "driver_problem", lambda: "")
    patch.setattr(_cuda, "compute_capability", lambda index=0: CAPABILITY)
    patch.setattr(_cuda, "device_name", lambda index=0: GPU_NAME)
    patch.setattr(_cuda, "has_context", lambda index: index in device.contexts)
    patch.setattr(_cuda, "cuda_runtime", lambda instead="": device)
    patch.setattr(_trt, "library", lambda name: _trt.Library(name, world.trt))
    return world
