"""export/: ONNX, .pt2, IR and TensorRT engines of the tiny classifier, and what must never be written."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import tiffin
from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.claims import read_claim
from tiffin.artifact.store import save
from tiffin.benchmarks import limits
from tiffin.benchmarks.roofline import measure_roofline, operations
from tiffin.errors import BadArtifact, BadDialect, BadInput, EngineMissing, ParityFailed, WorkerFailed
from tiffin.export import parity, to_onnx
from tiffin.export.graph.dialect import Dialect, check_for_tensorrt, read_dialect
from tiffin.export.graph.rounding import layers_of, partly_quantized
from tiffin.export.to_openvino import to_openvino
from tiffin.export.to_pt2 import to_pt2
from tiffin.export.to_tensorrt import EngineOptions, to_tensorrt
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.ptq_ort import quantize_ort
from tiffin.quantize.quantize import quantize_half, quantize_int8
from tiffin.quantize.sensitivity import divergence, most_sensitive, sensitivity

REPOSITORY = Path(tiffin.__file__).parent


def answers(artifact: Artifact, photos: np.ndarray, backend: str) -> np.ndarray:
    with tiffin.load(artifact, RunConfig(backend)) as session:
        return session.run({"photos": photos})["logits"]


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def machine_words() -> list[bytes]:
    """What names the machine that exported: its folders, as paths and stack traces hold them."""
    return [str(REPOSITORY).encode(), str(Path.home()).encode() + b"/", b"site-packages", b"Traceback", b".py"]


# ONNX


def test_the_model_takes_photos_and_gives_logits(onnx_artifact: Artifact, photos: np.ndarray) -> None:
    model = onnx.load(onnx_artifact.model_path)
    onnx.checker.check_model(model, full_check=True)
    (given,), (found,) = model.graph.input, model.graph.output
    shape = [dim.dim_value or None for dim in given.type.tensor_type.shape.dim]
    assert (given.name, given.type.tensor_type.elem_type, shape) == ("photos", TensorProto.UINT8, [None, 32, 32, 3])
    assert (found.name, found.type.tensor_type.elem_type) == ("logits", TensorProto.FLOAT)
    for count in (1, 3, 64):
        assert answers(onnx_artifact, photos[:count], "onnxruntime").shape == (count, 4)


def test_the_manifest_says_what_the_model_is(onnx_artifact: Artifact, checkpoint) -> None:
    manifest = onnx_artifact.manifest
    assert (manifest.format, manifest.precision, manifest.scheme) == ("onnx", "fp32", None)
    assert (manifest.inputs[0].name, manifest.inputs[0].dtype) == ("photos", "uint8")
    assert (manifest.labels, manifest.preprocess) == (checkpoint.labels, checkpoint.preprocess)
    assert manifest.parent == manifest.checkpoint == checkpoint.sha256


def test_the_model_file_carries_labels_preprocessing_and_the_checkpoint(onnx_artifact: Artifact, checkpoint) -> None:
    found = {entry.key: entry.value for entry in onnx.load(onnx_artifact.model_path).metadata_props}
    assert found["tiffin.checkpoint"] == checkpoint.sha256
    assert json.loads(found["tiffin.labels"]) == list(checkpoint.labels)
    host = json.loads(found["tiffin.preprocess"])
    assert (host["height"], host["golden"]) == (32, dict(checkpoint.preprocess.golden))


def test_parity_is_claimed_beside_the_model(onnx_artifact: Artifact) -> None:
    claim = read_claim(onnx_artifact, "parity")
    assert claim is not None and claim["photos"] == 64 and claim["top1_agreement"] == 1
    assert 0 <= claim["max_relative"] <= claim["tolerance"]


def test_two_exports_are_the_same_bytes(onnx_artifact: Artifact, checkpoint, photos, tmp_path: Path) -> None:
    again, _ = to_onnx.to_onnx(checkpoint, tmp_path / "again", photos[:8])
    assert again.model_path.read_bytes() == onnx_artifact.model_path.read_bytes()
    assert again.digest == onnx_artifact.digest


def test_no_trace_of_the_machine_in_the_model(onnx_artifact: Artifact) -> None:
    content = onnx_artifact.model_path.read_bytes()
    assert [word for word in machine_words() if word in content] == []


def perturbed(checkpoint, tolerance_of_head: float):
    """An exporter that exports another network than the one it is compared with."""
    import copy

    import torch

    other = copy.deepcopy(checkpoint.module)
    with torch.no_grad():
        other.head.bias += tolerance_of_head
    return dataclasses.replace(checkpoint, module=other)


def test_a_model_that_answers_otherwise_is_not_written(
    checkpoint, photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = to_onnx._export
    monkeypatch.setattr(to_onnx, "_export", lambda given: export(perturbed(given, 0.5)))
    with pytest.raises(ParityFailed, match="differ from torch") as caught:
        to_onnx.to_onnx(checkpoint, tmp_path / "model", photos[:8])
    assert "1e-04" in caught.value.expected and left_in(tmp_path) == []


@pytest.mark.parametrize("worst", [1.1e-4, float("nan"), float("inf")])
def test_parity_holds_only_within_the_tolerance(worst: float) -> None:
    found = parity.Parity(64, worst, 1.0, parity.TOLERANCE, "onnxruntime")
    with pytest.raises(ParityFailed):
        parity.require_parity(found)
    good = dataclasses.replace(found, max_relative=parity.TOLERANCE)
    assert parity.require_parity(good) is good


def test_a_failed_export_leaves_the_old_artifact(
    checkpoint, photos, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, onnx_artifact: Artifact
) -> None:
    kept = save(tmp_path / "model", onnx_artifact.manifest, {"model.onnx": onnx_artifact.model_path})
    monkeypatch.setattr(parity, "TOLERANCE", -1.0)
    with pytest.raises(ParityFailed):
        to_onnx.to_onnx(checkpoint, kept.folder, photos[:4])
    assert Artifact.load(kept.folder, verify=True).digest == kept.digest and left_in(tmp_path) == ["model"]


# .pt2


def test_the_torch_program_gives_torchs_logits(pt2_artifact: Artifact, checkpoint, photos) -> None:
    wanted = parity.torch_logits(checkpoint, photos)
    np.testing.assert_allclose(answers(pt2_artifact, photos, "torch"), wanted, rtol=1e-4, atol=1e-5)


def test_no_trace_of_the_machine_in_the_torch_program(pt2_artifact: Artifact) -> None:
    with zipfile.ZipFile(pt2_artifact.model_path) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    found = {(name, word) for name, content in members.items() for word in machine_words() if word in content}
    assert members and found == set()


def test_two_torch_programs_are_the_same_bytes(pt2_artifact: Artifact, checkpoint, tmp_path: Path) -> None:
    assert to_pt2(checkpoint, tmp_path / "again").digest == pt2_artifact.digest


def test_the_torch_program_runs_at_any_batch(pt2_artifact: Artifact, photos) -> None:
    whole = answers(pt2_artifact, photos[:5], "torch")
    np.testing.assert_allclose(answers(pt2_artifact, photos[:1], "torch"), whole[:1], rtol=1e-4, atol=1e-5)


# Typed 16-bit graphs


@pytest.fixture(scope="module")
def halves(onnx_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder = tmp_path_factory.mktemp("half")
    return {word: quantize_half(onnx_artifact, word, folder / word) for word in ("fp16", "bf16")}


@pytest.mark.parametrize(("word", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_half_weights_are_typed_and_the_prologue_is_not(halves, word: str, kind: int) -> None:
    model = onnx.load(halves[word].model_path)
    onnx.checker.check_model(model, full_check=True)
    types = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    weights = {node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    prologue = {name for node in model.graph.node if node.name.startswith("preprocess/") for name in node.input}
    assert {types[name] for name in weights} == {kind}
    assert {types[name] for name in prologue if name in types} <= {TensorProto.FLOAT}
    assert model.graph.output[0].type.tensor_type.elem_type == TensorProto.FLOAT
    assert halves[word].manifest.precision == word


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_fp16_answers_as_fp32_does(halves, onnx_artifact: Artifact, photos, backend: str) -> None:
    wanted = answers(onnx_artifact, photos, "onnxruntime")
    found = answers(halves["fp16"], photos, backend)
    assert found.dtype == np.float32
    assert np.abs(found - wanted).max() < 0.01 * np.abs(wanted).max()
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.95


# OpenVINO


def test_the_ir_gives_the_onnx_models_logits(openvino_artifact: Artifact, onnx_artifact: Artifact, photos) -> None:
    wanted = answers(onnx_artifact, photos, "onnxruntime")
    np.testing.assert_allclose(answers(openvino_artifact, photos, "openvino"), wanted, rtol=1e-4, atol=1e-5)
    assert openvino_artifact.manifest.parent == onnx_artifact.digest
    assert {file.name for file in openvino_artifact.manifest.files} == {"model.xml", "model.bin"}
    assert openvino_artifact.manifest.labels == onnx_artifact.manifest.labels


def test_two_irs_are_the_same_bytes_without_a_trace_of_the_machine(
    openvino_artifact: Artifact, onnx_artifact: Artifact, int8, tmp_path: Path
) -> None:
    assert to_openvino(onnx_artifact, tmp_path / "fp32").digest == openvino_artifact.digest
    one, other = (to_openvino(int8["cpu-nncf"], tmp_path / name) for name in ("one", "other"))
    assert one.digest == other.digest
    text = openvino_artifact.model_path.read_bytes()
    assert [word for word in machine_words() if word in text] == []


def test_fp16_stays_fp16_in_the_ir(halves, onnx_artifact: Artifact, openvino_artifact, photos, tmp_path: Path) -> None:
    made = to_openvino(halves["fp16"], tmp_path / "ir")
    assert made.manifest.precision == "fp16"
    assert made.folder.joinpath("model.bin").stat().st_size < 0.8 * openvino_artifact.manifest.files[1].size_bytes
    found, wanted = answers(made, photos, "openvino"), answers(onnx_artifact, photos, "onnxruntime")
    assert np.abs(found - wanted).max() < 0.01 * np.abs(wanted).max()


@pytest.mark.parametrize("make", [to_openvino, to_tensorrt])
def test_only_onnx_is_compiled(openvino_artifact: Artifact, tmp_path: Path, make) -> None:
    with pytest.raises(BadInput, match="format openvino"):
        make(openvino_artifact, tmp_path / "out")
    assert left_in(tmp_path) == []


# TensorRT: TensorRT-RTX's real parser and builder need no GPU


@pytest.fixture(scope="module")
def int8(onnx_artifact: Artifact, photos: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    folder, made = tmp_path_factory.mktemp("int8"), {}
    for scheme, quantizer in (("cpu", "nncf"), ("cpu", "ort"), ("tensorrt", "ort")):
        calibration = CalibrationSet(photos[:16], "drawn")
        made[f"{scheme}-{quantizer}"] = quantize_int8(
            onnx_artifact, PtqOptions(scheme, quantizer), calibration, folder / f"{scheme}-{quantizer}"
        )
    return made


@pytest.fixture(scope="module")
def sources(onnx_artifact: Artifact, halves, int8) -> dict[str, Artifact]:
    return {"fp32": onnx_artifact, **halves, "int8": int8["tensorrt-ort"]}


RTX = "tensorrt_rtx"
FOR_89 = EngineOptions(capabilities=("8.9",))


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8"])
def test_an_engine_is_built_without_a_gpu(sources, tmp_path: Path, precision: str) -> None:
    trt = pytest.importorskip("tensorrt_rtx_bindings")
    source = sources[precision]
    made = to_tensorrt(source, tmp_path / "engine", RTX, FOR_89)
    assert made.manifest.built_for == {"engine_version": trt.__version__, "compute_capabilities": ["8.9"]}
    assert (made.manifest.format, made.manifest.precision, made.manifest.parent) == (RTX, precision, source.digest)
    assert made.model_path.stat().st_size > 10_000
    assert (made.folder / "source.onnx").read_bytes() == source.model_path.read_bytes()
    assert Artifact.load(made.folder, verify=True).digest == made.digest


def test_the_profile_is_recorded(onnx_artifact: Artifact, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    made = to_tensorrt(onnx_artifact, tmp_path / "e", RTX, dataclasses.replace(FOR_89, opt_batch=4, max_batch=8))
    options = made.manifest.producer.options
    assert (options["min_batch"], options["opt_batch"], options["max_batch"]) == (1, 4, 8)


def test_an_unknown_capability_is_refused(onnx_artifact: Artifact, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    with pytest.raises(BadInput, match=r"capability 3\.1") as caught:
        to_tensorrt(onnx_artifact, tmp_path / "engine", RTX, EngineOptions(capabilities=("8.9", "3.1")))
    assert "8.9" in caught.value.expected and left_in(tmp_path) == []


@pytest.mark.parametrize("batches", [(0, 1, 16), (4, 2, 16), (1, 32, 16)])
def test_a_profile_out_of_order_is_refused(batches: tuple[int, int, int]) -> None:
    with pytest.raises(BadInput, match="profile"):
        EngineOptions(*batches)


def test_without_capability_and_gpu_the_reason_is_given(onnx_artifact: Artifact, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    from tiffin.runtime.backends._cuda import driver_problem

    if not driver_problem():
        pytest.skip("there is a GPU here")
    with pytest.raises(EngineMissing, match="NVIDIA driver"):
        to_tensorrt(onnx_artifact, tmp_path / "engine", RTX)
    assert left_in(tmp_path) == []


# int8 dialects


def quantized_otherwise(onnx_artifact: Artifact, photos: np.ndarray, out: Path, **changed: object) -> Artifact:
    """An int8 graph in a dialect that none of our schemes is written in."""
    from tiffin.artifact.scheme import SCHEMES

    scheme = dataclasses.replace(SCHEMES["tensorrt"], **changed)
    model = quantize_ort(
        onnx.load(onnx_artifact.model_path),
        scheme,
        CalibrationSet(photos[:8], "drawn"),
        PtqOptions("tensorrt").applied(),
    )
    manifest = dataclasses.replace(onnx_artifact.manifest, precision="int8")
    return save(out, manifest, {"model.onnx": model.SerializeToString()})


def test_a_cpu_graph_is_refused_for_tensorrt_with_the_fix(int8, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    for name in ("cpu-nncf", "cpu-ort"):
        with pytest.raises(BadDialect, match="uint8 zero points") as caught:
            to_tensorrt(int8[name], tmp_path / name, RTX, FOR_89)
        assert "--scheme tensorrt" in caught.value.fix
    assert left_in(tmp_path) == []


def test_quantized_biases_are_refused_for_tensorrt(onnx_artifact: Artifact, photos, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    source = quantized_otherwise(onnx_artifact, photos, tmp_path / "source", quantize_bias=True)
    with pytest.raises(BadDialect, match="int32") as caught:
        to_tensorrt(source, tmp_path / "engine", RTX, FOR_89)
    assert "uint8" not in caught.value.what and "--scheme tensorrt" in caught.value.fix
    assert left_in(tmp_path) == ["source"]


def test_asymmetric_int8_is_refused_for_tensorrt(onnx_artifact: Artifact, photos, tmp_path: Path) -> None:
    source = quantized_otherwise(onnx_artifact, photos, tmp_path / "source", symmetric_activations=False)
    with pytest.raises(BadDialect, match="other than 0"):
        check_for_tensorrt(onnx.load(source.model_path), "it")


def test_dialects_are_read(onnx_artifact: Artifact, int8) -> None:
    def read(artifact: Artifact) -> Dialect:
        return read_dialect(onnx.load(artifact.model_path))

    plain, tensorrt, cpu = read(onnx_artifact), read(int8["tensorrt-ort"]), read(int8["cpu-ort"])
    assert (plain, plain.quantized) == (Dialect((), True, False), False)
    assert (tensorrt, tensorrt.quantized) == (Dialect(("int8",), True, False), True)
    assert cpu == Dialect(("int8", "uint8"), False, True)
    assert "uint8" in read(int8["cpu-nncf"]).zero_points


def qdq_model(zero: np.ndarray | None, *, as_node: bool = False, kind: int = 0) -> onnx.ModelProto:
    """x → Q → DQ, its zero point an initializer, a Constant node, or left out with `output_dtype` instead."""
    third = ["zero"] if zero is not None else []
    tensors = [numpy_helper.from_array(np.float32(0.1), "scale")]
    nodes = []
    if zero is not None:
        held = numpy_helper.from_array(zero, "zero")
        nodes += [helper.make_node("Constant", [], ["zero"], value=held)] if as_node else []
        tensors += [] if as_node else [held]
    asked = {"output_dtype": kind} if kind else {}
    nodes.append(helper.make_node("QuantizeLinear", ["x", "scale", *third], ["q"], **asked))
    nodes.append(helper.make_node("DequantizeLinear", ["q", "scale", *third], ["y"]))
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in "xy"]
    return helper.make_model(helper.make_graph(nodes, "g", *ends, initializer=tensors))


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        (qdq_model(None), Dialect(("uint8",), True, False)),
        (qdq_model(None, kind=TensorProto.INT8), Dialect(("int8",), True, False)),
        (qdq_model(np.int8(0)), Dialect(("int8",), True, False)),
        (qdq_model(np.int8(3), as_node=True), Dialect(("int8",), False, False)),
        (qdq_model(np.uint8(0), as_node=True), Dialect(("uint8",), True, False)),
    ],
)
def test_foreign_graphs_are_read(model: onnx.ModelProto, wanted: Dialect) -> None:
    assert read_dialect(model) == wanted


# Sensitivity: where a quantized graph rounds, and what it costs


def simulated(model: onnx.ModelProto, photos: np.ndarray) -> list[np.ndarray]:
    """Every output, operator by operator as ONNX defines it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {model.graph.input[0].name: photos})


