"""What a TensorRT engine is tied to, and whether it may be read here: compared before TensorRT sees a byte of it.

TensorRT crashes, or answers garbage, where an engine of another version or GPU is deserialized. The stamp lies in the
manifest's `built_for`. Rules: NVIDIA's «Engine Portability» (TensorRT 11.4.1 support matrix) and, for TensorRT-RTX,
«CPU-Only AOT and TensorRT-RTX Engines».
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..errors import BadArtifact
from .strict import read_as_type

# Backend words of the two libraries, which are the formats of their engines too.
LIBRARIES = ("tensorrt", "tensorrt_rtx")
# "8.0+" is what TensorRT-RTX builds where no capability is named: one engine for 8.0 and every later one.
PORTABLE = "8.0+"
HARDWARE = ("none", "same-capability", "ampere+")


@dataclass(frozen=True)
class Here:
    """The library and GPU that would read an engine.

    Args:
        library: backend word, "tensorrt" or "tensorrt_rtx".
        engine_version: such as "10.3.0".
        compute_capability: of the GPU, such as "8.9".
        platform: operating system and architecture, such as "linux-x86_64".
        device: the GPU's name; empty where it is not told.
    """

    library: str
    engine_version: str
    compute_capability: str
    platform: str
    device: str = ""


@dataclass(frozen=True)
class EngineStamp:
    """What an engine was built by and for.

    Args:
        library, engine_version, platform, device: of the machine that built it; `device` is empty without a GPU.
        compute_capabilities: GPUs that it runs on, such as ("8.6", "8.9"), or (`PORTABLE`,).
        profiles: (min, opt, max) batch of each optimization profile.
        hardware: compatibility level, one of `HARDWARE`.
        version_compatible: newer versions of the same major version read it too, and TensorRT 11 reads one of 10.
        stripped: without weights; they are put back from `source.onnx` when it is loaded.
        dla_core: DLA core that it runs on, None for the GPU alone.
        plugins: creators that must be registered before it is read, "namespace::name::version".
        build_log_sha256: of every line that the library wrote while building.
    """

    library: str
    engine_version: str
    compute_capabilities: tuple[str, ...]
    platform: str = ""
    device: str = ""
    profiles: tuple[tuple[int, int, int], ...] = ()
    hardware: str = "none"
    version_compatible: bool = False
    stripped: bool = False
    dla_core: int | None = None
    plugins: tuple[str, ...] = ()
    build_log_sha256: str = ""

    def plain(self) -> dict[str, Any]:
        """As JSON has it, for `Manifest.built_for`."""
        return {name: listed(value) for name, value in asdict(self).items()}

    def problem(self, here: Here) -> tuple[str, str]:
        """Why it must not be read here: what it was built for, and what is here; two empty strings if it may."""
        if self.library != here.library:
            return self.library, here.library
        if not self._version_fits(here.engine_version):
            return f"{self.library} {self.engine_version}", f"{here.library} {here.engine_version}"
        # TensorRT-RTX documents its engines as portable between Windows and Linux.
        if self.library == "tensorrt" and self.platform and self.platform != here.platform:
            return self.platform, here.platform
        if not self._gpu_fits(here.compute_capability):
            return f"compute capability {', '.join(self.compute_capabilities)}", here.compute_capability
        return "", ""

    def _version_fits(self, version: str) -> bool:
        if not self.version_compatible:
            return version == self.engine_version
        built, found = _numbers(self.engine_version), _numbers(version)
        return found >= built and (built[:1] == found[:1] or (built[:1], found[:1]) == ((10,), (11,)))

    def _gpu_fits(self, capability: str) -> bool:
        if capability in self.compute_capabilities:
            return True
        portable = self.hardware == "ampere+" or PORTABLE in self.compute_capabilities
        return portable and _numbers(capability) >= (8, 0)

    def is_foreign(self, here: Here) -> bool:
        """Built on another model of GPU of the same capability: TensorRT reads it, and advises against it."""
        tied = self.library == "tensorrt" and self.hardware == "none"
        return tied and bool(self.device and here.device) and self.device != here.device

    @property
    def max_batch(self) -> int | None:
        """The largest batch of any profile, None where no profile is recorded."""
        return max((profile[2] for profile in self.profiles), default=None)


def read_stamp(built_for: Mapping[str, Any], where: str) -> EngineStamp:
    """From a manifest; fields that this version does not know are passed over.

    Raises:
        BadArtifact: no engine version or no compute capability, or a field of another type.
    """
    known = {field.name for field in fields(EngineStamp)}
    raw = {name: listed(value) for name, value in built_for.items() if name in known}
    missing = [name for name in ("library", "engine_version", "compute_capabilities") if not raw.get(name)]
    if missing:
        raise BadArtifact(f"{where}: its manifest does not say for which {missing[0]} it was built",
                          "an engine that `tiffin compile` wrote", "compile it again from its source.onnx")  # fmt: skip
    try:
        found: EngineStamp = read_as_type(raw, EngineStamp, where)
    except (TypeError, ValueError) as error:
        raise BadArtifact(f"{where}: what it was built for is wrong ({error})", "an engine that `tiffin compile` wrote",
                          "compile it again from its source.onnx") from error  # fmt: skip
    return found


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def listed(value: Any) -> Any:
    """Tuples as lists, at every depth, as JSON has them."""
    return [listed(item) for item in value] if isinstance(value, (list, tuple)) else value


def tupled(value: Any) -> Any:
    """Lists as tuples again."""
    return tuple(tupled(item) for item in value) if isinstance(value, (list, tuple)) else value
