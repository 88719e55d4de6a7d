"""export/: ONNX, .pt2, IR and TensorRT engines of the tiny classifier, and what must never be written."""

from __future__ import annotations

import dataclasses
import json
import logging
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import tiffin
from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.claims import read_claim
from tiffin.artifact.store import save
from tiffin.benchmarks import limits, roofline, simulation
from tiffin.benchmarks.roofline import measure_roofline, operations
from tiffin.benchmarks.rounds import random_feeds
from tiffin.benchmarks.workers import profiler
from tiffin.data import synthesized
from tiffin.data.prepared import prepare_photos
from tiffin.errors import BadArtifact, BadDialect, BadInput, ParityFailed, WorkerFailed
from tiffin.export import parity, to_onnx
from tiffin.export.graph.dialect import Dialect, check_for_tensorrt, read_dialect
from tiffin.export.graph.float_bias import float_bias
from tiffin.export.graph.gemm_as_conv import gemm_as_conv
from tiffin.export.graph.plain_gemm import plain_gemm
from tiffin.export.graph.preflight import FIXES, Target, apply_fixes, examine
from tiffin.export.graph.residual_qdq import residual_qdq
from tiffin.export.graph.rounding import partly_quantized, rounded_layers
from tiffin.export.graph.symmetric import symmetric
from tiffin.export.quiet import quiet
from tiffin.export.to_openvino import to_openvino
from tiffin.export.to_pt2 import to_pt2
from tiffin.export.to_tensorrt import EngineOptions, to_tensorrt
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.ptq_ort import quantize_ort
from tiffin.quantize.quantize import quantize_fp8, quantize_half, quantize_int8
from tiffin.quantize.sensitivity import divergence, most_sensitive, sensitivity
from tiffin.records import load_record

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


