"""The types that flow through everything: what a model takes, gives, is made of, and how it is run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import BadArtifact, BadInput
from .strict import parse_json, read_as_type

MANIFEST_VERSION = 1
PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp8")
FITS = ("crop", "squeeze")
ROUNDINGS = ("nearest", "torchvision", "transformers")
FORMATS = ("onnx", "openvino", "tensorrt", "tensorrt_rtx", "pt2", "null")
_WHOLE = tuple(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))
DTYPES = ("bool", *_WHOLE, "float16", "bfloat16", "float32", "float64", "float8_e4m3fn", "float8_e5m2",
          "complex64", "complex128")  # fmt: skip


@dataclass(frozen=True)
class TensorSpec:
    """One named input or output; dtype is numpy's word, shape entries are sizes, or None where dynamic."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES or any(size is not None and size < 0 for size in self.shape):
            raise BadInput(f"tensor {self.name!r}: dtype {self.dtype!r}, shape {self.shape}",
                           f"one of {', '.join(DTYPES)}; sizes, or none where free")  # fmt: skip


@dataclass(frozen=True)
class Preprocess:
    """How a photo becomes the model's input, in two parts.

    Host part, one implementation everywhere (`runtime.preprocess`): decode, EXIF orientation, colour mode rule,
    resize to `round(side / crop_fraction)` as `fit` says, centre crop to (height, width)
    → uint8 RGB `(N, height, width, 3)`.
    Graph part, inside the ONNX model: `(float(photo) - mean) / std`, NHWC → NCHW;
    mean and std are in pixel units, 0–255.

    Args:
        height, width: size of the model's input in pixels.
        crop_fraction: part of the resized photo that is kept, in (0, 1].
        interpolation: "bicubic", "bilinear" or "lanczos", as Pillow defines them, always antialiased.
        mean, std: one value a channel, RGB.
        version: raised when the host part's result changes for any photo.
        golden: pattern name → sha256 of the host part's bytes, by which each platform can prove itself.
        fit: "crop" resizes until both sides are covered and keeps the aspect ratio; "squeeze" scales each side by
            itself, so that the whole photo is seen, as ViT's and Keras' own preprocessing does.
        rounding: how the longer side and the corner of the crop become whole numbers. "nearest": the side to the
            nearest, the corner down; "torchvision": the side down, the corner to the nearest, halves to even (timm
            too); "transformers": both down.
    """

    height: int
    width: int
    crop_fraction: float = 1.0
    interpolation: str = "bicubic"
    antialias: bool = True
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    version: int = 1
    golden: Mapping[str, str] = field(default_factory=dict)
    fit: str = "crop"
    rounding: str = "nearest"

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise BadInput(f"preprocess: fit {self.fit!r}", f"one of {', '.join(FITS)}")
        if self.rounding not in ROUNDINGS:
            raise BadInput(f"preprocess: rounding {self.rounding!r}", f"one of {', '.join(ROUNDINGS)}")
        numbers = ("height", "width", "crop_fraction", "mean", "std")
        require_numbers({name: getattr(self, name) for name in numbers}, "preprocess")
        if self.interpolation not in ("bicubic", "bilinear", "lanczos") or not self.antialias:
            raise BadInput(
                f"preprocess: interpolation {self.interpolation!r}, antialias {self.antialias}",
                "bicubic, bilinear or lanczos, antialiased",
            )

    def digest(self) -> str:
        """sha256 of all that decides the host part's bytes (mean and std do not)."""
        host = [self.version, self.height, self.width, self.crop_fraction, self.interpolation, self.antialias]
        host += [self.fit] if self.fit != FITS[0] else []  # came later: older digests hold
        host += [self.rounding] if self.rounding != ROUNDINGS[0] else []
        return hashlib.sha256(json.dumps(host).encode()).hexdigest()

    @property
    def resized(self) -> tuple[int, int]:
        """(height, width) that the resized photo covers, or with "squeeze" has; the crop is cut from its centre."""
        return round(self.height / self.crop_fraction), round(self.width / self.crop_fraction)

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return _without_later_defaults(dataclasses.asdict(self))


