"""`.keras`, `.h5` and SavedModel folders: refused with the two commands that make an ONNX file of them."""

from __future__ import annotations

import shlex
from pathlib import Path

from ...errors import BadInput
from .source import Source
from .told import Told

KIND = "Keras"


def claims(text: str) -> bool:
    """By its ending, or a folder with a saved_model.pb."""
    return text.endswith((".keras", ".h5", ".tflite")) or (Path(text) / "saved_model.pb").is_file()


def load(text: str, told: Told) -> Source:
    """Raises BadInput: TensorFlow has an environment of its own (docs/sources.md)."""
    path = shlex.quote(text)
    if text.endswith(".tflite"):
        convert = f"python -m tf2onnx.convert --tflite {path} --output model.onnx"
    elif text.endswith((".keras", ".h5")):
        convert = f"python -c \"import keras; keras.saving.load_model({text!r}).export('model.onnx', format='onnx')\""
    else:
        convert = f"python -m tf2onnx.convert --saved-model {path} --output model.onnx"
    raise BadInput(
        f"{text}: TensorFlow does not share an environment with tiffin",
        "an ONNX file of it",
        f"in another one: pip install keras tensorflow tf2onnx; {convert}; then here: `tiffin export model.onnx`",
    )
