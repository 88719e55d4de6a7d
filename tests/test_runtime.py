"""runtime/: one contract for every backend, what each engine refuses, what is certified, photos, the classifier."""

from __future__ import annotations

import ctypes
import dataclasses
import gc
import inspect
import io
import itertools
import json
import logging
import platform
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tiffin
from tiffin import machine
from tiffin.artifact import Artifact, Preprocess, Producer, RunConfig, TensorSpec
from tiffin.artifact.bundle import Variant, pack
from tiffin.artifact.certificate import Certificate
from tiffin.artifact.cpu_class import class_here
from tiffin.artifact.manifest import Manifest
from tiffin.artifact.store import save
from tiffin.errors import BadArtifact, BadInput, EngineFailed, EngineMissing, NotCertified
from tiffin.machine import usable_cores
from tiffin.records import Predictions
from tiffin.records.certification import Evidence, figures, write_certificate
from tiffin.runtime import Classifier, Session, backends, certified, default_run, device_array, load, resolve
from tiffin.runtime.backends import _cuda
from tiffin.runtime.backends._cuda import driver_problem
from tiffin.runtime.decode import decode
from tiffin.runtime.items import Item
from tiffin.runtime.preprocess import golden_hashes, prepare, prepare_batch, with_golden
from tiffin.tests import simulated_cuda
from tiffin.tests.simulated_cuda import EngineValidity, Status, World

# Every backend of the registry with the fixture that it opens; None where building one needs what is not here.
PAIRS = [
    ("null", "onnx_artifact"),
    ("onnxruntime", "onnx_artifact"),
    ("openvino", "onnx_artifact"),
    ("openvino", "openvino_artifact"),
    ("torch", "pt2_artifact"),
    ("tensorrt", None),
    ("tensorrt_rtx", None),
]


def names_of(pairs: list[tuple[str, str | None]]) -> list[str]:
    return [f"{backend}-{(fixture or 'none').removesuffix('_artifact')}" for backend, fixture in pairs]


@pytest.fixture(params=PAIRS, ids=names_of(PAIRS))
def opened(request: pytest.FixtureRequest) -> tuple[str, Artifact]:
    """A backend that runs here, and an artifact that it reads."""
    backend, fixture = request.param
    probe = backends.probe(backend)
    if not probe.runs:
        pytest.skip(f"{backend}: {probe.reason}")
    if fixture is None:
        pytest.skip(f"{backend}: needs an engine compiled on this machine")
    return backend, request.getfixturevalue(fixture)


@pytest.fixture(scope="session")
def truth(checkpoint, photos: np.ndarray) -> np.ndarray:
    """Logits of the trained network in torch, float32."""
    from tiffin.export.parity import torch_logits

    return torch_logits(checkpoint, photos)


def expected(backend: str, truth: np.ndarray) -> np.ndarray:
    return np.zeros_like(truth) if backend == "null" else truth


