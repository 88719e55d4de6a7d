"""`tiffin debug`: each way in which two artifacts part is found at its node and named; innocent ones are not."""

from __future__ import annotations

import copy
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tiffin.artifact import Artifact, Preprocess, Producer, RunConfig, TensorSpec
from tiffin.artifact.manifest import Manifest
from tiffin.artifact.store import save
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.debug.align import aligned
from tiffin.benchmarks.debug.causes import causes
from tiffin.benchmarks.debug.measure import Asked, debug
from tiffin.benchmarks.debug.point import Point
from tiffin.benchmarks.debug.reduce import WANTED
from tiffin.benchmarks.debug.scene import Part, Scene, run_plain
from tiffin.benchmarks.debug.side import Side
from tiffin.benchmarks.explain.ranges import activations_of, limits_of
from tiffin.cli.parting import cause_lines, debug_text, parting_of
from tiffin.errors import BadInput
from tiffin.export.graph.precision import to_half
from tiffin.export.to_openvino import to_openvino
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_fp8, quantize_int8
from tiffin.records import Record
from tiffin.records.closeness import Closeness, closeness
from tiffin.records.parting import Parting, Tried, ordered
from tiffin.tests.command import Run

ORT, PLAIN, OPENVINO, TORCH = (
    RunConfig("onnxruntime"), RunConfig("onnxruntime", graph_level="none"), RunConfig("openvino"), RunConfig("torch"),
)  # fmt: skip
SIDE = 24
PHOTOS = TensorSpec("photos", "uint8", (None, SIDE, SIDE, 3))


# The comparator.

arrays = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=30).map(lambda held: np.array(held, np.float32))


@given(arrays, st.integers(0, 2**32 - 1), st.integers(0, 30))
@settings(max_examples=150, deadline=None)
def test_parts_add_up_to_the_whole(wanted: np.ndarray, seed: int, cut: int) -> None:
    found = wanted + np.random.default_rng(seed).normal(0, 1, wanted.shape)
    whole = closeness(wanted, found)
    parts = closeness(wanted[:cut], found[:cut]) + closeness(wanted[cut:], found[cut:])
    assert parts.n == whole.n and parts.largest == whole.largest and parts.low == whole.low
    assert parts.noise == pytest.approx(whole.noise) and parts.signal == pytest.approx(whole.signal)
    assert closeness(wanted, wanted).exact and closeness(wanted, wanted).sqnr_db == np.inf
    assert -1 - 1e-9 <= whole.cosine <= 1 + 1e-9


