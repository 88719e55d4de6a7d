"""cli/: the whole way through the commands, every bad input as one clear error, and what a terminal sees."""

from __future__ import annotations

import ast
import dataclasses
import errno
import json
import math
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

import tiffin
from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.bundle import Variant, open_box
from tiffin.artifact.certificate import Certificate
from tiffin.artifact.store import save
from tiffin.benchmarks.options import Status
from tiffin.cli import render
from tiffin.cli.app import app
from tiffin.cli.options import candidates, split_engine
from tiffin.cli.ship import _by_speed
from tiffin.errors import command
from tiffin.records import Predictions, Record, Rounds, Subject
from tiffin.records.certification import Evidence, figures, write_certificate
from tiffin.records.record import load_record
from tiffin.records.stopping import Precision
from tiffin.runtime.backends import installed
from tiffin.tests.command import Ended, Run

ROOT = Path(tiffin.__file__).parent
COMMAND = [sys.executable, "-c", "from tiffin.cli.app import main; main()"]
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


NOT_OURS = (".verified.json", ".ses")  # our stamp; a file that onnxruntime leaves in $TMPDIR


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, onnx_artifact: Artifact) -> Path:
    """An empty working folder but for the fp32 artifact."""
    shutil.copytree(onnx_artifact.folder, tmp_path / "fp32")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def files(folder: Path) -> set[Path]:
    """All but what only saves time."""
    found = (path for path in folder.rglob("*") if path.is_file() or path.name.startswith("."))
    return {path for path in found if "cache" not in path.parts and path.name not in NOT_OURS}


@pytest.fixture
def refused(run_tiffin: Run, here: Path) -> Run:
    """Run a command that must fail with one clear error and leave nothing behind."""

    def run(*words: object, code: int = 2) -> Ended:
        before = files(here)
        ended = run_tiffin(*words)
        assert ended.code == code, ended.err
        assert len(re.findall(r"^error: ", ended.err, re.M)) == 1 and "\n  expected: " in ended.err
        assert "Traceback" not in ended.err and "internal error" not in ended.err
        assert files(here) == before
        return ended

    return run


# The whole way


@pytest.fixture
def ok(run_tiffin: Run) -> Run:
    def run(*words: object) -> Ended:
        ended = run_tiffin(*words)
        assert ended.code == 0, ended.err
        return ended

    return run


def test_the_whole_way(ok: Run, here: Path, checkpoint_file: Path, photo_folder: Path) -> None:
    photo = photo_folder / "test/leek/00.png"
    exported = ok("export", checkpoint_file, "--data", photo_folder, "--photos", 8, "--out", "out/fp32")
    assert "parity on 8 photos" in exported.out and "next: tiffin quantize out/fp32" in exported.err
    quantized = ok("quantize", "out/fp32", "--data", photo_folder, "--per-class", 2, "--out", "out/int8")
    assert "wrote out/int8" in quantized.out and "photos 8" in quantized.err
    assert ok("compile", "out/int8").out.startswith("wrote out/int8-openvino")

    said = ok("predict", "out/int8-openvino", photo, "--json", "--threads", 1)
    (line,) = said.out.splitlines()
    guesses = json.loads(line)["top"]
    assert len(guesses) == 4 and abs(sum(guess["score"] for guess in guesses) - 1) < 1e-6
    assert guesses == sorted(guesses, key=lambda guess: -guess["score"])

    benched = ok(
        "bench", "out/fp32", "out/int8@onnxruntime", "--launches", 2, "--blocks", 2, "--block-s", 0.01,
        "--target", 0.9, "--threads", 1, "--out", "out/bench.json", "--json",
    )  # fmt: skip
    rows = json.loads(benched.out)["rows"]
    assert [row["name"] for row in rows] == ["fp32@onnxruntime", "int8@onnxruntime"]
    assert all(row["latency"]["p50_s"]["value"] > 0 and row["applied"]["threads"] == 1 for row in rows)
    assert rows[0]["ratio"] is None and rows[1]["ratio"]["ratio"]["n"] >= 2 and rows[1]["ratio"]["speed"]
    assert all(row["ended"] in ("converged", "noisy", "time limit") for row in rows)
    assert Path("out/bench.json").is_file() and Path("out/bench.npz").is_file()

    scored = ok("score", "out/int8", "out/fp32", "--reference", "out/fp32", "--data", photo_folder, "--json")
    rows = {row["name"].split("@")[0]: row for row in json.loads(scored.out)["rows"]}
    assert rows["fp32"]["flips"] == 0 and rows["int8"]["agreement"]["value"] >= 0.8
    assert rows["fp32"]["top1"]["value"] > 0.5

    table = ok("show", "out/score.json", "--markdown").out
    assert table.startswith("| candidate |") and "| int8@onnxruntime |" in table and "48 photos (confirm)" in table
    text = ok("show", "out/score.json").out
    assert "top-1 %" in text and max(map(len, text.splitlines())) <= 80
    bench = ok("show", "out/bench.json").out
    assert all(words in bench for words in ("p50 ms (95 %)", "× first (95 %)", "verdict", "p99≤ ms", "back-to-back"))
    assert "cold start, s" not in bench
    details = ok("show", "out/bench.json", "--details").out
    assert "photo to label, ms" in details and "cold start, s" in details and "inference" in details
    assert max(map(len, (bench + details).splitlines())) <= 80
    assert left_over(here) == []


def left_over(folder: Path) -> list[Path]:
    """Drafts: hidden files and folders that were to take another name."""
    return [path for path in folder.rglob("*") if path.name.startswith(".") and path.name not in NOT_OURS]


def test_flips_count_against_the_reference_wherever_it_stands(ok: Run, here: Path, photo_folder: Path) -> None:
    ok("quantize", "fp32", "--precision", "fp16")
    words = ("score", "fp32-fp16", "fp32", "--reference", "fp32", "--data", photo_folder, "--photos", 8)
    ended = ok(*words)
    assert "reference fp32@onnxruntime" in ended.err and "flips against fp32@onnxruntime" in " ".join(ended.out.split())


def test_pt2_is_exported_without_photos(ok: Run, here: Path, checkpoint_file: Path, photo_folder: Path) -> None:
    ended = ok("export", checkpoint_file, "--format", "pt2", "--out", "program")
    assert "next: tiffin bench program" in ended.err
    found = ok("predict", "program", photo_folder / "test/pear/00.png", "--top", 2, "--threads", 1)
    assert len(found.out.splitlines()) == 3 and "%" in found.out


def test_predict_in_words(ok: Run, here: Path, photo_folder: Path) -> None:
    photos = [photo_folder / f"test/{name}/01.jpg" for name in ("apple", "milk")]
    ended = ok("predict", "fp32", *photos, "--backend", "openvino", "--top", 1)
    assert [str(photo) in ended.out for photo in photos] == [True, True] and len(ended.out.splitlines()) == 4
    assert "backend openvino" in ended.err and "precision fp32" in ended.err


def test_a_folder_may_be_named_by_a_dot(ok: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here / "fp32")
    ok("quantize", ".", "--precision", "fp16")
    assert (here / "fp32-fp16/manifest.json").is_file()


def test_engines_are_listed(ok: Run) -> None:
    listed = {entry["backend"] for entry in json.loads(ok("backends", "--json").out)["backends"]}
    assert {"onnxruntime", "openvino", "torch", "tensorrt", "tensorrt_rtx", "null"} <= listed
    text = ok("backends").out
    assert all(name in text for name in listed)


# Bad inputs, one after another


@pytest.fixture
def weights(here: Path, checkpoint_file: Path) -> Path:
    for ending in (".safetensors", ".json"):
        shutil.copy(checkpoint_file.with_suffix(ending), here / f"mine{ending}")
    return here / "mine.safetensors"


def test_a_missing_checkpoint(refused: Run) -> None:
    assert "absent.safetensors" in refused("export", "absent.safetensors").err


@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_corrupt_checkpoint(refused: Run, weights: Path, kept: int) -> None:
    weights.write_bytes(weights.read_bytes()[:kept])
    assert "its bytes changed" in refused("export", weights).err
    meta = json.loads(weights.with_suffix(".json").read_text())
    del meta["sha256"]  # nobody told what they were
    weights.with_suffix(".json").write_text(json.dumps(meta))
    assert "mine.safetensors: cannot be read" in refused("export", weights).err


def test_a_wrong_number_of_classes(refused: Run, weights: Path) -> None:
    meta = json.loads(weights.with_suffix(".json").read_text())
    weights.with_suffix(".json").write_text(json.dumps({**meta, "labels": meta["labels"][:3]}))
    ended = refused("export", weights)
    assert "head.weight (4, 16) for (3, 16)" in ended.err and "as many labels" in ended.err