REPORTS = {
    "an operator": "torch.onnx failed.\nNo ONNX function found for aten.fft.\n\n(Refer to the trace above.)",
    "a cause": "torch.onnx failed.\n\n## Exception summary\n\n<class 'ValueError'>: Cannot view\n\n(See above.)",
    "a line": "Cannot view",
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_network_without_a_form_in_onnx_is_told_by_the_cause(checkpoint, photos, tmp_path, monkeypatch, name) -> None:
    def failing(*given: object) -> None:
        raise RuntimeError(REPORTS[name])

    monkeypatch.setattr(to_onnx, "onnx_of", failing)
    with pytest.raises(BadInput, match="has no form in ONNX: .*(aten.fft|Cannot view)"):
        to_onnx.to_onnx(checkpoint, tmp_path / "model", photos[:8])


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
    traced = to_onnx.trace
    monkeypatch.setattr(to_onnx, "trace", lambda given, *rest: traced(perturbed(given, 0.5), *rest))
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
    assert (plain, plain.quantized) == (Dialect((), False), False)
    assert (tensorrt, tensorrt.quantized) == (Dialect(("int8",), False), True)
    assert cpu == Dialect(("int8", "uint8"), True)
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
        (qdq_model(None), Dialect(("uint8",), False)),
        (qdq_model(None, kind=TensorProto.INT8), Dialect(("int8",), False)),
        (qdq_model(np.int8(0)), Dialect(("int8",), False)),
        (qdq_model(np.int8(3), as_node=True), Dialect(("int8",), False)),
        (qdq_model(np.uint8(0), as_node=True), Dialect(("uint8",), False)),
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
    layers = rounded_layers(parent, quantized)
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
    (layer,) = rounded_layers(parent, quantized)
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
        rounded_layers(other, quantized)
    with pytest.raises(BadInput, match="none of its nodes rounds"):
        rounded_layers(parent, parent)
    next(node for node in parent.graph.node if node.op_type == "Conv").name = "renamed"
    with pytest.raises(BadInput, match="not in the float graph"):
        rounded_layers(parent, quantized)
    with pytest.raises(BadInput, match="openvino artifact"):
        sensitivity(onnx_artifact, openvino_artifact, photos)
    for wrong in (photos[:, :16], photos.astype(np.float32), photos[:0]):
        with pytest.raises(BadInput, match="photos"):
            sensitivity(onnx_artifact, int8["cpu-nncf"], wrong)


# Roofline: each layer against the least that it can take


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits in a second, once for each way to run: small products and copies."""
    monkeypatch.setattr(limits, "PRODUCTS", (64,))
    monkeypatch.setattr(limits, "_SECONDS", 0.05)
    monkeypatch.setattr(limits, "FOOTPRINTS", (1 << 18, 1 << 20))
    monkeypatch.setattr(roofline, "measure_limits", lambda run, kinds, progress: _limits(run, frozenset(kinds)))


@cache
def _limits(run: RunConfig, kinds: frozenset[str]) -> limits.Limits:
    return limits.measure_limits(run, set(kinds), lambda line: None)


@cache
def layers_of(folder: Path, backend: str) -> roofline.Roofline:
    return measure_roofline(Artifact.load(folder), RunConfig(backend, threads=1), calls=5)


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
    found = layers_of((onnx_artifact if name == "fp32" else int8[name]).folder, backend)
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


def test_layers_are_those_of_the_form_that_a_session_runs(onnx_artifact, tmp_path: Path) -> None:
    model = onnx.load(onnx_artifact.model_path)
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    (spec,) = onnx_artifact.manifest.inputs
    inputs = (dataclasses.replace(spec, shape=(1, *spec.shape[1:])),)
    manifest = dataclasses.replace(onnx_artifact.manifest, inputs=inputs)
    fixed = save(tmp_path / "fixed", manifest, {"model.onnx": model.SerializeToString()})
    run, one = RunConfig("openvino", threads=1), random_feeds(fixed, 1, 0)
    wanted, found = ([row["name"] for row in profiler._openvino(each, run, one, 3)] for each in (fixed, onnx_artifact))
    assert found == wanted
    any_batch = profiler._openvino(onnx_artifact, run, random_feeds(onnx_artifact, 2, 0), 3)
    assert len(any_batch) > len(found)


def test_bytes_are_inputs_weights_and_outputs(onnx_artifact, int8, small_limits) -> None:
    for artifact, size in ((onnx_artifact, 4), (int8["cpu-ort"], 1)):
        found = layers_of(artifact.folder, "onnxruntime")
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


# Gemm as a convolution


def run_graph(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """By ONNX Runtime without its graph optimization."""
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def gemm_model(
    alpha: float, beta: float, bias: tuple[int, ...] | None, *, transposed: int, quantized: str = ""
) -> onnx.ModelProto:
    """`(n, 7)` → `(n, 5)`; `quantized` is "", "tensor" or "channel": how many scales the weight has."""
    rng = np.random.default_rng(5)
    weight = rng.normal(size=(5, 7) if transposed else (7, 5)).astype(np.float32)
    held, nodes, inputs = {"w": weight}, [], ["x", "w"]
    if quantized:
        axis = 0 if transposed else 1
        peak = np.abs(weight).max(1 - axis, keepdims=True) if quantized == "channel" else np.abs(weight).max()
        scale = (peak / 127).astype(np.float32)
        whole = np.round(weight / scale).astype(np.int8)
        flat = scale.reshape(-1) if quantized == "channel" else scale
        held = {"q": whole, "s": flat, "z": np.zeros(flat.shape, np.int8), "xs": np.float32(0.05), "xz": np.int8(0)}
        nodes = [
            helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"], "quantize"),
            helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"], "dequantize"),
            helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], "weight", axis=axis),
        ]
        inputs = ["xd", "w"]
    if bias is not None:
        held["b"] = rng.normal(size=bias).astype(np.float32)
        inputs.append("b")
    nodes.append(helper.make_node("Gemm", inputs, ["y"], "head", transB=transposed, alpha=alpha, beta=beta))
    graph = helper.make_graph(
        nodes,
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 7])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("quantized", ["", "tensor", "channel"])
@pytest.mark.parametrize("bias", [None, (5,), (1, 5), (), (1, 1)])
def test_a_gemm_as_convolution_gives_the_same_answers(transposed: int, quantized: str, bias) -> None:
    x = np.random.default_rng(6).normal(size=(3, 7)).astype(np.float32)
    for alpha, beta in ((1.0, 1.0), (2.5, 0.5)):
        model = gemm_model(alpha, beta, bias, transposed=transposed, quantized=quantized)
        before = model.SerializeToString()
        made, names = gemm_as_conv(model)
        onnx.checker.check_model(made, full_check=True)
        assert names == ("head",) and model.SerializeToString() == before
        kinds = {node.op_type: node.name for node in made.graph.node}
        assert "Gemm" not in kinds and kinds["Conv"] == "head"
        wanted = run_graph(model, {"x": x})
        np.testing.assert_allclose(run_graph(made, {"x": x}), wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("bias", [None, (5,), (1, 5), (3, 1), (3, 5), ()])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (2.5, 0.5)])
def test_a_plain_gemm_gives_the_same_answers(transposed: int, bias, alpha: float, beta: float) -> None:
    x = np.random.default_rng(6).normal(size=(3, 7)).astype(np.float32)
    model = gemm_model(alpha, beta, bias, transposed=transposed)
    before = model.SerializeToString()
    made = plain_gemm(model)
    onnx.checker.check_model(made, full_check=True)
    assert model.SerializeToString() == before
    assert (made is model) == (alpha == 1 and bias in (None, (5,)))
    gemm = next(node for node in made.graph.node if node.op_type == "Gemm")
    assert gemm.name == "head" and {each.name: each.f for each in gemm.attribute}.get("beta", 1.0) == 1
    wanted = run_graph(model, {"x": x})
    np.testing.assert_allclose(run_graph(made, {"x": x}), wanted, rtol=0, atol=1e-6 * np.abs(wanted).max())


def test_what_only_the_branches_of_an_if_read_stays() -> None:
    model = gemm_model(1.0, 1.0, (5,), transposed=1)
    model.graph.node[-1].output[0] = "h"
    bodies = {
        f"{word}_branch": helper.make_graph([helper.make_node("Mul", ["h", name], [word])], word, [],
                                            [helper.make_tensor_value_info(word, TensorProto.FLOAT, ["n", 5])])
        for word, name in (("then", "twice"), ("else", "thrice"))
    }  # fmt: skip
    model.graph.initializer.extend(tensor(name, np.float32(value)) for name, value in (("two", 2), ("thrice", 3)))
    model.graph.initializer.append(tensor("yes", np.array(True)))
    model.graph.node.extend([helper.make_node("Neg", ["two"], ["twice"]), helper.make_node("Neg", ["x"], ["u"]),
                             helper.make_node("If", ["yes"], ["y"], "branch", **bodies)])  # fmt: skip
    made, names = gemm_as_conv(model)
    x = np.random.default_rng(6).normal(size=(3, 7)).astype(np.float32)
    np.testing.assert_allclose(run_graph(made, {"x": x}), run_graph(model, {"x": x}), rtol=1e-5)
    assert names == ("head",) and "u" not in {name for node in made.graph.node for name in node.output}


def test_the_convolution_stands_directly_behind_its_quantizers() -> None:
    made, _ = gemm_as_conv(gemm_model(1.0, 1.0, (5,), transposed=1, quantized="channel"))
    makers = {name: node for node in made.graph.node for name in node.output}
    head = next(node for node in made.graph.node if node.op_type == "Conv")
    restored = [makers[name] for name in head.input[:2]]
    assert [node.op_type for node in restored] == ["DequantizeLinear"] * 2
    assert makers[restored[0].input[0]].op_type == "QuantizeLinear"
    assert sum(node.op_type == "QuantizeLinear" for node in made.graph.node) == 1


def test_a_gemm_that_is_no_convolution_stays() -> None:
    rows, computed, across = (gemm_model(1.0, 1.0, bias, transposed=1) for bias in ((3, 1), (5,), (5,)))
    computed.graph.node.insert(0, helper.make_node("Abs", ["w"], ["w2"]))
    computed.graph.node[-1].input[1] = "w2"
    across.graph.node[-1].attribute.append(helper.make_attribute("transA", 1))
    negative = gemm_model(-1.0, 1.0, None, transposed=1, quantized="channel")
    for model in (rows, computed, across, negative):
        made, names = gemm_as_conv(model)
        assert names == () and [node.op_type for node in made.graph.node].count("Gemm") == 1


@pytest.mark.parametrize("name", ["tensorrt-ort", "cpu-nncf"])
def test_the_heads_of_whole_graphs_become_convolutions(onnx_artifact, int8, halves, photos, name: str) -> None:
    for artifact in (onnx_artifact, halves["fp16"], int8[name]):
        model = onnx.load(artifact.model_path)
        made, names = gemm_as_conv(model)
        onnx.checker.check_model(made, full_check=True)
        assert len(names) == 1
        wanted, found = (run_graph(each, {"photos": photos}) for each in (model, made))
        tolerance = 1e-3 if artifact.manifest.precision == "fp16" else 1e-6
        assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


# Every precision for every generation of GPU, by the real builder


GENERATIONS = (("7.5",), ("8.6", "8.9", "12.0"))
# What the hardware of a capability lacks: refused before the builder sees it.
LACKING = {("bf16", "7.5"), ("fp8", "7.5"), ("fp8", "8.6")}
TYPED = ("fp32", "fp32 without TF32", "fp16", "bf16", "int8", "fp8", "mixed")


def shipped_images(artifact: Artifact, folder: Path) -> CalibrationSet:
    images = synthesized()
    prepared = prepare_photos(images.role("calibrate")[:8], artifact.preprocess, folder, images.kind)
    return CalibrationSet.of(prepared, images.name)


@pytest.fixture(scope="module")
def typed(classifier_artifact, resnet50_artifact, resnet50_photos, tmp_path_factory: pytest.TempPathFactory):
    """(model, precision) → artifact, made when it is first asked for."""
    floats, made = {"classifier": classifier_artifact, "resnet50": resnet50_artifact}, {}

    def make(model: str, precision: str) -> Artifact:
        parent, folder = floats[model], tmp_path_factory.mktemp("typed")
        if precision in ("fp16", "bf16"):
            return quantize_half(parent, precision, folder / precision)
        layers = [node for node in onnx.load(parent.model_path).graph.node if node.op_type in ("Conv", "Gemm")]
        ends = (layers[0].name, layers[-1].name)
        drawn = CalibrationSet(resnet50_photos, "drawn")
        photos = drawn if model == "resnet50" else shipped_images(parent, folder)
        if precision == "fp8":
            return quantize_fp8(parent, PtqOptions("tensorrt"), photos, folder / precision)
        mixed = {"float_nodes": ends, "floats": "fp16"} if precision == "mixed" else {}
        return quantize_int8(parent, PtqOptions("tensorrt", **mixed), photos, folder / precision)

    def of(model: str, precision: str) -> Artifact:
        if precision.startswith("fp32"):
            return floats[model]
        if (model, precision) not in made:
            made[model, precision] = make(model, precision)
        return made[model, precision]

    return of


@pytest.mark.parametrize("generations", GENERATIONS, ids="-".join)
@pytest.mark.parametrize("precision", TYPED)
@pytest.mark.parametrize("model", ["classifier", "resnet50"])
def test_every_precision_is_built_for_every_generation(
    typed, tmp_path: Path, model: str, precision: str, generations: tuple[str, ...]
) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    source, tf32 = typed(model, precision), "without" not in precision
    lacking = [each for each in generations if (precision, each) in LACKING]
    for each in lacking:
        with pytest.raises(BadInput, match="types that the GPU does not compute in"):
            to_tensorrt(source, tmp_path / "engine", RTX, EngineOptions(capabilities=(each,), tf32=tf32))
        assert left_in(tmp_path) == []
    built = tuple(each for each in generations if each not in lacking)
    if not built:
        return
    options = EngineOptions(capabilities=built, tf32=tf32)
    made = to_tensorrt(source, tmp_path / "engine", RTX, options)
    assert made.manifest.precision == source.manifest.precision and made.manifest.parent == source.digest
    assert made.model_path.stat().st_size > source.size_bytes / 2
    assert made.manifest.producer.options["tf32"] is options.tf32


# TensorRT's graphs simulated


def test_an_engine_is_scored_by_the_onnx_model_that_travels_in_it(
    int8, onnx_artifact, photo_folder: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    graph = int8["tensorrt-ort"]
    engine = to_tensorrt(graph, tmp_path / "engine", RTX, FOR_89)
    words = [f"{artifact.folder}@simulated" for artifact in (engine, graph)]
    out = tmp_path / "score.json"
    text = run_command("score", onnx_artifact.folder, *words, "--data", photo_folder, "--out", out)
    record = load_record(out)
    first, second = (record.subject(name) for name in record.predictions if "simulated" in name)
    assert first.place == second.place == "same graph, simulated in float by ONNX Runtime"
    assert first.applied["graph_level"] == "none" and first.applied["backend"] == "onnxruntime"
    found = [record.predictions[subject.name] for subject in (first, second)]
    assert np.array_equal(found[0].scores, found[1].scores)
    said = " ".join(text.split())
    assert "simulated in float" in said and "its int8 answers" not in said  # which are no CPU's


def test_what_is_simulated_is_neither_timed_nor_certified(int8, tmp_path: Path) -> None:
    word = f"{int8['tensorrt-ort'].folder}@simulated"
    for command in ("bench", "loadgen", "certify"):
        with pytest.raises(BadInput, match="no speed and no CPU class") as caught:
            run_command(command, word, "--out", tmp_path / "record.json")
        assert "tiffin score" in caught.value.fix


def test_only_tensorrts_graphs_are_simulated(int8, openvino_artifact) -> None:
    with pytest.raises(BadInput, match="scheme 'cpu' is not simulated"):
        simulation.simulated("it", int8["cpu-ort"])
    with pytest.raises(BadInput, match="openvino cannot be simulated"):
        simulation.simulated("it", openvino_artifact)


def test_bf16_is_not_simulated_and_the_row_says_why(halves, onnx_artifact, photo_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "score.json"
    words = [onnx_artifact.folder, f"{halves['bf16'].folder}@simulated", "--photos", 8]
    run_command("score", *words, "--data", photo_folder, "--out", out)
    (row,) = (subject for subject in load_record(out).subjects if subject.precision == "bf16")
    assert "no bf16 convolution" in row.reason and row.name not in load_record(out).predictions


# doctor: what TensorRT would refuse, read wrongly or run slowly, and the passes that fix it


FLOAT = TensorProto.FLOAT


def tensor(name: str, value: np.ndarray | float) -> onnx.TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def one_layer(
    nodes, constants, *, shape=("N", 8, 6, 6), opset: int = 20, ends: int = 4, domain: str = ""
) -> onnx.ModelProto:
    """x → nodes → y, checked by nobody."""
    given = helper.make_tensor_value_info("x", FLOAT, shape)
    taken = helper.make_tensor_value_info("y", FLOAT, [None] * ends)
    imports = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    model = helper.make_model(helper.make_graph(nodes, "one", [given], [taken], constants), opset_imports=imports)
    model.ir_version = 10
    return model


def pair(name: str, into: str, scale: str = "s", zero: str = "z", **said) -> list[onnx.NodeProto]:
    """`name` → QuantizeLinear → DequantizeLinear → `into`."""
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{into}_q"], f"{into}_Q", **said),
        helper.make_node("DequantizeLinear", [f"{into}_q", scale, zero], [into], f"{into}_DQ", **said),
    ]


def conv(
    before: str, after: str, weight: str = "wd", name: str = "layer", bias: tuple[str, ...] = ()
) -> onnx.NodeProto:
    return helper.make_node("Conv", [before, weight, *bias], [after], name, pads=[1] * 4)


DRAWN = np.random.default_rng(0)
WEIGHT = [
    tensor("w", DRAWN.integers(-127, 127, (8, 8, 3, 3), np.int8)),
    tensor("ws", np.linspace(0.001, 0.01, 8, dtype=np.float32)),
    tensor("wz", np.zeros(8, np.int8)),
]
ZERO = np.int8(0)
FLOATS = [tensor("wd", DRAWN.normal(0, 0.1, (8, 8, 3, 3)).astype(np.float32))]
READ = [helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], "w_DQ", axis=0)]


def int8_conv(scale: float = 0.05, zero=ZERO, opset: int = 20, **said) -> onnx.ModelProto:
    return one_layer(
        [*pair("x", "xd", **said), *READ, conv("xd", "y")],
        [tensor("s", np.float32(scale)), tensor("z", zero), *WEIGHT],
        opset=opset,
    )


def with_weight(weight: np.ndarray, scale, zero) -> onnx.ModelProto:
    nodes = [*pair("x", "xd"), helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], "w_DQ", axis=0)]
    held = [tensor("s", np.float32(0.05)), tensor("z", np.int8(0)), tensor("w", weight), tensor("ws", scale)]
    return one_layer([*nodes, conv("xd", "y")], [*held, tensor("wz", zero)])


def int32_bias() -> onnx.ModelProto:
    steps = np.linspace(0.0001, 0.001, 8, dtype=np.float32)
    held = [
        tensor("b", np.arange(-4, 4, dtype=np.int32) * 12345),
        tensor("bs", steps),
        tensor("bz", np.zeros(8, np.int32)),
    ]
    nodes = [
        *pair("x", "xd"),
        *READ,
        helper.make_node("DequantizeLinear", ["b", "bs", "bz"], ["bd"], "bias_DQ", axis=0),
    ]
    constants = [tensor("s", np.float32(0.05)), tensor("z", np.int8(0)), *WEIGHT, *held]
    return one_layer([*nodes, conv("xd", "y", bias=("bd",))], constants)


def scaled_constant(stored: np.ndarray | None) -> onnx.ModelProto:
    """x · constant, the constant behind a DequantizeLinear, or a float one behind a pair."""
    read = helper.make_node("DequantizeLinear", ["c", "s", "z"], ["cd"], "c_DQ")
    zero = np.zeros((), np.int8 if stored is None else stored.dtype)
    held = [
        tensor("c", np.float32(0.3) if stored is None else stored),
        tensor("s", np.float32(0.07)),
        tensor("z", zero),
    ]
    return one_layer(
        [*(pair("c", "cd") if stored is None else [read]), helper.make_node("Mul", ["x", "cd"], ["y"], "scale")], held
    )


def residual(*, skip: bool, body: bool, twin: bool) -> onnx.ModelProto:
    """Two int8 layers; the sum of the second and of the first's output, each branch rounded or not."""
    nodes = [*pair("x", "xd"), *READ, conv("xd", "a", name="first"), *pair("a", "ad"), conv("ad", "b", name="second")]
    other = "a"
    if skip:
        other = "ad" if twin else "skip"
        nodes += [] if twin else pair("a", "skip")
    elif not twin:
        nodes += [helper.make_node("Relu", ["a"], ["ar"], "relu")]
        other = "ar"
    nodes += pair("b", "bd") if body else []
    nodes += [helper.make_node("Add", [other, "bd" if body else "b"], ["y"], "sum")]
    return one_layer(nodes, [tensor("s", np.float32(0.05)), tensor("z", np.int8(0)), *WEIGHT])


def mixed(kind: str) -> onnx.ModelProto:
    """A layer that stays in fp32 behind one in 8 or 16 bits."""
    last = conv("m", "y", "f", "last")
    held = [tensor("f", DRAWN.normal(0, 0.1, (8, 8, 3, 3)).astype(np.float32))]
    if kind == "int8":
        constants = [tensor("s", np.float32(0.05)), tensor("z", np.int8(0)), *WEIGHT, *held]
        return one_layer([*pair("x", "xd"), *READ, conv("xd", "m"), last], constants)
    half = tensor("h", DRAWN.normal(0, 0.1, (8, 8, 3, 3)).astype(np.float16))
    casts = [helper.make_node("Cast", ["x"], ["xh"], "down", to=TensorProto.FLOAT16),
             helper.make_node("Cast", ["mh"], ["m"], "up", to=FLOAT)]  # fmt: skip
    return one_layer([casts[0], conv("xh", "mh", "h", "half"), casts[1], last], [half, *held])


def branching() -> onnx.ModelProto:
    bodies = {
        f"{word}_branch": helper.make_graph(
            [helper.make_node(op, ["x"], [word], f"{word}_{op}")],
            word,
            [],
            [helper.make_tensor_value_info(word, FLOAT, [None] * 4)],
        )
        for word, op in (("then", "Relu"), ("else", "Neg"))
    }
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["m"], "most", keepdims=0),
        helper.make_node("Greater", ["m", "s"], ["c"], "above"),
    ]
    return one_layer([*nodes, helper.make_node("If", ["c"], ["y"], "branch", **bodies)], [tensor("s", np.float32(0))])