@pytest.mark.parametrize("scale, decibels", [(0.1, 20.0), (0.01, 40.0)])
def test_signal_to_noise_is_a_ratio_of_powers(scale: float, decibels: float) -> None:
    wanted = np.array([3.0, -4.0])
    found = closeness(wanted, wanted * (1 + scale))
    assert found.sqnr_db == pytest.approx(decibels) and found.relative == pytest.approx(4 * scale / 7)
    assert found.cosine == pytest.approx(1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_alone_is_no_number_has_parted(value: float) -> None:
    wanted = np.array([1.0, 2.0])
    found = closeness(wanted, np.array([1.0, value]))
    assert found.odd == 1 and found.sqnr_db == -np.inf and found.relative == np.inf and not found.exact
    alike = closeness(np.array([1.0, value]), np.array([1.0, value]))
    assert alike.exact and alike.sqnr_db == np.inf


# A small graph, and ways to break it.


def network(antialias: int = 1) -> onnx.ModelProto:
    """uint8 photos → scale → Conv (pads 0, 1), Relu → depthwise, Clip → Add → Resize → Conv, Relu → logits."""
    rng = np.random.default_rng(0)

    def weights(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32), name)

    def constant(name: str, *values: float, kind: type = np.float32) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(values if len(values) > 1 else values[0], kind), name)

    held = [
        weights("first", 8, 3, 3, 3), weights("first_bias", 8), weights("deep", 8, 1, 3, 3), weights("deep_bias", 8),
        weights("last", 12, 8, 3, 3), weights("last_bias", 12), weights("head", 5, 12), weights("head_bias", 5),
        constant("scale", 1 / 64), constant("shift", -2.0, -1.9, -1.8), constant("zero", 0.0), constant("six", 6.0),
        constant("sizes", 7, 7, kind=np.int64), constant("axes", 2, 3, kind=np.int64),
        constant("shape", 0, -1, kind=np.int64),
    ]  # fmt: skip
    nodes = [
        ("Cast", ["photos"], "cast", {"to": TensorProto.FLOAT}),
        ("Mul", ["cast", "scale"], "scaled", {}),
        ("Add", ["scaled", "shift"], "normal", {}),
        ("Transpose", ["normal"], "planes", {"perm": [0, 3, 1, 2]}),
        ("Conv", ["planes", "first", "first_bias"], "a", {"pads": [0, 0, 1, 1], "strides": [2, 2]}),
        ("Relu", ["a"], "b", {}),
        ("Conv", ["b", "deep", "deep_bias"], "c", {"pads": [1, 1, 1, 1], "group": 8}),
        ("Clip", ["c", "zero", "six"], "d", {}),
        ("Add", ["b", "d"], "e", {}),
        ("Resize", ["e", "", "", "sizes"], "f", {"axes": [2, 3], "mode": "linear", "antialias": antialias}),
        ("Conv", ["f", "last", "last_bias"], "g", {"pads": [1, 1, 1, 1]}),
        ("Relu", ["g"], "h", {}),
        ("ReduceMean", ["h", "axes"], "i", {"keepdims": 1}),
        ("Reshape", ["i", "shape"], "j", {}),
        ("Gemm", ["j", "head", "head_bias"], "logits", {"transB": 1}),
    ]
    made = [helper.make_node(op, inputs, [out], name=f"{op}_{out}", **more) for op, inputs, out, more in nodes]
    photos = helper.make_tensor_value_info("photos", TensorProto.UINT8, [None, SIDE, SIDE, 3])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 5])
    graph = helper.make_graph(made, "small", [photos], [logits], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def saved(
    model: onnx.ModelProto, out: Path, precision: str = "fp32",
    fed: TensorSpec = PHOTOS,
) -> Artifact:  # fmt: skip
    manifest = Manifest(
        "regression", "onnx", precision, (fed,),
        (TensorSpec("logits", "float32", (None, 5)),), (), Producer("test"),
    )  # fmt: skip
    return save(out, manifest, {"model.onnx": model.SerializeToString()})


def shown(count: int = 8) -> dict[str, np.ndarray]:
    """Photos with edges: what a border or an antialias does, shows."""
    rng = np.random.default_rng(1)
    blocks = rng.integers(0, 256, (count, SIDE // 3, SIDE // 3, 3)).repeat(3, 1).repeat(3, 2)
    return {"photos": np.clip(blocks + rng.normal(0, 20, blocks.shape), 0, 255).astype(np.uint8)}


def compare(
    one: Artifact, other: Artifact, runs: tuple[RunConfig, RunConfig] = (ORT, ORT), **more: object
) -> tuple[Record, Parting]:
    fed = shown()
    pair = (Candidate("one", one, runs[0]), Candidate("other", other, runs[1]))
    record = debug(Asked(*pair, (fed, fed), {"name": "drawn", "count": 8}, **more))  # type: ignore[arg-type]
    return record, parting_of(record)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return saved(network(), tmp_path_factory.mktemp("whole") / "one")


Change = Callable[[onnx.ModelProto], None]


def attribute(node: str, **values: object) -> Change:
    def change(model: onnx.ModelProto) -> None:
        held = named(model, node)
        kept = [each for each in held.attribute if each.name not in values]
        del held.attribute[:]
        held.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in values.items())])

    return change


def without(node: str) -> Change:
    """The node is left out of the graph, as an exporter loses it."""

    def change(model: onnx.ModelProto) -> None:
        lost = named(model, node)
        before, after = lost.input[0], lost.output[0]
        model.graph.node.remove(lost)
        maker = next(each for each in model.graph.node if before in each.output)
        for each in model.graph.node:
            each.input[:] = [after if name == before else name for name in each.input]
        maker.output[0] = after

    return change


def constant(name: str, make: Callable[[np.ndarray], np.ndarray]) -> Change:
    def change(model: onnx.ModelProto) -> None:
        held = next(each for each in model.graph.initializer if each.name == name)
        held.CopyFrom(numpy_helper.from_array(make(numpy_helper.to_array(held)).astype(np.float32), name))

    return change


def cut_weights(model: onnx.ModelProto) -> None:
    """int8 weights whose scale is four times too small: they saturate at ±127."""
    held = next(each for each in model.graph.initializer if each.name == "last")
    values = numpy_helper.to_array(held)
    scale = np.abs(values).max((1, 2, 3)) / 127 / 4
    whole_ = np.clip(np.round(values / scale[:, None, None, None]), -127, 127).astype(np.int8)
    model.graph.initializer.remove(held)
    named_ = {"last_q": whole_, "last_scale": scale.astype(np.float32), "last_zero": np.zeros(12, np.int8)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in named_.items())
    model.graph.node.insert(0, helper.make_node("DequantizeLinear", list(named_), ["last"], "restored", axis=0))


def named(model: onnx.ModelProto, node: str) -> onnx.NodeProto:
    return next(each for each in model.graph.node if each.name == node)