@pytest.mark.parametrize("content", [None, b"", b"no photo", b"\xff\xd8\xff\xe0 half a header"])
def test_an_unreadable_photo(refused: Run, here: Path, photo_folder: Path, content: bytes | None) -> None:
    if content is not None:
        (here / "photo.jpg").write_bytes(content)
    assert "photo.jpg" in refused("predict", "fp32", "photo.jpg", "--threads", 1, code=1).err


@pytest.mark.parametrize(
    "words", [("score", "fp32"), ("quantize", "fp32", "--per-class", 12), ("export", "mine.safetensors")]
)
def test_an_unreadable_photo_of_a_dataset(
    refused: Run, here: Path, weights: Path, photo_folder: Path, words: tuple[object, ...]
) -> None:
    for split in ("train", "val", "test"):
        shutil.copytree(photo_folder / split, here / "data" / split)
        broken = here / "data" / split / "leek/03.jpg"
        broken.write_bytes(broken.read_bytes()[:300])
    ended = refused(*words, "--data", "data")
    assert "leek/03.jpg" in ended.err and left_over(here) == []


def harm(artifact: Path, change: Callable[[bytes], bytes]) -> None:
    model = artifact / "model.onnx"
    model.write_bytes(change(model.read_bytes()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: b"", "0 bytes"),
        (lambda content: content[:1000], "1,000 bytes"),
        (lambda content: content[:500] + bytes([content[500] ^ 1]) + content[501:], "its bytes changed"),
    ],
)
@pytest.mark.parametrize(
    "words",
    [("predict", "fp32", "x.jpg"), ("quantize", "fp32"), ("compile", "fp32"), ("bench", "fp32"), ("score", "fp32")],
)
def test_a_model_that_is_not_what_was_written(refused: Run, here: Path, change, said: str, words) -> None:
    harm(here / "fp32", change)
    assert said in refused(*words).err


def test_a_broken_model_with_a_true_manifest(refused: Run, here: Path, onnx_artifact: Artifact) -> None:
    for content in (b"", onnx_artifact.model_path.read_bytes()[:2000]):
        save(here / "broken", onnx_artifact.manifest, {"model.onnx": content})
        Image.new("RGB", (40, 40)).save("a.png")
        assert "cannot load" in refused("predict", "broken", "a.png", code=1).err
        assert "cannot convert" in refused("compile", "broken", code=1).err
        assert "no ONNX model" in refused("quantize", "broken", "--precision", "fp16").err


@pytest.mark.parametrize(
    ("path", "said", "fix"),
    [
        ("data", "no manifest.json", "make one: `tiffin export`"),
        ("absent", "no such folder", "make one: `tiffin export`"),
        ("a.jpg", "is a file", "make one: `tiffin export`"),
        ("net.onnx", "is a file", "make one: `tiffin export net.onnx`"),
        ("fp32/model.onnx", "is a file", "name its folder: fp32"),
    ],
)
@pytest.mark.parametrize("command", ["predict", "bench", "compile", "certificates", "selftest"])
def test_what_is_no_artifact_is_told_by_what_it_is(
    refused: Run, here: Path, command: str, path: str, said: str, fix: str
) -> None:
    (here / "data").mkdir()
    (here / "net.onnx").touch()
    Image.new("RGB", (8, 8)).save("a.jpg")
    err = refused(command, path, *["a.jpg"] * (command == "predict")).err
    assert f"error: {path}: {said}\n" in err and err.endswith(f"  fix: {fix}\n")


def test_a_box_in_an_artifacts_place_is_to_be_unpacked(refused: Run, here: Path) -> None:
    (here / "food.tiffin").write_bytes(b"box")
    assert "unpack it: `tiffin unpack food.tiffin --out FOLDER`" in refused("bench", "food.tiffin").err


@pytest.mark.parametrize(
    "words", [("predict", "fp32", "x.jpg"), ("bench", "fp32"), ("score", "fp32"), ("compile", "fp32")]
)
def test_an_unknown_backend(refused: Run, words: tuple[str, ...]) -> None:
    assert "'abacus'" in refused(*words, "--backend", "abacus").err


@pytest.mark.skipif(installed("tensorrt"), reason="TensorRT is installed")
def test_an_engine_that_is_not_installed(refused: Run, run_tiffin: Run, here: Path, onnx_artifact: Artifact) -> None:
    manifest = dataclasses.replace(onnx_artifact.manifest, format="tensorrt")
    save(here / "engine", manifest, {"model.engine": b"engine"})
    for words in (("predict", "engine", "x.jpg"), ("compile", "fp32", "--backend", "tensorrt")):
        ended = refused(*words, code=1)
        assert "tensorrt is not installed" in ended.err and 'pip install "tiffin[tensorrt]"' in ended.err
    benched = run_tiffin("bench", "engine", "--launches", 1)
    assert benched.code == 1 and "not run: engine@tensorrt" in benched.out and "error: nothing could run" in benched.err


@pytest.mark.parametrize("backend", ["onnxruntime", "torch"])
def test_an_engine_that_does_not_read_the_format(
    refused: Run, here: Path, openvino_artifact: Artifact, backend: str
) -> None:
    ended = refused("predict", openvino_artifact.folder, "x.jpg", "--backend", backend)
    assert "format openvino" in ended.err


def test_predict_takes_a_backend_and_a_form_by_name_and_says_why_nothing_is_cached(
    ok: Run, refused: Run, here: Path, photo_folder: Path
) -> None:
    photo, no_folder = photo_folder / "test/pear/00.png", here / "fp32/manifest.json"
    said = ok("predict", "fp32@onnxruntime", photo, "--out", "a.jsonl", "--cache", no_folder).err
    assert "backend onnxruntime" in said and "cache off: cannot be written (" in said
    again = ok("predict", "fp32@onnxruntime", photo, "--out", "a.jsonl", "--resume", "--cache", "kept").err
    assert "1 are answered already" in again and "cache kept" in again
    assert "an empty source" in refused("predict", "fp32", "").err


def test_a_folder_that_was_split_says_what_is_scored_of_it(ok: Run, here: Path, photo_folder: Path) -> None:
    said = ok("score", "fp32", "--data", photo_folder / "train", "--threads", 1)
    told = re.search(r"photos of train: \d+ train, \d+ select, (\d+) confirm \(no train split: a fifth", said.err)
    assert told and f"top-1 on {told[1]} photos (confirm) of train" in said.out


def test_an_empty_calibration_set(refused: Run, here: Path, photo_folder: Path) -> None:
    (here / "set").mkdir()
    shutil.copy(photo_folder / "test/apple/01.jpg", "set/1.jpg")
    Path("set/photos.csv").write_text("role,path,label\nconfirm,1.jpg,apple\n")
    Path("set/synthesized.json").write_text('{"kind": "synthesized", "labels": ["apple", "leek", "milk", "pear"]}')
    assert "no photos to calibrate with" in refused("quantize", "fp32", "--data", "set").err


