"""TensorRT across the rooms: options, builds in a process of their own, stamps, and which calls each version has."""

from __future__ import annotations

import ast
import dataclasses
import gc
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner, Result

import tiffin
from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.engine_stamp import PORTABLE, EngineStamp, Here, read_stamp
from tiffin.artifact.lineage import source_of
from tiffin.artifact.store import save
from tiffin.benchmarks.raw_execution import _Raw, raw_comparison
from tiffin.cli.app import app
from tiffin.errors import BadArtifact, BadInput, EngineFailed, EngineMissing, TiffinError
from tiffin.export import engine
from tiffin.export.engine import Built, build_engine, parser_problems
from tiffin.export.engine_checks import check_dla, check_graph
from tiffin.export.engine_options import EngineOptions, options_from, trtexec
from tiffin.export.graph.implicit_int8 import implicit_int8
from tiffin.export.graph.preflight import Target
from tiffin.export.to_tensorrt import rebuild, to_tensorrt
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_half, quantize_int8
from tiffin.runtime.backends import _cuda, _trt
from tiffin.runtime.backends._cuda import driver_problem
from tiffin.tests import simulated_cuda

RTX = "tensorrt_rtx"
ROOT = Path(tiffin.__file__).parent
needs_rtx = pytest.mark.skipif(
    not importlib.util.find_spec("tensorrt_rtx_bindings"), reason="TensorRT-RTX has no wheel for this platform"
)
without_gpu = pytest.mark.skipif(not driver_problem(), reason="there is a GPU here")


@pytest.fixture(scope="module")
def int8(onnx_artifact: Artifact, photos: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    calibration = CalibrationSet(photos[:16], "drawn")
    return quantize_int8(onnx_artifact, PtqOptions("tensorrt"), calibration, tmp_path_factory.mktemp("i") / "int8")


@pytest.fixture(scope="module")
def built(int8: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return to_tensorrt(int8, tmp_path_factory.mktemp("built") / "engine", RTX, EngineOptions(((1, 2, 4), (5, 8, 16))))


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(*words: object) -> str:
    """What the command line says of words that it cannot use."""
    ended = cli(*words)
    assert isinstance(ended.exception, BadInput), ended.output
    return str(ended.exception)


# Building


@needs_rtx
def test_the_stamp_says_what_an_engine_is_tied_to(built: Artifact, int8: Artifact) -> None:
    stamp = read_stamp(built.manifest.built_for, "it")
    assert (stamp.library, stamp.platform) == (RTX, _trt.this_platform())
    assert stamp.engine_version == _trt.library(RTX).version
    assert stamp.profiles == ((1, 2, 4), (5, 8, 16)) and stamp.max_batch == 16
    assert stamp.compute_capabilities == (PORTABLE,) and stamp.plugins == ()
    assert built.manifest.parent == int8.digest


@needs_rtx
def test_source_and_log_travel_with_the_engine(built: Artifact, int8: Artifact) -> None:
    files = {file.name: file.sha256 for file in built.manifest.files}
    assert (built.folder / "source.onnx").read_bytes() == int8.model_path.read_bytes()
    assert files["build.log"] == built.manifest.built_for["build_log_sha256"]
    assert "INFO: " in (built.folder / "build.log").read_text()


@needs_rtx
def test_progress_never_shrinks_and_ends_near_the_whole(int8: Artifact, tmp_path: Path) -> None:
    told: list[float] = []
    to_tensorrt(int8, tmp_path / "engine", RTX, progress=lambda phase, done: told.append(done))
    assert told == sorted(told) and told[0] >= 0 and 0.6 < told[-1] <= 1


@needs_rtx
def test_turing_gets_its_head_as_a_convolution(int8: Artifact, tmp_path: Path) -> None:
    made = to_tensorrt(int8, tmp_path / "engine", RTX, EngineOptions(capabilities=("7.5", "8.6")))
    assert made.manifest.producer.options["graph_passes"] == ["gemm_as_conv"]
    assert made.manifest.built_for["compute_capabilities"] == ["7.5", "8.6"]
    assert (made.folder / "source.onnx").read_bytes() == int8.model_path.read_bytes()


@needs_rtx
def test_workspace_that_is_too_small_is_said_in_one_line(int8: Artifact, tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="workspace limit") as caught:
        to_tensorrt(int8, tmp_path / "engine", RTX, EngineOptions(workspace_bytes=1))
    assert "\n" not in caught.value.what and "--workspace-mb" in caught.value.fix and left_in(tmp_path) == []


@needs_rtx
@without_gpu
def test_stripped_engines_need_a_gpu(int8: Artifact, tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match="weight-stripped"):
        to_tensorrt(int8, tmp_path / "engine", RTX, EngineOptions(stripped=True))
    assert left_in(tmp_path) == []


@needs_rtx
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (EngineOptions(version_compatible=True), "--version-compatible"),
        (EngineOptions(hardware="ampere+"), "--hardware"),
        (EngineOptions(dla_core=0), "--dla-core"),
        (EngineOptions(tactic_sources=("CUDNN",)), "CUDNN"),
        (EngineOptions(capabilities=("3.1",)), "3.1"),
    ],
)
def test_what_rtx_lacks_is_refused_before_anything_is_built(int8, tmp_path: Path, options, said: str) -> None:
    with pytest.raises(BadInput) as caught:
        to_tensorrt(int8, tmp_path / "engine", RTX, options)
    assert said in caught.value.what and left_in(tmp_path) == []


