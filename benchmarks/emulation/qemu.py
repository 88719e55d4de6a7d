"""QEMU's user mode: one process is emulated, no root, no kernel, no binfmt."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache

from ...errors import EngineMissing
from .cpus import EmulatedCpu

_INSTALL = "apt-get install qemu-user-static"
_OLDEST = (7, 2)  # the first that emulates AVX2


def find_qemu(cpu: EmulatedCpu) -> tuple[str, str]:
    """The emulator's program and its version.

    Raises:
        EngineMissing: it is not installed, does not start, or is too old.
    """
    program = shutil.which(f"qemu-{cpu.machine}-static") or shutil.which(f"qemu-{cpu.machine}")
    if program is None:
        raise EngineMissing(f"no qemu-{cpu.machine} to emulate {cpu.name}", "QEMU's user mode", _INSTALL)
    version = _version(program)
    numbers = tuple(int(part) for part in version.split(".")[:2]) if version else ()
    if numbers < _OLDEST:
        told = f"QEMU {version}" if version else "no QEMU that starts"
        raise EngineMissing(f"{program} is {told}", "QEMU 7.2 or later", _INSTALL)
    return program, version


@cache
def _version(program: str) -> str:
    """Such as "7.2.22"; empty where it says nothing."""
    try:
        asked = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return ""
    found = re.search(r"version (\d+(?:\.\d+)+)", asked.stdout)
    return found.group(1) if found else ""
