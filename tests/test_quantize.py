"""quantize/: each scheme by each quantizer that writes it, the calibration set, typed halves, synthesized photos."""

from __future__ import annotations

import copy
import csv
import dataclasses
import hashlib
import json
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as hypothesis_arrays
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import tiffin
from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.scheme import SCHEMES
from tiffin.artifact.store import save
from tiffin.data import open_dataset, prove_disjoint
from tiffin.data import synthesized as shipped_set
from tiffin.data.prepared import prepare_photos
from tiffin.errors import BadInput
from tiffin.export.graph.canonical import PROLOGUE
from tiffin.export.graph.dialect import read_dialect
from tiffin.export.graph.fp8 import round_to_fp8
from tiffin.export.graph.precision import regrid, to_half
from tiffin.export.logits import engine_logits
from tiffin.export.to_onnx import to_onnx
from tiffin.machine import has_vnni
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.corrections import correct, fit_line, in_order
from tiffin.quantize.data_free import data_free, made_from
from tiffin.quantize.named_feeds import CalibrationFeeds
from tiffin.quantize.options import PtqOptions, default_quantizer
from tiffin.quantize.ptq_ort import quantize_ort
from tiffin.quantize.quantize import quantize_fp8, quantize_half, quantize_int8
from tiffin.quantize.synthesis import SynthesisOptions, synthesize
from tiffin.quantize.walk import Walk
from tiffin.train import DEFAULT_CHECKPOINT

WRITTEN = (
    ("cpu", "nncf"),
    ("cpu", "ort"),
    ("cpu-vnni", "nncf"),
    ("cpu-vnni", "ort"),
    ("cpu-u8", "ort"),
    ("tensorrt", "ort"),
)
HASHES = tuple(hashlib.sha256(bytes([index])).hexdigest() for index in range(24))


@pytest.fixture(scope="module")
def quantized(
    onnx_artifact: Artifact, photos: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], Artifact]:
    folder = tmp_path_factory.mktemp("int8")
    return {
        pair: quantize_int8(
            onnx_artifact, PtqOptions(*pair), CalibrationSet(photos[:24], "drawn", HASHES), folder / "-".join(pair)
        )
        for pair in WRITTEN
    }


def graph(artifact: Artifact) -> onnx.GraphProto:
    return onnx.load(artifact.model_path).graph


def arrays(of: onnx.GraphProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in of.initializer}


def weight_peaks(artifact: Artifact) -> dict[str, tuple[int, bool]]:
    """Convolution or product → largest |int8 weight|, and whether it is depthwise."""
    of = graph(artifact)
    held, made_by = arrays(of), {name: node for node in of.node for name in node.output}
    peaks = {}
    for node in of.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            source = made_by[node.input[1]]
            while source.op_type == "Transpose":
                source = made_by[source.input[0]]
            groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
            peaks[node.name] = (int(np.abs(held[source.input[0]].astype(int)).max()), groups > 1)
    return peaks


def answers(artifact: Artifact, photos: np.ndarray, backend: str = "onnxruntime") -> np.ndarray:
    with tiffin.load(artifact, RunConfig(backend)) as session:
        return session.run({"photos": photos})["logits"]


@pytest.mark.parametrize(("scheme", "quantizer"), WRITTEN)
def test_the_dialect_is_the_schemes(quantized, scheme: str, quantizer: str) -> None:
    wanted, found = SCHEMES[scheme], read_dialect(onnx.load(quantized[scheme, quantizer].model_path))
    assert wanted.activations in found.zero_points
    assert not wanted.symmetric_activations or found.zero_points == ("int8",)
    assert found.quantized_bias <= wanted.quantize_bias
    manifest = quantized[scheme, quantizer].manifest
    assert (manifest.precision, manifest.scheme) == ("int8", scheme)


@pytest.mark.parametrize(("scheme", "quantizer"), WRITTEN)
def test_weights_keep_to_the_schemes_range(quantized, scheme: str, quantizer: str) -> None:
    peaks = weight_peaks(quantized[scheme, quantizer])
    assert len(peaks) == 4
    # NNCF leaves depthwise weights at 8 bits: their kernels add no pairs of products that could overflow.
    dense = [peak for peak, depthwise in peaks.values() if not (depthwise and quantizer == "nncf")]
    if SCHEMES[scheme].weight_bits == 7:
        assert max(dense) <= 64
    else:
        assert min(dense) > 100


