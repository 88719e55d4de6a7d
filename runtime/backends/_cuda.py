"""What the TensorRT backend needs of CUDA: is there a driver, which compute capability, device buffers."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from ...errors import EngineFailed, EngineMissing


def driver_problem() -> str:
    """Why no GPU can be used here, or an empty string."""
    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1 is not on this machine)"
    code = cuda.cuInit(0)
    if code:
        return f"the NVIDIA driver does not start (cuInit: error {code})"
    count = ctypes.c_int(0)
    code = cuda.cuDeviceGetCount(ctypes.byref(count))
    return "" if not code and count.value else "the NVIDIA driver sees no GPU"


def compute_capability(index: int = 0) -> str:
    """Compute capability of one GPU as "8.9".

    Raises:
        EngineMissing: no driver or no such GPU.
    """
    problem = driver_problem()
    if problem:
        raise EngineMissing(problem, "an NVIDIA GPU and its driver")
    cuda = ctypes.CDLL("libcuda.so.1")
    device, values = ctypes.c_int(), (ctypes.c_int(), ctypes.c_int())
    code = cuda.cuDeviceGet(ctypes.byref(device), index)
    for value, attribute in zip(values, (75, 76), strict=True):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_{MAJOR,MINOR}
        code = code or cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
    if code:
        raise EngineMissing(f"GPU {index} does not answer (CUDA error {code})", "a GPU with that index")
    return f"{values[0].value}.{values[1].value}"


class DeviceBuffer:
    """Device memory that grows when a larger array comes."""

    def __init__(self, cudart: Any) -> None:
        self._cudart = cudart
        self._size = 0
        self.address = 0

    def reserve(self, size_bytes: int) -> int:
        """Make room; returns the device address."""
        if size_bytes > self._size:
            self.free()
            self.address = int(check(self._cudart.cudaMalloc(size_bytes)))
            self._size = size_bytes
        return self.address

    def upload(self, array: np.ndarray, stream: Any) -> int:
        """Copy a host array to the device; returns the device address."""
        address = self.reserve(array.nbytes)
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        check(self._cudart.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, stream))
        return address

    def download(self, array: np.ndarray, stream: Any) -> None:
        """Copy from the device into a host array."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        check(self._cudart.cudaMemcpyAsync(array.ctypes.data, self.address, array.nbytes, kind, stream))

    def free(self) -> None:
        """Give the memory back."""
        if self.address:
            check(self._cudart.cudaFree(self.address))
        self.address = self._size = 0


def check(answer: Any) -> Any:
    """cuda.bindings answers (code, value...): raise on a code, hand the value on.

    Raises:
        EngineFailed: CUDA reported an error.
    """
    code, *values = answer
    if int(code):
        raise EngineFailed(f"CUDA error {code!s}")
    return values[0] if values else None