@pytest.mark.parametrize(
    "asked",
    [
        {"profiles": ()},
        {"profiles": ((0, 1, 2),)},
        {"profiles": ((1, 1, 4), (8, 4, 16))},
        {"optimization_level": 6},
        {"hardware": "turing"},
        {"workspace_bytes": 0},
        {"dla_core": -1},
    ],
)
def test_options_that_cannot_be_are_refused(asked: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        EngineOptions(**asked)


@needs_rtx
def test_a_fixed_batch_outside_the_profile_is_refused(int8: Artifact, tmp_path: Path) -> None:
    model = onnx.load(int8.model_path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    fixed = save(tmp_path / "fixed", int8.manifest, {"model.onnx": model.SerializeToString()})
    with pytest.raises(BadInput, match="always 4") as caught:
        to_tensorrt(fixed, tmp_path / "engine", RTX)
    assert "--batch 4:4:4" in caught.value.fix
    assert to_tensorrt(fixed, tmp_path / "engine", RTX, EngineOptions(((4, 4, 4),))).manifest.format == RTX


@given(
    profiles=st.lists(st.tuples(*[st.integers(1, 64)] * 3).map(lambda t: tuple(sorted(t))), min_size=1, max_size=3),
    level=st.integers(0, 5),
    tf32=st.booleans(),
    capabilities=st.lists(st.sampled_from(["7.5", "8.6", "8.9", "12.0"]), unique=True, max_size=4),
)
def test_options_survive_a_manifest(profiles, level: int, tf32: bool, capabilities) -> None:
    options = EngineOptions(
        tuple(profiles), capabilities=tuple(capabilities), optimization_level=level, tf32=tf32, dla_core=1
    )
    assert options_from(json.loads(json.dumps({"backend": RTX, **options.plain()}))) == options


def test_a_dry_run_names_every_option() -> None:
    options = EngineOptions(
        ((1, 1, 4), (5, 8, 16)), 512 << 20, (), 5, False, "ampere+", True, True, 0, ("JIT_CONVOLUTIONS",), "t.cache"
    )
    words = trtexec(options, Path("model.onnx"), "photos", (None, 224, 224, 3), "tensorrt")
    for word in (
        "--onnx=model.onnx", "--skipInference", "--profile=1",
        "--minShapes=photos:5x224x224x3", "--maxShapes=photos:16x224x224x3",
        "--memPoolSize=workspace:512M", "--builderOptimizationLevel=5", "--noTF32", "--stripWeights", "--useDLACore=0",
        "--allowGPUFallback", "--hardwareCompatibilityLevel=ampere+", "--versionCompatible", "--stronglyTyped",
        "--tacticSources=+JIT_CONVOLUTIONS,-EDGE_MASK_CONVOLUTIONS", "--timingCacheFile=t.cache",
    ):  # fmt: skip
        assert word in words.split(), word
    rtx = trtexec(EngineOptions(capabilities=("7.5", "12.0")), Path("m.onnx"), "x", (None, 3), RTX)
    assert rtx.startswith("tensorrt_rtx ") and "--computeCapabilities=75,120" in rtx


@needs_rtx
def test_layer_timings_are_kept_between_builds_of_the_full_library(int8: Artifact, tmp_path: Path) -> None:
    """The full library is not here: its way through the builder is taken with the bindings of TensorRT-RTX."""
    from tiffin.export.engine_builder import _Builder

    builder = _Builder(_trt.Library("tensorrt", _trt.library(RTX).module))
    names = ("plan", "log", "timings", "timings_out")
    files = {name: str(tmp_path / name) for name in names} | {"onnx": str(int8.model_path), "calibration": None}
    assert builder.parse(files["onnx"]) == []
    told = builder.build(EngineOptions(), files, lambda line: None)
    assert told["timings"] and (tmp_path / "timings_out").is_file() and (tmp_path / "plan").stat().st_size > 10_000


@needs_rtx
def test_a_refused_build_is_not_laid_to_the_timing_cache(int8: Artifact, tmp_path: Path, monkeypatch) -> None:
    from tiffin.export.engine_builder import _Builder

    builder = _Builder(_trt.library(RTX))
    monkeypatch.setattr(builder, "_timings", lambda *given: builder.log.add("ERROR", "the cache is of another GPU"))
    files = {"onnx": str(int8.model_path), "plan": str(tmp_path / "plan")}
    assert builder.parse(files["onnx"]) == []
    with pytest.raises(EngineFailed, match="workspace limit"):
        builder.build(EngineOptions(workspace_bytes=1), files, lambda line: None)


@needs_rtx
def test_an_engine_is_kept_where_its_timings_cannot_be(int8: Artifact, tmp_path: Path, monkeypatch, caplog) -> None:
    (tmp_path / "file").touch()
    built = Built(b"plan", "1.0.0", b"", "", b"timings")
    monkeypatch.setattr("tiffin.export.to_tensorrt.build_engine", lambda *given: built)
    made = to_tensorrt(int8, tmp_path / "engine", RTX, EngineOptions(timing_cache=str(tmp_path / "file" / "cache")))
    assert (made.folder / "timing.cache").read_bytes() == b"timings" and "layer timings are not kept" in caplog.text


@needs_rtx
def test_the_gpu_here_has_limits_where_nothing_is_built_for_another(onnx_artifact, tmp_path, monkeypatch) -> None:
    half = quantize_half(onnx_artifact, "bf16", tmp_path / "bf16")
    monkeypatch.setattr(_trt.Library, "builds_for_others", False)
    monkeypatch.setattr("tiffin.export.to_tensorrt.library", lambda name: _trt.Library(name, _trt.library(RTX).module))
    for name, answer in (("driver_problem", ""), ("compute_capability", "7.5"), ("device_name", "T4")):
        monkeypatch.setattr(_cuda, name, lambda answer=answer: answer)
    with pytest.raises(BadInput, match="types that the GPU does not compute in") as caught:
        to_tensorrt(half, tmp_path / "engine", "tensorrt")
    assert "--backend tensorrt --capability 7.5`" in caught.value.fix and left_in(tmp_path) == ["bf16"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rebuild-for-this-device", "--batch", "1:8:32"), "--batch with --rebuild-for-this-device"),
        (("--rebuild-for-this-device", "--dry-run", "--no-tf32"), "--dry-run, --tf32 with --rebuild"),
        (("--capability", "8.9"), "--capability with backend openvino"),
        (("--backend", "openvino", "--dry-run"), "--dry-run with backend openvino"),
    ],
)
def test_an_option_that_would_be_passed_over_is_refused(onnx_artifact: Artifact, words, said: str) -> None:
    assert said in refused("compile", onnx_artifact.folder, *words)


def test_a_dry_run_says_what_it_leaves_out(int8: Artifact, onnx_artifact, tmp_path: Path, monkeypatch) -> None:
    on_dla = ("--backend", "tensorrt", "--dla-core", 0, "--batch", "1:1:1", "--dry-run")
    half = quantize_half(onnx_artifact, "fp16", tmp_path / "fp16")
    for artifact in (int8, half):
        assert "which it refuses of a typed network" in refused("compile", artifact.folder, *on_dla)
    typed = _trt.Library("tensorrt", SimpleNamespace(__version__="11.4.1"))  # no implicit int8
    with monkeypatch.context() as patch:
        patch.setattr("tiffin.export.engine_checks.library", lambda name: typed)
        for artifact in (int8, half):
            said = cli("compile", artifact.folder, *on_dla).stdout
            assert "--stronglyTyped --useDLACore=0 --allowGPUFallback" in said
    words = ("--capability", "7.5", "--tactic-source", "JIT_CONVOLUTIONS", "--dry-run")
    said = cli("compile", int8.folder, "--backend", RTX, *words).stderr
    assert "(gemm_as_conv); this command does not" in said and "sets the tactic sources; this command does not" in said


def test_a_dry_run_refuses_what_compile_would(onnx_artifact, openvino_artifact: Artifact, tmp_path: Path) -> None:
    assert "format openvino" in refused("compile", openvino_artifact.folder, "--backend", RTX, "--dry-run")
    half = quantize_half(onnx_artifact, "bf16", tmp_path / "bf16")
    words = ("--backend", "tensorrt", "--capability", "7.5", "--dry-run")
    assert "types that the GPU does not compute in" in refused("compile", half.folder, *words)
    words = ("--backend", RTX, "--dry-run", "--dla-core", 0, "--hardware", "ampere+", "--version-compatible")
    assert "no --version-compatible, --hardware, --dla-core" in refused("compile", onnx_artifact.folder, *words)


@needs_rtx
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--capability", "99.9"), "unknown compute capability 99.9"),
        (("--tactic-source", "NO_SUCH"), "no tactic source"),
    ],
)
def test_a_dry_run_knows_the_words_of_a_library_that_is_here(onnx_artifact, words: tuple, said: str) -> None:
    assert said in refused("compile", onnx_artifact.folder, "--backend", RTX, "--dry-run", *words)


