"""benchmarks/: rounds in worker processes, what happens to a worker that fails, and the accuracy pass."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiffin
from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.store import save
from tiffin.benchmarks import accuracy, rounds
from tiffin.benchmarks.accuracy import score
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.rounds import RoundOptions, measure, random_feeds
from tiffin.benchmarks.workers import client
from tiffin.benchmarks.workers.client import WorkerClient
from tiffin.benchmarks.workers.place import NATIVE, WITHOUT_VNNI, Place
from tiffin.data import open_dataset
from tiffin.data.prepared import PreparedPhotos, prepare_photos
from tiffin.errors import BadInput, EngineFailed, Overlap, TiffinError, WorkerFailed
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.quantize import quantize_int8
from tiffin.records import Predictions

QUICK = RoundOptions(launches=2, blocks=3, block_s=0.01, min_calls=4, warmup_s=0.01)


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


def gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


class Watched(WorkerClient):
    """Remembers its siblings, and how they were while one was timed."""

    alive: list[Watched] = []
    seen: list[set[str]] = []

    def __init__(self, *arguments) -> None:
        super().__init__(*arguments)
        self.alive.append(self)

    def time_ns(self, seconds: float, min_calls: int) -> np.ndarray:
        others = [other for other in self.alive if other is not self and other._process.poll() is None]
        self.seen.append({state_of(other._process.pid) for other in others})
        return super().time_ns(seconds, min_calls)


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
        assert len(taken.warmup) >= 2 and taken.batch == 1
        assert len(subject.cold_start_s) == 2 and min(subject.cold_start_s) > 0
        assert subject.peak_bytes is not None and subject.peak_bytes > 1e6 and not subject.reason
        assert subject.applied["backend"] == "null"


def test_the_order_is_interleaved_and_follows_the_seed(null) -> None:
    few = dataclasses.replace(QUICK, launches=1, blocks=4)

    def orders(seed: int) -> list[tuple[int, ...]]:
        return [r.order for r in measure([null(n) for n in "abc"], dataclasses.replace(few, seed=seed))[1].values()]

    first = orders(0)
    assert sorted(position for order in first for position in order) == list(range(1, 13))
    assert all([(position - 1) // 3 for position in order] == [0, 1, 2, 3] for order in first)  # once a round each
    assert orders(0) == first and orders(1) != first


def test_a_block_lasts_as_long_as_asked_and_warm_ups_stay_apart(null) -> None:
    _, found = measure([null("a")], RoundOptions(launches=1, blocks=2, block_s=0.2, min_calls=1, warmup_s=0.1))
    assert all(0.05 < block.sum() / 1e9 < 1 for block in found["a"].blocks)
    assert 0 < len(found["a"].warmup) < len(found["a"].all_ns())


def test_the_others_stand_still_while_one_is_timed(null, watched) -> None:
    measure([null("a"), null("b"), null("c")], QUICK)
    assert len(watched.seen) == 2 * (3 + 3 * 3) and set().union(*watched.seen) == {"T"}
    assert all(gone(worker._process.pid) for worker in watched.alive)


def test_engines_are_measured_side_by_side(onnx_artifact, openvino_artifact, pt2_artifact) -> None:
    candidates = [
        Candidate("ort", onnx_artifact, RunConfig("onnxruntime", threads=1)),
        Candidate("ov", openvino_artifact, RunConfig("openvino", threads=1)),
        Candidate("torch", pt2_artifact, RunConfig("torch", threads=1)),
        Candidate("absent", reason="nothing to open"),
    ]
    options = dataclasses.replace(QUICK, launches=1, blocks=2, batch=2)
    subjects, found = measure(candidates, options)
    assert [subject.reason for subject in subjects] == ["", "", "", "nothing to open"]
    assert list(found) == ["ort", "ov", "torch"] and {taken.batch for taken in found.values()} == {2}
    assert [subject.applied["threads"] for subject in subjects[:3]] == [1, 1, 1]
    assert subjects[0].artifact == onnx_artifact.digest and subjects[1].format == "openvino"


# Workers that fail


def fake(die_at: int, last: str = "sys.exit('out of memory')") -> str:
    return f"""
import json, sys
print(json.dumps({{"pid": 0}}), flush=True)
for number, line in enumerate(sys.stdin, 1):
    if number == {die_at}:
        {last}
    print(json.dumps({{"applied": {{}}, "ns": [1000] * 5, "peak_bytes": 1}}), flush=True)
