"""Our int8 artifacts beside what other quantizers make of the same model and photos, in one interleaved run.

    python benchmarks/peers/compare.py FP32_ARTIFACT OURS… --data DIR --out benchmarks/results/peers-quantizers.json

Every peer gets the fp32 `model.onnx` and the calibration photos that `tiffin quantize` draws (three a class, seed 0);
one that controls accuracy also gets the select role. Each runs in an environment of its own, with its defaults; one
that cannot be installed or fails is a row with the reason. What it makes runs on the engine that its users would take.

All are timed together by the same workers, back to back (OUT) and paced (OUT with `-paced`), and scored on all photos
of the confirm role. Environments and what the peers made are kept in --work: a second run only measures.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from peers import HERE, PEERS, Made, Peer, make, timed

from tiffin import machine
from tiffin.artifact import Artifact, Producer, RunConfig
from tiffin.artifact.claims import read_claim
from tiffin.artifact.files import sha256_file
from tiffin.artifact.store import save
from tiffin.benchmarks.accuracy import score
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.options import RoundOptions
from tiffin.benchmarks.rounds import Measurement
from tiffin.cli import options, render
from tiffin.data import Dataset, Photo, balanced, find_dataset, prove_disjoint, sample
from tiffin.data.prepared import PreparedPhotos, prepare_photos
from tiffin.errors import BadInput, TiffinError
from tiffin.optimize.candidates import without_vnni
from tiffin.records import Predictions, Record, Rounds, Subject
from tiffin.records.rounds import Regime

PER_CLASS, SEED = 3, 0


@dataclass(frozen=True)
class Roles:
    """Photos of one dataset: to calibrate on, to control accuracy with, to score."""

    dataset: Dataset
    calibrate: tuple[Photo, ...]
    validate: tuple[Photo, ...]
    scored: tuple[Photo, ...]
    role: str

    @classmethod
    def of(cls, dataset: Dataset, role: str, photos: int | None, cache: Path) -> Roles:
        """Drawn, and proven disjoint, save that a try on the select role scores what accuracy was controlled with."""
        scored = dataset.role(role) if photos is None else sample(dataset.role(role), photos, SEED)
        roles = cls(dataset, balanced(dataset.role("calibrate"), PER_CLASS, SEED), dataset.role("select"), scored, role)
        hashes = cache / "pixel-hashes.json"
        prove_disjoint(roles.calibrate, scored, ("calibrate", role), hashes)
        if role != "select":
            prove_disjoint(roles.validate, scored, ("select", role), hashes)
        return roles


class Comparison:
    """One run: what is compared, and what has been found so far."""

    def __init__(self, fp32: Artifact, roles: Roles, work: Path, threads: int) -> None:
        self._fp32, self._roles, self._work, self._threads = fp32, roles, work, threads
        self._progress = render.TerminalProgress()
        self._environment = machine.environment()
        self._made: dict[str, dict[str, Any]] = {}
        self._job, self._hashes = self._lay_down()
        self.candidates = [Candidate(f"fp32 on {name}", fp32, self._run(name)) for name in ("onnxruntime", "openvino")]

    def _prepared(self, photos: Sequence[Photo], artifact: Artifact) -> PreparedPhotos:
        return prepare_photos(photos, artifact.preprocess, self._work / "cache", self._roles.dataset.kind)

    def _lay_down(self) -> tuple[Path, tuple[str, ...]]:
        """The job's folder, as `job.Job` reads it, and the calibration photos' hashes."""
        job = self._work / "job"
        job.mkdir(parents=True, exist_ok=True)
        calibrate, validate = (self._prepared(p, self._fp32) for p in (self._roles.calibrate, self._roles.validate))
        np.save(job / "calibrate.npy", calibrate.array())
        np.save(job / "validate.npy", validate.array())
        np.save(job / "validate-labels.npy", validate.truth)
        shutil.copyfile(self._fp32.model_path, job / "model.onnx")
        (job / "job.json").write_text(json.dumps({"input": self._fp32.manifest.inputs[0].name}))
        return job, calibrate.hashes

    def _run(self, backend: str) -> RunConfig:
        return RunConfig(backend, threads=self._threads)

    def add_ours(self, candidate: Candidate, limit_s: float) -> None:
        """Under a name that says whose it is, with the time it takes to make.

        Raises:
            BadInput: another row is called the same.
        """
        assert candidate.run is not None and candidate.artifact is not None
        name = f"Tiffin {candidate.artifact.folder.resolve().name} on {candidate.run.backend}"
        if name in self._made:
            raise BadInput(f"two rows would be called {name!r}", "artifacts in folders of different names")
        self._made[name] = self._made_again(candidate.artifact, limit_s)
        self.candidates.append(dataclasses.replace(candidate, name=name))

    def _made_again(self, artifact: Artifact, limit_s: float) -> dict[str, Any]:
        """Seconds that `quantize` takes for it, and whether the same bytes came out; else what its maker told."""
        told = artifact.manifest.producer
        if told.options.get("method") == "qat":  # not once more: its own record of the training tells
            epochs = (read_claim(artifact, "training") or {"history": []})["history"]
            return {"seconds": sum(epoch["seconds"] for epoch in epochs) or None}
        if told.verb != "quantize" or "quantizer" not in told.options or artifact.manifest.parent != self._fp32.digest:
            return {"seconds": told.options.get("seconds")}
        self._progress.say(f"{artifact.folder.name}: made once more, to time it")
        out = self._work / "made" / f"ours-{artifact.digest[:16]}"
        if not (out / "made.json").exists():
            out.mkdir(parents=True, exist_ok=True)
            words = [
                HERE / "ours.py",
                self._fp32.folder,
                artifact.folder,
                self._job / "calibrate.npy",
                out / "artifact",
            ]
            try:
                seconds, cpu_s = timed([sys.executable, *map(str, words)], out / "log.txt", limit_s)
            except TiffinError as error:
                return {"seconds": None, "reason": error.what}
            same = sha256_file(out / "artifact" / "model.onnx") == artifact.manifest.files[0].sha256
            found = {"seconds": seconds, "cpu_s": cpu_s, "same_bytes": same}
            (out / "made.json").write_text(json.dumps(found))
        return dict(json.loads((out / "made.json").read_text()))

    def add(self, peer: Peer, limit_s: float) -> None:
        """A peer's row; what fails is its reason."""
        name = f"{peer.words} on {peer.backend}"
        try:
            made = make(peer, self._job, self._work, limit_s, self._progress.say)
            artifact = self._wrapped(peer, made)
        except TiffinError as error:
            self._progress.say(f"  {error.what}")
            self.candidates.append(Candidate(name, reason=error.what))
            return
        self._made[name] = made.plain()
        self.candidates.append(Candidate(name, artifact, self._run(peer.backend)))

    def _wrapped(self, peer: Peer, made: Made) -> Artifact:
        """A foreign int8 file as an artifact: its dialect has no name of ours, its photos are never scored."""
        manifest = dataclasses.replace(
            self._fp32.manifest, precision="int8", scheme=None, parent=self._fp32.digest, run=None,
            producer=Producer(f"peer {peer.script}", made.versions, made.options),
            calibration=tuple(digest[:16] for digest in self._hashes),
        )  # fmt: skip
        return save(self._work / "artifacts" / peer.script, manifest, {"model.onnx": made.model})

    def time(self, rounds: RoundOptions) -> tuple[tuple[Subject, ...], dict[str, Rounds], dict[str, Any]]:
        """Everything in one interleaved run."""
        self._progress.say(f"timing {rounds.regime}: {len(self.candidates)} candidates, {rounds.launches} launches")
        run = Measurement(self.candidates, rounds, self._progress.timing)
        run.run()
        self._progress.timed()
        about = {**dataclasses.asdict(rounds), "elapsed_s": round(run.elapsed_s, 1), "not_told": run.missing_sensors()}
        return run.subjects(), run.rounds(), about

    def answers(self, subjects: Sequence[Subject]) -> tuple[tuple[Subject, ...], dict[str, Predictions]]:
        """All photos, natively and, where this CPU has VNNI, once more without it."""
        limited = without_vnni(self.candidates)
        rows = [*zip(self.candidates, subjects, strict=True), *((row, row.subject()) for row in limited)]
        found, kept = {}, []
        for candidate, subject in rows:
            if not subject.reason and candidate.artifact is not None:
                try:
                    found[candidate.name], applied = self._score(candidate, candidate.artifact)
                    subject = subject if subject.applied else dataclasses.replace(subject, applied=applied)
                except TiffinError as error:
                    subject = dataclasses.replace(subject, reason=error.what)
            kept.append(subject)
        return tuple(kept), found

    def _score(self, candidate: Candidate, artifact: Artifact) -> tuple[Predictions, dict[str, object]]:
        photos = self._prepared(self._roles.scored, artifact)
        bar = self._progress.bar(f"scoring {candidate.name}", len(photos))
        return score(candidate, photos, self._work / "cache", bar)

    def record(self, subjects: tuple[Subject, ...], about: dict[str, Any], **found: Any) -> Record:
        """All that was found, with what each took to make."""
        dataset = self._roles.dataset
        data = {
            "name": dataset.name, "kind": dataset.kind, "role": self._roles.role, "count": len(self._roles.scored),
            "calibration": len(self._roles.calibrate), "accuracy_controlled_on": f"select, {len(self._roles.validate)}",
            "labels": dataset.labels,
        }  # fmt: skip
        return Record("bench", self._environment, subjects, {**about, "made": self._made}, data, **found,
                      created=machine.utc_now())  # fmt: skip