def test_photos_of_other_classes_do_not_calibrate_unless_they_are_named(
    ok: Run, refused: Run, here: Path, onnx_artifact: Artifact, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tuple(f"dish {index}" for index in range(len(onnx_artifact.manifest.labels)))
    other = dataclasses.replace(onnx_artifact.manifest, labels=labels)
    save(here / "dishes", other, {"model.onnx": onnx_artifact.model_path})
    monkeypatch.setenv("TIFFIN_DATA", str(photo_folder))
    words = ("quantize", "dishes", "--quantizer", "ort", "--no-compensate", "--no-fit-temperature", "--out", "int8")
    err = refused(*words).err
    assert "is a label of dishes (dish 0, …)" in err and "--calibrate data-free" in err and not Path("int8").exists()
    ok(*words, "--data", photo_folder)


def test_calibration_photos_are_not_scored(ok: Run, here: Path, photo_folder: Path, refused: Run) -> None:
    ok("quantize", "fp32", "--data", photo_folder, "--quantizer", "ort", "--scheme", "tensorrt", "--out", "int8")
    ended = refused("score", "int8@onnxruntime", "--data", photo_folder, "--role", "calibrate", "--out", "new.json")
    assert "12 of 48 photos to score have calibrated" in ended.err


def test_a_dataset_with_more_classes_than_the_model(refused: Run, here: Path, photo_folder: Path) -> None:
    shutil.copytree(photo_folder, here / "data")
    shutil.copytree(here / "data/test/leek", here / "data/test/zucchini")
    assert "zucchini" in refused("score", "fp32", "--data", "data").err


@pytest.mark.parametrize(
    "words",
    [
        ("export", "mine.safetensors", "--data", "DATA", "--out", "/dev/null/x"),
        ("export", "mine.safetensors", "--format", "pt2", "--out", "mine.json/x"),
        ("quantize", "fp32", "--precision", "fp16", "--out", "/dev/null/x"),
        ("quantize", "fp32", "--data", "DATA", "--out", "/dev/null/x/y"),
        ("compile", "fp32", "--out", "/dev/null/x"),
        ("bench", "fp32", "--out", "/dev/null/x/bench.json"),
        ("bench", "fp32", "--out", "fp32"),
        ("score", "fp32", "--data", "DATA", "--out", "/dev/null/x/score.json"),
        ("demo", "mine.safetensors", "--data", "DATA", "--out", "/dev/null/x"),
        ("synthesize", "/dev/null/x", "--checkpoint", "mine.safetensors"),
    ],
)
def test_a_folder_that_cannot_be_written(refused: Run, weights: Path, photo_folder: Path, words) -> None:
    ended = refused(*(photo_folder if word == "DATA" else word for word in words))
    assert "cannot write" in ended.err and "--out" in ended.err
    assert "timing" not in ended.err and "scoring" not in ended.err  # found out before minutes of measuring


def test_a_record_takes_no_pipes_place(refused: Run, here: Path) -> None:
    os.mkfifo("pipe")
    ended = refused("bench", "fp32", "--out", "pipe")
    assert "it is no regular file" in ended.err and Path("pipe").is_fifo()


@pytest.mark.parametrize("out", ["run.1", "x.npz"])
@pytest.mark.parametrize("command", ["bench", "score", "certify", "robustness", "explain", "loadgen"])
def test_a_record_ends_in_json_for_its_arrays_lie_beside_it(refused: Run, photo_folder: Path, command, out) -> None:
    data = () if command == "bench" else ("--data", photo_folder)
    assert f"--out {out}" in refused(command, "fp32", *data, "--out", out).err and not Path(out).exists()


def test_a_folder_of_somebody_elses_is_not_replaced(refused: Run, here: Path) -> None:
    (here / "work").mkdir()
    (here / "work/thesis.txt").write_text("years")
    assert "is no artifact" in refused("quantize", "fp32", "--precision", "fp16", "--out", "work").err


@pytest.mark.parametrize(
    "words", [("quantize", "fp32", "--precision", "fp16"), ("compile", "fp32"), ("quantize", "FP32", "--data", "DATA")]
)
def test_an_artifact_does_not_take_its_own_sources_place(
    refused: Run, here: Path, photo_folder: Path, words: tuple[str, ...]
) -> None:
    (here / "link").symlink_to("fp32")
    words = tuple({"DATA": str(photo_folder), "FP32": str(here / "fp32")}.get(word, word) for word in words)
    for out in ("fp32", "link", "fp32/../fp32/"):
        assert "is the artifact itself" in refused(*words, "--out", out).err


def test_an_artifact_that_is_replaced_is_named(ok: Run, here: Path) -> None:
    words = ("quantize", "fp32", "--no-fit-temperature", "--out", "half", "--precision")
    assert "replaces" not in ok(*words, "fp16").err
    old = Artifact.load("half").digest
    assert f"replaces half (fp16, {old[:12]})\n" in ok(*words, "bf16").err
    assert Artifact.load("half").manifest.precision == "bf16"


@pytest.mark.parametrize(
    ("word", "folder", "engine"),
    [
        ("out/fp32", "out/fp32", ""),
        ("fp32@openvino", "fp32", "openvino"),
        ("me@host/fp32", "me@host/fp32", ""),
        ("me@host/", "me@host", ""),
        ("fp32/@torch", "fp32", "torch"),
        ("/", "/", ""),
        ("me@host/fp32@torch:plain", "me@host/fp32", "torch:plain"),
        ("fp32@", "fp32", ""),
        ("@fp32", "@fp32", ""),
    ],
)
def test_an_engine_stands_behind_the_last_at(word: str, folder: str, engine: str) -> None:
    assert split_engine(word) == (folder, engine)


def test_a_path_may_hold_an_at(here: Path) -> None:
    (here / "fp32").rename(here / "me@host")
    (named,) = candidates([f"{here}/me@host/@onnxruntime"], None, None, None)
    (plain,) = candidates([f"{here}/me@host/"], None, None, None)
    assert named.artifact.folder == plain.artifact.folder and named.run.backend == "onnxruntime"
    assert named.name == plain.name == "me@host@onnxruntime"
    (bare,) = candidates(["me@host"], None, None, None)
    (compiled,) = candidates(["me@host@openvino"], None, None, None)
    assert bare.name == "me@host@onnxruntime" and compiled.run.backend == "openvino"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("export", "mine.safetensors", "--format", "tflite"), "unknown format 'tflite'"),
        (("export", "mine.safetensors", "--data", "nowhere"), "nowhere"),
        (("quantize", "fp32", "--precision", "int4"), "unknown precision 'int4'"),
        (("quantize", "fp32", "--scheme", "npu"), "unknown int8 scheme 'npu'"),
        (("quantize", "fp32", "--quantizer", "x", "--data", "DATA"), "unknown quantizer 'x'"),
        (("quantize", "fp32", "--quantizer", "nncf", "--scheme", "tensorrt", "--data", "DATA"), "NNCF"),
        (
            ("quantize", "fp32", "--precision", "fp16", "--smooth", "--scheme", "cpu", "--float-node", "Conv_6"),
            "--scheme, --smooth, --float-node with --precision fp16",
        ),
        (("quantize", "fp32", "--precision", "bf16", "--ranges", "minmax"), "--precision int8 or fp8"),
        (("quantize", "fp32", "--checkpoint", "mine.safetensors"), "--checkpoint with --calibrate photos"),
        (("quantize", "fp32", "--calibrate", "data-free", "--data", "DATA"), "--data with --calibrate data-free"),
        (("score", "fp32", "--role", "exam", "--data", "DATA"), "role 'exam'"),
        (("bench", "fp32", "fp32"), "named twice"),
        (("predict", "fp32", "x.jpg", "--precision", "bf16"), "bf16"),
        (("predict", "fp32", "x.jpg", "--precision", "fp64"), "fp64"),
        (("show", "nothing.json"), "nothing.json"),
        (("show", "mine.json"), "mine.json"),
        (("show", "fp32"), "fp32"),
    ],
)
def test_other_wrong_words(refused: Run, weights: Path, photo_folder: Path, words, said: str) -> None:
    assert said in refused(*(photo_folder if word == "DATA" else word for word in words)).err


@pytest.mark.parametrize(
    "words", [("predict", "fp32"), ("bake",), ("bench", "fp32", "--batch", "0"), ("show", "--wat")]
)
def test_wrong_usage(run_tiffin: Run, here: Path, words: tuple[str, ...]) -> None:
    ended = run_tiffin(*words)
    assert ended.code == 2 and "error: " in ended.err.lower() and "Traceback" not in ended.err


def test_debug_shows_the_traceback(here: Path) -> None:
    words = [*COMMAND, "show", "nothing.json"]
    plain, debug = (
        subprocess.run(words, capture_output=True, text=True, env={**os.environ, "TIFFIN_DEBUG": wanted})
        for wanted in ("0", "1")
    )
    assert plain.returncode == 2 and "Traceback" not in plain.stderr
    assert debug.returncode != 0 and "Traceback" in debug.stderr and "BadInput" in debug.stderr


def test_a_code_page_without_lines_loses_nothing(here: Path) -> None:
    path = wide_record().save(here / "wide.json")
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    ended = subprocess.run([*COMMAND, "show", str(path)], capture_output=True, env=environment)
    assert ended.returncode == 0 and b"torch fp32" in ended.stdout, ended.stderr


