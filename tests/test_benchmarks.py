"""benchmarks/: rounds in worker processes, when they end, what happens to a worker that fails, accuracy, LoadGen."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import itertools
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import tracemalloc
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiffin
from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.certificate import certificates_for, read_certificates
from tiffin.artifact.cpu_class import class_here, class_named, class_of
from tiffin.artifact.store import save
from tiffin.benchmarks import accuracy, loadgen, rounds
from tiffin.benchmarks.accuracy import score
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.certify import Certifier, CertifyOptions, Context, Target, closest, emulated_target, isa_target
from tiffin.benchmarks.emulation import packages, sysroot
from tiffin.benchmarks.emulation.cpus import cpu_named
from tiffin.benchmarks.emulation.qemu import find_qemu
from tiffin.benchmarks.loadgen import result_of, run_loadgen
from tiffin.benchmarks.loadgen_logs import read_answers, read_result
from tiffin.benchmarks.options import RoundOptions, Status, ending, worst_ending
from tiffin.benchmarks.rounds import Measurement, measure, random_feeds
from tiffin.benchmarks.sensors import Memory, Sensors, between, memory
from tiffin.benchmarks.tally import Tally
from tiffin.benchmarks.workers import loadgen as worker_loadgen
from tiffin.benchmarks.workers import timing
from tiffin.benchmarks.workers.client import Block, WorkerClient
from tiffin.benchmarks.workers.loadgen import SCENARIOS, LoadOptions
from tiffin.benchmarks.workers.place import NATIVE, WITHOUT_VNNI, Place, limited_to
from tiffin.benchmarks.workers.timing import STAGES, prolonged
from tiffin.benchmarks.workers.worker import Worker
from tiffin.data import open_dataset
from tiffin.data.prepared import PreparedPhotos, prepare_photos
from tiffin.errors import BadInput, EngineFailed, EngineMissing, Overlap, TiffinError, WorkerFailed
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_int8
from tiffin.records import Predictions, Record
from tiffin.records.certification import check_certificate
from tiffin.records.classification import top_k
from tiffin.records.conditions import throughput
from tiffin.records.record import load_record
from tiffin.records.stopping import Precision
from tiffin.runtime.backends.null import NullLane

QUICK = RoundOptions(launches=2, blocks=3, block_s=0.01, min_calls=4, warmup_s=0.01, target=None)
ONCE = dataclasses.replace(QUICK, launches=1, blocks=2)


@pytest.fixture(scope="module")
def null(onnx_artifact: Artifact) -> Callable[..., Candidate]:
    """A candidate that computes nothing, in a place of its own."""

    def make(name: str, place: Place = NATIVE) -> Candidate:
        return Candidate(name, onnx_artifact, RunConfig("null"), place)

    return make


def script(path: Path, text: str, interpreter: str = "/bin/sh") -> Place:
    """A place whose `python` is this script."""
    path.write_text(f"#!{interpreter}\n{text}\n")
    path.chmod(0o755)
    return Place("faked", python=str(path))


def running(path: Path, body: str) -> Place:
    """A worker whose null backend runs `body` in each call; `kept` is a list."""
    return script(
        path,
        "import sys, time\n"
        "from tiffin.benchmarks.workers import worker\n"
        "from tiffin.runtime.backends.null import NullLane\n"
        "plain, kept = NullLane.run, []\n"
        "def run(lane, feeds, out=None):\n"
        f"    {body}\n"
        "    return plain(lane, feeds, out)\n"
        "NullLane.run = run\n"
        "sys.argv = [sys.argv[0], *sys.argv[3:]]\n"
        "worker.main()",
        sys.executable,
    )


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


class Watched(WorkerClient):
    """Remembers its siblings, and how they were while one was timed."""

    alive: list[Watched] = []
    seen: list[set[str]] = []

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.alive.append(self)

    def time(self, *arguments) -> Block:
        others = [other for other in self.alive if other is not self and other._process.poll() is None]
        self.seen.append({state_of(other.pid) for other in others})
        return super().time(*arguments)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> type[Watched]:
    monkeypatch.setattr(Watched, "alive", [])
    monkeypatch.setattr(Watched, "seen", [])
    monkeypatch.setattr(rounds, "WorkerClient", Watched)
    monkeypatch.setattr(accuracy, "WorkerClient", Watched)
    return Watched


# Rounds


def test_every_block_is_there_with_its_launch_and_place_in_the_order(null) -> None:
    subjects, found = measure([null("a"), null("b"), null("c")], QUICK)
    assert [subject.name for subject in subjects] == list(found) == ["a", "b", "c"]
    for name, subject in zip(found, subjects, strict=True):
        taken = found[name]
        assert len(taken.blocks) == 6 and taken.launches == (0, 0, 0, 1, 1, 1)
        assert all(len(block) >= 4 and block.dtype == np.int64 and (block > 0).all() for block in taken.blocks)
        assert (taken.batch, taken.regime, taken.lanes, taken.ended) == (1, "back-to-back", 1, "fixed")
        assert len(subject.cold_start_s) == 2 and min(subject.cold_start_s) > 0
        assert subject.applied["backend"] == "null" and not subject.reason


def test_a_cold_start_is_the_sum_of_its_parts_and_memory_is_told(null) -> None:
    (subject,), found = measure([null("a")], QUICK)
    assert list(subject.cold_split_s) == ["start", "import", "load", "first"]
    for launch, whole in enumerate(subject.cold_start_s):
        parts = [seconds[launch] for seconds in subject.cold_split_s.values()]
        assert min(parts) >= 0 and 0 < sum(parts) <= whole
    taken = found["a"]
    assert all(len(taken.sensor(name)) == 6 and (taken.sensor(name) > 0).all() for name in ("wall_s", "span_s"))
    assert (taken.sensor("wall_s") >= [block.sum() / 1e9 for block in taken.blocks]).all()
    assert (taken.sensor("span_s") >= taken.sensor("wall_s")).all() and (taken.sensor("cpu_s") >= 0).all()
    pss = taken.sensor("pss_bytes")
    assert subject.peak_bytes and subject.rss_bytes and subject.steady_bytes
    assert pss.min() <= subject.steady_bytes <= pss.max() <= subject.peak_bytes * 1.01
    assert 1e6 < subject.rss_bytes <= subject.peak_bytes * 1.01


def test_the_order_is_interleaved_and_follows_the_seed(made_up) -> None:
    def orders(seed: int) -> list[tuple[int, ...]]:
        run = made_up(spreads=dict.fromkeys("abc", 0.0), launches=1, blocks=4, target=None, seed=seed)
        return [taken.order for taken in run.rounds().values()]

    first = orders(0)
    assert sorted(position for order in first for position in order) == list(range(1, 13))
    assert all([(position - 1) // 3 for position in order] == [0, 1, 2, 3] for order in first)  # once a round each
    assert orders(0) == first and orders(1) != first


def test_a_block_lasts_as_long_as_asked_and_warm_ups_stay_apart(null) -> None:
    _, found = measure([null("a")], dataclasses.replace(ONCE, block_s=0.2, min_calls=1, warmup_s=0.0, rewarm=3))
    assert all(0.05 < block.sum() / 1e9 < 1 for block in found["a"].blocks)
    assert len(found["a"].warmup) == 1 + 2 * 3  # one after the start, three before each block


def test_the_others_stand_still_while_one_is_timed(null, watched) -> None:
    measure([null("a"), null("b"), null("c")], QUICK)
    assert len(watched.seen) == 2 * (3 + 3 * 3) and set().union(*watched.seen) == {"T"}
    assert all(gone(worker.pid) for worker in watched.alive)


def test_engines_are_measured_side_by_side(onnx_artifact, openvino_artifact, pt2_artifact) -> None:
    candidates = [
        Candidate("ort", onnx_artifact, RunConfig("onnxruntime", threads=1)),
        Candidate("ov", openvino_artifact, RunConfig("openvino", threads=1)),
        Candidate("torch", pt2_artifact, RunConfig("torch", threads=1)),
        Candidate("absent", reason="nothing to open"),
    ]
    subjects, found = measure(candidates, dataclasses.replace(ONCE, batch=2))
    assert [subject.reason for subject in subjects] == ["", "", "", "nothing to open"]
    assert list(found) == ["ort", "ov", "torch"] and {taken.batch for taken in found.values()} == {2}
    assert [subject.applied["threads"] for subject in subjects[:3]] == [1, 1, 1]
    assert subjects[0].artifact == onnx_artifact.digest and subjects[1].format == "openvino"


@pytest.mark.parametrize(
    "wrong",
    [{"regime": "idle"}, {"fps": 0.0}, {"fps": -1.0}, {"launches": 0}, {"blocks": 0}, {"burners": 0}, {"target": 0.0},
     {"target": 1.0}, {"target": -0.1}, {"target": float("nan")}, {"fps": float("nan")}, {"fps": 1e12}, {"fps": 1e-300},
     {"time_limit_s": float("nan")}, {"block_s": -1.0}, {"warmup_s": float("inf")}, {"sustain_s": -0.1}],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    (name,) = wrong
    with pytest.raises(BadInput, match=name):
        RoundOptions(**wrong)  # type: ignore[arg-type]


def test_photo_to_label_is_split_of_classifiers_only(null, ort, photo_folder: Path) -> None:
    photos = sorted((photo_folder / "test/leek").iterdir())[:3]
    manifest = dataclasses.replace(ort.artifact.manifest, task="", labels=(), preprocess=None)
    other = dataclasses.replace(ort, name="tensors", artifact=dataclasses.replace(ort.artifact, manifest=manifest))
    run = Measurement([ort, other], dataclasses.replace(ONCE, launches=2, blocks=1), photos=photos)
    run.run()
    assert list(run.stages()) == ["ort"] and list(run.rounds()) == ["ort", "tensors"]
    split = run.stages()["ort"]
    assert split.names == STAGES and split.ns.shape == (2 * 3, 4) and (split.ns > 0).all()
    assert split.ns.sum(axis=1).max() < 5e9


def test_without_photos_nothing_is_split(ort) -> None:
    run = Measurement([ort], dataclasses.replace(ONCE, blocks=1))
    run.run()
    assert run.stages() == {} and list(run.rounds()) == ["ort"]


# Regimes and places


def test_a_paced_call_waits_for_its_turn(null) -> None:
    options = dataclasses.replace(ONCE, regime="paced", fps=20.0, block_s=0.3, min_calls=2)
    taken = measure([null("a")], options)[1]["a"]
    assert taken.regime == "paced" and len(taken.blocks) == 2
    for block, wall_s in zip(taken.blocks, taken.sensor("wall_s"), strict=True):
        assert 2 <= len(block) <= 0.3 * 20 + 1 and (len(block) - 1) / 20 <= wall_s + 1e-3
        assert np.median(block) < 1e9 / 20 / 2  # the call, not the wait
    assert taken.sensor("cpu_s").max() < taken.sensor("wall_s").min() / 2  # asleep in between


def test_contention_is_made_and_taken_away(null) -> None:
    cpu = max(os.sched_getaffinity(0))
    seen: list[list[int]] = []
    options = dataclasses.replace(ONCE, regime="contended", burners=2)
    place = Place(cpus=(cpu,))
    _, found = measure([null("a", place)], options, lambda _: seen.append(children("workers.burner", os.getpid())))
    assert found["a"].regime == "contended" and len(found["a"].blocks) == 2
    assert [len(pids) for pids in seen] == [2, 2] and seen[0] == seen[1]
    assert all(gone(pid) for pid in seen[0])


def test_a_sustained_run_is_one_launch_a_candidate_one_after_the_other(null, watched) -> None:
    options = dataclasses.replace(QUICK, regime="sustained", sustain_s=1.6, target=0.01)
    _, found = measure([null("a"), null("b")], options)
    first, second = found.values()
    assert len(watched.alive) == 2 and set().union(*watched.seen) == set()  # nobody else is there
    assert max(first.order) < min(second.order)
    for taken in (first, second):
        assert taken.launches == (0, 0) and taken.ended == "fixed"  # blocks of a second
        assert taken.sensor("span_s").min() > 0.5 and taken.sensor("span_s").sum() < 10


def test_lanes_are_kept_busy_and_throughput_is_of_the_wall(null, onnx_artifact: Artifact) -> None:
    two = dataclasses.replace(null("a"), run=RunConfig("null", lanes=2))
    (subject,), found = measure([two], dataclasses.replace(ONCE, regime="throughput", batch=4))
    taken = found["a"]
    assert (taken.regime, taken.lanes, taken.batch, subject.applied["lanes"]) == ("throughput", 2, 4, 2)
    rate = throughput(taken)
    assert rate is not None and rate == pytest.approx(4 * len(taken.all_ns()) / taken.sensor("wall_s").sum())
    assert all(len(block) >= 4 and (block > 0).all() for block in taken.blocks)


def test_each_lane_is_warm_before_a_block_of_requests_in_flight(null, tmp_path: Path, monkeypatch) -> None:
    warmed: list[set[int]] = []
    lanes: list[int] = []

    def run(lane: NullLane, feeds: dict[str, np.ndarray], out: object = None) -> dict[str, np.ndarray]:
        lanes.append(id(lane))
        time.sleep(0.005)
        return plain(lane, feeds)

    plain, loop = NullLane.run, timing.in_flight
    monkeypatch.setattr(NullLane, "run", run)
    monkeypatch.setattr(timing, "in_flight", lambda *asked: warmed.append(set(lanes)) or loop(*asked))
    artifact, worker = null("a").artifact, Worker()
    (spec,) = artifact.manifest.inputs
    np.save(tmp_path / "feeds.npy", random_feeds(artifact, 1, 0)[spec.name])
    worker.open(str(artifact.folder), False, vars(RunConfig("null", lanes=3)), {spec.name: str(tmp_path / "feeds.npy")})
    worker.time(0.01, 3, "throughput", 30.0, 1)
    worker.session.close()
    assert len(warmed[-1]) == 3


def test_a_worker_keeps_to_its_cores(null) -> None:
    cpu = max(os.sched_getaffinity(0))
    row = null("a", Place(cpus=(cpu,)))
    with WorkerClient(row.artifact, row.run, row.place, random_feeds(row.artifact, 1, 0)) as worker:
        allowed = [path.read_text() for path in Path(f"/proc/{worker.pid}/task").glob("*/status")]
    assert allowed and all(f"Cpus_allowed_list:\t{cpu}\n" in text for text in allowed)


def test_a_delay_prolongs_each_call_by_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    now = itertools.count()  # each look at the clock is a tick
    monkeypatch.setattr("tiffin.benchmarks.workers.timing.clock", lambda: next(now))
    call = prolonged(lambda feeds: [next(now) for _ in range(9)], 2.0)
    assert call({}) == [1, 2, 3, 4, 5, 6, 7, 8, 9]  # between a look at 0 and one at 10
    assert next(now) - 1 == 10 + 2 * 10


def test_a_worker_prolongs_its_calls(null, tmp_path: Path) -> None:
    slow = running(tmp_path / "worker", "time.sleep(0.005)")
    artifact = null("a").artifact
    feeds = random_feeds(artifact, 1, 0)
    with WorkerClient(artifact, RunConfig("null"), dataclasses.replace(slow, delay=2.0), feeds) as worker:
        assert worker.time(0.0, 5).ns.min() >= 15e6
        with pytest.raises(BadInput, match="prolonged by 200% under throughput"):
            worker.time(0.0, 5, "throughput")


def test_one_core_is_enough_and_the_harness_stays_small(onnx_artifact: Artifact) -> None:
    code = f"""
