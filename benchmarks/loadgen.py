"""MLPerf LoadGen over a session in a worker of its own: scenarios, validity in LoadGen's own words, a record."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from .. import machine
from ..artifact import Artifact, TensorSpec
from ..data.prepared import PreparedPhotos
from ..errors import BadInput, WorkerFailed
from ..records import Predictions, Record, Rounds
from .accuracy import refuse_calibration_photos
from .candidate import Candidate
from .loadgen_logs import LoadgenResult, read_answers, read_result
from .rounds import random_feeds
from .workers.client import WorkerClient
from .workers.loadgen import MODES, SCENARIOS, LoadOptions, need_loadgen

NOISE_SAMPLES = 64  # random feeds where there are no photos
_PROBE_S = 1.0
_GRACE_S = 120.0  # beyond what a test should take

Say = Callable[[str], None]


def run_loadgen(
    candidate: Candidate,
    options: LoadOptions,
    photos: PreparedPhotos | None,
    logs: Path,
    seed: int = 0,
    data: Mapping[str, object] | None = None,
    say: Say = lambda line: None,
) -> Record:
    """One LoadGen test.

    Args:
        photos: what the samples are; None for seeded noise, in performance mode only.
        logs: folder that LoadGen's own logs are moved to, when the test is over.
        data: of the record: name, kind, role, count.

    Returns:
        A record of kind "loadgen": `result_of` finds LoadGen's result in it, `predictions` hold what was answered in
        accuracy mode, `rounds` what each query took as the worker saw it (single-stream and multi-stream, the latter's
        batch being the samples of a query).

    Raises:
        BadInput: a scenario or mode that is none, zero photos, a rate ≤ 0, a batch that the scenario or artifact lacks.
        EngineMissing: LoadGen is not installed.
        Overlap: accuracy on photos that have calibrated the artifact.
        WorkerFailed, EngineFailed: as the worker says.
    """
    artifact = _check(candidate, options, photos)
    need_loadgen()
    environment = machine.environment()
    with tempfile.TemporaryDirectory(prefix="tiffin-loadgen-") as scratch:
        folder = Path(scratch, "logs")
        folder.mkdir()
        samples = {name: str(path) for name, path in _samples(artifact, photos, Path(scratch), seed).items()}
        answer, applied = _drive(candidate, options, samples, folder, say)
        whole = _expected_count(options, photos, data)
        shortened = {**answer["shortened"], **whole}
        result = read_result(folder, options.scenario, options.mode, shortened, answer["duration_s"])
        found = (
            {candidate.name: _predictions(folder, artifact, photos)} if options.mode == "accuracy" and photos else {}
        )
        rounds = _rounds(folder, candidate, options, result)
        logs.mkdir(parents=True, exist_ok=True)
        for log in folder.glob("mlperf_log_*"):
            shutil.move(log, logs / log.name)
    about = {**asdict(options), "seed": seed, "loadgen": json.loads(json.dumps(asdict(result)))}
    return Record("loadgen", environment, (candidate.subject(applied=applied),), about, data or {}, rounds, found,
                  created=machine.utc_now())  # fmt: skip


def result_of(record: Record) -> LoadgenResult:
    """LoadGen's result in a record of kind "loadgen".

    Raises:
        BadInput: the record is of another kind.
    """
    if record.kind != "loadgen":
        raise BadInput(f"a record of kind {record.kind}", "one that `tiffin loadgen` wrote")
    return LoadgenResult(**{**record.options["loadgen"], "reasons": tuple(record.options["loadgen"]["reasons"])})


def _check(candidate: Candidate, options: LoadOptions, photos: PreparedPhotos | None) -> Artifact:
    artifact = candidate.artifact
    if artifact is None or candidate.run is None:
        raise BadInput(f"{candidate.name}: nothing to load ({candidate.reason})", "an artifact that can run")
    check_options(options)
    if photos is not None and len(photos) == 0:
        raise BadInput("zero photos", "at least one")
    if options.mode == "accuracy":
        _check_accuracy(candidate.name, artifact, photos)
    for spec in artifact.manifest.inputs:
        _check_batch(artifact, spec, options.batch)
    return artifact


def check_options(options: LoadOptions) -> None:
    """Raises BadInput where they do not fit each other."""
    if options.scenario not in SCENARIOS:
        raise BadInput(f"unknown scenario {options.scenario!r}", f"one of {', '.join(SCENARIOS)}")
    if options.mode not in MODES:
        raise BadInput(f"unknown mode {options.mode!r}", f"one of {', '.join(MODES)}")
    for name, value in (("target qps", options.target_qps), ("target latency", options.target_latency_ms)):
        if value is not None and not 0 < value < float("inf"):
            raise BadInput(f"{name} {value}", "a number above 0")
    if not 0 < options.duration_s < float("inf"):
        raise BadInput(f"duration {options.duration_s} s", "seconds above 0")
    if options.scenario == "server" and options.target_qps is None:
        raise BadInput("the server scenario without a target", "queries a second", "give --target-qps")
    if options.batch < 1 or options.batch > 1 and options.scenario not in ("offline", "multi-stream"):
        raise BadInput(f"batch {options.batch} in the {options.scenario} scenario", "1: its queries are of one sample")


def _check_accuracy(name: str, artifact: Artifact, photos: PreparedPhotos | None) -> None:
    classes = len(artifact.manifest.labels)
    if photos is None or not classes:
        raise BadInput(f"{name}: accuracy without photos or labels", "a classifier, and photos with their truth")
    if photos.truth.min() < 0 or photos.truth.max() >= classes:
        raise BadInput(f"photos of classes up to {photos.truth.max()}", f"labels 0 to {classes - 1}")
    refuse_calibration_photos(name, artifact, photos)


def _check_batch(artifact: Artifact, spec: TensorSpec, batch: int) -> None:
    if not spec.shape or spec.shape[0] not in (None, batch) or spec.shape[0] not in (None, 1):
        raise BadInput(
            f"{artifact.folder}: input {spec.name} of shape {list(spec.shape)} for batch {batch}",
            "a batch that is dynamic, or 1",
        )


def _samples(artifact: Artifact, photos: PreparedPhotos | None, scratch: Path, seed: int) -> dict[str, Path]:
    """Input name → .npy file, one row a sample."""
    if photos is not None:
        return {artifact.manifest.inputs[0].name: photos.path}
    drawn = [random_feeds(artifact, 1, seed + index) for index in range(NOISE_SAMPLES)]
    paths = {}
    for number, name in enumerate(drawn[0]):
        paths[name] = scratch / f"input-{number}.npy"
        np.save(paths[name], np.concatenate([feeds[name] for feeds in drawn]))
    return paths


def _drive(
    candidate: Candidate, options: LoadOptions, samples: Mapping[str, str], folder: Path, say: Say
) -> tuple[dict[str, Any], dict[str, object]]:
    """What the worker answered, and what the engine applied."""
    assert candidate.artifact is not None and candidate.run is not None
    plain = asdict(options)
    with WorkerClient(
        candidate.artifact, candidate.run, candidate.place, random_feeds(candidate.artifact, 1, 0)
    ) as worker:
        probed = worker.ask("loadgen", _GRACE_S, step="probe", samples=samples, options=plain, seconds=_PROBE_S)
        rate, expected_s = probed["samples_per_s"], probed["expected_s"]
        say(f"LoadGen: {options.scenario}, {options.mode}, about {expected_s:.0f} s")
        answer = worker.ask("loadgen", _GRACE_S + 4 * expected_s, step="drive", samples=samples, options=plain,
                            samples_per_s=rate, folder=str(folder))  # fmt: skip
        return answer, worker.applied


def _expected_count(
    options: LoadOptions, photos: PreparedPhotos | None, data: Mapping[str, object] | None
) -> dict[str, str]:
    """An accuracy run is of all photos; of fewer, it is shortened too."""
    of = (data or {}).get("of")
    if options.mode == "accuracy" and photos is not None and isinstance(of, int) and of > len(photos):
        return {"photos": f"{len(photos)} of {of}"}
    return {}


def _predictions(folder: Path, artifact: Artifact, photos: PreparedPhotos) -> Predictions:
    logits = read_answers(folder, len(photos), len(artifact.manifest.labels))
    missing = int(np.isnan(logits).all(axis=1).sum())
    if missing:
        raise WorkerFailed(f"LoadGen logged no answer to {missing} of {len(photos)} photos", "one each")
    return Predictions.from_logits(photos.hashes, photos.truth, logits, photos.kind)


def _rounds(folder: Path, candidate: Candidate, options: LoadOptions, result: LoadgenResult) -> dict[str, Rounds]:
    if options.mode != "performance" or options.scenario not in ("single-stream", "multi-stream"):
        return {}
    assert candidate.run is not None
    lanes = candidate.run.lanes if options.scenario == "multi-stream" else 1
    block = np.load(folder / "query_ns.npy")
    return {candidate.name: Rounds((block,), (0,), (1,), batch=result.samples_per_query, lanes=lanes)}