def assert_close(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == np.float32 and found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 1e-4 * max(np.abs(wanted).max(), 1e-9)


# The contract


def test_the_contract_covers_the_registry() -> None:
    assert {backend for backend, _ in PAIRS} <= set(backends.names())
    listed = {path.stem for path in Path(backends.__file__).parent.glob("[!_]*.py")}
    assert listed <= {backend for backend, _ in PAIRS}


@pytest.mark.parametrize("name", sorted({backend for backend, _ in PAIRS}))
def test_probe_tells_without_raising(name: str) -> None:
    probe = backends.probe(name)
    assert probe.backend == name and probe.formats
    if probe.runs:
        assert probe.version and probe.devices and "fp32" in probe.precisions
    else:
        assert probe.install or probe.version


@pytest.mark.parametrize("count", [1, 3, 16])
def test_logits_are_the_trained_networks(opened, photos: np.ndarray, truth: np.ndarray, count: int) -> None:
    backend, artifact = opened
    with load(artifact, backend) as session:
        found = session.run({"photos": photos[:count]})
    assert list(found) == ["logits"]
    assert_close(found["logits"], expected(backend, truth[:count]))


def test_results_do_not_alias(opened, photos: np.ndarray, truth: np.ndarray) -> None:
    backend, artifact = opened
    with load(artifact, backend) as session:
        found = [session.run({"photos": photos[n : n + 2]})["logits"] for n in range(0, 8, 2)]
        futures = [session.submit({"photos": photos[n : n + 2]}) for n in range(0, 8, 2)]
        found += [future.result()["logits"] for future in futures]
    assert not any(np.shares_memory(one, other) for one, other in itertools.combinations(found, 2))
    for n, rows in enumerate(found):
        start = 2 * n % 8
        assert_close(rows, expected(backend, truth[start : start + 2]))


def test_results_outlive_the_session(opened, photos: np.ndarray, truth: np.ndarray) -> None:
    backend, artifact = opened
    with load(artifact, backend) as session:
        found = session.run({"photos": photos})["logits"]
    del session
    assert_close(found, expected(backend, truth))


def test_out_is_written_in_place(opened, photos: np.ndarray, truth: np.ndarray) -> None:
    backend, artifact = opened
    whole = np.full((5, 4), np.nan, np.float32)
    with load(artifact, backend) as session:
        target = {"logits": whole[1:4]}
        assert session.run({"photos": photos[:3]}, target) is target
    assert_close(whole[1:4], expected(backend, truth[:3]))
    assert np.isnan(whole[[0, 4]]).all()


@pytest.mark.parametrize(
    "out",
    [
        {},
        {"scores": np.zeros((3, 4), np.float32)},
        {"logits": np.zeros((3, 4), np.float64)},
        {"logits": np.zeros((3, 4), np.float16)},
        {"logits": np.zeros((2, 3, 4), np.float32)},
        {"logits": np.zeros((3, 5), np.float32)},
    ],
)
def test_an_out_that_does_not_fit_is_refused(opened, photos: np.ndarray, out: dict[str, np.ndarray]) -> None:
    backend, artifact = opened
    with load(artifact, backend) as session, pytest.raises(BadInput, match="logits"):
        session.run({"photos": photos[:3]}, out)


def test_feeds_need_be_neither_contiguous_nor_writable(opened, photos: np.ndarray, truth: np.ndarray) -> None:
    backend, artifact = opened
    frozen = photos[:4].copy()
    frozen.flags.writeable = False
    with load(artifact, backend) as session, warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_close(session.run({"photos": frozen})["logits"], expected(backend, truth[:4]))
        assert_close(session.run({"photos": photos[::-2]})["logits"], expected(backend, truth[::-2]))


WRONG_FEEDS = {
    "nothing": lambda photos: {},
    "name": lambda photos: {"images": photos},
    "one more": lambda photos: {"photos": photos, "more": photos},
    "dtype": lambda photos: {"photos": photos.astype(np.float32)},
    "rank": lambda photos: {"photos": photos[0]},
    "size": lambda photos: {"photos": photos[:, :-1]},
    "layout": lambda photos: {"photos": photos.transpose(0, 3, 1, 2)},
    "empty": lambda photos: {"photos": photos[:0]},
    "list": lambda photos: {"photos": photos[:1].tolist()},
}


@pytest.mark.parametrize("wrong", WRONG_FEEDS)
def test_wrong_feeds_are_named(opened, photos: np.ndarray, wrong: str) -> None:
    backend, artifact = opened
    with load(artifact, backend) as session:
        for entry in (session.run, session.submit):
            with pytest.raises(BadInput, match="fed") as caught:
                entry(WRONG_FEEDS[wrong](photos))
            assert caught.value.expected == "photos uint8(N, 32, 32, 3)"
        session.run({"photos": photos[:1]})  # and the session still answers


@pytest.mark.parametrize("lanes", [1, 2])
def test_submit_gives_what_run_gives(opened, photos: np.ndarray, truth: np.ndarray, lanes: int) -> None:
    backend, artifact = opened
    run = RunConfig(backend, threads=1, lanes=lanes)
    with load(artifact, run) as session:
        futures = [session.submit({"photos": photos[n : n + 3]}) for n in range(0, 60, 3)]
        between = [session.run({"photos": photos[n : n + 1]})["logits"] for n in range(8)]  # while lanes are busy
        found = np.concatenate([future.result()["logits"] for future in futures])
    assert_close(found, expected(backend, truth[:60]))
    assert_close(np.concatenate(between), expected(backend, truth[:8]))


def test_sessions_run_beside_each_other(opened, photos: np.ndarray, truth: np.ndarray) -> None:
    backend, artifact = opened
    with load(artifact, backend) as one, load(artifact, backend) as other:
        assert_close(one.run({"photos": photos[:2]})["logits"], expected(backend, truth[:2]))
        assert_close(other.run({"photos": photos[2:4]})["logits"], expected(backend, truth[2:4]))


def test_a_session_closes_once_and_then_refuses(opened, photos: np.ndarray) -> None:
    backend, artifact = opened
    session = load(artifact, backend)
    future = session.submit({"photos": photos[:1]})
    for _ in range(5):
        session.close()
    assert future.done()
    for entry in (session.run, session.submit):
        with pytest.raises(BadInput, match="closed"):
            entry({"photos": photos[:1]})


def test_a_lane_closes_twice(opened) -> None:
    backend, artifact = opened
    lane = backends.backend(backend).open(artifact, RunConfig(backend))
    lane.close()
    lane.close()


@pytest.mark.parametrize("threads", [1, 2, None])
def test_applied_says_what_took_effect(opened, threads: int | None) -> None:
    backend, artifact = opened
    if (threads or 1) > usable_cores():
        pytest.skip("OpenVINO gives no more threads than cores")
    asked = RunConfig(backend, threads=threads)
    with load(artifact, asked) as session:
        assert session.requested == asked
        applied = session.applied
    default = 1 if backend == "null" else usable_cores()
    graph = "none" if backend == "torch" else "all"  # eager torch optimizes no graph
    assert applied.run == dataclasses.replace(asked, threads=threads or default, graph_level=graph)
    assert applied.version and applied.run.execution_precision == "fp32"


def test_another_format_is_refused(opened, tmp_path: Path) -> None:
    backend, artifact = opened
    if backend == "null":
        pytest.skip("null opens every format")
    other = Artifact(artifact.folder, dataclasses.replace(artifact.manifest, format="tensorrt"))
    with pytest.raises(BadInput, match="format tensorrt") as caught:
        load(other, RunConfig(backend))
    assert artifact.manifest.format in caught.value.expected


def test_advice_for_another_format_names_what_has_it(onnx_artifact: Artifact, tmp_path: Path) -> None:
    def fix(form: str, backend: str) -> str:
        artifact = quantized(onnx_artifact, tmp_path / form, format=form)
        with pytest.raises(BadInput, match=f"format {form}") as caught:
            backends.accept(artifact, backends.probe(backend).formats, backend)
        return caught.value.fix

    assert fix("openvino", "tensorrt") == "compile for it: `tiffin compile ONNX_ARTIFACT --backend tensorrt`"
    assert fix("openvino", "onnxruntime") == "name what it was compiled from: ONNX_ARTIFACT"
    shutil.copytree(onnx_artifact.folder, tmp_path / "fp32")
    made = f"`tiffin compile {tmp_path / 'fp32'} --backend"
    assert fix("openvino", "tensorrt") == f"compile for it: {made} tensorrt`"
    assert fix("tensorrt", "openvino") == f"name what it was compiled from: {tmp_path / 'fp32'}"
    assert fix("onnx", "tensorrt_rtx") == f"compile for it: `tiffin compile {tmp_path / 'onnx'} --backend tensorrt_rtx`"
    assert fix("pt2", "onnxruntime") == "make one: `tiffin export`"
    assert fix("openvino", "torch") == "make one: `tiffin export --format pt2`"


@pytest.mark.parametrize("kept", [0, 0.5, 0.98])
def test_a_cut_model_is_one_error_that_names_it(opened, tmp_path: Path, kept: float) -> None:
    backend, artifact = opened
    if backend == "null":
        pytest.skip("null opens no file")
    files = {file.name: (artifact.folder / file.name).read_bytes() for file in artifact.manifest.files}
    name = artifact.manifest.files[0].name
    files[name] = files[name][: int(len(files[name]) * kept)]
    broken = save(tmp_path / "broken", artifact.manifest, files)
    with pytest.raises(EngineFailed, match=name) as caught:
        load(broken, backend)
    assert caught.value.__cause__ is not None and "\n" not in caught.value.what.strip()[:200]


# Loading


def test_load_takes_a_folder_and_opens_the_formats_own_engine(onnx_artifact: Artifact, photos: np.ndarray) -> None:
    with load(onnx_artifact.folder) as session:
        assert session.requested == RunConfig("onnxruntime")
        assert session.artifact.digest == onnx_artifact.digest


def test_the_manifests_own_run_comes_first(onnx_artifact: Artifact) -> None:
    own = RunConfig("openvino", threads=1)
    artifact = Artifact(onnx_artifact.folder, dataclasses.replace(onnx_artifact.manifest, run=own))
    assert default_run(artifact) == own
    with load(artifact, "null") as session:  # a word replaces the backend alone
        assert session.requested == dataclasses.replace(own, backend="null")


def test_compiled_engines_run_on_a_gpu(onnx_artifact: Artifact) -> None:
    for form in ("tensorrt", "tensorrt_rtx"):
        artifact = Artifact(onnx_artifact.folder, dataclasses.replace(onnx_artifact.manifest, format=form))
        assert default_run(artifact) == RunConfig(form, device="gpu")


def test_an_unknown_backend_or_format_is_refused(onnx_artifact: Artifact) -> None:
    with pytest.raises(BadInput, match="'onnxrt'") as caught:
        load(onnx_artifact, "onnxrt")
    assert all(name in caught.value.expected for name in backends.names())
    foreign = Artifact(onnx_artifact.folder, dataclasses.replace(onnx_artifact.manifest, format="tflite"))
    with pytest.raises(BadInput, match="'tflite'"):
        load(foreign)


MODULES = {
    "onnxruntime": ("onnxruntime",),
    "openvino": ("openvino",),
    "torch": ("torch",),
    "tensorrt": ("tensorrt",),
    "tensorrt_rtx": ("tensorrt_rtx", "tensorrt_rtx_bindings"),
}


@pytest.mark.parametrize("name", MODULES)
def test_an_engine_that_is_not_installed_says_how_to_get_it(
    name: str, onnx_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in MODULES[name]:
        monkeypatch.setitem(sys.modules, module, None)
    probe = backends.probe(name)
    assert not probe.runs and probe.reason == "not installed"
    form = probe.formats[0]
    artifact = Artifact(onnx_artifact.folder, dataclasses.replace(onnx_artifact.manifest, format=form))
    with pytest.raises(EngineMissing, match="not installed") as caught:
        load(artifact, RunConfig(name, device="gpu" if name.startswith("tensorrt") else "cpu"))
    assert probe.install == f'pip install "tiffin[{name.replace("_", "-")}]"'
    assert caught.value.fix.startswith(probe.install)


@pytest.mark.parametrize("name", MODULES)
def test_an_engine_that_is_installed_but_broken_says_so(
    name: str, onnx_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = MODULES[name][0]
    (tmp_path / f"{module}.py").write_text("raise OSError('libgomp.so.1: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, module, raising=False)
    probe = backends.probe(name)
    assert not probe.runs and probe.reason.count("it fails") == 1 and "libgomp" in probe.reason
    form = {"torch": "pt2"}.get(name, name if name.startswith("tensorrt") else "onnx")
    artifact = Artifact(onnx_artifact.folder, dataclasses.replace(onnx_artifact.manifest, format=form))
    with pytest.raises(EngineMissing, match="installed, but it fails: OSError: libgomp"):
        load(artifact, RunConfig(name, device="gpu" if name.startswith("tensorrt") else "cpu"))


def test_torch_refuses_a_shape_outside_what_was_exported(pt2_artifact: Artifact) -> None:
    """The manifest may promise more than the program takes."""
    free = tuple(dataclasses.replace(spec, shape=(None, None, None, 3)) for spec in pt2_artifact.manifest.inputs)
    artifact = Artifact(pt2_artifact.folder, dataclasses.replace(pt2_artifact.manifest, inputs=free))
    with load(artifact) as session, pytest.raises(EngineFailed, match="torch failed"):
        session.run({"photos": np.zeros((1, 33, 32, 3), np.uint8)})


def test_where_onnxruntime_is_missing_the_engine_that_is_here_is_named(
    onnx_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineMissing) as caught:
        load(onnx_artifact)
    assert caught.value.fix.endswith("--backend openvino")
    load(onnx_artifact, "openvino").close()
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(EngineMissing) as caught:
        load(onnx_artifact)
    assert "openvino" not in caught.value.fix


def test_a_later_lane_that_fails_closes_the_earlier(onnx_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    module, closed = backends.backend("null"), []
    first, lanes = module.open(onnx_artifact, RunConfig("null")), itertools.count()

    def opening(artifact: Artifact, run: RunConfig):
        if next(lanes):
            raise EngineFailed("out of memory")
        return first

    monkeypatch.setattr(first, "close", lambda: closed.append(first), raising=False)
    monkeypatch.setattr(module, "open", opening)
    with pytest.raises(EngineFailed, match="memory"):
        load(onnx_artifact, RunConfig("null", lanes=3))
    assert closed == [first]


@pytest.mark.parametrize(
    "run",
    [
        RunConfig("onnxruntime", device="tpu"),
        RunConfig("onnxruntime", execution_precision="bf16"),
        RunConfig("openvino", graph_level="none"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(onnx_artifact: Artifact, run: RunConfig) -> None:
    with pytest.raises(BadInput):
        load(onnx_artifact, run)


def test_torch_computes_in_fp32_only(pt2_artifact: Artifact) -> None:
    with pytest.raises(BadInput, match="fp32"):
        load(pt2_artifact, RunConfig("torch", execution_precision="bf16"))


def test_torch_sessions_keep_their_threads(pt2_artifact: Artifact, photos: np.ndarray) -> None:
    import torch

    before, feeds = torch.get_num_threads(), {"photos": photos[:1]}
    try:
        one, two = (load(pt2_artifact, RunConfig("torch", threads=threads)) for threads in (1, 2))
        for session, threads in ((one, 1), (two, 2), (one, 1)):
            session.run(feeds)
            assert torch.get_num_threads() == session.applied.run.threads == threads
    finally:
        torch.set_num_threads(before)


def test_torch_hands_no_array_of_the_callers_back(tmp_path: Path) -> None:
    import torch

    class Part(torch.nn.Module):
        def forward(self, values: torch.Tensor) -> torch.Tensor:
            return values[:, 1:]

    torch.export.save(torch.export.export(Part(), (torch.zeros(2, 3),)), tmp_path / "part.pt2")
    ends = (TensorSpec("values", "float32", (2, 3)),), (TensorSpec("part", "float32", (2, 2)),)
    manifest = Manifest("other", "pt2", "fp32", *ends, files=(), producer=Producer("export"))
    fed = np.arange(6, dtype=np.float32).reshape(2, 3)
    with load(save(tmp_path / "part", manifest, {"part.pt2": tmp_path / "part.pt2"}), RunConfig("torch")) as session:
        found = session.run({"values": fed})["part"]
    fed[:] = 0
    np.testing.assert_array_equal(found, [[1, 2], [4, 5]])


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "torch"])
def test_a_device_that_is_not_here_is_missing(name: str, onnx_artifact: Artifact, pt2_artifact: Artifact) -> None:
    if "gpu" in "".join(backends.probe(name).devices):
        pytest.skip(f"{name} has a GPU here")
    with pytest.raises(EngineMissing):
        load(pt2_artifact if name == "torch" else onnx_artifact, RunConfig(name, device="gpu"))


def test_onnxruntime_without_graph_optimization_answers_the_same(
    onnx_artifact: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    with load(onnx_artifact, RunConfig("onnxruntime", graph_level="none")) as session:
        assert_close(session.run({"photos": photos})["logits"], truth)


# OpenVINO


@pytest.mark.parametrize("hint", ["latency", "throughput"])
@pytest.mark.parametrize("fixture", ["onnx_artifact", "openvino_artifact"])
def test_openvino_computes_fp32_in_f32(request: pytest.FixtureRequest, fixture: str, hint: str) -> None:
    with load(request.getfixturevalue(fixture), RunConfig("openvino", hint=hint)) as session:
        assert session.applied.details["execution_precision"] == "f32"


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_openvino_refuses_a_precision_that_this_cpu_lacks(openvino_artifact: Artifact, precision: str) -> None:
    run = RunConfig("openvino", execution_precision=precision)
    if precision in backends.probe("openvino").precisions:
        with load(openvino_artifact, run) as session:
            assert session.applied.run.execution_precision == precision
        return
    with pytest.raises(EngineFailed, match=f"does not compute in {precision}") as caught:
        load(openvino_artifact, run)
    assert "fp32" in caught.value.expected


def test_openvino_keeps_a_compiled_cache_where_it_is_told(
    onnx_artifact: Artifact, photos: np.ndarray, truth: np.ndarray, tmp_path: Path
) -> None:
    run = RunConfig("openvino", cache=str(tmp_path / "cache"))
    for _ in range(2):
        with load(onnx_artifact, run) as session:
            assert_close(session.run({"photos": photos})["logits"], truth)
    assert any((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_outputs_have_the_manifests_names(tmp_path: Path, backend: str) -> None:
    """OpenVINO merges an Identity into its input: the port then has both names."""
    from onnx import TensorProto, helper

    nodes = [("Relu", "x", "a_inner"), ("Identity", "a_inner", "logits"), ("Neg", "a_inner", "less")]
    shape = [None, 4]
    tensors = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "logits", "less")}
    graph = helper.make_graph(
        [helper.make_node(op, [source], [to]) for op, source, to in nodes],
        "two",
        [tensors["x"]],
        [tensors["less"], tensors["logits"]],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    manifest = Manifest(
        "features",
        "onnx",
        "fp32",
        (TensorSpec("x", "float32", (None, 4)),),
        tuple(TensorSpec(name, "float32", (None, 4)) for name in ("less", "logits")),
        (),
        Producer("export"),
    )
    x = np.array([[-1, 0, 1, 2]], np.float32)
    with load(save(tmp_path / "two", manifest, {"model.onnx": model.SerializeToString()}), backend) as session:
        found = session.run({"x": x})
        assert set(found) == {"less", "logits"}
        np.testing.assert_array_equal(found["logits"], [[0, 0, 1, 2]])
        np.testing.assert_array_equal(found["less"], -found["logits"])
        with pytest.raises(BadInput, match="no classifier"):
            Classifier(session)


# TensorRT


def engine(tmp_path: Path, form: str, **built_for: object) -> Artifact:
    spec = (TensorSpec("photos", "uint8", (None, 8, 8, 3)),), (TensorSpec("logits", "float32", (None, 2)),)
    manifest = Manifest("classification", form, "fp16", *spec, (), Producer("compile"), built_for=built_for)
    return save(tmp_path / "engine", manifest, {"model.engine": b"no engine"})


@pytest.mark.skipif(not driver_problem(), reason="this machine has an NVIDIA driver")
def test_tensorrt_without_a_driver_says_so(tmp_path: Path) -> None:
    probe = backends.probe("tensorrt_rtx")
    if probe.version is None:
        pytest.skip(f"tensorrt_rtx: {probe.reason}")
    assert not probe.runs and "driver" in probe.reason and "built here" in probe.reason
    assert probe.devices == ()
    artifact = engine(tmp_path, "tensorrt_rtx", library="tensorrt_rtx", engine_version=probe.version)
    with pytest.raises(EngineMissing, match="driver") as caught:
        load(artifact)
    assert "driver" in caught.value.expected


@pytest.mark.parametrize(("platform", "library"), [("win32", "nvcuda.dll"), ("linux", "libcuda.so.1")])
def test_the_driver_has_another_name_on_windows(monkeypatch: pytest.MonkeyPatch, platform: str, library: str) -> None:
    asked: list[str] = []

    def missing(name: str) -> None:
        asked.append(name)
        raise OSError

    monkeypatch.setattr(_cuda.sys, "platform", platform)
    monkeypatch.setattr(_cuda.ctypes, "CDLL", missing)
    assert driver_problem() == f"no NVIDIA driver ({library} is not on this machine)" and asked == [library]


@pytest.mark.parametrize(("number", "package"), [(12060, "'cuda-bindings==12.*'"), (None, "cuda-bindings")])
def test_missing_bindings_are_asked_for_in_the_drivers_version(
    monkeypatch: pytest.MonkeyPatch, number: int | None, package: str
) -> None:
    class Driver:
        def cuDriverGetVersion(self, told: object) -> int:
            told._obj.value = number or 0  # type: ignore[attr-defined]
            return 0 if number else 3  # CUDA_ERROR_NOT_INITIALIZED

    monkeypatch.setattr(_cuda.ctypes, "CDLL", lambda name: Driver())
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(EngineMissing) as caught:
        _cuda.cuda_runtime()
    assert caught.value.fix == f"pip install {package}"


def test_tensorrt_runs_on_no_cpu(tmp_path: Path) -> None:
    probe = backends.probe("tensorrt_rtx")
    if probe.version is None:
        pytest.skip(f"tensorrt_rtx: {probe.reason}")
    with pytest.raises(BadInput, match="'cpu'"):
        load(engine(tmp_path, "tensorrt_rtx"), RunConfig("tensorrt_rtx"))


# Preprocessing

HOST = Preprocess(32, 32, crop_fraction=0.875, interpolation="bicubic")


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels)[: 2 + (channels > 1)]
    return np.random.default_rng(height * width).integers(0, 256, shape, dtype=np.uint8)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def test_golden_hashes_reproduce(checkpoint) -> None:
    golden = checkpoint.preprocess.golden
    assert golden and golden_hashes(checkpoint.preprocess) == golden
    assert with_golden(checkpoint.preprocess) == checkpoint.preprocess
    assert len(set(golden.values())) == len(golden)


def test_golden_hashes_are_those_of_version_1() -> None:
    """If this fails, photos become other pixels than before: raise Preprocess.version and measure again."""
    assert {name: value[:12] for name, value in golden_hashes(HOST).items()} == {
        "rgb": "3230bb58bcf4",
        "rgba": "4b1218cfba1b",
        "cmyk": "ce472f845b04",
        "grey16": "b13da7c7c455",
        "small": "ba9886963cd6",
    }


def test_a_photo_of_the_models_size_is_left_as_it_is() -> None:
    photo = noise(32, 32)
    np.testing.assert_array_equal(prepare(photo, Preprocess(32, 32)), photo)
    np.testing.assert_array_equal(prepare(noise(37, 37), HOST), noise(37, 37)[2:34, 2:34])


@pytest.mark.parametrize("size", [(32, 32), (500, 31), (31, 500), (1, 1), (3, 200), (333, 222)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos"])
@pytest.mark.parametrize("target", [(32, 32), (24, 56)])
def test_every_photo_becomes_the_models_size(
    size: tuple[int, int], interpolation: str, target: tuple[int, int]
) -> None:
    host = Preprocess(*target, crop_fraction=0.875, interpolation=interpolation)
    found = prepare(noise(*size), host)
    assert found.shape == (*target, 3) and found.dtype == np.uint8


def test_the_centre_is_kept_and_proportions_too() -> None:
    photo = np.zeros((100, 300, 3), np.uint8)
    photo[:, 100:200] = 255  # the central square
    assert (prepare(photo, Preprocess(32, 32, interpolation="bilinear"))[:, 1:-1] == 255).all()
    photo[10:90, 110:190] = 7
    inner = prepare(photo, Preprocess(32, 32, crop_fraction=0.8, interpolation="bilinear"))
    assert (inner[2:-2, 2:-2] == 7).all()


# Orientation → the pixels as stored, from the upright ones.
STORED = {
    1: lambda up: up,
    2: lambda up: up[:, ::-1],
    3: lambda up: up[::-1, ::-1],
    4: lambda up: up[::-1],
    5: lambda up: up.transpose(1, 0, 2),
    6: lambda up: np.rot90(up, 1),
    7: lambda up: up[::-1, ::-1].transpose(1, 0, 2),
    8: lambda up: np.rot90(up, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = noise(6, 9)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](upright)))
    np.testing.assert_array_equal(np.asarray(decode(encoded(stored, exif=exif))), upright)


def rgb_of(image: Image.Image, form: str = "PNG", **options: object) -> list[int]:
    """First pixel after decoding a file of this image."""
    decoded = decode(encoded(image, form, **options))
    assert decoded.mode == "RGB"
    return list(decoded.getpixel((0, 0)))  # type: ignore[arg-type]


def test_alpha_is_composed_on_white() -> None:
    assert rgb_of(Image.new("RGBA", (2, 2), (10, 20, 30, 255))) == [10, 20, 30]
    assert rgb_of(Image.new("RGBA", (2, 2), (10, 20, 30, 0))) == [255, 255, 255]
    assert rgb_of(Image.new("RGBA", (2, 2), (0, 0, 0, 128))) == [127, 127, 127]
    assert rgb_of(Image.new("LA", (2, 2), (40, 0))) == [255, 255, 255]
    assert rgb_of(Image.new("RGB", (2, 2), (1, 2, 3)), transparency=(1, 2, 3)) == [255, 255, 255]


def test_palettes_become_their_colours() -> None:
    photo = Image.new("P", (2, 2), 1)
    photo.putpalette([0, 0, 0, 200, 100, 50])
    assert rgb_of(photo) == rgb_of(photo, "GIF") == [200, 100, 50]
    assert rgb_of(photo, transparency=1) == [255, 255, 255]


def test_cmyk_becomes_rgb() -> None:
    for inks, wanted in (((0, 0, 0, 0), [255] * 3), ((255, 0, 0, 0), [0, 255, 255]), ((0, 0, 0, 255), [0] * 3)):
        assert rgb_of(Image.new("CMYK", (8, 8), inks), "TIFF") == wanted
        jpeg = rgb_of(Image.new("CMYK", (8, 8), inks), "JPEG", quality=100)
        assert np.abs(np.subtract(jpeg, wanted)).max() <= 2


@pytest.mark.parametrize("value", [0, 255, 256, 0x7FFF, 0x8000, 0xFFFF])
def test_16_bit_grey_keeps_its_high_byte(value: int) -> None:
    photo = Image.fromarray(np.full((2, 2), value, np.uint16))
    assert rgb_of(photo) == rgb_of(photo, "TIFF") == [value >> 8] * 3


def test_grey_and_black_and_white() -> None:
    assert rgb_of(Image.new("L", (2, 2), 77)) == [77] * 3
    assert rgb_of(Image.new("1", (2, 2), 1)) == [255] * 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_cut_photo_is_refused(tmp_path: Path, form: str) -> None:
    whole = encoded(Image.fromarray(noise(40, 40)), form)
    path = tmp_path / "photo.bin"
    for kept in (0, 1, 10, len(whole) // 3, len(whole) * 2 // 3):
        path.write_bytes(whole[:kept])
        with pytest.raises(BadInput, match=r"photo\.bin: cannot be read as a photo"):
            prepare(path, HOST)
        with pytest.raises(BadInput, match="cannot be read as a photo"):
            prepare(whole[:kept], HOST)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "AVIF"])
def test_a_damaged_photo_is_read_or_refused(form: str) -> None:
    from PIL import features

    if form == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    options = {} if form == "GIF" else {"exif": exif}
    whole, rng = encoded(Image.fromarray(noise(12, 16)), form, **options), np.random.default_rng(0)
    refused = 0
    for _ in range(250):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(0, min(len(whole), 300), 3)] = rng.integers(0, 256, 3)
        try:
            decode(damaged.tobytes())
        except BadInput:
            refused += 1
    assert refused


def test_a_photo_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "words.jpg").write_text("no photo")
    with pytest.raises(BadInput, match=r"absent\.jpg: no such photo"):
        prepare(tmp_path / "absent.jpg", HOST)
    with pytest.raises(BadInput, match=r"words\.jpg"):
        prepare(str(tmp_path / "words.jpg"), HOST)
    with pytest.raises(BadInput):
        prepare(tmp_path, HOST)
    (tmp_path / "cut.png").write_bytes(encoded(Image.fromarray(noise(40, 40)))[:900])
    with Image.open(tmp_path / "cut.png") as lazy, pytest.raises(BadInput):  # read only when it is used
        prepare(lazy, HOST)


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
)
def test_an_array_of_another_kind_is_refused(array: np.ndarray) -> None:
    with pytest.raises(BadInput, match="photo array"):
        prepare(array, HOST)


def test_a_batch_is_its_photos() -> None:
    sources = [noise(40, 50), noise(60, 33)]
    found = prepare_batch(sources, HOST)
    assert found.shape == (2, 32, 32, 3) and found.flags.c_contiguous
    for row, source in zip(found, sources, strict=True):
        np.testing.assert_array_equal(row, prepare(source, HOST))
    assert prepare_batch([], HOST).shape == (0, 32, 32, 3)


# Classifier


@pytest.fixture(scope="module")
def classifier(onnx_artifact: Artifact):
    with load(onnx_artifact, RunConfig("onnxruntime", threads=1)) as session:
        yield Classifier(session)


def test_one_photo_in_every_form_gives_the_same(classifier: Classifier, photo_folder: Path) -> None:
    for path in sorted((photo_folder / "test/leek").iterdir())[:2]:  # PNG and JPEG
        with Image.open(path) as image:
            image.load()
            forms = [path, str(path), path.read_bytes(), image, np.asarray(image)]
            answers = [classifier.predict(form) for form in forms]
        assert all(answer == answers[0] for answer in answers)


def test_guesses_are_labels_best_first(classifier: Classifier, checkpoint, photos: np.ndarray) -> None:
    guesses = classifier.rank(classifier(photos))
    for row in guesses:
        assert sum(guess.score for guess in row) == pytest.approx(1)
        assert [guess.score for guess in row] == sorted((guess.score for guess in row), reverse=True)
        assert all(checkpoint.labels[guess.index] == guess.label for guess in row)
    assert [row[0].index for row in guesses] == classifier(photos).argmax(1).tolist()
    assert len(classifier.rank(classifier(photos[:1]), top=2)[0]) == 2


def test_the_tiny_classifier_has_learnt(classifier: Classifier, photo_folder: Path) -> None:
    """Else no other test's logits would mean anything."""
    paths = sorted((photo_folder / "test").glob("*/*"))
    right = [path.parent.name == classifier.predict(path, top=1)[0].label for path in paths]
    assert 0.4 < np.mean(right) < 1 and len(right) == 48


@pytest.mark.parametrize("batch", [1, 3, 5, 100])
def test_iterate_gives_each_photo_in_order(classifier: Classifier, photo_folder: Path, batch: int) -> None:
    paths = sorted((photo_folder / "val").glob("*/*"))
    found = list(classifier.iterate(iter(paths), batch=batch, top=1))
    assert [row[0].label for row in found] == [classifier.predict(path)[0].label for path in paths]
    assert [row[0].score for row in found] == pytest.approx([classifier.predict(path)[0].score for path in paths])


def test_iterate_of_nothing_and_by_nothing(classifier: Classifier) -> None:
    assert list(classifier.iterate([])) == []
    with pytest.raises(BadInput, match="batch 0"):
        list(classifier.iterate([noise(8, 8)], batch=0))


def test_probabilities_sum_to_one_whatever_the_logits(classifier: Classifier) -> None:
    logits = np.array([[1e4, -1e4, 0, 3], [0, 0, 0, 0], [-1e30, 1e30, 1, 2]], np.float32)
    found = classifier.probabilities(logits)
    assert np.isfinite(found).all() and found.sum(1) == pytest.approx([1, 1, 1])
    assert found[1] == pytest.approx([0.25] * 4)


def test_logits_of_nan_are_an_error_and_of_one_photo_alone(classifier: Classifier, monkeypatch) -> None:
    with pytest.raises(EngineFailed, match="logits holds NaN"):
        classifier.rank(np.array([[1, 2, 3, 4], [np.nan, 1, 1, 1]], np.float32))

    def submit(rows: np.ndarray) -> Future:
        answer: Future = Future()
        logits = np.ones((len(rows), 4), np.float32)
        logits[1] = np.nan
        answer.set_result({"logits": logits})
        return answer

    monkeypatch.setattr(classifier, "_submit", submit)
    found = list(classifier.stream([Item(str(n), noise(8, 8)) for n in range(3)], batch=3))
    assert [len(answer.guesses) for answer in found] == [4, 0, 4]
    assert "NaN" in found[1].error.what and not (found[0].error or found[2].error)


def test_a_photo_that_breaks_its_preparation_is_one_error_of_a_stream(classifier: Classifier, monkeypatch) -> None:
    from tiffin.runtime import classifier as module

    real = module.prepare_into

    def short_of_memory(source, host, row) -> None:
        if source.shape[0] == 9:
            raise MemoryError
        real(source, host, row)

    monkeypatch.setattr(module, "prepare_into", short_of_memory)
    items = [Item(str(height), noise(height, 8)) for height in (8, 9, 10)]
    for batch in (1, 3):
        errors = [answer.error for answer in classifier.stream(items, batch=batch)]
        assert errors[0] is errors[2] is None and "9: cannot be prepared (MemoryError" in errors[1].what


def test_temperature_softens_and_keeps_the_order(
    classifier: Classifier, onnx_artifact: Artifact, photos: np.ndarray
) -> None:
    warm = Artifact(onnx_artifact.folder, dataclasses.replace(onnx_artifact.manifest, temperature=3.0))
    with Session(warm, RunConfig("onnxruntime")) as session:
        soft, hard = (one.rank(classifier(photos)) for one in (Classifier(session), classifier))
    for one, other in zip(soft, hard, strict=True):
        assert [guess.label for guess in one] == [guess.label for guess in other]
        assert one[0].score < other[0].score


# Imports


def test_importing_the_runtime_loads_no_engine() -> None:
    heavy = ("torch", "onnx", "onnxruntime", "openvino", "typer", "tensorrt", "tensorrt_rtx_bindings", "nncf", "scipy")
    code = f"import sys, tiffin, tiffin.runtime; print(*[name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ""


def test_listing_and_loading_backends_imports_no_engine() -> None:
    code = (
        "import sys; from tiffin.runtime import backends; [backends.backend(n) for n in backends.names()];"
        "print(*[n for n in ('torch', 'onnxruntime', 'openvino', 'tensorrt_rtx_bindings') if n in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == ""


def test_the_device_needs_neither_pillow_nor_what_builds(onnx_artifact: Artifact, tmp_path: Path) -> None:
    cpu = class_here("onnxruntime")
    artifact = quantized(onnx_artifact, tmp_path / "int8")
    if cpu is not None:
        certify(artifact, cpu_class=cpu.name)
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('PIL', 'torch', 'onnx', 'openvino', 'nncf', 'scipy', 'typer')));"
        "import logging, numpy as np, tiffin; from tiffin.artifact import Artifact, RunConfig;"
        "from tiffin.runtime.session import Session; feeds = {'photos': np.zeros((2, 32, 32, 3), np.uint8)};"
        "one = Session(Artifact.load(sys.argv[1]), RunConfig('onnxruntime')); other = tiffin.load(sys.argv[2]);"
        "print(one.run(feeds)['logits'].shape, other.run(feeds)['logits'].shape)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, onnx_artifact.folder, artifact.folder], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "(2, 4) (2, 4)"
    assert told.stderr == "" or cpu is None


# Certificates


@pytest.fixture
def avx2(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """A CPU of class avx2, and what is logged."""
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"sse4_1", "avx2"}))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    caplog.set_level(logging.WARNING, "tiffin")
    return caplog


def quantized(artifact: Artifact, folder: Path, **changed: object) -> Artifact:
    """The tiny model under a manifest that says int8."""
    changed = {"precision": "int8", "parent": artifact.digest, "checkpoint": "c0" * 32, **changed}
    files = {file.name: artifact.folder / file.name for file in artifact.manifest.files}
    return save(folder, dataclasses.replace(artifact.manifest, **changed), files)


def certify(
    artifact: Artifact,
    backend: str = "onnxruntime",
    lost: int = 0,
    n: int = 400,
    margin: float = 0.01,
    **changed: object,
) -> Certificate:
    """Write a certificate over n photos, of which some answers were lost."""
    photos, truth = tuple(f"{row:064x}" for row in range(n)), np.zeros(n, np.int64)
    logits = np.eye(4, dtype=np.float32)[truth], np.eye(4, dtype=np.float32)[(np.arange(n) < lost).astype(int)]
    base, subject = (Predictions.from_logits(photos, truth, each, "photos") for each in logits)
    evidence = Evidence.of(subject, base)
    fields = {
        "cpu_class": "avx2",
        "backend": backend,
        "engine_version": machine.versions((backend,)).get(backend, "0"),
        "execution_precision": "fp32",
        "place": "native",
        "emulator": "",
        "basis": "whole",
        "data": {"name": "tiny", "count": n},
        "margin": margin,
        "native_class": "",
        "reference": "ab" * 32,
        "tiffin": "0",
        "created": "2026-01-01T00:00:00+00:00",
        **figures(evidence, "whole", margin),
        **changed,
    }
    made = Certificate(**fields)  # type: ignore[arg-type]
    write_certificate(artifact, made, evidence)
    return made


PASS: dict[str, int] = {}
FAIL = {"lost": 100}
INCONCLUSIVE = {"n": 40}


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [found.getMessage() for found in caplog.records if found.name == "tiffin"]


def test_int8_that_is_not_certified_opens_with_one_line(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, photos: np.ndarray, tmp_path: Path
) -> None:
    artifact = quantized(onnx_artifact, tmp_path / "int8")
    with tiffin.load(artifact.folder) as session:
        assert session.run({"photos": photos[:2]})["logits"].shape == (2, 4)
    (line,) = logged(avx2)
    assert "CPU class avx2" in line and "on onnxruntime" in line and "not certified" in line and "\n" not in line
    assert line.endswith(f"certify it: `tiffin certify {artifact.folder}@onnxruntime`")


@pytest.mark.parametrize("backend", ["foo", "torch", "onnxruntime"])
def test_what_cannot_be_opened_is_one_error_without_a_word_of_certificates(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, tmp_path: Path, backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    artifact = quantized(onnx_artifact, tmp_path / "int8")
    monkeypatch.setattr(backends.backend("onnxruntime"), "installed", lambda module: False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(EngineMissing if backend == "onnxruntime" else BadInput):
        load(artifact, backend)
    assert logged(avx2) == []


def test_int8_that_is_certified_here_opens_silently(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, photos: np.ndarray, tmp_path: Path
) -> None:
    artifact = quantized(onnx_artifact, tmp_path / "int8")
    assert certify(artifact).verdict == "PASS"
    with load(artifact) as session:
        assert session.run({"photos": photos[:2]})["logits"].shape == (2, 4)
    assert logged(avx2) == []


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (INCONCLUSIVE, "without a verdict"),
        ({"engine_version": "0.0.1"}, "onnxruntime 0.0.1, here is"),
        ({"execution_precision": "bf16"}, "float layers in bf16, asked for fp32"),
        ({"cpu_class": "vnni"}, "not certified"),
        ({"cpu_class": "sse41"}, "not certified"),
        ({"backend": "openvino"}, "not certified"),
        ({**INCONCLUSIVE, "engine_version": "0.0.1"}, "onnxruntime 0.0.1, here is"),
    ],
)
def test_what_a_certificate_does_not_say_of_this_run_is_one_line(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, tmp_path: Path, made: dict[str, object], said: str
) -> None:
    artifact = quantized(onnx_artifact, tmp_path / "int8")
    certify(artifact, **made)  # type: ignore[arg-type]
    assert resolve(artifact)[0] is artifact
    (line,) = logged(avx2)
    assert said in line and "CPU class avx2" in line and "\n" not in line


def test_a_file_that_is_certified_with_vnni_only_is_refused_without_it(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, tmp_path: Path
) -> None:
    portable = quantized(onnx_artifact, tmp_path / "portable")
    full = save(tmp_path / "full", dataclasses.replace(portable.manifest, scheme="cpu-vnni", temperature=2.0),
                {"model.onnx": portable.model_path})  # fmt: skip
    with pytest.raises(NotCertified, match="not certified, and its scheme cpu-vnni needs VNNI"):
        resolve(full)
    assert resolve(full, RunConfig("onnxruntime", graph_level="none"))[0] is full  # computed in float
    certify(full, cpu_class="vnni")
    certify(portable)
    with pytest.raises(NotCertified, match="certified on vnni with onnxruntime alone, .* needs VNNI") as caught:
        resolve(full)
    assert caught.value.fix.startswith(f"load {portable.folder} on onnxruntime")
    assert resolve(full, allow_uncertified=True)[0] is full
    assert resolve(portable)[0] is portable


def test_a_certificate_at_a_wider_margin_than_the_usual_says_so(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, tmp_path: Path
) -> None:
    artifact = quantized(onnx_artifact, tmp_path / "int8")
    certify(artifact, margin=0.3)
    resolve(artifact)
    (line,) = logged(avx2)
    assert line.endswith("certified to lose at most 30 points")
    path = pack(tmp_path / "m.tiffin", [Variant(artifact, RunConfig("onnxruntime"))], {})
    resolve(path)
    assert logged(avx2)[1].endswith("certified to lose at most 30 points")


def test_a_cpu_of_no_class_has_no_certificate(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = quantized(onnx_artifact, tmp_path / "int8")
    certify(artifact)
    monkeypatch.setattr(machine, "cpu_flags", frozenset)
    resolve(artifact)
    (line,) = logged(avx2)
    assert "CPU class unknown: not certified" in line


def test_the_class_is_the_one_that_the_engine_is_limited_to(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = quantized(onnx_artifact, tmp_path / "int8")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "SSE41")
    certify(artifact, "openvino", cpu_class="sse41")
    certify(artifact, "onnxruntime", cpu_class="sse41")
    resolve(artifact, "openvino")
    assert logged(avx2) == []
    resolve(artifact, "onnxruntime")  # obeys no switch
    assert len(logged(avx2)) == 1


def test_int8_that_answers_worse_here_is_refused(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, tmp_path: Path
) -> None:
    artifact = quantized(onnx_artifact, tmp_path / "int8")
    assert certify(artifact, **FAIL).verdict == "FAIL"
    with pytest.raises(NotCertified, match="CPU class avx2: certified to answer worse") as caught:
        load(artifact)
    assert "allow_uncertified=True" in caught.value.fix and "tiffin quantize" in caught.value.fix
    assert logged(avx2) == []
    resolve(artifact, "openvino")  # of which it says nothing
    assert len(logged(avx2)) == 1


def test_int8_that_answers_worse_opens_where_it_is_allowed(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, photos: np.ndarray, tmp_path: Path
) -> None:
    artifact = quantized(onnx_artifact, tmp_path / "int8")
    certify(artifact, **FAIL)
    with load(artifact, allow_uncertified=True) as session:
        assert session.run({"photos": photos[:1]})["logits"].shape == (1, 4)
    (line,) = logged(avx2)
    assert "answer worse" in line


def test_a_refusal_names_the_variants_beside_that_pass(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, tmp_path: Path
) -> None:
    artifact = quantized(onnx_artifact, tmp_path / "full")
    certify(artifact, **FAIL)
    others = {
        name: quantized(onnx_artifact, tmp_path / name, temperature=float(number), **changed)
        for number, (name, changed) in enumerate(
            {
                "cpu": {},
                "worse": {},
                "unsure": {},
                "elsewhere": {},
                "nothing": {},
                "stranger": {"checkpoint": "c1"},
            }.items(),
            start=2,
        )
    }
    certify(others["cpu"], "openvino")
    certify(others["worse"], **FAIL)
    certify(others["unsure"], **INCONCLUSIVE)
    certify(others["elsewhere"], cpu_class="vnni")
    certify(others["stranger"])
    with pytest.raises(NotCertified) as caught:
        load(artifact)
    assert caught.value.fix == f"load {others['cpu'].folder} on openvino, certified here"


@pytest.mark.parametrize("broken", [False, True])
def test_a_refusal_names_a_variant_once_whatever_else_lies_beside(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, tmp_path: Path, broken: bool
) -> None:
    artifact = quantized(onnx_artifact, tmp_path / "full")
    certify(artifact, **FAIL)
    good = quantized(onnx_artifact, tmp_path / "good", temperature=2.0)
    certify(good)
    if broken:
        other = quantized(onnx_artifact, tmp_path / "other", temperature=3.0)
        certify(other)
        (other.folder / "claims/certificate-avx2-onnxruntime.npz").write_bytes(b"words")
    else:
        certify(good, cpu_class="vnni")
    with pytest.raises(NotCertified) as caught:
        load(artifact)
    assert caught.value.fix == f"load {good.folder} on onnxruntime, certified here"


@pytest.mark.parametrize("allowed", [False, True])
def test_a_certificate_edited_by_hand_is_found_out(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, tmp_path: Path, allowed: bool
) -> None:
    artifact = quantized(onnx_artifact, tmp_path / "int8")
    certify(artifact, **FAIL)
    path = artifact.folder / "claims/certificate-avx2-onnxruntime.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "verdict": "PASS"}))
    with pytest.raises(BadArtifact, match="verdict"):
        load(artifact, allow_uncertified=allowed)


def test_float32_and_other_devices_need_no_certificate(
    avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact, tmp_path: Path
) -> None:
    fp32, int8 = (quantized(onnx_artifact, tmp_path / name, precision=name) for name in ("fp32", "int8"))
    for artifact in (fp32, int8):
        certify(artifact, **FAIL)
    load(fp32).close()
    resolve(int8, RunConfig("onnxruntime", device="gpu"))
    resolve(int8, device="gpu:1")
    assert logged(avx2) == []


def test_float32_computed_in_less_needs_a_certificate(avx2: pytest.LogCaptureFixture, onnx_artifact: Artifact) -> None:
    resolve(onnx_artifact, "openvino", execution_precision="bf16")
    (line,) = logged(avx2)
    assert "on openvino" in line and "not certified" in line


def test_resolve_replaces_what_is_named(onnx_artifact: Artifact) -> None:
    own = RunConfig("onnxruntime", threads=3, hint="throughput")
    found, run = resolve(onnx_artifact.folder, own, threads=1, lanes=None)
    assert (found.digest, run) == (onnx_artifact.digest, dataclasses.replace(own, threads=1))


# Boxes


@pytest.fixture
def boxed(avx2: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Packs variants, each an artifact and a backend word, as they stand now."""
    monkeypatch.setenv("TIFFIN_CACHE", str(tmp_path / "cache"))

    def packing(*variants: tuple[Artifact, str]) -> Path:
        held = [Variant(artifact, RunConfig(backend)) for artifact, backend in variants]
        return pack(tmp_path / "m.tiffin", held, {"order": "as given"})

    return packing


@pytest.fixture
def variants(onnx_artifact: Artifact, tmp_path: Path) -> dict[str, Artifact]:
    """Two int8 artifacts and an fp32 one."""
    said = {"fast": {}, "slow": {"temperature": 2.0}, "fp32": {"precision": "fp32"}}
    return {name: quantized(onnx_artifact, tmp_path / name, **changed) for name, changed in said.items()}


@pytest.mark.parametrize("faster", [None, FAIL, INCONCLUSIVE, {"engine_version": "0.0.1"}, {"cpu_class": "vnni"}])
def test_the_first_that_is_certified_is_taken_from_a_box(
    avx2: pytest.LogCaptureFixture, boxed, variants, photos: np.ndarray, faster: dict[str, object] | None
) -> None:
    if faster is not None:
        certify(variants["fast"], **faster)
    certify(variants["slow"], "openvino")
    path = boxed((variants["fast"], "onnxruntime"), (variants["slow"], "openvino"), (variants["fp32"], "onnxruntime"))
    with tiffin.load(path) as session:
        assert session.artifact.digest == variants["slow"].digest and session.applied.run.backend == "openvino"
        assert session.run({"photos": photos[:2]})["logits"].shape == (2, 4)
    (line,) = logged(avx2)
    assert line.startswith(f"{path}: slow@openvino is taken; faster ones are not: fast@onnxruntime: ")


def test_of_two_that_are_certified_the_first_is_taken(avx2: pytest.LogCaptureFixture, boxed, variants) -> None:
    for name in ("fast", "slow"):
        certify(variants[name])
    path = boxed((variants["fast"], "onnxruntime"), (variants["slow"], "onnxruntime"))
    assert resolve(str(path))[0].digest == variants["fast"].digest
    assert logged(avx2) == []


def test_one_artifact_is_taken_on_the_engine_that_it_is_certified_on(boxed, variants) -> None:
    certify(variants["fast"], "onnxruntime", **FAIL)
    certify(variants["fast"], "openvino")
    found, run = resolve(boxed((variants["fast"], "onnxruntime"), (variants["fast"], "openvino")))
    assert (found.digest, run) == (variants["fast"].digest, RunConfig("openvino"))


def test_the_float32_at_the_end_is_taken_where_no_int8_is_certified(
    avx2: pytest.LogCaptureFixture, boxed, variants
) -> None:
    certify(variants["slow"], **FAIL)
    names = ("fast", "slow", "fp32")
    found, run = resolve(boxed(*((variants[name], "onnxruntime") for name in names)))
    assert (found.digest, run) == (variants["fp32"].digest, RunConfig("onnxruntime"))
    (line,) = logged(avx2)
    assert "fp32@onnxruntime is taken" in line
    assert "fast@onnxruntime: not certified; slow@onnxruntime: certified to answer worse" in line


def test_a_box_of_nothing_certified_is_refused_with_the_reasons(
    avx2: pytest.LogCaptureFixture, boxed, variants
) -> None:
    certify(variants["slow"], **FAIL)
    path = boxed((variants["fast"], "openvino"), (variants["slow"], "onnxruntime"))
    with pytest.raises(NotCertified, match=r"m\.tiffin: nothing in it is certified for this class of CPU") as caught:
        load(path)
    assert "fast@openvino: not certified" in caught.value.what
    assert "slow@onnxruntime: certified to answer worse" in caught.value.what
    assert "allow_uncertified" in caught.value.fix
    found, run = resolve(path, allow_uncertified=True)
    assert (found.digest, run.backend) == (variants["fast"].digest, "openvino")
    (line,) = logged(avx2)
    assert "fast on openvino" in line


def test_allowed_or_not_the_certified_one_is_taken(boxed, variants) -> None:
    certify(variants["slow"])
    path = boxed((variants["fast"], "onnxruntime"), (variants["slow"], "onnxruntime"))
    assert resolve(path, allow_uncertified=True)[0].digest == variants["slow"].digest


def test_a_variant_whose_engine_is_missing_is_passed_over(boxed, variants, monkeypatch: pytest.MonkeyPatch) -> None:
    certify(variants["fast"], "openvino")
    certify(variants["slow"])
    path = boxed((variants["fast"], "openvino"), (variants["slow"], "onnxruntime"))
    assert resolve(path)[1].backend == "openvino"
    monkeypatch.setattr(certified.backends, "installed", lambda module: module != "openvino")
    assert resolve(path)[0].digest == variants["slow"].digest
    monkeypatch.setattr(certified.backends, "installed", lambda module: False)
    with pytest.raises(EngineMissing, match="no engine") as caught:
        resolve(path, allow_uncertified=True)
    assert caught.value.expected == "onnxruntime or openvino" and "tiffin backends" in caught.value.fix


@pytest.mark.parametrize("backend", ["tensorrt", "of_a_plugin"])
def test_a_variant_for_an_engine_of_another_machine_is_passed_over(
    boxed, variants, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(certified.backends, "installed", lambda module: module == "onnxruntime")
    run = RunConfig(backend, device="gpu" if backend == "tensorrt" else "cpu")
    path = boxed((variants["fast"], "onnxruntime"), (variants["fp32"], "onnxruntime"))
    held = [Variant(variants["fast"], run), Variant(variants["fp32"], RunConfig("onnxruntime"))]
    assert resolve(pack(path, held, {}))[0].digest == variants["fp32"].digest


def test_a_plug_in_that_cannot_be_imported_is_told_and_passed_over(
    boxed, variants, onnx_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = metadata.EntryPoint("broken", "no_such_module_anywhere", "tiffin.backends")
    monkeypatch.setattr(backends, "_entry_points", lambda: (broken,))
    assert "ModuleNotFoundError: No module named 'no_such_module_anywhere'" in backends.probe("broken").reason
    with pytest.raises(EngineMissing, match="'broken', another package's, cannot be imported"):
        load(onnx_artifact, "broken")
    path = boxed((variants["fast"], "broken"), (variants["fp32"], "onnxruntime"))
    assert resolve(path)[0].digest == variants["fp32"].digest


def test_a_backend_word_restricts_a_box(boxed, variants) -> None:
    for name, backend in (("fast", "openvino"), ("slow", "onnxruntime")):
        certify(variants[name], backend)
    path = boxed((variants["fast"], "openvino"), (variants["slow"], "onnxruntime"))
    assert resolve(path)[1].backend == "openvino"
    found, run = resolve(path, "onnxruntime", threads=1)
    assert (found.digest, run) == (variants["slow"].digest, RunConfig("onnxruntime", threads=1))
    asked = RunConfig("onnxruntime", threads=2, hint="throughput")
    assert resolve(path, asked)[1] == asked
    for asked in ("torch", RunConfig("torch")):
        with pytest.raises(BadInput, match="no variant in it is for backend torch") as caught:
            resolve(path, asked)
        assert caught.value.expected == "onnxruntime or openvino"
    with pytest.raises(BadInput, match="unknown backend 'onnxrt'"):
        resolve(path, "onnxrt")


def test_a_box_run_in_another_precision_is_not_what_was_certified(boxed, variants) -> None:
    certify(variants["fast"], "openvino")
    path = boxed((variants["fast"], "openvino"), (variants["fp32"], "openvino"))
    assert resolve(path)[0].digest == variants["fast"].digest
    with pytest.raises(NotCertified, match="float layers in fp32, asked for bf16"):
        resolve(path, execution_precision="bf16")


def test_a_certificate_in_a_box_that_was_edited_is_found_out(boxed, variants) -> None:
    certify(variants["fast"], **FAIL)
    path = variants["fast"].folder / "claims/certificate-avx2-onnxruntime.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "verdict": "PASS"}))
    with pytest.raises(BadArtifact, match="verdict"):
        load(boxed((variants["fast"], "onnxruntime")), allow_uncertified=True)


# TensorRT on a simulated GPU: the backend's own code, without one


@pytest.fixture(params=[False, True], ids=["tensorrt", "tensorrt_rtx"])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A GPU and a library; afterwards nothing is left on the device."""
    found = simulated_cuda.install(monkeypatch, rtx=request.param, gpus=2)
    yield found
    assert nothing_left(found)


def nothing_left(world: World) -> bool:
    """Most goes when its last reference does; a collection takes a second here."""
    if world.cuda.left():
        gc.collect()
    return not world.cuda.left()


@pytest.fixture
def compiled(world: World, tmp_path: Path, onnx_artifact: Artifact) -> Artifact:
    """An engine for batches 1 to 16 and 17 to 64."""
    return world.engine(tmp_path / "engine", onnx_artifact, profiles=((1, 1, 16), (17, 32, 64)))


def on_gpu(world: World, **run: object) -> RunConfig:
    return RunConfig(world.backend, **{"device": "gpu", **run})


def logits(session: Session, photos: object) -> np.ndarray:
    return session.run({"photos": photos})["logits"]


class OnDevice:
    """An array of another library: `interface` says what it tells, `dlpack` makes it tell DLPack instead."""

    def __init__(
        self, world: World, array: np.ndarray, dlpack: bool = False, gpu: int = 0, **interface: object
    ) -> None:
        self.address = world.cuda.device_array(array, gpu)
        self._world, self._array, self._gpu = world, array, gpu
        self.streams: list[int] = []
        if not dlpack:
            data = {"shape": array.shape, "typestr": array.dtype.str, "data": (self.address, False), "version": 3}
            self.__cuda_array_interface__ = {**data, **interface}

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self._gpu

    def __dlpack__(self, stream: int) -> object:
        self.streams.append(stream)
        shape = (ctypes.c_int64 * self._array.ndim)(*self._array.shape)
        self._held = device_array._Tensor(self.address, 2, self._gpu, self._array.ndim, 1, 8, 1, shape, None, 0)
        make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return make(("PyCapsule_New", ctypes.pythonapi))(ctypes.addressof(self._held), b"dltensor", None)

    def free(self) -> None:
        self._world.cuda.cudaFree(self.address)


def test_every_cuda_function_is_one_of_the_bindings() -> None:
    runtime = pytest.importorskip("cuda.bindings.runtime", reason="cuda-bindings is not installed")
    for name, count in simulated_cuda.cuda_functions().items():
        assert len(inspect.signature(getattr(runtime, name)).parameters) == count, name
    for kind in (simulated_cuda.cudaMemcpyKind, simulated_cuda.cudaStreamCaptureMode):
        real = getattr(runtime, kind.__name__)
        assert {name: int(getattr(real, name)) for name in kind.__members__} == dict(kind.__members__)
    assert all(int(getattr(runtime.cudaError_t, status.name)) == status for status in Status)
    assert (runtime.cudaStreamNonBlocking, runtime.cudaEventDefault) == (1, 0)


def test_every_member_of_tensorrt_is_one_of_the_bindings() -> None:
    rtx = pytest.importorskip("tensorrt_rtx_bindings", reason="tensorrt_rtx_bindings is not installed")
    for owner, name in simulated_cuda.trt_members():
        found = getattr(rtx, owner) if owner else rtx
        assert not name or hasattr(found, name), (owner, name)
    for kind in (simulated_cuda.EngineInvalidityDiagnostics, EngineValidity):
        assert {word: int(getattr(getattr(rtx, kind.__name__), word)) for word in kind.__members__} == dict(
            kind.__members__
        )


def test_an_engine_answers_as_its_source_at_every_batch(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    with load(compiled, on_gpu(world)) as session:
        for count in (1, 3, 16, 1, 64, 3, 1, 17, 64, 3, 64, 1):
            assert_close(logits(session, photos[:count]), truth[:count])
        assert_close(logits(session, photos[30::-2]), truth[30::-2])


def test_graphs_are_recorded_at_the_second_call_and_replayed(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    with load(compiled, on_gpu(world)) as session:
        assert session.applied.details["cuda_graph"] == "on: recorded at the second call of each shape"
        for n in range(6):
            assert_close(logits(session, photos[n : n + 2]), truth[n : n + 2])
        assert world.cuda.calls["cudaGraphLaunch"] == 4
        assert world.trt.executed == 3  # two runs and the recording
        assert session.applied.details["cuda_graph"] == "on: 1 recorded"
        world.cuda.calls.clear()
        assert_close(logits(session, photos[:2]), truth[:2])
        assert sum(world.cuda.calls.values()) == 4  # get and set the device, launch, wait


def test_graphs_are_bounded_and_a_dropped_one_is_recorded_again(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    with load(compiled, on_gpu(world)) as session:
        for _ in range(2):
            for count in range(16, 0, -1):
                for _ in range(3):
                    assert_close(logits(session, photos[:count]), truth[:count])
                assert len(world.cuda.executables) <= 8
        assert session.applied.details["cuda_graph"] == "on: 8 recorded"


def test_larger_batches_move_the_buffers_and_record_anew(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    with load(compiled, on_gpu(world)) as session:
        for count in (1, 1, 1, 5, 1, 1, 1, 16, 5, 1):
            assert_close(logits(session, photos[:count]), truth[:count])


def test_the_profile_of_the_nearest_optimum_is_taken(
    world: World, tmp_path: Path, onnx_artifact: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    made = world.engine(tmp_path / "engine", onnx_artifact, profiles=((1, 1, 8), (1, 8, 32), (1, 32, 64)))
    with load(made, on_gpu(world)) as session:
        for count, profile in ((1, None), (4, None), (6, 1), (24, 2), (64, 2), (6, None), (24, None)):
            world.trt.profiles_set.clear()
            assert_close(logits(session, photos[:count]), truth[:count])
            assert world.trt.profiles_set == ([profile] if profile else [])


def test_a_batch_outside_all_profiles_is_refused_before_the_gpu(
    world: World, tmp_path: Path, onnx_artifact: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    """By the lane; a session splits and pads it."""
    made = world.engine(tmp_path / "engine", onnx_artifact, profiles=((2, 4, 8), (16, 16, 32)))
    lane = backends.backend(world.backend).open(made, on_gpu(world))
    world.cuda.calls.clear()
    for count in (1, 12, 64):
        with pytest.raises(BadInput, match=f"batch of {count};.* 2 to 8, 16 to 32") as caught:
            lane.run({"photos": photos[:count]})
        assert f"--backend {world.backend} --batch" in caught.value.fix
    assert not world.cuda.calls
    lane.close()
    with load(made, on_gpu(world)) as session:
        for count in (1, 8, 9, 12, 33, 64):
            assert_close(logits(session, photos[:count]), truth[:count])


@pytest.mark.parametrize("lanes", [1, 2, 3])
def test_lanes_answer_from_threads_and_share_one_engine(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray, lanes: int
) -> None:
    with load(compiled, on_gpu(world, lanes=lanes)) as one, load(compiled, on_gpu(world)) as other:
        futures = [one.submit({"photos": photos[n : n + 3]}) for n in range(0, 60, 3)]
        assert_close(logits(other, photos[:5]), truth[:5])
        found = np.concatenate([future.result()["logits"] for future in futures])
        assert world.trt.deserialized == 1
    assert_close(found, truth[:60])
    with load(compiled, on_gpu(world)) as again:
        assert_close(logits(again, photos[:5]), truth[:5])
    with load(compiled, on_gpu(world, device="gpu:1")) as elsewhere:
        assert_close(logits(elsewhere, photos[:5]), truth[:5])


def test_two_threads_may_call_one_session(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    with load(compiled, on_gpu(world)) as session, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda n: logits(session, photos[n : n + 1]), range(64)))
    assert_close(np.concatenate(found), truth)


def test_a_thread_keeps_its_own_device(world: World, compiled: Artifact, photos: np.ndarray) -> None:
    world.cuda.cudaSetDevice(0)
    with load(compiled, on_gpu(world, device="gpu:1")) as session:
        logits(session, photos[:1])
        assert world.cuda.cudaGetDevice()[1] == 0
    assert world.cuda.cudaGetDevice()[1] == 0


def test_no_context_is_made_on_a_gpu_that_nobody_uses(world: World, compiled: Artifact, photos: np.ndarray) -> None:
    with load(compiled, on_gpu(world, device="gpu:1")) as session:
        logits(session, photos[:1])
    assert world.cuda.contexts == {1}


def test_the_driver_is_asked_for_a_context(monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        def cuInit(self, flags: int) -> int:
            return 0

        def cuDeviceGetCount(self, count: object) -> int:
            count._obj.value = 2  # type: ignore[attr-defined]
            return 0

        def cuDeviceGet(self, device: object, index: int) -> int:
            device._obj.value = index  # type: ignore[attr-defined]
            return 0

        def cuDevicePrimaryCtxGetState(self, device: ctypes.c_int, flags: object, active: object) -> int:
            active._obj.value = device.value  # type: ignore[attr-defined]
            return 0

    monkeypatch.setattr(_cuda.ctypes, "CDLL", lambda name: Driver())
    assert _cuda.has_context(1) and not _cuda.has_context(0)


def test_answers_are_copies_and_out_is_honoured(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    with load(compiled, on_gpu(world)) as session:
        found = [logits(session, photos[n : n + 2]) for n in range(0, 8, 2)]
        out = {"logits": np.empty((2, 4), np.float32)}
        assert session.run({"photos": photos[8:10]}, out) is out
        with pytest.raises(BadInput, match="out"):
            session.run({"photos": photos[:3]}, out)
    assert_close(np.concatenate([*found, out["logits"]]), truth[:10])


def test_where_no_graph_can_be_had_the_lane_runs_and_says_so(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    world.cuda.failures["cudaStreamEndCapture", 1] = Status.cudaErrorStreamCaptureInvalidated
    with load(compiled, on_gpu(world)) as session:
        for count in (2, 2, 2, 3, 3, 3):
            assert_close(logits(session, photos[:count]), truth[:count])
        told = session.applied.details["cuda_graph"]
        assert told == "off: cannot be recorded: CUDA error 901 (cudaErrorStreamCaptureInvalidated)"
        assert session.device_ns({"photos": photos[:2]}) > 0
    assert world.cuda.calls["cudaGraphLaunch"] == 0


def test_rtx_says_which_engines_cannot_be_recorded(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    world.trt.capturable = False
    with load(compiled, on_gpu(world)) as session:
        for _ in range(3):
            assert_close(logits(session, photos[:2]), truth[:2])
        assert session.applied.details["cuda_graph"].startswith("off" if world.backend == "tensorrt_rtx" else "on")


def test_sizes_on_the_device_are_told(world: World, compiled: Artifact, photos: np.ndarray) -> None:
    with load(compiled, on_gpu(world, lanes=2)) as session:
        logits(session, photos[:2])
        told = session.applied.details
        assert int(told["device_bytes_engine"]) == compiled.folder.joinpath("source.onnx").stat().st_size
        assert int(told["device_bytes_lane"]) == 4096 + 2 * (32 * 32 * 3 + 4 * 4)
        assert told["device_bytes_scratch"] == "4096" and told["gpu"] == simulated_cuda.GPU_NAME
    assert session.applied.details == told


def test_kernels_are_timed_on_the_device(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray, onnx_artifact: Artifact
) -> None:
    with load(compiled, on_gpu(world)) as session:
        assert all(session.device_ns({"photos": photos[:2]}) > 0 for _ in range(3))
        assert_close(logits(session, photos[:2]), truth[:2])
    with load(onnx_artifact, "onnxruntime") as session:
        assert session.device_ns({"photos": photos[:2]}) is None


@pytest.mark.parametrize("graphs", [True, False])
def test_the_gpu_is_busy_while_the_timed_kernels_are_launched(
    world: World, compiled: Artifact, photos: np.ndarray, monkeypatch: pytest.MonkeyPatch, graphs: bool
) -> None:
    if not graphs:
        world.cuda.failures["cudaStreamEndCapture", 1] = Status.cudaErrorStreamCaptureInvalidated
    done: list[str] = []
    with load(compiled, on_gpu(world)) as session:
        session.device_ns({"photos": photos[:2]})
        kernels = (world.cuda, "cudaGraphLaunch") if graphs else (world.trt.IExecutionContext, "execute_async_v3")
        for owner, name in ((world.cuda, "cudaEventRecord"), kernels):
            call = getattr(owner, name)
            monkeypatch.setattr(owner, name, lambda *given, call=call, name=name: done.append(name) or call(*given))
        session.device_ns({"photos": photos[:2]})
    assert done == [kernels[1], "cudaEventRecord"] * 2


# Arrays on the device


@pytest.mark.parametrize("dlpack", [False, True], ids=["interface", "dlpack"])
def test_an_array_on_the_gpu_is_read_where_it_lies(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray, dlpack: bool
) -> None:
    held = [OnDevice(world, photos[n : n + 3], dlpack) for n in range(0, 12, 3)]
    with load(compiled, on_gpu(world)) as session:
        logits(session, photos[:3])
        world.cuda.calls.clear()
        for _ in range(3):
            for n, array in enumerate(held):
                assert_close(logits(session, array), truth[3 * n : 3 * n + 3])
        assert world.cuda.calls["cudaMemcpyAsync"] == 4 * 3  # two runs and the recording: logits, and nothing else
        assert_close(logits(session, photos[:3]), truth[:3])
        assert_close(session.submit({"photos": held[1]}).result()["logits"], truth[3:6])
        assert session.device_ns({"photos": held[0]}) > 0
        if dlpack:  # asked without waiting for its shape, then in the stream of the lane
            assert set(held[0].streams) == {-1, *world.cuda.streams}
    for array in held:
        array.free()


def test_arrays_at_ever_new_addresses_drive_out_no_graph_of_host_arrays(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    with load(compiled, on_gpu(world)) as session:
        for _ in range(3):
            logits(session, photos[:2])
        for n in range(20):
            array = OnDevice(world, photos[n : n + 2])
            assert_close(logits(session, array), truth[n : n + 2])
            array.free()
        assert session.applied.details["cuda_graph"] == "on: 1 recorded"


def test_an_array_that_is_not_aligned_is_copied_on_the_device(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    array = OnDevice(world, photos[:3])
    told = dict(array.__cuda_array_interface__, shape=(2, 32, 32, 3), data=(array.address + 32 * 32 * 3, False))
    array.__cuda_array_interface__ = told
    shifted = world.cuda.device_array(np.concatenate([np.zeros(8, np.uint8), photos[:2].ravel()]))
    with load(compiled, on_gpu(world)) as session:
        for _ in range(3):
            assert_close(logits(session, array), truth[1:3])
        array.__cuda_array_interface__ = dict(told, data=(shifted + 8, False))
        for _ in range(4):
            assert_close(logits(session, array), truth[:2])
    array.free()
    world.cuda.cudaFree(shifted)


def test_what_the_producer_still_writes_is_waited_for(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    world.cuda.cudaSetDevice(0)
    stream = world.cuda.cudaStreamCreateWithFlags(1)[1]
    array = OnDevice(world, np.zeros_like(photos[:2]), stream=stream)
    memory = world.cuda.array_at(array.address, photos.dtype, (2, 32, 32, 3))
    with load(compiled, on_gpu(world)) as session:
        for n in range(4):
            world.cuda.enqueue(stream, lambda n=n: memory.__setitem__(..., photos[n : n + 2]))
            assert_close(logits(session, array), truth[n : n + 2])
    array.free()
    world.cuda.cudaStreamDestroy(stream)


@pytest.mark.parametrize("wrong", ["dtype", "shape", "strides", "mask", "gpu", "host", "nowhere"])
def test_an_array_on_the_gpu_that_does_not_fit_is_refused(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray, wrong: str
) -> None:
    host = world.cuda.cudaMallocHost(4096)[1]
    interface = {
        "dtype": {"typestr": "<f4"},
        "shape": {"shape": (2, 32, 31, 3)},
        "strides": {"strides": (3072, 3, 96, 1)},
        "mask": {"mask": object()},
        "gpu": {},
        "host": {"data": (host, False), "shape": (1, 32, 32, 3)},
        "nowhere": {"data": (4096, False)},
    }[wrong]
    array = OnDevice(world, photos[:2], gpu=int(wrong == "gpu"), **interface)
    said = {"dtype": "on a GPU", "shape": "on a GPU", "strides": "C-contiguous", "mask": "masked", "gpu": "on GPU 1",
            "host": "in host memory", "nowhere": "in host memory"}  # fmt: skip
    with load(compiled, on_gpu(world)) as session:
        with pytest.raises(BadInput, match=said[wrong]):
            logits(session, array)
        assert_close(logits(session, photos[:2]), truth[:2])
    array.free()
    world.cuda.cudaFreeHost(host)


def test_other_backends_refuse_arrays_on_the_gpu(world: World, onnx_artifact: Artifact, photos: np.ndarray) -> None:
    array = OnDevice(world, photos[:2])
    with load(onnx_artifact, "onnxruntime") as session:
        for entry in (session.run, session.submit):
            with pytest.raises(BadInput, match=r"fed photos uint8\(2, 32, 32, 3\) on a GPU") as caught:
                entry({"photos": array})
            assert caught.value.expected == "photos uint8(N, 32, 32, 3)"
    array.free()


# What goes wrong


STALE = {
    "version": ({"engine_version": "0.0.1"}, "0.0.1, here is"),
    "capability": ({"compute_capabilities": ("7.5", "8.6")}, "compute capability 7.5, 8.6, here is 8.9"),
    "library": ({"library": "other"}, "built for other"),
}


@pytest.mark.parametrize("stale", STALE)
def test_an_engine_for_another_place_is_refused_unread(
    world: World, tmp_path: Path, onnx_artifact: Artifact, stale: str
) -> None:
    stamp, said = STALE[stale]
    made = world.engine(tmp_path / "engine", onnx_artifact, **stamp)
    with pytest.raises(BadArtifact, match=said) as caught:
        load(made, on_gpu(world))
    assert caught.value.fix == f"compile it here: `tiffin compile {made.folder} --rebuild-for-this-device`"
    assert world.trt.deserialized == 0


@pytest.mark.parametrize(("seen", "first"), [("", "1"), ("3,5", "5"), ("GPU-aa,GPU-bb", "GPU-bb")])
def test_another_gpu_is_compiled_for_where_it_is_the_only_one_seen(
    world: World, tmp_path: Path, onnx_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, seen: str, first: str
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    made = world.engine(tmp_path / "engine", onnx_artifact, compute_capabilities=("7.5",))
    with pytest.raises(BadArtifact) as caught:
        load(made, on_gpu(world, device="gpu:1"))
    assert caught.value.fix.startswith(f"compile it here: `CUDA_VISIBLE_DEVICES={first} tiffin compile ")


def test_an_engine_without_a_stamp_is_refused_unread(world: World, compiled: Artifact) -> None:
    bare = Artifact(compiled.folder, dataclasses.replace(compiled.manifest, built_for={}))
    with pytest.raises(BadArtifact, match="does not say"):
        load(bare, on_gpu(world))
    assert world.trt.deserialized == 0


def test_rtx_is_asked_before_it_reads(world: World, compiled: Artifact) -> None:
    world.trt.validity = EngineValidity.INVALID, 4 | 32
    if world.backend == "tensorrt":
        load(compiled, on_gpu(world)).close()
        return
    with pytest.raises(BadArtifact, match="driver is too old for it; it is no engine, or a damaged one"):
        load(compiled, on_gpu(world))
    assert world.trt.deserialized == 0


def test_what_tensorrt_says_is_in_the_error(world: World, compiled: Artifact, photos: np.ndarray) -> None:
    world.trt.refuses_engines = True
    with pytest.raises(EngineFailed, match="cannot read .*magicTag does not match"):
        load(compiled, on_gpu(world))
    world.trt.refuses_engines = False
    with load(compiled, on_gpu(world)) as session:
        world.trt.fails_to_run = True
        with pytest.raises(EngineFailed, match="failed to run the engine: .*Cask"):
            logits(session, photos[:1])
        world.trt.fails_to_run = False
        world.trt.refuses_profiles = True
        with pytest.raises(EngineFailed, match="does not take optimization profile 1: .*Profile is in use"):
            logits(session, photos[:20])
        world.trt.output_shape = (-1, 4)
        with pytest.raises(EngineFailed, match="depends on the data"):
            logits(session, photos[:2])


def test_a_stripped_engine_gets_its_weights_back(
    world: World, tmp_path: Path, onnx_artifact: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    made = world.engine(tmp_path / "engine", onnx_artifact, stripped=True)
    with load(made, on_gpu(world)) as session:
        assert_close(logits(session, photos[:2]), truth[:2])
    (made.folder / "source.onnx").write_bytes(b"")
    with pytest.raises(EngineFailed, match=r"source.onnx: 2 weights are missing \(conv1.weight, conv2.weight\)"):
        load(made, on_gpu(world))


def test_the_stamp_sets_up_the_runtime(world: World, tmp_path: Path, onnx_artifact: Artifact) -> None:
    made = world.engine(tmp_path / "engine", onnx_artifact, version_compatible=True, dla_core=1)
    load(made, on_gpu(world)).close()
    assert world.trt.runtimes == [(True, 1)]
    with pytest.raises(BadArtifact, match="DLA core 2; this machine has 2"):
        load(world.engine(tmp_path / "third", onnx_artifact, dla_core=2), on_gpu(world))
    load(world.engine(tmp_path / "known", onnx_artifact, plugins=("::Known::1",)), on_gpu(world)).close()
    with pytest.raises(EngineMissing, match="plugin us::Unknown::2"):
        load(world.engine(tmp_path / "unknown", onnx_artifact, plugins=("us::Unknown::2",)), on_gpu(world))


def test_compiled_kernels_are_kept_between_processes(
    world: World, compiled: Artifact, tmp_path: Path, photos: np.ndarray, truth: np.ndarray
) -> None:
    cache = tmp_path / "cache"
    for _ in range(2):
        with load(compiled, on_gpu(world, cache=str(cache))) as session:
            assert_close(logits(session, photos[:2]), truth[:2])
    assert world.trt.compiled == (1 if world.backend == "tensorrt_rtx" else 0)
    for kept in cache.glob("*"):
        kept.write_bytes(b"of another driver")
    with load(compiled, on_gpu(world, cache=str(cache))) as session:
        assert_close(logits(session, photos[:2]), truth[:2])


def test_an_old_driver_and_a_missing_gpu_are_named(world: World, compiled: Artifact) -> None:
    with pytest.raises(EngineMissing, match="no GPU 2 here") as caught:
        load(compiled, on_gpu(world, device="gpu:2"))
    assert caught.value.expected == "gpu:0 to gpu:1"
    with pytest.raises(BadInput, match="'gpu:x'"):
        load(compiled, on_gpu(world, device="gpu:x"))
    world.cuda.driver_too_old = True
    with pytest.raises(EngineMissing, match="too old: it serves CUDA 12.6") as caught:
        load(compiled, on_gpu(world))
    assert caught.value.expected == "a driver that serves CUDA 13.0" and "cuda-bindings==12.*" in caught.value.fix
    world.cuda.runtime_version = 12090  # of cuda-bindings 12.9, on JetPack 6
    with pytest.raises(EngineMissing, match="too old: it serves CUDA 12.6") as caught:
        load(compiled, on_gpu(world))
    assert "cuda-compat-12-9" in caught.value.fix and "pip install" not in caught.value.fix


def test_no_memory_names_what_was_asked_and_what_is_free(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, onnx_artifact: Artifact, photos: np.ndarray, truth: np.ndarray
) -> None:
    world = simulated_cuda.install(monkeypatch, capacity=40_000 + onnx_artifact.size_bytes)
    made = world.engine(tmp_path / "engine", onnx_artifact)
    with load(made, on_gpu(world)) as session:
        assert_close(logits(session, photos[:2]), truth[:2])
        with pytest.raises(EngineFailed, match="GPU 0 is out of memory: 0.05 MB of device memory asked, 0.0") as caught:
            logits(session, photos[:16])
        assert "smaller batch" in caught.value.fix
        del caught  # and with it the frames that hold a context
        assert_close(logits(session, photos[:2]), truth[:2])
    assert nothing_left(world)


ALLOCATIONS = ["cudaMalloc", "cudaMallocHost", "cudaStreamCreateWithFlags", "cudaEventCreateWithFlags"]


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
@pytest.mark.parametrize("name", ALLOCATIONS)
def test_whatever_allocation_fails_nothing_is_left(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray, name: str, nth: int
) -> None:
    world.cuda.failures[name, nth] = Status.cudaErrorMemoryAllocation
    failed = 0
    for _ in range(4):
        try:
            with load(compiled, on_gpu(world)) as session:
                assert_close(logits(session, photos[:2]), truth[:2])
        except EngineFailed:
            failed += 1
        assert nothing_left(world)
    assert failed == (world.cuda.calls[name] >= nth)


STEPS = ["cudaMemcpyAsync", "cudaStreamSynchronize", "cudaGraphLaunch", "cudaGraphInstantiate",
         "cudaStreamBeginCapture"]  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
def test_a_step_that_fails_is_one_error_and_the_session_goes_on(
    world: World, compiled: Artifact, photos: np.ndarray, truth: np.ndarray, name: str
) -> None:
    world.cuda.failures[name, 1] = Status.cudaErrorIllegalAddress
    with load(compiled, on_gpu(world)) as session:
        for _ in range(5):
            try:
                found = logits(session, photos[:2])
            except EngineFailed as error:
                assert "CUDA error 700 (cudaErrorIllegalAddress)" in str(error)
            else:
                assert_close(found, truth[:2])


def test_a_context_that_is_not_made_is_an_error_and_the_earlier_lane_goes(world: World, compiled: Artifact) -> None:
    world.trt.contexts_left = 1
    with pytest.raises(EngineFailed, match="out of memory: .*execution context"):
        load(compiled, on_gpu(world, lanes=2))


def test_a_session_that_is_not_closed_frees_when_it_goes(world: World, compiled: Artifact, photos: np.ndarray) -> None:
    session = load(compiled, on_gpu(world))
    logits(session, photos[:2])
    del session
    assert nothing_left(world)


# TensorRT on a real GPU


@pytest.fixture(scope="module", params=["tensorrt", "tensorrt_rtx"])
def built(
    request: pytest.FixtureRequest, onnx_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory
) -> Artifact:
    """An fp32 engine for this GPU, without TF32, for batches 1 to 16 and 17 to 64."""
    from tiffin.export.engine_options import EngineOptions
    from tiffin.export.to_tensorrt import to_tensorrt

    probe = backends.probe(request.param)
    if not probe.runs:
        pytest.skip(f"{request.param}: {probe.reason}")
    options = EngineOptions(profiles=((1, 1, 16), (17, 32, 64)), tf32=False)
    return to_tensorrt(onnx_artifact, tmp_path_factory.mktemp("built") / "engine", request.param, options)


def on_real_gpu(built: Artifact, **run: object) -> RunConfig:
    return RunConfig(built.manifest.format, device="gpu", **run)


class RealArray:
    """Photos in device memory that cuda.bindings gave out."""

    def __init__(self, array: np.ndarray) -> None:
        from cuda.bindings import runtime

        self._runtime = runtime
        _, self.address = runtime.cudaMalloc(array.nbytes)
        kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        (status,) = runtime.cudaMemcpy(self.address, array.ctypes.data, array.nbytes, kind)
        assert int(status) == 0
        self.__cuda_array_interface__ = {
            "shape": array.shape, "typestr": array.dtype.str, "data": (self.address, False), "version": 3,
        }  # fmt: skip

    def free(self) -> None:
        self._runtime.cudaFree(self.address)


@pytest.mark.gpu
def test_gpu_answers_are_those_of_onnxruntime(built: Artifact, onnx_artifact: Artifact, photos: np.ndarray) -> None:
    with load(onnx_artifact, "onnxruntime") as reference, load(built, on_real_gpu(built)) as session:
        for count in (1, 3, 16, 1, 64, 3, 1, 17, 64, 3, 64, 1):
            found, wanted = logits(session, photos[:count]), logits(reference, photos[:count])
            assert np.abs(found - wanted).max() <= 1e-3 * np.abs(wanted).max()


@pytest.mark.gpu
def test_gpu_graphs_answer_as_the_first_call_does(built: Artifact, photos: np.ndarray) -> None:
    with load(built, on_real_gpu(built)) as session:
        first = [logits(session, photos[n : n + 2]) for n in range(0, 32, 2)]
        again = [logits(session, photos[n : n + 2]) for n in range(0, 32, 2)]
        told = session.applied.details
        assert 0 < session.device_ns({"photos": photos[:2]}) < 1e9
    assert told["cuda_graph"] == "on: 1 recorded", told
    assert int(told["device_bytes_engine"]) > 0 and int(told["device_bytes_lane"]) > 0
    assert np.abs(np.concatenate(first) - np.concatenate(again)).max() <= 1e-4


@pytest.mark.gpu
def test_gpu_lanes_and_sessions_beside_each_other(built: Artifact, photos: np.ndarray) -> None:
    with load(built, on_real_gpu(built, lanes=2)) as one, load(built, on_real_gpu(built)) as other:
        futures = [one.submit({"photos": photos[n : n + 4]}) for n in range(0, 64, 4)]
        wanted = np.concatenate([logits(other, photos[n : n + 4]) for n in range(0, 64, 4)])
        found = np.concatenate([future.result()["logits"] for future in futures])
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


@pytest.mark.gpu
def test_gpu_arrays_are_read_where_they_lie(built: Artifact, photos: np.ndarray) -> None:
    array = RealArray(photos[:8])
    with load(built, on_real_gpu(built)) as session:
        wanted = logits(session, photos[:8])
        for _ in range(4):
            assert np.abs(logits(session, array) - wanted).max() <= 1e-4 * np.abs(wanted).max()
    array.free()


@pytest.mark.gpu
def test_gpu_memory_is_given_back(built: Artifact, photos: np.ndarray) -> None:
    from cuda.bindings import runtime

    def used() -> int:
        gc.collect()
        _, free, total = runtime.cudaMemGetInfo()
        return total - free

    before = []
    for _ in range(4):
        with load(built, on_real_gpu(built, lanes=2)) as session:
            for count in (1, 1, 1, 32, 32, 32):
                logits(session, photos[:count])
        before.append(used())
    assert before[-1] <= before[0] + (1 << 20)  # what CUDA loads once stays


@pytest.mark.gpu
def test_gpu_refuses_a_stale_engine(built: Artifact, tmp_path: Path) -> None:
    stale = {**built.manifest.built_for, "engine_version": "0.0.1"}
    manifest = dataclasses.replace(built.manifest, built_for=stale)
    made = save(tmp_path / "stale", manifest, {file.name: built.folder / file.name for file in manifest.files})
    with pytest.raises(BadArtifact, match="0.0.1, here is"):
        load(made, on_real_gpu(built))