"""


# open, warm-up, two blocks, memory
@pytest.mark.parametrize("die_at", [1, 2, 3, 4, 5])
def test_a_worker_that_dies_is_a_row_with_its_last_words(null, tmp_path: Path, die_at: int) -> None:
    place = script(tmp_path / "worker", fake(die_at), sys.executable)
    options = dataclasses.replace(QUICK, launches=1, blocks=2)
    subjects, found = measure([null("before"), null("dying", place), null("after")], options)
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
    ],
)
def test_a_worker_that_answers_wrongly_is_found_out(
    null, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setattr(client, "_START_TIMEOUT_S", 0.4 if "did not answer" in said else 20)
    artifact, place = null("a").artifact, script(tmp_path / "worker", text)
    with pytest.raises(WorkerFailed, match=said):
        WorkerClient(artifact, RunConfig("null"), place, {})


def test_a_worker_that_hangs_in_a_call_is_found_out(null, tmp_path: Path) -> None:
    place = script(tmp_path / "worker", fake(2, "import time; time.sleep(60)"), sys.executable)
    with WorkerClient(null("a").artifact, RunConfig("null"), place, {}) as worker:
        with pytest.raises(WorkerFailed, match="did not answer"):
            worker.ask("time", 0.3, seconds=0, min_calls=1)
        pid = worker._process.pid
    assert gone(pid)


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


def test_an_interrupted_run_leaves_no_worker(null, watched) -> None:
    def stop(line: str) -> None:
        if "block 2" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure([null("a"), null("b")], QUICK, stop)
    assert len(watched.alive) == 2 and all(gone(worker._process.pid) for worker in watched.alive)


def test_a_run_interrupted_while_it_starts_leaves_no_worker(null, watched, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Watched, "time_ns", stop)
    with pytest.raises(KeyboardInterrupt):
        measure([null("a")], QUICK)
    assert len(watched.alive) == 1 and gone(watched.alive[0]._process.pid)


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
    (subject,), found = measure([candidate], dataclasses.replace(QUICK, launches=1))
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
    monkeypatch.setattr(accuracy, "_CHUNK", 16)
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


def test_an_interrupted_score_goes_on(ort: Candidate, prepared, tmp_path: Path, asked) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(ort, prepared, tmp_path, stop)
    assert asked == [(0, 16)]
    steps: list[int] = []
    found, _ = score(ort, prepared, tmp_path, steps.append)
    assert asked == [(0, 16), (16, 32), (32, 48)] and steps == [16, 32, 48]
    np.testing.assert_array_equal(found.top, directly(ort.artifact, ort.run, prepared).top)


def test_a_score_is_kept(ort: Candidate, prepared, tmp_path: Path, asked) -> None:
    first, _ = score(ort, prepared, tmp_path)
    asked.clear()
    again, _ = score(ort, prepared, tmp_path)
    assert asked == []
    np.testing.assert_array_equal(again.scores, first.scores)
    fewer = dataclasses.replace(prepared, hashes=prepared.hashes[:-1] + ("ab" * 32,))
    score(ort, fewer, tmp_path)
    assert len(asked) == 3  # other photos, other answers


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY garbage"])
def test_a_broken_draft_is_written_anew(ort: Candidate, prepared, tmp_path: Path, asked, content: bytes) -> None:
    with pytest.raises(KeyboardInterrupt):
        score(ort, prepared, tmp_path, lambda done: (_ for _ in ()).throw(KeyboardInterrupt()))
    (draft,) = tmp_path.glob("logits-*.part.npy")
    draft.write_bytes(content)
    found, _ = score(ort, prepared, tmp_path)
    np.testing.assert_array_equal(found.top, directly(ort.artifact, ort.run, prepared).top)


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
    int8 = quantize_int8(onnx_artifact, "cpu", CalibrationSet(photos[:16], "drawn"), tmp_path / "int8")
    run = RunConfig("openvino", threads=1)
    native, _ = score(Candidate("native", int8, run), prepared, tmp_path / "cache")
    limited, _ = score(Candidate("limited", int8, run, WITHOUT_VNNI), prepared, tmp_path / "cache")
    assert len(list((tmp_path / "cache").glob("logits-*.npy"))) == 2
    assert (native.top[:, 0] == limited.top[:, 0]).mean() > 0.95


# What a worker is made of


def test_feeds_fit_the_model_and_follow_the_seed(onnx_artifact: Artifact) -> None:
    feeds = random_feeds(onnx_artifact, 3, 0)
    assert {name: (array.dtype, array.shape) for name, array in feeds.items()} == {"photos": (np.uint8, (3, 32, 32, 3))}
    assert feeds["photos"].std() > 50
    np.testing.assert_array_equal(random_feeds(onnx_artifact, 3, 0)["photos"], feeds["photos"])
    assert (random_feeds(onnx_artifact, 3, 1)["photos"] != feeds["photos"]).any()


def test_the_worker_imports_the_devices_floors_only() -> None:
    code = "import json, sys, tiffin.benchmarks.workers.worker; print(json.dumps(sorted(sys.modules)))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    rooms = {name.split(".")[1] for name in loaded if name.startswith("tiffin.")}
    assert rooms <= {"artifact", "records", "machine", "runtime", "errors", "benchmarks"}
    foreign = {"torch", "onnx", "onnxruntime", "openvino", "nncf", "typer", "scipy", "safetensors"}
    assert foreign & set(loaded) == set()
    assert {name for name in loaded if name.startswith("tiffin.benchmarks.")} == {
        "tiffin.benchmarks.workers",
        "tiffin.benchmarks.workers.worker",
    }


def test_errors_keep_their_class_on_the_way_out(onnx_artifact: Artifact) -> None:
    feeds = {"photos": np.zeros((1, 8, 8, 3), np.uint8)}
    with pytest.raises(BadInput, match="fed photos"):
        WorkerClient(onnx_artifact, RunConfig("onnxruntime"), NATIVE, feeds)
    with pytest.raises(TiffinError, match="unknown backend"):
        WorkerClient(onnx_artifact, RunConfig("abacus"), NATIVE, feeds)