def test_constants_among_the_inputs_have_no_batch(int8: Artifact) -> None:
    model = onnx.load(int8.model_path)
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    check_graph(model, int8, Target(RTX), EngineOptions())


# Rebuilding


@needs_rtx
def test_an_engine_is_rebuilt_from_the_model_that_travels_in_it(built: Artifact, tmp_path: Path) -> None:
    folder = tmp_path / "engine"
    shutil.copytree(built.folder, folder)
    made = rebuild(Artifact.load(folder), folder)
    assert made.folder == folder and made.manifest.parent == built.manifest.parent
    assert made.manifest.built_for["profiles"] == built.manifest.built_for["profiles"]
    assert (folder / "source.onnx").read_bytes() == (built.folder / "source.onnx").read_bytes()
    assert left_in(tmp_path) == ["engine"]


@needs_rtx
@without_gpu
def test_a_rebuild_for_one_gpu_needs_it(int8: Artifact, tmp_path: Path) -> None:
    made = to_tensorrt(int8, tmp_path / "engine", RTX, EngineOptions(capabilities=("8.9",)))
    with pytest.raises(EngineMissing, match="no GPU to rebuild for"):
        rebuild(made, made.folder)
    assert Artifact.load(made.folder, verify=True).digest == made.digest


def test_what_is_no_engine_is_not_rebuilt(onnx_artifact: Artifact, tmp_path: Path) -> None:
    with pytest.raises(BadArtifact, match=r"no source\.onnx"):
        rebuild(onnx_artifact, tmp_path / "engine")


@needs_rtx
def test_a_device_without_torch_rebuilds(built: Artifact, tmp_path: Path) -> None:
    shutil.copytree(built.folder, tmp_path / "engine")
    blocked = ("torch", "nncf", "openvino", "onnxruntime", "onnxscript", "scipy", "safetensors", "onnx_ir")
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked!r})); "
        f"sys.argv = ['tiffin', 'compile', {str(tmp_path / 'engine')!r}, '--rebuild-for-this-device']; "
        "from tiffin.cli.app import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "wrote" in ended.stdout


# Bad input: no crash of the process, one clear error, nothing left


def _mutations() -> dict[str, object]:
    """Ways to break a model: what a bad disk, a bad exporter or a bad hand does."""
    rng = np.random.default_rng(0)

    def conv(model: onnx.ModelProto) -> onnx.NodeProto:
        return next(node for node in model.graph.node if node.op_type == "Conv")

    def attribute(name: str, values: list[int]):
        def change(model: onnx.ModelProto) -> None:
            held = [each for each in conv(model).attribute if each.name == name]
            for each in held:
                each.CopyFrom(helper.make_attribute(name, values if each.ints else values[0]))

        return change

    def tensor(change):
        def apply(model: onnx.ModelProto) -> None:
            change(next(each for each in model.graph.initializer if len(each.dims) == 4))

        return apply

    def scales(value: float):
        def change(model: onnx.ModelProto) -> None:
            for each in model.graph.initializer:
                if each.name.endswith("_scale"):
                    shape = numpy_helper.to_array(each).shape
                    each.CopyFrom(numpy_helper.from_array(np.full(shape, value, np.float32), each.name))

        return change

    def external(each: TensorProto) -> None:
        each.ClearField("raw_data")
        each.data_location = TensorProto.EXTERNAL
        each.external_data.add(key="location", value="/etc/passwd")

    def rewire(model: onnx.ModelProto) -> None:
        conv(model).input[0] = conv(model).output[0]

    def cut(part: float):
        return lambda raw: raw[: int(len(raw) * part)]

    def flip(low: float, high: float, seed: int):
        def change(raw: bytes) -> bytes:
            found = bytearray(raw)
            places = np.random.default_rng(seed).integers(int(low * len(raw)), int(high * len(raw)), 200)
            for place in places:
                found[place] ^= 1 << int(rng.integers(8))
            return bytes(found)

        return change

    graphs = {
        "no such operator": lambda m: setattr(m.graph.node[6], "op_type", "Nonsense"),
        "no such domain": lambda m: setattr(m.graph.node[6], "domain", "nowhere"),
        "a cycle": rewire,
        "a node twice": lambda m: m.graph.node.append(m.graph.node[8]),
        "no outputs": lambda m: m.graph.ClearField("output"),
        "no inputs": lambda m: m.graph.ClearField("input"),
        "no nodes": lambda m: m.graph.ClearField("node"),
        "no weights": lambda m: m.graph.ClearField("initializer"),
        "a node without inputs": lambda m: conv(m).ClearField("input"),
        "an unknown tensor": lambda m: conv(m).input.__setitem__(1, "nobody"),
        "opset 99": lambda m: setattr(m.opset_import[0], "version", 99),
        "opset 0": lambda m: setattr(m.opset_import[0], "version", 0),
        "IR version 999": lambda m: setattr(m, "ir_version", 999),
        "negative size": tensor(lambda t: t.dims.__setitem__(0, -5)),
        "huge size": tensor(lambda t: t.dims.__setitem__(0, 2**40)),
        "short data": tensor(lambda t: setattr(t, "raw_data", t.raw_data[:10])),
        "unknown type": tensor(lambda t: setattr(t, "data_type", 77)),
        "external data elsewhere": tensor(external),
        "pads out of range": attribute("pads", [-5, -7, 2**40, 3]),
        "group 0": attribute("group", [0]),
        "stride 0": attribute("strides", [0, 0]),
        "dilation -1": attribute("dilations", [-1, -1]),
        "kernel of another shape": attribute("kernel_shape", [7, 7]),
        "scales NaN": scales(float("nan")),
        "scales 0": scales(0.0),
        "scales negative": scales(-1.0),
        "scales infinite": scales(float("inf")),
    }
    files = {f"cut at {part:.0%}": cut(part) for part in (0.0, 0.01, 0.3, 0.9, 0.999)}
    files |= {f"bits flipped {seed}": flip(low, high, seed) for seed, (low, high) in enumerate(
        [(0, 0.1), (0.1, 0.3), (0.5, 0.7), (0.9, 1), (0, 1), (0, 1)])}  # fmt: skip
    files["text"] = lambda raw: b"not a model\n" * 50
    return {**{name: ("graph", change) for name, change in graphs.items()},
            **{name: ("file", change) for name, change in files.items()}}  # fmt: skip


