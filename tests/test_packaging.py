"""The wheel holds the git tree's packages and their data, all of them and nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import tiffin

ROOT = Path(tiffin.__file__).parent
# Read from the tree, not shipped: studies and committed records.
NOT_SHIPPED = ("benchmarks/results/", "benchmarks/peers/", "benchmarks/studies/")
AT_THE_ROOT = ("__init__.py", "errors.py", "machine.py", "py.typed", "words.py")

pytestmark = pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(), reason="no git, or no checkout"
)


def tree() -> list[str]:
    """Files of the working tree that git knows or would add."""
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(words, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return sorted(name for name in set(listed) if name and (ROOT / name).is_file())


def packaged(files: list[str]) -> set[str]:
    """Those that belong in the wheel: everything in a folder with an `__init__.py`, and the root's modules."""
    rooms = {name.split("/")[0] for name in files if name.count("/") == 1 and name.endswith("/__init__.py")}
    in_rooms = {name for name in files if name.split("/")[0] in rooms and not name.startswith(NOT_SHIPPED)}
    return in_rooms | (set(AT_THE_ROOT) & set(files))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    for name in tree():
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / "tree" / name)
    words = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w"]
    made = subprocess.run([*words, str(folder / "dist"), str(folder / "tree")], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    (found,) = (folder / "dist").glob("*.whl")
    return found


@pytest.fixture(scope="module")
def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def test_the_wheel_holds_the_trees_packages_and_data(names: set[str]) -> None:
    shipped = {name.removeprefix("tiffin/") for name in names if name.startswith("tiffin/")}
    wanted = packaged(tree())
    assert sorted(wanted - shipped) == [] and sorted(shipped - wanted) == []
    assert {"py.typed", "train/weights/efficientnet-lite0-grocery.safetensors"} <= shipped


def test_the_wheel_holds_nothing_else(names: set[str]) -> None:
    assert {name.split("/")[0] for name in names} == {"tiffin", f"tiffin-{tiffin.__version__}.dist-info"}
    assert [name for name in names if re.search(r"/(test|docs/|conftest|Makefile)", name)] == []


def test_the_wheel_names_the_command_and_the_licence(wheel: Path) -> None:
    about = f"tiffin-{tiffin.__version__}.dist-info"
    with zipfile.ZipFile(wheel) as opened:
        assert "tiffin = tiffin.cli.app:main" in opened.read(f"{about}/entry_points.txt").decode()
        assert f"{about}/licenses/LICENSE" in opened.namelist()


def test_the_wheel_runs_from_elsewhere(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        opened.extractall(tmp_path)
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from tiffin.cli.app import main; main()"
    words = [sys.executable, "-c", code, str(tmp_path), "--version"]
    ended = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (0, f"tiffin {tiffin.__version__}\n"), ended.stderr


# What loading an artifact and running feeds does without: Pillow and typer are for photos and commands.
NOT_IMPORTED = (
    *("PIL", "typer", "rich", "scipy", "onnx", "torch", "onnxruntime", "openvino"),
    *("asyncio", "zipfile", "importlib.metadata", "email", "tiffin.cli"),
)


def imported_by(code: str) -> set[str]:
    """Modules that `code` brings beyond those of numpy and the interpreter's start."""
    told = f"import sys, numpy; old = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - old), sep='\\n')"
    ended = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


def test_the_runtime_imports_nothing_that_feeds_do_without() -> None:
    found = imported_by("import tiffin.runtime")
    assert "tiffin.runtime.session" in found and found.isdisjoint(NOT_IMPORTED), found & set(NOT_IMPORTED)


def test_one_of_our_backends_is_found_without_a_look_at_every_installed_package() -> None:
    found = imported_by("from tiffin.runtime import backends; backends.backend('null')")
    assert "tiffin.runtime.backends.null" in found and "importlib.metadata" not in found


# Up to glibc 2.35, which JetPack 6 has; Raspberry Pi OS 12 (2.36) and later take these too. Boards of 2.31 are not
# asked for: openvino's wheel wants 2.35. pip takes a tag literally, so that the older ones are named as well.
AARCH64 = ("manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 36)))
# tensorrt comes with JetPack, tensorrt-rtx has no aarch64 wheel, and torch is the workstation's.
ON_BOARDS = "onnxruntime,openvino,photos,video,watch,heif,serve"


def resolved(wheel: Path, extras: str, *target: str) -> dict[str, str]:
    """What pip would install into an empty environment: name → file of the distribution."""
    words = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--retries=1", "--timeout=20"]
    words += ["--dry-run", "--ignore-installed", "--only-binary=:all:", "--report=-", *target, f"{wheel}[{extras}]"]
    ended = subprocess.run(words, capture_output=True, text=True)
    if re.search(r"NewConnectionError|NameResolutionError|ConnectTimeout|ProxyError|from versions: none", ended.stderr):
        reached = [*words[:-1], "pip"]
        if subprocess.run(reached, capture_output=True).returncode:
            pytest.skip("the package index cannot be reached")
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout)["install"]
    return {each["metadata"]["name"].lower(): each["download_info"]["url"].split("/")[-1] for each in found}


def test_the_extra_of_an_engine_brings_it_and_little_more(wheel: Path) -> None:
    found = set(resolved(wheel, "onnxruntime"))
    assert {"tiffin", "numpy", "pillow", "typer", "onnxruntime"} <= found
    assert found.isdisjoint({"torch", "onnx", "scipy", "openvino", "nncf", "transformers", "pandas", "sympy"}), found


@pytest.mark.parametrize("python", ["3.10", "3.13"])  # JetPack 6, Raspberry Pi OS 13; what installs on both does on 12
def test_everything_on_a_board_has_a_wheel_for_aarch64(wheel: Path, python: str, tmp_path: Path) -> None:
    platforms = [word for tag in AARCH64 for word in ("--platform", tag)]
    target = ["--target", str(tmp_path), "--python-version", python, "--implementation", "cp"]
    found = resolved(wheel, ON_BOARDS, *platforms, *target)
    assert {"numpy", "pillow", "onnxruntime", "openvino", "simplejpeg", "av"} <= set(found)
    assert [name for name in found.values() if not name.endswith(("aarch64.whl", "-any.whl"))] == []