@pytest.mark.parametrize("name", ["cpu-nncf", "cpu-ort", "tensorrt-ort"])
def test_all_layers_rounded_give_the_quantized_graphs_answers(onnx_artifact, int8, photos, name: str) -> None:
    parent, quantized = onnx.load(onnx_artifact.model_path), onnx.load(int8[name].model_path)
    layers = layers_of(parent, quantized)
    assert {layer.op for layer in layers} >= {"Conv", "Gemm"}
    rebuilt = partly_quantized(parent, layers)
    onnx.checker.check_model(rebuilt)
    wanted = simulated(quantized, photos)[0]
    np.testing.assert_allclose(simulated(rebuilt, photos)[0], wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert np.abs(wanted - simulated(parent, photos)[0]).max() > 1e-3 * np.abs(wanted).max()


def test_no_layer_rounded_is_the_parent(onnx_artifact, photos) -> None:
    parent = onnx.load(onnx_artifact.model_path)
    assert np.array_equal(simulated(partly_quantized(parent, []), photos)[0], simulated(parent, photos)[0])


def product_models() -> tuple[onnx.ModelProto, onnx.ModelProto, np.ndarray]:
    """x·w in float; the same with x rounded to eighths, behind a Reshape, and w to quarters; and w."""
    weights = np.random.default_rng(0).normal(0, 1, (6, 4)).astype(np.float32)
    shape = numpy_helper.from_array(np.array([-1, 6]), "shape")
    ends = [helper.make_tensor_value_info(*end) for end in (("x", TensorProto.FLOAT, [None, 2, 3]),
                                                            ("y", TensorProto.FLOAT, [None, 4]))]  # fmt: skip
    plain = [helper.make_node("Reshape", ["x", "shape"], ["flat"], "flatten"),
             helper.make_node("MatMul", ["flat", "w"], ["y"], "product")]  # fmt: skip
    held = {"step": np.float32(1 / 8), "zero": np.uint8(128), "quarter": np.float32(1 / 4), "middle": np.int8(0)}
    whole = np.round(weights * 4).astype(np.int8)
    rounded = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["r"], "r"),
        helper.make_node("Reshape", ["r", "shape"], ["flat"], "flatten"),
        helper.make_node("DequantizeLinear", ["whole", "quarter", "middle"], ["v"], "v"),
        helper.make_node("MatMul", ["flat", "v"], ["y"], "product"),
    ]
    tensors = [shape, numpy_helper.from_array(whole, "whole"),
               *(numpy_helper.from_array(np.asarray(array), name) for name, array in held.items())]  # fmt: skip
    opset = {"opset_imports": [helper.make_opsetid("", 20)], "ir_version": 9}
    floats = helper.make_graph(plain, "g", ends[:1], ends[1:], [shape, numpy_helper.from_array(weights, "w")])
    coarse = helper.make_graph(rounded, "g", ends[:1], ends[1:], tensors)
    return helper.make_model(floats, **opset), helper.make_model(coarse, **opset), weights