import os
os.sched_setaffinity(0, {{max(os.sched_getaffinity(0))}})
from tiffin.artifact import Artifact, RunConfig
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.rounds import Measurement, RoundOptions
from tiffin.benchmarks.sensors import memory
artifact = Artifact.load({str(onnx_artifact.folder)!r})
options = RoundOptions(launches=1, blocks=2, block_s=0.02, warmup_s=0.01, target=None, regime="contended")
run = Measurement([Candidate(name, artifact, RunConfig("null")) for name in "ab"], options)
run.run()
print([len(taken.blocks) for taken in run.rounds().values()], memory(os.getpid()).peak_rss_bytes)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    counted, _, peak_bytes = ended.stdout.rpartition(" ")
    assert counted == "[2, 2]", ended.stderr
    assert int(peak_bytes) < 150e6


# When a run ends, with workers that only make up numbers


class MadeUp:
    """A worker whose launches are `spreads[name of its place]` apart, relatively, and `drift` in step with others."""

    spreads: dict[str, float] = {}
    drift = 0.0
    started: list[str] = []
    fails: dict[str, int] = {}

    def __init__(self, artifact: Artifact, run: RunConfig, place: Place, feeds: dict[str, np.ndarray]) -> None:
        self.artifact, self.applied, self.cold_start_s, self.cold_split_s = artifact, {}, 1.0, {}
        self.pid, self._name = os.getpid(), place.name
        self.started.append(place.name)
        launch = self.started.count(place.name)
        if self.fails.get(place.name) == launch:
            raise WorkerFailed("worker died", "an answer")
        own, shared = (np.random.default_rng([launch, *key]).normal() for key in (place.name.encode(), b"all"))
        self._ns = int(1e9 * np.exp(self.spreads[place.name] * own + self.drift * shared))

    def time(self, *arguments: object) -> Block:
        return Block(np.full(3, self._ns), np.zeros(0, np.int64), 1.0, 1.0)

    def pause(self) -> None:
        pass

    resume = close = pause


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch, null) -> Callable[..., Measurement]:
    """Runs rows that are so noisy: name → spread of their launches."""
    monkeypatch.setattr(rounds, "WorkerClient", MadeUp)
    monkeypatch.setattr(rounds, "memory", lambda pid: Memory())
    monkeypatch.setattr(MadeUp, "started", [])

    def run(fails: dict[str, int] | None = None, spreads: dict[str, float] | None = None, **options) -> Measurement:
        spreads = spreads or {}
        monkeypatch.setattr(MadeUp, "fails", fails or {})
        monkeypatch.setattr(MadeUp, "spreads", spreads)
        chosen = RoundOptions(**{"launches": 3, "blocks": 1, "block_s": 0.0, **options})
        found = Measurement([null(name, Place(name)) for name in spreads], chosen)
        found.run()
        return found

    return run


def ends(run: Measurement) -> dict[str, tuple[str, int]]:
    return {name: (taken.ended, len(set(taken.launches))) for name, taken in run.rounds().items()}


def test_who_is_known_is_not_started_again_and_the_reference_stays(made_up) -> None:
    run = made_up(spreads={"first": 0.0, "quiet": 0.0, "loud": 0.02}, target=0.01)
    found = ends(run)
    assert found["quiet"] == ("converged", 3)
    assert found["loud"][0] == "converged" and found["loud"][1] > 5
    assert found["first"] == ("converged", found["loud"][1])
    assert MadeUp.started.count("quiet") == 3


def test_fixed_launches_are_as_many_as_asked(made_up) -> None:
    run = made_up(spreads={"first": 0.0, "loud": 0.5}, target=None, launches=4)
    assert ends(run) == {"first": ("fixed", 4), "loud": ("fixed", 4)}
    run = made_up(spreads={"loud": 0.5}, target=None, launches=4, max_launches=2)
    assert ends(run) == {"loud": ("fixed", 4)}


def test_noise_that_the_time_cannot_average_out_is_said(made_up) -> None:
    run = made_up(spreads={"first": 0.0, "quiet": 0.0, "loud": 0.5}, target=0.01, max_launches=60)
    found = ends(run)
    assert found["loud"][0] == found["first"][0] == "noisy" and 8 <= found["loud"][1] < 60
    assert found["quiet"] == ("converged", 3)


def test_the_time_limit_is_said(made_up) -> None:
    run = made_up(spreads={"first": 0.0, "quiet": 0.0, "loud": 0.5}, target=0.01, time_limit_s=0.0)
    assert ends(run) == {name: ("time limit", 1) for name in ("first", "quiet", "loud")}
    run = made_up(spreads={"first": 0.0, "loud": 0.5}, target=None, time_limit_s=0.0)
    assert ends(run) == {name: ("time limit", 1) for name in ("first", "loud")}
    assert MadeUp.started.count("loud") == 2


def test_one_row_alone_is_known_by_itself(made_up) -> None:
    (alone,) = ends(made_up(spreads={"alone": 0.02}, target=0.02)).values()
    assert alone[0] == "converged" and 3 <= alone[1] < 40


def test_a_reference_that_fails_hands_on_its_place(made_up) -> None:
    run = made_up(fails={"first": 3}, spreads={"first": 0.0, "second": 0.0, "loud": 0.02}, target=0.01)
    found, reasons = ends(run), [subject.reason for subject in run.subjects()]
    assert reasons == ["worker died", "", ""] and list(found) == ["second", "loud"]
    assert found["second"] == found["loud"] and found["loud"][0] == "converged" and found["loud"][1] > 5
    assert MadeUp.started.count("first") == 3  # never again


def test_the_reference_does_not_go_on_when_nobody_is_left_to_compare(made_up, monkeypatch) -> None:
    monkeypatch.setattr(MadeUp, "drift", 1.0)
    run = made_up(fails={"loud": 5}, spreads={"first": 0.0, "quiet": 0.0, "loud": 0.5}, target=0.01, max_launches=20)
    assert ends(run) == {"first": ("converged", 5), "quiet": ("converged", 3)}


def test_nobody_who_runs_is_nothing(made_up) -> None:
    run = made_up(fails={"a": 1, "b": 1}, spreads={"a": 0.0, "b": 0.0})
    assert run.rounds() == {} and [subject.reason for subject in run.subjects()] == ["worker died"] * 2


def test_progress_says_how_well_each_ratio_is_known(made_up, null, monkeypatch) -> None:
    monkeypatch.setattr(MadeUp, "spreads", {"first": 0.0, "loud": 0.02})
    seen: list[Status] = []
    options = RoundOptions(launches=3, blocks=1, block_s=0.0, target=None)
    measure([null(name, Place(name)) for name in ("first", "loud")], options, seen.append)
    assert [status.launch for status in seen] == [0, 0, 1, 1, 2, 2] and seen[0].known == {}
    assert set(seen[-1].known) == {"loud"} and 0 < seen[-1].known["loud"].half_width < 1
    assert seen[-1].limit_s == options.time_limit_s and seen[-1].elapsed_s > 0


KNOWN = st.builds(
    Precision, st.just(1.0), st.floats(0, 10), st.integers(2, 50), st.none() | st.integers(0, 10**6), st.booleans()
)


@settings(max_examples=100, deadline=None)
@given(KNOWN, st.integers(1, 50), st.integers(-3, 50), st.none() | st.floats(0.001, 0.5))
def test_an_ending_is_never_a_silent_pass(known: Precision, launch: int, affordable: int, target: float | None) -> None:
    options = RoundOptions(target=target)
    why = ending(known, launch, affordable, options)
    assert why in ("", "converged", "noisy", "time limit", "fixed")
    assert why or affordable >= 1
    if why == "converged":
        assert target is not None and known.half_width <= target and launch >= options.launches
    if why == "noisy":
        assert known.settled and known.needed is not None and known.needed > launch + affordable
    assert (why == "fixed") == (target is None and launch >= options.launches)