def test_tensorrts_zero_points_are_0_and_its_biases_float(quantized) -> None:
    of = graph(quantized["tensorrt", "ort"])
    held = arrays(of)
    zero_points = [held[n.input[2]] for n in of.node if n.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert zero_points and all(zero.dtype == np.int8 and not zero.any() for zero in zero_points)
    biases = [held[node.input[2]] for node in of.node if node.op_type in ("Conv", "Gemm") and len(node.input) > 2]
    assert biases and all(bias.dtype == np.float32 for bias in biases)


@pytest.mark.parametrize(("scheme", "quantizer"), WRITTEN)
def test_the_prologue_is_not_quantized(quantized, onnx_artifact: Artifact, scheme: str, quantizer: str) -> None:
    of = graph(quantized[scheme, quantizer])
    made_by = {name: node for node in of.node for name in node.output}
    found = [node for node in of.node if node.name in PROLOGUE]
    sources = [made_by[name].op_type for node in found for name in node.input if name in made_by]
    assert [node.name for node in found] == list(PROLOGUE) and "DequantizeLinear" not in sources
    before, after = arrays(graph(onnx_artifact)), arrays(of)
    for name in (name for node in found for name in node.input if name in before):
        np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.parametrize(("scheme", "quantizer"), WRITTEN)
def test_the_manifest_tells_the_calibration(quantized, onnx_artifact, photos, scheme: str, quantizer: str) -> None:
    manifest = quantized[scheme, quantizer].manifest
    options = manifest.producer.options
    assert (options["calibration_photos"], options["calibration_source"]) == (24, "drawn")
    assert options["photos_taken"] == 24
    assert options["calibration_sha256"] == hashlib.sha256(photos[:24].tobytes()).hexdigest()
    assert manifest.calibration == tuple(digest[:16] for digest in HASHES)
    assert (manifest.parent, manifest.checkpoint) == (onnx_artifact.digest, onnx_artifact.manifest.checkpoint)


@pytest.mark.parametrize(("scheme", "quantizer"), [pair for pair in WRITTEN if pair[0] != "tensorrt"])
def test_int8_agrees_with_fp32_on_both_cpu_engines(quantized, onnx_artifact, photos, scheme, quantizer) -> None:
    if SCHEMES[scheme].needs_vnni and not has_vnni():
        pytest.skip("this CPU has no VNNI")
    wanted = answers(onnx_artifact, photos).argmax(1)
    found = {
        name: answers(quantized[scheme, quantizer], photos, name).argmax(1) for name in ("onnxruntime", "openvino")
    }
    assert min((top == wanted).mean() for top in found.values()) >= 0.8
    if SCHEMES[scheme].weight_bits == 7:  # right on any CPU, so both engines say the same
        assert (found["onnxruntime"] == found["openvino"]).mean() >= 0.95


def test_tensorrts_graph_agrees_with_fp32_where_it_is_simulated(quantized, onnx_artifact, photos) -> None:
    with tiffin.load(quantized["tensorrt", "ort"], RunConfig("onnxruntime", graph_level="none")) as session:
        found = session.run({"photos": photos})["logits"].argmax(1)
    assert (found == answers(onnx_artifact, photos).argmax(1)).mean() >= 0.8


def test_quantizing_twice_gives_the_same_artifact(quantized, onnx_artifact, photos, tmp_path: Path) -> None:
    for scheme, quantizer in (("cpu", "nncf"), ("tensorrt", "ort")):
        calibration = CalibrationSet(photos[:24], "drawn", HASHES)
        again = quantize_int8(onnx_artifact, PtqOptions(scheme, quantizer), calibration, tmp_path / scheme)
        assert again.digest == quantized[scheme, quantizer].digest


def test_metadata_of_the_source_stays(quantized, onnx_artifact: Artifact) -> None:
    wanted = onnx.load(onnx_artifact.model_path).metadata_props
    for artifact in quantized.values():
        assert list(onnx.load(artifact.model_path).metadata_props) == list(wanted)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_default_quantizer_writes_the_scheme(scheme: str) -> None:
    assert (scheme, default_quantizer(SCHEMES[scheme])) in WRITTEN


# What is refused


def test_an_empty_calibration_set_is_refused(photos: np.ndarray) -> None:
    with pytest.raises(BadInput, match="calibration set is empty"):
        CalibrationSet(photos[:0], "drawn")


def test_a_calibration_set_counts_what_was_taken(photos: np.ndarray) -> None:
    calibration = CalibrationSet(photos[:5], "drawn")
    feeds = calibration.feeds("photos")
    assert next(feeds)["photos"].shape == (1, 32, 32, 3) and (calibration.taken, len(calibration)) == (1, 5)
    assert len(list(feeds)) == 4 and calibration.taken == 5


@pytest.mark.parametrize(
    ("scheme", "quantizer", "said"),
    [
        ("tensorrt", "nncf", "NNCF does not write"),
        ("npu", None, "unknown int8 scheme"),
        ("cpu", "aimet", "unknown quantizer"),
    ],
)
def test_a_scheme_that_cannot_be_written_is_refused(
    onnx_artifact, photos, tmp_path: Path, scheme: str, quantizer: str | None, said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        quantize_int8(onnx_artifact, PtqOptions(scheme, quantizer), CalibrationSet(photos, "drawn"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_only_an_fp32_onnx_artifact_is_quantized(quantized, openvino_artifact, photos, tmp_path: Path) -> None:
    for source in (quantized["cpu", "nncf"], openvino_artifact):
        with pytest.raises(BadInput, match="int8 onnx|fp32 openvino"):
            quantize_int8(source, PtqOptions(), CalibrationSet(photos, "drawn"), tmp_path / "int8")
        with pytest.raises(BadInput, match="int8 onnx|fp32 openvino"):
            quantize_half(source, "fp16", tmp_path / "fp16")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x0a"])
def test_a_file_that_is_no_model_is_refused(onnx_artifact: Artifact, photos, tmp_path: Path, content: bytes) -> None:
    source = save(tmp_path / "source", onnx_artifact.manifest, {"model.onnx": content})
    with pytest.raises(BadInput, match="no ONNX model"):
        quantize_half(source, "bf16", tmp_path / "half")
    with pytest.raises(BadInput, match="no ONNX model"):
        quantize_int8(source, PtqOptions(), CalibrationSet(photos, "drawn"), tmp_path / "int8")


# fp16, bf16


@pytest.mark.parametrize(("precision", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_a_half_is_half_the_weights(onnx_artifact: Artifact, tmp_path: Path, precision: str, kind: int) -> None:
    made = quantize_half(onnx_artifact, precision, tmp_path / precision)
    manifest = made.manifest
    assert (manifest.precision, manifest.scheme, manifest.calibration) == (precision, None, ())
    assert manifest.parent == onnx_artifact.digest and manifest.inputs == onnx_artifact.manifest.inputs
    assert sum(tensor.data_type == kind for tensor in graph(made).initializer) >= 4
    assert quantize_half(onnx_artifact, precision, tmp_path / "again").digest == made.digest


# Synthesized photos

FEW = SynthesisOptions(batch=6, confirm_batches=1, calibrate_batches=2, coarse_steps=2, fine_steps=1)


@pytest.fixture(scope="module")
def synthesized(checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthesize(checkpoint, tmp_path_factory.mktemp("synthesized") / "set", FEW)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_synthesized_set_is_a_dataset_with_disjoint_roles(synthesized: Path, checkpoint) -> None:
    dataset = open_dataset(synthesized)
    assert (dataset.kind, dataset.labels) == ("synthesized", checkpoint.labels)
    calibrate, confirm = dataset.role("calibrate"), dataset.role("confirm")
    assert (len(set(calibrate)), len(set(confirm))) == (12, 6)
    assert [photo.label for photo in confirm] == [0, 1, 2, 3, 0, 1]
    prove_disjoint(calibrate, confirm, ("calibrate", "confirm"))
    with Image.open(confirm[0].path) as image:
        assert (image.mode, image.size) == ("RGB", (37, 37))  # 32 / 0.875: the size before the crop


def test_every_synthesized_photo_has_a_file_of_its_own(synthesized: Path) -> None:
    """With more photos than classes, none may take another's name."""
    with (synthesized / "photos.csv").open() as file:
        listed = [row["path"] for row in csv.DictReader(file)]
    assert len(listed) == 18 and sorted(listed) == sorted(path.name for path in synthesized.glob("*.jpg"))


def test_a_synthesized_set_says_how_it_was_made(synthesized: Path, checkpoint) -> None:
    head = json.loads((synthesized / "synthesized.json").read_text())
    assert head["checkpoint"] == checkpoint.sha256 and head["options"] == dataclasses.asdict(FEW)


def test_synthesis_follows_its_seed(synthesized: Path, checkpoint, tmp_path: Path) -> None:
    assert content(synthesize(checkpoint, tmp_path / "again", FEW)) == content(synthesized)
    seeded = dataclasses.replace(FEW, seed=1, calibrate_batches=0)  # the confirm photos are made first
    other = content(synthesize(checkpoint, tmp_path / "other", seeded))
    assert other["confirm-000.jpg"] != content(synthesized)["confirm-000.jpg"]


def test_synthesis_leaves_nothing_where_it_cannot_write(checkpoint, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write"):
        synthesize(checkpoint, tmp_path / "file/set", FEW)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Options

ASKED = (
    PtqOptions(quantizer="nncf", bias_correction="none"),
    PtqOptions(quantizer="nncf", bias_correction="full"),
    PtqOptions(quantizer="nncf", ranges="minmax"),
    PtqOptions(quantizer="nncf", ranges="percentile"),
    PtqOptions(quantizer="nncf", ranges="mse"),
    PtqOptions(quantizer="nncf", preset="mixed"),
    PtqOptions(quantizer="nncf", smooth=True),
    PtqOptions(quantizer="ort", ranges="moving-average"),
    PtqOptions(quantizer="ort", ranges="percentile"),
    PtqOptions(quantizer="ort", ranges="entropy"),
)


@pytest.mark.parametrize("asked", ASKED, ids=lambda asked: json.dumps(asked.plain()))
def test_an_option_changes_the_graph_and_stands_in_the_manifest(
    quantized, onnx_artifact, photos, tmp_path: Path, asked: PtqOptions
) -> None:
    made = quantize_int8(onnx_artifact, asked, CalibrationSet(photos[:24], "drawn", HASHES), tmp_path / "int8")
    usual = quantized["cpu", asked.quantizer]
    assert made.manifest.files[0].sha256 != usual.manifest.files[0].sha256
    noted = Artifact.load(made.folder).manifest.producer.options
    assert {name: noted[name] for name in asked.plain()} == asked.applied().plain()
    assert (answers(made, photos).argmax(1) == answers(onnx_artifact, photos).argmax(1)).mean() >= 0.6


@pytest.mark.parametrize("quantizer", ["nncf", "ort"])
def test_a_float_node_keeps_its_weights(quantized, onnx_artifact, photos, tmp_path: Path, quantizer: str) -> None:
    before = graph(onnx_artifact)
    layer = [node for node in before.node if node.op_type == "Conv"][1]
    asked = PtqOptions(quantizer=quantizer, float_nodes=(layer.name,))
    made = quantize_int8(onnx_artifact, asked, CalibrationSet(photos[:24], "drawn"), tmp_path / "int8")
    kept, usual = arrays(graph(made)), arrays(graph(quantized["cpu", quantizer]))
    np.testing.assert_array_equal(kept[layer.input[1]], arrays(before)[layer.input[1]])
    assert layer.input[1] not in usual or quantizer == "nncf" and usual[layer.input[1]].dtype != np.float32
    assert made.manifest.producer.options["float_nodes"] == [layer.name]


@pytest.mark.parametrize("quantizer", ["nncf", "ort"])
def test_a_float_node_that_is_not_there_is_named(onnx_artifact, photos, tmp_path: Path, quantizer: str) -> None:
    asked = PtqOptions(quantizer=quantizer, float_nodes=("Conv_99",))
    with pytest.raises(BadInput, match="no node 'Conv_99'") as caught:
        quantize_int8(onnx_artifact, asked, CalibrationSet(photos, "drawn"), tmp_path / "int8")
    assert "Conv_" in caught.value.expected and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (PtqOptions(quantizer="ort", bias_correction="full"), "ort has no --bias-correction 'full'"),
        (PtqOptions(quantizer="ort", ranges="mse"), "ort has no --ranges 'mse'"),
        (PtqOptions(quantizer="ort", preset="mixed"), "ort has no --preset 'mixed'"),
        (PtqOptions("tensorrt", smooth=True), "ort has no --smooth"),
        (PtqOptions(quantizer="nncf", ranges="entropy"), "nncf has no --ranges 'entropy'"),
        (PtqOptions(quantizer="nncf", ranges="median"), "nncf has no --ranges 'median'"),
    ],
)
def test_what_a_quantizer_does_not_offer_is_refused(asked: PtqOptions, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        asked.applied()


# Calibration photos that are not good


def test_blank_and_repeated_photos_are_left_out_and_said(onnx_artifact, photos, caplog) -> None:
    bad = np.stack([photos[0], photos[0], np.zeros_like(photos[0]), np.full_like(photos[0], (200, 90, 20)),
                    *photos[1:20]])  # fmt: skip
    found = CalibrationSet(bad, "drawn", tuple(map(str, range(len(bad))))).usable(onnx_artifact.manifest)
    np.testing.assert_array_equal(found.photos, photos[:20])
    assert found.hashes == ("0", *map(str, range(4, 23)))
    assert "left out 2 of 23 photos, of one colour" in caplog.text
    assert "left out 2 of 23 photos, with the pixels of another" not in caplog.text
    assert "left out 1 of 23 photos, with the pixels of another" in caplog.text


@pytest.mark.parametrize(
    "calibration",
    [lambda photos: CalibrationSet(photos, "drawn"), lambda photos: CalibrationFeeds({"photos": photos}, "drawn")],
    ids=["photos", "feeds"],
)
def test_what_was_taken_of_a_set_before_is_not_counted_again(onnx_artifact, photos, calibration) -> None:
    shared = calibration(photos[:10])
    for _ in range(2):
        usable = shared.usable(onnx_artifact.manifest)
        assert usable.taken == 0 and len(list(usable.feeds("photos"))) == usable.taken == 10


def test_few_photos_and_classes_without_any_are_said(onnx_artifact, photos, caplog) -> None:
    CalibrationSet(photos[:12], "drawn", truth=(0, 1, 2) * 4).usable(onnx_artifact.manifest)
    assert "12 photos are few" in caplog.text and "1 of 4 classes have no photo" in caplog.text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda photos: photos[:7], "7 usable calibration photos of 7"),
        (lambda photos: np.zeros_like(photos), "0 usable calibration photos of 64"),
        (lambda photos: photos[:, :16], "uint8 16×32×3"),
        (lambda photos: photos.astype(np.float32), "float32 32×32×3"),
    ],
)
def test_photos_that_cannot_calibrate_are_refused(onnx_artifact, photos, tmp_path: Path, change, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        quantize_int8(onnx_artifact, PtqOptions(), CalibrationSet(change(photos), "drawn"), tmp_path / "int8")
    assert list(tmp_path.iterdir()) == []


# Corrections


@pytest.mark.parametrize("quantizer", ["nncf", "ort"])
@pytest.mark.parametrize("asked", [{"bias_correction": "empirical"}, {"compensate": True}], ids=str)
def test_corrections_take_the_mean_error_off(onnx_artifact, photos, tmp_path: Path, quantizer: str, asked) -> None:
    calibration = CalibrationSet(photos, "drawn")
    options = PtqOptions(quantizer=quantizer, bias_correction="none", compensate=False)
    plain = quantize_int8(onnx_artifact, options, calibration, tmp_path / "plain")
    made = quantize_int8(onnx_artifact, dataclasses.replace(options, **asked), calibration, tmp_path / "made")
    before, after = (mean_errors(onnx_artifact, each, photos) for each in (plain, made))
    assert len(before) == len(after) == 4 and max(after) < 0.2 * max(before)
    kinds = [[node.op_type for node in graph(each).node] for each in (plain, made)]
    assert kinds[0] == kinds[1]  # nothing to compute was added


def mean_errors(parent: Artifact, made: Artifact, photos: np.ndarray) -> list[float]:
    """Of each layer, the largest |mean error| of a channel, computed in float."""
    wanted, found = (means_of(onnx.load(each.model_path), photos) for each in (parent, made))
    return [float(np.abs(found[name] - wanted[name]).max()) for name in wanted]


def means_of(model: onnx.ModelProto, photos: np.ndarray) -> dict[str, np.ndarray]:
    walk = Walk(model, photos)
    outputs = ((node.name, walk.get(node.output[0])) for node in walk if node.op_type in ("Conv", "Gemm"))
    return {name: np.moveaxis(value, 1, 0).reshape(value.shape[1], -1).mean(1) for name, value in outputs}


def test_a_line_is_found_by_least_squares() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(2, 3, (8, 3, 5, 5)).astype(np.float32)
    slope, shift = np.array([1.1, 0.9, 1.0]), np.array([0.5, -2.0, 0.0])
    line = fit_line(x, (x * slope.reshape(1, 3, 1, 1) + shift.reshape(1, 3, 1, 1)).astype(np.float32), True)
    np.testing.assert_allclose((line.slope, line.shift), (slope, shift), atol=1e-4)
    same = fit_line(x, x + np.float32(0.25), False)
    np.testing.assert_allclose((same.slope, same.shift), (np.ones(3), np.full(3, 0.25)), atol=1e-4)


@pytest.mark.parametrize(
    ("x", "y"),
    [
        (0.0, 0.0),  # nothing wakes it
        (12.7, 12.71),  # float32 cannot tell its mean's square from the mean of its squares
        (np.linspace(-1, 1, 36), np.linspace(-9, 9, 36)),  # no line that int8 would need
        (np.linspace(-1, 1, 36), 0.0),
    ],
)
def test_a_channel_that_no_line_fits_keeps_its_slope(x, y) -> None:
    quantized, wanted = (np.broadcast_to(np.float32(each), (4, 36)).reshape(4, 1, 6, 6) for each in (x, y))
    line = fit_line(quantized, wanted, True)
    assert line.slope == 1 and line.shift == pytest.approx(np.mean(y) - np.mean(x), abs=1e-5)


def test_the_bias_of_a_channel_with_tiny_weights_stays_in_int32() -> None:
    """ONNX Runtime's quantizer gives such a channel the smallest weight scale that its int32 bias has room in."""
    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 1024)).astype(np.float32), np.full(4, 0.7, np.float32)
    weight[3] = 8e-7
    x = np.repeat(rng.normal(size=(40, 1)), 1024, 1).astype(np.float32)
    wanted, model = (gemm_model(weight * np.float32(times), bias) for times in (0.75, 1))
    made = quantize_ort(model, SCHEMES["cpu"], CalibrationFeeds({"x": x}, "x"), PtqOptions("cpu", "ort").applied())
    found = means_of(correct(wanted, made, x, with_slope=True), x)["head"]
    np.testing.assert_allclose(found, means_of(wanted, x)["head"], atol=0.02)


def gemm_model(weight: np.ndarray, bias: np.ndarray | None = None, **attributes: float) -> onnx.ModelProto:
    """x · weightᵀ + bias as `head`."""
    held = {"w": weight, "b": bias}
    inputs = ["x", *(name for name, value in held.items() if value is not None)]
    node = helper.make_node("Gemm", inputs, ["y"], "head", transB=1, **attributes)
    given_, found = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size])
        for name, size in zip("xy", weight.T.shape, strict=True)
    )
    tensors = [numpy_helper.from_array(held[name], name) for name in inputs[1:]]
    graph = helper.make_graph([node], "head", [given_], [found], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_bias_that_two_layers_share_is_not_changed_under_the_other(onnx_artifact, photos) -> None:
    parent = onnx.load(onnx_artifact.model_path)
    layers = [node for node in parent.graph.node if node.op_type == "Conv"]
    held = {tensor.name: tensor for tensor in parent.graph.initializer}
    sizes: dict[int, onnx.NodeProto] = {}
    for node in layers:
        twin = sizes.setdefault(held[node.input[1]].dims[0], node)
        node.input[2] = twin.input[2]
    model = quantize_ort(
        copy.deepcopy(parent), SCHEMES["tensorrt"], CalibrationSet(photos, "drawn"), PtqOptions("tensorrt").applied()
    )
    made = correct(parent, model, photos, with_slope=False)
    wanted, found = (means_of(each, photos) for each in (parent, made))
    assert len(sizes) < len(layers)
    assert max(np.abs(found[name] - wanted[name]).max() for name in wanted) < 0.02


@pytest.mark.parametrize(
    ("quantizer", "case"),  # y = alpha · x·W + beta · C: its attributes; shape of C, where 4 is one value a class
    [
        ("ort", {"beta": 3.0}),
        ("ort", {"bias": (1, 4)}),
        ("ort", {"bias": (), "alpha": 0.5}),
        ("ort", {"bias": "computed", "beta": 0.5}),
        ("nncf", {"bias": "computed"}),
        ("nncf", {"transA": 1}),
    ],
    ids=str,
)
def test_a_gemm_of_any_form_is_quantized(onnx_artifact, photos, tmp_path: Path, quantizer: str, case) -> None:
    model = with_gemm(onnx.load(onnx_artifact.model_path), **case)
    parent = save(tmp_path / "fp32", onnx_artifact.manifest, {"model.onnx": model.SerializeToString()})
    made = quantize_int8(parent, PtqOptions(quantizer=quantizer), CalibrationSet(photos, "drawn"), tmp_path / "int8")
    wanted, found = (engine_logits(each, RunConfig("onnxruntime"), photos) for each in (parent, made))
    assert ((found - wanted) ** 2).sum() < 0.02 * ((wanted - wanted.mean(0)) ** 2).sum()


def with_gemm(model: onnx.ModelProto, bias: tuple[int, ...] | str | None = (4,), **attributes: float):
    """The graph with its last layer so."""
    nodes, inserted = model.graph.node, []
    gemm = next(node for node in nodes if node.op_type == "Gemm")
    place = list(nodes).index(gemm)
    if bias == "computed":
        inserted.append(helper.make_node("Gemm", gemm.input, ["c"], "twin", transB=1))
    elif bias is not None:
        values = np.random.default_rng(0).normal(size=bias).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values), "c"))
    del gemm.input[2:]
    gemm.input.extend([] if bias is None else ["c"])
    if "transA" in attributes:
        inserted.append(helper.make_node("Transpose", gemm.input[:1], ["turned"], "turn", perm=[1, 0]))
        gemm.input[0] = "turned"
    del gemm.attribute[:]
    gemm.attribute.extend(helper.make_attribute(name, value) for name, value in {"transB": 1, **attributes}.items())
    for node in inserted:
        nodes.insert(place, node)
    return model