def bf16_conv() -> onnx.ModelProto:
    weight = helper.make_tensor("w", TensorProto.BFLOAT16, [8, 8, 3, 3], DRAWN.normal(0, 0.1, 576).tolist())
    casts = [helper.make_node("Cast", ["x"], ["xb"], "down", to=TensorProto.BFLOAT16),
             helper.make_node("Cast", ["yb"], ["y"], "up", to=FLOAT)]  # fmt: skip
    return one_layer([casts[0], conv("xb", "yb", "w"), casts[1]], [weight], opset=22)


def fp8_conv() -> onnx.ModelProto:
    zero = helper.make_tensor("z", TensorProto.FLOAT8E4M3FN, [], [0.0])
    nodes = [*pair("x", "xd"), *pair("f", "wd"), conv("xd", "y")]
    return one_layer(
        nodes, [zero, tensor("s", np.float32(0.05)), tensor("f", DRAWN.normal(0, 0.1, (8, 8, 3, 3)).astype(np.float32))]
    )


def product(*, computed: bool) -> onnx.ModelProto:
    """A Gemm, which has a convolution's form, or a MatMul, which has none."""
    weight = tensor("w", DRAWN.normal(0, 0.1, (16, 4)).astype(np.float32))
    node = helper.make_node("MatMul" if computed else "Gemm", ["x", "w"], ["y"], "head")
    return one_layer([node], [weight], shape=("N", 16), ends=2)