def workers_of(parent: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            owner = int((folder / "stat").read_text().rsplit(") ", 1)[1].split()[1])
            if owner == parent and b"tiffin.benchmarks.workers" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


@pytest.fixture
def started(here: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a bench of two engines in a process of its own, its scratch folders below `here`."""
    (here / "scratch").mkdir()
    running: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [*COMMAND, "bench", "fp32@null", "fp32@onnxruntime", "--out", "out/bench.json", *words]
        env = {**os.environ, "TMPDIR": str(here / "scratch")}
        running.append(subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=env))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def until(bench: subprocess.Popen[str], ready: Callable[[set[int]], bool]) -> set[int]:
    """Wait until its workers are as wanted; all that were seen."""
    seen: set[int] = set()
    end = time.monotonic() + 60
    while not ready(seen):
        assert bench.poll() is None and time.monotonic() < end
        time.sleep(0.01)
        seen |= set(workers_of(bench.pid))
    return seen


def interrupt(bench: subprocess.Popen[str], number: int, workers: set[int]) -> tuple[int, str]:
    """Exit code and stderr; whatever happens, no worker may be left, and nothing is on stdout."""
    workers |= set(workers_of(bench.pid))
    bench.send_signal(number)
    out, err = bench.communicate(timeout=20)
    assert out == "" and "error: interrupted" in err and "Traceback" not in err
    assert [pid for pid in workers if Path(f"/proc/{pid}").exists()] == []
    return bench.returncode, err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_bench_interrupted_before_its_first_block_leaves_nothing(started, here: Path, number: int, code: int) -> None:
    before = files(here)
    bench = started("--block-s", "30")
    workers = until(bench, lambda seen: len(seen) == 2)
    time.sleep(0.3)
    ended, err = interrupt(bench, number, workers)
    assert ended == code and "kept" not in err.replace("half-written was kept", "")
    assert files(here) == before  # no record, no draft, no scratch folder


def test_an_interrupted_bench_keeps_what_it_had(started, ok: Run, here: Path) -> None:
    before = files(here)
    bench = started("--blocks", "2", "--block-s", "0.01", "--target", "0.00001", "--regime", "contended")
    workers = until(bench, lambda seen: len(seen) >= 4)  # a burner, a launch, and the next has begun
    ended, err = interrupt(bench, signal.SIGINT, workers)
    assert ended == 130 and "kept what had been measured: out/bench.json" in err
    kept = files(here) - before
    assert {path.relative_to(here).as_posix() for path in kept} == {"out/bench.json", "out/bench.npz"}
    found = load_record(Path("out/bench.json"))
    assert not found.complete and len(found.rounds) == 2, [subject.reason for subject in found.subjects]
    assert all(len(taken.blocks) >= 2 and taken.ended == "interrupted" for taken in found.rounds.values())
    shown = ok("show", "out/bench.json").out
    assert "interrupted: this is what had been measured by then" in " ".join(shown.split())
    assert " CUT" in shown and "contended" in shown and max(map(len, shown.splitlines())) <= 80
    assert json.loads(ok("show", "out/bench.json", "--json").out)["complete"] is False


# What is compared, and where


@pytest.mark.parametrize("what", ["labels", "inputs"])
def test_two_models_are_no_alternatives(refused: Run, ok: Run, here: Path, onnx_artifact: Artifact, what: str) -> None:
    manifest = onnx_artifact.manifest
    (spec,) = manifest.inputs
    other = {"labels": manifest.labels[::-1], "inputs": (dataclasses.replace(spec, name="images"),)}[what]
    save(here / "other", dataclasses.replace(manifest, **{what: other}), {"model.onnx": onnx_artifact.model_path})
    words = ("bench", "fp32@null", "other@null", "--launches", 1, "--blocks", 1, "--time-limit-s", 1)
    ended = refused(*words)
    assert f"have different {what}" in ended.err and "--different-models" in ended.err
    if what == "labels":
        assert "other@null" in ok(*words, "--different-models").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--cpus", "x"), "cores 'x'"),
        (("--cpus", ""), "cores ''"),
        (("--cpus", "0,"), "cores '0,'"),
        (("--cpus", "99999"), "cores '99999'"),
        (("--cpus", "-1"), "cores '-1'"),
        (("--regime", "idle"), "unknown regime 'idle'"),
        (("--regime", "paced", "--fps", "0"), "fps 0"),
        (("--fps", "15", "--burners", "2"), "--fps, --burners with --regime back-to-back"),
        (("--target", "0"), "target 0"),
        (("--target", "1.5"), "target 1.5"),
        (("--time-limit-s", "inf"), "time_limit_s inf"),
    ],
)
def test_a_bench_that_makes_no_sense_is_refused(refused: Run, words: tuple[str, ...], said: str) -> None:
    assert said in refused("bench", "fp32", *words).err


def test_candidates_are_named_by_as_little_as_tells_them_apart(ok: Run, here: Path) -> None:
    shutil.copytree(here / "fp32", here / "again/fp32")
    words = ("--launches", 1, "--blocks", 1, "--block-s", 0.01, "--time-limit-s", 1, "--json")
    cpu = max(os.sched_getaffinity(0))
    found = ok("bench", "fp32@null", "again/fp32@null", "--cpus", cpu, *words)
    assert [row["name"] for row in json.loads(found.out)["rows"]] == ["fp32@null", "again/fp32@null"]


def test_a_watched_bench_redraws_one_line_of_80_columns(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(render, "is_watched", lambda: True)
    known = {"int8": Precision(0.5, 0.018, 4, 12, False), "bf16": Precision(0.5, math.inf, 1, None, False)}
    progress = render.TerminalProgress()
    for name in ("int8", "a-very-long-name" * 9):
        progress.timing(Status(3, name, 43.2, 300.0, known))
    progress.timing(Status(0, "int8", 0.2, 300.0))
    progress.timed()
    lines = capsys.readouterr().err.split("\r")
    assert max(map(len, lines)) < 80 and "\n" not in "".join(lines)
    assert "launch 4: int8" in lines[1] and "±1.8 %" in lines[1] and "0:43 of at most 5:00" in lines[1]
    assert "launch 1: int8" in lines[3] and "starting" in lines[3] and lines[4].strip() == lines[5] == ""


# What a terminal sees


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print(json.dumps(sorted(sys.modules)), file=sys.stderr))\n"
        "from tiffin.cli.app import main; main()"
    )
    ended = subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, text=True)
    loaded = set(json.loads(ended.stderr.splitlines()[-1]))
    heavy = {"numpy", "torch", "onnx", "onnxruntime", "openvino", "nncf", "scipy", "PIL", "safetensors"}
    assert ended.returncode == 0 and loaded & heavy == set()
    assert not {name for name in loaded if name.startswith(("tensorrt", "tiffin.runtime.backends", "tiffin.export"))}


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_fits_80_columns(ok: Run, command: str) -> None:
    shown = ok(*([command] if command else []), "--help").out
    assert "Usage: " in shown and max(map(len, shown.splitlines())) <= 80


def test_the_version(ok: Run) -> None:
    assert ok("--version").out == f"tiffin {tiffin.__version__}\n"


def wide_record() -> Record:
    """Long names, long reasons, large numbers, answers with and without truth."""
    names = ["torch fp32", "openvino int8 cpu-vnni nncf, without VNNI", "out/" + "deep/" * 12 + "int8@onnxruntime"]
    about = {"requested": {"backend": "a", "execution_precision": "fp32"}, "applied": {"threads": 128}}
    subjects = [
        Subject(name, "ab" * 32, "int8" if index else "fp32", size_bytes=1_234_567_890, cold_start_s=(123.4,),
                peak_bytes=98_765_432_100, **about)
        for index, name in enumerate(names)
    ]  # fmt: skip
    subjects.append(Subject("tensorrt_rtx int8 tensorrt", reason="no NVIDIA driver here: " + "very " * 30 + "sorry"))
    truth, logits = np.arange(2000) % 7, np.random.default_rng(0).normal(size=(2000, 7)).astype(np.float32)
    photos = tuple(f"{index:064x}" for index in range(2000))
    answers = {name: Predictions.from_logits(photos, truth, logits * (1 - i), "photos") for i, name in enumerate(names)}
    rounds = {name: Rounds((np.full(9, 1_234_567_890), np.full(9, 22_345_678_901)), (0, 1), (1, 2)) for name in names}
    environment = {
        "cpu": "Some CPU @ 3.00GHz",
        "cpu_features": ["avx2"],
        "cores": 128,
        "system": "Linux",
        "versions": {},
    }
    data = {"name": "a-set-with-a-name", "kind": "photos", "role": "confirm", "count": 2000, "calibration": 243}
    return Record("bench", environment, tuple(subjects), {}, data, rounds, answers)


def test_a_wide_record_is_shown_in_80_columns(ok: Run, tmp_path: Path) -> None:
    found = wide_record()
    shown = ok("show", found.save(tmp_path / "wide.json")).out
    assert [line for line in shown.splitlines() if len(line) > 80] == []
    joined = "".join(shown.split())
    assert all(subject.name.replace(" ", "") in joined for subject in found.subjects[1:2])
    assert "notrun:tensorrt_rtxint8tensorrt" in joined
    markdown = ok("show", tmp_path / "wide.json", "--markdown").out
    assert all(f"| {subject.name}" in markdown for subject in found.subjects[:3])


def test_a_long_reference_is_wrapped_in_the_header_too() -> None:
    table = render.Table((f"against {'out/deep/' * 9}fp32@onnxruntime", "top-1, points"), [["int8", "+0.10"]])
    assert max(map(len, table.text().splitlines())) <= 80


def test_a_record_of_rows_on_other_photos_is_shown(ok: Run, tmp_path: Path) -> None:
    found = wide_record()
    first, name = list(found.predictions)[:2]
    few = found.predictions[name]
    few = Predictions(few.photos[:9], few.truth[:9], few.top[:9], few.scores[:9], few.kind)
    path = dataclasses.replace(found, predictions={**found.predictions, name: few}).save(tmp_path / "mixed.json")
    for words in ((), ("--details",)):
        assert "other photos" in ok("show", path, *words).out
    rows = {row["name"]: row["flips"] for row in json.loads(ok("show", path, "--json").out)["rows"]}
    assert rows[name] is None and rows[first] == 0


def test_synthesized_images_are_never_called_accuracy(ok: Run, tmp_path: Path) -> None:
    found = wide_record()
    answers = {name: dataclasses.replace(each, kind="synthesized") for name, each in found.predictions.items()}
    data = {**found.data, "kind": "synthesized"}
    path = dataclasses.replace(found, predictions=answers, data=data).save(tmp_path / "synthesized.json")
    for words in ((), ("--markdown",)):
        shown = ok("show", path, *words).out
        assert "agreement with fp32 on 2000 synthesized images" in shown
        assert "top-1" not in shown and "PASS" not in shown
    assert [row["top1"] for row in json.loads(ok("show", path, "--json").out)["rows"]] == [None] * 4


def sources() -> Iterator[Path]:
    """Python files of the package: not its tests, nor what was built."""
    for path in sorted(ROOT.rglob("*.py")):
        room = path.relative_to(ROOT).parts[0]
        if path.parent == ROOT or (ROOT / room / "__init__.py").is_file():
            yield path


def text_of(node: ast.AST) -> str:
    """A string as written; what is filled in becomes X."""
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def built(call: ast.Call) -> str:
    """What a call of `errors.command` names, as far as the source tells; empty for any other call."""
    ours = getattr(call.func, "id", "") == "command" or getattr(call.func, "attr", "") == "next_command"
    if not ours or not call.args:
        return ""
    told = [text_of(word) or "X" for word in call.args if not isinstance(word, ast.Starred)]
    for option in call.keywords:
        if option.arg:
            told.append(f"--{option.arg.replace('_', '-')}")
            told += [] if getattr(option.value, "value", None) is True else ["X"]
    return shlex.join(told)


def suggestions() -> list[tuple[str, str]]:
    """(where, words after `tiffin`) of every command in backquotes, and of every one that is built from its words."""
    found = []
    for path in sources():
        tree = ast.parse(path.read_text())
        inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if id(node) in inner:
                continue
            words = re.findall(r"`tiffin ([^`]+)`", text_of(node))  # of which `X` is built by a call, met by itself
            if isinstance(node, ast.Call) and path.name not in ("errors.py", "render.py"):
                words += [word for word in [built(node)] if word]
            found += [(f"{path.name}:{getattr(node, 'lineno', 0)}", word) for word in words if word != "..."]
    return found


def test_there_are_suggestions() -> None:
    assert len(suggestions()) > 12


def test_a_command_can_be_copied_into_a_shell() -> None:
    told = command("quantize", Path("-my set"), data="a b", float_node=["x", "y"], smooth=True, ranges=None)
    assert told == "tiffin quantize './-my set' --data 'a b' --float-node x --float-node y --smooth"


def test_what_comes_next_can_be_copied_into_a_shell(ok: Run, here: Path) -> None:
    said = ok("quantize", "fp32", "--precision", "fp16", "--out", "./-my half").err
    assert said.endswith("next: tiffin compile './-my half' --backend openvino\n")


def test_no_line_ends_within_a_command() -> None:
    long = command("certify", f"{'deep ' * 12}@onnxruntime")
    (*_, line) = render.wrapped([f"{'word ' * 14}certify it: `{long}`"]).splitlines()
    assert line == f"  `{long}`"
    said = render.wrapped([f"{'word ' * 14}`tiffin show 'my record.json'` {'path' * 30}"]).splitlines()
    assert said[1].startswith("  `tiffin show 'my record.json'`") and max(map(len, said)) <= 80


@pytest.mark.parametrize(("where", "words"), suggestions())
def test_every_suggested_command_exists(where: str, words: str) -> None:
    import click

    name, *arguments = shlex.split(words)
    assert name in COMMANDS, where
    command = COMMANDS[name]
    command.make_parser(click.Context(command)).parse_args(arguments)  # raises on an unknown option


# LoadGen


def test_loadgen_from_the_command_line(ok: Run, here: Path, photo_folder: Path) -> None:
    pytest.importorskip("mlperf_loadgen", reason="MLPerf LoadGen is not installed")
    words = ("--data", photo_folder, "--threads", 1, "--duration-s", 0.3)
    ended = ok("loadgen", "fp32@null", *words)
    assert "VALID, shortened" in ended.out and "300 of 600000" in ended.out and "samples/s" in ended.out
    assert max(map(len, ended.out.splitlines())) <= 80
    assert Path("out/loadgen.json").is_file() and Path("out/loadgen-logs/mlperf_log_summary.txt").is_file()
    told = json.loads(ok("loadgen", "fp32@null", "--scenario", "offline", "--batch", 4, *words, "--json").out)
    assert told["scenario"] == "offline" and "shortened" in told["verdict"] and told["samples_per_s"] > 0


def test_loadgens_accuracy_from_the_command_line(ok: Run, here: Path, photo_folder: Path) -> None:
    pytest.importorskip("mlperf_loadgen", reason="MLPerf LoadGen is not installed")
    scored = json.loads(ok("score", "fp32", "--data", photo_folder, "--json").out)["rows"][0]["top1"]
    words = ("loadgen", "fp32", "--mode", "accuracy", "--data", photo_folder)
    assert json.loads(ok(*words, "--json").out)["top1"] == scored
    shown = ok(*words, "--photos", 8).out
    assert "accuracy, shortened" in shown and "8 of 48" in shown and "on 8 photos" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--scenario", "interactive"), "interactive"),
        (("--mode", "peak"), "peak"),
        (("--scenario", "server"), "without a target"),
        (("--scenario", "server", "--target-qps", "0"), "target qps 0"),
        (("--photos", "0"), "0 photos"),
        (("--official", "--duration-s", "5"), "--official"),
    ],
)
def test_wrong_words_for_loadgen(refused: Run, photo_folder: Path, words: tuple[str, ...], said: str) -> None:
    pytest.importorskip("mlperf_loadgen", reason="MLPerf LoadGen is not installed")
    assert said in refused("loadgen", "fp32", "--data", photo_folder, *words).err


def test_loadgen_not_installed(refused: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    assert 'pip install "tiffin[loadgen]"' in refused("loadgen", "fp32", code=1).err


# Two records


def timed_record(seed: int, cpu: str = "Some CPU @ 3.00GHz", **factors: float) -> Record:
    """Six launches of `base` and of each other row, which takes its factor of it."""
    chance, rows = np.random.default_rng(seed), {"base": 1.0, **factors}
    drift = chance.normal(0, 0.05, 6)
    rounds = {}
    for name, factor in rows.items():
        medians = 2e7 * factor * np.exp(drift + chance.normal(0, 0.005, 6))
        rounds[name] = Rounds(tuple(np.full(5, int(ns), np.int64) for ns in medians), tuple(range(6)), tuple(range(6)))
    about = {"requested": {"backend": "a", "execution_precision": "fp32"}, "applied": {"threads": 2, "version": "1"}}
    subjects = tuple(Subject(name, ("ab" if name == "base" else f"{seed:02}") * 32, **about) for name in rows)
    environment = {"cpu": cpu, "cpu_features": ["avx2"], "cores": 2, "versions": {"openvino": str(seed)}}
    return Record("bench", environment, subjects, rounds=rounds)


def test_compare_says_what_changed_and_what_does_not(ok: Run, here: Path) -> None:
    timed_record(1, one=0.5, other=0.8, gone=1).save(here / "old.json")
    timed_record(2, one=0.6, other=0.8, fresh=1).save(here / "new.json")
    shown = ok("compare", "old.json", "new.json").out
    assert max(map(len, shown.splitlines())) <= 80
    lines = {line.split()[0]: line for line in shown.splitlines() if line.strip()}
    assert "+2" in lines["one"] and "%" in lines["one"] and re.search(r" (~|= same) ", lines["other"])
    said = " ".join(shown.split())
    assert "relative to base" in said and "only before: gone" in said and "only after: fresh" in said
    assert "differs: versions.openvino: 1 / 2" in said
    plain = json.loads(ok("compare", "old.json", "new.json", "--json").out)
    assert {row["name"]: row["speed"]["speed"] for row in plain["rows"] if row["speed"]}["one"] == "slower"
    assert plain["anchor"] == "base" and plain["differs"] == {"versions.openvino": ["1", "2"]}


def test_compare_says_how_many_launches_it_needs(ok: Run, here: Path) -> None:
    timed_record(1, one=0.8).save(here / "old.json")
    noisy = timed_record(2, one=0.8)
    shaken = tuple(block * (100 + 15 * index) // 100 for index, block in enumerate(noisy.rounds["one"].blocks))
    rounds = {**noisy.rounds, "one": dataclasses.replace(noisy.rounds["one"], blocks=shaken)}
    dataclasses.replace(noisy, rounds=rounds, complete=False).save(here / "new.json")
    shown = ok("compare", "old.json", "new.json").out
    assert re.search(r"one .* ~, need ≥ \d+", shown) and "interrupted: after" in shown


def strictly(text: str) -> dict[str, object]:
    """JSON without the infinities and NaNs that only Python reads."""
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


def test_the_widest_comparison_fits_80_columns(ok: Run, here: Path) -> None:
    long, other = "openvino int8 cpu-vnni nncf, without VNNI", "tensorrt_rtx int8 tensorrt"
    timed_record(1, **{long: 0.8, other: 1}).save(here / "old.json")
    new = timed_record(2, **{long: 0.8, other: 2.3})
    shaken = tuple(block * (100 + 15 * index) // 100 for index, block in enumerate(new.rounds[long].blocks))
    rounds = {**new.rounds, long: dataclasses.replace(new.rounds[long], blocks=shaken)}
    dataclasses.replace(new, rounds=rounds).save(here / "new.json")
    shown = ok("compare", "old.json", "new.json").out
    assert "need ≥" in shown and "+130" in shown and max(map(len, shown.splitlines())) <= 80


def test_a_row_that_was_interrupted_is_named_and_its_json_is_json(ok: Run, here: Path) -> None:
    whole = timed_record(1, one=0.8, other=0.9)
    first = {
        name: dataclasses.replace(rounds, blocks=rounds.blocks[:1], launches=(0,), order=(0,))
        for name, rounds in whole.rounds.items()
    }
    whole.save(here / "old.json")
    dataclasses.replace(whole, rounds={**first, "one": Rounds()}, complete=False).save(here / "new.json")
    shown = ok("compare", "old.json", "new.json").out
    assert "one: timed only before" in shown and re.search(r"other .* \?  p=1 n=1", shown)
    assert strictly(ok("compare", "old.json", "new.json", "--json").out)["rows"]
    assert strictly(ok("show", "new.json", "--json").out)["rows"]


def test_records_of_two_machines_are_compared_only_if_asked(ok: Run, refused: Run, here: Path) -> None:
    timed_record(1, one=0.5).save(here / "old.json")
    timed_record(1, cpu="Another CPU", one=0.5).save(here / "new.json")
    ended = refused("compare", "old.json", "new.json")
    assert "cpu: Some CPU" in ended.err and "--across-machines" in ended.err
    assert "differs: cpu" in ok("compare", "old.json", "new.json", "--across-machines").out


@pytest.mark.parametrize("words", [("--threshold", 0), ("--margin", -1)])
def test_compare_refuses_what_makes_no_sense(refused: Run, here: Path, words: tuple[object, ...]) -> None:
    timed_record(1).save(here / "old.json")
    assert "both above 0" in refused("compare", "old.json", "old.json", *words).err
    newer = {**json.loads(Path("old.json").read_text()), "schema": 99}
    Path("newer.json").write_text(json.dumps(newer))
    assert "schema 99" in refused("compare", "old.json", "newer.json").err


def test_a_record_tells_the_machine_as_the_run_began(ok: Run, here: Path, photo_folder: Path, monkeypatch) -> None:
    answered: list[list[Path]] = []
    told = machine.environment()
    monkeypatch.setattr(machine, "environment", lambda: answered.append([*Path("cache").glob("logits*")]) or told)
    ok("score", "fp32@null", "--data", photo_folder, "--out", "scored.json")
    assert answered == [[]] and list(Path("cache").glob("logits*"))


def test_scored_records_are_compared_and_shown_in_detail(ok: Run, here: Path, photo_folder: Path) -> None:
    ok("quantize", "fp32", "--data", photo_folder, "--per-class", 2, "--out", "int8")
    ok("score", "fp32", "--data", photo_folder, "--out", "before.json", "--threads", 1)
    ok("score", "int8", "--data", photo_folder, "--out", "after.json", "--threads", 1)
    ok("score", "fp32", "int8", "--data", photo_folder, "--out", "both.json", "--threads", 1)
    changed = json.loads(ok("compare", "before.json", "after.json", "--json").out)["rows"][0]["answers"]
    plain = json.loads(ok("show", "both.json", "--json").out)["rows"][1]
    assert changed["flips"]["count"] == plain["flips"] == len(plain["flipped"])
    assert all(flip["photo"].startswith("test/") and flip["before"] != flip["now"] for flip in plain["flipped"])
    shown = ok("show", "both.json", "--details").out
    said = " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80
    assert "calibration error %" in shown and "confused most" in said and "changed sides" in said
    assert all(flip["photo"] in shown for flip in plain["flipped"][:3])
    assert load_record(Path("both.json")).predictions["fp32@onnxruntime"].logits.shape == (48, 4)


def test_details_of_many_flips(ok: Run, tmp_path: Path) -> None:
    found = wide_record()
    reference, *others = found.predictions
    truth = found.predictions[reference].truth
    logits = np.eye(7, dtype=np.float32)[truth] * 5
    worse = logits.copy()
    worse[:25] = np.roll(worse[:25], 1, axis=1)
    answers = {
        name: Predictions.from_logits(found.predictions[name].photos, truth, scores, "photos")
        for name, scores in ((reference, logits), (others[0], worse))
    }
    labels = [f"dish-{index}" for index in range(7)]
    about = {"labels": labels, "coarse": ["soup"] * 3 + ["rice"] * 4, "files": [f"p/{i:04}.jpg" for i in range(2000)]}
    path = dataclasses.replace(found, predictions=answers, data={**found.data, **about}).save(tmp_path / "many.json")
    shown = ok("show", path, "--details").out
    said = " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80
    assert re.search(r"soup +858 +100\.0 +\d\d\.\d", shown) and "rice" in shown
    assert "p/0000.jpg: dish-0 → dish-1" in said and "5 more in --json" in said and "p/0024.jpg" not in said
    assert "dish-0 as dish-1 4" in said and "1.25% changed sides" in said and "calibration error %" in said
    assert f"against {reference}" in said
    assert re.search(r"-1\.25 +-1\.7\d to -0\.8\d +INCONCLUSIVE", shown)  # 25 of 2000, none won
    flipped = json.loads(ok("show", path, "--json").out)["rows"][1]["flipped"]
    assert len(flipped) == 25 and flipped[24] == {
        "photo": "p/0024.jpg",
        "truth": "dish-3",
        "before": "dish-3",
        "now": "dish-4",
    }


# Certificates and boxes


@pytest.fixture
def avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a CPU of class avx2, whatever this one is: commands in this process believe so."""
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset({"sse4_1", "avx2"}))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


@pytest.fixture
def int8(ok: Run, here: Path, photo_folder: Path) -> Path:
    ok("quantize", "fp32", "--data", photo_folder, "--per-class", 2, "--out", "int8")
    return here / "int8"


def test_certify_show_and_list(ok: Run, int8: Path, avx2: None, photo_folder: Path) -> None:
    words = ("--data", photo_folder, "--threads", 1, "--margin", 0.25)
    ended = ok("certify", "int8", "fp32@openvino", "--isa", "avx2,amx", *words, "--out", "out/certify.json")
    assert "int8@onnxruntime" in ended.out and "48 photos (confirm)" in ended.out
    said = " ".join(ended.out.split())
    assert "not certified on amx: int8@onnxruntime, fp32@openvino: needs a CPU of class amx (AMX)" in said
    assert "fp32@openvino on avx2: PASS at 25.0 points" in said
    assert ok("show", "out/certify.json").out.strip() == ended.out.strip()
    assert max(map(len, ended.out.splitlines())) <= 80
    body = json.loads(ok("show", "out/certify.json", "--json").out)
    assert set(body["certificates"]) == {"int8@onnxruntime on avx2", "fp32@openvino on avx2"}
    assert len(body["not_certified"]) == 2 and ok("show", "out/certify.json", "--markdown").out.startswith("| artifact")
    (listed,) = json.loads(ok("certificates", "int8", "--json").out)
    assert listed["cpu_class"] == "avx2" and "avx2" in ok("certificates", "int8").out
    record = load_record(Path("out/certify.json"))
    assert record.kind == "certify" and len(record.predictions["int8@onnxruntime on avx2"]) == 48


def test_nothing_that_can_be_certified_is_an_error_with_its_record(
    run_tiffin: Run, int8: Path, avx2: None, photo_folder: Path
) -> None:
    ended = run_tiffin("certify", "int8", "--isa", "amx", "--data", photo_folder, "--threads", 1, "--out", "c.json")
    assert ended.code == 1 and "needs a CPU of class amx" in ended.out and Path("c.json").is_file()
    assert "nothing is certified" in run_tiffin("certificates", "int8").out


def test_a_run_in_which_nothing_ran_leaves_the_earlier_record(
    run_tiffin: Run, int8: Path, avx2: None, photo_folder: Path
) -> None:
    Path("c.json").write_text("earlier")
    ended = run_tiffin("certify", "int8", "--isa", "amx", "--data", photo_folder, "--threads", 1, "--out", "c.json")
    assert ended.code == 1 and Path("c.json").read_text() == "earlier" and "c.json: kept as it was" in ended.err
    assert "certificates lie beside" not in ended.err
    Path("b.json").write_text("earlier")
    ended = run_tiffin("bench", "int8@torch", "--launches", 1, "--out", "b.json")
    assert ended.code == 1 and "nothing could run" in ended.err and Path("b.json").read_text() == "earlier"
    assert "machine: " in ended.out and "threads" not in ended.out.split("not run")[0]


def test_a_box_is_certified_by_what_is_in_it(ok: Run, refused: Run, here: Path) -> None:
    ok("pack", "fp32", "--out", "food.tiffin")
    said = ok("certificates", "food.tiffin").out
    assert "food.tiffin: nothing is certified; unpack it (`tiffin unpack food.tiffin --out FOLDER`)" in said
    assert "`tiffin certify FOLDER/NAME`" in said and "`tiffin pack`" in said
    assert "`tiffin unpack food.tiffin --out FOLDER`" in refused("certify", "food.tiffin").err
    assert "`tiffin pack`" in refused("certify", "food.tiffin@openvino").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--isa", "avx3"), "unknown class of CPU 'avx3'"),
        (("--cpu", "cortex-a9"), "unknown CPU 'cortex-a9'"),
        (("--margin", "0"), "margin 0"),
        (("--photos", "20", "--all"), "--photos, --all with no --cpu"),
        (("--role", "holiday"), "holiday"),
        (("--role", "train"), "role 'train' to certify on"),
        (("--reference", "int8"), "a reference of precision int8"),
    ],
)
def test_wrong_words_for_certify(refused: Run, int8: Path, avx2: None, photo_folder: Path, words, said: str) -> None:
    assert said in refused("certify", "int8", "--data", photo_folder, *words).err