MUTATIONS = _mutations()


@needs_rtx
@pytest.mark.parametrize("name", list(MUTATIONS))
def test_a_broken_model_is_one_clear_error(int8: Artifact, tmp_path: Path, name: str) -> None:
    kind, change = MUTATIONS[name]
    raw = int8.model_path.read_bytes()
    if kind == "graph":
        model = onnx.load(int8.model_path)
        change(model)
        raw = model.SerializeToString()
    else:
        raw = change(raw)
    assert raw != int8.model_path.read_bytes()
    broken = save(tmp_path / "broken", int8.manifest, {"model.onnx": raw})
    with pytest.raises(TiffinError) as caught:
        to_tensorrt(broken, tmp_path / "engine", RTX)
    assert caught.value.what and "Traceback" not in str(caught.value)
    assert left_in(tmp_path) == ["broken"]


@needs_rtx
def test_an_operator_that_the_parser_does_not_know_is_named(int8: Artifact) -> None:
    model = onnx.load(int8.model_path)
    model.graph.node[6].op_type = "Nonsense"
    problems = parser_problems(model.SerializeToString(), RTX)
    assert (problems[0].node, problems[0].operator) == (model.graph.node[6].name, "Nonsense")


@needs_rtx
def test_a_library_that_crashes_takes_only_its_own_process(int8, tmp_path: Path, monkeypatch) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\necho 'terminate called' >&2\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(engine.sys, "executable", str(crashing))
    with pytest.raises(EngineFailed, match=r"crashed on .* \(SIGSEGV; terminate called\)"):
        to_tensorrt(int8, tmp_path / "engine", RTX)
    assert left_in(tmp_path) == ["python"]