def main() -> None:
    """Make, measure, score, write."""
    asked = words().parse_args()
    threads = asked.threads or machine.usable_cores()
    fp32, ours = Artifact.load(asked.fp32), options.candidates(asked.ours, None, threads, None)
    roles = Roles.of(find_dataset(asked.data), asked.role, asked.photos, asked.work / "cache")
    run = Comparison(fp32, roles, asked.work, threads)
    for candidate in ours:
        run.add_ours(candidate, asked.limit_s)
    for peer in PEERS:
        if peer.script not in asked.without:
            run.add(peer, asked.limit_s)

    def rounds(regime: str) -> RoundOptions:
        return RoundOptions(launches=asked.launches, max_launches=asked.launches, target=None, seed=SEED,
                            regime=cast("Regime", regime), fps=asked.fps, time_limit_s=3600)  # fmt: skip

    subjects, times, about = run.time(rounds("back-to-back"))
    subjects, answers = run.answers(subjects)
    run.record(subjects, about, rounds=times, predictions=answers).save(asked.out)
    subjects, times, about = run.time(rounds("paced"))
    paced = asked.out.with_name(f"{asked.out.stem}-paced.json")
    run.record(subjects, about, rounds=times).save(paced)
    render.say(f"records: {asked.out}, {paced} (print them: tiffin show RECORD)")


def words() -> argparse.ArgumentParser:
    """The command line."""
    told = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    told.add_argument("fp32", type=Path, help="ONNX artifact that all are made from")
    told.add_argument("ours", nargs="+", help="our artifacts; FOLDER@BACKEND runs one on another engine")
    told.add_argument("--data", type=Path)
    told.add_argument("--out", type=Path, default=Path("benchmarks/results/peers-quantizers.json"))
    told.add_argument("--work", type=Path, default=Path("out/peers"))
    told.add_argument("--role", choices=("confirm", "select"), default="confirm", help="select: for tries")
    told.add_argument("--photos", type=int, help="how many to score; default: all")
    told.add_argument("--launches", type=int, default=12)
    told.add_argument("--fps", type=float, default=30.0, help="of the paced regime")
    told.add_argument("--threads", type=int)
    told.add_argument("--limit-s", type=float, default=3600, help="a quantizer that takes longer is stopped")
    told.add_argument("--without", nargs="*", default=(), help="scripts of peers to leave out")
    return told


if __name__ == "__main__":
    main()
