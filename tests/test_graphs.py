"""Networks that are no classifiers: exported, quantized, compiled and run, near to fp32 in PSNR or IoU."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn
from typer.testing import CliRunner, Result

import tiffin
from tiffin.artifact import Artifact, RunConfig, TensorSpec
from tiffin.artifact.claims import read_claim
from tiffin.benchmarks import fidelity as fidelities
from tiffin.benchmarks.candidate import Candidate
from tiffin.cli.app import app
from tiffin.errors import BadInput, ParityFailed
from tiffin.export import module as exporting
from tiffin.export.module import export_module
from tiffin.export.to_openvino import to_openvino
from tiffin.export.to_tensorrt import to_tensorrt
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.named_feeds import CalibrationFeeds
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_half, quantize_int8
from tiffin.records.closeness import Closeness
from tiffin.records.fidelity import Fidelity, fidelity, from_plain, iou, psnr
from tiffin.records.record import finite
from tiffin.runtime import Classifier, Session
from tiffin.tests.graph_networks import CLASSES, HOST, KINDS, codes, exported, scenes, trained, unit

Build = Callable[[str, str], Artifact]
ROOT = Path(tiffin.__file__).parent
needs_rtx = pytest.mark.skipif(
    not importlib.util.find_spec("tensorrt_rtx_bindings"), reason="TensorRT-RTX has no wheel for this platform"
)
# What a graph without saturation costs at most: (mean PSNR in dB, mean IoU), both against fp32 in torch.
LEAST = {"fp32": (100, 1.0), "fp16": (55, 0.995), "bf16": (40, 0.97), "int8": (30, 0.93)}


@pytest.fixture(scope="module")
def network() -> Callable[[str], nn.Module]:
    return functools.cache(trained)


@pytest.fixture(scope="module")
def build(network: Callable[[str], nn.Module], tmp_path_factory: pytest.TempPathFactory) -> Build:
    """(network, precision or scheme/quantizer) → artifact, each made once."""
    root = tmp_path_factory.mktemp("graphs")

    @functools.cache
    def made(name: str, how: str) -> Artifact:
        out = root / name / how.replace("/", "-")
        if how == "fp32":
            return exported(name, network(name), out)
        if how in ("fp16", "bf16"):
            return quantize_half(made(name, "fp32"), how, out)
        options = PtqOptions(*how.split("/"))
        return quantize_int8(made(name, "fp32"), options, CalibrationFeeds(KINDS[name].feeds(3), "drawn"), out)

    return made


def answers(artifact: Artifact, run: RunConfig, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    with Session(artifact, run) as session:
        return session.run(feeds)


def require_near(name: str, found: np.ndarray, wanted: np.ndarray, precision: str) -> None:
    """Pictures by their mean PSNR, maps of classes by mean IoU."""
    decibels, overlap = LEAST[precision]
    assert found.dtype == np.float32 and found.shape == wanted.shape
    if KINDS[name].peak:
        assert psnr(found, wanted, KINDS[name].peak).mean() > decibels
    else:
        assert np.nanmean(iou(found.argmax(1), wanted.argmax(1), CLASSES)) >= overlap


def torch_answer(name: str, network: nn.Module, feeds: dict[str, np.ndarray]) -> np.ndarray:
    [array] = feeds.values()
    images = torch.from_numpy(array)
    images = (images.float().permute(0, 3, 1, 2) - 127.5) / 127.5 if KINDS[name].photos else images
    with torch.inference_mode():
        given = network(images)
    return (given[KINDS[name].output] if isinstance(given, dict) else given).numpy()


RUNS = [
    ("fp32", "onnxruntime"),
    ("fp32", "openvino"),
    ("fp16", "onnxruntime"),
    ("fp16", "openvino"),
    ("bf16", "openvino"),  # ONNX Runtime has no bf16 convolution for CPUs
    ("cpu/ort", "onnxruntime"),
    ("cpu/ort", "openvino"),
    ("cpu/nncf", "onnxruntime"),  # without VNNI, OpenVINO loses answers behind a concatenation (docs/graphs.md)
    ("tensorrt/ort", "simulated"),
]


# Concatenation and transposed convolution in each run of the tests; the others take a minute more.
QUICK = ("unet", "dcgan")
SOME_QUICK = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in KINDS]
SOME_ENGINES = [pytest.param(*given.values, "tensorrt/ort", marks=given.marks) for given in SOME_QUICK]


@pytest.mark.parametrize(("how", "backend"), RUNS)
@pytest.mark.parametrize("name", SOME_QUICK)
def test_every_precision_answers_as_torch_does(
    name: str, how: str, backend: str, build: Build, network: Callable[[str], nn.Module]
) -> None:
    feeds = dict(KINDS[name].feeds(2))
    # TensorRT's full-range int8 saturates in kernels of CPUs without VNNI: run unfused, in float.
    run = RunConfig("onnxruntime", graph_level="none") if backend == "simulated" else RunConfig(backend)
    found = answers(build(name, how), run, feeds)[KINDS[name].output]
    require_near(name, found, torch_answer(name, network(name), feeds), how if how in LEAST else "int8")


@pytest.mark.parametrize("how", ["fp32", "cpu/ort"])
@pytest.mark.parametrize("name", SOME_QUICK)
def test_openvinos_ir_answers_as_the_onnx_it_was_compiled_from(
    name: str, how: str, build: Build, tmp_path: Path
) -> None:
    source = build(name, how)
    compiled = to_openvino(source, tmp_path / "ir")
    assert compiled.manifest.task == KINDS[name].task
    feeds = dict(KINDS[name].feeds(2))
    found, wanted = (answers(each, RunConfig("openvino"), feeds) for each in (compiled, source))
    assert found.keys() == wanted.keys()
    for output in wanted:
        np.testing.assert_allclose(found[output], wanted[output], atol=1e-4)


@needs_rtx
@pytest.mark.parametrize(("name", "how"), [("unet", "fp16"), *SOME_ENGINES])
def test_tensorrt_rtx_builds_an_engine_of_each(name: str, how: str, build: Build, tmp_path: Path) -> None:
    engine = to_tensorrt(build(name, how), tmp_path / "engine")
    assert engine.manifest.task == KINDS[name].task and (engine.folder / "model.engine").stat().st_size > 0


@pytest.mark.parametrize("name", KINDS)
def test_the_networks_have_learnt_what_they_are_measured_on(name: str, network: Callable[[str], nn.Module]) -> None:
    """An untrained one would agree with itself in any precision."""
    found = torch_answer(name, network(name), dict(KINDS[name].feeds(2)))
    if KINDS[name].task == "segmentation":
        assert np.nanmean(iou(found.argmax(1), scenes(64, 2)[1], CLASSES)) > 0.6
    elif KINDS[name].task == "autoencoder":
        grey = np.full_like(found, 0.5)
        assert psnr(found, unit(scenes(64, 2)[0]), 1).mean() > psnr(grey, unit(scenes(64, 2)[0]), 1).mean() + 1
    else:
        assert found.std() > 0.1 and found.std(axis=0).mean() > 0.05


@pytest.mark.parametrize("rows", [1, 3])
def test_the_batch_is_free(rows: int, build: Build) -> None:
    feeds = {"latent": codes(rows, 5)}
    for how in ("fp32", "fp16", "cpu/ort"):
        assert answers(build("dcgan", how), RunConfig("onnxruntime"), feeds)["picture"].shape == (rows, 3, 32, 32)


def test_photos_may_calibrate_what_takes_photos(build: Build, tmp_path: Path) -> None:
    made = quantize_int8(
        build("unet", "fp32"), PtqOptions(), CalibrationSet(scenes(16, 3)[0], "drawn"), tmp_path / "int8"
    )
    assert made.manifest.producer.options["calibration_photos"] == 16 and made.manifest.task == "segmentation"


def test_each_row_calibrates_and_the_manifest_says_so(build: Build) -> None:
    options = build("vae", "cpu/ort").manifest.producer.options
    assert options["calibration_source"] == "drawn" and options["photos_taken"] == 64


def test_exports_are_the_same_bytes_each_time(
    network: Callable[[str], nn.Module], build: Build, tmp_path: Path
) -> None:
    assert exported("vae", network("vae"), tmp_path / "again").digest == build("vae", "fp32").digest


def test_parity_lies_beside_the_artifact(build: Build) -> None:
    claim = read_claim(build("vae", "fp32"), "parity")
    assert claim["rows"] == 64 and max(claim["max_relative"].values()) <= claim["tolerance"]
    assert set(claim["max_relative"]) == {"reconstruction", "mean", "log_variance"}


def test_a_float16_graph_keeps_what_onnx_wants_in_float32(build: Build) -> None:
    model = onnx.load(build("fcn", "fp16").model_path)
    scales = {name for node in model.graph.node if node.op_type == "Resize" for name in node.input[1:] if name}
    held = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    assert all(held.get(name) != onnx.TensorProto.FLOAT16 for name in scales)


class TwoInputs(nn.Module):
    """Two inputs of different types, of which one is passed through to an output that another one is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.mix = nn.Embedding(10, 8), nn.Conv1d(8, 4, 1)

    def forward(self, values: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        known = self.table(places) * (values > 0).float()
        mixed = self.mix(known.transpose(1, 2))
        return mixed, torch.relu(mixed).mean(2)


def two(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows, 5, 8)).astype(np.float32)
    return {"values": values, "places": rng.integers(0, 10, (rows, 5))}


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_several_inputs_and_outputs_keep_their_names_and_types(precision: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source, _ = export_module(TwoInputs(), two(8), tmp_path / "fp32", outputs=["mixed", "pooled"])
    if precision == "fp16":
        made = quantize_half(source, "fp16", tmp_path / "made")
    else:
        made = quantize_int8(source, PtqOptions(), CalibrationFeeds(two(32, 1), "drawn"), tmp_path / "made")
    feeds = {name: array[:3] for name, array in two(32, 1).items()}  # within the ranges seen
    wanted, found = (answers(each, RunConfig("onnxruntime"), feeds) for each in (source, made))
    assert list(found) == ["mixed", "pooled"]
    for name in wanted:
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], wanted[name], atol=0.1)