def require_numbers(fields: Mapping[str, Any], where: str) -> None:
    """Raises BadInput for the first of `Preprocess`'s sizes, means and stds that is none: field, value, what it is."""
    for name, value in fields.items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if name in ("height", "width") and not (whole and value > 0):
            raise BadInput(f"{where}: {name} {value!r}", "a whole number of pixels above 0")
        if name == "crop_fraction" and not (_is_finite(value) and 0 < value <= 1):
            raise BadInput(f"{where}: {name} {value!r}", "a number above 0, at most 1")
        triple = isinstance(value, list | tuple) and len(value) == 3 and all(map(_is_finite, value))
        if name in ("mean", "std") and not (triple and (name == "mean" or min(value) > 0)):
            least = ", each above 0" if name == "std" else ""
            raise BadInput(f"{where}: {name} {value!r}", f"three finite numbers, one a channel{least}")


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass(frozen=True)
class RunConfig:
    """How an artifact is run. Requested by the user; the values that took effect come back as `Session.applied`.

    Args:
        backend: registry word, "onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", "torch" or "null".
        device: "cpu", "gpu" or "gpu:K", in the engine's order; kept in lower case. A CPU has one spelling, by which
            what is certified is found.
        threads: intra-op threads of one lane; None divides the cores that may be used among the lanes.
        lanes: requests in flight; they share the engine's weights where it allows that.
        hint: "latency" or "throughput".
        execution_precision: "fp32", "fp16" or "bf16": in what the engine may compute float layers.
        graph_level: "all" or "none": the engine's graph optimization.
        cache: folder for what the engine compiles or optimizes of a model, or None.
        priority: "low", "normal" or "high" among what else wants the device.
        cpus: the only cores that it may compute on, in the kernel's numbers; None for all that the process may use.
    """

    backend: str
    device: str = "cpu"
    threads: int | None = None
    lanes: int = 1
    hint: str = "latency"
    execution_precision: str = "fp32"
    graph_level: str = "all"
    cache: str | None = None
    priority: str = "normal"
    cpus: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        allowed = {
            "hint": ("latency", "throughput"),
            "priority": ("low", "normal", "high"),
            "execution_precision": ("fp32", "fp16", "bf16"),
            "graph_level": ("all", "none"),
        }
        for name, words in allowed.items():
            if getattr(self, name) not in words:
                raise BadInput(f"{name} {getattr(self, name)!r}", f"one of {', '.join(words)}")
        object.__setattr__(self, "device", self.device.lower())
        if self.device.startswith("cpu") and self.device != "cpu":
            raise BadInput(f"device {self.device!r}", "cpu, gpu or gpu:K: a CPU has no index")
        if self.lanes < 1 or (self.threads is not None and self.threads < 1):
            raise BadInput(f"threads {self.threads}, lanes {self.lanes}", "at least 1 of each")
        if self.cpus is not None:
            object.__setattr__(self, "cpus", tuple(self.cpus))  # JSON has lists
            if not self.cpus or min(self.cpus) < 0 or len(set(self.cpus)) < len(self.cpus):
                raise BadInput(f"cpus {self.cpus}", "numbers of cores, each once, or None")

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return _without_later_defaults(dataclasses.asdict(self))


# Fields that came after the first artifacts, of RunConfig and of Preprocess, with their defaults.
_LATER = {"priority": "normal", "cpus": None, "fit": FITS[0], "rounding": ROUNDINGS[0]}


def _without_later_defaults(fields: dict[str, Any]) -> dict[str, Any]:
    """What came later is left out while it has its default, so that older digests hold."""
    return {name: value for name, value in fields.items() if name not in _LATER or value != _LATER[name]}


@dataclass(frozen=True)
class ModelFile:
    """One file of an artifact: its name in the folder, size and content hash."""

    name: str
    size_bytes: int
    sha256: str

    def __post_init__(self) -> None:
        if self.size_bytes < 0 or not re.fullmatch("[0-9a-f]{64}", self.sha256):  # it becomes a path in a box
            raise BadInput(f"file {self.name!r}: {self.size_bytes} bytes, sha256 {self.sha256!r}",
                           "0 or more bytes, 64 hexadecimal digits")  # fmt: skip


