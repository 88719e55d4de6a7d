"""`.keras`, `.h5`, a SavedModel's folder, `.tflite`: made into ONNX by TensorFlow, in an environment of its own.

TensorFlow wants other versions of numpy and protobuf than the engines. So `tensorflow_program.py` runs in the Python
that `$TIFFIN_TENSORFLOW_PYTHON` names, where the model may have been trained: it converts by tf2onnx, and answers for
parity.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ...artifact.files import sha256_file
from ...errors import BadInput, EngineMissing, command
from ..onnx_source import read_onnx
from .source import Source
from .told import Told

KIND = "TensorFlow"
PYTHON = "TIFFIN_TENSORFLOW_PYTHON"
_PROGRAM = Path(__file__).parents[1] / "tensorflow_program.py"
_NEEDED = ("tensorflow", "tf2onnx")
_BOTH = " and ".join(_NEEDED)
_LOST = "TensorFlow's model becomes ONNX: no .pt2, no torch backend and no training with it"
# It would fill the terminal with its start, and take a GPU's whole memory.
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "tensorflow"}
_MARK = "tiffin: "  # of the line in which the program says what went wrong


def claims(text: str) -> bool:
    """By its ending, or a folder with a saved_model.pb."""
    return text.endswith((".keras", ".h5", ".tflite")) or (Path(text) / "saved_model.pb").is_file()


def load(text: str, told: Told) -> Source:
    """Raises BadInput for what TensorFlow cannot convert, or `adopt` refuses; EngineMissing where there is none."""
    from ..adopt import Foreign, adopt

    path = Path(text)
    if not path.exists():
        raise BadInput(f"{text}: no such file", "a file of Keras or TensorFlow Lite, or a SavedModel's folder")
    python = _python(text)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.onnx"
        _run(python, ["convert", text, str(out)], text)
        if not out.exists():
            raise BadInput(f"{text}: {python} wrote no ONNX file", f"a Python that has {_BOTH}", f"set ${PYTHON}")
        model = read_onnx(out)

    def answers(images: np.ndarray, place: int) -> np.ndarray:
        with tempfile.TemporaryDirectory() as folder:
            given, found = Path(folder) / "images.npy", Path(folder) / "answers.npy"
            np.save(given, images)
            _run(python, ["answer", text, str(given), str(found), str(place)], text)
            return np.load(found)

    return adopt(Foreign(model, text, KIND, path.stem, _digest(path), answers, (_LOST,)), told)


def _python(text: str) -> str:
    """The interpreter that has TensorFlow: the one that is named, else this one."""
    if named := os.environ.get(PYTHON):
        return named
    if all(map(importlib.util.find_spec, _NEEDED)):
        return sys.executable
    raise EngineMissing(
        f"{text}: TensorFlow is not installed here, and shares no environment with the engines",
        f"${PYTHON}: a Python that has {_BOTH}",
        f"python -m venv tf && tf/bin/pip install {' '.join(_NEEDED)}, then "
        f"{PYTHON}=tf/bin/python {command('export', text)}",
    )


def _run(python: str, words: list[str], text: str) -> None:
    try:
        ended = subprocess.run([python, str(_PROGRAM), *words], capture_output=True, text=True, check=False,
                               env={**os.environ, **_QUIET})  # fmt: skip
    except OSError as error:
        raise BadInput(f"${PYTHON} is {python}, which cannot be started ({error.strerror})",
                       f"a Python that has {_BOTH}") from error  # fmt: skip
    if ended.returncode == 0:
        return
    said = [line.strip() for line in ended.stderr.splitlines() if line.strip()]
    marked = [line.removeprefix(_MARK) for line in said if line.startswith(_MARK)]
    reason = (marked or said or [f"exit {ended.returncode}"])[-1]
    if ended.returncode < 0:  # of a signal; what it had said before is no reason
        reason = f"killed by signal {-ended.returncode}: often too little memory"
    if reason.startswith("ModuleNotFoundError"):
        raise EngineMissing(f"{python}: {reason}", f"a Python that has {_BOTH}",
                            f"{python} -m pip install {' '.join(_NEEDED)}")  # fmt: skip
    fix = "save it as a SavedModel where its code is: model.export(FOLDER)"
    raise BadInput(f"{text}: TensorFlow cannot {words[0]} it ({reason})",
                   "one that TensorFlow loads by itself, with one input",
                   "" if Path(text).is_dir() else fix)  # fmt: skip


def _digest(path: Path) -> str:
    """sha256 of a file; of a folder, of all that is in it."""
    if path.is_file():
        return sha256_file(path)
    files = sorted(each for each in path.rglob("*") if each.is_file())
    parts = [f"{each.relative_to(path).as_posix()} {sha256_file(each)}" for each in files]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
