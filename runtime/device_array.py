"""Arrays that already lie on a GPU, read where they lie: `__cuda_array_interface__` (versions 2 and 3) and DLPack.

Protocols: numba «CUDA Array Interface (Version 3)»; dmlc/dlpack `dlpack.h` and the Python specification of DLPack.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import BadInput

# kDLCUDA and kDLCUDAManaged of dlpack.h: what a GPU reads at its own speed.
_ON_GPU = (2, 13)
_KINDS = {0: "i", 1: "u", 2: "f", 6: "b"}  # DLDataTypeCode → numpy's kind
DEFAULT_STREAM = 1  # both protocols' and the driver's word for CUDA's legacy default stream
NO_WAIT = -1  # DLPack: the producer waits for nothing


@dataclass(frozen=True)
class DeviceArray:
    """Where an array lies.

    Args:
        address: of its first element, on the device.
        dtype, shape: as numpy has them; C-contiguous.
        stream: handle of the stream that still writes it, None where there is nothing to wait for.
        owner: keeps the memory alive.
    """

    address: int
    dtype: np.dtype
    shape: tuple[int, ...]
    stream: int | None
    owner: object


def is_device_array(array: object) -> bool:
    """True of an object that says it lies on a CUDA device."""
    try:
        if hasattr(array, "__dlpack_device__"):
            return array.__dlpack_device__()[0] in _ON_GPU
        return hasattr(array, "__cuda_array_interface__")
    except Exception:  # whatever a foreign library raises instead of an answer
        return False


def read(array: Any, stream: int = NO_WAIT) -> DeviceArray:
    """Where `array` lies.

    Before version 3 the interface says nothing of streams (torch's is version 2): there DLPack is asked, where it is
    offered, else all of the default stream is waited for.

    Args:
        stream: handle of the consumer's stream: a DLPack producer makes it wait for what it still writes.

    Raises:
        BadInput: it is not C-contiguous, is masked, or its library does not hand it over.
    """
    try:
        told = getattr(array, "__cuda_array_interface__", None)
        silent = told is not None and told.get("version", 0) < 3 and hasattr(array, "__dlpack__")
        found = _dlpack(array, stream) if told is None or (silent and stream != NO_WAIT) else _interface(array, told)
    except BadInput:
        raise
    except Exception as error:  # torch refuses a tensor that requires a gradient, in its own words
        raise BadInput(f"{type(array).__name__} is not handed over: {error}", "an array that may be read") from error
    return found


def _interface(array: Any, told: Mapping[str, Any]) -> DeviceArray:
    if told.get("mask") is not None:
        raise BadInput(f"{type(array).__name__} is masked", "an array without a mask")
    dtype, shape = np.dtype(told["typestr"]), tuple(int(size) for size in told["shape"])
    strides = told.get("strides")
    _require_contiguous(array, shape, strides and [stride // dtype.itemsize for stride in strides])
    stream = told.get("stream") if told.get("version", 0) >= 3 else DEFAULT_STREAM
    return DeviceArray(int(told["data"][0]), dtype, shape, stream, array)


class _Tensor(ctypes.Structure):
    """DLTensor of dlpack.h; a capsule "dltensor" holds one at its start."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def _dlpack(array: Any, stream: int) -> DeviceArray:
    """The capsule is kept, not consumed: it gives the tensor back when it goes."""
    capsule = array.__dlpack__(stream=stream)
    tensor = _Tensor.from_address(_pointer_of(capsule, b"dltensor"))
    if tensor.code not in _KINDS or tensor.lanes != 1:
        raise BadInput(f"{type(array).__name__} has DLPack type {tensor.code}×{tensor.lanes}", "a dtype of numpy")
    shape = tuple(tensor.shape[: tensor.ndim])
    _require_contiguous(array, shape, tensor.strides[: tensor.ndim] if tensor.strides else None)
    dtype = np.dtype(f"{_KINDS[tensor.code]}{tensor.bits // 8}")
    address = (tensor.data or 0) + tensor.byte_offset
    return DeviceArray(address, dtype, shape, None, capsule)


def _require_contiguous(array: object, shape: Sequence[int], strides: Sequence[int] | None) -> None:
    """Strides in elements; those of axes of one element do not matter."""
    wanted = 1
    for size, stride in reversed(list(zip(shape, strides, strict=True)) if strides else []):
        if size > 1 and stride != wanted:
            raise BadInput(f"{type(array).__name__} of shape {tuple(shape)} is not C-contiguous", "a contiguous array",
                           "copy it on the device first, as torch's contiguous() does")  # fmt: skip
        wanted *= size