@dataclass(frozen=True)
class Producer:
    """Who made an artifact: the verb, versions of what made it, and options as applied."""

    verb: str
    versions: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """What an artifact is. Immutable: its hash is the artifact's digest.

    `files[0]` is the one that the engine opens. `scheme` names the int8 dialect (`artifact.scheme`), None for floats.
    `parent` is the digest of what it was made from: an artifact's, or a checkpoint file's sha256 for the first.
    `calibration` holds the first 16 hex digits of the pixel hash of each photo that calibrated it: such photos are
    never scored. `built_for` holds what a compiled engine is tied to (engine version, device, compute capabilities).
    """

    task: str
    format: str
    precision: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: tuple[ModelFile, ...]
    producer: Producer
    scheme: str | None = None
    labels: tuple[str, ...] = ()
    preprocess: Preprocess | None = None
    temperature: float = 1.0
    run: RunConfig | None = None
    built_for: Mapping[str, Any] = field(default_factory=dict)
    parent: str | None = None
    checkpoint: str | None = None
    calibration: tuple[str, ...] = ()
    version: int = MANIFEST_VERSION

    def __post_init__(self) -> None:
        if not (self.inputs and self.outputs):
            raise BadInput(f"{len(self.inputs)} inputs, {len(self.outputs)} outputs", "at least 1 of each")
        require_shown(self.labels, "labels")
        if not 0 < self.temperature <= sys.float_info.max:  # nor NaN
            raise BadInput(f"temperature {self.temperature}", "a finite number above 0")
        classes = self.outputs[0].shape[-1:]
        if self.task == "classification" and self.labels and classes not in ((None,), (len(self.labels),)):
            raise BadInput(f"{len(self.labels)} labels for outputs of shape {self.outputs[0].shape}", "one a class")

    def to_json(self) -> str:
        """Canonical text: sorted keys, so equal manifests have equal bytes."""
        later = {"run": self.run.plain() if self.run else None,
                 "preprocess": self.preprocess.plain() if self.preprocess else None}  # fmt: skip
        fields = {**dataclasses.asdict(self), **later}
        return json.dumps(fields, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    def digest(self) -> str:
        """sha256 of the canonical text."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def is_shown(word: str) -> bool:
    """False where it breaks lines or steers the terminal which shows it."""
    return _CONTROL.search(word) is None


def require_shown(words: Iterable[str], where: str) -> None:
    """Raises BadInput for words that break lines or steer the terminal which shows them."""
    for word in words:
        if not is_shown(word):
            raise BadInput(f"{where}: {word!r} holds a control character", "one line without tabs")


_WRITTEN = {"labels", "calibration", "preprocess", "run"}  # always, though they have defaults


def parse_manifest(text: str, where: str) -> Manifest:
    """Read a manifest's text.

    Raises:
        BadArtifact: not JSON, a newer version, or a field missing, unknown, or of a type or value that cannot be.
    """
    try:
        raw = parse_json(text)
        json.dumps(raw, ensure_ascii=False).encode()  # half a surrogate pair has no digest
        version = int(raw["version"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise BadArtifact(f"{where}: not a manifest ({error})", "a manifest.json written by tiffin") from error
    if version > MANIFEST_VERSION:
        raise BadArtifact(f"{where}: manifest version {version}", f"at most {MANIFEST_VERSION}", "upgrade tiffin")
    try:
        if missing := _WRITTEN - raw.keys():
            raise BadInput(f"no {', '.join(sorted(missing))}", "all fields")
        if not raw["files"]:
            raise BadInput("no files", "at least the one that the engine opens")
        read: Manifest = read_as_type(raw, Manifest, "manifest")
        return read
    except (TypeError, ValueError, BadInput) as error:
        raise BadArtifact(f"{where}: manifest field wrong ({error})", "a manifest.json written by tiffin") from error