def without_zero_point() -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"], "Q"),
        helper.make_node("DequantizeLinear", ["q", "s"], ["xd"], "DQ"),
    ]
    return one_layer([*nodes, *READ, conv("xd", "y")], [tensor("s", np.float32(0.05)), *WEIGHT])


U8 = np.uint8
NONZERO = [helper.make_node("NonZero", ["x"], ["n"], "which"), helper.make_node("Cast", ["n"], ["y"], "cast", to=FLOAT)]
STRAY = [helper.make_node("Cast", ["w"], ["wd"], "stray", to=FLOAT), conv("x", "y")]
TURING, AMPERE, ADA = ("7.5",), ("8.6",), ("8.9",)
# model, check, severity, what the finding's node begins with, the pass that fixes it, capabilities
SICK = {
    "uint8 activation": (int8_conv(zero=U8(128)), "uint8-quantizer", "error", "xd_Q (Quant", "symmetric", ()),
    "uint8 with another zero point": (int8_conv(zero=U8(37)), "uint8-quantizer", "error", "xd_Q", "symmetric", ()),
    "uint8 by omission": (without_zero_point(), "uint8-quantizer", "error", "Q (", "symmetric", ()),
    "uint8 weight": (with_weight(DRAWN.integers(0, 255, (8, 8, 3, 3), U8), np.float32(0.01), U8(120)),
                     "uint8-quantizer", "error", "w_DQ", "symmetric", ()),
    "uint8 constant": (scaled_constant(U8(9)), "uint8-quantizer", "error", "c_DQ", "fold_qdq", ()),
    "shifted int8": (int8_conv(zero=np.int8(5)), "asymmetric", "error", "xd_Q", "symmetric", ()),
    "int32 bias": (int32_bias(), "int32-bias", "error", "bias_DQ", "float_bias", ()),
    "uint16": (int8_conv(zero=np.uint16(0), opset=21), "quantized-type", "error", "xd_Q", "", ()),
    "scale of zero": (int8_conv(0), "bad-scale", "error", "xd_Q", "", ()),
    "negative scale": (int8_conv(-0.1), "bad-scale", "error", "xd_Q", "", ()),
    "scale that is no number": (int8_conv(float("nan")), "bad-scale", "error", "xd_Q", "", ()),
    "infinite scales": (with_weight(DRAWN.integers(-9, 9, (8, 8, 3, 3), np.int8), np.full(8, np.inf, np.float32),
                                    np.zeros(8, np.int8)), "bad-scale", "error", "w_DQ", "", ()),
    "quantized constant without dimensions": (scaled_constant(np.int8(9)),
        "quantized-constant", "error", "c_DQ", "fold_qdq", ()),
    "rounded float constant": (scaled_constant(None), "quantized-constant", "info", "cd_Q", "fold_qdq", ()),
    "stray quantized constant": (one_layer(STRAY, WEIGHT[:1]), "quantized-constant", "error", "stray (Cast)", "", ()),
    "skip in float, rounded elsewhere": (residual(skip=False, body=True, twin=True),
        "residual-add", "warning", "sum", "residual_qdq", ()),
    "skip in float": (residual(skip=False, body=True, twin=False), "residual-add", "warning", "sum", "", ()),
    "skip in float, layer fused": (residual(skip=False, body=False, twin=True),
        "residual-add", "warning", "sum", "residual_qdq", ()),
    "a rounding too many": (residual(skip=True, body=True, twin=True), "residual-unfused", "info", "sum", "", ()),
    "fp32 among int8": (mixed("int8"), "stays-fp32", "warning", "last (Conv)", "", ()),
    "fp32 among fp16": (mixed("fp16"), "stays-fp32", "warning", "last (Conv)", "", ()),
    "weights only": (one_layer([*READ, conv("x", "y")], WEIGHT), "weight-only", "info", "layer (Conv)", "", ()),
    "dynamic height": (one_layer([conv("x", "y")], FLOATS, shape=("N", 8, "H", 6)),
        "dynamic-axis", "error", "input x", "", ()),
    "fixed batch": (one_layer([conv("x", "y")], FLOATS, shape=(4, 8, 6, 6)),
        "fixed-batch", "info", "input x", "", ()),
    "size by data": (one_layer(NONZERO, [], ends=2), "slow-operator", "warning", "which (NonZero)", "", ()),
    "control flow": (branching(), "slow-operator", "warning", "branch (If)", "", ()),
    "bf16 on Turing": (bf16_conv(), "precision-of-gpu", "error", "layer (Conv)", "", TURING),
    "fp8 on Ampere": (fp8_conv(), "precision-of-gpu", "error", "xd_Q", "", AMPERE),
    "fp32 product on Turing": (product(computed=False),
        "fp32-gemm-turing", "info", "head (Gemm)", "gemm_as_conv", TURING),
    "fp32 MatMul on Turing": (product(computed=True), "fp32-gemm-turing", "error", "head (MatMul)", "", TURING),
    "opset of the future": (one_layer([conv("x", "y")], FLOATS, opset=99), "opset", "error", "the model", "", ()),
    "no such operator": (one_layer([helper.make_node("Relo", ["x"], ["y"], "r")], []),
        "invalid-onnx", "error", "the model", "", ()),
    "reads what nobody gives": (one_layer([conv("lost", "y")], FLOATS), "invalid-onnx", "error", "the model", "", ()),
    "no graph": (onnx.ModelProto(), "not-onnx", "error", "the file", "", ()),
}  # fmt: skip


