"""Pixels in memory of ours as a Pillow image, without a copy, by Arrow's C data interface.

Pillow keeps an RGB pixel in four bytes; `Image.fromarrow` (Pillow 11.2.1 and later) takes such memory as it is.
Structures: Apache Arrow «The Arrow C data interface»; an integer of 32 bits a pixel: Pillow's «Arrow support».
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from PIL import Image


class _Schema(ctypes.Structure):
    _fields_ = (
        ("format", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("metadata", ctypes.c_char_p),
        ("flags", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


class _Array(ctypes.Structure):
    _fields_ = (
        ("length", ctypes.c_int64),
        ("null_count", ctypes.c_int64),
        ("offset", ctypes.c_int64),
        ("n_buffers", ctypes.c_int64),
        ("n_children", ctypes.c_int64),
        ("buffers", ctypes.POINTER(ctypes.c_void_p)),
        ("children", ctypes.c_void_p),
        ("dictionary", ctypes.c_void_p),
        ("release", ctypes.c_void_p),
        ("private_data", ctypes.c_void_p),
    )


_Release = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Destroy = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_new_capsule = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)(
    ("PyCapsule_New", ctypes.pythonapi)
)
_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

_lent: dict[int, tuple[Any, ...]] = {}  # address of an _Array → what must live as long as its capsule


@_Release
def _release_schema(address: int) -> None:
    _Schema.from_address(address).release = None  # by which the protocol knows that it was released


@_Release
def _release_array(address: int) -> None:
    _Array.from_address(address).release = None


@_Destroy
def _forget(capsule: int) -> None:
    _lent.pop(_pointer_of(capsule, b"arrow_array"), None)


_SCHEMA = _Schema(format=b"I", name=b"", release=ctypes.cast(_release_schema, ctypes.c_void_p))


class _Lent:
    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels

    def __arrow_c_array__(self, requested_schema: object = None) -> tuple[object, object]:
        buffers = (ctypes.c_void_p * 2)(None, self._pixels.ctypes.data)  # validity (all are), values
        array = _Array(
            length=self._pixels.size // 4,
            n_buffers=2,
            buffers=ctypes.cast(buffers, ctypes.POINTER(ctypes.c_void_p)),
            release=ctypes.cast(_release_array, ctypes.c_void_p),
        )
        schema = _Schema.from_buffer_copy(_SCHEMA)
        address = ctypes.addressof(array)
        _lent[address] = (self._pixels, buffers, array, schema)
        return (
            _new_capsule(ctypes.addressof(schema), b"arrow_schema", None),
            _new_capsule(address, b"arrow_array", ctypes.cast(_forget, ctypes.c_void_p)),
        )


def can_lend() -> bool:
    """True where Pillow takes memory as it is."""
    return hasattr(Image, "fromarrow")


def lend(pixels: np.ndarray) -> Image.Image:
    """An RGB image over these pixels.

    Args:
        pixels: uint8 `(H, W, 4)`, C-contiguous; the fourth byte is not looked at. Kept as long as the image lives,
            and not to be written meanwhile.
    """
    height, width = pixels.shape[:2]
    return Image.fromarrow(_Lent(pixels), "RGB", (width, height))
