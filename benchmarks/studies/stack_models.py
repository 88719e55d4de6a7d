"""An artifact's network as other stacks read one: same weights, another door in, the same answer out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from PIL import Image

from tiffin.artifact import Artifact
from tiffin.benchmarks.studies.photo_to_label import without_prologue


def optimum_folder(artifact: Artifact, folder: Path, engine: str) -> Path:
    """For Optimum: transformers' two configurations, and a model from normalized floats `(N, 3, H, W)` to logits."""
    folder.mkdir()
    model = onnx.load(without_prologue(artifact, folder))
    (folder / "usual.onnx").unlink()
    _between(model, artifact, "pixel_values", [], [])
    onnx.save(model, folder / "model.onnx")
    if engine == "openvino":
        import openvino

        converted = openvino.convert_model(folder / "model.onnx")
        openvino.save_model(converted, folder / "openvino_model.xml", compress_to_fp16=False)
        (folder / "model.onnx").unlink()
    labels = dict(enumerate(artifact.manifest.labels))
    (folder / "config.json").write_text(json.dumps({"model_type": "resnet", "id2label": labels}))
    (folder / "preprocessor_config.json").write_text(json.dumps(_image_processor(artifact)))
    return folder


def _image_processor(artifact: Artifact) -> dict[str, Any]:
    """transformers' words for the artifact's preprocessing."""
    host = artifact.preprocess
    return {
        "image_processor_type": "BitImageProcessor", "do_convert_rgb": True,
        "do_resize": True, "size": {"shortest_edge": round(host.height / host.crop_fraction)},
        "resample": int(Image.Resampling[host.interpolation.upper()]),
        "do_center_crop": True, "crop_size": {"height": host.height, "width": host.width},
        "do_rescale": False, "do_normalize": True, "image_mean": list(host.mean), "image_std": list(host.std),
    }  # fmt: skip


def ultralytics_file(artifact: Artifact, folder: Path) -> Path:
    """For Ultralytics: from RGB in 0..1 to probabilities, and what its own exporter writes beside a network."""
    folder.mkdir()
    model, host = onnx.load(without_prologue(artifact, folder)), artifact.preprocess
    mean, std = (np.array(values, np.float32).reshape(1, 3, 1, 1) for values in (host.mean, host.std))
    parts = {"times": 255 / std, "plus": -mean / std, "cooler": np.float32(1 / artifact.manifest.temperature)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in parts.items())
    first = [("Mul", "times"), ("Add", "plus")]
    _between(model, artifact, "images", first, [("Mul", "cooler"), ("Softmax", "")])
    names = dict(enumerate(artifact.manifest.labels))
    about = {"task": "classify", "names": str(names), "imgsz": str([host.height, host.width]), "batch": "1",
             "stride": "1", "channels": "3"}  # fmt: skip
    helper.set_model_props(model, about)
    onnx.save(model, folder / "classify.onnx")
    return folder / "classify.onnx"


def _between(
    model: onnx.ModelProto, artifact: Artifact, name: str, before: list[tuple[str, str]], after: list[tuple[str, str]]
) -> None:
    """Name the input, and put operators, each with its constant, before and after the network."""
    graph, host = model.graph, artifact.preprocess
    start, end = graph.input[0].name, graph.output[0].name
    first, entered = _chain(before, name, "before")
    last, left = _chain(after, end, "after")
    for node in graph.node:
        node.input[:] = [entered if each == start else each for each in node.input]
    nodes = [*first, *graph.node, *last]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    kind, labels = onnx.TensorProto.FLOAT, len(artifact.manifest.labels)
    graph.input.append(helper.make_tensor_value_info(name, kind, ["batch", 3, host.height, host.width]))
    graph.output.append(helper.make_tensor_value_info(left, kind, ["batch", labels]))
    onnx.checker.check_model(model)


def _chain(operators: list[tuple[str, str]], value: str, prefix: str) -> tuple[list[onnx.NodeProto], str]:
    """Nodes one behind the other, and what the last one gives."""
    nodes = []
    for number, (operator, constant) in enumerate(operators):
        given = f"{prefix}_{number}"
        nodes.append(helper.make_node(operator, [each for each in (value, constant) if each], [given]))
        value = given
    return nodes, value