@needs_rtx
def test_a_crash_is_told_whatever_its_last_words_are(int8: Artifact, tmp_path: Path, monkeypatch) -> None:
    crashing = tmp_path / "python"
    crashing.write_text("#!/bin/sh\nprintf 'bad \\377' >&2\nkill -ABRT $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(engine.sys, "executable", str(crashing))
    ended = cli("doctor", int8.folder, "--backend", RTX)
    assert ended.exit_code == 1 and "tensorrt_rtx crashed on the model (SIGABRT; bad" in " ".join(ended.stdout.split())


@needs_rtx
def test_the_command_to_look_at_a_refused_model_can_be_run(int8: Artifact, tmp_path: Path) -> None:
    model = onnx.load(int8.model_path)
    model.graph.node[6].op_type = "Nonsense"
    made = save(tmp_path / "my model", int8.manifest, {"model.onnx": model.SerializeToString()})
    (tmp_path / "alone.onnx").write_bytes(made.model_path.read_bytes())
    for path, named in ((made.model_path, f"'{made.folder}'"), (tmp_path / "alone.onnx", "ARTIFACT")):
        with pytest.raises(EngineFailed, match="cannot parse") as caught:
            build_engine(path, RTX, EngineOptions())
        assert f"`tiffin doctor {named} --backend {RTX}`" in caught.value.fix


@pytest.mark.parametrize(("serves", "fix"), [("12.4", 'tensorrt-cu12 "cuda-bindings<13"'), ("13.0", ""), ("", "")])
def test_a_library_without_its_driver_is_missing_not_broken(monkeypatch, serves: str, fix: str) -> None:
    from tiffin.export.engine_builder import _Builder

    class Logger:
        log: Callable[[object, str], None]

    def no_driver(logger: Logger) -> None:
        logger.log(SimpleNamespace(name="ERROR"), "CUDA initialization failure with error: 35\n")

    library = _trt.Library("tensorrt", SimpleNamespace(ILogger=Logger, Builder=no_driver))
    monkeypatch.setattr(_cuda, "driver_version", lambda: serves)
    said = "tensorrt does not start: CUDA initialization failure with error: 35"
    with pytest.raises(EngineMissing, match=said) as caught:
        _Builder(library)
    assert fix in caught.value.fix and bool(fix) == bool(caught.value.fix)


def test_what_no_file_can_hold_is_not_handed_to_the_parser(int8: Artifact, monkeypatch) -> None:
    monkeypatch.setattr("tiffin.export.graph.model_checks._LARGEST", 10)
    monkeypatch.setattr(engine, "parser_problems", lambda *given: pytest.fail("it was"))
    ended = cli("doctor", int8.folder)
    assert ended.exit_code == 1 and "weights over 2 GB" in ended.stdout


@needs_rtx
def test_a_model_of_2_gb_is_refused_before_it_is_read(int8: Artifact, tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    with (tmp_path / "broken" / "model.onnx").open("wb") as file:
        file.truncate(2**31)  # a hole: it takes no room
    huge = Artifact(tmp_path / "broken", int8.manifest)
    with pytest.raises(BadInput, match=r"2\.1 GB"):
        to_tensorrt(huge, tmp_path / "engine", RTX)


@needs_rtx
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_a_build_and_leaves_nothing(int8: Artifact, tmp_path: Path, number: int) -> None:
    words = [sys.executable, "-m", "tiffin.cli.app", "compile", str(int8.folder), "--backend", RTX, "--out", "engine"]
    code = "import sys; from tiffin.cli.app import main; sys.argv[0] = 'tiffin'; main()"
    many = [word for batch in range(1, 25) for word in ("--batch", f"{batch}:{batch}:{batch}")]  # seconds to build
    environment = {**os.environ, "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    running = subprocess.Popen([sys.executable, "-c", code, *words[3:], *many], cwd=tmp_path, env=environment,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    deadline = time.monotonic() + 60
    while not any((tmp_path / "tmp").glob("tiffin-engine-*")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)
    running.send_signal(number)
    words_said = running.communicate(timeout=60)[1]
    assert running.returncode == 128 + number, words_said
    assert "interrupted" in words_said
    assert left_in(tmp_path) == ["tmp"] and left_in(tmp_path / "tmp") == []


# The stamp: compared before anything is deserialized

STAMP = EngineStamp("tensorrt", "10.3.0", ("8.7",), "linux-aarch64", "Orin")
HERE = Here("tensorrt", "10.3.0", "8.7", "linux-aarch64", "Orin")


@pytest.mark.parametrize(
    ("stamp", "here", "fits"),
    [
        ({}, {}, True),
        ({}, {"library": "tensorrt_rtx"}, False),
        ({}, {"engine_version": "10.4.0"}, False),
        ({}, {"engine_version": "10.2.0"}, False),
        ({}, {"compute_capability": "8.6"}, False),
        ({}, {"platform": "linux-x86_64"}, False),
        ({"version_compatible": True}, {"engine_version": "10.13.3.9"}, True),
        ({"version_compatible": True}, {"engine_version": "10.2.0"}, False),
        ({"version_compatible": True}, {"engine_version": "11.0.0"}, True),
        ({"version_compatible": True, "engine_version": "11.0.0"}, {"engine_version": "10.13.3.9"}, False),
        ({"version_compatible": True}, {"engine_version": "12.0.0"}, False),
        ({}, {"engine_version": "11.0.0"}, False),
        ({"hardware": "ampere+"}, {"compute_capability": "12.0"}, True),
        ({"hardware": "ampere+"}, {"compute_capability": "7.5"}, False),
        ({"library": RTX, "compute_capabilities": (PORTABLE,)}, {"library": RTX, "compute_capability": "9.0"}, True),
        ({"library": RTX, "compute_capabilities": (PORTABLE,)}, {"library": RTX, "compute_capability": "7.5"}, False),
        ({"library": RTX}, {"library": RTX, "platform": "win32-amd64"}, True),
    ],
)
def test_an_engine_is_read_only_where_it_fits(stamp: dict, here: dict, fits: bool) -> None:
    built, found = dataclasses.replace(STAMP, **stamp).problem(dataclasses.replace(HERE, **here))
    assert (not built and not found) is fits
    assert built != found or fits, "both sides are named"


def test_another_model_of_gpu_is_told_apart_from_another_capability() -> None:
    assert STAMP.is_foreign(dataclasses.replace(HERE, device="Orin Nano")) and not STAMP.is_foreign(HERE)
    assert not dataclasses.replace(STAMP, hardware="ampere+").is_foreign(dataclasses.replace(HERE, device="A2"))


@given(
    version=st.lists(st.integers(0, 30), min_size=3, max_size=4).map(lambda parts: ".".join(map(str, parts))),
    capability=st.sampled_from(["7.5", "8.6", "8.9", "9.0", "12.0"]),
    stripped=st.booleans(),
    profiles=st.lists(st.tuples(*[st.integers(1, 9)] * 3), max_size=3),
)
def test_a_stamp_survives_a_manifest(version: str, capability: str, stripped: bool, profiles) -> None:
    stamp = EngineStamp("tensorrt", version, (capability,), profiles=tuple(profiles), stripped=stripped)
    assert read_stamp(json.loads(json.dumps(stamp.plain())), "it") == stamp
    assert stamp.problem(Here("tensorrt", version, capability, "linux-x86_64")) == ("", "")


def test_a_manifest_without_a_stamp_is_no_engine() -> None:
    with pytest.raises(BadArtifact, match="engine_version"):
        read_stamp({"library": "tensorrt"}, "it")
    for wrong in (
        {"compute_capabilities": [8.9]},
        {"profiles": 3},
        {"profiles": [["a", 1, 2]]},
        {"engine_version": 10},
    ):
        with pytest.raises(BadArtifact, match="it: what it was built for is wrong"):
            read_stamp({**STAMP.plain(), **wrong}, "it")


# int8 of a DLA


def test_the_scales_of_a_graph_become_a_calibration_cache(int8: Artifact, photos: np.ndarray, tmp_path: Path) -> None:
    model = onnx.load(int8.model_path)
    plain, cache = implicit_int8(model, "10.3.0")
    onnx.checker.check_model(plain, full_check=True)
    header, *lines = cache.decode().splitlines()
    assert header == "TRT-100300-EntropyCalibration2"
    told = {name: np.frombuffer(bytes.fromhex(word), ">f4")[0] for name, word in (line.split(": ") for line in lines)}
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":  # a pair's output that is the graph's is given by what goes in
            name = node.input[0].removesuffix("_QuantizeLinear_Input")
            assert told[name] == np.float32(arrays[node.input[1]])
    tensors = {name for node in plain.graph.node for name in (*node.input, *node.output)}
    assert set(told) <= tensors and not {"QuantizeLinear", "DequantizeLinear"} & {n.op_type for n in plain.graph.node}
    floats = save(tmp_path / "floats", int8.manifest, {"model.onnx": plain.SerializeToString()})
    with (
        tiffin.load(int8, RunConfig("onnxruntime", graph_level="none"), allow_uncertified=True) as quantized,
        tiffin.load(floats, RunConfig("onnxruntime", graph_level="none"), allow_uncertified=True) as unquantized,
    ):
        name, output = int8.manifest.inputs[0].name, int8.manifest.outputs[0].name
        one, other = (each.run({name: photos})[output].argmax(1) for each in (quantized, unquantized))
    assert (one == other).mean() > 0.9


DLA = EngineOptions(((1, 1, 1),), dla_core=0)


@pytest.mark.parametrize("untyped", [True, False])
def test_a_dla_takes_one_batch_in_int8_or_fp16(int8, onnx_artifact, tmp_path: Path, untyped: bool) -> None:
    halves = {name: quantize_half(onnx_artifact, name, tmp_path / name) for name in ("fp16", "bf16")}
    for taken in (int8, halves["fp16"]):
        check_dla(onnx.load(taken.model_path), DLA, untyped)
    for other in (onnx_artifact, halves["bf16"]):
        with pytest.raises(BadInput, match="neither int8 nor fp16"):
            check_dla(onnx.load(other.model_path), DLA, untyped)
    with pytest.raises(BadInput, match="--dla-core with profile 1:4:16") as caught:
        check_dla(onnx.load(int8.model_path), dataclasses.replace(DLA, profiles=((1, 4, 16),)), untyped)
    assert caught.value.fix == "pass --batch 4:4:4"


@needs_rtx
@pytest.mark.parametrize("implicit", [True, False])
def test_a_dla_is_checked_whatever_its_int8_is(onnx_artifact, tmp_path: Path, monkeypatch, implicit: bool) -> None:
    monkeypatch.setattr(_trt.Library, "implicit_int8", implicit)
    monkeypatch.setattr("tiffin.export.to_tensorrt.library", lambda name: _trt.Library(name, _trt.library(RTX).module))
    with pytest.raises(BadInput, match="neither int8 nor fp16"):
        to_tensorrt(onnx_artifact, tmp_path / "engine", "tensorrt", DLA)
    assert left_in(tmp_path) == []


@needs_rtx
@pytest.mark.parametrize(
    ("log", "said"),
    [
        ("INFO: [DlaLayer] {a}\nINFO: [GpuLayer] SHUFFLE: b\nINFO: [GpuLayer] SOFTMAX: c\n", "SHUFFLE: b; SOFTMAX: c"),
        ("WARNING: Layer 'b' (SHUFFLE): Unsupported on DLA. Switching this layer's device type to GPU.\n", "Layer 'b'"),
        ("INFO: nothing\n", ""),
    ],
)
def test_layers_that_fall_to_the_gpu_are_told(int8, tmp_path: Path, monkeypatch, log: str, said: str) -> None:
    monkeypatch.setattr("tiffin.export.to_tensorrt.library", lambda name: _trt.Library(name, _trt.library(RTX).module))
    built = Built(b"plan", "10.3.0", log.encode(), "", None)
    monkeypatch.setattr("tiffin.export.to_tensorrt.build_engine", lambda *given: built)
    words = ("compile", int8.folder, "--backend", "tensorrt", "--out", tmp_path / "engine", "--batch", "1:1:1")
    told = cli(*words, "--dla-core", 0).stderr
    assert (f"not on the DLA, but on the GPU: {said}" in told) if said else "DLA, but" not in told
    assert "DLA, but" not in cli(*words).stderr


def test_a_dla_takes_no_8_bit_floats(int8: Artifact) -> None:
    with pytest.raises(BadInput, match="--strip-weights"):
        check_dla(onnx.load(int8.model_path), dataclasses.replace(DLA, stripped=True), untyped=True)
    pair = [helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["y"])]  # fmt: skip
    constants = [numpy_helper.from_array(np.float32(1), "scale"),
                 helper.make_tensor("zero", TensorProto.FLOAT8E4M3FN, [], [0.0])]  # fmt: skip
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in "xy"]
    with pytest.raises(BadInput, match="--dla-core with a graph in float8e4m3fn"):
        check_dla(helper.make_model(helper.make_graph(pair, "pair", *ends, constants)), DLA, untyped=True)


def test_a_float_graph_has_no_calibration_cache(onnx_artifact: Artifact) -> None:
    assert implicit_int8(onnx.load(onnx_artifact.model_path), "10.3.0")[1] == b""


def test_the_source_of_an_engine_is_seen_as_an_onnx_artifact(tmp_path: Path, int8: Artifact) -> None:
    stamp = STAMP.plain()
    manifest = dataclasses.replace(int8.manifest, format="tensorrt", built_for=stamp, parent=int8.digest)
    made = save(tmp_path / "engine", manifest, {"model.engine": b"plan", "source.onnx": int8.model_path})
    source = source_of(made)
    assert source.manifest.format == "onnx" and source.model_path.name == "source.onnx"
    assert source.manifest.parent == int8.digest and source.manifest.built_for == {}


# Which calls each version has: the real bindings, imported over empty libraries

BINDINGS = {
    "10.3.0": "tensorrt-cu12-bindings",  # JetPack 6
    "10.13.3.9": "tensorrt-cu12-bindings",
    "11.4.0.106": "tensorrt-cu13-bindings",
}
# What only some versions have, by what our code asks before it uses them.
GUARDED = {
    "Library.builds_for_others": "ComputeCapability num_compute_capabilities set_compute_capability",
    "Library.has('Runtime.get_engine_validity')": "get_engine_validity EngineValidity "
    "EngineInvalidityDiagnostics INVALID VERSION_MISMATCH UNSUPPORTED_CC OLD_CUDA_DRIVER OLD_CUDA_RUNTIME "
    "INSUFFICIENT_GPU_MEMORY MALFORMED_ENGINE CUDA_ERROR",
    "Library.has('IRuntimeConfig.create_runtime_cache')": "IRuntimeConfig create_runtime_cache set_runtime_cache "
    "deserialize EAGER create_runtime_config set_execution_context_allocation_strategy "
    "DynamicShapesKernelSpecializationStrategy dynamic_shapes_kernel_specialization_strategy",
    "Library.has('IExecutionContext.is_stream_capturable')": "is_stream_capturable",
    "Library.has('BuilderFlag.REQUIRE_USER_ALLOCATION')": "REQUIRE_USER_ALLOCATION",
    "Library.implicit_int8": "IInt8EntropyCalibrator2 INT8 FP16 int8_calibrator get_batch_size get_batch "
    "read_calibration_cache write_calibration_cache",
    "check_options": "SAME_COMPUTE_CAPABILITY",
}
OURS = [
    *ROOT.glob("export/engine_*.py"),
    *ROOT.glob("runtime/backends/_trt*.py"),
    ROOT / "runtime/backends/tensorrt.py",
]


def vocabulary(module: ModuleType) -> set[str]:
    """Every name of a bindings module: its own, its classes' members, and those as "Class.member"."""
    plain = {name for kind in (object, str, list, dict, int, type, bytes, Path, np.ndarray) for name in dir(kind)}
    own = {name for name in dir(module) if not name.startswith("_")}
    pairs = {(held, name) for held in own for name in dir(getattr(module, held)) if not name.startswith("_")}
    return (own | {name for _, name in pairs}) - plain | {".".join(pair) for pair in pairs}


def names_in(files: list[Path]) -> set[str]:
    """Attributes, and words that may be handed to getattr."""
    found: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute):
                found.add(node.attr)
            elif isinstance(node, ast.FunctionDef):  # what the library calls: an overridden method
                found.add(node.name)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.update(re.findall(r"\w+", node.value) if node.value.count(" ") == 0 else ())
    return found


