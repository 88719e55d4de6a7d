"""Boxes for boards, plain files, model repositories; what is written is read by those it is for."""

from __future__ import annotations

import configparser
import dataclasses
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import tiffin
from tiffin.artifact import Artifact, RunConfig, TensorSpec
from tiffin.artifact.bundle import Variant, open_box, pack
from tiffin.artifact.claims import write_claim
from tiffin.artifact.store import save
from tiffin.deploy import boards
from tiffin.deploy.beside import files_beside, ppm
from tiffin.deploy.boards import BOARDS, board_named, commands, engine_on, fit_to, wheel
from tiffin.deploy.kserve import write_kserve
from tiffin.deploy.ovms import write_ovms
from tiffin.deploy.plain import write_plain
from tiffin.deploy.triton import write_triton
from tiffin.deploy.unpack import extract, opened
from tiffin.errors import BadArtifact, BadInput
from tiffin.runtime import Classifier, load

ROOT = Path(tiffin.__file__).parent
ENGINE = {"library": "tensorrt", "engine_version": "10.3.0", "compute_capabilities": ["8.7"],
          "profiles": [[1, 1, 8]]}  # fmt: skip

Make = Callable[..., Artifact]


@pytest.fixture
def make(onnx_artifact: Artifact, tmp_path: Path) -> Make:
    """Artifacts whose manifest says something else; the model file stays."""

    def build(name: str, files: dict[str, bytes | Path] | None = None, **changes: Any) -> Artifact:
        manifest = dataclasses.replace(onnx_artifact.manifest, **changes)
        return save(tmp_path / "made" / name, manifest, files or {"model.onnx": onnx_artifact.model_path})

    return build


@pytest.fixture
def engine(make: Make) -> Make:
    """A TensorRT engine that says where it was built; its bytes are none."""

    def build(platform: str, inputs: tuple[TensorSpec, ...] | None = None, **told: Any) -> Artifact:
        stamp, changed = {**ENGINE, "platform": platform, **told}, {"inputs": inputs} if inputs else {}
        return make(f"engine-{platform}", {"model.engine": b"plan"}, format="tensorrt", built_for=stamp, **changed)

    return build


def variant(artifact: Artifact, backend: str, device: str = "") -> Variant:
    return Variant(artifact, RunConfig(backend, device or ("gpu" if backend.startswith("tensorrt") else "cpu")))


# Boards


@pytest.mark.parametrize(
    ("board", "scheme", "backend", "said"),
    [
        ("raspberry-pi", "tensorrt", "onnxruntime", "scheme tensorrt is for tensorrt"),
        ("raspberry-pi", "cpu", "tensorrt", "tensorrt is no engine of it"),
        ("raspberry-pi", None, "torch", "torch is no engine of it"),
        ("jetson", "cpu", "tensorrt", "scheme cpu is for onnxruntime"),
        ("jetson", "cpu", "openvino", "openvino is no engine of it"),
        ("x86", "tensorrt", "openvino", "scheme tensorrt is for tensorrt"),
        ("x86", "cpu-vnni", "openvino", "no VNNI"),
    ],
)
def test_what_a_board_cannot_run_rightly_is_refused(
    make: Make, board: str, scheme: str | None, backend: str, said: str
) -> None:
    artifact = make("a", precision="int8" if scheme else "fp32", scheme=scheme)
    with pytest.raises(BadInput, match=said) as caught:
        fit_to(BOARDS[board], [variant(artifact, backend)], keep_order=False)
    assert caught.value.fix


def test_an_engine_travels_to_no_board_but_one_like_the_one_that_built_it(engine: Make) -> None:
    foreign, own = variant(engine("linux-x86_64"), "tensorrt"), variant(engine("linux-aarch64"), "tensorrt")
    with pytest.raises(BadInput, match="built on linux-x86_64") as caught:
        fit_to(BOARDS["jetson"], [foreign], keep_order=False)
    assert "built on the board" in caught.value.fix
    with pytest.raises(BadInput, match="does not run there"):
        fit_to(BOARDS["raspberry-pi"], [own], keep_order=False)
    fitted = fit_to(BOARDS["jetson"], [own], keep_order=False)
    assert commands(BOARDS["jetson"], fitted.variants, Path("b.tiffin"))[-1] == "tiffin predict b.tiffin photo.jpg"


def test_fp8_and_bf16_are_refused_where_no_kernel_is(make: Make) -> None:
    with pytest.raises(BadInput, match="no fp8"):
        fit_to(BOARDS["jetson"], [variant(make("fp8", precision="fp8"), "tensorrt")], keep_order=False)
    assert engine_on(BOARDS["raspberry-pi"], make("bf16", precision="bf16")) == "openvino"
    assert engine_on(BOARDS["jetson"], make("bf16", precision="bf16")) == "tensorrt"


