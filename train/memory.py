"""Memory that is freed stays with the process: a step of training allocates the same again at once."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_memory() -> bool:
    """Tell glibc neither to map large blocks anew each time nor to give memory back; True if it was told.

    Activations of a batch are larger than the 32 MB up to which glibc learns to keep blocks: each is mapped, zeroed
    page by page by the kernel, and unmapped, at every layer of every step. It holds for the whole process: for
    commands that end with the training.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library, such as musl
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))