def test_the_worst_ending_is_the_references() -> None:
    words = ["time limit", "noisy", "converged", "fixed"]
    assert [worst_ending(["", *words[i:]]) for i in range(4)] == words


# Workers that fail


def fake(die_at: int, last: str = "sys.exit('out of memory')") -> str:
    return f"""
import json, sys, time
print(json.dumps({{"pid": 0}}), flush=True)
for number, line in enumerate(sys.stdin, 1):
    if number == {die_at}:
        {last}
    print(json.dumps({{"applied": {{}}, "import_s": 0, "load_s": 0, "first_s": 0, "ns": [1000] * 5, "warm": [],
                      "wall_s": 5e-6, "cpu_s": 5e-6}}), flush=True)
"""


def test_what_the_device_tells_after_a_block_is_kept(null, tmp_path: Path) -> None:
    details = {"device_bytes_engine": "1000", "device_bytes_lane": "10", "cuda_graph": "on: 1 recorded"}
    told = f'"kernels_ns": [3000000, 1000000, 2000000], "details": {json.dumps(details)}, "wall_s"'
    opened = '"applied": {"lanes": 1, "details": {"cuda_graph": "on"}}'
    script_of = fake(0).replace('"wall_s"', told).replace('"applied": {}', opened)
    place = script(tmp_path / "worker", script_of, sys.executable)
    subjects, found = measure([null("on a GPU", place), null("on a CPU")], ONCE)
    assert (found["on a GPU"].sensor("kernels_ms") == 2.0).all() and subjects[0].device_bytes == 1010
    assert subjects[0].applied["details"] == details
    assert "kernels_ms" not in found["on a CPU"].sensors and subjects[1].device_bytes is None


# open, warm-up, two blocks
@pytest.mark.parametrize("die_at", [1, 2, 3, 4])
def test_a_worker_that_dies_is_a_row_with_its_last_words(null, tmp_path: Path, die_at: int) -> None:
    place = script(tmp_path / "worker", fake(die_at), sys.executable)
    subjects, found = measure([null("before"), null("dying", place), null("after")], ONCE)
    assert list(found) == ["before", "after"] and [len(taken.blocks) for taken in found.values()] == [2, 2]
    reason = subjects[1].reason
    assert "worker died (exit 1)" in reason and "out of memory" in reason and subjects[1].place == "faked"


def test_a_worker_that_dies_is_not_started_again(null, tmp_path: Path) -> None:
    place = script(tmp_path / "worker", f"echo start >> {tmp_path / 'starts'}; echo 'no engine' >&2; exit 3")
    subjects, found = measure([null("dying", place), null("well")], QUICK)
    assert "(exit 3); its last words: no engine" in subjects[0].reason and list(found) == ["well"]
    assert (tmp_path / "starts").read_text().split() == ["start"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo Segmentation fault; exec sleep 60", "answered garbage: b'Segmentation fault'"),
        ("echo 5; exec sleep 60", "answered garbage: b'5'"),
        ("printf '{\"pid\"'; exec sleep 60", "did not answer within"),
        ("exec sleep 60", "did not answer within"),
        ("exit 0", r"died \(exit 0\)"),
        ("kill -SEGV $$", r"died \(exit -11\)"),
        ("kill -KILL $$", r"died \(exit -9; the system killed it, likely for want of memory\)"),
    ],
)
def test_a_worker_that_answers_wrongly_is_found_out(null, tmp_path: Path, text: str, said: str) -> None:
    patience_s = 0.4 if "did not answer" in said else 20
    place = dataclasses.replace(script(tmp_path / "worker", text), start_timeout_s=patience_s)
    artifact = null("a").artifact
    with pytest.raises(WorkerFailed, match=said):
        WorkerClient(artifact, RunConfig("null"), place, {})


def test_a_worker_that_hangs_in_a_call_is_found_out(null, tmp_path: Path) -> None:
    place = script(tmp_path / "worker", fake(2, "import time; time.sleep(60)"), sys.executable)
    with WorkerClient(null("a").artifact, RunConfig("null"), place, {}) as worker:
        with pytest.raises(WorkerFailed, match="did not answer"):
            worker.ask("time", 0.3, seconds=0, min_calls=1)
        pid = worker._process.pid
    assert gone(pid)


def test_debugging_shows_all_that_a_worker_said(null, tmp_path: Path, monkeypatch, caplog) -> None:
    place = script(tmp_path / "worker", "echo first >&2; echo last >&2; exit 3")
    for wanted in ("0", "1"):
        monkeypatch.setenv("TIFFIN_DEBUG", wanted)
        with pytest.raises(WorkerFailed, match="its last words: last"):
            WorkerClient(null("a").artifact, RunConfig("null"), place, {})
        assert ("first\nlast" in caplog.text) == (wanted == "1")


@pytest.mark.parametrize(
    ("asked", "least_s"),
    [({"seconds": 0.0, "min_calls": 3, "rewarm": 1}, 60 + 4 * 30), ({"seconds": 1.0, "min_calls": 0}, 80),
     ({"seconds": 0.1, "min_calls": 3, "regime": "paced", "fps": 0.04}, 60 + 4 / 0.04)],
)  # fmt: skip
def test_a_worker_has_the_time_that_its_calls_take(null, tmp_path: Path, monkeypatch, asked, least_s: float) -> None:
    place = script(tmp_path / "worker", fake(0).replace('"first_s": 0', '"first_s": 30'), sys.executable)
    given: list[float] = []
    plain = WorkerClient._read
    monkeypatch.setattr(WorkerClient, "_read", lambda self, limit_s: given.append(limit_s) or plain(self, limit_s))
    with WorkerClient(null("a").artifact, RunConfig("null"), place, {}) as worker:
        worker.time(**asked)
    assert given[-1] >= least_s


def test_an_interpreter_that_is_not_there_is_a_reason(null, tmp_path: Path) -> None:
    subjects, found = measure([null("absent", Place("far", python=str(tmp_path / "python"))), null("well")], QUICK)
    assert "cannot be started" in subjects[0].reason and str(tmp_path) in subjects[0].reason and list(found) == ["well"]


def test_an_engines_own_error_comes_through(onnx_artifact: Artifact, tmp_path: Path) -> None:
    broken = save(tmp_path / "broken", onnx_artifact.manifest, {"model.onnx": b"no model"})
    feeds = random_feeds(broken, 1, 0)
    with pytest.raises(EngineFailed, match="onnxruntime cannot load"):
        WorkerClient(broken, RunConfig("onnxruntime"), NATIVE, feeds)
    subjects, found = measure([Candidate("broken", broken, RunConfig("onnxruntime"))], QUICK)
    assert "cannot load" in subjects[0].reason and found == {}


def test_garbage_within_a_block_is_a_reason(null, tmp_path: Path) -> None:
    place = script(tmp_path / "worker", fake(3, "print('Segmentation fault'); time.sleep(60)"), sys.executable)
    subjects, found = measure([null("well"), null("broken", place)], ONCE)
    assert "answered garbage: b'Segmentation fault'" in subjects[1].reason and list(found) == ["well"]


def test_a_worker_that_hangs_in_a_block_is_ended(null, watched, tmp_path: Path, monkeypatch) -> None:
    def impatient(worker: Watched, seconds: float, min_calls: int, *rest: object) -> Block:
        answer = worker.ask("time", 1.0, seconds=seconds, min_calls=min_calls, regime="back-to-back", fps=1, rewarm=0)
        return Block(np.array(answer["ns"], np.int64), np.zeros(0, np.int64), answer["wall_s"], answer["cpu_s"])

    monkeypatch.setattr(Watched, "time", impatient)
    place = script(tmp_path / "worker", fake(3, "time.sleep(60)"), sys.executable)
    subjects, found = measure([null("stuck", place), null("well")], ONCE)
    assert "did not answer within 1 s" in subjects[0].reason and list(found) == ["well"]
    assert len(watched.alive) == 2 and all(gone(worker.pid) for worker in watched.alive)


def test_a_worker_that_leaks_is_seen_to_grow(null, tmp_path: Path) -> None:
    leaking = running(tmp_path / "worker", "kept.append(b'x' * (1 << 20))")
    options = dataclasses.replace(ONCE, blocks=4, block_s=0.0, min_calls=8, warmup_s=0.0)
    (subject,), found = measure([null("leaking", leaking)], options)
    grown = np.diff(found["leaking"].sensor("pss_bytes"))
    assert (grown > 8 * 2**20).all() and (grown < 12 * 2**20).all()  # 8 calls and one to warm up
    assert subject.steady_bytes and subject.peak_bytes and subject.peak_bytes > subject.steady_bytes + 8 * 2**20


def children(word: str, parent: int) -> list[int]:
    """Processes of this parent with the word in their command line."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            owner = int((folder / "stat").read_text().rsplit(") ", 1)[1].split()[1])
            if owner == parent and word in (folder / "cmdline").read_text():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def test_an_interrupted_run_keeps_what_it_had_and_leaves_nobody(null, watched) -> None:
    def stop(status: Status) -> None:
        if (status.launch, watching.append(status) or len(watching)) == (1, 2 * 3 + 2):
            raise KeyboardInterrupt

    watching: list[Status] = []
    run = Measurement([null("a"), null("b")], dataclasses.replace(QUICK, regime="contended"), stop)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert len(watched.alive) == 4 and all(gone(worker.pid) for worker in watched.alive)
    assert children("workers.burner", os.getpid()) == []
    found = run.rounds()
    assert sorted(taken.launches for taken in found.values()) == [(0, 0, 0), (0, 0, 0, 1)]
    assert {taken.ended for taken in found.values()} == {"interrupted"}
    assert [len(subject.cold_start_s) for subject in run.subjects()] == [2, 2]


def test_a_burner_whose_parent_is_gone_before_it_began_ends() -> None:
    gone_already = subprocess.Popen([sys.executable, "-c", ""])
    gone_already.wait()
    words = [sys.executable, "-m", "tiffin.benchmarks.workers.burner", str(gone_already.pid)]
    assert subprocess.run(words, timeout=30).returncode == 0


@pytest.mark.parametrize("moment", ["__init__", "time", "pause"])
def test_a_run_interrupted_while_it_starts_leaves_no_worker(null, watched, monkeypatch, moment: str) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*((WorkerClient, "_store") if moment == "__init__" else (Watched, moment)), stop)
    run = Measurement([null("a")], QUICK)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert run.rounds() == {} and run.stages() == {} and run.subjects()[0].reason == ""
    assert children("workers.worker", os.getpid()) == []


# An engine of somebody else's, found by its entry point, that prints where it should not


@pytest.fixture(scope="module")
def chatty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables that let a worker find the backend `chatty`."""
    folder = tmp_path_factory.mktemp("chatty")
    (folder / "chatty.py").write_text(
        "import dataclasses, os\n"
        "from tiffin.runtime.backends import null\n"
        "class Lane(null.NullLane):\n"
        "    def __init__(self, artifact, run):\n"
        "        super().__init__(artifact, run)\n"
        "        isa = os.environ.get('ONEDNN_MAX_CPU_ISA', 'all')\n"
        "        self.applied = dataclasses.replace(self.applied, details={'isa': isa})\n"
        "    def run(self, feeds, out=None):\n"
        "        print('{\"ns\": [1]}', flush=True)\n"
        "        os.write(1, b'written past Python\\n')\n"
        "        return super().run(feeds, out)\n"
        "open = Lane\n"
    )
    about = folder / "chatty-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: chatty\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[tiffin.backends]\nchatty = chatty\n")
    return {"PYTHONPATH": str(folder)}


