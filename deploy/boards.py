"""Boards that a box is packed for: what runs there, what is right there, and what to type on them.

None of them is at hand where Tiffin is built: what is said here comes from the makers' documents, from PyPI's wheels,
and from the classes of CPU that docs/cpus.md measures. `UNVERIFIED` says so to whoever packs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .. import __version__
from ..artifact import Artifact
from ..artifact.bundle import Variant
from ..artifact.certificate import read_certificates
from ..artifact.cpu_class import CPU_CLASSES
from ..artifact.engine_stamp import read_stamp
from ..artifact.scheme import SCHEMES
from ..errors import BadInput, command
from ..runtime.certified import is_reference
from .engines import dialect_obstacle, obstacle

UNVERIFIED = "nothing of this ran on such a board: none is at hand; certificates say what was measured, and where"


@dataclass(frozen=True)
class Board:
    """One kind of board.

    Args:
        name: the word of `--board`.
        words: for people.
        architecture: as `platform.machine()` says it.
        python: the oldest that its usual system has.
        engines: backend words that run there, the preferred first; the first that reads an artifact runs it.
        built_there: backend words of `engines` whose engines are built on the board, from the ONNX model that travels.
        cpu_classes: classes of CPU (`artifact.cpu_class`) that such boards have.
        precisions: the order in which variants are tried where no times are known.
        emulated: the emulated CPU that stands for it when something is certified (`--cpu`).
        packages: engine → what pip installs for it, where that is not the extra of its name.
        before: what has to be done first, in one line, or empty.
    """

    name: str
    words: str
    architecture: str
    python: str
    engines: tuple[str, ...]
    built_there: tuple[str, ...]
    cpu_classes: tuple[str, ...]
    precisions: tuple[str, ...]
    emulated: str
    packages: Mapping[str, str] = field(default_factory=dict)
    before: str = ""

    @property
    def saturates(self) -> bool:
        """Some of these boards add u8 × s8 products into a saturating int16."""
        return any(CPU_CLASSES[name].saturates for name in self.cpu_classes)


_CPU_ORDER = ("int8", "fp32", "fp16", "bf16")  # half precision is no faster on most CPUs

BOARDS = {
    board.name: board
    for board in (
        Board(
            "raspberry-pi",
            "Raspberry Pi 4 or 5, 64-bit system",
            "aarch64",
            "3.11",  # Raspberry Pi OS 12
            ("onnxruntime", "openvino"),
            (),
            ("neon", "dotprod"),  # Cortex-A72, Cortex-A76
            _CPU_ORDER,
            "cortex-a76",
        ),
        Board(
            "jetson",
            "Jetson Orin with JetPack 6",
            "aarch64",
            "3.10",
            ("tensorrt", "onnxruntime"),
            ("tensorrt",),
            ("dotprod",),  # Cortex-A78AE
            ("int8", "fp16", "bf16", "fp32"),
            "cortex-a76",
            {"tensorrt": 'onnx "cuda-bindings<13"'},  # TensorRT 10.3 comes with JetPack, never from pip
            "python3 -m venv --system-site-packages .venv && . .venv/bin/activate",
        ),
        Board(
            "x86",
            "PC or kiosk with an x86-64 CPU",
            "x86_64",
            "3.10",
            ("openvino", "onnxruntime"),
            (),
            ("sse41", "avx2", "avx_vnni", "avx512", "vnni", "bf16", "amx"),
            _CPU_ORDER,
            "haswell",
        ),
    )
}


def board_named(name: str) -> Board:
    """Look a board up.

    Raises:
        BadInput: there is no such board.
    """
    if name not in BOARDS:
        raise BadInput(f"unknown board {name!r}", f"one of {', '.join(BOARDS)}", "see docs/ship.md")
    return BOARDS[name]


def engine_on(board: Board, artifact: Artifact) -> str | None:
    """The first of a board's engines that reads an artifact rightly; None if none does."""
    return next((engine for engine in board.engines if not _obstacle(board, artifact, engine)), None)


def _obstacle(board: Board, artifact: Artifact, engine: str) -> str:
    """As `engines.obstacle`; where the engine is built on the board, for the ONNX model that travels."""
    manifest = artifact.manifest
    if engine not in board.engines:
        return f"{engine} is no engine of it"
    if engine in board.built_there and manifest.format == "onnx":
        # An ONNX file in fp32 or in a half precision is TensorRT's as it is; int8 must be in its dialect.
        return f"{engine} has no fp8 there" if manifest.precision == "fp8" else dialect_obstacle(manifest, engine)
    return obstacle(manifest, engine)


@dataclass(frozen=True)
class Fitted:
    """Variants for a board, in its order, and what its owner should know."""

    variants: tuple[Variant, ...]
    warnings: tuple[str, ...]


def fit_to(board: Board, variants: Sequence[Variant], keep_order: bool) -> Fitted:
    """Check each variant against a board.

    Args:
        keep_order: as given (by measured times); else int8 of the board's engine first, fp32 last but for half floats.

    Raises:
        BadInput: one cannot run there, or would answer wrongly; the message says why and what to do.
    """
    for variant in variants:
        _require_runs(board, variant)
    _require_right(board, variants)
    ordered = tuple(variants) if keep_order else tuple(sorted(variants, key=lambda variant: _rank(board, variant)))
    known = any(is_reference(variant.artifact, variant.run) for variant in ordered)
    return Fitted(ordered, tuple(line for variant in ordered for line in _warnings(board, variant, known)))