def test_certify_without_its_ancestor_asks_for_the_reference(
    refused: Run, ok: Run, int8: Path, here: Path, avx2: None, photo_folder: Path
) -> None:
    (here / "fp32").rename(here / "elsewhere.d")
    (here / "apart").mkdir()
    (here / "elsewhere.d").rename(here / "apart/fp32")
    assert "--reference" in refused("certify", "int8", "--data", photo_folder).err
    words = ("--reference", "apart/fp32", "--data", photo_folder, "--threads", 1, "--margin", 0.25)
    assert "int8@onnxruntime" in ok("certify", "int8", *words).out


def failed(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> Certificate:
    """Certify that every answer is wrong, with predictions that say so."""
    digests = tuple(f"{index:064x}" for index in range(40))
    truth = np.zeros(40, np.int64)
    evidence = Evidence(digests, truth, truth, truth + 1)
    made = Certificate(
        "avx2", "onnxruntime", machine.versions(("onnxruntime",))["onnxruntime"], "fp32", "native", "", "whole",
        {"name": "drawn", "kind": "photos", "role": "confirm", "count": 40}, margin=0.01, native_class="",
        reference="0" * 64, tiffin="0", created="2026-11-24T00:00:00+00:00", **figures(evidence, "whole", 0.01),
    )  # fmt: skip
    write_certificate(artifact, made, evidence)
    return made


def test_what_is_known_to_answer_worse_is_refused_with_the_variant_that_passes(
    ok: Run, run_tiffin: Run, int8: Path, avx2: None, photo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file for other CPUs, on a CPU of class avx2: refused with the variant named; the box takes the right one."""
    ok("quantize", "fp32", "--scheme", "cpu-vnni", "--data", photo_folder, "--per-class", 2, "--out", "full")
    ok("certify", "int8", "--data", photo_folder, "--threads", 1, "--margin", 0.25)
    assert failed(Artifact.load("full"), monkeypatch).verdict == "FAIL"
    photo = photo_folder / "test/pear/00.png"
    ended = run_tiffin("predict", "full", photo)
    assert ended.code == 1 and "certified to answer worse" in ended.err and "int8 on onnxruntime" in ended.err
    assert "--allow-uncertified" in run_tiffin("predict", "full", photo, "--allow-uncertified", "--help").out
    assert ok("predict", "full", photo, "--allow-uncertified").out

    packed = ok("pack", "full", "int8", "fp32@openvino", "--out", "box.tiffin").out
    assert "avx2 FAIL" in packed and "avx2 PASS" in packed and max(map(len, packed.splitlines())) <= 80
    assert "artifact int8, backend onnxruntime" in ok("predict", "box.tiffin", photo).err
    assert "artifact fp32, backend openvino" in ok("predict", "box.tiffin", photo, "--backend", "openvino").err
    assert "avx2" in ok("certificates", "box.tiffin").out

    claim = Path("int8/claims/certificate-avx2-onnxruntime.json")
    claim.write_text(claim.read_text().replace('"flips": ', '"flips": 1'))
    ended = run_tiffin("predict", "int8", photo)
    assert ended.code == 2 and "flips: not what the predictions beside it give" in ended.err


def test_a_box_is_ordered_by_a_record_of_times(ok: Run, refused: Run, int8: Path) -> None:
    timed = ("--launches", 1, "--blocks", 2, "--block-s", 0.01, "--target", 0.9, "--threads", 1)
    ok("bench", "fp32@openvino", "int8@onnxruntime", *timed, "--out", "bench.json")
    shown = ok("pack", "fp32@openvino", "int8@onnxruntime", "--speed", "bench.json", "--out", "box.tiffin").out
    box = open_box(Path("box.tiffin"))
    times = box.about["times_of_the_first"]
    assert "× time" in shown and list(times.values()) == sorted(times.values()) and min(times.values()) == 1
    assert [f"{v.artifact.folder.name}@{v.run.backend}" for v in box.variants] == list(times)
    assert "has no time of" in refused("pack", "fp32@onnxruntime", "--speed", "bench.json", "--out", "b.tiffin").err
    assert "ends in .tiffin" in refused("pack", "fp32", "--out", "box.zip").err


def test_a_box_is_ordered_by_photos_a_second_where_that_was_measured(int8: Path, tmp_path: Path) -> None:
    artifact = Artifact.load(int8)
    rounds = {}
    for name, call_ms, photos_per_s in (("onnxruntime", 20, 100), ("openvino", 40, 200)):
        blocks = tuple(np.full(100, int(call_ms * 1e6)) for _ in range(4))
        told = {"wall_s": np.full(4, 100 / photos_per_s)}
        rounds[name] = Rounds(blocks, tuple(range(4)), tuple(range(4)), regime="throughput", sensors=told)
    subjects = tuple(Subject(name, artifact.digest, requested={"backend": name}) for name in rounds)
    record = Record("bench", {"cpu": "drawn"}, subjects, rounds=rounds).save(tmp_path / "bench.json")
    given = [Variant(artifact, RunConfig(name)) for name in rounds]
    order, about = _by_speed(given, record)
    assert [variant.run.backend for variant in order] == ["openvino", "onnxruntime"]
    assert list(about["times_of_the_first"].values()) == [1, 2]


def test_the_cpus_that_can_be_emulated_are_listed(ok: Run) -> None:
    listed = ok("emulate", "list").out
    assert all(name in listed for name in ("haswell", "cortex-a72", "cortex-a76", "Raspberry Pi 5"))
    assert max(map(len, listed.splitlines())) <= 80


def test_emulation_refuses_what_it_does_not_know(refused: Run, ok: Run, here: Path, monkeypatch) -> None:
    monkeypatch.setenv("TIFFIN_CACHE", str(here / "cache"))
    assert "unknown CPU 'pentium'" in refused("emulate", "setup", "pentium").err
    assert "nothing was set up" in ok("emulate", "remove", "cortex-a76").out
    monkeypatch.setenv("PATH", "")
    assert "apt-get install qemu-user-static" in refused("emulate", "setup", "cortex-a76", code=1).err


def test_the_class_of_this_cpu_is_shown(ok: Run, avx2: None) -> None:
    assert "class of CPU for certificates: avx2" in ok("backends").out
    assert json.loads(ok("backends", "--json").out)["cpu_class"] == "avx2"


# The device


BLOCKED = (
    *("torch", "onnx", "onnxscript", "onnx_ir", "scipy", "nncf", "openvino", "safetensors"),
    *("pooch", "tqdm"),
)


@pytest.fixture
def device(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command in a process that, like its workers, has none of the workstation's packages."""
    (here / "site").mkdir()
    (here / "site/sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        f"hidden = {BLOCKED}\n"
        "PathFinder.find_spec = lambda name, *rest: None if name.partition('.')[0] in hidden else find(name, *rest)\n"
    )
    env = {**os.environ, "PYTHONPATH": str(here / "site"), "COLUMNS": "80"}
    missing = "import sys\nfor name in sys.argv[1:]:\n    try: __import__(name)\n    except ImportError: print(name)"
    tried = subprocess.run([sys.executable, "-c", missing, *BLOCKED], capture_output=True, text=True, env=env)
    assert tuple(tried.stdout.split()) == BLOCKED

    def run(*words: object, code: int = 0) -> str:
        ended = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, env=env)
        assert ended.returncode == code, ended.stderr
        return ended.stderr if code else ended.stdout

    return run


def test_a_device_measures_shows_and_compares_without_the_workstations_packages(device, here: Path) -> None:
    words = ("--launches", 2, "--blocks", 2, "--block-s", 0.01, "--target", 0.9, "--threads", 1)
    shown = device("bench", "fp32@onnxruntime", "fp32@null", *words, "--out", "one.json")
    assert "fp32@onnxruntime" in shown and "not run" not in shown
    assert set(load_record(here / "one.json").rounds) == {"fp32@onnxruntime", "fp32@null"}
    device("bench", "fp32@onnxruntime", "fp32@null", *words, "--out", "two.json")
    assert "photo to label" in device("show", "one.json", "--details")
    assert json.loads(device("compare", "one.json", "two.json", "--json"))["rows"]


def test_a_device_decides_from_records_and_is_told_what_building_needs(device) -> None:
    assert device("optimize", "--from-records", SEARCHED).strip().startswith("ship ")
    for words in (("export",), ("synthesize", "set"), ("demo",), ("optimize",)):
        said = device(*words, "--size", 64, code=1)
        assert "not installed" in said and 'pip install "tiffin[build]"' in said, said


def test_a_full_disk_is_one_error_and_leaves_the_old_record(
    refused: Run, ok: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("bench", "fp32@null", "--launches", 1, "--blocks", 1, "--block-s", 0.01, "--time-limit-s", 1)
    said = " ".join(ok(*words, "--out", "old.json").out.split())
    assert "p50 over 1 launch, so no interval" in said and not re.search(r"\(.*–", said)
    kept = Path("old.json").read_bytes()

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    ended = refused(*words, "--out", "old.json")
    assert "No space left on device" in ended.err and Path("old.json").read_bytes() == kept


def test_a_limit_of_a_files_size_is_one_error(here: Path) -> None:
    import resource

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    ended = subprocess.run([*COMMAND, "compile", "fp32", "--out", "ir"], capture_output=True, text=True,
                           preexec_fn=limit)  # fmt: skip
    assert ended.returncode == 2 and "openvino cannot write the IR" in ended.stderr and "internal" not in ended.stderr
    assert not Path("ir").exists() and left_over(here) == []


# The search


SEARCHED = Path(tiffin.__file__).parent / "benchmarks" / "results" / "optimize-search.json"


def test_optimize_decides_from_a_devices_records(ok: Run) -> None:
    shown = ok("optimize", "--from-records", SEARCHED).out
    assert shown.strip().startswith("ship ") and "not confirmed" in " ".join(shown.split())
    assert max(map(len, shown.splitlines())) <= 80
    told = json.loads(ok("optimize", "--from-records", SEARCHED, "--json").out)
    assert told["winner"] == told["shipped"] and told["confirmed"] is None and told["folder"] is None
    assert {row["name"] for row in told["rows"] if not row["refused"]} >= {told["winner"], told["reference"]}


def test_a_budget_that_nothing_meets_names_the_nearest(refused: Run) -> None:
    ended = refused("optimize", "--from-records", SEARCHED, "--max-latency-ms", "0.5", code=1)
    assert "nothing meets" in ended.err and "0.5 ms: the nearest is" in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--time-budget", "soon"), "time budget 'soon'"),
        (("--max-drop", "0"), "max drop 0.0"),
        (("--objective", "joy"), "unknown objective 'joy'"),
        (("--regime", "joy"), "unknown regime 'joy'"),
        (("--from-records", "absent.json"), "no such record"),
        (("--from-records", SEARCHED, "--reference", "joy"), "reference 'joy'"),
        (("--from-records", SEARCHED, "--mean", "0.5", "--fps", "3"), "--fps, --mean with --from-records"),
        (("out/fp32", "--reference", "joy"), "--reference with no --from-records"),
        (("absent.safetensors",), "no such checkpoint"),
        (("absent",), "absent: no such folder"),
    ],
)
def test_what_optimize_cannot_use_is_named(refused: Run, photo_folder: Path, words, said: str) -> None:
    data = () if "--from-records" in words else ("--data", photo_folder)
    assert said in refused("optimize", *words, *data).err


