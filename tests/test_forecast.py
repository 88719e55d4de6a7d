"""`tiffin doctor --for int8`: the forecast of rounding's noise holds against rounding itself, and names what helps."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.scheme import SCHEMES, scheme_named
from tiffin.benchmarks.studies import quantizable
from tiffin.cli import forecast as shown
from tiffin.errors import BadInput
from tiffin.export.graph.rounding import rounded_layers
from tiffin.export.logits import engine_logits
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.forecast import forecast
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.ptq_ort import quantize_ort
from tiffin.quantize.quantize import quantize_int8
from tiffin.quantize.sensitivity import sensitivity
from tiffin.records.closeness import closeness
from tiffin.records.foretold import Flow, Forecast, Foretold
from tiffin.tests.command import Run
from tiffin.tests.graph_networks import KINDS, exported

CPU = scheme_named("cpu")


def layered(op: str, seed: int, **more: object) -> tuple[onnx.ModelProto, np.ndarray]:
    """One layer of drawn weights between float tensors."""
    rng = np.random.default_rng(seed)
    shapes = {"Conv": (8, 6, 3, 3), "depthwise": (6, 1, 3, 3), "Gemm": (6, 8), "MatMul": (6, 8)}
    weights = rng.normal(0, 1, shapes[op]).astype(np.float32)
    inputs = rng.normal(0.3, 1, (16, 6, 12, 12) if op in ("Conv", "depthwise") else (400, 6)).astype(np.float32)
    node = helper.make_node("Conv" if op == "depthwise" else op, ["x", "w"], ["y"], "layer", **more)
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    tail = helper.make_node("Identity", ["y"], ["z"], "end")
    out = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    graph = helper.make_graph([node, tail], "layer", info[:1], [out], [numpy_helper.from_array(weights, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), inputs


def rounded(values: np.ndarray, low: float, high: float, levels: int) -> np.ndarray:
    step = (high - low) / levels
    return (low + np.round((values - low) / step) * step).astype(np.float32)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "op, more",
    [("Conv", {"pads": [1, 1, 1, 1]}), ("Conv", {"strides": [2, 2]}), ("depthwise", {"group": 6}), ("Gemm", {}),
     ("MatMul", {})],
)  # fmt: skip
def test_a_layers_noise_is_what_rounding_it_gives(op: str, more: dict[str, object], seed: int) -> None:
    """Rounding to the same grids, by hand."""
    model, inputs = layered(op, seed, **more)
    (found,) = forecast(model, inputs).layers
    weights = numpy_helper.to_array(model.graph.initializer[0])
    axis = 0 if weights.ndim == 4 else 1
    most = np.abs(weights).max(tuple(each for each in range(weights.ndim) if each != axis), keepdims=True)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(
        (np.round(weights / (most / 64)) * (most / 64)).astype(np.float32), "w"))  # fmt: skip
    low, high = min(0.0, float(inputs.min())), max(0.0, float(inputs.max()))
    wanted, got = run(model, inputs), run(made, rounded(inputs, low, high, 255))
    assert found.sqnr_db(CPU) == pytest.approx(closeness(wanted, got).sqnr_db, abs=0.5)
    assert found.depthwise == (op == "depthwise")


def test_values_that_are_rounded_down_together_are_foretold() -> None:
    """A softmax's many small values: as independent noise they would cost a tenth of what they do."""
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 1, (8, 4, 197, 197)).astype(np.float32)
    scores[..., 0] += 6
    attention = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    values = rng.normal(1, 0.5, (8, 4, 197, 16)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "v"], ["y"], "layer")
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "v")]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    model = helper.make_model(helper.make_graph([node], "layer", given, [out]), ir_version=9,
                              opset_imports=[helper.make_opsetid("", 20)])  # fmt: skip
    tail = helper.make_node("Identity", ["y"], ["z"], "end")
    model.graph.node.append(tail)
    model.graph.output[0].name = "z"
    (found,) = forecast(model, {"x": attention, "v": values}).layers
    coarse = (rounded(each, min(0.0, float(each.min())), float(each.max()), 255) for each in (attention, values))
    first, second = coarse
    exact = attention @ values
    assert found.sqnr_db(CPU) == pytest.approx(closeness(exact, first @ second).sqnr_db, abs=0.5)