def test_what_an_engine_prints_does_not_garble_the_answers(onnx_artifact: Artifact, chatty) -> None:
    candidate = Candidate("chatty", onnx_artifact, RunConfig("chatty"), Place("chatty", env=chatty))
    (subject,), found = measure([candidate], ONCE)
    assert subject.reason == "" and subject.applied["details"] == {"isa": "all"}
    assert all(len(block) >= 4 and block.min() > 1 for block in found["chatty"].blocks)


def test_without_vnni_sets_the_engines_switch(onnx_artifact: Artifact, chatty) -> None:
    place = dataclasses.replace(WITHOUT_VNNI, env={**WITHOUT_VNNI.env, **chatty})
    with WorkerClient(onnx_artifact, RunConfig("chatty"), place, random_feeds(onnx_artifact, 1, 0)) as worker:
        assert worker.applied["details"] == {"isa": "AVX2"}


# Accuracy


@pytest.fixture(scope="module")
def prepared(photo_folder: Path, checkpoint, tmp_path_factory: pytest.TempPathFactory) -> PreparedPhotos:
    confirm = open_dataset(photo_folder).role("confirm")
    return prepare_photos(confirm, checkpoint.preprocess, tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def ort(onnx_artifact: Artifact) -> Candidate:
    return Candidate("ort", onnx_artifact, RunConfig("onnxruntime", threads=1))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Rows that workers were asked to answer; 16 at a time."""
    rows: list[tuple[int, int]] = []

    class Counted(WorkerClient):
        def ask(self, command: str, timeout_s: float, **arguments):
            if command == "infer":
                rows.append((arguments["start"], arguments["stop"]))
            return super().ask(command, timeout_s, **arguments)

    monkeypatch.setattr(accuracy, "WorkerClient", Counted)
    monkeypatch.setattr(accuracy, "_CHUNK", 1)
    return rows


def directly(artifact: Artifact, run: RunConfig, photos: PreparedPhotos) -> Predictions:
    with tiffin.load(artifact, run) as session:
        logits = session.run({"photos": np.array(photos.array())})["logits"]
    return Predictions.from_logits(photos.hashes, photos.truth, logits, photos.kind)


def test_a_score_is_what_a_session_answers(ort: Candidate, prepared: PreparedPhotos, tmp_path: Path) -> None:
    found, applied = score(ort, prepared, tmp_path)
    wanted = directly(ort.artifact, ort.run, prepared)
    assert len(found) == 48 and found.photos == prepared.hashes and applied["backend"] == "onnxruntime"
    np.testing.assert_array_equal(found.top, wanted.top)
    np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(found.truth, prepared.truth)
    assert (found.top[:, 0] == found.truth).mean() > 0.5  # the fixture was trained


@pytest.mark.parametrize("cached", [False, True])
def test_an_interrupted_score_goes_on(ort: Candidate, prepared, tmp_path: Path, asked, cached: bool) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    run = dataclasses.replace(ort.run, cache=str(tmp_path / "engine") if cached else None)
    ort = dataclasses.replace(ort, run=run)
    with pytest.raises(KeyboardInterrupt):
        score(ort, prepared, tmp_path, stop)
    assert asked == [(0, 16)]
    steps: list[int] = []
    found, _ = score(ort, prepared, tmp_path, steps.append)
    assert asked == [(0, 16), (16, 32), (32, 48)] and steps == [16, 32, 48]
    np.testing.assert_array_equal(found.top, directly(ort.artifact, ort.run, prepared).top)


def test_a_slow_network_is_waited_for(
    ort: Candidate, prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """48 photos are three calls; whose first took so long is given many times as long for all."""
    limits: list[float] = []

    class Slow(WorkerClient):
        def ask(self, command: str, timeout_s: float, **arguments):
            if command == "infer":
                limits.append(timeout_s)
            answer = super().ask(command, timeout_s, **arguments)
            return {**answer, "first_s": 1000.0} if command == "open" else answer

    monkeypatch.setattr(accuracy, "WorkerClient", Slow)
    score(ort, prepared, tmp_path)
    assert len(limits) == 1 and limits[0] > 3 * 1000


def test_a_score_is_kept(ort: Candidate, prepared, tmp_path: Path, asked) -> None:
    first, _ = score(ort, prepared, tmp_path)
    asked.clear()
    again, _ = score(ort, prepared, tmp_path)
    assert asked == []
    np.testing.assert_array_equal(again.scores, first.scores)
    fewer = dataclasses.replace(prepared, hashes=prepared.hashes[:-1] + ("ab" * 32,))
    score(ort, fewer, tmp_path)
    assert len(asked) == 3  # other photos, other answers


def test_nan_is_no_answer(ort: Candidate, prepared, tmp_path: Path, asked) -> None:
    import onnx

    model = onnx.load(ort.artifact.model_path)
    for node in model.graph.node:
        node.output[:] = ["given" if name == "logits" else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Log", ["given"], ["logits"]))  # NaN of what is below zero
    artifact = save(tmp_path / "log", ort.artifact.manifest, {"model.onnx": model.SerializeToString()})
    for _ in range(2):
        with pytest.raises(EngineFailed, match="ort: NaN in the answers to"):
            score(dataclasses.replace(ort, artifact=artifact), prepared, tmp_path / "cache")
    assert asked == 2 * [(0, 16), (16, 32), (32, 48)]  # nothing of it is kept


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY garbage"])
def test_a_broken_draft_is_written_anew(ort: Candidate, prepared, tmp_path: Path, asked, content: bytes) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(ort, prepared, tmp_path, lambda done: (_ for _ in ()).throw(KeyboardInterrupt()))
    (draft,) = tmp_path.glob("logits-*.npy")
    draft.write_bytes(content)
    found, _ = score(ort, prepared, tmp_path)
    np.testing.assert_array_equal(found.top, directly(ort.artifact, ort.run, prepared).top)


def test_a_full_disk_is_an_error_before_anything_is_asked(ort: Candidate, prepared, tmp_path: Path, asked, monkeypatch):
    def full(path: Path, array: np.ndarray) -> None:
        if array.dtype == np.float32:
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(path, array)

    plain = np.save
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(BadInput, match="No space left"):
        score(ort, prepared, tmp_path / "cache")
    assert asked == [] and list((tmp_path / "cache").iterdir()) == []


def test_two_scorings_into_one_folder_end_alike(ort: Candidate, prepared, tmp_path: Path, asked) -> None:
    others: list[Predictions] = []

    def beside(done: int) -> None:
        if not others:
            others.append(score(ort, prepared, tmp_path)[0])

    found, _ = score(ort, prepared, tmp_path, beside)
    np.testing.assert_array_equal(found.scores, others[0].scores)
    assert len(list(tmp_path.iterdir())) == 1


def test_photos_that_calibrated_are_refused(ort: Candidate, prepared, tmp_path: Path, asked) -> None:
    seen = tuple(digest[:16] for digest in prepared.hashes[3:5])
    manifest = dataclasses.replace(ort.artifact.manifest, calibration=seen)
    calibrated = save(tmp_path / "int8", manifest, {"model.onnx": ort.artifact.model_path})
    with pytest.raises(Overlap, match="2 of 48 photos"):
        score(dataclasses.replace(ort, artifact=calibrated), prepared, tmp_path / "cache")
    assert asked == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda photos: dataclasses.replace(photos, truth=photos.truth + 1), "class 4"),
        (lambda photos: dataclasses.replace(photos, truth=photos.truth - 1), "class -1"),
        (lambda photos: dataclasses.replace(photos, hashes=(), truth=photos.truth[:0]), "nothing to score"),
    ],
)
def test_photos_that_do_not_fit_are_refused(ort: Candidate, prepared, tmp_path: Path, change, said: str) -> None:
    with pytest.raises(BadInput, match=said):
        score(ort, change(prepared), tmp_path)


def test_a_worker_that_dies_while_scoring_is_an_error(ort: Candidate, prepared, tmp_path: Path) -> None:
    place = script(tmp_path / "worker", fake(2), sys.executable)
    with pytest.raises(WorkerFailed, match="out of memory"):
        score(dataclasses.replace(ort, place=place), prepared, tmp_path / "cache")


def test_seven_bit_weights_answer_alike_with_and_without_vnni(onnx_artifact, prepared, photos, tmp_path: Path) -> None:
    int8 = quantize_int8(onnx_artifact, PtqOptions(), CalibrationSet(photos[:16], "drawn"), tmp_path / "int8")
    run = RunConfig("openvino", threads=1)
    native, _ = score(Candidate("native", int8, run), prepared, tmp_path / "cache")
    limited, _ = score(Candidate("limited", int8, run, WITHOUT_VNNI), prepared, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("logits-*.npy"))) == 2
    assert (native.top[:, 0] == limited.top[:, 0]).mean() > 0.95


# Certificates: other classes of CPU, limited and emulated


@pytest.fixture(scope="module")
def int8(onnx_artifact: Artifact, photos: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("certified") / "int8"
    return quantize_int8(onnx_artifact, PtqOptions(), CalibrationSet(photos[:16], "drawn"), folder)


@pytest.fixture
def certifier(int8: Artifact, ort: Candidate, prepared: PreparedPhotos, tmp_path: Path) -> Callable[..., Certifier]:
    """Of a fresh copy of the int8 artifact, against the fp32 one."""
    reference, _ = score(ort, prepared, tmp_path / "cache", batch=1)
    data = {"name": "drawn", "kind": "photos", "role": "confirm", "count": len(prepared)}

    def make(backend: str = "onnxruntime", folder: Path = int8.folder, **options) -> Certifier:
        copy = Path(shutil.copytree(folder, tmp_path / "certified", dirs_exist_ok=True))
        candidate = Candidate("int8", Artifact.load(copy), RunConfig(backend, threads=1))
        return Certifier(candidate, prepared, reference, Context(data, ort.artifact.digest, 0.2),
                         CertifyOptions(**options), tmp_path / "cache")  # fmt: skip

    return make


def flags_of(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(words))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")


def need_qemu(name: str) -> None:
    try:
        find_qemu(cpu_named(name))
    except EngineMissing as error:
        pytest.skip(f"{error.what}: {error.fix}")


@pytest.fixture(scope="session")
def sysroots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with one real sysroot of a Cortex-A76, ONNX Runtime alone in it: fetched, so the network is needed."""
    need_qemu("cortex-a76")
    folder = tmp_path_factory.mktemp("sysroots")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIFFIN_CACHE", str(folder))
        try:
            sysroot.set_up(cpu_named("cortex-a76"), sysroot.wheels_wanted(["onnxruntime"]), lambda line: None)
        except TiffinError as error:
            pytest.skip(f"no sysroot can be built here: {error.what}")
    return folder


def test_this_cpu_is_certified_on_all_photos(certifier, monkeypatch: pytest.MonkeyPatch) -> None:
    flags_of(monkeypatch, "sse4_1", "avx2")
    made = certifier()
    outcome = made.certify(isa_target("avx2", RunConfig("onnxruntime")))
    found = certificates_for(made.candidate.artifact, "avx2", "onnxruntime")[0]
    assert outcome.certificate == found and outcome.reason == "" and outcome.applied["threads"] == 1
    assert (found.basis, found.place, found.emulator, found.n, found.answered) == ("whole", "native", "", 48, 48)
    assert found.verdict in ("PASS", "INCONCLUSIVE") and found.margin == 0.2 and 0 < found.power <= 1
    check_certificate(made.candidate.artifact, found)


@pytest.mark.parametrize("backend", ["openvino", "torch"])
def test_a_lower_instruction_set_limits_the_engine(certifier, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    flags_of(monkeypatch, "sse4_1", "avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni")
    assert isa_target("vnni", RunConfig(backend)).place == NATIVE
    for name, word in (("sse41", "SSE41"), ("avx2", "AVX2"), ("avx512", "AVX512_CORE")):
        target = isa_target(name, RunConfig(backend))
        assert target.reason == "" and target.place.env["ONEDNN_MAX_CPU_ISA"] == word
    monkeypatch.undo()
    if backend == "openvino" and class_here().machine == "x86_64":
        found = certifier(backend).certify(isa_target("sse41", RunConfig(backend))).certificate
        assert (found.cpu_class, found.place, found.basis) == ("sse41", "limited to sse41", "whole")


@pytest.mark.parametrize(
    ("name", "backend", "said"),
    [
        ("amx", "openvino", r"needs a CPU of class amx \(AMX\); this one is avx2 \(AVX2, no VNNI\)"),
        ("vnni", "onnxruntime", "needs a CPU of class vnni"),
        ("dotprod", "openvino", "needs a CPU of class dotprod"),
        ("sse41", "onnxruntime", "onnxruntime has no switch .* emulate"),
    ],
)
def test_what_this_cpu_or_engine_cannot_do_is_a_reason(
    certifier, monkeypatch: pytest.MonkeyPatch, name: str, backend: str, said: str
) -> None:
    flags_of(monkeypatch, "sse4_1", "avx2")
    outcome = certifier(backend).certify(isa_target(name, RunConfig(backend)))
    assert outcome.certificate is None and re.search(said, outcome.reason)


@pytest.mark.parametrize(("name", "kind"), [("avx3", "class"), ("cortex-a9", "CPU")])
def test_unknown_words_for_cpus_are_refused(name: str, kind: str) -> None:
    with pytest.raises(BadInput, match=f"unknown .*{name}.*"):
        isa_target(name, RunConfig("openvino")) if kind == "class" else emulated_target(name, RunConfig("openvino"))


def test_without_qemu_the_reason_is_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "apt-get install qemu-user-static" in emulated_target("haswell", RunConfig("onnxruntime")).reason


def test_an_old_qemu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = script(tmp_path / "qemu-x86_64-static", "echo qemu-x86_64 version 5.2.0")
    monkeypatch.setenv("PATH", str(Path(place.python).parent))
    assert "QEMU 5.2.0" in emulated_target("haswell", RunConfig("onnxruntime")).reason


def test_a_cpu_that_is_not_set_up_says_how(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_qemu("cortex-a72")
    monkeypatch.setenv("TIFFIN_CACHE", str(tmp_path))
    assert "tiffin emulate setup cortex-a72" in emulated_target("cortex-a72", RunConfig("onnxruntime")).reason
    assert "no wheel of torch" in emulated_target("cortex-a72", RunConfig("torch")).reason


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_an_emulated_haswell_is_certified_by_identity_or_by_sample(certifier, backend: str) -> None:
    """Tens of photos on a CPU that is not here: the emulated run of CI."""
    need_qemu("haswell")
    made = certifier(backend, identity_photos=16, sample_photos=24, alarm_photos=4)
    found = made.certify(emulated_target("haswell", RunConfig(backend))).certificate
    assert (found.cpu_class, found.place) == ("avx2", "emulated haswell") and found.emulator.startswith("QEMU ")
    evidence = check_certificate(made.candidate.artifact, found)
    if found.basis == "identity":
        assert (found.answered, found.n, found.native_class) == (16, 48, class_here(backend).name)
        np.testing.assert_array_equal(evidence.native.view(np.uint32), evidence.there.view(np.uint32))
    else:
        assert (found.basis, found.answered, found.n, found.alarm[0]) == ("sample", 24, 24, 4)


def test_an_emulated_cortex_a76_answers_with_onnxruntimes_own_wheel(
    certifier, sysroots: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIFFIN_CACHE", str(sysroots))
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")  # of this machine: it must not reach that one
    made = certifier(identity_photos=16, sample_photos=32, alarm_photos=8)
    outcome = made.certify(emulated_target("cortex-a76", RunConfig("onnxruntime")))
    assert outcome.reason == "" and outcome.certificate.cpu_class == "dotprod"
    assert outcome.certificate.engine_version == machine.versions(("onnxruntime",))["onnxruntime"]
    assert outcome.certificate.agreement > 0.7


def test_other_bits_are_certified_by_sample_with_an_alarm_apart(certifier, onnx_artifact: Artifact) -> None:
    """A real deviation: OpenVINO's float layers without AVX2 do not add in the same order."""
    if class_here().machine != "x86_64":
        pytest.skip("oneDNN's switch limits x86-64 CPUs")
    made = certifier("openvino", onnx_artifact.folder, identity_photos=8, sample_photos=20, alarm_photos=6)
    other = Target("elsewhere", class_named("sse41"), limited_to(class_named("sse41")), "a test")
    outcome = made.certify(other)
    certificate = outcome.certificate
    assert (certificate.basis, certificate.n, certificate.answered, certificate.alarm[0]) == ("sample", 20, 20, 6)
    drawn, alarm = set(outcome.evidence.photos), set(outcome.evidence.alarm_photos)
    assert len(drawn) == 20 and len(alarm) == 6 and not drawn & alarm
    assert 0 < certificate.power <= 1
    everything = certifier("openvino", onnx_artifact.folder, everything=True).certify(other).certificate
    assert (everything.basis, everything.n, everything.alarm) == ("whole", 48, None)


def test_a_sample_does_not_undo_a_certificate_over_all_photos(certifier, onnx_artifact: Artifact, caplog) -> None:
    if class_here().machine != "x86_64":
        pytest.skip("oneDNN's switch limits x86-64 CPUs")
    other = Target("elsewhere", class_named("sse41"), limited_to(class_named("sse41")), "a test")
    made = certifier("openvino", onnx_artifact.folder, everything=True)
    whole = made.certify(other).certificate
    fewer = certifier("openvino", onnx_artifact.folder, identity_photos=8, sample_photos=20)
    assert fewer.certify(other).certificate.n < whole.n and "is kept" in caplog.text
    assert read_certificates(made.candidate.artifact) == [whole]


@pytest.mark.parametrize(
    ("held", "n", "made", "more", "kept"),
    [
        ("PASS", 2485, "PASS", "grocery", True),
        ("PASS", 2485, "INCONCLUSIVE", "kitchen", False),
        ("PASS", 2485, "FAIL", "kitchen", False),
        ("PASS", 2485, "FAIL", "grocery", False),
        ("FAIL", 2485, "PASS", "kitchen", True),
        ("FAIL", 60, "PASS", "kitchen", False),
    ],
)
def test_a_certificate_on_other_photos_and_a_proven_fail_are_written(
    monkeypatch: pytest.MonkeyPatch, held: str, n: int, made: str, more: str, kept: bool
) -> None:
    run = {"kind": "certificate-avx2-onnxruntime", "engine_version": "1", "place": "native", "margin": 0.01,
           "reference": "r"}  # fmt: skip
    found = SimpleNamespace(**run, n=n, verdict=held, data={"name": "grocery", "kind": "photos"})
    monkeypatch.setattr("tiffin.benchmarks.certify.read_certificates", lambda artifact: [found])
    certifier = Certifier.__new__(Certifier)
    certifier.candidate = SimpleNamespace(artifact=object())
    new = SimpleNamespace(**run, n=300, verdict=made, data={"name": more, "kind": "photos"})
    assert certifier._stronger(new) is (found if kept else None)


@pytest.mark.parametrize("held", ["PASS", "FAIL"])
def test_synthesized_images_undo_no_certificate_from_photos(monkeypatch: pytest.MonkeyPatch, held: str) -> None:
    photos = SimpleNamespace(kind="certificate-avx2-onnxruntime", engine_version="1", place="native", margin=0.01,
                             reference="r", n=81, verdict=held, data={"name": "p", "kind": "photos"})  # fmt: skip
    monkeypatch.setattr("tiffin.benchmarks.certify.read_certificates", lambda artifact: [photos])
    certifier = Certifier.__new__(Certifier)
    certifier.candidate = SimpleNamespace(artifact=object())
    drawn = SimpleNamespace(**{**vars(photos), "n": 135, "engine_version": "2", "verdict": "INCONCLUSIVE",
                               "data": {"name": "synthesized", "kind": "synthesized"}})  # fmt: skip
    assert certifier._stronger(drawn) is photos
    photos.data = drawn.data
    assert certifier._stronger(drawn) is None


def test_an_empty_answer_of_an_engine_is_a_reason(certifier, onnx_artifact: Artifact, photos, tmp_path: Path) -> None:
    """OpenVINO 2026.4.1, u8u8 without AVX2: shape (0, classes) and no error; with fixed shapes it does not compile."""
    if class_here().machine != "x86_64":
        pytest.skip("oneDNN's switch limits x86-64 CPUs")
    calibration = CalibrationSet(photos[:16], "drawn")
    u8 = quantize_int8(onnx_artifact, PtqOptions(scheme="cpu-u8"), calibration, tmp_path / "u8")
    outcome = certifier("openvino", u8.folder).certify(isa_target("sse41", RunConfig("openvino")))
    assert outcome.certificate is not None or any(said in outcome.reason for said in ("empty answer", "cannot load"))
    assert outcome.certificate is None or outcome.certificate.n == 48


def test_answers_belong_to_the_kernels_that_the_environment_chose(
    ort: Candidate, prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, value in enumerate(("AVX2", "SSE41", "AVX2"), 1):
        monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", value)
        score(ort, prepared, tmp_path, batch=1)
        assert len(list(tmp_path.glob("logits-*.npy"))) == min(number, 2)
    score(dataclasses.replace(ort, place=dataclasses.replace(NATIVE, identity="QEMU 9")), prepared, tmp_path, batch=1)
    assert len(list(tmp_path.glob("logits-*.npy"))) == 3


def test_no_switch_of_this_machine_reaches_an_emulated_cpu() -> None:
    need_qemu("haswell")
    place = emulated_target("haswell", RunConfig("openvino")).place
    switches = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "OPENBLAS_CORETYPE")
    assert all(place.env[name] is None for name in switches) and place.identity


@pytest.mark.parametrize("make", [isa_target, emulated_target])
def test_what_runs_on_a_gpu_is_not_certified_for_a_cpu(make: Callable[..., Target]) -> None:
    name = "avx2" if make is isa_target else "haswell"
    assert "device gpu" in make(name, RunConfig("openvino", device="gpu")).reason


def test_an_emulated_crash_is_a_reason_not_an_end(certifier, tmp_path: Path) -> None:
    place = script(tmp_path / "qemu", "echo 'uncaught target signal 4 (Illegal instruction)' >&2; exit 132")
    outcome = certifier().certify(Target("broken", class_named("neon"), place, "a test"))
    assert outcome.certificate is None and "Illegal instruction" in outcome.reason


def test_an_interrupted_certification_goes_on(certifier, asked, monkeypatch: pytest.MonkeyPatch) -> None:
    flags_of(monkeypatch, "sse4_1", "avx2")
    made, target = certifier(), isa_target("avx2", RunConfig("onnxruntime"))
    asked.clear()

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    made._bar = lambda name, total: stop
    with pytest.raises(KeyboardInterrupt):
        made.certify(target)
    assert asked == [(0, 1)] and certificates_for(made.candidate.artifact, "avx2", "onnxruntime") == []
    assert certifier().certify(target).certificate.n == 48 and asked[1] == (1, 2) and len(asked) == 48


def test_an_artifact_that_cannot_be_written_is_an_error(certifier, monkeypatch: pytest.MonkeyPatch) -> None:
    flags_of(monkeypatch, "sse4_1", "avx2")
    made = certifier()
    (made.candidate.artifact.folder / "claims").write_text("in the way")
    with pytest.raises(BadInput, match="cannot write"):
        made.certify(isa_target("avx2", RunConfig("onnxruntime")))


@given(st.integers(1, 60), st.integers(0, 60), st.integers(1, 20), st.integers(0, 9))
def test_the_alarm_takes_the_smallest_margins_outside_the_sample(n: int, drawn: int, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    answers = Predictions.from_logits(("",) * n, np.zeros(n), rng.normal(size=(n, 4)), "photos")
    outside = rng.permutation(n)[:drawn]
    rows = closest(answers, outside, count)
    margins = answers.scores[:, 0] - answers.scores[:, 1]
    left = sorted(set(range(n)) - set(outside.tolist()) - set(rows.tolist()))
    assert len(rows) == min(count, n - len(outside)) and not set(rows.tolist()) & set(outside.tolist())
    assert not left or not len(rows) or margins[rows].max() <= margins[left].min()


# Sysroots


@pytest.mark.parametrize("name", ["cortex-a72", "cortex-a76"])
def test_a_sysroot_shows_its_own_cpu(tmp_path: Path, name: str) -> None:
    cpu = cpu_named(name)
    sysroot.write_kernel_files(tmp_path, cpu, 3)
    told = (tmp_path / "proc/cpuinfo").read_text()
    flags = frozenset(re.search("Features\t: (.*)", told).group(1).split())
    assert class_of(flags, "aarch64") == cpu.cpu_class and told.count("processor") == 3
    assert (tmp_path / "sys/devices/system/cpu/possible").read_text() == "0-2\n"
    midr = int((tmp_path / "sys/devices/system/cpu/cpu2/regs/identification/midr_el1").read_text(), 16)
    assert f"CPU part\t: {midr >> 4 & 0xFFF:#05x}" in told and midr >> 24 == 0x41


def test_a_sysroot_that_fails_half_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(root: Path, *rest: object) -> None:
        (root / "usr").mkdir()
        raise BadInput("no packages")

    need_qemu("cortex-a76")
    monkeypatch.setenv("TIFFIN_CACHE", str(tmp_path))
    monkeypatch.setattr(sysroot.packages, "unpack_debian", fail)
    with pytest.raises(BadInput, match="no packages"):
        sysroot.set_up(cpu_named("cortex-a76"), ["onnxruntime==1"], print)
    assert list((tmp_path / "sysroots").iterdir()) == []


def test_a_half_built_sysroot_is_none_and_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_qemu("cortex-a76")
    cpu, wheels = cpu_named("cortex-a76"), sysroot.wheels_wanted(["onnxruntime"])
    monkeypatch.setenv("TIFFIN_CACHE", str(tmp_path))
    folder = sysroot.folder_of(cpu, wheels)
    (folder / "usr").mkdir(parents=True)
    left = folder.with_name(f".{folder.name}.killed")
    left.mkdir()
    assert sysroot.find(cpu, "onnxruntime") is None and sysroot.status(cpu) == "no"
    monkeypatch.setattr(shutil, "disk_usage", lambda path: types.SimpleNamespace(free=1_000_000))
    with pytest.raises(BadInput, match="1 MB free"):
        sysroot.set_up(cpu, wheels, print)
    assert not left.exists()
    assert sysroot.remove(cpu) == 1 and sysroot.remove(cpu) == 0


def test_a_sysroot_names_what_went_in_and_is_found_again(sysroots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_CACHE", str(sysroots))
    cpu, said = cpu_named("cortex-a76"), []
    found = sysroot.find(cpu, "onnxruntime")
    assert found == sysroot.set_up(cpu, sysroot.wheels_wanted(["onnxruntime"]), said.append) and said == []
    assert found.version("onnxruntime") == machine.versions(("onnxruntime",))["onnxruntime"]
    assert any(name.startswith("libc6_") for name in found.about["debian"]) and sysroot.status(cpu) == "onnxruntime"
    assert not list(found.root.glob("site/PIL*")) and found.python.exists()


@pytest.mark.parametrize("wheel", ["onnxruntime==0.0.1", "no-such-engine-of-tiffin==1"])
def test_an_engine_without_a_wheel_for_that_cpu_is_named(tmp_path: Path, wheel: str) -> None:
    tags = packages.platform_tags(36, "aarch64")
    with pytest.raises(BadInput, match=f"pip finds no {wheel} for manylinux_2_36_aarch64, Python 3.11"):
        packages.install_wheels(tmp_path / "site", [wheel], "3.11", tags, lambda line: None)


def test_no_engine_to_emulate_is_named() -> None:
    with pytest.raises(BadInput, match="tensorrt"):
        sysroot.wheels_wanted(["tensorrt"])


# What a worker is made of


def test_feeds_fit_the_model_and_follow_the_seed(onnx_artifact: Artifact) -> None:
    feeds = random_feeds(onnx_artifact, 3, 0)
    assert {name: (array.dtype, array.shape) for name, array in feeds.items()} == {"photos": (np.uint8, (3, 32, 32, 3))}
    assert feeds["photos"].std() > 50
    np.testing.assert_array_equal(random_feeds(onnx_artifact, 3, 0)["photos"], feeds["photos"])
    assert (random_feeds(onnx_artifact, 3, 1)["photos"] != feeds["photos"]).any()


def test_feeds_of_a_large_batch_take_no_more_than_themselves(onnx_artifact: Artifact) -> None:
    tracemalloc.start()
    feeds = random_feeds(onnx_artifact, 1000, 0)["photos"]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * feeds.nbytes and feeds.min() == 0 and feeds.max() == 255


def test_feeds_that_do_not_fit_into_memory_are_a_reason(null, monkeypatch) -> None:
    made = iter([MemoryError("Unable to allocate 9 TiB"), random_feeds(null("a").artifact, 1, 0)])

    def feeds(*asked: object) -> dict[str, np.ndarray]:
        found = next(made)
        if isinstance(found, MemoryError):
            raise found
        return found

    monkeypatch.setattr(rounds, "random_feeds", feeds)
    subjects, found = measure([null("a"), null("b")], ONCE)
    assert len(found) == 1 and {row.reason for row in subjects} == {"", "Unable to allocate 9 TiB"}


def test_free_sides_are_not_guessed(null, tmp_path: Path) -> None:
    was = null("well").artifact
    (spec,) = was.manifest.inputs
    free = dataclasses.replace(was.manifest, inputs=(dataclasses.replace(spec, shape=(None, None, None, 3)),))
    artifact = save(tmp_path / "free", free, {"model.onnx": was.model_path})
    with pytest.raises(BadInput, match=r"photos is of free size, \?×\?×\?×3") as caught:
        random_feeds(artifact, 1, 0)
    assert "fix the others" in caught.value.fix
    subjects, found = measure([Candidate("free", artifact, RunConfig("null")), null("well")], QUICK)
    assert "of free size" in subjects[0].reason and list(found) == ["well"]


def test_the_worker_imports_the_devices_floors_only() -> None:
    code = "import json, sys, tiffin.benchmarks.workers.worker; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    rooms = {name.split(".")[1] for name in loaded if name.startswith("tiffin.")}
    assert rooms <= {"artifact", "records", "machine", "runtime", "errors", "benchmarks"}
    foreign = {"torch", "onnx", "onnxruntime", "openvino", "nncf", "typer", "scipy", "safetensors"}
    assert foreign & set(loaded) == set()
    assert {name for name in loaded if name.startswith("tiffin.benchmarks.")} == {
        "tiffin.benchmarks.workers",
        "tiffin.benchmarks.workers.timing",
        "tiffin.benchmarks.workers.worker",
    }


def test_errors_keep_their_class_on_the_way_out(onnx_artifact: Artifact) -> None:
    feeds = {"photos": np.zeros((1, 8, 8, 3), np.uint8)}
    with pytest.raises(BadInput, match="fed photos"):
        WorkerClient(onnx_artifact, RunConfig("onnxruntime"), NATIVE, feeds)
    with pytest.raises(TiffinError, match="unknown backend"):
        WorkerClient(onnx_artifact, RunConfig("abacus"), NATIVE, feeds)


# Sensors

HZ = os.sysconf("SC_CLK_TCK")
RAPL = "sys/class/powercap/intel-rapl:"


def plant(root: Path, files: dict[str, object]) -> None:
    """Write a faked tree of /proc and /sys: path → what stands in the file."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree, on a machine without NVML."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    return tmp_path


def package(number: int | str, energy_uj: int, name: str = "package-0", span_uj: int = 1_000_000) -> dict[str, object]:
    zone = f"{RAPL}{number}"
    return {f"{zone}/name": name, f"{zone}/energy_uj": energy_uj, f"{zone}/max_energy_range_uj": span_uj}


def block_of(root: Path, changes: dict[str, object]) -> dict[str, float]:
    """What is told of a block in which these files change."""
    sensors = Sensors(root)
    before = sensors.read()
    plant(root, changes)
    return between(before, sensors.read())


def test_nothing_told_is_left_out_and_named(tree: Path) -> None:
    sensors = Sensors(tree)
    assert sensors.sources == {} and set(sensors.read()) == {"span_s"}
    assert set(sensors.missing) == {
        "steal_s", "throttled", "cgroup_throttled", "temperature_c", "clock_mhz", "energy_cpu_j", "energy_board_j",
        "energy_gpu_j",
    }  # fmt: skip
    assert sensors.missing["energy_cpu_j"] == "no RAPL package in powercap"
    assert "pynvml is not installed" in sensors.missing["energy_gpu_j"]
    assert "no such file" in sensors.missing["steal_s"]


def test_counters_are_differences_and_gauges_the_later_value(tree: Path) -> None:
    cpu = "sys/devices/system/cpu/cpu"
    plant(
        tree,
        {
            "proc/stat": f"cpu  1 2 3 4 5 6 7 {10 * HZ} 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0",
            f"{cpu}0/thermal_throttle/core_throttle_count": 5,
            f"{cpu}1/thermal_throttle/core_throttle_count": 1,
            f"{cpu}0/cpufreq/scaling_cur_freq": 2_000_000,
            f"{cpu}1/cpufreq/scaling_cur_freq": 1_000_000,
            "proc/cpuinfo": "cpu MHz\t\t: 9999.0",
            "sys/class/thermal/thermal_zone0/temp": 41_000,
            "sys/class/thermal/thermal_zone1/temp": -274_000,
            "sys/class/hwmon/hwmon0/temp1_input": 52_500,
        },
    )
    told = block_of(
        tree,
        {
            "proc/stat": f"cpu  1 2 3 4 5 6 7 {13 * HZ} 0 0",
            f"{cpu}1/thermal_throttle/core_throttle_count": 4,
            f"{cpu}0/cpufreq/scaling_cur_freq": 1_400_000,
            "sys/class/thermal/thermal_zone0/temp": 71_000,
        },
    )
    assert told.pop("span_s") > 0
    assert told == {"steal_s": 3, "throttled": 3, "clock_mhz": 1200, "temperature_c": 71}


def test_the_clock_of_cpuinfo_serves_without_cpufreq(tree: Path) -> None:
    plant(tree, {"proc/cpuinfo": "processor\t: 0\ncpu MHz\t\t: 2000.5\n\nprocessor\t: 1\ncpu MHz\t\t: 1000.5"})
    assert Sensors(tree).read()["clock_mhz"] == 1500.5
    plant(tree, {"proc/cpuinfo": "processor\t: 0\nBogoMIPS\t: 50.00"})
    assert "no clock" in Sensors(tree).missing["clock_mhz"]


def test_a_quota_counts_where_it_stands_above_the_worker(tree: Path) -> None:
    top = "sys/fs/cgroup"
    plant(
        tree,
        {
            "proc/self/cgroup": "1:cpu:/elsewhere\n0::/pod/box",
            f"{top}/cpu.stat": "usage_usec 1",
            f"{top}/pod/cpu.stat": "usage_usec 1\nnr_periods 9\nnr_throttled 4",
            f"{top}/pod/box/cpu.stat": "nr_throttled 0",
        },
    )
    sensors = Sensors(tree)
    before = sensors.read()
    plant(tree, {f"{top}/pod/cpu.stat": "nr_periods 9\nnr_throttled 6"})
    assert between(before, sensors.read())["cgroup_throttled"] == 2


def test_steady_memory_is_the_median_of_blocks() -> None:
    for sizes, steady in (([], None), ([30, 10, 20], 20), ([10, 20], 15)):
        tally = Tally(memory=[Memory(pss_bytes=size) for size in sizes])
        assert tally.facts()["steady_bytes"] == steady


def test_rapl_counts_packages_only(tree: Path) -> None:
    inside = package("0:0", 1, "core") | package(2, 1, "psys") | package("0", 1)
    mmio = {name.replace("intel-rapl:", "intel-rapl-mmio:"): text for name, text in package(0, 1).items()}
    plant(tree, inside | mmio | package(1, 1, "package-1"))
    changed = package("0:0", 600_001, "core") | package(2, 900_001, "psys") | package(0, 500_001)
    assert block_of(tree, changed | package(1, 250_001, "package-1"))["energy_cpu_j"] == pytest.approx(0.75)
    assert Sensors(tree).sources["energy_cpu_j"] == "RAPL, 2 CPU package(s)"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 999), min_size=1, max_size=8), st.integers(0, 999))
def test_rapl_wraps_around_at_its_range(tmp_path_factory: pytest.TempPathFactory, steps: list[int], start: int) -> None:
    root = tmp_path_factory.mktemp("rapl")
    plant(root, package(0, start, span_uj=1000))
    sensors = Sensors(root)
    first, now = sensors.read(), start
    for step in steps:
        now = (now + step) % 1000
        plant(root, package(0, now, span_uj=1000))
        last = sensors.read()
    assert between(first, last)["energy_cpu_j"] == pytest.approx(sum(steps) / 1e6, abs=1e-12)


def test_a_counter_that_may_not_be_read_says_how_to_allow_it(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tree, package(0, 1))
    read = Path.read_text

    def refuse(path: Path, *rest: object, **more: object) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_text", refuse)
    assert "permission denied; docs/sensors.md" in Sensors(tree).missing["energy_cpu_j"]


def test_a_sensor_that_stops_telling_is_missing_from_then_on(tree: Path) -> None:
    plant(tree, {"sys/class/thermal/thermal_zone0/temp": 41_000, "proc/stat": "cpu  1 2 3 4 5 6 7 8 0 0"})
    sensors = Sensors(tree)
    before = sensors.read()
    (tree / "sys/class/thermal/thermal_zone0/temp").unlink()
    plant(tree, {"proc/stat": "cpu  1 2 3 4 5 6 7 2 0 0"})
    told = between(before, sensors.read())
    assert set(told) == {"span_s"} and "plausible" in sensors.missing["temperature_c"]


def rail(number: int, label: str, milliamperes: int, millivolts: int) -> dict[str, object]:
    chip = "sys/class/hwmon/hwmon3"
    found = {f"{chip}/curr{number}_input": milliamperes, f"{chip}/in{number}_input": millivolts}
    return found | ({f"{chip}/in{number}_label": label} if label else {})


def test_a_boards_total_is_taken_and_its_parts_are_not_added(tree: Path) -> None:
    chip = {"sys/class/hwmon/hwmon3/name": "ina3221", "sys/class/hwmon/hwmon0/name": "nvme"}
    plant(tree, chip | rail(1, "VDD_IN", 2000, 5000) | rail(2, "VDD_CPU_GPU_CV", 900, 5000) | rail(4, "sum", 9, 9))
    assert Sensors(tree).read()["power_board_w"] == pytest.approx(10)
    assert "VDD_IN" in Sensors(tree).sources["energy_board_j"]
    told = between({"span_s": 1.0, "power_board_w": 1.0}, {"span_s": 3.0, "power_board_w": 10.0})
    assert told == {"span_s": 2, "energy_board_j": 20}


def test_rails_that_may_contain_each_other_are_not_summed(tree: Path) -> None:
    chip = {"sys/class/hwmon/hwmon3/name": "ina3221"}
    plant(tree, chip | rail(1, "VDD_GPU_SOC", 2000, 5000) | rail(2, "VDD_CPU_CV", 900, 5000) | rail(3, "NC", 1, 1))
    assert "VDD_GPU_SOC, VDD_CPU_CV" in Sensors(tree).missing["energy_board_j"]


def test_power_in_microwatts_comes_before_current_and_voltage(tree: Path) -> None:
    plant(tree, {"sys/class/hwmon/hwmon3/name": "ina238", "sys/class/hwmon/hwmon3/power1_input": 7_500_000})
    plant(tree, rail(1, "", 1, 1))
    assert Sensors(tree).read()["power_board_w"] == pytest.approx(7.5)


def nvml(joules: float | None) -> types.SimpleNamespace:
    """NVML with one GPU, which tells its energy or refuses."""

    class NVMLError(Exception):
        pass

    def energy(handle: str) -> int:
        if joules is None:
            raise NVMLError("Not Supported")
        return int(joules * 1000)

    return types.SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: f"gpu{index}",
        nvmlDeviceGetTotalEnergyConsumption=energy,
    )


def test_the_gpus_energy_comes_from_nvml(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(12.5))
    assert Sensors(tree).read()["energy_gpu_j"] == 12.5
    monkeypatch.setitem(sys.modules, "pynvml", nvml(None))
    assert Sensors(tree).missing["energy_gpu_j"] == "NVML: Not Supported"


def test_a_workers_memory_from_faked_files(tree: Path) -> None:
    plant(
        tree,
        {
            "proc/7/status": "Name:\tx\nVmHWM:\t    9 kB\nVmRSS:\t    5 kB",
            "proc/7/smaps_rollup": "0-f ---p 0 00:00 0 [rollup]\nRss:   5 kB\nPss:   3 kB\nPss_Anon:  1 kB",
        },
    )
    assert memory(7, tree) == Memory(5 * 1024, 3 * 1024, 9 * 1024)
    assert memory(8, tree) == Memory()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_this_machine_is_read() -> None:
    sensors = Sensors()
    before = sensors.read()
    time.sleep(0.05)
    assert between(before, sensors.read())["span_s"] > 0.03
    found = memory(os.getpid())
    assert found.pss_bytes and found.rss_bytes and found.peak_rss_bytes
    assert found.pss_bytes <= found.rss_bytes * 1.01 and found.rss_bytes <= found.peak_rss_bytes * 1.01
    assert set(sensors.sources) & set(sensors.missing) == set()


# LoadGen


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short probes, short patience; skips where LoadGen is not installed."""
    pytest.importorskip("mlperf_loadgen", reason="MLPerf LoadGen is not installed")
    monkeypatch.setattr(loadgen, "_PROBE_S", 0.05)
    monkeypatch.setattr(loadgen, "_GRACE_S", 20.0)


@pytest.fixture
def loaded(brief, null, prepared, tmp_path: Path) -> Callable[..., Record]:
    """One short test of the null backend, or of another candidate."""

    def run(scenario: str = "single-stream", candidate: Candidate | None = None, **options) -> Record:
        photos = options.pop("photos", prepared)
        chosen = LoadOptions(scenario, **{"duration_s": 0.2, **options})
        return run_loadgen(candidate or null("null"), chosen, photos, tmp_path / "logs")

    return run


def altered(path: Path, body: str) -> Place:
    """A worker whose null backend runs `body` once LoadGen drives it."""
    return script(
        path,
        "import os, signal, sys, time\n"
        "from tiffin.benchmarks.workers import loadgen, worker\n"
        "from tiffin.errors import EngineFailed\n"
        "from tiffin.runtime.backends.null import NullLane\n"
        "plain, drive, driven = NullLane.run, loadgen.drive, []\n"
        "def run(lane, feeds, out=None):\n"
        "    driven and driven.append(1)\n"
        f"    if len(driven) > 4: {body}\n"
        "    return plain(lane, feeds, out)\n"
        "NullLane.run = run\n"
        "loadgen.drive = lambda *a, **k: (driven.append(1), drive(*a, **k))[1]\n"
        "sys.argv = [sys.argv[0], *sys.argv[3:]]\n"
        "worker.main()",
        sys.executable,
    )


@pytest.mark.parametrize(
    ("scenario", "options"),
    [
        ("single-stream", {}),
        ("multi-stream", {}),
        ("multi-stream", {"batch": 3}),
        ("offline", {}),
        ("offline", {"batch": 16}),
        ("server", {"target_qps": 400.0, "target_latency_ms": 100.0}),
    ],
)
def test_loadgen_measures_each_scenario(loaded, null, scenario: str, options, tmp_path: Path) -> None:
    two_lanes = dataclasses.replace(null("null"), run=RunConfig("null", lanes=2))
    record = loaded(scenario, two_lanes, **options)
    result = result_of(record)
    assert result.valid is not None and "shortened" in result.verdict and result.version.startswith("6.")
    assert result.shortened["min_duration_ms"] == "200 of 600000" and result.settings["min_duration_ms"] == 200
    assert result.samples_per_s > 0 and result.duration_s >= 0.15 and result.query_count >= 1
    assert list(result.percentiles_ns) == ["50.00", "90.00", "95.00", "97.00", "99.00", "99.90"]
    assert sorted(result.percentiles_ns.values()) == list(result.percentiles_ns.values())
    assert result.min_ns <= result.percentiles_ns["50.00"] <= result.max_ns
    assert {path.name for path in (tmp_path / "logs").iterdir()} >= {"mlperf_log_summary.txt", "mlperf_log_detail.txt"}
    again = load_record(record.save(tmp_path / "load.json"))
    assert again.kind == "loadgen" and result_of(again) == result


def test_a_shortened_valid_run_says_both(loaded) -> None:
    result = result_of(loaded(duration_s=0.5))
    assert result.valid and result.verdict == "VALID, shortened" and result.reasons == ()
    assert result.early_stopping["met"] and result.early_stopping["p90_ns"] >= result.percentiles_ns["90.00"]


def test_loadgens_clock_agrees_with_ours(loaded, ort: Candidate) -> None:
    record = loaded(candidate=ort, duration_s=0.5)
    result, (block,) = result_of(record), record.rounds["ort"].blocks
    assert len(block) == result.query_count
    ours = np.sort(block)[int(len(block) * 0.5)]
    assert abs(result.percentiles_ns["50.00"] - ours) < 0.2 * ours + 50_000


def test_too_few_queries_are_invalid_with_a_reason(loaded, null, tmp_path: Path) -> None:
    slow = null("slow", altered(tmp_path / "worker", "time.sleep(0.05)"))
    result = result_of(loaded(candidate=slow))
    assert result.valid is False and result.verdict == "INVALID, shortened"
    assert any("at least 64 queries" in reason for reason in result.reasons)


def test_an_overloaded_server_pays_for_the_queue(loaded, null, tmp_path: Path) -> None:
    slow = null("slow", altered(tmp_path / "worker", "time.sleep(0.005)"))
    result = result_of(loaded("server", slow, target_qps=1000.0, target_latency_ms=15.0))
    assert result.valid is False and result.percentiles_ns["99.00"] > 100e6
    assert any("latency constraint" in reason for reason in result.reasons)


def test_accuracy_by_loadgen_is_accuracy_by_score(loaded, ort: Candidate, prepared, tmp_path: Path) -> None:
    for scenario in SCENARIOS:
        options = {"target_qps": 200.0} if scenario == "server" else {}
        record = loaded(scenario, ort, mode="accuracy", **options)
        found, wanted = record.predictions["ort"], score(ort, prepared, tmp_path / "cache")[0]
        assert top_k(found) == top_k(wanted) and top_k(found).value > 0.5
        np.testing.assert_array_equal(found.top, wanted.top)
        np.testing.assert_allclose(found.scores, wanted.scores, rtol=1e-4, atol=1e-4)
        result = result_of(record)
        assert result.valid is None and result.verdict == "accuracy" and result.percentiles_ns == {}


def test_fewer_photos_than_there_are_is_shortened(brief, ort: Candidate, prepared, tmp_path: Path) -> None:
    asked = LoadOptions(mode="accuracy", official=True)
    record = run_loadgen(ort, asked, prepared, tmp_path / "logs", data={"of": 100})
    assert result_of(record).shortened == {"photos": "48 of 100"}


def test_what_is_no_classifier_gets_noise(loaded) -> None:
    assert result_of(loaded(photos=None)).query_count > 10
    with pytest.raises(BadInput, match="accuracy without photos"):
        loaded(photos=None, mode="accuracy")


def test_official_settings_are_mlperfs() -> None:
    module = pytest.importorskip("mlperf_loadgen", reason="MLPerf LoadGen is not installed")
    # MLPerf Inference Rules, Scenarios: 600 s each; offline at least 24,576 samples; multi-stream queries of 8, of
    # which early stopping at the 99th percentile needs 662.
    for scenario, least in (("single-stream", 1), ("multi-stream", 662), ("offline", 24_576), ("server", 1)):
        asked = LoadOptions(scenario, official=True, target_qps=10.0)
        settings, shortened = worker_loadgen._settings(module, asked, 2000, 10.0)
        assert settings.min_duration_ms == 600_000 and settings.min_query_count >= least and shortened == {}
        assert settings.multi_stream_samples_per_query == 8
    _, shortened = worker_loadgen._settings(module, LoadOptions(official=True), 48, 10.0)
    assert shortened == {"performance_sample_count_override": "48 of 1024"}


@pytest.mark.parametrize("scenario", ["single-stream", "multi-stream", "offline", "server"])
@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        ("raise EngineFailed('the accelerator fell off')", EngineFailed, "fell off"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", WorkerFailed, "worker died"),
    ],
)
def test_an_engine_that_fails_under_load_is_one_error(
    loaded, null, scenario: str, body: str, error, said: str, tmp_path: Path
) -> None:
    broken = null("broken", altered(tmp_path / "worker", body))
    with pytest.raises(error, match=said):
        loaded(scenario, broken, target_qps=200.0)
    assert not (tmp_path / "logs").exists()


def test_an_engine_that_hangs_under_load_is_one_error(loaded, null, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(loadgen, "_GRACE_S", 3.0)
    with pytest.raises(WorkerFailed, match="did not answer within 4 s"):
        loaded(candidate=null("stuck", altered(tmp_path / "worker", "time.sleep(60)")))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scenario": "interactive"}, "unknown scenario"),
        ({"mode": "peak"}, "unknown mode"),
        ({"scenario": "server"}, "without a target"),
        ({"scenario": "server", "target_qps": 0.0}, "target qps 0"),
        ({"scenario": "offline", "target_qps": -1.0}, "target qps -1"),
        ({"target_latency_ms": float("nan")}, "target latency nan"),
        ({"duration_s": 0.0}, "duration 0"),
        ({"batch": 2}, "batch 2"),
        ({"scenario": "offline", "batch": 0}, "batch 0"),
    ],
)
def test_a_load_that_makes_no_sense_is_refused(null, prepared, options, said: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=said):
        run_loadgen(null("null"), LoadOptions(**options), prepared, tmp_path / "logs")


def test_photos_that_cannot_be_loaded_are_refused(null, ort: Candidate, prepared, tmp_path: Path) -> None:
    none = dataclasses.replace(prepared, hashes=(), truth=prepared.truth[:0])
    with pytest.raises(BadInput, match="zero photos"):
        run_loadgen(ort, LoadOptions(), none, tmp_path / "logs")
    foreign = dataclasses.replace(prepared, truth=prepared.truth + 1)
    with pytest.raises(BadInput, match="classes up to 4"):
        run_loadgen(ort, LoadOptions(mode="accuracy"), foreign, tmp_path / "logs")
    seen = dataclasses.replace(ort.artifact.manifest, calibration=(prepared.hashes[0][:16],))
    calibrated = save(tmp_path / "int8", seen, {"model.onnx": ort.artifact.model_path})
    with pytest.raises(Overlap):
        run_loadgen(dataclasses.replace(ort, artifact=calibrated), LoadOptions(mode="accuracy"), prepared, tmp_path)


def test_a_fixed_batch_is_refused(ort: Candidate, prepared, tmp_path: Path) -> None:
    (spec,) = ort.artifact.manifest.inputs
    fixed = dataclasses.replace(ort.artifact.manifest, inputs=(dataclasses.replace(spec, shape=(1, *spec.shape[1:])),))
    artifact = save(tmp_path / "fixed", fixed, {"model.onnx": ort.artifact.model_path})
    with pytest.raises(BadInput, match="for batch 4"):
        asked = LoadOptions("offline", batch=4)
        run_loadgen(dataclasses.replace(ort, artifact=artifact), asked, prepared, tmp_path / "logs")


def test_without_loadgen_the_error_says_how_to_get_it(null, prepared, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(EngineMissing) as missing:
        run_loadgen(null("null"), LoadOptions(), prepared, tmp_path / "logs")
    assert missing.value.fix == 'pip install "tiffin[loadgen]"'


MLLOG = ':::MLLOG {"key": "%s", "value": %s, "metadata": {"is_error": %s}}\n'


def test_broken_logs_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    log = tmp_path / "mlperf_log_detail.txt"
    log.write_text(
        "garbage\n:::MLLOG {\n:::MLLOG []\n"
        + MLLOG % ("result_validity", '"VALID"', "false")
        + MLLOG % ("result_qps_with_loadgen_overhead", "NaN", "false")
        + MLLOG % ("unexpected", '"it broke"', "true")
    )
    summary = tmp_path / "mlperf_log_summary.txt"
    summary.write_text("Result is : VALID\n")
    result = read_result(tmp_path, "single-stream", "performance", {})
    assert result.valid and result.verdict == "VALID" and result.reasons == ("unexpected: it broke",)
    assert result.duration_s is None and result.percentiles_ns == {}
    ends = [
        MLLOG % (f"power_{end}", f'"11-27-2026 {hour}:00:00.000"', "false") for end, hour in (("begin", 3), ("end", 2))
    ]
    log.write_text(log.read_text() + "".join(ends))  # the clock was set back meanwhile
    assert read_result(tmp_path, "single-stream", "performance", {}, 2.0).duration_s == 2.0
    summary.write_text("Result is : INVALID\n")
    assert read_result(tmp_path, "single-stream", "performance", {}).valid is False
    log.write_text("")
    with pytest.raises(WorkerFailed, match="no result"):
        read_result(tmp_path, "single-stream", "performance", {})


@pytest.mark.parametrize(("detail", "summary"), [("loadgen_version", "VALID"), ("result_validity", "")])
def test_one_verdict_alone_is_none(tmp_path: Path, detail: str, summary: str) -> None:
    (tmp_path / "mlperf_log_detail.txt").write_text(MLLOG % (detail, '"VALID"', "false"))
    (tmp_path / "mlperf_log_summary.txt").write_text(f"Result is : {summary}\n" if summary else "cut off")
    with pytest.raises(WorkerFailed, match="no result"):
        read_result(tmp_path, "offline", "performance", {})


@pytest.mark.parametrize("text", ["", "[", '[{"qsl_idx": 0, "data": "00"}]', '[{"qsl_idx": 9, "data": "00000000"}]'])
def test_broken_answers_are_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "mlperf_log_accuracy.json").write_text(text)
    with pytest.raises(WorkerFailed, match="cannot be read"):
        read_answers(tmp_path, 2, 1)


# Peers


FOLDER = Path(tiffin.__file__).parent / "benchmarks" / "peers"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The scripts as Python finds them when one of them is run; forgotten afterwards."""
    names = ("peers", "compare", "table")
    monkeypatch.syspath_prepend(str(FOLDER))
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name)


def test_every_peer_has_a_script_and_pins_all_that_it_names(scripts) -> None:
    for peer in scripts["peers"].PEERS:
        assert (FOLDER / f"{peer.script}.py").is_file()
        lines = (FOLDER / "requirements" / f"{peer.script}.txt").read_text().splitlines()
        assert [line for line in lines if "==" not in line and not line.startswith("#")] == []
        assert {"numpy", "onnx", "onnxruntime"} <= {line.split("==")[0] for line in lines}


def test_a_peer_that_fails_or_takes_too_long_is_told_in_one_line_without_this_machines_folder(
    scripts, tmp_path
) -> None:
    code = f"raise ValueError('no such operator in {tmp_path}/made')"
    with pytest.raises(EngineFailed, match=r"it fails: ValueError: no such operator in WORK/made$"):
        scripts["peers"].timed([sys.executable, "-c", code], tmp_path / "log.txt", 60)
    with pytest.raises(EngineFailed, match="stopped after 0 s"):
        scripts["peers"].timed([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log.txt", 0.2)


def test_peers_are_compared_with_ours_in_one_record(
    scripts, onnx_artifact, photo_folder, tmp_path, monkeypatch
) -> None:
    """ONNX Runtime's peer, run for real in this environment; another peer whose environment cannot be built."""
    peers, compare, table = (scripts[name] for name in ("peers", "compare", "table"))
    from tiffin.benchmarks.candidate import Candidate
    from tiffin.benchmarks.options import RoundOptions
    from tiffin.data import find_dataset
    from tiffin.errors import EngineMissing
    from tiffin.records.record import load_record
    from tiffin.runtime import default_run

    def python_of(peer, work, say):  # type: ignore[no-untyped-def]
        if peer.script != "ort_default":
            raise EngineMissing("its environment cannot be built: no such wheel")
        return Path(sys.executable)

    monkeypatch.setattr(peers, "python_of", python_of)
    roles = compare.Roles.of(find_dataset(photo_folder), "confirm", None, tmp_path / "cache")
    run = compare.Comparison(onnx_artifact, roles, tmp_path, 1)
    run.add_ours(Candidate("model", onnx_artifact, default_run(onnx_artifact)), 60)
    for peer in peers.PEERS[1:3]:
        run.add(peer, 120)
    rounds = RoundOptions(launches=2, blocks=2, block_s=0.01, warmup_s=0.01, target=None)
    subjects, times, about = run.time(rounds)
    subjects, answers = run.answers(subjects)
    record = load_record(run.record(subjects, about, rounds=times, predictions=answers).save(tmp_path / "record.json"))
    names = [row.name for row in record.subjects if not row.reason and "VNNI" not in row.name]
    assert names == ["fp32 on onnxruntime", "fp32 on openvino", "Tiffin model on onnxruntime",
                     "ORT quantize_static default on onnxruntime"]  # fmt: skip
    assert set(names) == set(record.rounds)
    assert set(names) <= set(record.predictions)
    made = record.options["made"]["ORT quantize_static default on onnxruntime"]
    assert made["seconds"] > 0
    assert made["options"]["photos_taken"] == len(roles.calibrate) == record.data["calibration"] == 12
    assert record.subject(names[-1]).precision == "int8"
    page = table.page(record, record)
    assert "could not run: NNCF accuracy control on openvino: its environment cannot be built: no such wheel" in page
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    assert [row[0].removeprefix("| ") for row in rows[2:]] == names
    assert len({len(row) for row in rows}) == 1
