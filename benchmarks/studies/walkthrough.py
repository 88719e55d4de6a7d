"""Run a walkthrough's steps as they stand in the document: the board's on an emulated CPU, with few photos.

    python benchmarks/studies/walkthrough.py docs/raspberry-pi.md --cpu cortex-a76

A step is an indented line below a heading `## N. Workstation: …` or `## N. Board: …`. The workstation's run here, with
this Python; the board's in a sysroot with the packages that the board gets, on one core, so that its lines of venv and
pip are left out. `scp` copies between two folders. `tiffin bench` is cut short: no latency is taken in an emulator. The
data is the synthesized set, whose pictures prove nothing about accuracy. What ran is written between the marks of the
document.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tiffin.benchmarks.emulation import cpus, sysroot
from tiffin.benchmarks.studies.page import fill
from tiffin.data.download import SYNTHESIZED

UNVERIFIED = "# not verified"
SET_UP = ("python3 -m venv", "pip install")
SHORT_BENCH = "--launches 1 --blocks 1 --block-s 0.02 --time-limit-s 2"


@dataclass(frozen=True)
class Section:
    """Steps of one place: "workstation" or "board"; those that nobody could run are left out."""

    place: str
    steps: tuple[str, ...]


class StepFailed(Exception):
    """One ended with another code than 0."""


def sections(text: str) -> list[Section]:
    """In the document's order."""
    found = []
    for part in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        if place := re.match(r"\d+\. (Workstation|Board): ", part):
            lines = [line.strip() for line in part.splitlines() if line.startswith("    ")]
            found.append(Section(place[1].lower(), tuple(line for line in lines if UNVERIFIED not in line)))
    return found


@dataclass(frozen=True)
class Stage:
    """Two folders that stand for the workstation and the board, and the commands that they find.

    Args:
        workstation, board: the script that is `tiffin` in each; None: the board's own, by its steps of set-up.
        added: command of Tiffin → words that its lines get behind them.
    """

    root: Path
    workstation: str
    board: str | None
    added: Mapping[str, str] = field(default_factory=lambda: {"bench": SHORT_BENCH})

    def prepare(self, photos: Path, photo: Path) -> None:
        """The user's photos, and one more, on the workstation."""
        for place, script in (("workstation", self.workstation), ("board", self.board)):
            (self.root / place).mkdir(parents=True)
            self._command(place, "scp", _scp(self.root / ("board" if place == "workstation" else "workstation")))
            if script is not None:
                cases = "".join(f'{name}) set -- "$@" {words} ;; ' for name, words in self.added.items())
                self._command(place, "tiffin", f'#!/bin/sh\ncase "$1" in {cases}esac\n{script} "$@"\n')
        shutil.copytree(photos, self.root / "workstation/photos")
        shutil.copyfile(photo, self.root / "workstation/photo.jpg")

    def _command(self, place: str, name: str, script: str) -> None:
        path = self.root / f"commands-{place}" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(script)
        path.chmod(0o755)

    def run(self, section: Section, environment: Mapping[str, str]) -> None:
        """All its steps in one shell, as a person types them.

        Raises:
            StepFailed: with all that was said; the last line that begins with + is the step.
        """
        path = f"{self.root}/commands-{section.place}{os.pathsep}{os.environ['PATH']}"
        script = "\n".join(section.steps)
        log = self.root / f"{section.place}.log"
        here, env = self.root / section.place, {**os.environ, "PATH": path, **environment}
        with log.open("a") as told:
            words = ["bash", "-exc", script]
            done = subprocess.run(words, cwd=here, env=env, stdin=subprocess.DEVNULL, stdout=told, stderr=told)
        if done.returncode:
            raise StepFailed(log.read_text())


def without_set_up(section: Section) -> Section:
    """The steps of the board where Tiffin is installed already."""
    return replace(section, steps=tuple(step for step in section.steps if not step.startswith(SET_UP)))