def test_the_usual_order_is_int8_first_on_cpus_and_half_floats_before_fp32_on_a_gpu(make: Make) -> None:
    held = {name: make(name, precision=name) for name in ("fp32", "fp16")}
    int8, dialect = make("int8", precision="int8", scheme="cpu"), make("trt", precision="int8", scheme="tensorrt")
    on_pi = [variant(each, "onnxruntime") for each in (held["fp16"], held["fp32"], int8)]
    assert [v.folder_name for v in fit_to(BOARDS["raspberry-pi"], on_pi, False).variants] == ["int8", "fp32", "fp16"]
    assert [v.folder_name for v in fit_to(BOARDS["raspberry-pi"], on_pi, True).variants] == ["fp16", "fp32", "int8"]
    on_jetson = [variant(each, "tensorrt") for each in (held["fp32"], held["fp16"], dialect)]
    assert [v.folder_name for v in fit_to(BOARDS["jetson"], on_jetson, False).variants] == ["trt", "fp16", "fp32"]


def test_what_may_go_wrong_on_a_board_is_said(make: Make) -> None:
    fp32, int8 = make("fp32"), make("int8", precision="int8", scheme="cpu")
    full = make("full", precision="int8", scheme="cpu-vnni")
    assert fit_to(BOARDS["x86"], [variant(fp32, "openvino")], False).warnings == ()
    (alone,) = fit_to(BOARDS["raspberry-pi"], [variant(int8, "onnxruntime")], False).warnings
    assert "refused without --allow-uncertified" in alone and "--cpu cortex-a76" in alone
    box = Path("box.tiffin")
    assert commands(BOARDS["raspberry-pi"], [variant(int8, "onnxruntime")], box)[-1].endswith("--allow-uncertified")
    both = [variant(int8, "onnxruntime"), variant(fp32, "onnxruntime")]
    assert commands(BOARDS["raspberry-pi"], both, box)[-1] == "tiffin predict box.tiffin photo.jpg"
    (beside,) = fit_to(BOARDS["x86"], [variant(int8, "openvino"), variant(fp32, "openvino")], False).warnings
    assert "fp32 is loaded instead" in beside
    said = " ".join(fit_to(BOARDS["x86"], [variant(full, "openvino"), variant(fp32, "openvino")], False).warnings)
    assert "right only where the CPU has VNNI" in said
    said = " ".join(fit_to(BOARDS["raspberry-pi"], [variant(full, "openvino")], False).warnings)
    assert "OpenVINO answers otherwise" in said and "VNNI" not in said  # no sum saturates on ARM
    assert "runs on the CPU there" in fit_to(BOARDS["jetson"], [variant(fp32, "onnxruntime")], False).warnings[0]


@pytest.mark.parametrize("board", BOARDS.values(), ids=list(BOARDS))
def test_the_commands_for_a_board_are_real(make: Make, board: boards.Board) -> None:
    extras = (ROOT / "pyproject.toml").read_text()
    for backend in board.engines:
        lines = commands(board, [variant(make(f"m-{backend}"), backend)], Path("food box.tiffin"))
        install = next(line for line in lines if line.startswith("pip install"))
        for name in re.search(rf'"\./{wheel()}\[(.*?)\]', install)[1].split(","):
            assert re.search(rf"^{name} = \[", extras, re.MULTILINE)
        for line in (line for line in lines if line.startswith("tiffin ")):
            parses(shlex.split(line)[1:])
        assert lines[-1].startswith("tiffin predict")


def parses(words: list[str]) -> None:
    """Raises for a command or an option that the real CLI has not."""
    import click
    import typer.main

    from tiffin.cli.app import app

    found = typer.main.get_command(app)
    command = found.get_command(click.Context(found), words[0])  # type: ignore[attr-defined]
    assert command is not None, words
    command.make_parser(click.Context(command)).parse_args(words[1:])


def test_an_unknown_board_is_named() -> None:
    with pytest.raises(BadInput, match="toaster"):
        board_named("toaster")


# The command line