def _rank(board: Board, variant: Variant) -> tuple[int, int]:
    precision, engine = variant.artifact.manifest.precision, variant.run.backend
    known = board.precisions
    return known.index(precision) if precision in known else len(known), board.engines.index(engine)


def _require_runs(board: Board, variant: Variant) -> None:
    """Raises BadInput for an engine that is not there, a foreign compiled engine, or another engine's dialect."""
    manifest = variant.artifact.manifest
    if manifest.format in ("tensorrt", "tensorrt_rtx") and (why := _foreign_engine(board, variant.artifact)):
        raise BadInput(f"{variant.name} for {board.words}: {why}", "the ONNX artifact that it was compiled from",
                       "pack that one; the engine is built on the board: `tiffin compile ARTIFACT --backend tensorrt`"
                       if board.built_there else "pack the ONNX artifact, or its IR")  # fmt: skip
    if why := _obstacle(board, variant.artifact, variant.run.backend):
        raise BadInput(f"{variant.name} for {board.words}: {why}",
                       f"an artifact that {' or '.join(board.engines)} runs", _fix(board, variant))  # fmt: skip


def _foreign_engine(board: Board, artifact: Artifact) -> str:
    """Why a compiled engine does not travel to a board, or an empty string."""
    if artifact.manifest.format not in board.engines:
        return f"{artifact.manifest.format} does not run there"
    stamp = read_stamp(artifact.manifest.built_for, str(artifact.folder))
    home = f"linux-{board.architecture}"
    return "" if stamp.platform == home else f"an engine built on {stamp.platform or 'another machine'}, not on it"


def _fix(board: Board, variant: Variant) -> str:
    if other := engine_on(board, variant.artifact):
        return f"pack {variant.artifact.folder}@{other}"
    scheme = next(name for name in SCHEMES if board.engines[0] in SCHEMES[name].engines)
    return f"make one: `tiffin quantize ARTIFACT --scheme {scheme}`"


def _require_right(board: Board, variants: Sequence[Variant]) -> None:
    """Raises BadInput where every variant is one that overflows on some of these boards."""
    if variants and all(_overflows(board, variant) for variant in variants):
        raise BadInput(
            f"{', '.join(variant.name for variant in variants)} for {board.words}: full-range weights answer wrongly "
            "where the CPU has no VNNI",
            "beside them a variant that is right everywhere",
            "add one: `tiffin quantize ARTIFACT --scheme cpu`",
        )


def _overflows(board: Board, variant: Variant) -> bool:
    scheme = SCHEMES.get(variant.artifact.manifest.scheme or "")
    return board.saturates and variant.run.device == "cpu" and scheme is not None and scheme.needs_vnni


def _warnings(board: Board, variant: Variant, has_reference: bool) -> list[str]:
    engine, said = variant.run.backend, []
    if board.built_there and engine not in board.built_there:
        gpu = board.built_there[0]
        said.append(f"{variant.name}: runs on the CPU there; for the GPU name FOLDER@{gpu}, int8 in scheme {gpu}")
    if _overflows(board, variant):
        said.append(f"{variant.name}: right only where the CPU has VNNI; elsewhere another variant is loaded")
    if engine == "openvino" and board.architecture == "aarch64" and variant.artifact.manifest.precision == "int8":
        said.append(f"{variant.name}: OpenVINO answers otherwise in int8 on ARM (docs/cpus.md); onnxruntime does not")
    if not is_reference(variant.artifact, variant.run) and not _certified(board, variant):
        instead = "fp32 is loaded instead of it" if has_reference else "it is refused without --allow-uncertified"
        certify = command("certify", f"{variant.artifact.folder}@{engine}", cpu=board.emulated)
        said.append(f"{variant.name}: certified on no CPU of such a board, so that there {instead}; "
                    f"certify it: `{certify}`")  # fmt: skip
    return said


def _certified(board: Board, variant: Variant) -> bool:
    return any(found.cpu_class in board.cpu_classes and found.backend == variant.run.backend and found.verdict == "PASS"
               for found in read_certificates(variant.artifact))  # fmt: skip


def commands(board: Board, variants: Sequence[Variant], box: Path) -> list[str]:
    """What to type on the board: install, then predict; where the engine is built there, that comes between."""
    lines = [board.before] if board.before else []
    lines.append(_install(board, list(dict.fromkeys(variant.run.backend for variant in variants))))
    first = variants[0]
    if first.run.backend not in board.built_there or first.artifact.manifest.format != "onnx":
        # Where nothing in it is known to be right there a box is refused: `_warnings` says so, and how to certify it.
        known = any(is_reference(each.artifact, each.run) or _certified(board, each) for each in variants)
        return [*lines, command("predict", box.name, "photo.jpg", allow_uncertified=not known)]
    return [
        *lines,
        command("unpack", box.name, out="."),
        command("compile", first.folder_name, backend=first.run.backend, out="engine"),
        command("predict", "engine", "photo.jpg"),
    ]


def wheel() -> str:
    """The file that `pip wheel` makes of this release: no index has it."""
    return f"tiffin-{__version__}-py3-none-any.whl"


def _install(board: Board, engines: Sequence[str]) -> str:
    extras = [*(engine for engine in engines if engine not in board.packages), "photos"]
    packages = [board.packages[engine] for engine in engines if engine in board.packages]
    return " ".join(["pip install", f'"./{wheel()}[{",".join(extras)}]"', *packages])
