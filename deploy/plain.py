"""A model for people without Tiffin or Python: the engine's file, the rule of preprocessing, and a program in C++."""

from __future__ import annotations

import json
import shutil
from importlib import resources
from pathlib import Path
from string import Template

from ..artifact import Artifact, RunConfig
from ..errors import BadInput
from .beside import files_beside
from .engines import CPU_ENGINES, obstacle
from .folder import described_folder

_FORMATS = ("onnx", "openvino", "tensorrt", "tensorrt_rtx")
_OV_TYPES = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}


def write_plain(artifact: Artifact, out: Path, run: RunConfig | None = None) -> tuple[str, ...]:
    """Write the folder, whole or not at all.

    Args:
        run: how it is run; what computes float layers is written into OpenVINO's program.

    Returns:
        Names of the engines that a program was written for; none for TensorRT's engines.

    Raises:
        BadInput: no classifier of photos, a format that no library but Tiffin's opens, or `out` holds something else.
    """
    manifest = artifact.manifest
    if manifest.format not in _FORMATS:
        raise BadInput(f"{artifact.folder}: format {manifest.format} has no plain file", " or ".join(_FORMATS))
    beside, programs = files_beside(artifact), cpp_programs(artifact)
    with described_folder(out) as draft:
        for file in manifest.files:
            shutil.copyfile(artifact.folder / file.name, draft / file.name)
        for name, content in beside.items():
            (draft / name).write_bytes(content)
        if programs:
            _write_cpp(artifact, run or manifest.run or RunConfig("openvino"), programs, draft / "cpp")
        (draft / "README.txt").write_text(_readme(artifact, programs), encoding="utf-8")
    return programs


def cpp_programs(artifact: Artifact) -> tuple[str, ...]:
    """Engines that read the artifact rightly from C++ with one photo at a time."""
    manifest = artifact.manifest
    fits = manifest.inputs[0].shape[0] in (None, 1) and manifest.inputs[0].dtype == "uint8"
    fits = fits and manifest.outputs[0].dtype == "float32"
    return tuple(engine for engine in CPU_ENGINES if fits and not obstacle(manifest, engine))


def _write_cpp(artifact: Artifact, run: RunConfig, programs: tuple[str, ...], folder: Path) -> None:
    folder.mkdir()
    for name in ("CMakeLists.txt", "photo.hpp", *(f"{engine}.cpp" for engine in programs)):
        (folder / name).write_text(_template(name), encoding="utf-8")
    manifest = artifact.manifest
    constants = {
        "file": json.dumps(manifest.files[0].name),
        "input": json.dumps(manifest.inputs[0].name),
        "output": json.dumps(manifest.outputs[0].name),
        "height": artifact.preprocess.height,
        "width": artifact.preprocess.width,
        "temperature": repr(float(manifest.temperature)),
        "ov_type": _OV_TYPES[run.execution_precision],
    }
    (folder / "model.hpp").write_text(Template(_template("model.hpp")).substitute(constants), encoding="utf-8")


def _readme(artifact: Artifact, programs: tuple[str, ...]) -> str:
    names = ", ".join(file.name for file in artifact.manifest.files)
    model = f"{names}: {artifact.manifest.precision}, {artifact.manifest.format}"
    cpp = Template(_template("README-cpp.txt")).substitute(example=programs[0]) if programs else _NO_CPP
    return Template(_template("README.txt")).substitute(model=model, digest=artifact.digest, cpp=cpp)


_NO_CPP = "There is no C++ program in this folder: trtexec, of TensorRT, loads the engine and times it.\n"


def _template(name: str) -> str:
    return resources.files(__package__).joinpath("templates", name).read_text(encoding="utf-8")
