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
from tiffin.errors import BadDialect, BadInput, EngineMissing, ParityFailed
from tiffin.export import parity, to_onnx
from tiffin.export.graph.dialect import Dialect, check_for_tensorrt, read_dialect
from tiffin.export.to_openvino import to_openvino
from tiffin.export.to_pt2 import to_pt2
from tiffin.export.to_tensorrt import EngineOptions, to_tensorrt
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.ptq_ort import quantize_ort
from tiffin.quantize.quantize import quantize_half, quantize_int8

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
            onnx_artifact, scheme, calibration, folder / f"{scheme}-{quantizer}", quantizer
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
    model = quantize_ort(onnx.load(onnx_artifact.model_path), scheme, CalibrationSet(photos[:8], "drawn"))
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
