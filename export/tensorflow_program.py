"""A model of Keras or TensorFlow → ONNX, or its answers, in a Python that has TensorFlow and tf2onnx, and no tiffin.

    python tensorflow_program.py convert MODEL OUT.onnx
    python tensorflow_program.py answer MODEL IMAGES.npy OUT.npy OUTPUT

`loaders/keras.py` runs this as a process. It is not beside it: a script's own folder is searched first, and
`import keras` would find that file. A Lambda layer of Keras, which is code, is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

OPSET = 18  # the newest that tf2onnx writes
ROWS = 16


def program(path: Path) -> tuple[Callable[[Any], list], Any]:
    """A SavedModel's or Keras file's outputs for images as a function, and the images that it takes as a TensorSpec."""
    if path.is_dir():
        loaded = tf.saved_model.load(str(path))
        served = loaded.signatures["serving_default"]
        served.loaded = loaded  # a signature does not keep its variables alive
        inputs = served.structured_input_signature[1]
        if len(inputs) != 1:
            raise ValueError(f"serving_default takes {len(inputs)} inputs ({', '.join(sorted(inputs))}), not one")
        ((name, spec),) = inputs.items()
        return lambda images: tf.nest.flatten(served(**{name: images})), spec
    import keras

    if path.suffix == ".h5":
        require_no_code(path)
    model = keras.saving.load_model(path, compile=False, safe_mode=True)
    if len(model.inputs) != 1:
        raise ValueError(f"it takes {len(model.inputs)} inputs, not one")
    given = model.inputs[0]
    return lambda images: tf.nest.flatten(model(images, training=False)), tf.TensorSpec(given.shape, given.dtype)


def require_no_code(path: Path) -> None:
    """Keras before 3.11.3 looks for no Lambda layer in an HDF5 file, whatever `safe_mode` says (CVE-2025-9905)."""
    import h5py

    with h5py.File(path) as file:
        config = file.attrs.get("model_config", "")
    if '"Lambda"' in (config.decode() if isinstance(config, bytes) else str(config)):
        raise ValueError("a Lambda layer, which is code")


def convert(path: Path, out: Path) -> None:
    """Write the ONNX file."""
    import tf2onnx

    if path.suffix == ".tflite":
        tf2onnx.convert.from_tflite(str(path), opset=OPSET, output_path=str(out))
        return
    function, spec = program(path)
    signature = tf.TensorSpec(spec.shape, spec.dtype, name="images")
    program_of = tf.function(function)
    traced = program_of.get_concrete_function(signature)
    if all(held.dtype == tf.resource for held in traced.captured_inputs) and not compiled(traced):
        model, _ = tf2onnx.convert.from_function(
            program_of, [signature], opset=OPSET, custom_op_handlers={"Erfc": (erfc, [])}
        )
    else:
        model = frozen(traced)
    odd = sorted({node.op_type for node in model.graph.node if not onnx.defs.has(node.op_type, node.domain)})
    if odd:
        raise ValueError(f"tf2onnx has no ONNX form for {', '.join(odd)}")
    onnx.save(model, out)


def compiled(traced: Any) -> bool:
    """True if XLA is to compile a part of it, as Keras has it for grouped convolutions on CPUs."""
    return any("_XlaMustCompile" in function.attr for function in traced.graph.as_graph_def().library.function)


def frozen(traced: Any) -> onnx.ModelProto:
    """By a frozen graph, which takes many times the weights' memory.

    tf2onnx's own `from_function` makes inputs of what Keras' Normalization holds, and leaves compiled parts out.
    """
    import tf2onnx

    made = convert_variables_to_constants_v2(traced, aggressive_inlining=True)
    definition = made.graph.as_graph_def()
    for held in (*definition.node, *definition.library.function):
        for word in ("_XlaMustCompile", "_noinline"):
            held.attr.pop(word, None)
    model, _ = tf2onnx.convert.from_graph_def(
        definition, input_names=[made.inputs[0].name], opset=OPSET,
        output_names=[output.name for output in made.outputs], custom_op_handlers={"Erfc": (erfc, [])},
    )  # fmt: skip
    return model


def erfc(graph: Any, node: Any, name: str, _: Any) -> None:
    """1 - erf(x), which tf2onnx lacks: Keras' exact GELU has it."""
    shape, dtype, output = graph.get_shape(node.output[0]), graph.get_dtype(node.output[0]), node.output[0]
    graph.remove_node(node.name)
    one = graph.make_const(f"{name}/one", np.ones((), np.float32))
    erf = graph.make_node("Erf", [node.input[0]])
    graph.make_node("Sub", [one.output[0], erf.output[0]], outputs=[output], name=name, shapes=[shape], dtypes=[dtype])


def answer(path: Path, images: np.ndarray, output: int) -> np.ndarray:
    """One of its outputs for float images as it takes them; of a fixed batch, the last one padded."""
    if path.suffix == ".tflite":
        return lite(path, images, output)
    function, spec = program(path)
    rows = spec.shape[0] or ROWS
    found = []
    for start in range(0, len(images), rows):
        part = images[start : start + rows]
        short = rows - len(part) if spec.shape[0] else 0
        fed = np.concatenate([part, part[-1:].repeat(short, axis=0)]) if short else part
        found.append(np.asarray(function(tf.constant(fed))[output])[: len(part)])
    return np.concatenate(found)


def lite(path: Path, images: np.ndarray, output: int) -> np.ndarray:
    """What TensorFlow Lite answers, one image at a time."""
    interpreter = tf.lite.Interpreter(str(path))
    interpreter.allocate_tensors()
    given, wanted = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[output]["index"]
    found = []
    for image in images:
        interpreter.set_tensor(given, image[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(wanted))
    return np.concatenate(found)


def main() -> None:
    """Do what the words say; what goes wrong is one line that begins with the script's mark."""
    job, model, *files = sys.argv[1:]
    try:
        if job == "convert":
            convert(Path(model), Path(files[0]))
        else:
            np.save(files[1], answer(Path(model), np.load(files[0]), int(files[2])))
    except Exception as error:  # TensorFlow's and Keras' own, of many lines
        first = (str(error).strip().splitlines() or [""])[0]
        sys.exit(f"tiffin: {type(error).__name__}: {first}")


if __name__ == "__main__":
    main()
