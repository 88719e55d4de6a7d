"""What runs on the device: the walkthroughs' steps, the examples, and imports where the system lacks Linux' modules."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tiffin
from tiffin.artifact import Artifact

ROOT = Path(tiffin.__file__).parent
EXAMPLES = ROOT / "docs" / "examples"
# What the workstation has and a device need not have.
WORKSTATION = (
    "torch", "onnx", "onnx_ir", "onnxscript", "nncf", "scipy", "safetensors", "tqdm", "pooch", "openvino",
    "junitparser", "altair", "vl_convert", "jinja2",
)  # fmt: skip
# Modules of the standard library that Windows lacks.
LINUX_MODULES = ("fcntl", "grp", "pwd", "resource", "termios", "posix")
DEVICE_ROOMS = ("artifact", "records", "runtime", "benchmarks/workers", "benchmarks/emulation", "cli", "data", "deploy")

pytestmark = pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="no checkout")


def _study() -> ModuleType:
    """benchmarks/studies/walkthrough.py, which is no part of the package."""
    path = ROOT / "benchmarks" / "studies" / "walkthrough.py"
    found = importlib.util.spec_from_file_location("walkthrough_study", path)
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # dataclasses look their module up
    found.loader.exec_module(module)
    return module


walkthrough = _study()


@pytest.fixture
def device(tmp_path: Path) -> dict[str, str]:
    """An environment in which a Python finds none of the workstation's packages; its workers inherit that."""
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(
        "from importlib.machinery import PathFinder\n"
        "find = PathFinder.find_spec\n"
        f"hidden = {WORKSTATION!r}\n"
        "PathFinder.find_spec = lambda name, *rest: None if name.partition('.')[0] in hidden else find(name, *rest)\n"
    )
    return {"PYTHONPATH": str(tmp_path / "hidden"), "TIFFIN_CACHE": str(tmp_path / "cache"), "TIFFIN_DATA": ""}


def test_the_hidden_packages_are_not_found(device: dict[str, str]) -> None:
    code = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
    words = [sys.executable, "-c", code, *WORKSTATION, "numpy"]
    asked = subprocess.run(words, env={**os.environ, **device}, capture_output=True, text=True, check=True)
    assert asked.stdout.strip() == "['numpy']"


@pytest.mark.parametrize("document", ["raspberry-pi.md", "jetson.md"])
def test_each_step_of_a_walkthrough_runs(
    document: str, device: dict[str, str], checkpoint_file: Path, photo_folder: Path, tmp_path: Path
) -> None:
    """With a small network: `tiffin export` gets its checkpoint behind what the document has."""
    steps = walkthrough.sections((ROOT / "docs" / document).read_text())
    assert {section.place for section in steps} == {"workstation", "board"}
    tiffin_here = walkthrough.tiffin_by([sys.executable])
    added = {"bench": walkthrough.SHORT_BENCH, "export": str(checkpoint_file)}
    stage = walkthrough.Stage(tmp_path / "walk", tiffin_here, tiffin_here, added)
    stage.prepare(photo_folder, photo_folder / "test" / "leek" / "01.jpg")
    for section in map(walkthrough.without_set_up, steps):
        stage.run(section, device if section.place == "board" else {"TIFFIN_DATA": ""})
    said = (stage.root / "board.log").read_text()
    assert "openvino      –" in said, "the board's steps found a package of the workstation"
    decided = (stage.root / "workstation.log").read_text().partition("+ tiffin optimize")[2]
    assert document != "raspberry-pi.md" or re.search(r"@onnxruntime .* ship$", decided, re.MULTILINE)


def test_a_step_that_fails_is_told(tmp_path: Path) -> None:
    stage = walkthrough.Stage(tmp_path / "walk", "false", None)
    stage.prepare(walkthrough.few_photos(tmp_path / "few", 1), walkthrough.SYNTHESIZED / "confirm-000.jpg")
    with pytest.raises(walkthrough.StepFailed, match=r"\+ tiffin backends"):
        stage.run(walkthrough.Section("workstation", ("tiffin backends", "true")), {})