def test_noise_and_signal_are_those_of_the_layer() -> None:
    parent, quantized, weights = product_models()
    (layer,) = layers_of(parent, quantized)
    assert (layer.node, sorted(layer.steps), sorted(layer.constants)) == ("product", [0], [1])
    x = np.random.default_rng(1).normal(0, 1, (5, 2, 3)).astype(np.float32)
    found, noise, signal = simulated(partly_quantized(parent, [layer], compared=layer), x)
    exact = x.reshape(5, 6) @ weights
    wanted = (np.round(x * 8) / 8).reshape(5, 6) @ (np.round(weights * 4) / 4)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose([noise, signal], [((wanted - exact) ** 2).sum(), (exact**2).sum()], rtol=1e-4)


def spoiled(artifact: Artifact, node: str, out: Path) -> Artifact:
    """The same with one layer's input rounded 64 times as coarsely."""
    model = onnx.load(artifact.model_path)
    made = {name: maker for maker in model.graph.node for name in maker.output}
    given = made[next(each for each in model.graph.node if each.name == node).input[0]]
    scale = next(tensor for tensor in model.graph.initializer if tensor.name == given.input[1])
    coarse = numpy_helper.from_array(numpy_helper.to_array(scale) * np.float32(64), "coarse")
    model.graph.initializer.append(coarse)
    for each in (made[given.input[0]], given):
        each.input[1] = "coarse"
    return save(out, artifact.manifest, {"model.onnx": model.SerializeToString()})