# The doctor


def test_a_sound_artifact_is_said_to_be_so(ok: Run, here: Path) -> None:
    ended = ok("doctor", "fp32", "--backend", "tensorrt_rtx", "--capability", "8.9")
    assert "fp32: nothing stops the compile for tensorrt_rtx" in " ".join(ended.out.split())
    assert json.loads(ok("doctor", "fp32", "--json").out)["findings"] == []


def test_a_cpu_graph_is_refused_by_its_nodes_and_fixed(
    ok: Run, run_tiffin: Run, here: Path, photo_folder: Path
) -> None:
    ok("quantize", "fp32", "--data", photo_folder, "--per-class", 2, "--out", "my int8")
    ended = run_tiffin("doctor", "my int8")
    said = " ".join(ended.out.split())
    assert ended.code == 1 and ended.err == "" and max(map(len, ended.out.splitlines())) <= 80
    assert "error: uint8 zero points" in said and "(QuantizeLinear)" in said and "more" in said
    assert "`tiffin doctor 'my int8' --backend tensorrt_rtx --fix`" in said
    told = json.loads(run_tiffin("doctor", "my int8", "--json").out)
    assert len(told["findings"]) > 10 and {"check", "severity", "node", "what", "fix", "fixed_by"} == set(
        told["findings"][0]
    )

    fixed = ok("doctor", "my int8", "--fix")
    said = " ".join(fixed.out.split())
    assert "float_bias: " in said and "the answers stay the same" in said and "the answers change" in said
    assert "my int8-tensorrt: nothing stops the compile" in said
    assert fixed.err == "next: tiffin compile 'my int8-tensorrt' --backend tensorrt_rtx\n"
    assert max(map(len, fixed.out.splitlines())) <= 80
    assert Artifact.load("my int8-tensorrt").manifest.scheme == "tensorrt"
    assert "nothing here that --fix can change" in ok("doctor", "my int8-tensorrt", "--fix", "--out", "none").out
    assert not Path("none").exists() and left_over(here) == []


