"""What the TensorRT backend asks of CUDA's driver, and the calls of CUDA's runtime that it makes on one GPU.

`cuda.bindings.runtime` of cuda-bindings 12.9 (what `cuda-bindings<13` gets) and 13 answers (code, value...). Every call
that the backend makes is here, so that a test can hold them against the installed bindings.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

from ...errors import BadInput, EngineFailed, EngineMissing

_OUT_OF_MEMORY, _OLD_DRIVER = 2, 35  # cudaErrorMemoryAllocation, cudaErrorInsufficientDriver
_LESS = "a smaller batch, or fewer lanes"


def driver_problem() -> str:
    """Why no GPU can be used here, or an empty string."""
    try:
        cuda = ctypes.CDLL(_driver_library())
    except OSError:
        return f"no NVIDIA driver ({_driver_library()} is not on this machine)"
    code = cuda.cuInit(0)
    if code:
        return f"the NVIDIA driver does not start (cuInit: error {code})"
    count = ctypes.c_int(0)
    code = cuda.cuDeviceGetCount(ctypes.byref(count))
    return "" if not code and count.value else "the NVIDIA driver sees no GPU"


def _driver_library() -> str:
    return "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def compute_capability(index: int = 0) -> str:
    """Compute capability of one GPU as "8.9".

    Raises:
        EngineMissing: no driver or no such GPU.
    """
    values = (ctypes.c_int(), ctypes.c_int())

    def ask(cuda: Any, device: ctypes.c_int) -> int:
        code = 0
        for value, attribute in zip(values, (75, 76), strict=True):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_…
            code = code or cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        return code

    _ask_driver(index, ask)
    return f"{values[0].value}.{values[1].value}"


def device_name(index: int = 0) -> str:
    """Name of one GPU as its driver has it, such as "NVIDIA GeForce RTX 4090".

    Raises:
        EngineMissing: no driver or no such GPU.
    """
    name = ctypes.create_string_buffer(256)
    _ask_driver(index, lambda cuda, device: cuda.cuDeviceGetName(name, len(name), device))
    return name.value.decode(errors="replace")


def has_context(index: int) -> bool:
    """Whether this process already has a primary context on a GPU; asking makes none.

    Raises:
        EngineMissing: no driver or no such GPU.
    """
    flags, active = ctypes.c_uint(), ctypes.c_int()
    _ask_driver(index, lambda cuda, device: cuda.cuDevicePrimaryCtxGetState(
        device, ctypes.byref(flags), ctypes.byref(active)))  # fmt: skip
    return bool(active.value)


def _ask_driver(index: int, ask: Callable[[Any, ctypes.c_int], int]) -> None:
    problem = driver_problem()
    if problem:
        raise EngineMissing(problem, "an NVIDIA GPU and its driver")
    cuda, device = ctypes.CDLL(_driver_library()), ctypes.c_int()
    code = cuda.cuDeviceGet(ctypes.byref(device), index) or ask(cuda, device)
    if code:
        raise EngineMissing(f"GPU {index} does not answer (CUDA error {code})", "a GPU with that index")


def driver_version() -> str:
    """CUDA that the driver serves, such as "12.6"; empty where it tells none."""
    number = ctypes.c_int(0)
    try:
        code = ctypes.CDLL(_driver_library()).cuDriverGetVersion(ctypes.byref(number))
    except OSError:
        return ""
    return "" if code else _version(number.value)


def cuda_runtime(instead: str = "") -> Any:
    """The module `cuda.bindings.runtime`.

    Args:
        instead: what else helps, behind the command that installs it.

    Raises:
        EngineMissing: the package is not installed.
    """
    try:
        return importlib.import_module("cuda.bindings.runtime")
    except ImportError as error:  # of TensorRT's own package nothing is said: a Jetson's comes with JetPack
        version = driver_version()
        package = f"'{_bindings_for(version)}'" if version else "cuda-bindings"
        raise EngineMissing("cuda.bindings is not installed", "the package cuda-bindings",
                            f"pip install {package}{instead}") from error  # fmt: skip


def check(answer: Any) -> Any:
    """cuda.bindings answers (code, value...): raise on a code, hand the value on.

    Raises:
        EngineFailed: CUDA reported an error.
    """
    code, *values = answer
    if int(code):
        raise EngineFailed(f"CUDA error {int(code)} ({getattr(code, 'name', code)})")
    return values[0] if len(values) == 1 else tuple(values) or None


class Gpu:
    """One GPU through CUDA's runtime.

    Args:
        runtime: module `cuda.bindings.runtime`.
        index: in the driver's order.

    Raises:
        EngineMissing: the driver is older than the runtime needs, or there is no such GPU.
    """

    def __init__(self, runtime: Any, index: int) -> None:
        self.runtime, self.index = runtime, index
        self._in_use: set[int] = set()  # other GPUs on which this process has a context
        code, count = runtime.cudaGetDeviceCount()
        if int(code) == _OLD_DRIVER:
            raise _too_old(_version(check(runtime.cudaDriverGetVersion())),
                           _version(check(runtime.cudaRuntimeGetVersion())))  # fmt: skip
        if index >= check((code, count)):
            raise EngineMissing(f"no GPU {index} here", f"gpu:0 to gpu:{count - 1}" if count > 1 else "gpu")

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Make it this thread's device, and give the thread its own back: torch beside us may use another GPU.

        A GPU that nobody here uses yet is not given back: to set it would make a context there, of some hundred MB, in
        each process that runs on another (pytorch#94864).
        """
        before = check(self.runtime.cudaGetDevice())
        check(self.runtime.cudaSetDevice(self.index))  # also where it is the same: it binds the context to the thread
        try:
            yield
        finally:
            if before != self.index and self._is_in_use(before):
                self.runtime.cudaSetDevice(before)

    def _is_in_use(self, index: int) -> bool:
        """Asked of the driver until it is so: a primary context stays."""
        if index not in self._in_use and has_context(index):
            self._in_use.add(index)
        return index in self._in_use

    def free_bytes(self) -> int:
        """Device memory that is free now."""
        return check(self.runtime.cudaMemGetInfo())[0]

    def allocate(self, size_bytes: int) -> int:
        """Device memory; its address.

        Raises:
            EngineFailed: there is not so much, with what is free.
        """
        return self._allocated(self.runtime.cudaMalloc(size_bytes), "device", size_bytes)

    def allocate_pinned(self, size_bytes: int) -> int:
        """Host memory that the device reads and writes by itself; its address."""
        return self._allocated(self.runtime.cudaMallocHost(size_bytes), "pinned host", size_bytes)

    def _allocated(self, answer: Any, kind: str, size_bytes: int) -> int:
        if int(answer[0]) == _OUT_OF_MEMORY:
            self.runtime.cudaGetLastError()  # else TensorRT finds it and takes it for its own
            asked = f"{size_bytes / 1e6:.2f} MB of {kind} memory asked"
            if kind == "device":
                raise out_of_memory(self, asked)
            raise EngineFailed(f"out of memory: {asked}", "host memory that can be pinned", _LESS)
        return int(check(answer))

    def memory_of(self, address: int) -> tuple[bool, int]:
        """Whether it lies where a kernel reads it at full speed, and on which GPU."""
        told = check(self.runtime.cudaPointerGetAttributes(address))
        return int(told.type) in (2, 3), int(told.device)  # cudaMemoryTypeDevice, cudaMemoryTypeManaged

    def copy(self, target: int, source: int, size_bytes: int, stream: int) -> None:
        """Queue a copy; unified addresses say in which direction."""
        kind = self.runtime.cudaMemcpyKind.cudaMemcpyDefault
        check(self.runtime.cudaMemcpyAsync(target, source, size_bytes, kind, stream))

    def wait_for(self, producer: int, stream: int, event: int) -> None:
        """Let `stream` wait for all that `producer` holds now."""
        check(self.runtime.cudaEventRecord(event, producer))
        check(self.runtime.cudaStreamWaitEvent(stream, event, 0))

    @contextlib.contextmanager
    def idle_after_errors(self, stream: int) -> Iterator[None]:
        """Leave nothing in flight that would still read or write buffers."""
        try:
            yield
        except BaseException:
            self.runtime.cudaStreamSynchronize(stream)
            raise

    def record(self, stream: int, enqueue: Callable[[], None]) -> Any:
        """Record what `enqueue` puts on the stream as an executable graph; nothing runs.

        Raises:
            EngineFailed: it cannot be recorded; the stream is usable again.
        """
        mode = self.runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal  # other threads may allocate
        check(self.runtime.cudaStreamBeginCapture(stream, mode))
        try:
            enqueue()
        except BaseException:
            self._drop(self.runtime.cudaStreamEndCapture(stream))
            raise
        ended = self.runtime.cudaStreamEndCapture(stream)
        try:
            return check(self.runtime.cudaGraphInstantiate(check(ended), 0))
        finally:
            self._drop(ended)

    def _drop(self, ended: tuple[Any, Any]) -> None:
        code, graph = ended
        if int(code) == 0:
            self.runtime.cudaGraphDestroy(graph)
        self.runtime.cudaGetLastError()  # what a failed capture left behind