def test_a_spoiled_layer_is_the_most_sensitive(onnx_artifact, int8, photos, tmp_path: Path) -> None:
    # The head: a network that averages over pixels hardly feels noise in them.
    before = {row.node: row for row in sensitivity(onnx_artifact, int8["cpu-ort"], photos)}
    node = list(before)[-1]
    told: list[tuple[int, int]] = []
    bad = spoiled(int8["cpu-ort"], node, tmp_path / "bad")
    rows = sensitivity(onnx_artifact, bad, photos, lambda done, total: told.append((done, total)))
    assert told == [(done, len(rows)) for done in range(len(rows) + 1)]
    assert most_sensitive(rows, 1) == (node,) and len(most_sensitive(rows, 99)) == len(rows)
    worst = next(row for row in rows if row.node == node)
    assert worst.kl > 5 * before[node].kl and worst.sqnr_db < before[node].sqnr_db - 15
    others = [row for row in rows if row.node != node]
    assert [row.kl for row in others] == pytest.approx([before[row.node].kl for row in others], rel=1e-3, abs=1e-9)
    whole = divergence(onnx_artifact, bad, photos)
    assert divergence(onnx_artifact, onnx_artifact, photos) == 0 < worst.kl / 2 < whole < 4 * worst.kl


def test_divergence_is_that_of_the_answers(onnx_artifact, int8, photos) -> None:
    answered = [simulated(onnx.load(one.model_path), photos)[0].astype(np.float64) for one in
                (onnx_artifact, int8["cpu-ort"])]  # fmt: skip
    p, q = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True) for logits in answered)
    found = divergence(onnx_artifact, int8["cpu-ort"], photos)
    assert found == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=0.05) and found > 0