WAYS = {
    "padding at the other side": (attribute("Conv_a", pads=[1, 1, 0, 0]), "a", "Conv_a", "padding"),
    "activation dropped": (without("Clip_d"), "d", "Clip_d", "activation"),
    "resize without antialias": (attribute("Resize_f", antialias=0), "f", "Resize_f", "antialias"),
    "resize by corners": (
        attribute("Resize_f", coordinate_transformation_mode="align_corners"), "f", "Resize_f", "resize",
    ),
    "blue first": (constant("shift", lambda shift: shift[::-1] + [3, 0, -3]), "normal", "Add_normal", "normalization"),
    "bias lost": (constant("deep_bias", np.zeros_like), "c", "Conv_c", "bias"),
    "saturating int8 weights": (cut_weights, "g", "Conv_g", "saturation"),
    "other weights": (constant("last", lambda held: held[:, ::-1]), "g", "Conv_g", "weights"),
}  # fmt: skip


@pytest.mark.parametrize("way, run", [(way, ORT) for way in WAYS] + [(way, OPENVINO) for way in list(WAYS)[3:]])
def test_each_way_to_break_a_graph_is_found_and_named(way: str, run: RunConfig, tmp_path: Path) -> None:
    change, tensor, node, kind = WAYS[way]
    smooth = int(run is ORT)  # OpenVINO ignores it, as the next test finds
    trusted, model = saved(network(smooth), tmp_path / "one"), network(smooth)
    change(model)
    precision = "int8" if "int8" in way else "fp32"
    broken = saved(model, tmp_path / "broken", precision)
    record, found = compare(trusted, broken, (ORT, run), reduce=tmp_path / "small.onnx")
    assert found.first is not None and (found.first.name, found.first.node) == (tensor, node)
    assert found.causes and found.causes[0].kind == kind, cause_lines(found)
    assert record.options["reduced"]["nodes"] <= 4 and "nan" not in debug_text(record)
    reproduces(tmp_path / "small.onnx", found.floor_db)


