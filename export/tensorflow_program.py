"""A model of Keras or TensorFlow → ONNX, or its answers, in a Python that has TensorFlow and tf2onnx, and no tiffin.

    python tensorflow_program.py convert MODEL OUT.onnx
    python tensorflow_program.py answer MODEL IMAGES.npy OUT.npy

`loaders/keras.py` runs this as a process. It is not beside it: a script's own folder is searched first, and
`import keras` would find that file. A Lambda layer of Keras, which is code, is refused (`safe_mode`).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

OPSET = 18  # the newest that tf2onnx writes
ROWS = 16


def program(path: Path) -> tuple:
    """A SavedModel's or Keras file's answer to images as a function, and the images that it takes as a TensorSpec."""
    if path.is_dir():
        loaded = tf.saved_model.load(str(path))
        served = loaded.signatures["serving_default"]
        served.loaded = loaded  # a signature does not keep its variables alive
        inputs = served.structured_input_signature[1]
        if len(inputs) != 1:
            raise ValueError(f"serving_default takes {', '.join(sorted(inputs))}, not one input")
        ((name, spec),) = inputs.items()
        return lambda images: list(served(**{name: images}).values()), spec
    import keras

    model = keras.saving.load_model(path, compile=False, safe_mode=True)
    if len(model.inputs) != 1:
        raise ValueError(f"it takes {len(model.inputs)} inputs, not one")
    given = model.inputs[0]
    return lambda images: model(images, training=False), tf.TensorSpec(given.shape, given.dtype)


def convert(path: Path, out: Path) -> None:
    """Write the ONNX file."""
    import tf2onnx

    if path.suffix == ".tflite":
        tf2onnx.convert.from_tflite(str(path), opset=OPSET, output_path=str(out))
        return
    function, spec = program(path)
    wanted = [tf.TensorSpec(spec.shape, spec.dtype, name="images")]
    tf2onnx.convert.from_function(tf.function(function), wanted, opset=OPSET, output_path=str(out))


def answer(path: Path, images: np.ndarray) -> np.ndarray:
    """Its first output for float images as it takes them."""
    if path.suffix == ".tflite":
        return np.concatenate([lite(path, image[None]) for image in images])
    function, _ = program(path)
    parts = (function(tf.constant(images[at : at + ROWS])) for at in range(0, len(images), ROWS))
    return np.concatenate([np.asarray(part[0] if isinstance(part, (list, tuple)) else part) for part in parts])


def lite(path: Path, image: np.ndarray) -> np.ndarray:
    """What TensorFlow Lite answers one image."""
    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


if __name__ == "__main__":
    job, model, *files = sys.argv[1:]
    if job == "convert":
        convert(Path(model), Path(files[0]))
    else:
        np.save(files[1], answer(Path(model), np.load(files[0])))