def test_another_models_quantized_form_is_refused(onnx_artifact, openvino_artifact, int8, photos, checkpoint) -> None:
    parent, quantized = onnx.load(onnx_artifact.model_path), onnx.load(int8["cpu-nncf"].model_path)
    other = onnx.ModelProto()
    other.CopyFrom(parent)
    heavy = next(tensor for tensor in other.graph.initializer if len(tensor.dims) == 4)
    heavy.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(heavy)[::-1].copy(), heavy.name))
    with pytest.raises(BadInput, match="the weights of Conv"):
        layers_of(other, quantized)
    with pytest.raises(BadInput, match="none of its nodes rounds"):
        layers_of(parent, parent)
    next(node for node in parent.graph.node if node.op_type == "Conv").name = "renamed"
    with pytest.raises(BadInput, match="not in the float graph"):
        layers_of(parent, quantized)
    with pytest.raises(BadInput, match="openvino artifact"):
        sensitivity(onnx_artifact, openvino_artifact, photos)
    for wrong in (photos[:, :16], photos.astype(np.float32), photos[:0]):
        with pytest.raises(BadInput, match="photos"):
            sensitivity(onnx_artifact, int8["cpu-nncf"], wrong)


# Roofline: each layer against the least that it can take


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits in a second: small products and copies."""
    monkeypatch.setattr(limits, "PRODUCTS", (64,))
    monkeypatch.setattr(limits, "FOOTPRINTS", (1 << 18, 1 << 20))


HEAVY = ("Conv", "Gemm", "FullyConnected")


def convolution_ops(artifact: Artifact) -> float:
    """Additions and multiplications of all Conv and Gemm nodes for one photo, from the ONNX graph's shapes."""
    model = onnx.shape_inference.infer_shapes(onnx.load(artifact.model_path))
    held = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    shapes = {value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
              for value in (*model.graph.value_info, *model.graph.output)}  # fmt: skip
    total = 0.0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            total += 2 * np.prod(shapes[node.output[0]]) * np.prod(held[node.input[1]][1:])
    return float(total)