def _bindings_for(version: str) -> str:
    """The package for a driver that serves CUDA `version`."""
    return f"cuda-bindings=={version.partition('.')[0]}.*"


def _too_old(has: str, needs: str) -> EngineMissing:
    if has.partition(".")[0] == needs.partition(".")[0]:  # the bindings of that major version are those installed
        instead = f"install cuda-compat-{needs.replace('.', '-')} of NVIDIA's apt repository"
    else:
        instead = f"pip install '{_bindings_for(has)}'"
    return EngineMissing(f"the NVIDIA driver is too old: it serves CUDA {has}", f"a driver that serves CUDA {needs}",
                         f"update the driver, or {instead}")  # fmt: skip


def out_of_memory(gpu: Gpu, what: str) -> EngineFailed:
    """The error, with what is free."""
    free, total = check(gpu.runtime.cudaMemGetInfo())
    return EngineFailed(f"GPU {gpu.index} is out of memory: {what}, {free / 1e6:.2f} of {total / 1e6:.2f} MB free",
                        "more free memory", f"{_LESS}; or end what else uses this GPU")  # fmt: skip


def gpu_index(device: str) -> int:
    """Index of "gpu" or "gpu:K".

    Raises:
        BadInput: another device.
    """
    kind, _, index = device.partition(":")
    if kind != "gpu" or not (index or "0").isdecimal():
        raise BadInput(f"TensorRT has no device {device!r}", "gpu or gpu:K")
    return int(index or 0)


def _version(number: int) -> str:
    """CUDA's 12060 → "12.6"."""
    return f"{number // 1000}.{number % 1000 // 10}"