@pytest.fixture(scope="session")
def everything() -> set[str]:
    """What any library that can be imported here calls something."""
    return vocabulary(pytest.importorskip("tensorrt_rtx_bindings.tensorrt_rtx"))


def stubbed(version: str, cache: Path) -> ModuleType:
    """The real bindings of a version. Its libraries are not on PyPI: empty ones of the same names stand in."""
    folder = cache / version
    if not (folder / "ready").exists():
        shutil.rmtree(folder, ignore_errors=True)
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "-q",
            "--no-deps",
            "--only-binary",
            ":all:",
            "-d",
            str(folder),
        ]
        subprocess.run([*command, f"{BINDINGS[version]}=={version}"], check=True, capture_output=True, timeout=120)
        zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(folder)
        binary = folder / "tensorrt_bindings" / "tensorrt.so"
        symbols = sorted(set(re.findall(rb"\b((?:create|get|init)[A-Za-z]*(?:_INTERNAL|Registry|Version|Plugins))\0",
                                        binary.read_bytes())))  # fmt: skip
        source = folder / "empty.c"
        source.write_text("\n".join(f"void *{symbol.decode()}(void) {{ return 0; }}" for symbol in symbols))
        major = version.split(".")[0]
        for name in ("nvinfer", "nvonnxparser", "nvinfer_plugin"):
            target = f"lib{name}.so.{major}"
            subprocess.run(["cc", "-shared", "-fPIC", f"-Wl,-soname,{target}", "-o", str(binary.with_name(target)),
                            str(source)], check=True, capture_output=True)  # fmt: skip
        (folder / "ready").touch()
    spec = importlib.util.spec_from_file_location("tensorrt", folder / "tensorrt_bindings" / "tensorrt.so")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", params=list(BINDINGS))
