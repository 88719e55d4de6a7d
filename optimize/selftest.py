"""Everything of TensorRT that needs a GPU, run on this machine's: builds, parity, tests, latency → one record.

What cannot run is a row with its reason; `gpu_checks` judges the record.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import machine
from ..artifact import Artifact, RunConfig
from ..artifact.engine_stamp import LIBRARIES
from ..benchmarks.candidate import Candidate
from ..benchmarks.options import RoundOptions
from ..benchmarks.raw_execution import raw_comparison
from ..benchmarks.rounds import Measurement
from ..data import Dataset
from ..errors import EngineMissing, TiffinError
from ..records import Record
from ..runtime import backends
from ..runtime.backends._cuda import driver_problem
from .demo import Progress, score_all
from .gpu_checks import REFERENCE, counted
from .pipeline import Materials, Recipe, gather, parity_photos
from .stages import Make, Stages

_STAGES = {"fp32": "fp32", "fp16": "fp16", "bf16": "bf16", "int8": "int8", "int8 fp16": "int8-fp16", "fp8": "fp8"}
_TESTS = Path(__file__).resolve().parents[1] / "tests"


def require_gpu() -> list[str]:
    """The TensorRT libraries that can run here.

    Raises:
        EngineMissing: this machine has no GPU, or neither library.
    """
    problem = driver_problem()
    if problem:
        raise EngineMissing(
            f"nothing was tested: {problem}",
            "a machine with an NVIDIA GPU and its driver",
            "run it there; what needs no GPU is in the tests: `make test`",
        )
    libraries = [name for name in LIBRARIES if backends.probe(name).version]
    if not libraries:
        raise EngineMissing(
            "nothing was tested: neither TensorRT nor TensorRT-RTX is installed",
            "one of them",
            'pip install "tiffin[tensorrt]" or pip install "tiffin[tensorrt-rtx]"',
        )
    return libraries


def run_selftest(recipe: Recipe, rounds: RoundOptions, dataset: Dataset, progress: Progress) -> Record:
    """Build, test, time, score.

    Raises:
        EngineMissing: as `require_gpu` says.
    """
    libraries = require_gpu()
    environment = machine.environment()
    stages = Stages(recipe.out / "artifacts", progress.say)
    materials = _build(recipe, dataset, stages, libraries, progress)
    candidates = _candidates(stages, libraries)
    tested = _gpu_tests(progress.say)
    progress.say(f"timing: {len(candidates)} candidates")
    run = Measurement(candidates, rounds, progress.timing)
    run.run()
    progress.timed()
    subjects, answers = score_all(candidates, run.subjects(), materials.confirm, recipe, progress)
    bare = {row.name: _bare(row) for row in candidates if row.run and row.run.backend in libraries}
    data = {"name": dataset.name, "kind": dataset.kind, "role": "confirm", "count": len(materials.confirm),
            "calibration": len(materials.calibration)}  # fmt: skip
    options = {"photos": recipe.photos, "per_class": recipe.per_class, "seed": recipe.seed, **asdict(rounds),
               "gpu_tests": tested, "raw": bare}  # fmt: skip
    return Record("selftest", environment, subjects, options, data, run.rounds(), answers, created=machine.utc_now())


def _build(recipe: Recipe, dataset: Dataset, stages: Stages, libraries: list[str], progress: Progress) -> Materials:
    from ..export.from_source import export_source, program_of
    from ..export.to_tensorrt import to_tensorrt
    from ..quantize.calibration import CalibrationSet
    from ..quantize.options import PtqOptions
    from ..quantize.quantize import quantize_fp8, quantize_half, quantize_int8

    source = recipe.source
    materials = gather(recipe, dataset, progress.say)
    calibration = CalibrationSet.of(materials.calibration, dataset.name)
    held = materials.held_out
    fitted = {"held_out": held.digest()}
    photos = {"photos": materials.calibration.digest(), **fitted}

    def of_fp32(make: Callable[..., Artifact], *options: Any) -> Make:
        return lambda out: make(stages.artifacts["fp32"], *options, out, held_out=held)

    stages.needed("fp32", source.key, fitted, lambda out: export_source(source, out, parity_photos(materials), held)[0])
    stages.first("torch-fp32", source.key, fitted, lambda out: program_of(source, out, held))
    for half in ("fp16", "bf16"):
        stages.then(half, "fp32", {"precision": half, **fitted}, of_fp32(quantize_half, half))
    plain, mixed = PtqOptions("tensorrt"), PtqOptions("tensorrt", floats="fp16")
    stages.then("int8", "fp32", photos, of_fp32(quantize_int8, plain, calibration))
    stages.then("int8-fp16", "fp32", photos, of_fp32(quantize_int8, mixed, calibration))
    stages.then("fp8", "fp32", photos, of_fp32(quantize_fp8, plain, calibration))
    gpu = machine.environment().get("gpu")
    for library in libraries:
        for stage in _STAGES.values():
            make = _compiled(stages, to_tensorrt, stage, library)
            stages.then(f"{library}-{stage}", stage, {"gpu": gpu, "version": backends.probe(library).version}, make)
    return materials


def _compiled(stages: Stages, to_tensorrt: Callable[..., Artifact], stage: str, library: str) -> Make:
    return lambda out: to_tensorrt(stages.artifacts[stage], out, library)


def _candidates(stages: Stages, libraries: list[str]) -> list[Candidate]:
    """The reference on the CPU, other engines on the GPU, every TensorRT engine."""
    others = (("onnxruntime", "fp32", "fp32"), ("onnxruntime", "fp16", "fp16"), ("torch", "torch-fp32", "fp32"))
    rows = [_row(stages, REFERENCE, "fp32", RunConfig("onnxruntime"))]
    rows += [
        _row(stages, f"{backend} {words} gpu", stage, RunConfig(backend, "gpu")) for backend, stage, words in others
    ]
    for library in libraries:
        rows += [_row(stages, f"{library} {words}", f"{library}-{stage}", RunConfig(library, "gpu"))
                 for words, stage in _STAGES.items()]  # fmt: skip
    return rows


def _row(stages: Stages, name: str, stage: str, run: RunConfig) -> Candidate:
    probe = backends.probe(run.backend)
    if stage not in stages.artifacts:
        return Candidate(name, reason=stages.reasons[stage])
    if run.device not in probe.devices:
        return Candidate(name, reason=probe.reason or f"this build of {run.backend} does not run on a {run.device}")
    return Candidate(name, stages.artifacts[stage], run)


def _bare(row: Candidate) -> dict[str, Any]:
    """Medians of blocks of our runtime and of a bare loop, or why there are none."""
    assert row.artifact is not None and row.run is not None
    try:
        return dict(raw_comparison(row.artifact, row.run))
    except TiffinError as error:
        return {"reason": error.what}


def _gpu_tests(say: Callable[[str], None]) -> dict[str, Any]:
    """The tests marked `gpu`, where the tests are: counts, or why they did not run."""
    if not (_TESTS / "conftest.py").is_file():
        return {"reason": "the tests are not in this installation; they are in the repository"}
    if find_spec("pytest") is None:
        return {"reason": "pytest is not installed"}
    say("running the tests that need a GPU")
    command = [sys.executable, "-m", "pytest", str(_TESTS), "-m", "gpu and not slow", "-q", "-rfs"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return {**counted(ended.stdout), "exit_code": ended.returncode, "words": ended.stdout[-2000:]}
