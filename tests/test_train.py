"""train/: checkpoints on disk, and what is refused; training of quantized graphs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from safetensors.torch import load_file, save_file

import tiffin
from tiffin.artifact import Artifact, Preprocess, RunConfig
from tiffin.artifact.claims import read_claim
from tiffin.cli import training as training_command
from tiffin.data import Photo, open_dataset
from tiffin.data.prepared import PreparedPhotos, prepare_photos
from tiffin.data.splits import hold_out_runs
from tiffin.errors import BadDataset, BadInput, Overlap, ParityFailed
from tiffin.export.graph import torch_ops
from tiffin.export.graph.dialect import check_for_tensorrt, read_dialect
from tiffin.export.graph.fake_quant import grid_of
from tiffin.export.graph.to_torch import TorchGraph
from tiffin.export.graph.torch_ops import operator_of
from tiffin.export.parity import torch_logits
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.qat import QAT_OPTIONS, quantize_qat
from tiffin.quantize.quantize import quantize_int8
from tiffin.report.charts.training import confusion_matrix, learning_curves
from tiffin.runtime.preprocess import with_golden
from tiffin.tests.command import Run
from tiffin.train import DEFAULT_CHECKPOINT, Checkpoint, augment, load_checkpoint
from tiffin.train import run as training_run
from tiffin.train.augment import Augmentation, Batch, batches, drawn_order
from tiffin.train.average import mean_of
from tiffin.train.checkpoint import rounded, save_checkpoint
from tiffin.train.colour import change_colour
from tiffin.train.distill import distill, training_photos
from tiffin.train.fit import Epoch, FitOptions, FitStatus, Student, fit, kept_epoch
from tiffin.train.initial import Start, start
from tiffin.train.loss import imitation, inverse_frequency, loss_of
from tiffin.train.modes import Watch
from tiffin.train.network import ARCHITECTURES, build_network
from tiffin.train.recipes import DEFAULT, FEATURES, applied, changed
from tiffin.train.record import trained_with
from tiffin.train.schedule import groups, rate, stages_of
from tiffin.train.score import logits_of
from tiffin.train.train import Trained, split_train, train
from tiffin.train.views import draw_chances


@pytest.fixture
def copy(checkpoint_file: Path, tmp_path: Path) -> Path:
    """A checkpoint of this test alone, whose JSON does not tell its weights' sha256."""
    path = tmp_path / "mine.safetensors"
    shutil.copy(checkpoint_file, path)
    meta = json.loads(checkpoint_file.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({key: meta[key] for key in meta if key != "sha256"}))
    return path


def rewrite_meta(path: Path, **changed: object) -> None:
    meta = path.with_suffix(".json")
    meta.write_text(json.dumps({**json.loads(meta.read_text()), **changed}))


def rewrite_weights(path: Path, change) -> None:
    state = load_file(path)
    change(state)
    save_file(state, path)


def test_the_shipped_checkpoint_is_the_one_that_its_json_describes() -> None:
    meta = json.loads(DEFAULT_CHECKPOINT.with_suffix(".json").read_text())
    shipped = load_checkpoint()
    assert shipped.sha256 == hashlib.sha256(DEFAULT_CHECKPOINT.read_bytes()).hexdigest() == meta["sha256"]
    assert (shipped.architecture, shipped.labels) == (meta["architecture"], tuple(meta["labels"]))
    assert len(shipped.labels) == len(set(shipped.labels)) == 81
    host = shipped.preprocess
    assert not shipped.module.training
    assert shipped.module(torch.zeros(1, 3, host.height, host.width)).shape == (1, 81)


def test_the_round_trip(checkpoint: Checkpoint, tmp_path: Path) -> None:
    again = load_checkpoint(save_checkpoint(tmp_path / "folder/again.safetensors", checkpoint))
    assert (again.labels, again.preprocess) == (checkpoint.labels, checkpoint.preprocess)
    assert again.sha256 == checkpoint.sha256
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(again.module(images), checkpoint.module(images))


def test_half_weights_are_widened(copy: Path, checkpoint: Checkpoint) -> None:
    rewrite_weights(copy, lambda state: state.update({k: v.half() for k, v in state.items() if v.is_floating_point()}))
    loaded = load_checkpoint(copy)
    assert {value.dtype for value in loaded.module.parameters()} == {torch.float32}
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(loaded.module(images), checkpoint.module(images), rtol=0.02, atol=0.02)


def test_weights_that_are_not_those_of_the_json_are_refused(copy: Path, checkpoint: Checkpoint) -> None:
    rewrite_meta(copy, sha256=checkpoint.sha256)
    assert load_checkpoint(copy).sha256 == checkpoint.sha256
    rewrite_weights(copy, lambda state: state["head.bias"].add_(1))
    with pytest.raises(BadInput, match="its bytes changed"):
        load_checkpoint(copy)


@pytest.mark.parametrize("architecture", ["efficientnet_lite0", "tinynet"])  # all of them: test_zoo.py
def test_an_architecture_gives_a_logit_a_class(architecture: str) -> None:
    network = build_network(architecture, 7).eval()
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, 64, 64)).shape == (2, 7)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.unlink(), "no such checkpoint"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cannot be read"),
        (lambda path: path.write_bytes(b"\x80pickle" * 50), "cannot be read"),
        (lambda path: path.with_suffix(".json").unlink(), "missing"),
        (lambda path: path.with_suffix(".json").write_text("{"), "not JSON"),
        (lambda path: path.with_suffix(".json").write_text("[]"), "no JSON object"),
        (lambda path: path.with_suffix(".json").write_text("7"), "no JSON object"),
        (lambda path: path.with_suffix(".json").write_bytes(b"\xff\xfe\x00"), "not JSON"),
        (lambda path: path.with_suffix(".json").write_text('{"labels": ["a"]}'), "lacks architecture, preprocess"),
        (lambda path: rewrite_meta(path, architecture="resnet"), "unknown architecture 'resnet'"),
        (lambda path: rewrite_meta(path, labels=["apple", "leek"]), "another shape.*head"),
        (lambda path: rewrite_meta(path, labels=7), "labels"),
        (lambda path: rewrite_meta(path, labels="soup"), "labels"),
        (lambda path: rewrite_meta(path, labels=[1, 2, 3, 4]), "labels"),
        (lambda path: rewrite_meta(path, preprocess={"height": 32}), "preprocess"),
        (lambda path: rewrite_meta(path, preprocess=3), "preprocess"),
        (
            lambda path: rewrite_meta(path, preprocess={"height": 8, "width": 8, "mean": [0, 0, 0], "std": [0, 1, 1]}),
            r"\.json: preprocess: std \(0, 1, 1\)",
        ),
        (lambda path: rewrite_meta(path, architecture=["tinynet"]), r"\.json: architecture \['tinynet'\]"),
        (lambda path: rewrite_meta(path, sha256=3), r"\.json: sha256 3"),
        (lambda path: rewrite_weights(path, lambda state: state.pop("head.bias")), "missing or extra.*head.bias"),
        (lambda path: rewrite_weights(path, lambda s: s.update(more=torch.zeros(1))), "missing or extra.*more"),
        (lambda path: rewrite_weights(path, lambda s: s["head.bias"].fill_(float("nan"))), "NaN"),
    ],
)
def test_a_broken_checkpoint_is_named(copy: Path, change, said: str) -> None:
    change(copy)
    with pytest.raises(BadInput, match=said):
        load_checkpoint(copy)


def answers(artifact: Artifact, photos: np.ndarray, backend: str = "onnxruntime", **run: str) -> np.ndarray:
    with tiffin.load(artifact, RunConfig(backend, **run)) as session:
        return session.run({"photos": photos})["logits"]