def bindings(request: pytest.FixtureRequest) -> tuple[str, set[str]]:
    """Names of one version's bindings, read in a process of its own: two versions do not share one."""
    if not shutil.which("cc"):
        pytest.skip("no C compiler for the empty libraries")
    version, cache = request.param, request.config.cache.mkdir("tensorrt-bindings")
    code = (
        f"import sys, json; sys.path.insert(0, {str(Path(__file__).parent)!r}); import test_tensorrt as t; "
        f"from pathlib import Path; module = t.stubbed({version!r}, Path({str(cache)!r})); "
        "print(json.dumps(sorted(t.vocabulary(module))))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    if "CalledProcessError" in ended.stderr and "download" in ended.stderr:
        pytest.skip(f"the bindings of TensorRT {version} cannot be downloaded here")
    assert ended.returncode == 0, ended.stderr
    return version, set(json.loads(ended.stdout))


@needs_rtx
def test_every_call_exists_in_each_version(bindings: tuple[str, set[str]], everything: set[str]) -> None:
    version, names = bindings
    used = names_in(OURS) & (everything | names)
    assert {"build_serialized_network", "set_input_shape", "create_timing_cache", "step_complete"} <= used
    missing = used - names - {word for words in GUARDED.values() for word in words.split()}
    assert not missing, f"TensorRT {version} has no {', '.join(sorted(missing))}"


@needs_rtx
def test_what_is_guarded_is_really_missing_somewhere(bindings, everything: set[str]) -> None:
    version, names = bindings
    untyped = {"BuilderFlag.INT8", "BuilderFlag.FP16", "IInt8EntropyCalibrator2"}
    assert (untyped & names) == (set() if version.startswith("11.") else untyped)
    assert "ComputeCapability.SM89" in everything - names and not untyped & everything
    assert ("HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY" in names) is (version != "10.3.0")


def test_every_member_that_the_runtime_calls_exists_in_each_version(bindings: tuple[str, set[str]]) -> None:
    """Those of the simulated TensorRT, on which the runtime is tested: class by class."""
    version, names = bindings
    allowed = simulated_cuda.RTX_ONLY | (simulated_cuda.NOT_IN_10_3 if version == "10.3.0" else frozenset())
    expected = {pair for pair in simulated_cuda.trt_members() if pair not in allowed and (pair[0], "") not in allowed}
    missing = [pair for pair in expected if ".".join(filter(None, pair)) not in names]
    assert not missing
    assert len(expected) > 25


# The runtime beside a bare loop, on a simulated GPU


@pytest.mark.parametrize("rtx", [False, True])
def test_a_bare_loop_runs_beside_the_session_and_leaves_nothing(onnx_artifact, tmp_path, monkeypatch, rtx) -> None:
    world = simulated_cuda.install(monkeypatch, rtx=rtx)
    made = world.engine(tmp_path / "engine", onnx_artifact, profiles=((1, 1, 16),))
    found = raw_comparison(made, RunConfig(world.backend, "gpu"), blocks=3, block_s=0.01)
    assert [len(times) for times in found.values()] == [3, 3] and all(min(times) > 0 for times in found.values())
    gc.collect()
    assert not world.cuda.left()


def test_a_bare_loop_takes_the_photo_and_hands_its_answer_out(onnx_artifact, photos, tmp_path, monkeypatch) -> None:
    world = simulated_cuda.install(monkeypatch)
    made = world.engine(tmp_path / "engine", onnx_artifact, profiles=((1, 1, 16),))
    name, run, given = onnx_artifact.manifest.inputs[0].name, RunConfig(world.backend, "gpu"), photos[:1].copy()
    with tiffin.load(made, run) as session, _Raw(made, run, {name: given}) as raw:
        first = raw.run()[0]
        for photo in (photos[:1], photos[1:2]):
            given[...] = photo
            np.testing.assert_array_equal(raw.run()[0], session.run({name: photo})["logits"])
        assert np.any(first != raw.run()[0])


def test_a_bare_loop_that_cannot_be_recorded_leaves_nothing(onnx_artifact, tmp_path, monkeypatch) -> None:
    world = simulated_cuda.install(monkeypatch)
    made = world.engine(tmp_path / "engine", onnx_artifact, profiles=((1, 1, 16),))
    world.cuda.failures["cudaStreamEndCapture", 1] = simulated_cuda.Status.cudaErrorStreamCaptureInvalidated
    with pytest.raises(EngineFailed, match="901"):
        raw_comparison(made, RunConfig(world.backend, "gpu"), blocks=1, block_s=0.01)
    gc.collect()
    assert not world.cuda.left()


# The runtime on a simulated GPU: what a call waits for, and what it says


class OldInterface:
    """An array in `__cuda_array_interface__` of version 2, which names no stream."""

    def __init__(self, world: simulated_cuda.World, stream: int, array: np.ndarray) -> None:
        self.cuda, self.stream = world.cuda, stream
        self.address = world.cuda.device_array(np.zeros_like(array))
        self.memory = world.cuda.array_at(self.address, array.dtype, array.shape)
        self.__cuda_array_interface__ = {
            "shape": array.shape, "typestr": array.dtype.str, "data": (self.address, False), "version": 2,
        }  # fmt: skip

    def write(self, array: np.ndarray) -> None:
        """On the producer's stream: some time later."""
        self.cuda.enqueue(self.stream, lambda: self.memory.__setitem__(..., array))


class Tensor(OldInterface):
    """As torch's are: beside the old interface DLPack, which makes the consumer's stream wait."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: int) -> object:
        import ctypes

        from tiffin.runtime import device_array

        if stream != device_array.NO_WAIT:
            self.cuda.enqueue(stream, lambda: self.cuda.cudaStreamSynchronize(self.stream))
        shape = (ctypes.c_int64 * self.memory.ndim)(*self.memory.shape)
        self.held = device_array._Tensor(self.address, 2, 0, self.memory.ndim, 1, 8, 1, shape, None, 0)
        make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
        return make(("PyCapsule_New", ctypes.pythonapi))(ctypes.addressof(self.held), b"dltensor", None)


@pytest.mark.parametrize("kind", [OldInterface, Tensor])
def test_a_producer_that_names_no_stream_is_waited_for(onnx_artifact, photos, tmp_path, monkeypatch, kind) -> None:
    world = simulated_cuda.install(monkeypatch)
    made = world.engine(tmp_path / "engine", onnx_artifact, profiles=((1, 1, 16),))
    name, output = onnx_artifact.manifest.inputs[0].name, onnx_artifact.manifest.outputs[0].name
    world.cuda.cudaSetDevice(0)
    stream = world.cuda.cudaStreamCreateWithFlags(1)[1] if kind is Tensor else 1
    world.cuda.streams.setdefault(1, simulated_cuda.Stream(0))  # CUDA's own handle of the default stream
    array = kind(world, stream, photos[:2])
    with tiffin.load(made, RunConfig(world.backend, "gpu")) as session:
        for n in range(4):
            wanted = session.run({name: photos[n : n + 2]})[output]
            array.write(photos[n : n + 2])
            np.testing.assert_array_equal(session.run({name: array})[output], wanted)


class NeedsGradient(Tensor):
    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        raise RuntimeError("use detach()")

    @__cuda_array_interface__.setter
    def __cuda_array_interface__(self, told: dict[str, object]) -> None:
        pass


def test_a_library_that_does_not_hand_an_array_over_says_why(onnx_artifact, photos, tmp_path, monkeypatch) -> None:
    world = simulated_cuda.install(monkeypatch)
    made = world.engine(tmp_path / "engine", onnx_artifact)
    with tiffin.load(made, RunConfig(world.backend, "gpu")) as session, pytest.raises(BadInput, match="use detach"):
        session.run({onnx_artifact.manifest.inputs[0].name: NeedsGradient(world, 1, photos[:1])})


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("Error Code 1: Cuda Runtime (an illegal memory access was encountered)", "failed to run the engine: Error"),
        ("[virtualMemoryBuffer.cpp] Error Code 2: OutOfMemory (Requested size was 4 bytes.)", "GPU 0 is out of memory"),
        ("Requested amount of GPU memory (4 bytes) could not be allocated.", "GPU 0 is out of memory"),
        ("Error Code 1: Cuda Runtime (out of memory)", "GPU 0 is out of memory"),
    ],
)
def test_only_want_of_memory_is_called_so(onnx_artifact, photos, tmp_path, monkeypatch, words: str, said: str) -> None:
    def fails(context: simulated_cuda.IExecutionContext, stream: int) -> bool:
        context._engine._logger.log(simulated_cuda.Severity.ERROR, words)
        return False

    world = simulated_cuda.install(monkeypatch, rtx=True)
    made = world.engine(tmp_path / "engine", onnx_artifact)
    monkeypatch.setattr(simulated_cuda.IExecutionContext, "execute_async_v3", fails)
    with tiffin.load(made, RunConfig(world.backend, "gpu")) as session, pytest.raises(EngineFailed, match=said):
        session.run({onnx_artifact.manifest.inputs[0].name: photos[:1]})


def test_want_of_host_memory_is_not_laid_to_the_gpu(onnx_artifact, photos, tmp_path, monkeypatch) -> None:
    world = simulated_cuda.install(monkeypatch)
    made = world.engine(tmp_path / "engine", onnx_artifact)
    world.cuda.failures["cudaMallocHost", 1] = simulated_cuda.Status.cudaErrorMemoryAllocation
    said = r"^out of memory: 0\.00 MB of pinned host memory asked"
    with tiffin.load(made, RunConfig(world.backend, "gpu")) as session, pytest.raises(EngineFailed, match=said):
        session.run({onnx_artifact.manifest.inputs[0].name: photos[:1]})


def test_what_an_engine_cannot_be_asked_is_refused_and_what_took_effect_is_told(
    onnx_artifact, tmp_path, monkeypatch
) -> None:
    world = simulated_cuda.install(monkeypatch)
    made = world.engine(tmp_path / "engine", onnx_artifact)
    for asked in ({"execution_precision": "fp16"}, {"graph_level": "none"}, {"device": "gpu:²"}, {"device": "cpu"}):
        with pytest.raises(BadInput):
            tiffin.load(made, RunConfig(world.backend, **{"device": "gpu", **asked}))
    with tiffin.load(made, RunConfig(world.backend, "gpu", threads=4, hint="throughput")) as session:
        assert session.applied.run == RunConfig(world.backend, "gpu", threads=1, hint="latency")


def test_gpu_tests_that_nothing_can_run_have_not_failed(monkeypatch) -> None:
    from tiffin.optimize import gpu_checks, selftest

    monkeypatch.setattr(selftest, "find_spec", lambda name: None)
    check = gpu_checks._tests_check(selftest._gpu_tests(lambda line: None))
    assert (check.outcome, check.words) == ("not run", "pytest is not installed")
