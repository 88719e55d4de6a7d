"""train/: checkpoints on disk, and what is refused; training of quantized graphs."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from safetensors.torch import load_file, save_file

import tiffin
from tiffin.artifact import Artifact, Preprocess, RunConfig
from tiffin.artifact.claims import read_claim
from tiffin.data import open_dataset
from tiffin.data.prepared import PreparedPhotos
from tiffin.errors import BadInput, ParityFailed
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
from tiffin.train import DEFAULT_CHECKPOINT, Checkpoint, load_checkpoint
from tiffin.train.augment import Augmentation, batches
from tiffin.train.checkpoint import save_checkpoint
from tiffin.train.distill import distill, training_photos
from tiffin.train.fit import FitOptions, FitStatus, Student, fit
from tiffin.train.loss import imitation
from tiffin.train.network import ARCHITECTURES, build_network


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


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_architecture_gives_a_logit_a_class(architecture: str) -> None:
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


SMALL, PAIR = np.linspace(-4, 5, 2 * 3 * 6 * 5).reshape(2, 3, 6, 5), np.linspace(-2, 3, 24).reshape(4, 6)
KERNEL = np.linspace(-1, 1, 6 * 3 * 3 * 3).reshape(6, 3, 3, 3)


@pytest.mark.parametrize(
    ("kind", "inputs", "attributes"),
    [
        ("Add", [SMALL, SMALL[:1]], {}),
        ("AveragePool", [SMALL], {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
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
        ("Sub", [SMALL, SMALL[:1]], {}),
        ("Transpose", [SMALL], {"perm": [0, 2, 3, 1]}),
        ("Transpose", [PAIR], {}),
        ("Unsqueeze", [PAIR, np.array([0, 3])], {}),
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


def test_labels_alone_can_be_fitted(checkpoint: Checkpoint, training: PreparedPhotos) -> None:
    student = student_of(checkpoint)
    for layer in student.module.modules():
        if hasattr(layer, "reset_parameters"):
            layer.reset_parameters()
    history = fit(student, training, dataclasses.replace(QUICK, epochs=8, label_weight=1.0))
    assert history[-1].loss < history[0].loss and not student.module.training


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
    np.testing.assert_allclose(weights_of(again), weights_of(whole), rtol=1e-4, atol=1e-5)


def test_a_state_of_other_options_is_refused_and_left_alone(
    checkpoint: Checkpoint, training: PreparedPhotos, tmp_path: Path
) -> None:
    state = tmp_path / "run.state"
    fit(student_of(checkpoint), training, QUICK, student_of(checkpoint), state=state)
    before = state.read_bytes()
    with pytest.raises(BadInput, match="other options"):
        other = dataclasses.replace(QUICK, learning_rate=1e-4)
        fit(student_of(checkpoint), training, other, student_of(checkpoint), state=state)
    assert state.read_bytes() == before
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