def tell(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    from tiffin.cli.app import app

    app([str(word) for word in words], standalone_mode=False)
    return capsys.readouterr().out


def test_packing_for_a_board(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make("int8", precision="int8", scheme="cpu")
    monkeypatch.chdir(make("fp32").folder.parent)
    box = Path("food.tiffin")
    shown = tell(capsys, "pack", "fp32", "int8", "--board", "x86", "--out", box)
    assert [(v.folder_name, v.run.backend) for v in open_box(box).variants] == [
        ("int8", "openvino"), ("fp32", "openvino")]  # fmt: skip
    assert open_box(box).about["board"] == "x86"
    assert max(map(len, shown.splitlines())) <= 80
    assert f'pip install "./{wheel()}[openvino,photos]"' in shown and "tiffin predict food.tiffin photo.jpg" in shown
    assert "not verified" in shown
    listed = tell(capsys, "unpack", box)
    assert "int8@openvino" in listed and "as is usual on" in listed


def test_packing_says_what_is_loaded_instead_of_what_is_not_certified(
    make: Make, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make("int8", precision="int8", scheme="cpu")
    monkeypatch.chdir(make("fp32").folder.parent)

    def said(*words: str) -> str:
        return " ".join(tell(capsys, "pack", *words, "--out", "food.tiffin").split())

    certify = "certify first, then pack: `tiffin certify int8@onnxruntime`"
    assert said("int8", "fp32").endswith(
        f"certified for no CPU: int8@onnxruntime: fp32@onnxruntime is loaded instead; {certify}"
    )
    assert said("int8").endswith(f"int8@onnxruntime: refused without --allow-uncertified; {certify}")
    assert "certified for no CPU" not in said("fp32", "int8")


def test_a_refused_board_leaves_no_box(make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    artifact = make("trt", precision="int8", scheme="tensorrt")
    with pytest.raises(BadInput):
        tell(capsys, "pack", artifact.folder, "--board", "x86", "--out", tmp_path / "b.tiffin")
    assert not (tmp_path / "b.tiffin").exists()


def test_a_jetson_gets_the_onnx_model_in_tensorrts_dialect(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact = make("trt", precision="int8", scheme="tensorrt")
    shown = tell(capsys, "pack", artifact.folder, "--board", "jetson", "--out", tmp_path / "b.tiffin")
    (held,) = open_box(tmp_path / "b.tiffin").variants
    assert (held.artifact.manifest.format, held.run.backend, held.run.device) == ("onnx", "tensorrt", "gpu")
    assert "tiffin compile trt --backend tensorrt --out engine" in shown and "cuda-bindings<13" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("unpack", "{a}", "--plain"), "without --out"),
        (("unpack", "nowhere"), "no such folder"),
        (("unpack", "{a}/model.onnx"), "no box .*\n  expected: a .tiffin file"),
        (("unpack", "nowhere.tiffin"), "no such file"),
        (("export-repository", "{a}", "--for", "torchserve"), "torchserve"),
        (("export-repository", "{a}", "--for", "ovms", "--max-batch", "4"), "--max-batch with"),
        (("export-repository", "{a}", "--for", "triton", "--storage-uri", "s3://b"), "--storage-uri with"),
        (("export-repository", "{a}", "--for", "triton", "--name", "../x"), "model name"),
    ],
)
def test_wrong_words(
    onnx_artifact: Artifact, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        tell(capsys, *(word.format(a=onnx_artifact.folder) for word in words))


# Folders again


def test_artifacts_come_out_of_a_box_as_they_went_in(make: Make, tmp_path: Path) -> None:
    one, two = make("one"), make("two", temperature=2.0)
    write_claim(one, "score", {"top1": 0.9})
    pack(tmp_path / "b.tiffin", [variant(one, "onnxruntime"), variant(two, "null")], {})
    box = opened(tmp_path / "b.tiffin")
    copies = [extract(v.artifact, tmp_path / "out" / v.folder_name) for v in box.variants]
    assert [copy.digest for copy in copies] == [one.digest, two.digest]
    assert (copies[0].folder / "claims/score.json").is_file() and copies[1].manifest.temperature == 2.0


def test_what_was_certified_there_stays_where_the_same_artifact_comes_again(make: Make, tmp_path: Path) -> None:
    one, other = make("one"), make("two", temperature=2.0)
    copy = extract(one, tmp_path / "out")
    write_claim(copy, "score", {"top1": 0.9})
    assert (extract(one, tmp_path / "out").folder / "claims/score.json").is_file()
    assert not (extract(other, tmp_path / "out").folder / "claims/score.json").exists()


def test_plain_files_of_several_variants_lie_apart(
    make: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(tmp_path / "b.tiffin", [variant(make("one"), "onnxruntime"), variant(make("two"), "openvino")], {})
    tell(capsys, "unpack", tmp_path / "b.tiffin", "--plain", "--out", tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["one@onnxruntime", "two@openvino"]


# Plain files


def test_whoever_follows_preprocess_json_makes_the_prepared_bytes(openvino_artifact: Artifact, tmp_path: Path) -> None:
    write_plain(openvino_artifact, tmp_path / "out")
    told = json.loads((tmp_path / "out/preprocess.json").read_text())
    with Image.open(tmp_path / "out" / told["proof"]["picture"]) as picture:
        high, wide = told["resize_to_at_least"]
        scale = max(high / picture.height, wide / picture.width)
        size = (round(picture.width * scale), round(picture.height * scale))
        resized = picture.resize(size, getattr(Image.Resampling, told["interpolation"].upper()))
    left, top = (size[0] - told["width"]) // 2, (size[1] - told["height"]) // 2
    mine = resized.crop((left, top, left + told["width"], top + told["height"]))
    with Image.open(tmp_path / "out" / told["proof"]["prepared"]) as prepared:
        assert mine.tobytes() == prepared.tobytes()
    assert told["input"]["dtype"] == "uint8" and told["input"]["shape"] == [None, 32, 32, 3]
    assert told["proof"]["sha256_of_pixels"] == openvino_artifact.preprocess.golden["rgb"]
    assert (tmp_path / "out/labels.txt").read_text().split() == list(openvino_artifact.manifest.labels)
    for file in openvino_artifact.manifest.files:
        assert (tmp_path / "out" / file.name).read_bytes() == (openvino_artifact.folder / file.name).read_bytes()


def test_a_machine_that_prepares_otherwise_writes_nothing(make: Make, tmp_path: Path) -> None:
    rule = make("a").preprocess
    other = make("b", preprocess=dataclasses.replace(rule, golden={"rgb": "0" * 64}))
    with pytest.raises(BadArtifact, match="prepared otherwise"):
        write_plain(other, tmp_path / "out")
    assert not (tmp_path / "out").exists()


WRITERS = {
    "plain": lambda artifact, out: write_plain(artifact, out / "model"),
    "triton": lambda artifact, out: write_triton(artifact, out, "model"),
    "ovms": lambda artifact, out: write_ovms(artifact, out, "model"),
    "kserve": lambda artifact, out: write_kserve(artifact, out / "model", "model"),
}


@pytest.fixture(params=WRITERS)
def write(request: pytest.FixtureRequest) -> Callable[[Artifact, Path], Any]:
    """Each way out; all write OUT/model."""
    return WRITERS[request.param]


def test_nothing_foreign_is_overwritten_and_what_is_ours_is(
    write: Callable[..., Any], onnx_artifact: Artifact, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="exists"):
        write(onnx_artifact, tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "thesis.txt"]
    (folder / "thesis.txt").unlink()
    for _ in range(2):
        write(onnx_artifact, tmp_path)
    assert (folder / "labels.txt").is_file() and not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("mine", ["my_app.cpp", "labels.txt"])
def test_what_was_added_or_changed_there_is_not_written_over(
    write: Callable[..., Any], onnx_artifact: Artifact, tmp_path: Path, mine: str
) -> None:
    write(onnx_artifact, tmp_path)
    (tmp_path / "model" / mine).write_text("years of work")
    with pytest.raises(BadInput, match=f"holds '{mine}', which tiffin did not write so"):
        write(onnx_artifact, tmp_path)
    assert (tmp_path / "model" / mine).read_text() == "years of work"


def test_a_full_disk_leaves_nothing(
    write: Callable[..., Any], onnx_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(BadInput, match="No space left"):
        write(onnx_artifact, tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": ()}, "no classifier"),
        ({"preprocess": None, "task": "detection"}, "no classifier"),
        ({"format": "pt2"}, "pt2"),
    ],
)
def test_what_cannot_be_written_is_refused(
    write: Callable[..., Any], make: Make, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        write(make("odd", **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_engine_of_tensorrt_comes_without_a_program(engine: Make, tmp_path: Path) -> None:
    assert write_plain(engine("linux-aarch64"), tmp_path / "out") == ()
    assert "trtexec" in (tmp_path / "out/README.txt").read_text() and not (tmp_path / "out/cpp").exists()


# C++

needs_cmake = pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("c++")), reason="no cmake or no c++")


def compiled(folder: Path, engine: str, *words: str) -> Path:
    """Build one program of a plain folder; the others' engines are kept out of sight."""
    other = {"openvino": "onnxruntime", "onnxruntime": "openvino"}[engine]
    (folder / f"cpp/{other}.cpp").unlink(missing_ok=True)
    build = folder / "build"
    for command in (["cmake", "-S", str(folder / "cpp"), "-B", str(build), *words], ["cmake", "--build", str(build)]):
        ended = subprocess.run(command, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
    return build / f"classify_{engine}"


def openvino_words() -> list[str]:
    pytest.importorskip("openvino")
    folder = Path(find_spec("openvino").origin).parent / "cmake"  # type: ignore[union-attr, arg-type]
    if not folder.is_dir():
        pytest.skip("this wheel of openvino has no cmake files")
    return [f"-DOpenVINO_DIR={folder}"]


def onnxruntime_words(tmp_path: Path) -> list[str]:
    """Headers are in no wheel: they come from $ONNXRUNTIME_INCLUDE or the system; the library is the wheel's."""
    pytest.importorskip("onnxruntime")
    places = [os.environ.get("ONNXRUNTIME_INCLUDE"), "/usr/include/onnxruntime", "/usr/local/include/onnxruntime"]
    found = [place for place in places if place and (Path(place) / "onnxruntime_cxx_api.h").is_file()]
    if not found:
        pytest.skip("no onnxruntime_cxx_api.h: install libonnxruntime-dev, or set $ONNXRUNTIME_INCLUDE")
    capi = Path(find_spec("onnxruntime").origin).parent / "capi"  # type: ignore[union-attr, arg-type]
    libraries = list(capi.glob("libonnxruntime.so.*"))
    if not libraries:
        pytest.skip("this wheel of onnxruntime has no shared library")
    (tmp_path / "lib").mkdir()
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):  # its own name, which the wheel's file has not
        (tmp_path / "lib" / name).symlink_to(libraries[0])
    return [f"-DONNXRUNTIME_INCLUDE={found[0]}", f"-DONNXRUNTIME_LIBRARY={tmp_path / 'lib/libonnxruntime.so'}"]


def answers_as_we_do(program: Path, folder: Path, artifact: Artifact, backend: str, photo: np.ndarray) -> None:
    """PPM and bare bytes give our logits; the top label and its probability are ours, temperature and all."""
    with load(artifact, backend) as session:
        classifier = Classifier(session)
        logits = classifier(photo[None])
        best = classifier.rank(logits)[0]
    (folder / "photo.ppm").write_bytes(ppm(photo))
    (folder / "photo.rgb").write_bytes(photo.tobytes())

    def run(*words: str) -> str:
        ended = subprocess.run([program, folder, *words], capture_output=True, text=True)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    for name in ("photo.ppm", "photo.rgb"):
        mine = np.array(run(str(folder / name), "--logits").split(), np.float32)
        np.testing.assert_allclose(mine, logits[0], rtol=1e-5, atol=1e-5)
    lines = [line.split("%  ") for line in run(str(folder / "photo.ppm")).splitlines()]
    assert [label for _, label in lines] == [guess.label for guess in best]
    assert [float(score) for score, _ in lines] == pytest.approx([100 * guess.score for guess in best], abs=0.11)
    (folder / "wrong.ppm").write_bytes(b"P6\n# a comment\n4 4\n255\n" + bytes(48))
    (folder / "cut.ppm").write_bytes(ppm(photo)[:-1])
    for name, said in (("wrong.ppm", "not 32 x 32"), ("cut.ppm", "bytes, expected"), ("none.ppm", "cannot be read")):
        ended = subprocess.run([program, folder, str(folder / name)], capture_output=True, text=True)
        assert ended.returncode == 1 and said in ended.stderr


@needs_cmake
def test_the_openvino_program_answers_as_we_do(make: Make, photos: np.ndarray, tmp_path: Path) -> None:
    artifact = make("warm", temperature=1.7)
    write_plain(artifact, tmp_path / "plain")
    program = compiled(tmp_path / "plain", "openvino", *openvino_words())
    answers_as_we_do(program, tmp_path / "plain", artifact, "openvino", photos[0])


@needs_cmake
def test_the_openvino_program_reads_an_ir(openvino_artifact: Artifact, photos: np.ndarray, tmp_path: Path) -> None:
    assert write_plain(openvino_artifact, tmp_path / "plain") == ("openvino",)
    program = compiled(tmp_path / "plain", "openvino", *openvino_words())
    answers_as_we_do(program, tmp_path / "plain", openvino_artifact, "openvino", photos[1])


@needs_cmake
def test_the_onnxruntime_program_answers_as_we_do(make: Make, photos: np.ndarray, tmp_path: Path) -> None:
    artifact = make("warm", temperature=1.7)
    write_plain(artifact, tmp_path / "plain")
    program = compiled(tmp_path / "plain", "onnxruntime", *onnxruntime_words(tmp_path))
    answers_as_we_do(program, tmp_path / "plain", artifact, "onnxruntime", photos[0])


@needs_cmake
def test_without_an_engine_cmake_says_so(onnx_artifact: Artifact, tmp_path: Path) -> None:
    write_plain(onnx_artifact, tmp_path / "plain")
    hidden = ["-DCMAKE_DISABLE_FIND_PACKAGE_OpenVINO=ON", "-DONNXRUNTIME_INCLUDE=", "-DONNXRUNTIME_LIBRARY="]
    words = ["cmake", "-S", tmp_path / "plain/cpp", "-B", tmp_path / "build", *hidden]
    ended = subprocess.run(words, capture_output=True, text=True)
    if "classify_onnxruntime" not in ended.stderr and ended.returncode == 0:
        pytest.skip("ONNX Runtime is installed in this system")
    assert "no engine was found" in ended.stderr


# Repositories


def config_of(artifact: Artifact, out: Path, **options: Any) -> str:
    return (write_triton(artifact, out, "food", **options).folder / "config.pbtxt").read_text()


def test_triton_joins_requests_to_an_onnx_model(onnx_artifact: Artifact, tmp_path: Path) -> None:
    text = " ".join(config_of(onnx_artifact, tmp_path).split())
    for part in ('name: "food" backend: "onnxruntime" max_batch_size: 16', "data_type: TYPE_UINT8 dims: [ 32, 32, 3 ]",
                 'data_type: TYPE_FP32 dims: [ 4 ] label_filename: "labels.txt"', "kind: KIND_CPU",
                 "dynamic_batching {"):  # fmt: skip
        assert part in text
    assert sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()) == [
        "food/.tiffin.json", "food/1/model.onnx", "food/config.pbtxt", "food/labels.txt", "food/pattern.ppm",
        "food/prepared.ppm", "food/preprocess.json"]  # fmt: skip
    assert "dynamic_batching" not in config_of(onnx_artifact, tmp_path, max_batch=1)


def test_tritons_openvino_backend_gets_the_batch_dimension_or_padding(
    openvino_artifact: Artifact, tmp_path: Path
) -> None:
    plain, joined = config_of(openvino_artifact, tmp_path), config_of(openvino_artifact, tmp_path, max_batch=4)
    assert "max_batch_size: 0" in plain and "dims: [ -1, 32, 32, 3 ]" in plain and "dynamic_batching" not in plain
    assert "max_batch_size: 4" in joined and "ENABLE_BATCH_PADDING" in joined and "dims: [ 32, 32, 3 ]" in joined
    assert "bfloat16" in write_triton(openvino_artifact, tmp_path, "food").notes[0]
    assert {path.name for path in (tmp_path / "food/1").iterdir()} == {"model.xml", "model.bin"}


def test_triton_loads_an_engine_as_a_plan_of_its_own_batch(engine: Make, tmp_path: Path) -> None:
    built = engine("linux-x86_64")
    assert "max_batch_size: 8" in config_of(built, tmp_path) and "KIND_GPU" in config_of(built, tmp_path)
    assert (tmp_path / "food/1/model.plan").read_bytes() == b"plan"
    with pytest.raises(BadInput, match="max batch 9"):
        config_of(built, tmp_path, max_batch=9)


@pytest.mark.parametrize(("dtype", "word"), [("float64", "FP64"), ("uint16", "UINT16")])
def test_triton_is_told_the_type_by_its_word(make: Make, tmp_path: Path, dtype: str, word: str) -> None:
    artifact = make("a", outputs=(TensorSpec("logits", dtype, (None, 4)),))
    assert f"data_type: TYPE_{word}" in config_of(artifact, tmp_path)


def test_a_type_without_a_word_is_refused(make: Make, tmp_path: Path) -> None:
    artifact = make("a", outputs=(TensorSpec("logits", "bfloat16", (None, 4)),))
    with pytest.raises(BadInput, match="logits' of bfloat16"):
        config_of(artifact, tmp_path)
    assert not (tmp_path / "food").exists()


@pytest.mark.parametrize(
    ("profiles", "asked", "batch", "named"),
    [
        ([[1, 1, 1], [2, 8, 8]], None, 8, '"0", "1"'),
        ([[1, 1, 1], [2, 8, 8]], 1, 1, '"0"'),
        ([[8, 8, 16], [1, 1, 2]], None, 2, '"1"'),  # Triton neither splits nor pads 3 photos
    ],
)
def test_triton_gets_the_profiles_that_a_request_can_come_to(
    engine: Make, tmp_path: Path, profiles: list[list[int]], asked: int | None, batch: int, named: str
) -> None:
    text = config_of(engine("linux-x86_64", profiles=profiles), tmp_path, max_batch=asked)
    assert f"max_batch_size: {batch}" in text and f"profile: [ {named} ]" in text


def test_an_engine_that_triton_would_not_serve_is_refused(engine: Make, tmp_path: Path) -> None:
    for write in (write_triton, write_kserve):
        with pytest.raises(BadInput, match="without weights") as caught:
            write(engine("linux-x86_64", stripped=True), tmp_path / "out", "food")
        assert "--strip-weights" in caught.value.fix
        with pytest.raises(BadInput, match="no optimization profile for one photo"):
            write(engine("linux-x86_64", profiles=[[2, 8, 8]]), tmp_path / "out", "food")
    assert not (tmp_path / "out").exists()


def test_triton_is_told_of_a_version_compatible_engine(engine: Make, tmp_path: Path) -> None:
    built, word = engine("linux-x86_64", version_compatible=True), "--backend-config=tensorrt,version-compatible=true"
    written = write_triton(built, tmp_path / "triton", "food")
    assert shlex.split(written.start)[-1] == word and "10.3.0 or newer" in written.notes[0]
    write_kserve(built, tmp_path / "kserve", "food")
    resource = yaml.safe_load((tmp_path / "kserve/inferenceservice.yaml").read_text())
    assert resource["spec"]["predictor"]["model"]["args"] == [word]
    assert word not in write_triton(engine("linux-x86_64"), tmp_path / "other", "food").start


def test_another_dialect_is_not_served(make: Make, tmp_path: Path) -> None:
    dialect = make("trt", precision="int8", scheme="tensorrt")
    for write in (write_triton, write_ovms, write_kserve):
        with pytest.raises(BadInput, match="scheme tensorrt"):
            write(dialect, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_fixed_batch_is_written_as_it_is(make: Make, engine: Make, tmp_path: Path) -> None:
    fixed = dataclasses.replace(make("a").manifest.inputs[0], shape=(2, 32, 32, 3))
    artifact = make("fixed", inputs=(fixed,))
    assert "max_batch_size: 0" in config_of(artifact, tmp_path) and "[ 2, 32, 32, 3 ]" in config_of(artifact, tmp_path)
    for asked in (2, 4):
        with pytest.raises(BadInput, match=f"max batch {asked}") as caught:
            config_of(artifact, tmp_path, max_batch=asked)
        assert caught.value.expected == "no --max-batch: the model's batch is fixed at 2"
    assert write_plain(artifact, tmp_path / "plain") == ()  # its programs feed one photo
    built = engine("linux-x86_64", profiles=[[2, 2, 2]], inputs=(fixed,))
    assert "max_batch_size: 0" in config_of(built, tmp_path) and "[ 2, 32, 32, 3 ]" in config_of(built, tmp_path)


def test_commands_that_start_servers_quote_their_paths(make: Make, tmp_path: Path) -> None:
    out, artifact = tmp_path / "my models", make("a")
    for written, word in (
        (write_triton(artifact, out / "triton", "food"), f"{out}/triton:/models"),
        (write_ovms(artifact, out / "ovms", "food"), f"{out}/ovms:/models:ro"),
        (write_kserve(artifact, out / "kserve", "food"), f"{out}/kserve/inferenceservice.yaml"),
    ):
        assert word in shlex.split(written.start)


def test_the_model_servers_configuration_lists_each_model_once(
    onnx_artifact: Artifact, openvino_artifact: Artifact, tmp_path: Path
) -> None:
    write_ovms(onnx_artifact, tmp_path, "one")
    for _ in range(2):
        written = write_ovms(openvino_artifact, tmp_path, "two")
    listed = [entry["config"] for entry in json.loads((tmp_path / "config.json").read_text())["model_config_list"]]
    assert [(each["name"], each["base_path"]) for each in listed] == [("one", "/models/one"), ("two", "/models/two")]
    assert {each["plugin_config"]["INFERENCE_PRECISION_HINT"] for each in listed} == {"f32"}
    assert {path.name for path in (tmp_path / "two/1").iterdir()} == {"model.xml", "model.bin"}
    assert "--config_path /models/config.json" in written.start


@pytest.mark.parametrize("text", ['{"name": "mine"}', "[]", '{"model_config_list": [3]}', "no json"])
def test_a_foreign_configuration_stays(onnx_artifact: Artifact, tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(BadInput, match="no configuration of OpenVINO"):
        write_ovms(onnx_artifact, tmp_path, "one")
    assert (tmp_path / "config.json").read_text() == text and not (tmp_path / "one").exists()


def test_kserves_resource_names_runtime_format_and_storage(
    onnx_artifact: Artifact, openvino_artifact: Artifact, tmp_path: Path
) -> None:
    found = {}
    for artifact, name in ((onnx_artifact, "food-1"), (openvino_artifact, "food-2")):
        write_kserve(artifact, tmp_path / name, name, "s3://bucket/food")
        resource = yaml.safe_load((tmp_path / name / "inferenceservice.yaml").read_text())
        assert (resource["apiVersion"], resource["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
        assert resource["metadata"]["name"] == name
        found[name] = resource["spec"]["predictor"]["model"]
        assert found[name]["protocolVersion"] == "v2" and found[name]["storageUri"] == "s3://bucket/food"
        assert all(isinstance(v, str) for part in found[name]["resources"].values() for v in part.values())
    assert found["food-1"]["modelFormat"] == {"name": "onnx", "version": "1"}
    assert found["food-2"]["modelFormat"] == {"name": "openvino", "version": "10"}
    (argument,) = found["food-2"]["args"]
    assert json.loads(argument.removeprefix("--plugin_config="))["INFERENCE_PRECISION_HINT"] == "f32"
    assert (tmp_path / "food-1/storage/food-1/config.pbtxt").is_file()
    assert (tmp_path / "food-2/storage/1/model.xml").is_file() and (tmp_path / "food-2/labels.txt").is_file()


@pytest.mark.parametrize("name", ["Food", "1food", "food_1", "f" * 64, "food-"])
def test_a_resources_name_is_a_dns_label(onnx_artifact: Artifact, tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="InferenceService"):
        write_kserve(onnx_artifact, tmp_path / "out", name)


@pytest.mark.slow  # installs tritonclient, which wants an older protobuf than ours, in an environment of its own
def test_tritons_own_schema_reads_the_configuration(
    onnx_artifact: Artifact, openvino_artifact: Artifact, engine: Make, tmp_path: Path
) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "tritonclient[grpc]", "packaging"], check=True)
    code = (
        "import sys; from google.protobuf import text_format; from tritonclient.grpc import model_config_pb2 as m\n"
        "print(text_format.Parse(open(sys.argv[1]).read(), m.ModelConfig()).input[0].data_type == m.TYPE_UINT8)"
    )
    for artifact in (onnx_artifact, openvino_artifact, engine("linux-x86_64")):
        path = write_triton(artifact, tmp_path / "repository", "food").folder / "config.pbtxt"
        ended = subprocess.run([python, "-c", code, path], capture_output=True, text=True)
        assert ended.stdout.strip() == "True", ended.stderr


# Examples

EXAMPLES = ROOT / "docs/examples"


def served(words: list[str]) -> None:
    if find_spec("tiffin.cli.serve") is None:
        pytest.skip("this tree has no `tiffin serve`")
    parses(["serve", *words])


def test_the_dockerfile_runs_as_nobody_and_starts_a_real_command() -> None:
    text = (EXAMPLES / "Dockerfile").read_text().replace("\\\n", " ")
    steps = [line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith("#")]
    assert {word for word, _ in steps} <= {"FROM", "ARG", "COPY", "RUN", "ENV", "USER", "EXPOSE", "STOPSIGNAL",
                                           "HEALTHCHECK", "ENTRYPOINT", "CMD"}  # fmt: skip
    last = dict(steps)
    assert last["FROM"].endswith("-slim") and last["USER"] not in ("root", "0")
    assert "/v2/health/ready" in last["HEALTHCHECK"]
    assert json.loads(last["ENTRYPOINT"]) == ["tiffin", "serve"]
    served(json.loads(last["CMD"]))


def test_the_systemd_unit_is_one_and_starts_a_real_command(tmp_path: Path) -> None:
    parsed = configparser.ConfigParser(interpolation=None, delimiters=("=",))
    parsed.optionxform = str  # type: ignore[assignment, method-assign]
    text = (EXAMPLES / "tiffin-serve.service").read_text()
    parsed.read_string(text)
    assert parsed.sections() == ["Unit", "Service", "Install"]
    for name in ("NoNewPrivileges", "DynamicUser", "PrivateDevices"):
        assert parsed["Service"][name] == "yes"
    if shutil.which("systemd-analyze"):
        (tmp_path / "tiffin-serve.service").write_text(text.replace("/opt/tiffin/bin/tiffin", sys.executable))
        words = ["systemd-analyze", "verify", tmp_path / "tiffin-serve.service"]
        ended = subprocess.run(words, capture_output=True, text=True)
        assert (ended.returncode, ended.stderr) == (0, "")
    program, command, *words = shlex.split(parsed["Service"]["ExecStart"])
    assert (Path(program).name, command) == ("tiffin", "serve")
    served(words)


def test_files_beside_are_the_four(onnx_artifact: Artifact) -> None:
    assert sorted(files_beside(onnx_artifact)) == ["labels.txt", "pattern.ppm", "prepared.ppm", "preprocess.json"]