def simulated(graph: TorchGraph, host: Preprocess, photos: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return Student(graph, host).logits(torch.tensor(photos).permute(0, 3, 1, 2).float()).numpy()


def divergence(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean KL divergence of softmax(found) from softmax(wanted), nats a photo."""
    logs = [torch.tensor(logits).double().log_softmax(1) for logits in (found, wanted)]
    return torch.nn.functional.kl_div(*logs, reduction="batchmean", log_target=True).item()


def calibration_of(photos: np.ndarray) -> CalibrationSet:
    return CalibrationSet(photos[:24], "drawn", tuple(f"{index:064x}" for index in range(24)))


@pytest.fixture(scope="module")
def training(photo_folder: Path, checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> PreparedPhotos:
    role = open_dataset(photo_folder).role("train")
    return training_photos(role, checkpoint.preprocess, tmp_path_factory.mktemp("training"), "photos")


QAT = dataclasses.replace(QAT_OPTIONS, epochs=8, batch=8, learning_rate=1e-3)
STARTS = {
    "cpu": PtqOptions("cpu", "nncf", compensate=False),
    "cpu-mixed": PtqOptions("cpu", "nncf", preset="mixed", compensate=False),
    "cpu-ort": PtqOptions("cpu", "ort"),
    "cpu-u8": PtqOptions("cpu-u8"),
    "cpu-vnni": PtqOptions("cpu-vnni", "nncf"),
    "tensorrt": PtqOptions("tensorrt", compensate=False),
}


@pytest.fixture(scope="module")
def started(
    onnx_artifact: Artifact, photos: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("ptq")
    return {
        name: quantize_int8(onnx_artifact, start, calibration_of(photos), folder / name)
        for name, start in STARTS.items()
    }


@pytest.fixture(scope="module")
def trained(
    onnx_artifact: Artifact, photos: np.ndarray, training: PreparedPhotos, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("qat")
    return {
        name: quantize_qat(onnx_artifact, STARTS[name], calibration_of(photos), training, QAT, folder / name)
        for name in ("cpu", "tensorrt")
    }


LABELS = ("apple", "leek", "milk", "pear")
SMALL, PAIR = np.linspace(-4, 5, 2 * 3 * 6 * 5).reshape(2, 3, 6, 5), np.linspace(-2, 3, 24).reshape(4, 6)
KERNEL = np.linspace(-1, 1, 6 * 3 * 3 * 3).reshape(6, 3, 3, 3)


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes"),
    [
        ("Add", [SMALL, SMALL[:1]], {}),
        ("AveragePool", [SMALL], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("AveragePool", [SMALL], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 1, 1]}),
        ("AveragePool", [SMALL], {"kernel_shape": [2, 2], "pads": [0, 0, 1, 1], "count_include_pad": 1}),
        ("Clip", [SMALL, np.float32(0), np.float32(3)], {}),
        ("Clip", [SMALL, None, np.float32(3)], {}),
        ("Concat", [SMALL, SMALL[:, :1]], {"axis": 1}),
        ("Conv", [SMALL, KERNEL, KERNEL[:, 0, 0, 0]], {"strides": [2, 2], "pads": [0, 0, 1, 1]}),
        ("Conv", [SMALL, KERNEL[:3, :1]], {"group": 3, "pads": [2, 2, 2, 2], "dilations": [2, 2]}),
        ("Div", [SMALL, np.float32(3)], {}),
        ("Flatten", [SMALL], {}),
        ("Gemm", [PAIR, PAIR, PAIR[:, 0]], {"transB": 1, "alpha": 0.5, "beta": 2.0}),
        ("Gemm", [PAIR, PAIR], {"transA": 1}),
        ("GlobalAveragePool", [SMALL], {}),
        ("HardSigmoid", [SMALL], {"alpha": 1 / 6}),
        ("HardSwish", [SMALL], {}),
        ("Identity", [SMALL], {}),
        ("MatMul", [PAIR, PAIR.T], {}),
        ("MaxPool", [SMALL], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ("MaxPool", [-np.abs(SMALL)], {"kernel_shape": [2, 2], "strides": [2, 2], "pads": [0, 0, 0, 1]}),
        ("Mul", [SMALL, SMALL[..., :1]], {}),
        ("ReduceMean", [SMALL, np.array([2, 3])], {"keepdims": 0}),
        ("ReduceMean", [SMALL], {}),
        ("Relu", [SMALL], {}),
        ("Reshape", [SMALL, np.array([0, -1])], {}),
        ("Sigmoid", [SMALL], {}),
        ("Squeeze", [SMALL[:, :1], np.array([1])], {}),
        ("Squeeze", [SMALL[:1, :1]], {}),
        ("Sub", [SMALL, SMALL[:1]], {}),
        ("Transpose", [SMALL], {"perm": [0, 2, 3, 1]}),
        ("Transpose", [PAIR], {}),
        ("Unsqueeze", [PAIR, np.array([0, 3])], {}),
        ("Unsqueeze", [PAIR, np.array([-1, -2])], {}),
        ("Unsqueeze", [PAIR, np.array([-1, 0])], {}),
    ],
)
def test_an_operator_computes_in_torch_what_onnx_defines(kind: str, inputs: list, attributes: dict) -> None:
    arrays = [value if value is None or value.dtype == np.int64 else value.astype(np.float32) for value in inputs]
    names = ["" if value is None else f"input{place}" for place, value in enumerate(arrays)]
    node = helper.make_node(kind, names, ["found"], "node", **attributes)
    types = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
             for name, value in zip(names, arrays, strict=True) if name]  # fmt: skip
    graph = helper.make_graph([node], "one", types, [helper.make_tensor_value_info("found", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    feeds = {name: value for name, value in zip(names, arrays, strict=True) if name}
    (wanted,) = ReferenceEvaluator(model).run(None, feeds)
    found = operator_of(node)(*(None if value is None else torch.tensor(value) for value in arrays))
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (helper.make_node("Softmax", ["a"], ["b"], "node"), "Softmax cannot be trained"),
        (helper.make_node("Conv", ["a", "b"], ["c"], "node", auto_pad="SAME_UPPER"), "padding SAME_UPPER"),
        (
            helper.make_node("AveragePool", ["a"], ["b"], "node", kernel_shape=[3, 3], dilations=[2, 2]),
            r"AveragePool with dilations \[2, 2\]",
        ),
    ],
)
def test_an_operator_that_cannot_be_trained_is_named(node, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        operator_of(node)


@pytest.mark.parametrize("zeros", [np.zeros(3, np.uint8), np.array([0, 100, 255], np.uint8)])
def test_rounding_is_torchs_own_forwards_and_backwards(zeros: np.ndarray) -> None:
    scale = np.array([0.02, 0.031, 0.007], np.float32)
    values = torch.randn(4, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 3
    first, second = (values.clone().requires_grad_() for _ in range(2))
    found = grid_of(scale, zeros, 1, 4, (0, 255))(first)
    wanted = torch.fake_quantize_per_channel_affine(
        second, torch.tensor(scale), torch.tensor(zeros.astype(np.int32)), 1, 0, 255
    )
    torch.testing.assert_close(found, wanted)
    for result in (found, wanted):
        result.square().sum().backward()
    assert 0 < (first.grad == 0).float().mean() < 0.9  # what is clipped hands nothing on
    different = (first.grad - second.grad).abs() > 1e-4
    assert different.float().mean() < 0.005  # their clips end 0.01 of a step apart


@pytest.mark.parametrize("name", STARTS)
def test_a_quantized_graph_answers_in_torch_as_it_does_unfused(started, onnx_artifact, photos, name: str) -> None:
    artifact = started[name]
    model, parent = (onnx.load(it.model_path) for it in (artifact, onnx_artifact))
    graph = TorchGraph(model, parent)
    found = simulated(graph, artifact.manifest.preprocess, photos)
    wanted = answers(artifact, photos, graph_level="none")
    np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())
    assert np.abs(found - answers(onnx_artifact, photos)).max() > 1e-3 * np.abs(wanted).max()


@pytest.mark.parametrize("name", STARTS)
def test_an_untrained_graph_is_written_as_it_was_read(started, onnx_artifact, name: str) -> None:
    model, parent = (onnx.load(it.model_path) for it in (started[name], onnx_artifact))
    graph = TorchGraph(model, parent)
    before, after = (of.graph.initializer for of in (model, graph.write(model)))
    for old, new in zip(before, after, strict=True):
        was, now = numpy_helper.to_array(old), numpy_helper.to_array(new)
        assert (was.dtype, was.shape) == (now.dtype, now.shape)
        np.testing.assert_allclose(now, was, rtol=1e-6, atol=0, err_msg=old.name)  # int32 has more digits than float32
    gaps = [(kept.value - kept()).abs().max().item() for kept in graph.rounded.values() if kept.value.ndim > 1]
    assert gaps and min(gaps) > 0  # weights start between their integers, where the float graph has them


def test_the_float_graph_is_the_checkpoint(onnx_artifact, checkpoint: Checkpoint, photos: np.ndarray) -> None:
    graph = TorchGraph(onnx.load(onnx_artifact.model_path))
    found = simulated(graph, checkpoint.preprocess, photos)
    np.testing.assert_allclose(found, torch_logits(checkpoint, photos), atol=1e-4 * np.abs(found).max())


def test_a_graph_without_the_prologue_cannot_be_trained(onnx_artifact) -> None:
    model = onnx.load(onnx_artifact.model_path)
    for node in model.graph.node:
        node.name = f"other/{node.name}"
    with pytest.raises(BadInput, match="does not begin with tiffin's preprocessing"):
        TorchGraph(model)


@pytest.mark.parametrize("name", ["cpu", "tensorrt"])
def test_training_brings_an_int8_model_nearer_to_fp32(started, trained, onnx_artifact, photos, name: str) -> None:
    wanted = answers(onnx_artifact, photos)
    before, after = (divergence(answers(it[name], photos, graph_level="none"), wanted) for it in (started, trained))
    assert after < 0.9 * before


@pytest.mark.parametrize("name", ["cpu", "tensorrt"])
def test_training_keeps_graph_and_dialect(started, trained, name: str) -> None:
    before, after = (onnx.load(it[name].model_path) for it in (started, trained))
    assert list(after.graph.node) == list(before.graph.node)
    assert read_dialect(after) == read_dialect(before)
    changed = [old.name for old, new in zip(before.graph.initializer, after.graph.initializer, strict=True)
               if old.raw_data != new.raw_data]  # fmt: skip
    assert changed and not [part for part in changed if "scale" in part or "zero_point" in part]
    if name == "tensorrt":
        check_for_tensorrt(after, "what was trained")
    else:  # dense weights; depthwise ones cannot overflow
        dense = [numpy_helper.to_array(it) for it in after.graph.initializer if it.data_type == TensorProto.INT8]
        assert max(np.abs(it.astype(int)).max() for it in dense if it.ndim > 1 and it.shape[1] > 1) <= 64


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_engines_answer_as_the_trained_simulation(trained, onnx_artifact, photos, backend: str) -> None:
    artifact = trained["cpu"]
    graph = TorchGraph(onnx.load(artifact.model_path))
    wanted = simulated(graph, artifact.manifest.preprocess, photos)
    found = answers(artifact, photos, backend)
    np.testing.assert_allclose(found, wanted, atol=0.02 * np.abs(wanted).max())
    assert (found.argmax(1) == wanted.argmax(1)).mean() >= 0.98
    for count in (1, 5):  # a dynamic batch
        np.testing.assert_allclose(answers(artifact, photos[:count], backend), found[:count], atol=1e-3)


def test_the_manifest_tells_the_training(trained, started, training: PreparedPhotos, photos: np.ndarray) -> None:
    manifest, start = trained["cpu"].manifest, started["cpu"].manifest
    options = manifest.producer.options
    assert {name: options[name] for name in start.producer.options} == dict(start.producer.options)
    assert options["method"] == "qat" and options["fit"] == dataclasses.asdict(QAT)
    assert (options["training_photos"], options["training_photos_seen"]) == (48, 8 * 48)
    assert options["training_photos_sha256"] == training.digest()
    assert set(manifest.calibration) == {*start.calibration, *(digest[:16] for digest in training.hashes)}
    assert (manifest.parent, manifest.scheme, manifest.precision) == (start.parent, "cpu", "int8")
    history = read_claim(trained["cpu"], "training")["history"]
    assert [epoch["epoch"] for epoch in history] == list(range(1, 9))
    assert history[-1]["loss"] < history[0]["loss"]
    assert read_claim(trained["cpu"], "parity")["max_relative"] < 0.02


def test_interrupted_training_goes_on_and_ends_the_same(
    trained, onnx_artifact, training: PreparedPhotos, photos: np.ndarray, tmp_path: Path
) -> None:
    class Stop(Exception):
        pass

    def stop(status: FitStatus) -> None:
        seen.append(status.epoch)
        if status.epoch == 5:
            raise Stop

    seen: list[int] = []
    given = onnx_artifact, STARTS["cpu"], calibration_of(photos), training, QAT, tmp_path / "int8"
    with pytest.raises(Stop):
        quantize_qat(*given, progress=stop)
    assert not (tmp_path / "int8").exists() and len(list(tmp_path.glob("*.state"))) == 1
    again = quantize_qat(*given, progress=lambda status: seen.append(status.epoch))
    assert seen.index(6) > 0 and 1 not in seen[seen.index(5) + 1 :]
    assert not list(tmp_path.glob("*.state"))
    assert again.manifest.files == trained["cpu"].manifest.files


def test_a_misread_graph_is_not_trained(onnx_artifact, training, photos, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(torch_ops._OPERATORS, "Relu", lambda a, values: values)
    monkeypatch.setitem(torch_ops._OPERATORS, "Clip", lambda a, values, low, high: values)
    with pytest.raises(ParityFailed, match="differ from torch"):
        quantize_qat(onnx_artifact, STARTS["cpu"], calibration_of(photos), training, QAT, tmp_path / "int8")
    assert list(tmp_path.iterdir()) == []


# Fitting


QUICK = FitOptions(epochs=3, batch=8, learning_rate=5e-3, average=0.9, augmentation=Augmentation(min_area=0.6))


def student_of(checkpoint: Checkpoint, size: int = 32) -> Student:
    host = dataclasses.replace(checkpoint.preprocess, height=size, width=size, golden={})
    return Student(deepcopy(checkpoint.module), host)


def weights_of(student: Student) -> np.ndarray:
    return torch.cat([value.flatten().float() for value in student.module.state_dict().values()]).numpy()


PLAIN = Augmentation(min_area=1.0, ratio=1.0, flip=0.0, colour=0.0, mixup=0.0)


def apart(student: Student, teacher: Student, training: PreparedPhotos) -> float:
    """Divergence of the student's answers from its teacher's on whole photos."""
    sizes = [(each.host.height, each.host.width) for each in (student, teacher)]
    with ThreadPoolExecutor(1) as pool, torch.inference_mode():
        (batch,) = batches(training.array(), training.truth, sizes, len(training), PLAIN, (0,), pool)
        found, wanted = (each.logits(view).numpy() for each, view in zip((student, teacher), batch.views, strict=True))
    return divergence(found, wanted)


def test_a_student_with_a_smaller_input_comes_nearer_to_its_teacher(
    checkpoint: Checkpoint, training: PreparedPhotos
) -> None:
    student, teacher = student_of(checkpoint, 24), student_of(checkpoint)
    before = apart(student, teacher, training)
    quiet = {"average": 0.0, "augmentation": PLAIN, "train_batch_norm": False}  # statistics of 8 photos are noise
    options = dataclasses.replace(QUICK, epochs=40, learning_rate=3e-4, **quiet)
    history = fit(student, training, options, teacher)
    assert len(history) == 40 and apart(student, teacher, training) < 0.7 * before


@pytest.mark.parametrize("bf16", [False, True])
def test_labels_alone_can_be_fitted(
    checkpoint: Checkpoint, training: PreparedPhotos, monkeypatch: pytest.MonkeyPatch, bf16: bool
) -> None:
    monkeypatch.setattr(training_run, "computes_bf16", lambda: bf16)  # any CPU computes it, in its time
    student = student_of(checkpoint)
    for layer in student.module.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    history = fit(student, training, dataclasses.replace(QUICK, epochs=8, label_weight=1.0))
    assert history[-1].loss < history[0].loss and not student.module.training
    assert {value.dtype for value in student.module.parameters()} == {torch.float32}


@pytest.mark.parametrize("average", [0.0, 0.9])
def test_an_interrupted_fit_goes_on_to_the_same_weights(
    checkpoint: Checkpoint, training: PreparedPhotos, tmp_path: Path, average: float
) -> None:
    options, state = dataclasses.replace(QUICK, average=average), tmp_path / "run.state"
    whole, parts = student_of(checkpoint, 24), student_of(checkpoint, 24)
    fit(whole, training, options, student_of(checkpoint))

    def stop(status: FitStatus) -> None:
        if (status.epoch, status.step) == (2, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(parts, training, options, student_of(checkpoint), stop, state)
    again = student_of(checkpoint, 24)
    steps: list[int] = []
    fit(again, training, options, student_of(checkpoint), lambda status: steps.append(status.epoch), state)
    assert set(steps) == {2, 3}
    np.testing.assert_array_equal(weights_of(again), weights_of(whole))


def test_a_state_of_other_options_or_labels_is_refused_and_left_alone(
    checkpoint: Checkpoint, training: PreparedPhotos, tmp_path: Path
) -> None:
    state = tmp_path / "run.state"
    fit(student_of(checkpoint), training, QUICK, student_of(checkpoint), state=state)
    before = state.read_bytes()
    with pytest.raises(BadInput, match="other options"):
        other = dataclasses.replace(QUICK, learning_rate=1e-4)
        fit(student_of(checkpoint), training, other, student_of(checkpoint), state=state)
    with pytest.raises(BadInput, match="photos or labels"):
        corrected = dataclasses.replace(training, truth=training.truth[::-1].copy())
        fit(student_of(checkpoint), corrected, QUICK, student_of(checkpoint), state=state)
    assert state.read_bytes() == before
    torch.save([1, 2], state)
    with pytest.raises(BadInput, match="other options"):
        fit(student_of(checkpoint), training, QUICK, student_of(checkpoint), state=state)
    state.write_bytes(b"torn")
    with pytest.raises(BadInput, match="no training state"):
        fit(student_of(checkpoint), training, QUICK, student_of(checkpoint), state=state)


def test_what_cannot_be_fitted_is_refused(checkpoint: Checkpoint, training: PreparedPhotos) -> None:
    with pytest.raises(BadInput, match="without a teacher"):
        fit(student_of(checkpoint), training, QUICK)
    with pytest.raises(BadInput, match="at least one batch of 1000"):
        fit(student_of(checkpoint), training, dataclasses.replace(QUICK, batch=1000), student_of(checkpoint))
    with pytest.raises(BadInput, match="prepared at"):
        fit(student_of(checkpoint, 64), training, QUICK, student_of(checkpoint))
    with pytest.raises(BadInput, match="lower learning rate"):
        fit(student_of(checkpoint), training, dataclasses.replace(QUICK, learning_rate=1e12), student_of(checkpoint))
    for wrong in ({"epochs": 0}, {"learning_rate": 0.0}, {"label_weight": 1.5}):
        with pytest.raises(BadInput):
            dataclasses.replace(QUICK, **wrong)


def test_student_and_teacher_see_the_same_crop(training: PreparedPhotos) -> None:
    with ThreadPoolExecutor(1) as pool:
        drawn = list(batches(training.array(), training.truth, [(16, 16), (32, 32)], 8, Augmentation(), (0, 1), pool))
        again = list(batches(training.array(), training.truth, [(16, 16), (32, 32)], 8, Augmentation(), (0, 1), pool))
        later = next(batches(training.array(), training.truth, [(16, 16)], 8, Augmentation(), (0, 2), pool))
    assert len(drawn) == len(training) // 8
    for batch in drawn:
        small = torch.nn.functional.avg_pool2d(batch.views[1], 2)
        assert (small - batch.views[0]).abs().mean() < 8  # of 255: the same crop, resized in another way
        assert batch.views[0].min() >= 0 and batch.views[0].max() <= 255
    torch.testing.assert_close(drawn[0].views[0], again[0].views[0])
    assert (later.views[0] - drawn[0].views[0]).abs().mean() > 8


def test_imitation_is_the_divergence_and_doubted_photos_weigh_more() -> None:
    wanted = torch.tensor([[4.0, 0.0], [0.1, 0.0]])
    logits = torch.zeros(2, 2)
    each = [divergence(logits[row : row + 1].numpy(), wanted[row : row + 1].numpy()) for row in range(2)]
    assert imitation(logits, wanted, 1.0, 0.0).item() == pytest.approx(np.mean(each), rel=1e-4)
    margins = [row[0] - row[1] for row in wanted.softmax(1).tolist()]
    weights = [1 + 4 * (1 - margin) for margin in margins]
    assert imitation(logits, wanted, 1.0, 4.0).item() == pytest.approx(np.average(each, weights=weights), rel=1e-4)
    assert imitation(wanted, wanted, 2.0, 4.0).item() == pytest.approx(0, abs=1e-6)


def test_a_distilled_checkpoint_says_how_it_was_made(
    checkpoint: Checkpoint, training: PreparedPhotos, tmp_path: Path
) -> None:
    out = distill(checkpoint, 24, training, QUICK, tmp_path / "small.safetensors")
    made, told = load_checkpoint(out), json.loads(out.with_suffix(".json").read_text())
    assert (made.preprocess.height, made.labels) == (24, checkpoint.labels)
    assert made.preprocess.crop_fraction == checkpoint.preprocess.crop_fraction
    assert told["training"]["teacher"] == checkpoint.sha256 and len(told["training"]["history"]) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["small.json", "small.safetensors"]
    with pytest.raises(BadInput, match="fewer than its teacher's 32"):
        distill(checkpoint, 32, training, QUICK, tmp_path / "large.safetensors")


@pytest.mark.parametrize("name", ["small.state", "small.json", "small"])
def test_a_students_name_does_not_take_that_of_what_lies_beside_it(
    checkpoint: Checkpoint, training: PreparedPhotos, tmp_path: Path, name: str
) -> None:
    with pytest.raises(BadInput, match="ends in .safetensors"):
        distill(checkpoint, 24, training, QUICK, tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_student_beyond_float16_is_saved_as_float32_alone(
    checkpoint: Checkpoint, training: PreparedPhotos, tmp_path: Path
) -> None:
    teacher = dataclasses.replace(checkpoint, module=deepcopy(checkpoint.module))
    norm = next(layer for layer in teacher.module.modules() if isinstance(layer, torch.nn.BatchNorm2d))
    norm.running_var.fill_(1e6)
    options, out = dataclasses.replace(QUICK, epochs=1, train_batch_norm=False), tmp_path / "small.safetensors"
    with pytest.raises(BadInput, match="too large for float16"):
        distill(teacher, 24, training, options, out)
    assert not out.exists()
    distill(teacher, 24, training, options, out, lambda status: pytest.fail("fitted again"), half=False)
    assert load_checkpoint(out).preprocess.height == 24


# Augmentation, loss, schedule

LIKE_THE_CHECKPOINT = Path(tiffin.__file__).parents[1] / "shared" / "checkpoint" / "record.json"
LOOSE = Augmentation(
    min_area=0.3, interpolation="either", colour=0.4, colour_chance=0.8, colour_changes=2, rotation=0.5, erasing=0.5
)


def views(training: PreparedPhotos, augmentation: Augmentation, seed: int = 0) -> Batch:
    with ThreadPoolExecutor(1) as pool:
        return next(batches(training.array(), training.truth, [(24, 24), (48, 48)], 16, augmentation, (seed, 0), pool))


@pytest.mark.parametrize(
    "changed", [{}, {"rotation": 1.0}, {"erasing": 1.0}, {"colour_changes": 1}, {"interpolation": "bilinear"}]
)
def test_a_change_of_photos_is_drawn_by_the_seed_alone(training: PreparedPhotos, changed: dict) -> None:
    chosen = dataclasses.replace(LOOSE, **changed)
    one, again, other = views(training, chosen), views(training, chosen), views(training, chosen, seed=1)
    assert all(torch.equal(first, second) for first, second in zip(one.views, again.views, strict=True))
    assert one.share == again.share and not torch.equal(one.views[0], other.views[0])
    assert one.views[0].min() >= 0 and one.views[0].max() <= 255


@pytest.mark.parametrize(
    ("changed", "least", "most"),
    [({"rotation": 1.0}, 0.5, 1.0), ({"erasing": 1.0}, 0.15**2 / 2, 0.45**2), ({"colour": 0.4}, 0.5, 1.0)],
)
def test_one_change_alone_changes_as_much_as_it_says(
    training: PreparedPhotos, changed: dict, least: float, most: float
) -> None:
    plain, found = (views(training, dataclasses.replace(PLAIN, **more)).views for more in ({}, changed))
    for before, after in zip(plain, found, strict=True):
        parts = ((before - after).abs().amax(1) > 1).flatten(1).float().mean(1)
        assert least <= parts.min() and parts.max() <= most


def test_two_of_three_colours_are_changed_and_only_of_some_photos() -> None:
    grey = torch.full((400, 3, 4, 4), 100.0)
    (found,) = change_colour([grey], 0.4, 0.8, 2, np.random.default_rng(0))
    means = found.mean((1, 2, 3))  # contrast and saturation leave a grey photo as it is
    brighter = ((means - 100).abs() > 1e-3).float().mean().item()
    assert brighter == pytest.approx(0.8 * 2 / 3, abs=0.07) and means.min() >= 60 and means.max() <= 140


@pytest.mark.parametrize(
    "wrong",
    [{"flip": 1.1}, {"min_area": 0.0}, {"ratio": 0.9}, {"erasing_min": 0.5}, {"mixup_alpha": 0.0},
     {"colour_changes": 4}, {"interpolation": "nearest"}, {"rotation_degrees": 181.0}],
)  # fmt: skip
def test_an_augmentation_out_of_bounds_is_refused(wrong: dict) -> None:
    with pytest.raises(BadInput):
        Augmentation(**wrong)


@pytest.mark.skipif(not LIKE_THE_CHECKPOINT.is_file(), reason="the record of the handed checkpoint is not here")
def test_the_default_recipe_is_that_of_the_handed_checkpoint() -> None:
    told, fit = json.loads(LIKE_THE_CHECKPOINT.read_text())["recipe"], DEFAULT.fit
    assert (told["seed"], told["epochs"], told["batch"]) == (fit.seed, fit.epochs, fit.batch)
    assert told["train_size"] == applied(DEFAULT, ARCHITECTURES["efficientnet_lite0"], Preprocess(224, 224)).train_size
    assert "lr 1e-3, weight decay 0.05" in told["optimizer"] and (fit.learning_rate, fit.weight_decay) == (1e-3, 0.05)
    assert f"clipped at {fit.clip:g}" in told["optimizer"] and str(fit.average) in told["ema"]
    assert told["schedule"] == f"{fit.warmup * fit.epochs:g} epochs linear warm-up times cosine to 0"
    drawn, said = fit.augmentation, told["augmentation"]
    assert said["random resized crop"] == f"area {drawn.min_area}-1, ratio 3/4-4/3, bicubic or bilinear"
    assert (drawn.ratio, drawn.interpolation, said["horizontal flip"]) == (4 / 3, "either", drawn.flip)
    assert said["rotation"] == f"p {drawn.rotation}, +-{drawn.rotation_degrees:g} degrees"
    assert said["random erasing"] == f"p {drawn.erasing}, side {drawn.erasing_min}-{drawn.erasing_max}, noise"
    factors = f"factor {1 - drawn.colour}-{1 + drawn.colour}"
    assert said["two of brightness, contrast, saturation"] == f"p {drawn.colour_chance}, {factors}"
    assert said["mixup"] == f"p {drawn.mixup} a batch, Beta({drawn.mixup_alpha}, {drawn.mixup_alpha})"
    assert said["label smoothing"] == fit.label_smoothing and drawn.colour_changes == 2


def plain_batch(labels: torch.Tensor) -> Batch:
    return Batch((), labels, labels, 1.0)


def test_the_loss_is_torchs_own() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(12, 5, generator=generator), torch.randint(5, (12,), generator=generator)
    weights = torch.rand(5, generator=generator) + 0.1
    batch, options = plain_batch(labels), FitOptions(label_weight=1.0)
    weighted = torch.nn.functional.cross_entropy(logits, labels, weight=weights)
    torch.testing.assert_close(loss_of(logits, None, batch, options, weights), weighted)
    smoothed = dataclasses.replace(options, label_smoothing=0.1)
    wanted = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1)
    torch.testing.assert_close(loss_of(logits, None, batch, smoothed), wanted)


def test_labels_that_count_for_nothing_may_be_of_classes_that_the_model_lacks() -> None:
    logits, wanted = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    found = loss_of(logits, wanted, plain_batch(torch.tensor([0, 4, 5, 58])), FitOptions(label_weight=0.0))
    assert found == imitation(logits, wanted, 1.0, 0.0)


def test_weights_of_classes_even_their_photos_out() -> None:
    truth = np.array([0] * 30 + [2] * 6)
    weights = inverse_frequency(truth)
    assert weights[truth].mean() == pytest.approx(1) and weights[1] == 0
    assert weights[0] * 30 == pytest.approx(weights[2] * 6)
    chances = draw_chances(truth, dataclasses.replace(QUICK, balance="sampler"))
    drawn = np.concatenate([truth[rows] for seed in range(40) for rows in drawn_order(36, 12, (seed,), chances)])
    assert (drawn == 2).mean() == pytest.approx(0.5, abs=0.05)
    assert draw_chances(truth, QUICK) is None


@given(total=st.integers(1, 500), warmup=st.floats(0, 1), cosine=st.sampled_from(["rest", "whole"]))
def test_the_rate_rises_and_falls_between_0_and_its_peak(total: int, warmup: float, cosine: str) -> None:
    options = dataclasses.replace(QUICK, warmup=warmup, cosine=cosine)
    rates = [rate(step, total, options) for step in range(total + 1)]
    assert all(0 <= found <= 1 for found in rates)
    if cosine == "whole":
        assert rates[-1] == pytest.approx(0, abs=1e-9)
    peak = int(np.argmax(rates))
    assert all(one <= other + 1e-12 for one, other in pairwise(rates[: peak + 1]))
    assert all(one >= other - 1e-12 for one, other in pairwise(rates[peak:]))


def test_every_weight_is_in_one_stage_and_slower_the_deeper_it_lies(checkpoint: Checkpoint) -> None:
    module = deepcopy(checkpoint.module)
    stages = stages_of(module, ("features.3", "features", "head"))  # the stem has no name: it goes with the first
    assert [weight.shape for weight in stages[0].weights] == [(4, 16), (4,)]
    held = [id(weight) for stage in stages for weight in stage.weights]
    assert sorted(held) == sorted(id(weight) for weight in module.parameters())
    peaks = [group["lr"] for group in groups(stages, dataclasses.replace(QUICK, rate_decay=0.5))]
    assert sorted(set(peaks), reverse=True) == [QUICK.learning_rate * 0.5**depth for depth in range(3)]
    with pytest.raises(BadInput, match="no submodules neck"):
        stages_of(module, ("neck", "head"))


@pytest.mark.parametrize(
    ("name", "spared"), [("vit_tiny", {"cls_token", "position_embeddings"}), ("efficientnet_lite0", set())]
)
def test_kernels_and_matrices_decay_and_nothing_else(name: str, spared: set[str]) -> None:
    if name == "vit_tiny":
        pytest.importorskip("transformers")
    module = build_network(name, 4)
    decaying = {id(value) for group in groups(stages_of(module, ()), QUICK) if group["weight_decay"]
                for value in group["params"]}  # fmt: skip
    large = {key: value for key, value in module.named_parameters() if value.ndim > 1}
    assert {key.rpartition(".")[2] for key, value in large.items() if id(value) not in decaying} == spared
    assert len(decaying) == len(large) - len(spared)


@pytest.mark.parametrize(
    ("staged", "fitted"), [({}, True), ({"rate_decay": 0.5}, True), ({"unfreeze_every": 1.0}, False)], ids=str
)
def test_dropout_between_stages_is_on_whichever_are_fitted(
    checkpoint: Checkpoint, training: PreparedPhotos, staged: dict, fitted: bool
) -> None:
    body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 4), torch.nn.BatchNorm2d(4))
    drop, head = torch.nn.Dropout(0.2), torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(4))
    module = torch.nn.Sequential()
    for name, part in (("body", body), ("drop", drop), ("head", head)):
        module.add_module(name, part)
    module(torch.zeros(2, 3, 32, 32))
    student = Student(module, checkpoint.preprocess, ("body", "head") if staged else ())
    options = FitOptions(epochs=1, batch=16, label_weight=1.0, **staged)
    seen = set()
    fit(student, training, options, progress=lambda status: seen.add((drop.training, body[1].training, head.training)))
    assert seen == {(True, fitted, True)} and not drop.training


# Training a classifier


def same(one: dict, other: dict, prefix: str = "") -> bool:
    return all(torch.equal(one[key], other[key]) for key in one if key.startswith(prefix))


def test_a_stage_that_is_not_reached_stays_as_it_was(checkpoint: Checkpoint, training: PreparedPhotos) -> None:
    student = dataclasses.replace(student_of(checkpoint), stages=ARCHITECTURES["tinynet"].stages)
    before = deepcopy(student.module.state_dict())
    waiting = dataclasses.replace(QUICK, label_weight=1.0, unfreeze_every=3.0, average=0.0)
    fit(student, training, waiting)
    assert same(before, student.module.state_dict(), "features") and not same(
        before, student.module.state_dict(), "head"
    )
    fit(student, training, dataclasses.replace(waiting, unfreeze_every=1.5))
    changed = {key: not torch.equal(before[key], value) for key, value in student.module.state_dict().items()}
    assert all(changed.values())


def test_training_stops_where_held_out_photos_gain_nothing_and_keeps_the_best(
    checkpoint: Checkpoint, training: PreparedPhotos
) -> None:
    student, shown = student_of(checkpoint), []
    right = iter([0.3, 0.7, 0.7, 0.6, 0.5, 0.9])

    def judge(module) -> tuple[float, float]:
        shown.append(deepcopy(module.state_dict()))
        assert not module.training
        return 1.0, next(right)

    patient = dataclasses.replace(QUICK, epochs=9, label_weight=1.0, patience=3)
    history = fit(student, training, patient, evaluate=judge)
    assert [epoch.held_out_top_1 for epoch in history] == [0.3, 0.7, 0.7, 0.6, 0.5]
    assert kept_epoch(history, patient) == 2 and same(shown[1], student.module.state_dict())
    with pytest.raises(BadInput, match="without photos held out"):
        fit(student_of(checkpoint), training, patient)


@given(area=st.floats(0.01, 1), ratio=st.floats(1, 3), seed=st.integers(0, 999))
def test_a_crop_is_as_large_as_told_or_cut_off_where_the_square_ends(area: float, ratio: float, seed: int) -> None:
    left, top, right, bottom = augment._box((90, 90), Augmentation(area, ratio), np.random.default_rng(seed))
    assert 0 <= left < right <= 90 + 1e-9 and 0 <= top < bottom <= 90 + 1e-9
    kept = (right - left) * (bottom - top) / 90**2
    assert kept >= min(area, (area / ratio) ** 0.5) - 1e-9


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=6), part=st.floats(0, 0.99), seed=st.integers(0, 99))
def test_a_run_of_each_class_is_held_out(counts: list[int], part: float, seed: int) -> None:
    photos = [Photo(Path(f"{label}/{place:03}.jpg"), label) for label, n in enumerate(counts) for place in range(n)]
    hashes = {photo.path: str(photo.path) for photo in photos}
    held, kept = hold_out_runs(photos, part, seed, hashes)
    assert sorted((*held, *kept), key=lambda photo: photo.path) == photos and not set(held) & set(kept)
    assert hold_out_runs(photos[::-1], part, seed, hashes) == (held, kept)
    for label, n in enumerate(counts):
        places = [int(photo.path.stem) for photo in held if photo.label == label]
        assert len(places) == (min(max(1, round(part * n)), n - 1) if part else 0) < n
        assert places == list(range(places[0], places[0] + len(places))) if places else True


def test_a_copy_is_held_out_with_its_original() -> None:
    photos = [Photo(Path(f"{place:02}.jpg"), 0) for place in range(20)]
    held, kept = hold_out_runs(photos, 0.2, 0, {photo.path: str(int(photo.path.stem) % 10) for photo in photos})
    assert len(held) == 8 and {int(photo.path.stem) % 10 for photo in held}.isdisjoint(
        int(photo.path.stem) % 10 for photo in kept
    )


TASTE = dataclasses.replace(DEFAULT, fit=dataclasses.replace(DEFAULT.fit, epochs=4, batch=8, learning_rate=0.02))


def begun(init: str | None = "none", labels: tuple[str, ...] = LABELS) -> Start:
    return start("tinynet", labels, init, None, 0)


def test_a_classifier_is_trained_from_scratch_and_says_how(photo_folder: Path, tmp_path: Path) -> None:
    options = dataclasses.replace(TASTE, held_out=0.25, fit=dataclasses.replace(TASTE.fit, patience=4, balance="loss"))
    made = train(open_dataset(photo_folder), begun(), options, tmp_path / "made.safetensors", score_test=True)
    loaded, told = load_checkpoint(made.path), json.loads(made.path.with_suffix(".json").read_text())["training"]
    assert told == json.loads(json.dumps(made.record))
    assert (loaded.labels, loaded.preprocess.height, loaded.architecture) == (LABELS, 32, "tinynet")
    assert (told["photos"], told["held_out"]["photos"], told["method"]) == (36, 12, "finetune")
    assert told["options"]["fit"]["balance"] == "loss" and told["options"]["train_size"] == 32
    assert len(told["history"]) == 4 and told["initial"]["sha256"] == begun().sha256
    held, test = told["scores"]
    assert (held["role"], held["photos"], test["role"], test["photos"]) == ("held-out", 12, "confirm", 48)
    assert sum(n for row in test["confusion"].values() for n in row.values()) == 48
    photos = prepare_photos(open_dataset(photo_folder).role("confirm"), loaded.preprocess, tmp_path / "cache")
    logits = logits_of(loaded.module, photos, loaded.preprocess).numpy()  # of the weights as saved, in float16
    assert (logits.argmax(1) == photos.truth).mean() == pytest.approx(test["top_1"]["value"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "made.json", "made.safetensors"]
    assert {value.dtype for value in load_file(made.path).values()} == {torch.float16, torch.int64}


def test_a_checkpoint_that_may_have_been_fitted_on_what_is_held_out_is_said(
    photo_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def made(name: str, init: str | None, seed: int, teacher: str | None = None) -> tuple[list[str], int]:
        caplog.clear()
        options = changed(TASTE, {"held_out": 0.25, "epochs": 1, "seed": seed})
        taught = load_checkpoint(tmp_path / teacher) if teacher else None
        given = begun(str(tmp_path / init) if init else "none")
        told = train(open_dataset(photo_folder), given, options, tmp_path / name, taught).record["held_out"]
        assert load_checkpoint(tmp_path / name).held_out == ("" if told["may_know"] else told["photos_sha256"])
        return told["may_know"], sum("photos held out here" in record.getMessage() for record in caplog.records)

    assert made("first.safetensors", None, 0) == ([], 0)
    assert made("same.safetensors", "first.safetensors", 0, "first.safetensors") == ([], 0)
    assert made("other.safetensors", "first.safetensors", 1) == (["checkpoint to start from"], 1)
    assert made("heir.safetensors", "other.safetensors", 1) == (["checkpoint to start from"], 1)
    assert made("taught.safetensors", None, 1, "first.safetensors") == (["teacher"], 1)


def test_a_head_is_fitted_on_features_that_are_computed_once(
    checkpoint: Checkpoint, checkpoint_file: Path, photo_folder: Path, tmp_path: Path
) -> None:
    work: list[str] = []

    def counted(name: str) -> Callable[[int, int], None]:
        return lambda done, total: work.append(name) if done == total else None

    def made(path: str, **changed: object) -> Trained:
        fitted = dataclasses.replace(FEATURES.fit, epochs=30, batch=8, learning_rate=0.05)
        options = dataclasses.replace(FEATURES, views=3, held_out=0.25, half=False, fit=fitted, **changed)
        given = begun(str(checkpoint_file), ("a", "b", "c", "d"))  # other names: a new head
        dataset = dataclasses.replace(open_dataset(photo_folder), labels=("a", "b", "c", "d"))
        return train(dataset, given, options, tmp_path / path, watch=Watch(counted=counted))

    first = made("first.safetensors")
    assert sum("features" in name for name in work) == 4
    work.clear()
    again = made("again.safetensors")
    assert not work and again.path.read_bytes() == first.path.read_bytes()
    trained = load_checkpoint(first.path).module.state_dict()
    assert same(trained, checkpoint.module.state_dict(), "features")
    assert not same(trained, checkpoint.module.state_dict(), "head")
    assert first.record["history"][-1]["loss"] < first.record["history"][0]["loss"]
    held, last = first.record["scores"][0], first.record["history"][-1]
    assert held["top_1"]["value"] == pytest.approx(last["held_out_top_1"])  # features and whole network say the same


def test_weights_come_from_imagenet_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    known = build_network("tinynet", 1000)
    taught = dataclasses.replace(ARCHITECTURES["tinynet"], name="taught", pretrained=lambda: known.state_dict())
    monkeypatch.setitem(ARCHITECTURES, "taught", taught)
    found = start("taught", LABELS, None, None, 0)
    assert same(found.module.state_dict(), known.state_dict(), "features") and found.source.startswith("ImageNet")
    assert found.module.state_dict()["head.weight"].shape == (4, 16)
    assert (
        start("taught", LABELS, None, None, 1).sha256 != found.sha256 == start("taught", LABELS, None, None, 0).sha256
    )
    wrong = dataclasses.replace(
        taught, pretrained=lambda: {"features.0.weight": torch.zeros(1), "head.bias": torch.zeros(1)}
    )
    monkeypatch.setitem(ARCHITECTURES, "taught", wrong)
    with pytest.raises(BadInput, match="do not fit: features.0.weight, features.1.bias"):
        start("taught", LABELS, None, None, 0)
    with pytest.raises(BadInput, match="no ImageNet weights of tinynet"):
        begun(None)


def test_a_checkpoint_is_another_start(checkpoint: Checkpoint, checkpoint_file: Path) -> None:
    kept, other = begun(str(checkpoint_file)), begun(str(checkpoint_file), ("x", "y", "z"))
    assert same(kept.module.state_dict(), checkpoint.module.state_dict()) and kept.host == checkpoint.preprocess
    assert other.module.state_dict()["head.weight"].shape == (3, 16) and "without its head of 4" in other.source
    assert start(None, LABELS, str(checkpoint_file), 48, 0).host.height == 48
    with pytest.raises(BadInput, match="is tinynet"):
        start("efficientnet_lite0", LABELS, str(checkpoint_file), None, 0)


def test_what_cannot_be_trained_is_refused(checkpoint: Checkpoint, photo_folder: Path, tmp_path: Path) -> None:
    dataset, out = open_dataset(photo_folder), tmp_path / "made.safetensors"
    with pytest.raises(BadDataset, match="1 of 5 classes have no photo to train with: quince"):
        train(dataclasses.replace(dataset, labels=(*LABELS, "quince")), begun(), TASTE, out)
    with pytest.raises(BadDataset, match="at least two classes"):
        train(dataclasses.replace(dataset, labels=("apple",)), begun(), TASTE, out)
    with pytest.raises(BadInput, match="at least one batch of 64"):
        train(dataset, begun(), changed(TASTE, {"batch": 64}), out)
    with pytest.raises(BadInput, match="other labels .such as apple, plum"):
        train(dataset, begun(), TASTE, out, dataclasses.replace(checkpoint, labels=("plum", *LABELS[1:])))
    with pytest.raises(BadInput, match="in another order"):
        train(dataset, begun(), TASTE, out, dataclasses.replace(checkpoint, labels=LABELS[::-1]))
    with pytest.raises(BadInput, match="features mode"):
        train(dataset, begun(), changed(FEATURES, {"batch": 8}), out, checkpoint)
    with pytest.raises(BadInput, match="lower learning rate"):
        train(dataset, begun(), changed(TASTE, {"learning_rate": 1e30}), out)
    with pytest.raises(Overlap):
        shared = {**dataset.roles, "select": dataset.roles["train"][:3]}
        train(dataclasses.replace(dataset, roles=shared), begun(), TASTE, out)
    halves = changed(TASTE, {"held_out": 0.5})
    chosen_by = split_train(dataset, halves.held_out, halves.fit.seed, tmp_path / "cache").held_out
    with pytest.raises(Overlap):
        shared = {**dataset.roles, "confirm": chosen_by[:3]}
        train(dataclasses.replace(dataset, roles=shared), begun(), halves, out, score_test=True)
    for wrong in ({"held_out": 0.6}, {"mode": "magic"}, {"views": 0}, {"balance": "luck"}, {"rate_decay": 0.0}):
        with pytest.raises(BadInput):
            changed(TASTE, wrong)
    with pytest.raises(BadInput, match="in features mode"):
        changed(FEATURES, {"unfreeze_every": 1.0})
    assert not list(tmp_path.glob("*.safetensors")) and not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("words", [("--train-size", 224), ("--mode", "features")])
def test_a_size_that_a_network_does_not_take_when_scored_is_refused_before_photos_are_prepared(
    words: tuple[object, ...], command: Run, photo_folder: Path, tmp_path: Path
) -> None:
    network = ("--data", photo_folder, "--arch", "vit_tiny", "--init", "none", "--batch", 8)
    code, _, told = command("train", *network, "--size", 192, *words, "--out", "a.safetensors")
    assert code == 2 and "vit_tiny does not take 192×192 pixels" in told
    assert not list(tmp_path.rglob("*"))


def test_few_photos_are_distilled_in_smaller_batches(
    checkpoint: Checkpoint, command: Run, photo_folder: Path, tmp_path: Path
) -> None:
    host = with_golden(dataclasses.replace(checkpoint.preprocess, height=40, width=40, golden={}))
    save_checkpoint(tmp_path / "teacher.safetensors", dataclasses.replace(checkpoint, preprocess=host))
    words = (
        "distill",
        "teacher.safetensors",
        "--data",
        photo_folder,
        "--size",
        32,
        "--epochs",
        1,
        "--out",
        "o/a.safetensors",
    )
    code, _, told = command(*words, "--batch", 49)
    assert code == 2 and "48 photos to fit" in told and "a smaller batch" in told
    assert not list((tmp_path / "o").rglob("*"))
    code, _, told = command(*words, "--batch", 24)
    assert code == 0 and "crop-area" in told and "{" not in told
    assert load_checkpoint(tmp_path / "o/a.safetensors").preprocess.height == 32


def test_a_network_of_one_size_has_no_smaller_student(command: Run, photo_folder: Path, tmp_path: Path) -> None:
    given = start("vit_tiny", LABELS, "none", None, 0)
    teacher = Checkpoint(given.module, "vit_tiny", LABELS, given.host, sha256="")
    save_checkpoint(tmp_path / "teacher.safetensors", teacher)
    code, _, told = command("distill", "teacher.safetensors", "--data", photo_folder, "--out", "out/a.safetensors")
    assert code == 2 and "vit_tiny does not take 192×192 pixels" in told
    assert not list((tmp_path / "out").rglob("*"))


def test_weights_beyond_float16_are_not_saved_as_such() -> None:
    module = torch.nn.Linear(2, 2)
    module.weight.data.fill_(1e6)
    with pytest.raises(BadInput, match="too large for float16: weight"):
        rounded(module, half=True)


@pytest.mark.parametrize("half", [True, False])
def test_weights_that_are_no_numbers_are_not_saved(half: bool) -> None:
    module = torch.nn.Linear(2, 2)
    module.bias.data[0] = torch.nan
    with pytest.raises(BadInput, match="NaN or infinite: bias") as caught:
        rounded(module, half)
    assert caught.value.fix == "take a lower learning rate"


@contextmanager
def full_disk(left: int) -> Iterator[None]:
    """No file may grow beyond `left` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (left, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_what_was_there(checkpoint: Checkpoint, training: PreparedPhotos, tmp_path: Path) -> None:
    path, state = tmp_path / "mine.safetensors", tmp_path / "run.state"
    save_checkpoint(path, checkpoint)
    options = dataclasses.replace(QUICK, label_weight=1.0)
    fit(student_of(checkpoint), training, options, state=state)
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    state.unlink()
    with full_disk(1000):
        with pytest.raises(BadInput, match="cannot write .*mine"):
            save_checkpoint(path, student_checkpoint(checkpoint))
        with pytest.raises(BadInput, match="cannot write .*run.state"):
            fit(student_of(checkpoint), training, options, state=state)
    del before[state]
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before


def student_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    return dataclasses.replace(checkpoint, module=build_network("tinynet", 4))


# The command


@pytest.fixture
def command(run_tiffin: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run `tiffin` in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return run_tiffin


@pytest.fixture
def tiffin_(command: Run, photo_folder: Path) -> Run:
    """Run `tiffin train` on the drawn photos."""
    return lambda *words: command("train", "--data", photo_folder, "--arch", "tinynet", "--batch", 8, *words)


def test_the_command_trains_draws_and_writes_the_look_down(tiffin_, tmp_path: Path) -> None:
    words = ("--init", "none", "--epochs", 2, "--held-out", 0.25, "--score-test", "--out", "out/a.safetensors")
    code, shown, said = tiffin_(*words)
    assert code == 0, said
    assert "wrote out/a.safetensors" in shown and "top-1 on 12 held-out photos" in shown
    assert "top-1 on 48 confirm photos" in shown and "label-smoothing 0.1" in said and "photos/s" in said
    assert "crop-area 0.25, crop-ratio 1.3" in said
    assert "looks at the test split so far, this one included: 1" in said and "next: tiffin export" in said
    names = ("curves", "confusion-held-out", "confusion-confirm")
    for name in names:
        assert ElementTree.parse(tmp_path / f"out/a-{name}.svg").getroot().tag.endswith("svg")
    assert "including" not in said and tiffin_(*words, "--seed", 1)[2].count("included: 2") == 1
    look = json.loads((tmp_path / "out/looks.json").read_text())[1]
    assert look["artifact"] == load_checkpoint(Path("out/a.safetensors")).sha256


def test_a_look_is_written_down_though_pictures_cannot_be(
    tiffin_, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(made: Trained) -> list[Path]:
        raise BadInput("cannot write pictures", "room")

    monkeypatch.setattr(training_command, "_draw", fail)
    assert tiffin_("--init", "none", "--epochs", 1, "--score-test", "--out", "a.safetensors")[0] == 2
    assert len(json.loads((tmp_path / "looks.json").read_text())) == 1


def test_the_command_says_what_is_fitted_of_a_set_without_splits(command: Run, photo_folder: Path) -> None:
    folder, words = photo_folder / "train", ("--arch", "tinynet", "--init", "none", "--batch", 4, "--epochs", 1)
    roles = open_dataset(folder).roles
    counts = [len(roles[role]) for role in ("train", "select", "confirm")]
    assert sum(counts) == 48 and not set(roles["train"]) & {*roles["select"], *roles["confirm"]}
    code, shown, said = command("train", "--data", folder, *words, "--out", "flat.safetensors")
    assert code == 0, said
    assert f"photos of train: {counts[0]} train, {counts[1]} select, {counts[2]} confirm (no train split" in said
    assert f"top-1 on {counts[1]} select photos" in shown


# The mean of several


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, checkpoint: Checkpoint) -> tuple[Path, Path]:
    """A checkpoint, and the same a little off."""
    folder = tmp_path_factory.mktemp("parts")
    other = deepcopy(checkpoint.module)
    with torch.no_grad():
        for index, weight in enumerate(other.parameters()):
            weight += 0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(index)) * weight.std()
    paths = folder / "one.safetensors", folder / "other.safetensors"
    for path, module in zip(paths, (checkpoint.module, other), strict=True):
        save_checkpoint(path, dataclasses.replace(checkpoint, module=module))
    return paths


def test_the_mean_is_that_of_each_weight(two: tuple[Path, Path]) -> None:
    one, other = (load_checkpoint(path).module for path in two)
    made = mean_of([one, other])
    assert not made.training
    for name, value in made.state_dict().items():
        first, second = one.state_dict()[name], other.state_dict()[name]
        wanted = (first + second) / 2 if value.is_floating_point() else first
        torch.testing.assert_close(value, wanted)
    assert all(torch.equal(value, one.state_dict()[name]) for name, value in mean_of([one, one]).state_dict().items())


@pytest.fixture
def average_(command: Run, photo_folder: Path) -> Run:
    """Run `tiffin average`, scoring on the drawn photos."""
    return lambda *words: command("average", *words, "--data", photo_folder)


def test_the_command_averages_scores_and_writes_the_look_down(average_, two: tuple[Path, Path]) -> None:
    code, shown, said = average_(*two, "--score-test", "--out", "out/mean.safetensors")
    assert code == 0, said
    made = load_checkpoint(Path("out/mean.safetensors"))
    told = json.loads(Path("out/mean.json").read_text())["training"]
    assert "the mean of 2 checkpoints" in shown and "confirm photos" in shown and "one included: 1" in said
    assert told["method"] == "average" and [part["sha256"] for part in told["parts"]] == [
        load_checkpoint(path).sha256 for path in two
    ]
    assert told["scores"][-1]["role"] == "confirm" and not any(
        each["role"] == "confirm" for part in told["parts"] for each in part["scores"]
    )
    wanted = mean_of([load_checkpoint(path).module for path in two]).half().float()
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(made.module(images), wanted(images))


def test_what_cannot_be_averaged_is_refused(
    average_, two: tuple[Path, Path], checkpoint: Checkpoint, tmp_path: Path
) -> None:
    labelled = save_checkpoint(tmp_path / "l.safetensors", dataclasses.replace(checkpoint, labels=tuple("abcd")))
    shipped = DEFAULT_CHECKPOINT
    for words, about in (
        (two[:1], "1 checkpoints, 1 different"),
        ((two[0], two[0]), "2 checkpoints, 1 different"),
        ((two[0], shipped), "other architecture, labels, preprocessing"),
        ((two[1], labelled), "other labels"),
        ((*two, "--out", "mean.pt"), "ends in .safetensors"),
        ((two[0], tmp_path / "gone.safetensors"), "no such checkpoint"),
    ):
        code, shown, told = average_(*words)
        assert code == 2 and told.count("error: ") == 1 and about in told and not shown
    assert not (tmp_path / "out/train/average.safetensors").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("average", "a.safetensors", "b.safetensors"),
        ("distill", "a.safetensors"),
        ("train", "--init", "a.safetensors", "--epochs", 1, "--batch", 8),
        ("train", "--init", "b.safetensors", "--teacher", "a.safetensors", "--epochs", 1, "--batch", 8),
    ],
)
def test_weights_are_not_written_over_those_that_they_are_made_from(
    words: tuple[object, ...], command: Run, two: tuple[Path, Path], photo_folder: Path, tmp_path: Path
) -> None:
    for path, name in zip(two, ("a", "b"), strict=True):
        for ending in (".safetensors", ".json"):
            shutil.copy(path.with_suffix(ending), tmp_path / f"{name}{ending}")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    code, shown, said = command(*words, "--data", photo_folder, "--out", "./a.safetensors")
    assert code == 2 and "is what it is made from" in said and not shown
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_without_what_draws_there_are_no_pictures(tiffin_, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(training_command, "find_spec", lambda name: None)
    code, shown, said = tiffin_("--init", "none", "--epochs", 1, "--out", "a.safetensors")
    assert code == 0 and "no pictures: altair, vl_convert not installed" in said
    assert "wrote a.safetensors" in shown and not list(tmp_path.glob("*.svg"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--arch", "resnet"), "unknown architecture 'resnet'"),
        ((), "no ImageNet weights of tinynet"),
        (("--init", "gone.safetensors"), "fix: correct the path"),
        (("--init", "none", "--batch", 1000), "at least one batch of 1000"),
        (("--init", "none", "--mode", "magic"), "unknown mode 'magic'"),
        (("--init", "none", "--recipe", "grandma"), "unknown recipe 'grandma'"),
        (("--init", "none", "--patience", 3), "--held-out 0.1"),
        (("--init", "none", "--mode", "features", "--patience", 3), "--held-out 0.1"),
        (("--init", "none", "--held-out", 0.25, "--batch", 40), "36 photos to fit"),
        (("--init", "none", "--seed", -1), "Invalid value for '--seed'"),
        (("--init", "none", "--seed", 2**64), "Invalid value for '--seed'"),
        (("--init", "none", "--batch", 1), "at least 2 photos"),
        (("--init", "none", "--unfreeze-every", 1e-320), "unfreeze every 1e-320"),
        (("--init", "none", "--rotation", 2), "rotation 2.0"),
        (("--init", "none", "--learning-rate", "nan"), "learning rate nan"),
        (("--init", "none", "--crop-ratio", "inf"), "ratio inf"),
        (("--init", "none", "--views", 3), "3 views in finetune mode"),
        (("--init", "none", "--label-weight", 0.5), "without a teacher"),
        (("--init", "none", "--teacher", DEFAULT_CHECKPOINT), "the teacher has other labels"),
        (("--init", "none", "--mode", "features", "--crop-area", 0.5, "--flip", 0), "--crop-area, --flip with --mode"),
        (("--init", "none", "--temperature", 2), "--temperature with no teacher"),
        (("--init", "none", "--out", "a.pt"), "ends in .safetensors"),
        (("--init", "none", "--data", "nowhere"), "nowhere, given by --data, is not there"),
    ],
)
def test_a_training_that_cannot_be_is_refused(tiffin_, tmp_path: Path, words: tuple[object, ...], said: str) -> None:
    code, shown, told = tiffin_(*words)
    assert code == 2 and told.lower().count("error: ") == 1 and said in told and not shown
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {"pixel-hashes.json"}


def test_a_record_tells_the_packages_that_build_networks() -> None:
    assert {"torch", "transformers", "efficientnet-lite-pytorch"} <= trained_with().keys()


def test_a_killed_training_goes_on_to_the_same_bytes(
    tiffin_, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training_command, "find_spec", lambda name: None)  # pictures take seconds
    words = ["--init", "none", "--epochs", "20", "--held-out", "0.25", "--patience", "19", "--unfreeze-every", "4"]
    given = ["--data", str(photo_folder), "--arch", "tinynet", "--batch", "8", *words, "--out", "cut.safetensors"]
    command = [sys.executable, "-c", "from tiffin.cli.app import main; main()", "train", *given]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    state = tmp_path / "cut.state"
    while not state.exists() and running.poll() is None:
        time.sleep(0.005)
    running.kill()
    assert running.wait() == -signal.SIGKILL
    done = len(torch.load(state, weights_only=True)["history"])
    assert 1 <= done < 20 and not (tmp_path / "cut.safetensors").exists()
    code, _, said = tiffin_(*words, "--seed", 1, "--out", "cut.safetensors")
    assert code == 2 and "other options" in said and state.exists()
    assert tiffin_(*words, "--out", "cut.safetensors")[0] == tiffin_(*words, "--out", "whole.safetensors")[0] == 0
    assert (tmp_path / "cut.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    assert not state.exists()


@pytest.mark.parametrize("classes", [3, 130])
def test_a_confusion_matrix_shows_those_most_confused(classes: int) -> None:
    counts = {str(index): {str(index): 5} for index in range(classes)} | {"1": {"1": 2, "0": 3}}
    drawn = confusion_matrix(counts, [f"class number {index}" for index in range(classes)])
    root = ElementTree.fromstring(drawn)
    texts = {each.text for each in root.iter() if each.tag.endswith("text")}
    assert {"class number 0 (0)", "class number 1 (1)", "3"} <= texts and "var(" not in drawn
    assert len({text for text in texts if text and text.startswith("class number")}) == min(classes, 100)


def test_learning_curves_show_both_where_both_are_known() -> None:
    epochs = [Epoch(epoch, 1 / epoch, epoch / 10, 1.0, 2 / epoch, epoch / 20) for epoch in range(1, 6)]
    both, fitted = ([dataclasses.asdict(epoch) for epoch in epochs] for _ in range(2))
    for epoch in fitted:
        epoch["held_out_loss"] = epoch["held_out_top_1"] = None
    assert "held out" in learning_curves(both) and "held out" not in learning_curves(fitted)


def test_memory_that_is_kept_is_not_mapped_again() -> None:
    """In a process of its own: it holds until the end."""
    asked = """
import resource, torch
from tiffin.train.memory import keep_memory
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3): torch.ones(16_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
before = faults()
told = keep_memory()
settling = [faults() for _ in range(4)]  # where the heap borders on mapped memory it grows in pieces first
print(before, settling[0] if told else -1, faults())
"""
    ran = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    before, first, after = map(int, ran.stdout.split())
    if first < 0:
        pytest.skip("this C library keeps no memory when asked")
    assert after < before / 10
