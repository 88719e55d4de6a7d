"""A network of keras.applications with drawn weights and ten classes, saved; run by the Python that has TensorFlow.

python benchmarks/studies/sources_keras.py NAME OUT.keras|OUT.h5|OUT.tflite|FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import keras

CLASSES = 10


def main() -> None:
    """By the ending of OUT; without one, a SavedModel."""
    name, out = sys.argv[1], Path(sys.argv[2])
    keras.utils.set_random_seed(0)
    network = getattr(keras.applications, name)(weights=None, classes=CLASSES)
    if out.suffix == ".tflite":
        import tensorflow as tf

        out.write_bytes(tf.lite.TFLiteConverter.from_keras_model(network).convert())
    elif out.suffix:
        network.save(out)
    else:
        network.export(out, verbose=False)


if __name__ == "__main__":
    main()