# What is refused


class Drawing(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image + torch.randn_like(image)


class Branching(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image * 2 if image.sum() > 0 else image


class Failing(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("shelf 7")


class Worded(nn.Module):
    def forward(self, image: torch.Tensor) -> str:
        return "kiwi"


class Fixed(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.reshape(4, -1)


class Broken(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image / 0


IMAGE = np.linspace(0.1, 1, 4 * 12, dtype=np.float32).reshape(4, 3, 2, 2)


@pytest.mark.parametrize(
    ("network", "asked", "said"),
    [
        (Drawing(), {}, "draws nothing in eval mode"),
        (Branching(), {}, "cannot be traced"),
        (Failing(), {}, "shelf 7"),
        (Worded(), {}, "gives str"),
        (Fixed(), {}, "cannot be traced"),
        (Broken(), {}, "NaN or infinite"),
        (nn.Identity, {}, "no network"),
        (nn.ReLU(), {"task": "classification"}, "`tiffin export`"),
        (nn.ReLU(), {"outputs": ["a", "b"]}, "a name for each"),
        (nn.ReLU(), {"outputs": ["image"]}, "no input's"),
        (nn.ReLU(), {"preprocess": HOST}, "one input of uint8"),
    ],
)  # fmt: skip
def test_a_network_that_cannot_be_used_is_one_clear_error(
    network: nn.Module, asked: dict[str, object], said: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as refused:
        export_module(network, {"image": IMAGE}, tmp_path / "out", **asked)
    assert said in str(refused.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("inputs", [{}, {"a": IMAGE[:1]}, {"a": IMAGE, "b": IMAGE[:2]}, {"a": np.float32(1)}])
def test_inputs_need_one_number_of_rows(inputs: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="one number of rows"):
        export_module(nn.ReLU(), inputs, tmp_path / "out")


def test_weights_of_another_kind_are_told_before_anything_is_traced(tmp_path: Path) -> None:
    inputs = {"image": np.zeros((2, 3, 8, 8))}
    with pytest.raises(BadInput, match="Conv2d: weights of float64") as caught:
        export_module(nn.Conv2d(3, 4, 3).double(), inputs, tmp_path / "out")
    assert "module.float()" in caught.value.fix


def test_outputs_that_differ_from_torchs_are_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "TOLERANCE", -1.0)
    with pytest.raises(ParityFailed, match="output by"):
        export_module(nn.ReLU(), {"image": IMAGE}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"noise": codes(16, 0)}, "latent float32"),
        ({"latent": codes(16, 0).astype(np.float64)}, "latent float32"),
        ({"latent": codes(16, 0)[:, :4]}, "(N, 16)"),
        ({"latent": np.full((16, 16), np.nan, np.float32)}, "NaN"),
        ({"latent": codes(3, 0)}, "at least 8"),
    ],
)
def test_feeds_that_do_not_fit_are_refused(arrays: dict[str, np.ndarray], said: str, build: Build) -> None:
    with pytest.raises(BadInput) as refused:
        CalibrationFeeds(arrays, "drawn").usable(build("dcgan", "fp32").manifest)
    assert said in str(refused.value)


def test_feeds_may_have_any_size_on_an_axis_that_is_free(build: Build) -> None:
    free = dataclasses.replace(
        build("dcgan", "fp32").manifest, inputs=(TensorSpec("latent", "float32", (None, None, 4)),)
    )
    rows = CalibrationFeeds({"latent": codes(16, 0).reshape(16, 4, 4)}, "drawn")
    assert rows.usable(free).arrays is rows.arrays
    with pytest.raises(BadInput) as refused:
        CalibrationFeeds({"latent": codes(16, 0).reshape(16, 8, 2)}, "drawn").usable(free)
    assert "latent float32(N, 8, 2)" in str(refused.value) and "latent float32(N, any, 4)" in str(refused.value)


# On the command line


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refusal(*words: object) -> str:
    error = cli(*words).exception
    assert isinstance(error, BadInput), error
    return str(error)


@pytest.fixture(scope="module")
def feeds_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("feeds") / "feeds.npz"
    np.savez(path, latent=codes(32, 3))
    return path


def test_feeds_calibrate_on_the_command_line(build: Build, feeds_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "int8"
    done = cli("quantize", build("dcgan", "fp32").folder, "--feeds", feeds_file, "--out", out)
    assert done.exit_code == 0, done.exception
    assert "confidence" not in done.output and Artifact.load(out).manifest.precision == "int8"
    assert (
        cli("quantize", build("dcgan", "fp32").folder, "--precision", "fp16", "--out", tmp_path / "fp16").exit_code == 0
    )
    compiled = cli("compile", out, "--backend", "openvino", "--out", tmp_path / "ir")
    assert compiled.exit_code == 0
    with tiffin.load(tmp_path / "ir") as session:
        assert session.run({"latent": codes(1, 4)})["picture"].shape[0] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "pass --feeds"),
        (["--feeds", "nowhere.npz"], "nowhere.npz"),
        (["--feeds", "pyproject.toml"], "cannot be read as feeds"),
        (["--feeds", "{feeds}", "--method", "qat"], "--method qat"),
        (["--feeds", "{feeds}", "--calibrate", "data-free"], "data-free"),
        (["--feeds", "{feeds}", "--precision", "fp16"], "--precision fp16"),
    ],
)
def test_feeds_and_what_wants_photos_are_told_apart(
    words: list[str], said: str, build: Build, feeds_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    words = [word.replace("{feeds}", str(feeds_file)) for word in words]
    assert said in refusal("quantize", build("dcgan", "fp32").folder, *words)


def test_predict_says_that_it_is_no_classifier(build: Build, tmp_path: Path) -> None:
    for name in ("dcgan", "unet"):
        said = refusal("predict", build(name, "fp32").folder, ROOT / "docs" / "photo.jpg")
        assert f"task {KINDS[name].task}, no classifier" in said and "tiffin.load(folder).run(feeds)" in said
    with Session(build("unet", "fp32"), RunConfig("onnxruntime")) as session, pytest.raises(BadInput):
        Classifier(session)


def test_score_refuses_it_and_bench_times_it(build: Build, tmp_path: Path) -> None:
    folder = build("dcgan", "fp32").folder
    assert "no classifier" in refusal("score", folder) and "`tiffin fidelity`" in refusal("score", folder)
    quick = ["--launches", 1, "--blocks", 1, "--block-s", 0.01, "--time-limit-s", 1, "--out", tmp_path / "bench.json"]
    done = cli("bench", folder, build("dcgan", "fp16").folder, *quick)
    assert done.exit_code == 0, done.exception
    assert set(json.loads((tmp_path / "bench.json").read_text())["rounds"]) == {"fp32@onnxruntime", "fp16@onnxruntime"}


def test_what_compares_classes_points_to_what_compares_other_networks(build: Build) -> None:
    folder = build("dcgan", "fp32").folder
    for words in (("explain", folder), ("sensitivity", folder, build("dcgan", "cpu/ort").folder)):
        said = refusal(*words)
        assert "task generator, no classifier" in said and "`tiffin debug`" in said and "`tiffin fidelity`" in said


def ran(*words: object) -> str:
    done = cli("fidelity", *words)
    assert done.exit_code == 0, done.exception
    return done.stdout


def test_fidelity_tells_pictures_by_psnr(build: Build, feeds_file: Path, tmp_path: Path) -> None:
    fp32, int8, out = build("dcgan", "fp32"), build("dcgan", "cpu/ort"), tmp_path / "fidelity.json"
    feeds = {"latent": codes(32, 3)}
    wanted, found = (answers(each, RunConfig("onnxruntime"), feeds)["picture"] for each in (fp32, int8))
    engine = f"{build('dcgan', 'tensorrt/ort').folder}@simulated"
    words = (fp32.folder, int8.folder, engine, "--feeds", feeds_file, "--out", out)
    told = json.loads(ran(*words, "--peak", 2, "--json"))
    same, near, _ = told["outputs"]
    assert told["task"] == "generator" and told["data"] == {"name": "feeds.npz", "kind": "feeds", "count": 32}
    assert same["max_difference"] == 0 and same["sqnr_db"] is None and same["psnr_db"] == [None] * 32
    np.testing.assert_allclose(near["psnr_db"], psnr(found, wanted, 2), rtol=1e-6)
    shown = ran(*words)
    assert "median PSNR" in shown and "compared with fp32" in shown and max(map(len, shown.splitlines())) <= 80
    again = cli("show", out)
    assert (
        again.exit_code == 0
        and again.stdout.strip() in shown
        and "| median PSNR |" in cli("show", out, "--markdown").stdout
    )


def test_fidelity_tells_maps_of_classes_by_iou(build: Build, tmp_path: Path) -> None:
    fp32, int8, out = build("unet", "fp32"), build("unet", "cpu/ort"), tmp_path / "fidelity.json"
    shown, classes = scenes(20, 5)
    np.savez(tmp_path / "fed.npz", **{fp32.manifest.inputs[0].name: shown})
    np.savez(tmp_path / "truth.npz", **{KINDS["unet"].output: classes})
    words = ("--feeds", tmp_path / "fed.npz", "--out", out, "--json")
    near = json.loads(ran(fp32.folder, int8.folder, *words))["outputs"]
    assert near[0]["iou"] == [1] * CLASSES and near[0]["alike"] == 1 and 0.9 < near[1]["alike"] < 1
    true = json.loads(ran(fp32.folder, int8.folder, "--truth", tmp_path / "truth.npz", *words))
    given = {fp32.manifest.inputs[0].name: shown}
    found = answers(fp32, RunConfig("onnxruntime"), given)[KINDS["unet"].output].argmax(1)
    np.testing.assert_allclose(true["outputs"][0]["iou"], iou(found, classes, CLASSES))
    assert true["against"] == "truth" and true["outputs"][0]["sqnr_db"] is None
    assert "have the same class" in cli("show", out).stdout and "the truth" in cli("show", out).stdout


def test_fidelity_takes_photos_and_outputs_that_are_neither(build: Build, photo_folder: Path, tmp_path: Path) -> None:
    unet, vae = build("unet", "fp32").folder, build("vae", "fp32")
    words = ("--photos", photo_folder / "test" / "leek", "--out", tmp_path / "fidelity.json", "--json")
    assert json.loads(ran(unet, f"{unet}@openvino", *words))["outputs"][1]["alike"] > 0.99
    np.savez(tmp_path / "fed.npz", **KINDS["vae"].feeds(2))
    told = json.loads(ran(vae.folder, "--feeds", tmp_path / "fed.npz", *words[2:]))["outputs"]
    measured = {each["output"]: bool(each["psnr_db"]) for each in told}
    assert measured == {"reconstruction": True, "mean": False, "log_variance": False}


def test_an_artifact_that_cannot_run_is_a_row_with_its_reason(
    build: Build, feeds_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("tensorrt", "tensorrt_bindings"):
        monkeypatch.setitem(sys.modules, module, None)
    folder = build("dcgan", "fp32").folder
    words = (folder, f"{folder}@tensorrt", folder.parent / "fp16", "--feeds", feeds_file, "--out", tmp_path / "f.json")
    build("dcgan", "fp16")
    told = json.loads(ran(*words, "--json"))
    assert [bool(reason) for reason in told["artifacts"].values()] == [False, True, False]
    assert len(told["outputs"]) == 2 and "tensorrt" in cli("show", tmp_path / "f.json").stdout
    alone = cli("fidelity", *words[:2], *words[3:])
    assert alone.exit_code == 1 and "@tensorrt" in alone.stdout, "nothing is left that was compared"


@pytest.mark.parametrize("kind", ["unet", "dcgan"])
def test_an_artifact_that_answers_nan_is_no_likeness(
    kind: str, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The greatest of scores that are all NaN is the first class, whatever the network."""
    artifact, fed = build(kind, "fp32"), {name: array[:2] for name, array in KINDS[kind].feeds(0).items()}
    run, calls = fidelities.Session.run, iter((1.0, math.nan))

    def spoiled(session: object, feeds: dict) -> dict:
        factor = next(calls)
        return {name: array * np.float32(factor) for name, array in run(session, feeds).items()}  # type: ignore[arg-type]

    monkeypatch.setattr(fidelities.Session, "run", spoiled)
    rows = [Candidate(name, artifact, RunConfig("onnxruntime")) for name in ("fp32", "fp16")]
    made = fidelities.compare_outputs(rows, [fed, fed])
    assert made.subjects[1].reason == f"fp16: NaN in output {KINDS[kind].output!r}"
    assert not made.options["outputs"]["fp16"] and not made.subjects[0].reason


def test_pictures_of_one_grey_have_no_psnr_without_a_peak(build: Build, feeds_file: Path, tmp_path: Path) -> None:
    artifact = build("dcgan", "fp32")
    np.savez(tmp_path / "grey.npz", picture=np.zeros((32, *artifact.manifest.outputs[0].shape[1:]), np.float32))
    words = (artifact.folder, "--feeds", feeds_file, "--truth", tmp_path / "grey.npz", "--json",
             "--out", tmp_path / "fidelity.json")  # fmt: skip
    (row,) = json.loads(ran(*words))["outputs"]
    assert row["psnr_db"] == [] and row["max_difference"] > 0
    assert len(json.loads(ran(*words, "--peak", 2))["outputs"][0]["psnr_db"]) == 32


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{dcgan}"], "neither of --feeds and --photos"),
        (["{dcgan}", "--feeds", "{feeds}", "--peak", "0"], "--peak 0"),
        (["{dcgan}", "--feeds", "{other}"], "lacks input 'latent'"),
        (["{dcgan}", "--photos", "4"], "takes no photos"),
        (["{dcgan}", "{unet}", "--feeds", "{all}"], "tasks generator, segmentation"),
        (["{dcgan}", "--feeds", "{feeds}", "--truth", "{other}"], "a truth of noise"),
        (["{dcgan}", "--feeds", "{feeds}", "--truth", "{short}"], "3 rows of truth 'picture'"),
        (["{dcgan}", "--feeds", "{feeds}", "--truth", "{flat}"], "output 'picture': arrays of"),
        (["{unet}", "--feeds", "{all}", "--truth", "{void}"], "classes from 65535 to 65535"),
        (["{classifier}", "--feeds", "{feeds}"], "`tiffin score`"),
    ],
)
def test_what_fidelity_cannot_compare_is_one_clear_error(
    words: list[str], said: str, build: Build, feeds_file: Path, onnx_artifact: Artifact, tmp_path: Path
) -> None:
    shown = {build("unet", "fp32").manifest.inputs[0].name: scenes(32, 5)[0]}
    held = {
        "other": {"noise": codes(32, 3)},
        "all": {"latent": codes(32, 3), **shown},
        "short": {"picture": np.zeros((3, 3, 64, 64))},
        "flat": {"picture": np.zeros((32, 5))},
        "void": {KINDS["unet"].output: np.full((32, *scenes(1, 5)[1].shape[1:]), 65535, np.uint16)},
    }
    named = {"dcgan": build("dcgan", "fp32").folder, "unet": build("unet", "fp32").folder, "feeds": feeds_file}
    named["classifier"] = onnx_artifact.folder
    for name, arrays in held.items():
        np.savez(tmp_path / f"{name}.npz", **arrays)
        named[name] = tmp_path / f"{name}.npz"
    if "{classifier}" in words:
        np.savez(tmp_path / "photos.npz", photos=np.zeros((8, 32, 32, 3), np.uint8))
        named["feeds"] = tmp_path / "photos.npz"
    out = tmp_path / "fidelity.json"
    assert said in refusal("fidelity", *(word.format(**named) for word in words), "--out", out) and not out.exists()


def test_the_example_of_the_docs_runs(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "examples" / "segmentation.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "mean IoU" in done.stdout


# The measures

pictures = hnp.arrays(np.float32, (3, 2, 4, 4), elements=st.floats(0, 1, width=32))
maps = hnp.arrays(np.int64, (2, 5, 5), elements=st.integers(0, 3))


@given(pictures, st.floats(0.015625, 0.5, width=32))
def test_psnr_of_an_even_shift_is_known(picture: np.ndarray, shift: float) -> None:
    found = psnr(picture.astype(np.float64) + shift, picture, 1)
    np.testing.assert_allclose(found, -20 * np.log10(shift), rtol=1e-6)
    assert np.isinf(psnr(picture, picture, 1)).all()


@given(maps, maps)
def test_iou_is_symmetric_and_between_0_and_1(one: np.ndarray, other: np.ndarray) -> None:
    found, turned = iou(one, other, 4), iou(other, one, 4)
    np.testing.assert_array_equal(found, turned)
    for label in range(4):
        both, either = ((one == label) & (other == label)).sum(), ((one == label) | (other == label)).sum()
        assert np.isnan(found[label]) if not either else found[label] == both / either


def test_a_sum_that_is_more_than_a_float_holds_is_read_back() -> None:
    found = Fidelity(Closeness(2, signal=np.inf, other=np.inf, product=np.inf))
    assert from_plain(finite(found.plain())) == found


@given(st.sampled_from(("segmentation", "generator", "other")), pictures, pictures, st.integers(0, 3))
def test_fidelity_of_parts_is_that_of_the_whole(task: str, one: np.ndarray, other: np.ndarray, cut: int) -> None:
    parts = [part for part in (slice(0, cut), slice(cut, 3)) if len(one[part])]
    whole, first, *more = fidelity(task, one, other), *(fidelity(task, one[part], other[part]) for part in parts)
    added = first + more[0] if more else first
    assert added.counts == whole.counts and added.errors == pytest.approx(whole.errors)
    assert added.close.noise == pytest.approx(whole.close.noise, abs=1e-12)
    assert from_plain(json.loads(json.dumps(whole.plain()))) == whole
    if task == "segmentation":
        np.testing.assert_array_equal(whole.iou(), iou(one.argmax(1), other.argmax(1), 2))


@pytest.mark.parametrize(
    "measure",
    [
        lambda: psnr(np.zeros((1, 2)), np.zeros((1, 3)), 1),
        lambda: psnr(np.zeros((0, 2)), np.zeros((0, 2)), 1),
        lambda: psnr(np.zeros((1, 2)), np.zeros((1, 2)), 0),
        lambda: iou(np.array([[0, 3]]), np.array([[0, 1]]), 3),
        lambda: iou(np.array([[0.5]]), np.array([[0.5]]), 3),
    ],
)
def test_what_cannot_be_compared_is_refused(measure: Callable[[], object]) -> None:
    with pytest.raises(BadInput):
        measure()
