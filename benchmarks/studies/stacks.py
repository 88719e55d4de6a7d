"""From the start of a process to its first label, and megabytes installed: Tiffin beside what others would deploy.

    python benchmarks/studies/stacks.py ARTIFACT RECORD.json [--work FOLDER] [--launches 12] [--photo PHOTO]
    python benchmarks/studies/stacks.py --table docs/footprint.md RECORD.json

Each stack has an environment of its own (`benchmarks/peers/requirements/stack_*.txt`, Tiffin's from a wheel of this
tree), kept in --work: `script` is Pillow, numpy and the bare engine, `optimum` its documented class with transformers'
image processor, `ultralytics` its documented call. All answer one photo with one network on the same number of
threads. On OpenVINO each reads an IR. Optimum's file is the artifact's without the first nodes, since it feeds
normalized floats; Ultralytics' begins at 0..1, and its preparation is its own. Labels must agree, and scores too where
the preparation does, or there is no record. The clock is coldstart.py's; programs start in turn, in seeded order, after
two launches each that are not counted. What cannot run is a row with its reason. Nothing is fetched but by pip.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.peers.peers import QUIET
from tiffin.benchmarks.studies.coldstart import PHOTO, Launch, environment_of, facts, in_turn, require_same
from tiffin.benchmarks.studies.footprint import Sizes, build_wheel, fresh, total
from tiffin.benchmarks.studies.page import fill
from tiffin.benchmarks.studies.stack_models import optimum_folder, ultralytics_file
from tiffin.benchmarks.studies.stack_programs import STACKS, Stack
from tiffin.cli.render import Table, say
from tiffin.export.to_openvino import to_openvino
from tiffin.records import Record
from tiffin.records.latency import median_interval
from tiffin.records.ratios import ratio_over_launches
from tiffin.records.record import load_record

ULTRALYTICS_QUIET = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
ITS_OWN_PREPARATION = ("ultralytics",)


@dataclass(frozen=True)
class Installed:
    """A stack in its environment; `reason` where pip could not make it, or it does not answer."""

    stack: Stack
    python: Path
    sizes: Sizes = field(default_factory=dict, hash=False)
    reason: str = ""


def install(stack: Stack, wheel: Path, work: Path) -> Installed:
    """Its environment, made if it is not there."""
    folder = work / stack.full_name.replace(" ", "-")
    done, python, key = folder / "installed.json", folder / "bin" / "python", stack.key(wheel)
    told = json.loads(done.read_text()) if done.exists() else {}
    if told.get("key") != key:
        say(f"installing: {stack.full_name}")
        try:
            told = {"key": key, "sizes": fresh(folder, *stack.requirements(wheel))}
        except subprocess.CalledProcessError as error:
            lines = [line for line in error.stderr.splitlines() if line.startswith("ERROR")]
            return Installed(stack, python, reason=lines[-1] if lines else "pip failed")
        done.write_text(json.dumps(told))
    return Installed(stack, python, told["sizes"])


class Programs:
    """One photo and one network, in every form that a stack reads."""

    def __init__(self, artifact: Artifact, photo: Path, folder: Path) -> None:
        self._photo, self._folder, self.threads = photo, folder, machine.usable_cores()
        self._ours = {"onnxruntime": artifact, "openvino": to_openvino(artifact, folder / "ir")}
        self._theirs = {f"{engine} optimum": optimum_folder(artifact, folder / f"optimum-{engine}", engine)
                        for engine in self._ours}  # fmt: skip
        self._theirs["onnxruntime ultralytics"] = ultralytics_file(artifact, folder / "ultralytics")
        self._about, self._side = folder / "about.json", artifact.preprocess.height
        self._about.write_text(json.dumps(facts(artifact)))

    def words(self, each: Installed) -> list[str]:
        """The command that answers."""
        stack, ours = each.stack, self._ours[each.stack.engine]
        file = self._folder / f"{stack.full_name}.py"
        file.write_text(stack.program(ours.manifest.inputs[0].name))
        photo, threads = str(self._photo), str(self.threads)
        rest = {
            "tiffin": [str(ours.folder), photo, stack.engine, threads, ""],
            "ultralytics": [str(self._theirs.get(stack.full_name)), photo, str(self._side)],
        }
        model = self._theirs.get(stack.full_name, ours.model_path)
        return [str(each.python), str(file), *rest.get(stack.name, [str(model), photo, str(self._about), threads, ""])]


def why_not(each: Installed, words: Sequence[str], env: Mapping[str, str]) -> str:
    """Its reason not to answer, or an empty string."""
    if each.reason:
        return each.reason
    told = subprocess.run(words, capture_output=True, text=True, env=dict(env))
    return (told.stderr.strip().splitlines() or ["no word"])[-1] if told.returncode else ""


def measure(artifact: Artifact, photo: Path, work: Path, launches: int, out: Path) -> None:
    """Every stack that runs so many times, after two launches each that are not counted."""
    environment = machine.environment()
    with tempfile.TemporaryDirectory() as name:
        wheel, programs = build_wheel(Path(name)), Programs(artifact, photo, Path(name))
        env = environment_of(work) | QUIET | ULTRALYTICS_QUIET | {"YOLO_CONFIG_DIR": name}
        made = [install(stack, wheel, work) for stack in STACKS]
        words = {each: programs.words(each) for each in made}
        reasons = {each: why_not(each, words[each], env) for each in made}
        running = {each: words[each] for each in made if not reasons[each]}
        # `why_not` was the first of the two that are not counted
        found = {each: launched[1:] for each, launched in in_turn(running, env, launches, 1).items()}
    require_same_answers(found)
    about = {"launches": launches, "threads": programs.threads, "photo": photo.name, **_about(made, found)}
    run = {each: RunConfig(each.stack.engine, threads=programs.threads) for each in made}
    subjects = tuple(
        Candidate(each.stack.full_name, artifact, run[each], reason=reasons[each]).subject(
            cold_start_s=tuple(one.seconds for one in found.get(each, ())),
            peak_bytes=max((one.peak_bytes or 0 for one in found.get(each, ())), default=None),
        )
        for each in made
    )
    Record("study", environment, subjects, about, created=machine.utc_now()).save(out)


def require_same_answers(found: Mapping[Installed, Sequence[Launch]]) -> None:
    """One label of all, and one score of all that prepare the photo alike for an engine."""
    alike: dict[str, set[tuple[str, float]]] = {}
    for each, launches in found.items():
        answers = {one.answer for one in launches}
        alike.setdefault("labels", set()).update((label, 0.0) for label, _ in answers)
        if each.stack.name not in ITS_OWN_PREPARATION:
            alike.setdefault(each.stack.engine, set()).update(answers)
    require_same(alike)


def _about(made: Sequence[Installed], found: Mapping[Installed, Sequence[Launch]]) -> dict[str, Any]:
    """What a subject has no field for, by its name."""
    names = {each: each.stack.full_name for each in made}
    return {
        "installed": {names[each]: each.sizes for each in made},
        "told": {names[each]: each.stack.told for each in made},
        "cpu_s": {names[each]: [one.cpu_s for one in launches] for each, launches in found.items()},
        "answers": {names[each]: sorted({one.answer for one in launches}) for each, launches in found.items()},
    }


def table(record: Record) -> str:
    """A row a stack: the median to the first label and its ratio to Tiffin's, CPU time, memory, its environment."""
    rows = []
    for subject in record.subjects:
        engine, name = subject.name.split()
        if subject.reason:
            rows.append([engine, name, _versions(record, subject.name), subject.reason, "", "", "", ""])
            continue
        took, ours = (np.array(record.subject(each).cold_start_s) for each in (subject.name, f"{engine} tiffin"))
        cpu_s = np.median(record.options["cpu_s"][subject.name])
        rows.append([
            engine, name, _versions(record, subject.name), f"{median_interval(took).value * 1e3:.0f}",
            "1" if name == "tiffin" else _ratio(took / ours), f"{cpu_s * 1e3:.0f}",
            f"{(subject.peak_bytes or 0) / 1e6:.0f}", f"{total(record.options['installed'][subject.name]) / 1e6:.0f}",
        ])  # fmt: skip
    head = ["engine", "stack", "of", "first label, ms", "÷ Tiffin's", "CPU, ms", "peak MB", "MB installed"]
    return f"{Table(head, rows, left=3).markdown()}\n\n{notes(record)}"