def graph_of(nodes: list[onnx.NodeProto], shape: tuple[int, ...], **constants: np.ndarray) -> onnx.ModelProto:
    """From "x" to "z"."""
    for index, node in enumerate(nodes):
        node.name = f"{node.op_type}_{index}"
    info = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("n", *shape)),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, None)]  # fmt: skip
    held = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", info[:1], info[1:], held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def structures() -> dict[str, tuple[onnx.ModelProto, np.ndarray]]:
    """What a quantizer rounds depends on what stands beside what."""
    rng, node = np.random.default_rng(1), helper.make_node
    kernels = {"w": rng.normal(0, 1, (6, 6, 3, 3)), "v": rng.normal(0, 1, (6, 6, 1, 1))}
    shapes = {"w": (8, 8), "v": (8, 8), "b": (8,), "scale": (8,), "shift": (8,), "p": (5, 12)}
    matrices = {name: rng.normal(0, 1, shape) for name, shape in shapes.items()}
    planes, rows = (rng.normal(0.2, 1, shape).astype(np.float32) for shape in ((16, 6, 9, 9), (32, 12, 8)))
    first = node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1])
    of_planes = {
        "a merged activation": [node("Relu", ["a"], ["r"]), node("Conv", ["r", "v"], ["z"])],
        "an activation that is not merged": [node("HardSwish", ["a"], ["h"]), node("Conv", ["h", "v"], ["z"])],
        "a residual": [node("Relu", ["a"], ["r"]), node("Conv", ["r", "v"], ["c"]), node("Add", ["a", "c"], ["z"])],
        "pooled": [node("MaxPool", ["a"], ["m"], kernel_shape=[3, 3]), node("Conv", ["m", "v"], ["c"]),
                   node("ReduceMean", ["c"], ["z"])],
        "split": [node("Split", ["a"], ["l", "r"], axis=1, num_outputs=2), node("Tanh", ["r"], ["t"]),
                  node("Mul", ["l", "t"], ["z"])],
    }  # fmt: skip
    of_rows = {
        "layer norms": [node("LayerNormalization", ["x", "scale", "shift"], ["n"]), node("MatMul", ["n", "w"], ["m"]),
                        node("Add", ["m", "b"], ["s"]), node("Tanh", ["s"], ["t"]), node("MatMul", ["t", "v"], ["u"]),
                        node("Add", ["u", "x"], ["z"])],
        "a constant first": [node("MatMul", ["p", "x"], ["m"]), node("MatMul", ["m", "w"], ["z"])],
    }  # fmt: skip
    convolved = {kind: (graph_of([first, *rest], (6, 9, 9), **kernels), planes) for kind, rest in of_planes.items()}
    return convolved | {kind: (graph_of(nodes, (12, 8), **matrices), rows) for kind, nodes in of_rows.items()}


@dataclass(frozen=True)
class Given:
    """Arrays to calibrate with, as the quantizers take them."""

    values: np.ndarray

    def __len__(self) -> int:
        return len(self.values)

    def feeds(self, name: str, start: int = 0, end: int | None = None) -> Iterator[dict[str, np.ndarray]]:
        yield from ({name: each[None]} for each in self.values[start:end])


@pytest.mark.parametrize("word", ["cpu", "cpu-vnni", "cpu-u8", "tensorrt"])
@pytest.mark.parametrize("kind", structures())
def test_it_rounds_what_the_quantizer_rounds(kind: str, word: str) -> None:
    (model, inputs), scheme = structures()[kind], scheme_named(word)
    options = PtqOptions(word, "ort", compensate=False).applied()
    made = quantize_ort(structures()[kind][0], scheme, Given(inputs), options)  # type: ignore[arg-type]
    found = forecast(model, {"x": inputs})
    rounds = {each.node for each in found.layers if sum(each.noise(scheme))}
    assert rounds == {each.node for each in rounded_layers(model, made)}
    answers = run(made, inputs)
    assert found.sqnr_db(scheme) == pytest.approx(closeness(run(model, inputs), answers).sqnr_db, abs=0.5)