@pytest.mark.slow  # builds a wheel and installs ONNX Runtime from the package index: a minute
def test_the_raspberry_pis_steps_run_with_only_what_pip_brings(tmp_path: Path) -> None:
    wheel = _wheel(tmp_path)
    stage = walkthrough.Stage(tmp_path / "walk", walkthrough.tiffin_by([sys.executable]), None)
    stage.prepare(walkthrough.few_photos(tmp_path / "few", 12), walkthrough.SYNTHESIZED / "confirm-000.jpg")
    for section in walkthrough.sections((ROOT / "docs" / "raspberry-pi.md").read_text()):
        lines = (line.replace('"./tiffin-0.1.0-py3-none-any.whl[', f'"{wheel}[') for line in section.steps)
        steps = tuple(
            f"{line} {walkthrough.SHORT_BENCH}" if line.startswith("tiffin bench") else line for line in lines
        )
        cache = {"TIFFIN_DATA": "", "TIFFIN_CACHE": str(tmp_path / "cache")}
        stage.run(walkthrough.Section(section.place, steps), cache)
    python = stage.root / "board" / ".venv" / "bin" / "python"
    installed = subprocess.run([python, "-m", "pip", "list"], capture_output=True, text=True, check=True).stdout
    assert "onnxruntime" in installed and not re.search(rf"^({'|'.join(WORKSTATION)}) ", installed, re.MULTILINE)


@pytest.mark.slow  # builds a wheel and installs OpenVINO from the package index: a minute
def test_an_openvino_device_runs_with_only_what_pip_brings(
    onnx_artifact: Artifact, openvino_artifact: Artifact, photo_folder: Path, tmp_path: Path
) -> None:
    """The commands, and the Python of docs/runtime.md, for whoever has OpenVINO and no ONNX Runtime."""
    (tmp_path / "out").mkdir()
    for name, artifact in (("onnx", onnx_artifact), ("int8", openvino_artifact)):
        shutil.copytree(artifact.folder, tmp_path / "out" / name)
    shutil.copyfile(photo_folder / "test" / "leek" / "01.jpg", tmp_path / "photo.jpg")
    for index, block in enumerate(
        re.findall(r"```python\n(.*?)```", (ROOT / "docs/runtime.md").read_text(), re.DOTALL)
    ):
        (tmp_path / f"block{index}.py").write_text(block.replace("224", "32").replace("onnxruntime", "openvino"))
    steps = (
        "python3 -m venv .venv && . .venv/bin/activate",
        f'pip install "{_wheel(tmp_path)}[openvino,photos]"',
        "tiffin backends",
        "tiffin selftest out/int8",
        "tiffin predict out/int8 photo.jpg",
        "tiffin predict out/onnx photo.jpg --backend openvino",
        "for block in block*.py; do python $block; done",
        "pip list",
    )
    log = tmp_path / "log.txt"
    with log.open("w") as told:
        cache = {"TIFFIN_DATA": "", "TIFFIN_CACHE": str(tmp_path / "cache")}
        words = ["bash", "-exc", "\n".join(steps)]
        ended = subprocess.run(words, cwd=tmp_path, env={**os.environ, **cache}, stdout=told, stderr=told)
    said = log.read_text()
    assert ended.returncode == 0, said
    assert "passed: openvino: answered" in said and said.count("leek") >= 2
    without = (*(name for name in WORKSTATION if name != "openvino"), "onnxruntime")
    assert not re.search(rf"^({'|'.join(without)}) ", said.partition("+ pip list")[2], re.MULTILINE)