def reproduces(path: Path, floor_db: float) -> None:
    """The reduced model, alone, from its own inputs, by ONNX Runtime: still not what is wanted."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with np.load(path.with_suffix(".npz")) as held:
        (answer,) = session.run(None, {each.name: held[each.name] for each in session.get_inputs()})
        assert closeness(held[WANTED], answer).sqnr_db < floor_db


def fixed(model: onnx.ModelProto, batch: int, out: Path) -> Artifact:
    """Of photos, so that a session splits them, in a graph that takes no other number of them."""
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    shape = next(each for each in model.graph.initializer if each.name == "shape")
    shape.CopyFrom(numpy_helper.from_array(np.array([batch, -1], np.int64), "shape"))
    photos, logits = TensorSpec("photos", "uint8", (batch, SIDE, SIDE, 3)), TensorSpec("logits", "float32", (batch, 5))
    manifest = Manifest("classification", "onnx", "fp32", (photos,), (logits,), tuple("abcde"), Producer("test"),
                        preprocess=Preprocess(SIDE, SIDE))  # fmt: skip
    return save(out, manifest, {"model.onnx": model.SerializeToString()})


@pytest.mark.parametrize("batch", [1, 3, 12])
@pytest.mark.parametrize("run", [ORT, OPENVINO])
def test_a_network_of_a_fixed_batch_is_looked_into(batch: int, run: RunConfig, tmp_path: Path) -> None:
    """12 are more than the photos that are compared."""
    broken = network(0)
    without("Relu_b")(broken)
    one, other = fixed(network(0), batch, tmp_path / "one"), fixed(broken, batch, tmp_path / "other")
    record, found = compare(one, other, (ORT, run), reduce=tmp_path / "small.onnx")
    assert found.first is not None and found.causes[0].kind == "activation", cause_lines(found)
    assert record.options["agree"][1] == 8 and record.options["reduced"]["nodes"] <= 4
    reproduces(tmp_path / "small.onnx", found.floor_db)


def test_parts_of_two_fixed_batches_do_not_lose_what_was_found(tmp_path: Path) -> None:
    broken = network(0)
    constant("head", lambda held: held[:, ::-1])(broken)
    one, other = fixed(network(0), 2, tmp_path / "one"), fixed(broken, 3, tmp_path / "other")
    assert compare(one, other)[1].first is not None


def test_an_engine_that_ignores_antialias_is_found(whole: Artifact) -> None:
    """One file on two engines: OpenVINO 2026.4.1 reads `antialias` of a linear Resize and does without."""
    record, found = compare(whole, whole, (ORT, OPENVINO))
    assert found.first is None or (found.first.node, found.causes[0].kind) == ("Resize_f", "antialias")


def other_operator(node: str, op: str) -> Change:
    return lambda model: setattr(named(model, node), "op_type", op)


def looped(model: onnx.ModelProto) -> None:
    """Relu_h as a loop of one turn."""
    node = named(model, "Relu_h")
    kinds = {"turn": TensorProto.INT64, "go": TensorProto.BOOL, "seen": TensorProto.FLOAT, "on": TensorProto.BOOL,
             "made": TensorProto.FLOAT}  # fmt: skip
    shapes = {"seen": None, "made": None}
    info = [helper.make_tensor_value_info(name, kind, shapes.get(name, [])) for name, kind in kinds.items()]
    steps = [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Abs", ["seen"], ["made"])]
    body = helper.make_graph(steps, "body", info[:3], info[3:])
    held = {"turns": np.int64(1), "yes": np.bool_(True)}
    model.graph.initializer.extend(numpy_helper.from_array(np.array(value), name) for name, value in held.items())
    at = list(model.graph.node).index(node)
    model.graph.node.insert(
        at + 1, helper.make_node("Loop", ["turns", "yes", node.input[0]], ["h"], "Loop_h", body=body)
    )
    model.graph.node.remove(node)


@pytest.mark.parametrize("change, kind, words", [
    (attribute("Gemm_logits", alpha=0.5), "definition", "Gemm_logits: alpha 0.5, not the default"),
    (attribute("Conv_a", pads=[1, 1, 1, 1]), "padding", "Conv_a: pads [1, 1, 1, 1], not [0, 0, 1, 1]"),
    (other_operator("Relu_b", "Sigmoid"), "activation", "Relu_b: Sigmoid in place of Relu"),
    (other_operator("Add_e", "Mul"), "definition", "Add_e: Mul in place of Add"),
    (looped, "definition", "Relu_h: Loop in place of Relu"),
])  # fmt: skip
def test_a_node_that_the_other_file_defines_otherwise_is_told_as_it_holds_it(
    change: Change, kind: str, words: str, whole: Artifact, tmp_path: Path
) -> None:
    model = network()
    change(model)
    record, found = compare(whole, saved(model, tmp_path / "broken"))
    (cause,) = found.causes
    assert (cause.kind, cause.words) == (kind, words), debug_text(record)


def test_a_node_that_the_other_file_has_more_is_told(whole: Artifact, tmp_path: Path) -> None:
    model = network()
    at = list(model.graph.node).index(named(model, "Relu_h"))
    model.graph.node.insert(at, helper.make_node("Sin", ["g"], ["waves"], "Sin_g"))
    named(model, "Relu_h").input[0] = "waves"
    record, found = compare(whole, saved(model, tmp_path / "broken"))
    assert [each.words for each in found.causes] == ["other computes it with Sin"], debug_text(record)


def test_what_a_branch_reads_from_outside_belongs_to_its_part(whole: Artifact, tmp_path: Path) -> None:
    """An If whose input is a constant: the tensor is read in its branches alone."""
    model = network()
    branches = {
        name: helper.make_graph([helper.make_node(op, ["g"], [op])], op, [],
                                [helper.make_tensor_value_info(op, TensorProto.FLOAT, None)])
        for name, op in (("then_branch", "Abs"), ("else_branch", "Neg"))
    }  # fmt: skip
    at = list(model.graph.node).index(named(model, "Relu_h"))
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.remove(named(model, "Relu_h"))
    model.graph.node.insert(at, helper.make_node("If", ["yes"], ["h"], "If_h", **branches))
    record, found = compare(whole, saved(model, tmp_path / "broken"))
    assert found.first is not None and found.first.other_node == "If_h", debug_text(record)
    assert [each.words for each in found.causes] == ["Relu_h: If in place of Relu"], debug_text(record)


def test_weights_and_bias_that_both_changed_are_named_together(whole: Artifact, tmp_path: Path) -> None:
    """As of channels in another order."""
    model = network()
    for name in ("last", "last_bias"):
        constant(name, lambda held: held[::-1])(model)
    record, found = compare(whole, saved(model, tmp_path / "broken"))
    (cause,) = found.causes
    assert (cause.kind, cause.words) == ("weights", "Conv_g has other weights and another bias"), debug_text(record)


def test_weights_that_are_no_numbers_are_named(whole: Artifact, tmp_path: Path) -> None:
    model = network()
    constant("last", lambda held: np.where(np.arange(12)[:, None, None, None] == 3, np.nan, held))(model)
    record, found = compare(whole, saved(model, tmp_path / "broken"))
    assert [each.words for each in found.causes] == ["Conv_g's weights hold NaN"], debug_text(record)


def test_three_channels_behind_a_layer_are_no_input(tmp_path: Path) -> None:
    """A layer of three, scaled: not the normalization of a photo."""
    model = network()
    for name in ("last", "last_bias"):
        constant(name, lambda held: held[:3])(model)
    constant("head", lambda held: held[:, :3])(model)
    other = copy.deepcopy(model)
    for name in ("last", "last_bias"):
        constant(name, lambda held: held * 1.2)(other)
    record, found = compare(saved(model, tmp_path / "one"), saved(other, tmp_path / "other"))
    assert [each.kind for each in found.causes] == ["weights", "scale"], debug_text(record)


def test_another_table_of_an_embedding_is_named(tmp_path: Path) -> None:
    rows = np.random.default_rng(3).integers(0, 20, 64)
    table = np.random.default_rng(4).normal(0, 1, (20, 5)).astype(np.float32)
    pair = tuple(
        saved(embedding(held), tmp_path / name, fed=TensorSpec("rows", "int64", (None,)))
        for name, held in (("one", table), ("other", np.roll(table, 1, 0)))
    )
    fed = {"rows": rows}
    record = debug(Asked(*(Candidate(made.folder.name, made, ORT) for made in pair), (fed, fed), {"count": 64}))
    assert parting_of(record).causes[0].words == "Gather_logits has another table", debug_text(record)


def embedding(table: np.ndarray) -> onnx.ModelProto:
    """One layer: a row of the table by its number."""
    node = helper.make_node("Gather", ["table", "rows"], ["logits"], "Gather_logits")
    graph = helper.make_graph(
        [node], "embedding", [helper.make_tensor_value_info("rows", TensorProto.INT64, [None])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [None, 5])],
        [numpy_helper.from_array(table, "table")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize("lost", [True, False], ids=["lost", "put in"])
def test_antialias_is_named_with_the_attribute_that_torch_writes_beside_it(lost: bool, tmp_path: Path) -> None:
    both, neither = network(), network(0)
    attribute("Resize_f", exclude_outside=1)(both)
    models = (both, neither) if lost else (neither, both)
    record, found = compare(*(saved(model, tmp_path / name) for model, name in zip(models, "ab", strict=True)))
    assert found.causes and found.causes[0].kind == "antialias", debug_text(record)


def test_an_overflow_of_fp16_is_named(tmp_path: Path) -> None:
    """Weights so large that the layer leaves fp16; the relu behind it hides no infinity."""
    model, size = network(), 3e4
    constant("last", lambda held: held * size)(model)
    constant("head", lambda held: held / size)(model)
    trusted = saved(model, tmp_path / "one")
    half = to_half(model, "fp16")
    record, found = compare(trusted, saved(half, tmp_path / "half", "fp16"))
    assert found.first is not None and found.first.name == "g"
    assert found.causes[0].kind == "fp16 overflow" and "65504" in found.causes[0].words
    assert "no number" in debug_text(record)


def test_an_overflow_that_reaches_no_answer_is_said_to(tmp_path: Path) -> None:
    """ONNX Runtime computes two layers in fp32: only what is tapped between them leaves fp16."""
    model = network()
    without("Clip_d")(model)
    named(model, "Conv_g").input[0] = "d"
    for name, size in (("deep", 1e4), ("deep_bias", 1e4), ("last", 1e-4)):
        constant(name, lambda held, size=size: held * size)(model)  # type: ignore[misc]
    half = saved(to_half(model, "fp16"), tmp_path / "half", "fp16")
    record, found = compare(saved(model, tmp_path / "one"), half)
    said = " ".join(debug_text(record).split())
    assert found.first is not None and found.causes[0].kind == "fp16 overflow", said
    assert "not in their answers" in said and "a device that computes in fp16 would overflow" in said, said


@pytest.mark.parametrize("runs", [(ORT, ORT), (PLAIN, ORT), (ORT, OPENVINO)], ids=["same", "plain", "openvino"])
def test_artifacts_that_agree_are_not_accused(runs: tuple[RunConfig, RunConfig], tmp_path: Path) -> None:
    artifact = saved(network(0), tmp_path / "one")
    record, found = compare(artifact, artifact, runs, whole=True)
    assert found.first is None and not found.tried and "no layer parts" in debug_text(record)
    assert len(found.points) == found.pairs == 15
    if runs == (ORT, ORT):
        assert found.exact and "the same to the last bit" in debug_text(record)


# Across engines and precisions, on a trained classifier.


def classified(
    one: Artifact, other: Artifact, runs: tuple[RunConfig, RunConfig], photos: np.ndarray
) -> tuple[Record, Parting]:
    fed = ({one.manifest.inputs[0].name: photos[:12]}, {other.manifest.inputs[0].name: photos[:12]})
    record = debug(Asked(Candidate("one", one, runs[0]), Candidate("other", other, runs[1]), fed, {"count": 12}))
    return record, parting_of(record)


@pytest.fixture(scope="module")
def int8_artifact(onnx_artifact: Artifact, photos: np.ndarray) -> Artifact:
    """Beside the fp32 one, so that its ancestors are found."""
    out = onnx_artifact.folder.parent / "int8"
    return quantize_int8(
        onnx_artifact, PtqOptions("cpu", "ort", compensate=False), CalibrationSet(photos, "drawn"), out
    )


@pytest.mark.parametrize("pair", ["torch-onnx", "onnx-ir", "torch-ir", "torch-int8", "int8-ir"])
def test_forms_of_one_checkpoint_do_not_part(
    pair: str, pt2_artifact: Artifact, onnx_artifact: Artifact, openvino_artifact: Artifact, int8_artifact: Artifact,
    photos: np.ndarray, tmp_path: Path,
) -> None:  # fmt: skip
    sides = {"torch": (pt2_artifact, TORCH), "onnx": (onnx_artifact, ORT), "ir": (openvino_artifact, OPENVINO),
             "int8": (int8_artifact, ORT)}  # fmt: skip
    one, other = (sides[word] for word in pair.split("-"))
    record, found = classified(one[0], other[0], (one[1], other[1]), photos)
    assert found.first is None and record.options["agree"][0] >= 11
    assert found.points[-1].name == "logits" and found.pairs >= 8


def test_int8_in_an_ir_is_seen_behind_its_rounding(
    int8_artifact: Artifact, onnx_artifact: Artifact, photos: np.ndarray, tmp_path: Path
) -> None:
    record, found = classified(onnx_artifact, to_openvino(int8_artifact, tmp_path / "ir"), (ORT, OPENVINO), photos)
    assert found.first is None and found.pairs >= 8, debug_text(record)


def test_eight_bit_floats_are_told_as_such(onnx_artifact: Artifact, photos: np.ndarray) -> None:
    out = onnx_artifact.folder.parent / "fp8"
    fp8 = quantize_fp8(onnx_artifact, PtqOptions("tensorrt", compensate=False), CalibrationSet(photos, "drawn"), out)
    model = onnx.load(fp8.model_path)
    low, high = limits_of(model, activations_of(model)[0])
    assert high == -low > 0  # 448 times the scale, of E4M3FN
    pair = Candidate("one", onnx_artifact, ORT), Candidate("other", fp8, PLAIN)
    fed = ({"photos": photos[:4]}, {"photos": photos[:4]})
    record = debug(Asked(*pair, fed, {"name": "drawn", "count": 4}, 60.0))
    assert parting_of(record).first is not None and "int8" not in debug_text(record)


def test_a_torch_program_finds_what_its_export_lost(
    pt2_artifact: Artifact, onnx_artifact: Artifact, photos: np.ndarray, tmp_path: Path
) -> None:
    model = onnx.load(onnx_artifact.model_path)
    lost = [node.name for node in model.graph.node if node.op_type in ("Relu", "Clip")][1]
    without(lost)(model)
    broken = save(tmp_path / "broken", onnx_artifact.manifest, {"model.onnx": model.SerializeToString()})
    record, found = classified(pt2_artifact, broken, (TORCH, ORT), photos)
    assert found.first is not None and found.causes and found.causes[0].kind == "activation", debug_text(record)
    assert found.first.other_node == lost or found.first.name.startswith(("relu", "hardtanh", "batch_norm", "conv"))


def test_a_torch_program_is_what_a_reduced_graph_is_held_against(
    pt2_artifact: Artifact, onnx_artifact: Artifact, photos: np.ndarray, tmp_path: Path
) -> None:
    """The broken graph is the trusted side here: it has the only ONNX graph."""
    model = onnx.load(onnx_artifact.model_path)
    without(next(node.name for node in model.graph.node if node.op_type in ("Relu", "Clip")))(model)
    broken = save(tmp_path / "broken", onnx_artifact.manifest, {"model.onnx": model.SerializeToString()})
    fed = {"photos": photos[:4]}
    pair = Candidate("one", broken, ORT), Candidate("other", pt2_artifact, TORCH)
    debug(Asked(*pair, (fed, fed), {"count": 4}, reduce=tmp_path / "small.onnx"))
    reproduces(tmp_path / "small.onnx", 60)


def test_nothing_to_reduce_is_said_beside_what_was_found(
    whole: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No cut parts where it is the whole that is fused otherwise; nor is there one where nothing parts."""
    broken = network()
    without("Relu_b")(broken)
    other, out = saved(broken, tmp_path / "other"), tmp_path / "small.onnx"
    monkeypatch.setattr("tiffin.benchmarks.debug.reduce._answer", lambda side, model, feeds: run_plain(network(), {}))
    record, found = compare(whole, other, reduce=out)
    assert found.first is not None and found.causes and "nothing reduced: onnxruntime: " in debug_text(record)
    monkeypatch.setattr("tiffin.benchmarks.debug.reduce._answer", lambda side, model, feeds: wanted)
    wanted = run_plain(network(), shown(1))
    monkeypatch.setattr("tiffin.benchmarks.debug.reduce._tensor", lambda *about: wanted)
    record, found = compare(whole, other, reduce=out)
    assert found.causes and "nothing reduced: no part of the graph alone parts" in debug_text(record)
    assert "nothing reduced: no layer parts" in debug_text(compare(whole, whole, reduce=out)[0])
    assert not out.exists()