@pytest.mark.parametrize("name", SICK)
def test_a_sick_graph_is_found_at_its_node(name: str) -> None:
    model, check, severity, node, fixed_by, capabilities = SICK[name]
    found = [each for each in examine(model, Target(RTX, capabilities)) if each.check == check]
    assert found and found[0].node.startswith(node), found
    assert {each.severity for each in found} == {severity} and {each.fixed_by for each in found} == {fixed_by}
    assert all(each.what and each.fix and "\n" not in each.what + each.fix for each in found)
    assert bool(fixed_by) == ("--fix" in found[0].fix)


@pytest.mark.parametrize("name", [name for name in SICK if SICK[name][4]])
def test_a_fix_removes_what_it_is_named_for_and_is_done_once(name: str) -> None:
    model, check, _, _, fixed_by, capabilities = SICK[name]
    target, before = Target(RTX, capabilities), model.SerializeToString()
    found = examine(model, target)
    fixed, applied = apply_fixes(model, found)
    assert {each.fix for each in applied} == {fixed_by} and all(each.nodes for each in applied)
    assert model.SerializeToString() == before
    onnx.checker.check_model(fixed, full_check=True)
    left = examine(fixed, target)
    assert check not in {each.check for each in left} and not [each for each in left if each.severity == "error"]
    again, nothing = apply_fixes(fixed, found)
    assert nothing == () and again.SerializeToString() == fixed.SerializeToString()
    read = {word for node in fixed.graph.node for word in node.input}
    assert {tensor.name for tensor in fixed.graph.initializer} <= read