def _wheel(folder: Path) -> Path:
    """Of a copy of the tree, so that nothing is built in it."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                            capture_output=True, text=True, check=True).stdout.split("\0")  # fmt: skip
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, folder / "tree" / name)
    words = ["-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w"]
    subprocess.run([sys.executable, *words, str(folder / "dist"), str(folder / "tree")], check=True)
    return next((folder / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, photos: np.ndarray) -> Path:
    """A video of eight frames in place of the camera."""
    av = pytest.importorskip("av")
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "bgr0"
        for pixels in photos[:8]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def _labels(artifact: Path, photos: np.ndarray) -> list[tuple[float, str]]:
    from tiffin.runtime import Classifier

    with tiffin.load(artifact) as session:
        return [(best.score, best.label) for photo in photos for best in [Classifier(session).predict(photo, top=1)[0]]]


def _example(name: str, *words: object) -> list[str]:
    asked = [sys.executable, str(EXAMPLES / name), *map(str, words)]
    return subprocess.run(asked, capture_output=True, text=True, check=True, timeout=120).stdout.splitlines()


@pytest.mark.parametrize("name", ["raspberry_pi_camera.py", "jetson_camera.py"])
def test_a_cameras_example_labels_each_frame(name: str, onnx_artifact, clip: Path, photos: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    expected = [f"{score:4.0%} {label}" for score, label in _labels(onnx_artifact.folder, photos[:8])]
    assert _example(name, onnx_artifact.folder, clip) == expected


def test_the_kiosk_says_unknown_below_its_threshold(onnx_artifact, clip: Path, photos: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    found = _labels(onnx_artifact.folder, photos[:8])
    least = float(np.median([score for score, _ in found]))
    expected = [label if score >= least else "unknown" for score, label in found]
    assert 0 < expected.count("unknown") < 8
    assert _example("kiosk.py", onnx_artifact.folder, clip, least) == expected


def test_the_kiosk_watches_a_folder(onnx_artifact, photo_folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("watchfiles")
    words = [sys.executable, str(EXAMPLES / "kiosk.py"), str(onnx_artifact.folder), str(tmp_path), "0"]
    photo = photo_folder / "test" / "leek" / "01.jpg"
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as running:
        try:
            shutil.copyfile(photo, tmp_path / "draft")
            (tmp_path / "draft").rename(tmp_path / "new.jpg")
            assert running.stdout is not None
            said = running.stdout.readline().strip()
        finally:
            running.kill()
    (expected,) = _example("kiosk.py", onnx_artifact.folder, photo, 0)
    assert said == expected


def test_the_device_rooms_import_where_linux_modules_are_missing() -> None:
    """As on Windows: no POSIX modules, calls or signals. What needs them says so when it is called."""
    names = [
        ".".join(("tiffin", *path.relative_to(ROOT).with_suffix("").parts))
        for room in DEVICE_ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if path.name != "__init__.py" and not {"templates", "__pycache__"} & set(path.parts)
    ]
    # What the standard library itself is built on is imported first.
    code = (
        "import importlib, os, signal, sys, subprocess, tempfile, shutil, pathlib, zipfile, concurrent.futures.thread\n"
        "import asyncio, multiprocessing, select, numpy, PIL.Image, typer.testing\n"
        f"for name in {LINUX_MODULES!r}: sys.modules[name] = None\n"
        "for name in [n for n in dir(os) if n.startswith(('sched_', 'killpg', 'waitid', 'getpriority', 'setpriority',"
        " 'sysconf', 'getloadavg', 'uname', 'fork', 'O_NONBLOCK', 'O_DIRECTORY'))]: delattr(os, name)\n"
        "for name in ('SIGKILL', 'SIGSTOP', 'SIGCONT', 'SIGHUP', 'SIGUSR1', 'SIGUSR2'): delattr(signal, name)\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "from tiffin import machine\n"
        "machine.environment()\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("missing", ["killpg", "waitid"])
def test_measuring_says_what_it_needs_where_no_process_can_be_paused(missing: str, onnx_artifact, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    from tiffin.benchmarks.workers.client import WorkerClient
    from tiffin.benchmarks.workers.place import NATIVE
    from tiffin.errors import EngineMissing
    from tiffin.runtime import default_run

    monkeypatch.delattr(os, missing)
    with pytest.raises(EngineMissing, match="Linux, or macOS"):
        WorkerClient(onnx_artifact, default_run(onnx_artifact), NATIVE, {})


@pytest.mark.parametrize(
    ("system", "said"), [("Linux aarch64", "ARM"), ("Darwin arm64", "ARM"), ("Linux x86_64", "VNNI")]
)
def test_a_record_of_an_arm_board_says_nothing_of_a_missing_vnni(system: str, said: str) -> None:
    from tiffin.optimize.proof import vnni_notes

    (note,) = vnni_notes({"system": system, "cpu_features": ["asimd"]})
    assert note.startswith(said) or (said == "VNNI" and "has no VNNI" in note)