def test_a_product_of_a_tensor_with_itself_rounds_twice() -> None:
    """x · x moves by 2 · x · error."""
    node = helper.make_node("Mul", ["x", "x"], ["y"], "layer")
    tail = helper.make_node("Identity", ["y"], ["z"], "end")
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "z")]
    graph = helper.make_graph([node, tail], "layer", info[:1], info[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    inputs = np.random.default_rng(0).uniform(0, 1, (4, 1000)).astype(np.float32)
    (found,) = forecast(model, inputs).layers
    coarse = rounded(inputs, 0, float(inputs.max()), 255)
    assert found.sqnr_db(CPU) == pytest.approx(closeness(inputs**2, coarse**2).sqnr_db, abs=0.1)


def run(model: onnx.ModelProto, inputs: np.ndarray) -> np.ndarray:
    from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_DISABLE_ALL  # a QDQ graph as ONNX defines it
    session = InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": inputs})[0])


@pytest.mark.parametrize("word", ["cpu", "cpu-vnni", "cpu-u8", "tensorrt"])
def test_a_trained_classifier_is_foretold(
    word: str, onnx_artifact: Artifact, photos: np.ndarray, tmp_path: Path
) -> None:
    """Against `sensitivity`, which rounds each layer alone, and against the answers of the quantized graph."""
    scheme, calibration = scheme_named(word), CalibrationSet(photos, "drawn")
    made = quantize_int8(onnx_artifact, PtqOptions(word, "ort", compensate=False), calibration, tmp_path / "int8")
    found = forecast(onnx.load(onnx_artifact.model_path), photos)
    layers = {each.node: each for each in found.layers if sum(each.noise(scheme))}
    rows = sensitivity(onnx_artifact, made, photos)
    assert {row.node for row in rows} == set(layers)
    errors = [layers[row.node].sqnr_db(scheme) - row.sqnr_db for row in rows]
    assert np.mean(np.abs(errors)) < 1, dict(zip([row.node for row in rows], errors, strict=True))
    answers = engine_logits(made, RunConfig("onnxruntime", graph_level="none"), photos)  # as ONNX defines it
    assert found.sqnr_db(scheme) == pytest.approx(closeness(found.logits, answers).sqnr_db, abs=1.5)


def test_more_bits_and_float_layers_leave_less_noise(onnx_artifact: Artifact, photos: np.ndarray) -> None:
    found = forecast(onnx.load(onnx_artifact.model_path), photos[:16])
    ratios = {word: found.ratio(scheme_named(word)) for word in SCHEMES}
    assert ratios["cpu-vnni"] < ratios["cpu"] and all(0 < ratio < 1 for ratio in ratios.values())
    worst = tuple(each.node for each in shown.worst(found, CPU)[:1])
    assert found.ratio(CPU, floats=worst) < ratios["cpu"]
    assert found.ratio(CPU, floats=tuple(each.node for each in found.layers)) == 0
    assert all(found.kl(scheme_named(word)) > 0 for word in SCHEMES)
    assert 0 <= found.flips(ratios["cpu-vnni"]) <= found.flips(ratios["cpu"]) <= 0.5 and found.flips(0.0) == 0


def test_an_addition_adds_powers_and_a_layer_hands_ratios_on() -> None:
    """a → b (ratio 0.1 of its own), a + b: by hand; the answers were seen to have twice the noise of that."""
    layers = (Forecast("b", "Conv", 50.0, {"uint8": 5.0}), Forecast("c", "Add", 100.0, {"uint8": 2.0}))
    flow = (Flow("a", "a", (), 40.0), Flow("b", "b", ("a",), 50.0), Flow("c", "c", ("a", "b"), 100.0, adds=True),
            Flow("d", "d", ("c",), 10.0))  # fmt: skip
    seen = {"cpu": np.array([[10.0, 10 * 0.14**0.5]], np.float32)}
    found = Foretold(layers, np.array([[10.0, 0.0]], np.float32), flow, 1, seen)
    assert found.ratio(CPU) == pytest.approx(2 * (5 + 2) / 100)
    assert found.ratio(CPU, floats=("b",)) == pytest.approx(2 * 2 / 100)


@pytest.mark.parametrize(
    "layer, words, option",
    [
        (Forecast("n", "Conv", 1e4, {"uint8": 10, "percentile": 1}, {"7": 1, "8": 1, "8u": 1}, outlier=3.0),
         "widen its range", "--ranges percentile"),
        (Forecast("n", "Conv", 1e4, {"uint8": 1, "percentile": 1}, {"7": 10, "8": 2.5, "8u": 3}, True),
         "depthwise", "--scheme cpu-vnni"),
        (Forecast("n", "Gemm", 1e4, {"uint8": 9, "percentile": 9}, {"7": 1, "8": 1, "8u": 1}, spread=20.0),
         "channels differ", "--smooth --quantizer nncf"),
        (Forecast("n", "Conv", 1e4, {"uint8": 9, "percentile": 9}, {"7": 1, "8": 1, "8u": 1}, source="HardSwish"),
         "behind HardSwish", "--float-node"),
    ],
)  # fmt: skip
def test_a_layers_reason_and_remedy(layer: Forecast, words: str, option: str) -> None:
    assert words in ", ".join(shown.reasons(layer, CPU)) and shown.remedy(layer, CPU).startswith(option)


def test_the_command_tells_of_an_artifact_and_of_its_checkpoint(
    run_tiffin: Run, onnx_artifact: Artifact, checkpoint_file: Path, photo_folder: Path
) -> None:
    about = ("--for", "int8", "--data", photo_folder)
    code, out, err = run_tiffin("doctor", onnx_artifact.folder, *about)
    assert code == 0 and "is foretold to leave the answers" in out and "what helps it most" in out
    assert max(map(len, out.splitlines())) <= 80 and "next: tiffin quantize" in err
    told = json.loads(run_tiffin("doctor", onnx_artifact.folder, *about, "--json")[1])
    same = json.loads(run_tiffin("doctor", checkpoint_file, *about, "--json")[1])
    assert told["answers_db"] == pytest.approx(same["answers_db"]) and told["photos"] == 16
    assert [each["node"] for each in told["layers"]] == [each["node"] for each in same["layers"]]
    assert sum(each["of_noise"] for each in told["layers"]) == pytest.approx(1)


@pytest.mark.parametrize(
    "words, said",
    [
        (("--for", "int4"), "int8"),
        (("--for", "int8", "--fix"), "--fix with --for int8"),
        (("--for", "int8", "--backend", "tensorrt"), "--backend with --for int8"),
        (("--scheme", "cpu", "--photos", 4, "--seed", 1), "--scheme, --photos, --seed with no --for int8"),
        (("--for", "int8", "--scheme", "cpu-x"), "unknown int8 scheme"),
    ],
)
def test_what_cannot_be_foretold_is_one_clear_error(
    words: tuple[object, ...], said: str, run_tiffin: Run, onnx_artifact: Artifact
) -> None:
    code, out, err = run_tiffin("doctor", onnx_artifact.folder, *words)
    assert code == 2 and said in err and out == ""


def test_a_source_is_shown_and_says_all_of_itself(
    run_tiffin: Run, checkpoint_file: Path, photo_folder: Path, tmp_path: Path
) -> None:
    about = ("--for", "int8", "--data", photo_folder)
    assert "labels" in run_tiffin("doctor", checkpoint_file, *about)[2]
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "foreign.pt")
    code, _, err = run_tiffin("doctor", tmp_path / "foreign.pt", *about)
    assert code == 2 and "a source that says all of itself" in err


def test_what_is_quantized_already_is_refused(
    run_tiffin: Run, onnx_artifact: Artifact, photos: np.ndarray, photo_folder: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    made = quantize_int8(onnx_artifact, PtqOptions("cpu", "ort", compensate=False), CalibrationSet(photos, "drawn"),
                         tmp_path / "int8")  # fmt: skip
    code, _, err = run_tiffin("doctor", made.folder, "--for", "int8", "--data", photo_folder)
    assert code == 2 and "tiffin sensitivity" in err


def test_another_forecast_is_held_against_what_was_measured(
    onnx_artifact: Artifact, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The study measures an artifact once; rows of an older forecast are told anew, and not shown before."""
    record = tmp_path / "quantizable.json"
    words = [photo_folder, record, onnx_artifact.folder, "--work", tmp_path / "work", "--photos", "8"]
    monkeypatch.setattr(sys, "argv", ["quantizable.py", *map(str, words)])
    quantizable.main()
    first = json.loads(record.read_text())
    monkeypatch.setattr(quantizable, "sensitivity", None)
    monkeypatch.setattr(quantizable, "FORECAST", quantizable.FORECAST + 1)
    assert not re.search(r"\| model \|", quantizable.page(first))
    quantizable.main()
    again = json.loads(record.read_text())
    assert [{**row, "forecast": 0} for row in again["rows"]] == [{**row, "forecast": 0} for row in first["rows"]]
    assert len(re.findall(r"\| model \|", quantizable.page(again))) == len(quantizable.SCHEMES)


def test_grids_hold_what_calibrates_and_clip_what_is_looked_at(onnx_artifact: Artifact, photos: np.ndarray) -> None:
    model = onnx.load(onnx_artifact.model_path)
    alone, told, dark = (forecast(model, photos[:8], held) for held in (None, photos, photos[:8] // 8))
    wide, narrow = (sum(layer.inputs["uint8"] for layer in found.layers) for found in (told, alone))
    assert wide > narrow
    assert dark.sqnr_db(CPU) < alone.sqnr_db(CPU) - 3


@pytest.mark.parametrize("shift", [0.0, -1.0])
def test_a_percentile_is_that_of_onnx_runtimes_histograms(shift: float) -> None:
    """Of all that calibrates, in however many parts it is looked at."""
    model, drawn = layered("Conv", 0, pads=[1, 1, 1, 1])
    given = np.concatenate([drawn * scale + shift for scale in (1, 2, 3)]).astype(np.float32)
    given[5, 0, 3, 3] = 60.0
    made = quantize_ort(
        model, CPU, Given(given), PtqOptions("cpu", "ort", ranges="percentile", compensate=False).applied()
    )  # type: ignore[arg-type]
    (found,) = forecast(layered("Conv", 0, pads=[1, 1, 1, 1])[0], drawn, given).layers
    scales = {each.name: numpy_helper.to_array(each) for each in made.graph.initializer}
    width = float(scales["x_scale"]) * 255
    assert found.outlier == pytest.approx((60 - min(0.0, float(given.min()))) / width, rel=0.02)


def test_no_flips_are_foretold_of_what_has_no_classes(run_tiffin: Run, photo_folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = exported("unet", KINDS["unet"].build().eval(), tmp_path / "unet")
    about = ("--for", "int8", "--data", photo_folder, "--photos", "4")
    out = run_tiffin("doctor", made.folder, *about)[1]
    assert "is foretold to leave the answers" in out and "flip" not in out and "KL" not in out
    told = json.loads(run_tiffin("doctor", made.folder, *about, "--json")[1])
    assert told["answers_db"] > 0 and not {"kl", "flips"} & set(told)


def test_a_fixed_batch_is_foretold_in_whole_batches() -> None:
    model, inputs = layered("Gemm", 0)
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    fixed.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, (4, 6)))
    free, told = forecast(model, inputs[:8]), forecast(fixed, inputs[:10], inputs[:8])
    assert told.sqnr_db(CPU) == pytest.approx(free.sqnr_db(CPU))
    with pytest.raises(BadInput, match="3 photos for a graph that takes 4"):
        forecast(fixed, inputs[:3])