@pytest.mark.parametrize("name", [name for name, row in SICK.items() if row[4] and row[1] != "residual-add"])
def test_what_a_fix_calls_the_same_is_the_same(name: str) -> None:
    model, capabilities = SICK[name][0], SICK[name][5]
    fixed, applied = apply_fixes(model, examine(model, Target(RTX, capabilities)))
    shape = [5 if axis.dim_param else axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim]
    batch = np.random.default_rng(1).normal(0, 2, shape).astype(np.float32)
    told, found = plainly(model, batch), plainly(fixed, batch)
    kinds = {each.answers for each in applied}
    if kinds == {"same"}:
        assert np.array_equal(told, found)
    else:
        share = 0.001 if kinds == {"float rounding"} else 0.05
        assert np.abs(told - found).max() <= share * np.abs(told).max()


def plainly(model: onnx.ModelProto, batch: np.ndarray) -> np.ndarray:
    """ONNX Runtime, each node as it stands."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": batch})[0]


def rounded(scale: float, zero: np.ndarray) -> onnx.ModelProto:
    """x → Q → DQ → y."""
    return one_layer(pair("x", "y"), [tensor("s", np.float32(scale)), tensor("z", zero)], shape=("N",), ends=1)


SCALES = st.floats(2.0**-10, 8.0, width=32)
VALUES = st.lists(st.floats(-2000, 2000, width=32), min_size=1, max_size=64)


@given(scale=SCALES, values=VALUES)
@settings(max_examples=60, deadline=None)
def test_a_zero_point_in_the_middle_moves_without_a_bit(scale: float, values: list[float]) -> None:
    model, batch = rounded(scale, U8(128)), np.asarray(values, np.float32)
    fixed, (applied,) = symmetric(model)
    assert applied.answers == "same" and np.array_equal(plainly(fixed, batch), plainly(model, batch))


@given(scale=SCALES, zero=st.integers(0, 255), values=VALUES)
@settings(max_examples=80, deadline=None)
def test_a_symmetric_scale_keeps_the_range_within_one_step(scale: float, zero: int, values: list[float]) -> None:
    """Both round to the nearest step and clip at the same ends; the new step is at most twice the old."""
    model, batch = rounded(scale, U8(zero)), np.asarray(values, np.float32)
    fixed, _ = symmetric(model)
    step = scale * max(zero / 128, (255 - zero) / 127)
    told, found = plainly(model, batch), plainly(fixed, batch)
    assert step <= 2.01 * scale
    assert np.abs(told - found).max() <= (0.5 * scale + 0.5 * step) * (1 + 1e-4) + 1e-4 * np.abs(told).max()


@given(weights=st.lists(st.integers(0, 255), min_size=72, max_size=72), zero=st.integers(0, 255), scale=SCALES)
@settings(max_examples=40, deadline=None)
def test_uint8_weights_are_rounded_to_half_a_step_of_their_channel(weights: list[int], zero: int, scale: float) -> None:
    stored = np.asarray(weights, U8).reshape(8, 1, 3, 3).repeat(8, axis=1)
    model = with_weight(stored, np.float32(scale), U8(zero))
    fixed, applied = symmetric(model)
    held = {each.name: numpy_helper.to_array(each) for each in fixed.graph.initializer}
    (node,) = (node for node in fixed.graph.node if node.name == "w_DQ")
    integers, steps, zeros = (held[word] for word in node.input)
    assert integers.dtype == np.int8 and not zeros.any()
    before = (stored.astype(np.float64) - zero) * np.float32(scale)
    after = integers.astype(np.float64) * (steps.reshape(-1, 1, 1, 1) if steps.size > 1 else steps)
    if applied[0].answers == "same":
        assert np.array_equal(before, after)
    else:
        most = np.abs(before).max(axis=(1, 2, 3), keepdims=True)
        assert (np.abs(before - after) <= 0.5 * most / 127 * (1 + 1e-4)).all()


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=8, max_size=8), SCALES)
@settings(max_examples=40, deadline=None)
def test_float_biases_are_those_of_onnx_runtime(steps: list[int], scale: float) -> None:
    nodes = [
        helper.make_node("DequantizeLinear", ["b", "s"], ["bd"], "b_DQ"),
        helper.make_node("Add", ["x", "bd"], ["y"], "add"),
    ]
    model = one_layer(
        nodes, [tensor("b", np.asarray(steps, np.int32)), tensor("s", np.float32(scale))], shape=("N", 8), ends=2
    )
    fixed, _ = float_bias(model)
    batch = np.zeros((2, 8), np.float32)
    assert [node.name for node in fixed.graph.node] == ["add"]
    assert np.array_equal(plainly(fixed, batch), plainly(model, batch))


def test_the_clip_that_a_quantizer_dropped_comes_back() -> None:
    """A rounding from 0 to 6 stands for a ReLU6; symmetric about 0 it would let negative values through."""
    model, batch = rounded(6 / 255, U8(0)), np.linspace(-9, 9, 64, dtype=np.float32)
    fixed, _ = symmetric(model)
    found = plainly(fixed, batch)
    assert [node.op_type for node in fixed.graph.node][0] == "Relu"
    assert found.min() == 0 and found.max() == pytest.approx(6)
    clipped = one_layer([helper.make_node("Clip", ["x", "low"], ["c"], "clip"), *pair("c", "y")],
                        [tensor("low", np.float32(0)), tensor("s", np.float32(0.1)), tensor("z", U8(0))],
                        shape=("N",), ends=1)  # fmt: skip
    assert "Relu" not in {node.op_type for node in symmetric(clipped)[0].graph.node}


def test_scales_of_channels_move_with_their_range_only_where_one_clip_can_keep_it() -> None:
    steps = np.linspace(0.01, 0.1, 8, dtype=np.float32)
    for zero, fixable in ((0, True), (128, True), (40, False)):
        model = int8_conv(steps, np.full(8, zero, U8), axis=1)
        wrong = [each for each in examine(model, Target()) if each.check == "uint8-quantizer"]
        assert {bool(each.fixed_by) for each in wrong} == {fixable} and len(wrong) == 2


def test_nothing_else_is_touched() -> None:
    model = int32_bias()
    fixed, _ = float_bias(model)
    kept = [node for node in model.graph.node if node.name != "bias_DQ"]
    assert list(fixed.graph.node) == kept


def test_the_guides_own_residual_sum_is_sound() -> None:
    """The skip rounded, the layer's own output not: what TensorRT fuses."""
    assert examine(residual(skip=True, body=False, twin=True), Target()) == ()