def test_what_was_not_checked_is_said(ok: Run, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tiffin.errors import EngineMissing
    from tiffin.export import engine

    def missing(model: bytes, backend: str) -> list[engine.ParserProblem]:
        raise EngineMissing("backend tensorrt is not installed", "it", 'pip install "tiffin[tensorrt]"')

    monkeypatch.setattr(engine, "parser_problems", missing)
    said = " ".join(ok("doctor", "fp32", "--backend", "tensorrt").out.split())
    assert "not checked: operators" in said and 'pip install "tiffin[tensorrt]"' in said
    assert "nothing stops the compile for tensorrt; but not all was checked" in said


def test_what_the_parser_refuses_stops_the_compile(
    run_tiffin: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tiffin.export import engine

    problem = engine.ParserProblem("Conv_4", "Conv", "Plugin\nnot found")
    monkeypatch.setattr(engine, "parser_problems", lambda model, backend: [problem])
    ended = run_tiffin("doctor", "fp32")
    assert ended.code == 1 and "Conv_4 (Conv)" in ended.out and "Plugin not found" in ended.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("fp32", "--backend", "openvino"), "one of tensorrt, tensorrt_rtx"),
        (("fp32", "--capability", "new"), "compute capability 'new'"),
        (("fp32", "--out", "elsewhere"), "--out without --fix"),
        (("absent",), "absent: no such folder"),
    ],
)
def test_what_the_doctor_cannot_look_at_is_named(refused: Run, words: tuple[str, ...], said: str) -> None:
    assert said in refused("doctor", *words).err


def test_the_doctor_looks_at_onnx_only(refused: Run, here: Path, openvino_artifact: Artifact) -> None:
    shutil.copytree(openvino_artifact.folder, here / "ir")
    assert "format openvino" in refused("doctor", "ir").err