def test_two_programs_are_not_compared_to_reduce_a_graph(pt2_artifact: Artifact, tmp_path: Path) -> None:
    pair = Candidate("one", pt2_artifact, TORCH), Candidate("other", pt2_artifact, TORCH)
    with pytest.raises(BadInput, match="neither side has an ONNX graph"):
        debug(Asked(*pair, ({}, {}), {}, reduce=tmp_path / "small.onnx"))


def test_kernels_that_saturate_are_told_from_the_graph(whole: Artifact, tmp_path: Path) -> None:
    """An engine's answer as the pairs of a saturating kernel give it, simulated: no CPU is needed that does so."""
    rng = np.random.default_rng(2)
    weights, inputs = np.full((1, 8, 1, 1), 100, np.int8), rng.integers(200, 256, (4, 8, 6, 6)).astype(np.float32)
    held = {"w_q": weights, "w_scale": np.float32(0.01), "w_zero": np.int8(0)}
    nodes = [helper.make_node("DequantizeLinear", list(held), ["w"], "restored"),
             helper.make_node("Conv", ["x", "w"], ["y"], "Conv_y")]  # fmt: skip
    graph = helper.make_graph(
        nodes, "one layer", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 8, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    exact = run_plain(model, {"x": inputs})
    pairs = (inputs.reshape(4, 4, 2, 6, 6) * 100).sum(2)  # two products a sum, as vpmaddubsw adds them in int16
    cut = np.clip(pairs, -32768, 32767).sum(1, keepdims=True) * 0.01
    side = Side(Candidate("other", saved(network(), tmp_path / "int8", "int8"), ORT), tmp_path)
    trusted = Side(Candidate("one", whole, ORT), tmp_path)
    point = Point("y", "Conv_y", "Conv", "y")
    scene = Scene(Part(trusted, point, exact), Part(side, point, cut, model, {"x": inputs}), ("x",))
    best = causes(scene, 15.0)[0]
    assert best.certain and best.kind == "saturation" and "int16" in best.words
    innocent = Scene(Part(trusted, point, exact), Part(side, point, exact, model, {"x": inputs}), ("x",))
    assert not any(each.certain for each in causes(innocent, 15.0))


# Pairs, order, refusals.


def test_points_of_two_programs_are_paired_in_order_by_weights_and_shape() -> None:
    ours = [Point("a", "a", "Conv", "a", (8, 4, 4), "w1"), Point("b", "b", "Conv", "b", (8, 4, 4), "w2"),
            Point("c", "c", "Relu", "c", (8, 4, 4))]  # fmt: skip
    theirs = [Point("z", "z", "Conv", "z", (8, 4, 4), "w0"), Point("y", "y", "Conv", "y", (8, 4, 4), "w1"),
              Point("x", "x", "Conv", "x", (8, 4, 4), "w2"), Point("v", "v", "Relu", "v", (9, 4, 4))]  # fmt: skip
    assert [(one.name, other.name) for one, other in aligned(ours, theirs)] == [("a", "y"), ("b", "x")]


def test_hypotheses_are_ordered_by_what_they_explain() -> None:
    def at(noise: float) -> Closeness:
        return Closeness(n=1, signal=1.0, noise=noise)

    few, much, seen = (
        Tried("a", "", at(1), at(0.5)),
        Tried("b", "", at(1), at(1e-8)),
        Tried("c", "", at(1), at(1), True),
    )
    assert [each.kind for each in ordered([few, much, seen], 60)] == ["c", "b", "a"]
    found = Parting(60, (), 0, ordered([few, much, seen], 60))
    assert [each.kind for each in found.causes] == ["c", "b"]


def test_networks_without_a_common_tensor_are_refused(whole: Artifact, onnx_artifact: Artifact) -> None:
    fed = shown(2), {"photos": np.zeros((2, 32, 32, 3), np.uint8)}
    with pytest.raises(BadInput, match="no tensor in common|tensors of"):
        debug(Asked(Candidate("one", whole, ORT), Candidate("other", onnx_artifact, ORT), fed, {"count": 2}))


def test_outputs_of_other_sizes_are_refused_before_anything_runs(whole: Artifact, tmp_path: Path) -> None:
    """They share a place and every tensor before it: a head of another number of classes."""
    model = network()
    constant("head", lambda held: held[:4])(model)
    constant("head_bias", lambda held: held[:4])(model)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4
    made = saved(model, tmp_path / "four")
    manifest = replace(made.manifest, task="other", outputs=(TensorSpec("scores", "float32", (None, 4)),))
    four = save(tmp_path / "other", manifest, {"model.onnx": model.SerializeToString()})
    said = r"one gives logits \(N, 5\) for regression, other gives scores \(N, 4\) for other"
    with pytest.raises(BadInput, match=said):
        debug(Asked(Candidate("one", whole, ORT), Candidate("other", four, ORT), ({}, {}), {"count": 0}))


def test_an_engine_that_shows_no_tensor_is_refused(whole: Artifact, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="shows no tensor"):
        Side(Candidate("one", whole, RunConfig("tensorrt")), tmp_path)


# The command.


def test_the_command_shows_its_record_again(
    run_tiffin: Run, onnx_artifact: Artifact, photo_folder: Path, tmp_path: Path
) -> None:
    model = onnx.load(onnx_artifact.model_path)
    lost = next(node.name for node in model.graph.node if node.op_type in ("Relu", "Clip"))
    without(lost)(model)
    save(tmp_path / "broken", onnx_artifact.manifest, {"model.onnx": model.SerializeToString()})
    words = ("debug", onnx_artifact.folder, tmp_path / "broken", "--out", tmp_path / "d.json")
    code, out, err = run_tiffin(*words, "--photos", 6, "--data", photo_folder, "--plot", tmp_path / "d.svg",
                         "--reduce", tmp_path / "r.onnx")  # fmt: skip
    assert code == 0 and "cause: activation" in out and "reduced: r.onnx" in out and "6 photos" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert run_tiffin("show", tmp_path / "d.json")[1] == out
    told = json.loads(run_tiffin("show", tmp_path / "d.json", "--json")[1])
    assert told["first"]["sqnr_db"] < told["floor_db"] and told["causes"][0]["kind"] == "activation"
    assert "| tensor |" in run_tiffin("show", tmp_path / "d.json", "--markdown")[1]
    ET.parse(tmp_path / "d.svg")
    code, out, err = run_tiffin(*words, "--photos", photo_folder / "test" / "apple", "--json")
    assert code == 0 and json.loads(out)["data"]["count"] == 12 and "identical" in json.loads(out)


@pytest.mark.parametrize("engine", ["@onnxruntime", ""])
def test_two_ways_to_run_one_artifact_are_compared(
    engine: str, run_tiffin: Run, onnx_artifact: Artifact, photo_folder: Path, tmp_path: Path
) -> None:
    plain = f"{onnx_artifact.folder}{engine}:plain"
    code, out, _ = run_tiffin("debug", plain, onnx_artifact.folder, "--photos", 4,
                       "--data", photo_folder, "--out", tmp_path / "d.json", "--all")  # fmt: skip
    assert code == 0 and "no layer parts" in out


@pytest.mark.parametrize(
    "words, said",
    [
        (("--photos", "nowhere"), "a number from 1 on, or a folder"),
        (("--photos", "0"), "a number from 1 on, or a folder"),
        (("--photos", "-3"), "a number from 1 on, or a folder"),
        (("--photos", "4", "--feeds", "none.npz"), "--photos with --feeds"),
        (("--role", "train", "--data", "photos", "--feeds", "none.npz"), "--data, --role with --feeds"),
        (("--floor", "nan"), "--floor nan"),
        (("--plot", "p.png"), "ends in .svg"),
        (("--reduce", "small.txt"), "ends in .onnx"),
        (("--feeds", "none.npz"), "cannot be read as feeds"),
    ],
)
def test_bad_input_is_one_clear_error(
    words: tuple[str, ...], said: str, run_tiffin: Run, onnx_artifact: Artifact,
    tmp_path: Path,
) -> None:  # fmt: skip
    code, out, err = run_tiffin(
        "debug", onnx_artifact.folder, onnx_artifact.folder, *words, "--out", tmp_path / "d.json"
    )
    assert code == 2 and said in err and out == "" and not (tmp_path / "d.json").exists()


def test_an_unknown_way_to_run_is_refused(run_tiffin: Run, onnx_artifact: Artifact) -> None:
    code, _, err = run_tiffin("debug", onnx_artifact.folder, f"{onnx_artifact.folder}@openvino:int4")
    assert code == 2 and "plain, fp32, fp16, bf16" in err


def test_the_table_fits_and_calls_operators_as_the_graph_does(tmp_path: Path) -> None:
    model = network()
    pool = named(model, "ReduceMean_i")
    pool.op_type = "GlobalAveragePool"
    del pool.input[1], pool.attribute[:]
    for node in model.graph.node:
        for names in (node.input, node.output):
            names[:] = ["_upsample_bilinear2d_aa" if name == "f" else name for name in names]
    constant("deep", lambda held: held * 1e6)(model)
    named(model, "Clip_d").op_type = "Identity"
    del named(model, "Clip_d").input[1:]
    other = copy.deepcopy(model)
    constant("last", lambda held: held * -1)(other)
    record, found = compare(saved(model, tmp_path / "one"), saved(other, tmp_path / "other"), whole=True)
    text = debug_text(record)
    assert max(map(len, text.splitlines())) <= 80 and "_upsample_bilinear2d_aa" in text, text
    assert "GlobalAverag…" in text and "GlobalAveragePool" in {point.op for point in found.points}, text


def test_feeds_stand_in_for_photos(run_tiffin: Run, whole: Artifact, tmp_path: Path) -> None:
    model = network()
    attribute("Resize_f", antialias=0)(model)
    broken = saved(model, tmp_path / "broken")
    np.savez(tmp_path / "fed.npz", **shown())
    code, out, _ = run_tiffin("debug", whole.folder, broken.folder, "--feeds", tmp_path / "fed.npz",
                       "--out", tmp_path / "d.json", "--json")  # fmt: skip
    assert code == 0 and json.loads(out)["causes"][0]["kind"] == "antialias"
    assert "on 8 rows" in " ".join(run_tiffin("show", tmp_path / "d.json")[1].split())
