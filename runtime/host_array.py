"""Pixels of other libraries as numpy arrays: `__dlpack__` and `__cuda_array_interface__`."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from ..errors import BadInput
from .device_array import DEFAULT_STREAM, is_device_array, read


@runtime_checkable
class Tensor(Protocol):
    """What hands its memory over by DLPack: a tensor of torch, CuPy, JAX, DALI, PyNvVideoCodec."""

    def __dlpack__(self, *, stream: int | None = None) -> Any:
        """A capsule `dltensor`."""
        ...


def to_host(array: Any) -> np.ndarray:
    """The same elements where numpy reads them: in place on the CPU, copied from a GPU.

    Raises:
        BadInput: it is not handed over, or has no dtype of numpy.
        EngineMissing: it lies on a GPU, and cuda-bindings is not installed or its driver too old.
        EngineFailed: CUDA refused the copy.
    """
    if is_device_array(array):
        return _from_gpu(array)
    try:
        return np.from_dlpack(array)
    except Exception as error:  # whatever a foreign library raises
        raise BadInput(f"{type(array).__name__} is not handed over: {error}", "an array that may be read") from error


def _from_gpu(array: Any) -> np.ndarray:
    from .backends._cuda import Gpu, check, cuda_runtime

    runtime = cuda_runtime(", or hand over a copy on the CPU")
    found = read(array, DEFAULT_STREAM)
    _, index = Gpu(runtime, 0).memory_of(found.address)
    gpu, host = Gpu(runtime, index), np.empty(found.shape, found.dtype)
    with gpu.current():
        if found.stream is not None:
            check(runtime.cudaStreamSynchronize(found.stream))
        gpu.copy(host.ctypes.data, found.address, host.nbytes, DEFAULT_STREAM)
        check(runtime.cudaStreamSynchronize(DEFAULT_STREAM))
    return host