def _ratio(ratios: np.ndarray) -> str:
    found = ratio_over_launches(ratios)
    return f"{found.value:.2f} ({found.low:.2f}–{found.high:.2f})"


def _versions(record: Record, name: str) -> str:
    sizes = record.options["installed"][name]
    return ", ".join(f"{each} {sizes[each]['version']}" for each in record.options["told"][name] if each in sizes)


def notes(record: Record) -> str:
    """Where, and how much of a stack is NVIDIA's."""
    about, asked = record.environment, record.options
    lines = [
        f"{about['cpu']}, {asked['threads']} threads, {record.subjects[0].precision}, {asked['launches']} launches; "
        "medians, the greatest peak, ratios by launch with their 95 % interval",
        f"{about['system']}, Python {about['python']}, {record.created[:10]}; MB are 10⁶ bytes, without `.pyc` files",
    ]
    for name, sizes in asked["installed"].items():
        theirs = {each: size for each, size in sizes.items() if each.startswith(("nvidia-", "cuda-"))}
        if theirs:
            lines.append(f"{total(theirs) / 1e6:.0f} MB of {name.split()[1]} are NVIDIA's libraries")
    return "\n".join(f"- {line}" for line in lines)


def main() -> None:
    """Measure, or write the table into a page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs=2, type=Path)
    words.add_argument(
        "--work", type=Path, default=machine.cache_folder() / "stacks", help="environments are kept here"
    )
    words.add_argument("--launches", type=int, default=12)
    words.add_argument("--photo", type=Path, default=PHOTO)
    words.add_argument("--table", action="store_true", help="PAGE RECORD.json: write the page's table")
    asked = words.parse_args()
    first, second = asked.paths
    if asked.table:
        fill(first, "stacks", table(load_record(second)))
        return
    measure(Artifact.load(first), asked.photo.resolve(), asked.work.resolve(), asked.launches, second)
    print(table(load_record(second)))  # noqa: T201


if __name__ == "__main__":
    main()