@pytest.mark.parametrize("name", ["fp32", "cpu-ort", "cpu-nncf"])
@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_roofline_holds_every_layer(onnx_artifact, int8, small_limits, backend: str, name: str) -> None:
    artifact = onnx_artifact if name == "fp32" else int8[name]
    found = measure_roofline(artifact, RunConfig(backend, threads=1), calls=5)
    heavy = [row for row in found.layers if row.op != "Convert" and any(word in row.op for word in HEAVY)]
    assert len(heavy) == 4 and sum(row.ops for row in heavy) == convolution_ops(onnx_artifact)
    wanted = {node.name for node in onnx.load(onnx_artifact.model_path).graph.node if node.op_type in ("Conv", "Gemm")}
    if backend == "onnxruntime":
        assert {row.name for row in heavy} == wanted
    assert all(row.seconds >= 0 and row.bytes > 0 for row in found.layers) and found.call_s > 0
    assert ("int8" in {row.arithmetic for row in heavy}) == (name != "fp32")
    assert set(found.limits.ops_per_s) == {"float"} | {row.arithmetic for row in heavy}
    assert found.limits.ops_per_s.get("int8", 1e99) >= found.limits.ops_per_s["float"] > 1e8
    assert all(row.bound_s == max(row.compute_s, row.memory_s) > 0 for row in heavy)
    assert (found.applied["backend"], found.applied["threads"]) == (backend, 1)
    assert json.loads(json.dumps(found.to_json()))["layers"][0]["name"] == found.layers[0].name