def _scp(other: Path) -> str:
    """`scp` between two folders; HOST:FILE is a file of the other one."""
    return f"""#!/bin/bash
words=()
for word; do case $word in -*) ;; *:*) words+=("{other}/${{word#*:}}") ;; *) words+=("$word") ;; esac; done
exec cp -r "${{words[@]}}"
"""


def few_photos(folder: Path, count: int) -> Path:
    """The synthesized set, with all its pictures to calibrate with and so many to score on."""
    shutil.copytree(SYNTHESIZED, folder)
    head, *rows = (folder / "photos.csv").read_text().splitlines()
    scored = [row for row in rows if row.startswith("confirm,")]
    kept = [row for row in rows if row not in scored[count:]]
    (folder / "photos.csv").write_text("\n".join([head, *kept]) + "\n")
    return folder


def tiffin_by(python: Sequence[str]) -> str:
    """A shell's line that runs Tiffin by an interpreter."""
    return " ".join(["exec", *python, "-c", "'from tiffin.cli.app import main; main()'"])


@contextlib.contextmanager
def emulated_python(name: str) -> Iterator[tuple[str, dict[str, str], str]]:
    """A script that is Python on an emulated CPU, for its workers too; its environment; what it is, in words."""
    cpu = cpus.cpu_named(name)
    wheels = (*sysroot.wheels_wanted(("onnxruntime",)), "pillow", "typer")
    built = sysroot.set_up(cpu, wheels, lambda line: print(line, file=sys.stderr))  # noqa: T201
    place = sysroot.place_in(cpu, built)
    with tempfile.TemporaryDirectory(prefix="tiffin-python-") as folder:
        script = Path(folder, "python")
        # Python finds its own name, which workers are started by, in argv[0].
        qemu, *words = place.argv_prefix
        command = " ".join([qemu, "-0", str(script), *words, place.python])
        script.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        script.chmod(0o755)
        environment = {**{key: value for key, value in place.env.items() if value is not None}, "PYTHONHOME": "/usr"}
        about = (
            f"{cpu.name} ({cpu.boards}), QEMU {place.identity.split()[0]}, onnxruntime {built.version('onnxruntime')}"
        )
        yield str(script), environment, about


def _core() -> str:
    return str(min(os.sched_getaffinity(0)))


def table(ran: Sequence[Section], words: str, photos: int) -> str:
    """What ran, as Markdown."""
    rows = [f"| {section.place} | `{step}` |" for section in ran for step in section.steps]
    return "\n".join(["| place | ended with 0 |", "| --- | --- |", *rows, "", f"- board: {words}, one thread, "
                      f"{photos} photos to score; `tiffin bench` only to see that it runs"])  # fmt: skip


def main() -> None:
    """Run all, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("document", type=Path)
    parser.add_argument("--cpu", default="cortex-a76")
    parser.add_argument("--photos", type=int, default=6)
    asked = parser.parse_args()
    ran = []
    with (
        tempfile.TemporaryDirectory(prefix="tiffin-walk-") as folder,
        emulated_python(asked.cpu) as (python, env, words),
    ):
        stage = Stage(
            Path(folder, "walk"), tiffin_by([sys.executable]), tiffin_by(["nice", "taskset", "-c", _core(), python])
        )
        stage.prepare(few_photos(Path(folder, "few"), asked.photos), SYNTHESIZED / "confirm-000.jpg")
        for section in map(without_set_up, sections(asked.document.read_text())):
            print(f"{section.place}: {len(section.steps)} steps", file=sys.stderr)  # noqa: T201
            try:
                stage.run(section, {**env, "TIFFIN_CACHE": f"{folder}/cache"} if section.place == "board" else {})
            except StepFailed as error:
                sys.exit(str(error)[-3000:])
            ran.append(section)
    if "<!-- table walkthrough:" in asked.document.read_text():
        fill(asked.document, "walkthrough", table(ran, words, asked.photos))


if __name__ == "__main__":
    main()
