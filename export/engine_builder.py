"""The process that parses and builds one engine: a library that crashes takes only this process with it.

Reads one JSON request on standard input. Writes JSON lines on the pipe that was its standard output, where nothing else
writes: `{"phase", "done"}` while it builds, then one `{"answer"}` or `{"error"}`. SIGINT and SIGTERM cancel the build.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from .. import machine
from ..errors import BadInput, EngineFailed, EngineMissing, TiffinError
from ..runtime.backends import _cuda
from ..runtime.backends._trt import Library, library
from .engine_options import EngineOptions, options_from
from .engine_progress import progress_monitor

Tell = Callable[[dict[str, Any]], None]
_PROBLEMS = 20
_FOR_CUDA_12 = 'pip install onnx tensorrt-cu12 "cuda-bindings<13"'


@dataclass
class _Log:
    """What the library said: every line, for the digest and the error."""

    lines: list[str] = field(default_factory=list)

    def add(self, severity: str, message: str) -> None:
        if severity != "VERBOSE":
            self.lines.append(f"{severity}: {message}")

    def first_error(self, begin: int = 0) -> str:
        """Of the lines from `begin` on: the first names the cause, later ones what followed from it."""
        errors = [line for line in self.lines[begin:] if line.startswith(("ERROR", "INTERNAL_ERROR"))]
        return errors[0].split(": ", 1)[1].strip() if errors else "no reason given"


class _Cancelled(Exception):
    """SIGINT or SIGTERM came."""


class _Builder:
    """One library's builder, network and parser."""

    def __init__(self, lib: Library, typed: bool = True) -> None:
        self.lib, self.trt, self.log = lib, lib.module, _Log()
        self._logger = lib.logger(self.log.add)
        self.builder = self._made(self.trt.Builder, self._logger)
        self.network = self.builder.create_network(lib.typed_network_flags() if typed else 0)
        self.parser = self.trt.OnnxParser(self.network, self._logger)

    def _made(self, make: Callable[..., Any], *arguments: Any) -> Any:
        """TensorRT's constructors answer None, or raise, where the driver is missing."""
        cause: Exception | None = None
        try:
            if (made := make(*arguments)) is not None:
                return made
        except Exception as error:  # pybind's TypeError: "factory function returned nullptr"
            cause = error
        reason = _one_line(self.log.first_error())
        # 35 is cudaErrorInsufficientDriver: pip's `tensorrt` is for CUDA 13, which drivers 535 to 575 do not serve.
        too_new = reason.endswith("error: 35") and not self.lib.is_rtx and _cuda.driver_version().startswith("12.")
        fix = f"update the driver, or beside tiffin in a new environment: {_FOR_CUDA_12}" if too_new else ""
        raise EngineMissing(f"{self.lib.name} does not start: {reason}", "a driver that it takes", fix) from cause

    def parse(self, path: str) -> list[dict[str, str]]:
        """Read an ONNX file; what the parser refuses, each with its node."""
        try:
            read = self.parser.parse_from_file(path)
        except Exception as error:  # a name that is no UTF-8, say
            return [{"node": "", "operator": "", "message": f"{type(error).__name__}: {error}"}]
        if read:
            return []
        found = [self.parser.get_error(index) for index in range(min(self.parser.num_errors, _PROBLEMS))]
        told = [{"node": e.node_name(), "operator": e.node_operator(), "message": _one_line(e.desc())} for e in found]
        return told or [{"node": "", "operator": "", "message": self.log.first_error()}]

    def build(self, options: EngineOptions, files: dict[str, str | None], tell: Tell) -> dict[str, Any]:
        """Build what was parsed; the plan is written to `files["plan"]`."""
        config = self.builder.create_builder_config()
        self._configure(config, options)
        timings = self._timings(config, files.get("timings"))
        begin = len(self.log.lines)  # a timing cache of another GPU logs errors, and is no reason to refuse a graph
        self._monitor = config.progress_monitor = progress_monitor(self.trt, tell, lambda: not _stopped)
        if files.get("calibration"):
            self._calibrate(config, Path(str(files["calibration"])).read_bytes())
        plan = self.builder.build_serialized_network(self.network, config)
        if _stopped:
            raise _Cancelled
        if plan is None:
            raise self._refused(begin)
        Path(str(files["plan"])).write_bytes(memoryview(plan))
        if timings is not None:
            Path(str(files["timings_out"])).write_bytes(memoryview(timings.serialize()))
        Path(str(files["log"])).write_text("\n".join(self.log.lines) + "\n", encoding="utf-8")
        return {
            "version": self.lib.version,
            "log_sha256": hashlib.sha256(Path(str(files["log"])).read_bytes()).hexdigest(),
            "timings": timings is not None,
        }

    def _refused(self, begin: int) -> EngineFailed:
        reason = self.log.first_error(begin)
        room = "workspace" in reason or "OutOfMemory" in reason
        fix = (
            "a larger --workspace-mb"
            if room
            else f"see what is in its way: `tiffin doctor ARTIFACT --backend {self.lib.name}`"
        )
        return EngineFailed(
            f"{self.lib.name} cannot build this graph: {_one_line(reason)}", "a graph and options that it supports", fix
        )

    def _configure(self, config: Any, options: EngineOptions) -> None:
        trt, flags = self.trt, self.trt.BuilderFlag
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
        config.builder_optimization_level = options.optimization_level
        (config.set_flag if options.tf32 else config.clear_flag)(flags.TF32)
        for profile in options.profiles:
            config.add_optimization_profile(self._profile(profile))
        for asked, name in ((options.version_compatible, "VERSION_COMPATIBLE"), (options.stripped, "STRIP_PLAN"),
                            (options.stripped, "REFIT_IDENTICAL")):  # fmt: skip
            if asked:
                config.set_flag(getattr(flags, name))
        if self.lib.has("BuilderFlag.REQUIRE_USER_ALLOCATION"):  # TensorRT-RTX: without it, no CUDA graph is recorded
            config.set_flag(flags.REQUIRE_USER_ALLOCATION)
        if options.hardware != "none":
            level = {"ampere+": "AMPERE_PLUS", "same-capability": "SAME_COMPUTE_CAPABILITY"}[options.hardware]
            config.hardware_compatibility_level = getattr(trt.HardwareCompatibilityLevel, level)
        if options.tactic_sources:
            bits = sum(1 << int(getattr(trt.TacticSource, name)) for name in options.tactic_sources)
            if config.set_tactic_sources(bits) is False:  # instead of raising
                named = ", ".join(options.tactic_sources)
                raise EngineFailed(f"{self.lib.name} did not take tactic sources {named}", "some that it has here")
        if options.dla_core is not None:
            self._use_dla(config, options.dla_core)
        self._set_capabilities(config, options.capabilities)

    def _profile(self, batches: tuple[int, int, int]) -> Any:
        profile = self.builder.create_optimization_profile()
        for index in range(self.network.num_inputs):
            tensor = self.network.get_input(index)
            profile.set_shape(tensor.name, *((batch, *tuple(tensor.shape)[1:]) for batch in batches))
        return profile

    def _use_dla(self, config: Any, core: int) -> None:
        cores = self.builder.num_DLA_cores
        if core >= cores:
            raise BadInput(
                f"DLA core {core}; this machine has {cores}",
                "a Jetson with DLA, such as Orin NX or AGX Orin",
                "build on the Jetson itself, or leave --dla-core out",
            )
        config.default_device_type = self.trt.DeviceType.DLA
        config.DLA_core = core
        config.set_flag(self.trt.BuilderFlag.GPU_FALLBACK)

    def _set_capabilities(self, config: Any, wanted: tuple[str, ...]) -> None:
        if not wanted:
            return
        config.num_compute_capabilities = len(wanted)
        for index, word in enumerate(wanted):  # it answers False instead of raising
            if config.set_compute_capability(self.lib.capabilities[word], index) is False:
                raise EngineFailed(f"{self.lib.name} did not take compute capability {word}", "one that it builds for")

    def _timings(self, config: Any, path: str | None) -> Any:
        """Layer timings of earlier builds; those of another GPU are refused by the library and started anew."""
        if not self.lib.keeps_timings:
            return None
        held = Path(path).read_bytes() if path and Path(path).is_file() else b""
        cache = config.create_timing_cache(held)
        if cache is None or not config.set_timing_cache(cache, False):
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, False)
        return cache

    def _calibrate(self, config: Any, scales: bytes) -> None:
        """int8 of an untyped network by given scales: TensorRT 10, for the DLA."""
        base = self.trt.IInt8EntropyCalibrator2

        class Scales(base):  # type: ignore[misc, valid-type]
            def __init__(self) -> None:
                base.__init__(self)

            def get_batch_size(self) -> int:
                return 1

            def get_batch(self, names: list[str]) -> None:
                return None  # the cache says it all

            def read_calibration_cache(self) -> bytes:
                return scales

            def write_calibration_cache(self, cache: bytes) -> None:
                return None

        for name in ("INT8", "FP16"):
            config.set_flag(getattr(self.trt.BuilderFlag, name))
        config.int8_calibrator = self._calibrator = Scales()  # the config does not keep it alive


_stopped: list[int] = []


def _one_line(text: str) -> str:
    return " ".join(text.split())[:300]


def answer(request: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Parse, and build where options are given."""
    builder = _Builder(library(request["backend"]), typed=not request["files"].get("calibration"))
    problems = builder.parse(request["files"]["onnx"])
    if problems or request["options"] is None:
        return {"problems": problems}
    return {"problems": [], **builder.build(options_from(request["options"]), request["files"], tell)}


def _stop(number: int, frame: FrameType | None) -> None:
    _stopped.append(number)


def main() -> None:
    """Serve one request."""
    machine.die_with_parent()
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)

    def tell(line: dict[str, Any]) -> None:
        print(json.dumps(line), file=replies, flush=True)

    try:
        tell({"answer": answer(json.loads(sys.stdin.readline()), tell)})
    except _Cancelled:
        tell({"cancelled": True})
    except TiffinError as error:
        tell({"error": [type(error).__name__, error.what, error.expected, error.fix]})


if __name__ == "__main__":
    main()
