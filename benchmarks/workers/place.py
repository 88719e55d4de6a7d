"""Where a worker runs: natively, with an instruction set limited, under an emulator."""

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
    """

    name: str = "native"
    argv_prefix: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    python: str = sys.executable


NATIVE = Place()
# oneDNN's own switch: AVX2 kernels multiply u8 by s8 in pairs into saturating int16, as CPUs without VNNI do.
WITHOUT_VNNI = Place("without VNNI", env={"ONEDNN_MAX_CPU_ISA": "AVX2"})
# Engines whose int8 kernels obey that switch; ONNX Runtime has none of its own.
ISA_LIMITED_BACKENDS = ("openvino",)