def test_a_rounded_branch_behind_the_sum_is_moved_before_it() -> None:
    model = residual(skip=False, body=True, twin=True)
    nodes = list(model.graph.node)
    order = [node for node in nodes if node.name not in ("ad_Q", "ad_DQ", "second", "bd_Q", "bd_DQ", "sum")]
    late = [helper.make_node("Relu", ["xd"], ["r"], "relu"), *pair("r", "bd"),
            helper.make_node("Add", ["a", "bd"], ["t"], "sum"), *pair("a", "ad"),
            helper.make_node("Sub", ["t", "ad"], ["y"], "last")]  # fmt: skip
    del model.graph.node[:]
    model.graph.node.extend([*order, *late])
    fixed, (applied,) = residual_qdq(model)
    onnx.checker.check_model(fixed, full_check=True)
    names = [node.name for node in fixed.graph.node]
    assert applied.nodes == ("sum",) and names.index("ad_DQ") < names.index("sum")


def test_sound_graphs_have_no_errors_nor_warnings(sources) -> None:
    for artifact in sources.values():
        found = examine(onnx.load(artifact.model_path), Target(RTX, ("8.6", "8.9", "12.0")))
        assert {each.severity for each in found} <= {"info"}


def test_the_wrong_dialect_is_refused_by_its_nodes_and_with_the_commands(int8) -> None:
    artifact = int8["cpu-ort"]
    with pytest.raises(BadDialect) as caught:
        check_for_tensorrt(onnx.load(artifact.model_path), str(artifact.folder))
    assert "(QuantizeLinear)" in caught.value.what and "(DequantizeLinear)" in caught.value.what
    assert caught.value.fix.index(f"tiffin doctor {artifact.folder}") < caught.value.fix.index("--scheme tensorrt")


