"""How many megabytes an install takes: a wheel of this tree in a fresh environment for each extra.

    python benchmarks/studies/footprint.py RECORD.json [--extras none,onnxruntime,openvino]
    python benchmarks/studies/footprint.py --table docs/footprint.md RECORD.json

Bytes are those of the files that pip says it wrote (each distribution's RECORD), with `--no-compile`: Python adds
`.pyc` files as it runs. The wheel is built from a copy in a temporary folder; `none` is the install without extras.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import tiffin
from tiffin import machine
from tiffin.benchmarks.studies.page import fill
from tiffin.cli.render import Table, say
from tiffin.records import Record
from tiffin.records.record import Subject, load_record

EXTRAS = ("none", "onnxruntime", "openvino", "tensorrt-rtx", "torch", "photos", "video", "watch", "heif", "serve")
SHIPPED = {"weights": "tiffin/train/weights/", "synthesized photos": "tiffin/data/synthesized/"}
NOT_COPIED = shutil.ignore_patterns(".*", "out", "build", "dist", "*.egg-info", "__pycache__", "tests")
LEAST_NAMED = 1_000_000  # bytes of a distribution that the table names

Sizes = dict[str, dict[str, Any]]  # distribution → version, bytes


def build_wheel(folder: Path) -> Path:
    """Of the working tree, without leaving anything in it."""
    shutil.copytree(Path(tiffin.__file__).parent, folder / "tree", ignore=NOT_COPIED)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "tree"))
    (found,) = folder.glob("*.whl")
    return found


def pip(*words: str) -> None:
    """Raises CalledProcessError, with what pip said."""
    asked = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    subprocess.run(asked, check=True, capture_output=True, text=True)


def shipped(wheel: Path) -> dict[str, int]:
    """What of the package is data, in bytes once installed."""
    with zipfile.ZipFile(wheel) as opened:
        entries = opened.infolist()
    return {what: sum(e.file_size for e in entries if e.filename.startswith(where)) for what, where in SHIPPED.items()}


def installed(wheel: Path, extra: str, folder: Path) -> Sizes:
    """Of the package with one extra, and nothing else."""
    return fresh(folder, f"{wheel}[{extra}]" if extra != "none" else str(wheel))


def fresh(folder: Path, *wanted: str) -> Sizes:
    """Every distribution of a new environment into which pip installs what is wanted.

    Raises:
        CalledProcessError: it cannot be installed.
    """
    venv.create(folder, clear=True, with_pip=False)
    pip("--python", str(folder), "install", "--no-compile", *wanted)
    place = sysconfig.get_path("purelib", "venv", {"base": str(folder)})
    return {
        each.metadata["Name"].lower(): {"version": each.version, "bytes": written(each)}
        for each in metadata.distributions(path=[place])
    }


def written(each: metadata.Distribution) -> int:
    """Bytes of a distribution's files, its command and its own notes included."""
    files = [Path(str(each.locate_file(file))) for file in each.files or ()]
    return sum(file.stat().st_size for file in files if file.exists())


def measure(extras: list[str], out: Path) -> None:
    """One environment after another, each removed before the next."""
    environment, sizes = machine.environment(), dict[str, Sizes]()
    subjects = []
    with tempfile.TemporaryDirectory() as folder:
        wheel = build_wheel(Path(folder))
        about = {"wheel_bytes": wheel.stat().st_size, "shipped_bytes": shipped(wheel)}
        for extra in extras:
            say(f"installing: {extra}")
            reason = ""
            with tempfile.TemporaryDirectory() as place:
                try:
                    sizes[extra] = installed(wheel, extra, Path(place))
                except subprocess.CalledProcessError as error:
                    reason = next(line for line in error.stderr.splitlines()[::-1] if line.startswith("ERROR"))
            subjects.append(Subject(extra, size_bytes=total(sizes.get(extra, {})), reason=reason))
    options = {"compile": False, **about, "installed": sizes}
    Record("study", environment, tuple(subjects), options, created=machine.utc_now()).save(out)


def total(sizes: Sizes) -> int:
    """Bytes of one environment."""
    return sum(each["bytes"] for each in sizes.values())


def table(record: Record) -> str:
    """A row an extra: what is there in all, and what it adds to the install without extras."""
    sizes: Mapping[str, Sizes] = record.options["installed"]
    base = sizes["none"]
    rows = [["none", named(base), "", f"{total(base) / 1e6:.1f}"]]
    for subject in record.subjects:
        if subject.reason:
            rows.append([f"`{subject.name}`", subject.reason, "", ""])
        elif subject.name != "none":
            found = sizes[subject.name]
            added = {name: each for name, each in found.items() if name not in base}
            rows.append([f"`{subject.name}`", named(added), *(f"{total(each) / 1e6:.1f}" for each in (added, found))])
    head = ["extra", "brings, MB each", "MB more", "MB in all"]
    return f"{Table(head, rows, left=2).markdown()}\n\n{notes(record)}"


def named(sizes: Sizes) -> str:
    """The larger ones by name and version, the rest as a number."""
    large = {name: each for name, each in sizes.items() if each["bytes"] >= LEAST_NAMED}
    words = [
        f"{name} {each['version']} {each['bytes'] / 1e6:.1f}"
        for name, each in sorted(large.items(), key=lambda pair: -pair[1]["bytes"])
    ]
    rest, count = total(sizes) - total(large), len(sizes) - len(large)
    return ", ".join([*words, f"{count} more {rest / 1e6:.1f}"] if count else words)


def notes(record: Record) -> str:
    """Where, and what the package itself holds."""
    about, options = record.environment, record.options
    held = ", ".join(f"{what} {size / 1e6:.1f} MB" for what, size in options["shipped_bytes"].items())
    lines = [
        f"the wheel is {options['wheel_bytes'] / 1e6:.1f} MB; installed it holds {held}",
        f"{about['system']}, Python {about['python']}, without `.pyc` files, {record.created[:10]}; MB are 10⁶ bytes",
    ]
    return "\n".join(f"- {line}" for line in lines)


def main() -> None:
    """Measure, or write the table into a page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs="+", type=Path)
    words.add_argument("--extras", default=",".join(EXTRAS))
    words.add_argument("--table", action="store_true", help="PAGE RECORD.json: write the page's table")
    asked = words.parse_args()
    if asked.table:
        fill(asked.paths[0], "footprint", table(load_record(asked.paths[1])))
        return
    measure(asked.extras.split(","), asked.paths[0])
    print(table(load_record(asked.paths[0])))  # noqa: T201


if __name__ == "__main__":
    main()