def test_a_bias_that_is_added_takes_no_other_tensors_name() -> None:
    rng = np.random.default_rng(3)
    rows, weight, shift = (rng.normal(size=size).astype(np.float32) for size in ((40, 6), (6, 4), 4))
    nodes = [helper.make_node("Gemm", ["x", "w"], ["h"], "head"), helper.make_node("Add", ["h", "head_bias"], ["y"])]
    given_, found = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, size]) for name, size in
                     (("x", 6), ("y", 4)))  # fmt: skip
    parent, rounded = (
        helper.make_model(
            helper.make_graph(nodes, "head", [given_], [found],
                              [numpy_helper.from_array(values, "w"), numpy_helper.from_array(shift, "head_bias")]),
            opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        for values in (weight, weight.round())
    )  # fmt: skip
    made = correct(parent, rounded, rows, with_slope=False)
    onnx.checker.check_model(made, full_check=True)
    np.testing.assert_allclose(means_of(made, rows)["head"], means_of(parent, rows)["head"], atol=1e-5)


# Without photos


def test_the_shipped_images_serve_what_came_from_the_shipped_checkpoint(onnx_artifact, tmp_path: Path) -> None:
    shipped = made_from(shipped_set())
    twin = save(tmp_path / "twin", dataclasses.replace(onnx_artifact.manifest, checkpoint=shipped),
                {"model.onnx": onnx_artifact.model_path})  # fmt: skip
    assert data_free(twin, None, tmp_path).root == shipped_set().root
    with pytest.raises(BadInput, match="no images are at hand"):
        data_free(onnx_artifact, None, tmp_path)
    with pytest.raises(BadInput, match="not what"):
        data_free(onnx_artifact, str(DEFAULT_CHECKPOINT), tmp_path)


def test_images_are_made_once_from_another_checkpoint_and_calibrate_it(
    onnx_artifact, checkpoint_file: Path, photos, tmp_path: Path
) -> None:
    steps: list[tuple[int, int]] = []
    made = data_free(onnx_artifact, str(checkpoint_file), tmp_path, progress=lambda *step: steps.append(step))
    assert steps[-1][0] == steps[-1][1] == len(steps)
    assert made.kind == "synthesized" and not made.roles.get("confirm")
    again = data_free(onnx_artifact, str(checkpoint_file), tmp_path, progress=lambda *step: pytest.fail("made again"))
    assert again.root == made.root
    host = onnx_artifact.manifest.preprocess
    prepared = prepare_photos(made.role("calibrate"), host, tmp_path / "cache", made.kind)
    artifact = quantize_int8(onnx_artifact, PtqOptions(), CalibrationSet.of(prepared, made.name), tmp_path / "int8")
    assert artifact.manifest.producer.options["calibration_source"] == "synthesized"
    with tiffin.load(onnx_artifact) as fp32, tiffin.load(artifact) as int8:
        wanted, found = (each.run({"photos": photos})["logits"].argmax(1) for each in (fp32, int8))
    assert (wanted == found).mean() >= 0.85


class ScaledResidual(torch.nn.Module):
    """As in Inception-ResNet: a branch times a constant without dimensions, which a quantizer rounds."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.branch = torch.nn.Conv2d(3, 8, 3, 2), torch.nn.Conv2d(8, 8, 3, padding=1)
        self.last = torch.nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.first(images).relu()
        return self.last((found + 0.17 * self.branch(found)).mean((2, 3)))


def test_a_residuals_factor_stays_float_for_tensorrt(checkpoint, photos, tmp_path: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        scaled = dataclasses.replace(checkpoint, module=ScaledResidual().eval(), sha256="0" * 64)
    fp32 = to_onnx(scaled, tmp_path / "fp32", photos)[0]
    calibration = CalibrationSet(photos[:24], "drawn", HASHES)
    made = quantize_int8(fp32, PtqOptions("tensorrt", "ort", compensate=False), calibration, tmp_path / "int8")
    factors = [node for node in graph(made).node if node.op_type == "Mul" and not node.name.startswith("preprocess/")]
    held = {tensor.name: tensor.data_type for tensor in graph(made).initializer}
    assert len(factors) == 1 and [held[name] for name in factors[0].input if name in held] == [onnx.TensorProto.FLOAT]
    found, wanted = (engine_logits(each, RunConfig("onnxruntime", graph_level="none"), photos) for each in (made, fp32))
    assert ((found - wanted) ** 2).sum() < ((wanted - wanted.mean(0)) ** 2).sum() / 20


def test_a_network_without_batch_norm_has_nothing_to_make_images_from(checkpoint, tmp_path: Path) -> None:
    bare = dataclasses.replace(checkpoint, module=torch.nn.Flatten())
    with pytest.raises(BadInput, match="no batch norm"):
        synthesize(bare, tmp_path / "set", SynthesisOptions())
    assert list(tmp_path.iterdir()) == []


# fp8, and int8 whose floats are 16-bit


@pytest.fixture(scope="module")
def eight_bits(onnx_artifact: Artifact, photos: np.ndarray, tmp_path_factory: pytest.TempPathFactory):
    """ "fp8", and "mixed": int8 for TensorRT with the first convolution and all else in fp16."""
    folder = tmp_path_factory.mktemp("eight")
    first = next(node.name for node in graph(onnx_artifact).node if node.op_type == "Conv")
    mixed = PtqOptions("tensorrt", float_nodes=(first,), floats="fp16")
    return {
        "fp8": quantize_fp8(
            onnx_artifact, PtqOptions("tensorrt"), CalibrationSet(photos[:24], "drawn", HASHES), folder / "fp8"
        ),
        "mixed": quantize_int8(onnx_artifact, mixed, CalibrationSet(photos[:24], "drawn", HASHES), folder / "mixed"),
    }


def simulated_answers(artifact: Artifact, photos: np.ndarray) -> np.ndarray:
    with tiffin.load(artifact, RunConfig("onnxruntime", graph_level="none")) as session:
        return session.run({"photos": photos})["logits"]


def test_fp8_is_no_int8_dialect_and_says_what_it_is(eight_bits, onnx_artifact: Artifact) -> None:
    manifest = eight_bits["fp8"].manifest
    assert (manifest.precision, manifest.scheme, manifest.parent) == ("fp8", None, onnx_artifact.digest)
    assert manifest.calibration == tuple(digest[:16] for digest in HASHES)
    options = manifest.producer.options
    assert (options["format"], options["ranges_of"], options["compensate"]) == ("e4m3fn", "tensorrt", True)
    dialect = read_dialect(onnx.load(eight_bits["fp8"].model_path))
    assert (dialect.zero_points, dialect.quantized_bias) == (("float8e4m3fn",), False)
    onnx.checker.check_model(onnx.load(eight_bits["fp8"].model_path), full_check=True)


@pytest.mark.parametrize("asked", [{"bias_correction": "empirical", "compensate": False}, {}], ids=str)
def test_corrections_take_the_mean_error_of_fp8_off(onnx_artifact, photos, tmp_path: Path, asked) -> None:
    plain, corrected = (
        quantize_fp8(onnx_artifact, PtqOptions("tensorrt", **options), CalibrationSet(photos[:24], "drawn"), place)
        for options, place in (({"compensate": False}, tmp_path / "plain"), (asked, tmp_path / "corrected"))
    )
    errors = (sum(mean_errors(onnx_artifact, made, photos[:24])) for made in (plain, corrected))
    before, after = errors
    assert after < before / 4


def test_fp8_rounds_where_int8_does_over_the_same_ranges(onnx_artifact, photos, tmp_path: Path) -> None:
    uncorrected = PtqOptions("tensorrt", compensate=False)
    int8, fp8 = (
        make(onnx_artifact, uncorrected, CalibrationSet(photos[:24], "drawn"), tmp_path / make.__name__)
        for make in (quantize_int8, quantize_fp8)
    )
    ours, theirs = graph(fp8), graph(int8)
    assert [node.name for node in ours.node] == [node.name for node in theirs.node]
    ranges = {
        name: (numpy_helper.to_array(tensor) * 448, arrays(theirs)[name] * 127)
        for tensor in ours.initializer
        for name in [tensor.name]
        if name.endswith("_scale")
    }
    assert len(ranges) > 10
    for found, wanted in ranges.values():
        np.testing.assert_allclose(found, wanted, rtol=1e-5)


@given(
    weights=hypothesis_arrays(np.float32, (3, 5), elements=st.floats(-1e4, 1e4, width=32)),
    axis=st.sampled_from([None, 0, 1]),
)
def test_fp8_weights_are_the_nearest_that_e4m3_holds(weights: np.ndarray, axis: int | None) -> None:
    values, scale = round_to_fp8(weights, axis)
    assert scale.shape == (() if axis is None else (weights.shape[axis],)) and (scale > 0).all()
    spread = scale.reshape(-1, 1) if axis == 0 else scale
    found = values.astype(np.float64) * spread
    # Three bits of mantissa, and below 2⁻⁶ steps of 2⁻⁹.
    bound = np.maximum(np.abs(weights.astype(np.float64)) * 2.0**-4, spread * 2.0**-10)
    assert (np.abs(found - weights) <= bound * (1 + 1e-5)).all()


@given(values=hypothesis_arrays(np.float32, 16, elements=st.floats(-1e3, 1e3, width=32)))
def test_the_simulation_rounds_to_e4m3_as_the_format_says(values: np.ndarray) -> None:
    scale = np.float32(0.5)
    held = [numpy_helper.from_array(np.asarray(scale), "s"),
            numpy_helper.from_array(np.zeros((), ml_dtypes.float8_e4m3fn), "z")]  # fmt: skip
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]  # fmt: skip
    given_, found = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [16]) for name in "xy")
    whole = helper.make_graph(nodes, "round", [given_], [found], held)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    wanted = np.clip(values / scale, -448, 448).astype(ml_dtypes.float8_e4m3fn).astype(np.float32) * scale
    np.testing.assert_array_equal(session.run(None, {"x": values})[0], wanted)


@pytest.mark.parametrize("name", ["fp8", "mixed"])
def test_eight_bits_agree_with_fp32_where_they_are_simulated(eight_bits, onnx_artifact, photos, name: str) -> None:
    wanted, found = answers(onnx_artifact, photos).argmax(1), simulated_answers(eight_bits[name], photos).argmax(1)
    assert (wanted == found).mean() >= 0.9


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (PtqOptions("cpu"), "--scheme cpu"),
        (PtqOptions("tensorrt", floats="fp16"), "--floats fp16"),
    ],
)
def test_what_fp8_does_not_have_is_refused(onnx_artifact, photos, tmp_path: Path, asked: PtqOptions, said: str) -> None:
    with pytest.raises(BadInput, match=f"fp8 has no {said}"):
        quantize_fp8(onnx_artifact, asked, CalibrationSet(photos, "drawn"), tmp_path / "fp8")
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_quantized_is_fp16_and_scales_too(eight_bits, onnx_artifact: Artifact) -> None:
    made = eight_bits["mixed"]
    assert (made.manifest.precision, made.manifest.scheme) == ("int8", "tensorrt")
    assert made.manifest.producer.options["floats"] == "fp16"
    model = onnx.load(made.model_path)
    onnx.checker.check_model(model, full_check=True)
    held = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    prologue = {name for node in model.graph.node if node.name in PROLOGUE for name in node.input}
    assert {held[name] for name in held if name in prologue} <= {TensorProto.FLOAT, TensorProto.INT64}
    assert TensorProto.FLOAT not in {kind for name, kind in held.items() if name not in prologue}
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    assert held[first.input[1]] == TensorProto.FLOAT16
    scales = [name for node in model.graph.node if "Linear" in node.op_type for name in node.input[1:2]]
    assert {held[name] for name in scales} == {TensorProto.FLOAT16}


def test_artifacts_of_fp32_floats_say_nothing_of_them(quantized) -> None:
    assert "floats" not in quantized["tensorrt", "ort"].manifest.producer.options


@given(
    whole=hypothesis_arrays(np.int8, (4, 3), elements=st.integers(-127, 127)),
    exponents=hypothesis_arrays(np.float64, 4, elements=st.floats(-12, 3)),
)
def test_weights_stay_within_half_a_step_of_an_fp16_scale(whole: np.ndarray, exponents: np.ndarray) -> None:
    scale = (10**exponents).astype(np.float32)  # from far below what fp16 holds
    rounded = np.maximum(scale.astype(np.float16), np.float16(2**-24))
    found, chosen = regrid(whole, scale, rounded, axis=0)
    assert found.dtype == np.int8 and (chosen > 0).all() and np.isfinite(chosen).all()
    meant, step = whole * scale[:, None].astype(np.float64), chosen[:, None].astype(np.float64)
    assert (np.abs(found * step - meant) <= step / 2 * (1 + 1e-9)).all()
    plain = scale > 1e-4  # where fp16 has all its bits
    assert np.array_equal(found[plain], whole[plain])


def test_a_scale_that_fp16_does_not_hold_is_no_zero(quantized, onnx_artifact: Artifact) -> None:
    model = onnx.load(quantized["tensorrt", "ort"].model_path)
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    node = next(node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in held)
    scale = numpy_helper.to_array(held[node.input[1]]).copy()
    scale[0] = 1e-10
    held[node.input[1]].CopyFrom(numpy_helper.from_array(scale, node.input[1]))
    made = {tensor.name: numpy_helper.to_array(tensor) for tensor in to_half(model, "fp16").graph.initializer}
    assert made[node.input[1]][0] == np.float16(2**-24)
    assert not made[node.input[0]][0].any()  # 127 × 10⁻¹⁰ is nearer to 0 than to one such step


@pytest.mark.parametrize(
    ("asked", "said"),
    [(PtqOptions("cpu", floats="fp16"), "keep them in fp32"), (PtqOptions("tensorrt", floats="fp64"), "fp64")],
)
def test_other_floats_are_refused(asked: PtqOptions, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        asked.applied()


def test_the_command_makes_fp8_and_mixed(onnx_artifact, photo_folder: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from tiffin.cli.app import app

    words = ["quantize", str(onnx_artifact.folder), "--data", str(photo_folder), "--out"]
    for out, more in (("fp8", ["--precision", "fp8"]), ("mixed", ["--scheme", "tensorrt", "--floats", "fp16"])):
        done = CliRunner().invoke(app, [*words, str(tmp_path / out), *more], catch_exceptions=False)
        assert done.exit_code == 0 and "--backend tensorrt_rtx" in done.output
    assert Artifact.load(tmp_path / "fp8").manifest.precision == "fp8"
    assert Artifact.load(tmp_path / "mixed").manifest.producer.options["floats"] == "fp16"
    for wrong in (["--precision", "fp8", "--method", "qat"], ["--precision", "fp16", "--floats", "fp16"]):
        with pytest.raises(BadInput, match="--precision"):
            CliRunner().invoke(app, [*words, str(tmp_path / "x"), *wrong], catch_exceptions=False)


def test_layers_are_corrected_in_the_parents_order() -> None:
    """Two branches that the quantizer wrote the other way round."""
    rng = np.random.default_rng(7)
    held = [numpy_helper.from_array(rng.normal(size=(3, 2, 1, 1)).astype(np.float32), name) for name in ("v", "w")]
    nodes = [helper.make_node("Conv", ["x", "v"], ["a"], "one"), helper.make_node("Conv", ["x", "w"], ["b"], "other"),
             helper.make_node("Add", ["a", "b"], ["y"], "sum")]  # fmt: skip
    given_, found = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    parent, swapped = (
        helper.make_model(helper.make_graph(order, "branches", [given_], [found], held), ir_version=10,
                          opset_imports=[helper.make_opsetid("", 20)])
        for order in (nodes, [nodes[1], nodes[0], nodes[2]])
    )  # fmt: skip
    assert [node.name for node in in_order(swapped, ["one", "other"]).graph.node] == ["one", "other", "sum"]
    corrected = correct(parent, swapped, rng.normal(size=(4, 2, 3, 3)).astype(np.float32), with_slope=False)
    shifts = [arrays(corrected.graph)[f"{name}_bias"] for name in ("one", "other")]
    np.testing.assert_allclose(shifts, 0, atol=1e-6)
