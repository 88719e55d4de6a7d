"""What a TensorRT engine is built with, checked before anything is built, and the same as a `trtexec` command."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..artifact.engine_stamp import HARDWARE, listed, tupled
from ..errors import BadInput

Profile = tuple[int, int, int]
_MB = 1 << 20
_LEVELS = range(6)
# Of `TacticSource`, as NVIDIA's API reference has it: the others are off since TensorRT 10.0.
_DEFAULT_SOURCES = ("EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")


@dataclass(frozen=True)
class EngineOptions:
    """What an engine is built for. Precision is none of it: the graph says that.

    Args:
        profiles: (min, opt, max) batch of each optimization profile.
        workspace_bytes: scratch memory that a layer may use.
        capabilities: compute capabilities such as "8.9". Empty: this machine's GPU, or with TensorRT-RTX one engine
            for 8.0 and every later one.
        optimization_level: 0 (fast to build) to 5 (fastest engine), the builder's own default is 3.
        tf32: whether float32 layers may be computed in TF32, with 10 bits of mantissa.
        hardware: compatibility level, one of `HARDWARE`; TensorRT only.
        version_compatible: newer versions of the same major version may load it, and TensorRT 11 one of 10; TensorRT
            only.
        stripped: leave the weights out; loading puts them back from `source.onnx`.
        dla_core: run on this DLA core of a Jetson, and on its GPU what the DLA cannot run.
        tactic_sources: names of `tensorrt.TacticSource`, such as "JIT_CONVOLUTIONS"; empty for the library's own.
        timing_cache: file of layer timings, read before and written after; None for the one in `machine.cache_folder`.
    """

    profiles: tuple[Profile, ...] = ((1, 1, 16),)
    workspace_bytes: int = 1024 * _MB
    capabilities: tuple[str, ...] = ()
    optimization_level: int = 3
    tf32: bool = True
    hardware: str = "none"
    version_compatible: bool = False
    stripped: bool = False
    dla_core: int | None = None
    tactic_sources: tuple[str, ...] = ()
    timing_cache: str | None = None

    def __post_init__(self) -> None:
        if not self.profiles:
            raise BadInput("no optimization profile", "at least one: min, opt and max batch")
        for low, opt, high in self.profiles:
            if not 1 <= low <= opt <= high:
                raise BadInput(f"profile min {low}, opt {opt}, max {high}", "1 ≤ min ≤ opt ≤ max")
        if self.optimization_level not in _LEVELS:
            raise BadInput(f"optimization level {self.optimization_level}", "0 to 5")
        if self.hardware not in HARDWARE:
            raise BadInput(f"hardware compatibility {self.hardware!r}", f"one of {', '.join(HARDWARE)}")
        if self.workspace_bytes < 1 or (self.dla_core or 0) < 0:
            raise BadInput(
                f"workspace {self.workspace_bytes} bytes, DLA core {self.dla_core}", "a positive size and core"
            )

    def plain(self) -> dict[str, Any]:
        """As JSON has it, for a manifest; not where the timing cache lies."""
        held = {name: value for name, value in asdict(self).items() if name != "timing_cache"}
        return {name: listed(value) for name, value in held.items()}


def options_from(plain: Mapping[str, Any]) -> EngineOptions:
    """What `plain` gave, read from a manifest; what else stands there is passed over."""
    known = EngineOptions().plain()
    return EngineOptions(**{name: tupled(value) for name, value in plain.items() if name in known})


def trtexec(options: EngineOptions, source: Path, tensor: str, shape: tuple[int | None, ...], backend: str) -> str:
    """The same build by NVIDIA's own program: `trtexec`, or `tensorrt_rtx` of TensorRT-RTX.

    Args:
        tensor, shape: name and shape of the model's input, None for the batch.
    """
    words = [
        "tensorrt_rtx" if backend == "tensorrt_rtx" else "trtexec",
        f"--onnx={source}",
        "--saveEngine=model.engine",
        "--skipInference",
    ]
    for index, profile in enumerate(options.profiles):
        words += [f"--profile={index}"] if len(options.profiles) > 1 else []
        for what, batch in zip(("min", "opt", "max"), profile, strict=True):
            words.append(f"--{what}Shapes={tensor}:{'x'.join(map(str, (batch, *shape[1:])))}")
    words += [f"--memPoolSize=workspace:{options.workspace_bytes / _MB:g}M"]
    words += [f"--builderOptimizationLevel={options.optimization_level}"]
    words += _own_flags(options) if backend == "tensorrt" else _rtx_flags(options)
    words += ["--stripWeights"] if options.stripped else []
    words += [] if options.tf32 else ["--noTF32"]
    return shlex.join(words)


def _own_flags(options: EngineOptions) -> list[str]:
    """Of TensorRT; in 11 every network is strongly typed, and the flag does nothing."""
    levels = {"none": [], "same-capability": ["--hardwareCompatibilityLevel=sameComputeCapability"],
              "ampere+": ["--hardwareCompatibilityLevel=ampere+"]}  # fmt: skip
    words = ["--stronglyTyped", *levels[options.hardware]]
    words += ["--versionCompatible"] if options.version_compatible else []
    words += [] if options.dla_core is None else [f"--useDLACore={options.dla_core}", "--allowGPUFallback"]
    words += [f"--tacticSources={_sources(options.tactic_sources)}"] if options.tactic_sources else []
    words += [f"--timingCacheFile={options.timing_cache}"] if options.timing_cache else []
    return words


def _sources(named: tuple[str, ...]) -> str:
    """trtexec adds to the default ones and takes away: those named, and of the default no other."""
    return ",".join([f"+{name}" for name in named] + [f"-{name}" for name in _DEFAULT_SOURCES if name not in named])


def _rtx_flags(options: EngineOptions) -> list[str]:
    named = ",".join(word.replace(".", "") for word in options.capabilities)
    return [f"--computeCapabilities={named}"] if named else []