def test_bytes_are_inputs_weights_and_outputs(onnx_artifact, int8, small_limits) -> None:
    for artifact, size in ((onnx_artifact, 4), (int8["cpu-ort"], 1)):
        found = measure_roofline(artifact, RunConfig("onnxruntime", threads=1), calls=3)
        layer = [row for row in found.layers if "Conv" in row.op][-1]  # 1×1, 8 channels to 16, on 16×16 pixels
        values = 256 * 8 + 256 * 16 + 16 * 8
        assert size * values < layer.bytes < size * values + 400  # and bias, scales, zero points


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "wanted"),
    [
        ("Conv", [[1, 8, 10, 10], [16, 8, 3, 3]], [[1, 16, 10, 10]], 2 * 1600 * 72),
        ("GroupConvolution", [[1, 8, 10, 10], [8, 1, 1, 3, 3]], [[1, 8, 5, 5]], 2 * 200 * 9),
        ("FusedGemm", [[2, 16], [4, 16]], [[2, 4]], 2 * 8 * 16),
        ("Eltwise", [[1, 8, 4], [8, 1]], [[1, 8, 4]], 32),
        ("ReduceMean", [[1, 8, 7, 7]], [[1, 8, 1, 1]], 392),
        ("Convert", [[1, 8]], [[1, 8]], 0),
        ("Reorder", [[1, 8, 2, 2]], [[1, 8, 2, 2]], 0),
    ],
)
def test_operations_follow_from_shapes(op: str, inputs, outputs, wanted: float) -> None:
    typed = [[("float32", shape) for shape in shapes] for shapes in (inputs, outputs)]
    assert operations(op, *typed) == wanted