@pytest.mark.parametrize("name", ["cpu-nncf", "cpu-ort"])
def test_a_cpu_graph_is_fixed_builds_and_answers_alike(int8, photos, tmp_path: Path, name: str) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    source = int8[name]
    run_command("doctor", source.folder, "--fix", "--out", tmp_path / "fixed")
    fixed = Artifact.load(tmp_path / "fixed")
    assert (fixed.manifest.scheme, fixed.manifest.parent) == ("tensorrt", source.digest)
    assert fixed.manifest.producer.verb == "doctor" and fixed.manifest.calibration == source.manifest.calibration
    assert {row["pass"] for row in fixed.manifest.producer.options["passes"]} <= set(FIXES)
    told, found = (answers_plainly(artifact, photos) for artifact in (source, fixed))
    assert (told.argmax(1) == found.argmax(1)).mean() >= 0.9
    to_tensorrt(fixed, tmp_path / "engine", RTX, FOR_89)


def answers_plainly(artifact: Artifact, photos: np.ndarray) -> np.ndarray:
    with tiffin.load(artifact, RunConfig("onnxruntime", graph_level="none")) as session:
        return session.run({"photos": photos})["logits"]


def test_a_librarys_handler_does_not_stay_with_the_root_logger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    with quiet(None):
        logging.warning("as onnxruntime's quantizer does")
    assert logging.root.handlers == []
