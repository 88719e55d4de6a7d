"""Options that several commands share, each said once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..artifact.store import is_artifact
from ..errors import BadInput

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..artifact import Artifact, Preprocess
    from ..benchmarks.candidate import Candidate
    from ..benchmarks.workers.place import Place
    from ..data import Dataset

Subjects = Annotated[
    list[str], typer.Argument(help="Artifacts; FOLDER@BACKEND runs one on another engine.", show_default=False)
]
Scored = Annotated[
    list[str],
    typer.Argument(
        help="Artifacts; FOLDER@BACKEND runs one on another engine, FOLDER@simulated simulates TensorRT's in float.",
        show_default=False,
    ),
]

Data = Annotated[
    Path | None,
    typer.Option(help="Dataset folder; else $TIFFIN_DATA, the user cache, the official download."),
]
PER_CLASS = 3  # calibration photos that a command draws unless it is told another number
PerClass = Annotated[int, typer.Option(min=1, help="Calibration photos of each class.")]
Out = Annotated[Path, typer.Option(help="Folder to write the artifact to.")]
Backend = Annotated[
    str | None,
    typer.Option(help="Engine to run on; see `tiffin backends`. Default: by the artifact's format."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of one lane. Default: usable cores.")]
Lanes = Annotated[int | None, typer.Option(min=1, help="Runs in flight. Default: the artifact's, else 1.")]
Priority = Annotated[str | None, typer.Option(help="low, normal or high, against other work. Default: normal.")]
Cpus = Annotated[str | None, typer.Option(help="Cores to keep to, such as 0,2.")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder of the engine's compiled cache: the next start is faster.", show_default=False),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Precision = Annotated[str | None, typer.Option(help="Float layers computed in: fp32, fp16 or bf16. Default: fp32.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of every draw.")]
FitTemperature = Annotated[
    bool, typer.Option(help="Fit the temperature of its probabilities on held-out photos (docs/confidence.md).")
]


def only(context: typer.Context, fitting: tuple[str, ...], of: str, expected: str = "options that it takes") -> None:
    """Raises BadInput for an option that was given and would be passed over: all but `fitting` are."""
    refuse(context, (name for name in context.params if name not in fitting), of, expected)


def refuse(context: typer.Context, unfit: Iterable[str], of: str, expected: str) -> None:
    """Raises BadInput for an option of these that was given, though `of` passes it over."""
    given = {name for name in unfit if getattr(context.get_parameter_source(name), "name", "") != "DEFAULT"}
    words = ", ".join(each.opts[0] for each in context.command.params if each.name in given)
    if words:
        raise BadInput(f"{words} with {of}", expected, f"leave {words} out")


def split_engine(word: str) -> tuple[str, str]:
    """`FOLDER@ENGINE` as both, the engine empty where none is named.

    An @ before a slash is the path's own, and so is one in the name of an artifact or a box that is there. A
    slash at the folder's end, as a shell completes it, is no part of its name.
    """
    folder, _, engine = word.rpartition("@")
    if not folder or "/" in engine or is_artifact(word) or Path(word).is_file():
        folder, engine = word, ""
    return folder.rstrip("/") or folder, engine


def candidates(
    words: list[str],
    backend: str | None,
    threads: int | None,
    precision: str | None,
    lanes: int = 1,
    cpus: tuple[int, ...] | None = None,
    only_scored: bool = False,
) -> list[Candidate]:
    """One candidate a word: an artifact's folder, with `@BACKEND` where it runs on another engine.

    Args:
        only_scored: `@simulated` may be named too.

    Raises:
        BadArtifact, BadInput: no artifact, no such backend, or one named twice.
    """
    from dataclasses import replace

    from ..artifact import Artifact
    from ..benchmarks import simulation
    from ..benchmarks.candidate import Candidate
    from ..runtime import backends, default_run

    found = []
    for word in words:
        folder, named = split_engine(word)
        artifact = Artifact.load(folder)
        if named == simulation.WORD:
            simulation.require_scoring(word, only_scored)
            found.append(simulation.simulated(word, artifact, threads, precision))
            continue
        run = default_run(artifact)
        chosen = named or backend or run.backend
        backends.backend(chosen)  # an unknown word is refused now, not a row that cannot run
        run = replace(run, backend=chosen, threads=threads, lanes=lanes,
                      execution_precision=precision or run.execution_precision)  # fmt: skip
        found.append(Candidate(f"{folder}@{chosen}", artifact, run, _place(cpus)))
    if len({candidate.name for candidate in found}) < len(found):
        raise BadInput("one candidate is named twice", "different artifacts or backends")
    return _briefly(found)


def _place(cpus: tuple[int, ...] | None) -> Place:
    """Natively, on the cores asked for: another place for whoever compares records."""
    from ..benchmarks.workers.place import NATIVE, Place

    return NATIVE if cpus is None else Place(f"cores {', '.join(map(str, cpus))}", cpus=cpus)


def _briefly(found: list[Candidate]) -> list[Candidate]:
    """Named by their folders alone, where that tells them apart."""
    from dataclasses import replace

    short = [Path(row.name).name for row in found]
    if len(set(short)) < len(short):
        return found
    return [replace(row, name=name) for row, name in zip(found, short, strict=True)]


def run_changes(
    threads: int | None,
    precision: str | None,
    lanes: int | None,
    priority: str | None,
    cpus: str | None,
    cache: Path | None,
) -> dict[str, Any]:
    """The options of a run as `runtime.resolve` takes them; None leaves the artifact's own.

    Raises:
        BadInput: cores that this process may not use.
    """
    return {
        "threads": threads,
        "execution_precision": precision,
        "lanes": lanes,
        "priority": priority,
        "cpus": cpu_list(cpus),
        "cache": cache and str(cache),
    }


def cpu_list(words: str | None) -> tuple[int, ...] | None:
    """`0,2` as numbers.

    Raises:
        BadInput: not numbers, cores that this process may not use, or a system other than Linux.
    """
    import os

    if words is None:
        return None
    if not hasattr(os, "sched_getaffinity"):
        raise BadInput("this system keeps no thread to given cores", "no cores named", "leave --cpus out")
    allowed = sorted(os.sched_getaffinity(0))
    try:
        found = tuple(sorted({int(word) for word in words.split(",")}))
    except ValueError:
        found = ()
    if not found or not set(found) <= set(allowed):
        raise BadInput(f"cores {words!r}", f"some of {', '.join(map(str, allowed))}, separated by commas")
    return found


def require_one_model(found: list[Candidate]) -> None:
    """Latencies of two models are no alternatives of one another.

    Raises:
        BadInput: labels or inputs differ.
    """
    for row in found[1:]:
        for what in ("labels", "inputs"):
            one, other = (getattr(each.artifact.manifest, what) for each in (found[0], row) if each.artifact)
            if one != other:
                raise BadInput(
                    f"{found[0].name} and {row.name} have different {what}",
                    "artifacts of one model",
                    "pass --different-models to compare them all the same",
                )


def labelled(dataset: Dataset, found: list[Candidate]) -> Dataset:
    """The dataset with its photos' classes as the labels of one classifier; says what that took.

    Raises:
        BadDataset: photos of classes that it does not know.
    """
    from . import sources

    manifests = [row.artifact.manifest for row in found if row.artifact]
    return sources.matched(dataset, manifests[0].labels, found[0].name) if manifests else dataset


def require_classifier(artifact: Artifact) -> None:
    """For a command that compares classes.

    Raises:
        BadInput: it answers with something else.
    """
    task = artifact.manifest.task
    if task != "classification":
        raise BadInput(f"{artifact.folder}: task {task}, no classifier", "an artifact that answers with classes",
                       "look inside two other networks by `tiffin debug`, or compare their outputs by "
                       "`tiffin fidelity`")  # fmt: skip


def one_preprocess(found: list[Candidate]) -> Preprocess:
    """What all of them expect of a photo.

    Raises:
        BadInput: labels or preprocessing differ, or one is no classifier.
    """
    labels, hosts = zip(*map(_labels_and_preprocess, found), strict=True)
    if len(set(labels)) > 1 or len({host.digest() for host in hosts}) > 1:
        raise BadInput("artifacts with different labels or preprocessing", "artifacts of one classifier")
    return hosts[0]


def _labels_and_preprocess(row: Candidate) -> tuple[tuple[str, ...], Preprocess]:
    manifest = row.artifact.manifest if row.artifact else None
    if manifest is None or not manifest.labels or manifest.preprocess is None:
        task = f": task {manifest.task}, no classifier" if manifest else ": no artifact"
        raise BadInput(f"{row.name}{task}", "artifacts with labels and preprocessing",
                       "compare the outputs of other networks by PSNR or IoU: `tiffin fidelity`")  # fmt: skip
    return manifest.labels, manifest.preprocess
