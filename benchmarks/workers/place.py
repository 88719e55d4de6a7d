"""Where a worker runs: natively, on some cores only, with an instruction set limited, under an emulator."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Place:
    """How to start a worker.

    Args:
        name: the word in records.
        argv_prefix: what stands before the interpreter, such as an emulator's command line.
        env: variables set for the worker.
        python: the interpreter.
        cpus: the only cores that it may run on, in the kernel's numbers; None for all that the harness may use.
        delay: each call is prolonged by this part of its own duration, spinning: a known truth for studies of the
            harness itself.
    """

    name: str = "native"
    argv_prefix: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable
    cpus: tuple[int, ...] | None = None
    delay: float = 0.0


NATIVE = Place()
# oneDNN's own switch: AVX2 kernels multiply u8 by s8 in pairs into saturating int16, as CPUs without VNNI do.
WITHOUT_VNNI = Place("without VNNI", env={"ONEDNN_MAX_CPU_ISA": "AVX2"})
# Engines whose int8 kernels obey that switch; ONNX Runtime has none of its own.
ISA_LIMITED_BACKENDS = ("openvino",)