def test_the_bound_of_memory_is_that_of_copies_of_the_size() -> None:
    known = limits.Limits({"float": 1e9}, {"float": ""}, {1000: 100.0, 4000: 50.0, 16000: 10.0})
    assert [known.memory_s(size) for size in (500, 1000, 2000, 16000, 20000)] == [5, 10, 40, 1600, 200]


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_the_products_that_set_the_limit_are_right(tmp_path: Path, backend: str) -> None:
    for arithmetic, dtype in (("float", np.float32), ("int8", np.uint8)):
        artifact = limits.product_artifact(tmp_path / arithmetic, 32, arithmetic)
        given = np.random.default_rng(1).integers(0, 256, (32, 32))
        weights = np.random.default_rng(0).integers(-63, 64, (32, 32))
        with tiffin.load(artifact, RunConfig(backend, threads=1)) as session:
            found = session.run({"given": given.astype(dtype)})["found"]
        exact = given @ weights
        wanted = exact if arithmetic == "float" else np.clip(np.round(exact * 0.01 * 0.01 / 0.32), 0, 255)
        assert found.dtype == dtype and np.abs(found.astype(np.float64) - wanted).max() <= 1


def test_a_roofline_refuses_what_it_cannot_measure(onnx_artifact, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no roofline of null"):
        measure_roofline(onnx_artifact, RunConfig("null"))
    with pytest.raises(BadArtifact, match="no manifest"):  # from the process that profiles, of the same class
        limits.ask_profiler("layers", artifact=str(tmp_path), run={"backend": "openvino"}, feeds={}, calls=1)
    with pytest.raises(WorkerFailed, match="KeyError: 'dance'"):
        limits.ask_profiler("dance")


# Both as commands


def run_command(*words: object) -> str:
    from typer.testing import CliRunner

    from tiffin.cli.app import app

    done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_sensitivity_command_tells_and_draws_every_layer(onnx_artifact, int8, photo_folder, tmp_path: Path) -> None:
    import xml.etree.ElementTree as ElementTree

    out, plot = tmp_path / "s.json", tmp_path / "s.svg"
    words = ["sensitivity", onnx_artifact.folder, int8["cpu-nncf"].folder, "--data", photo_folder, "--photos", 12]
    text = run_command(*words, "--out", out, "--plot", plot)
    record = json.loads(out.read_text())
    assert (record["kind"], record["version"], record["data"]["role"]) == ("sensitivity", 1, "select")
    assert record["subject"] == {"parent": onnx_artifact.digest, "quantized": int8["cpu-nncf"].digest}
    nodes = [row["node"] for row in record["layers"]]
    assert all(node in text for node in nodes) and max(map(len, text.splitlines())) <= 80
    drawn = {label.text for label in ElementTree.parse(plot).iter("{http://www.w3.org/2000/svg}text")}
    assert drawn >= set(nodes)
    told = json.loads(run_command(*words, "--out", out, "--json"))
    assert told["layers"] == record["layers"] and told["kl_whole"] == record["kl_whole"] > 0
    with pytest.raises(BadInput, match="confirm"):
        run_command(*words, "--role", "confirm")


def test_the_roofline_command_tells_layers_and_limits(int8, small_limits, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    words = ["roofline", int8["cpu-ort"].folder, "--backend", "onnxruntime", "--threads", 1, "--calls", 3, "--out", out]
    text = run_command(*words, "--rows", 2)
    record = json.loads(out.read_text())
    assert (record["kind"], record["version"]) == ("roofline", 1)
    assert record["subject"]["artifact"] == int8["cpu-ort"].digest
    assert "QLinearConv" in text and f"{len(record['layers']) - 2} others" in text
    assert max(map(len, text.splitlines())) <= 80
    assert set(record["limits"]["ops_per_s"]) == {"float", "int8"} and record["applied"]["threads"] == 1
    assert len(json.loads(run_command(*words, "--json"))["layers"]) == len(record["layers"])
