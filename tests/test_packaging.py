"""The wheel holds the git tree's packages and their data, all of them and nothing else."""

from __future__ import annotations

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
AT_THE_ROOT = ("__init__.py", "errors.py", "machine.py", "py.typed")

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
