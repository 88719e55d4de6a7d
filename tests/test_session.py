"""runtime/: batches of any size, lanes behind one queue, time-outs, async, close, processes, options as applied."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import gc
import os
import pickle
import re
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import weakref
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiffin
from tiffin.artifact import Artifact, ModelFile, Producer, RunConfig, TensorSpec
from tiffin.artifact.manifest import Manifest, parse_manifest
from tiffin.artifact.store import save
from tiffin.errors import BadArtifact, BadInput, Busy, EngineFailed, TiffinError, TimedOut
from tiffin.machine import usable_cores
from tiffin.runtime import Session, backends, load
from tiffin.runtime.batches import run_parts, split
from tiffin.runtime.dispatch import Dispatcher, Job
from tiffin.runtime.feeds import Inputs

ENGINES = ["onnxruntime", "openvino"]
PATIENCE_S = 20
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="threads are placed by Linux's means")


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    if not backends.probe(request.param).runs:
        pytest.skip(f"{request.param} does not run here")
    return request.param


@pytest.fixture(scope="session")
def logits(onnx_artifact: Artifact, photos: np.ndarray) -> np.ndarray:
    """What the photos are answered one by one."""
    with load(onnx_artifact) as session:
        return np.concatenate([session.run({"photos": photo[None]})["logits"] for photo in photos])


@pytest.fixture(scope="session")
def fixed_artifact(onnx_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The same network with a batch of 4 in its graph."""
    import onnx

    model = onnx.load(onnx_artifact.model_path)
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_value = 4
    del model.graph.value_info[:]
    was = onnx_artifact.manifest
    inputs, outputs = (
        tuple(dataclasses.replace(spec, shape=(4, *spec.shape[1:])) for spec in specs)
        for specs in (was.inputs, was.outputs)
    )
    manifest = dataclasses.replace(was, inputs=inputs, outputs=outputs)
    folder = tmp_path_factory.mktemp("fixed") / "model"
    return save(folder, manifest, {"model.onnx": model.SerializeToString()})


def near(found: np.ndarray, wanted: np.ndarray) -> bool:
    return found.shape == wanted.shape and bool(np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max())


class Gate:
    """A lane that waits to be let through, and counts."""

    def __init__(self) -> None:
        self.begun, self.go, self.ran = threading.Semaphore(0), threading.Event(), []
        self.inside = self.most = 0

    def run(self, feeds, out=None):
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.begun.release()
        assert self.go.wait(PATIENCE_S)
        self.inside -= 1
        self.ran.append(feeds["photos"][0, 0, 0, 0])
        return {"logits": np.full((len(feeds["photos"]), 4), feeds["photos"][0, 0, 0, 0], np.float32)}

    def close(self) -> None:
        assert not self.inside, "closed while it runs"


def numbered(number: int) -> dict[str, np.ndarray]:
    return {"photos": np.full((1, 32, 32, 3), number, np.uint8)}


@pytest.fixture
def gates(onnx_artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Gate]]:
    """Lanes of the null backend that wait."""
    made: list[Gate] = []

    def opening(artifact: Artifact, run: RunConfig) -> Gate:
        made.append(Gate())
        made[-1].applied = backends.Applied(run, "1")
        return made[-1]

    monkeypatch.setattr(backends.backend("null"), "open", opening)
    yield made
    for gate in made:
        gate.go.set()


@pytest.fixture
def gated(onnx_artifact: Artifact, gates: list[Gate]) -> Iterator[Session]:
    """A session of one lane that waits; two more requests fit into its queue."""
    session = Session(onnx_artifact, RunConfig("null"))
    yield session
    gates[0].go.set()
    session.close()


def busy(session: Session, gate: Gate, waiting: int = 0) -> list[concurrent.futures.Future]:
    """One request runs, `waiting` wait."""
    futures = [session.submit(numbered(number)) for number in range(1 + waiting)]
    assert gate.begun.acquire(timeout=PATIENCE_S)
    return futures


def own_threads() -> set[threading.Thread]:
    """Other tests of this process may have some too: compare with those there were."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("tiffin-")}


# Batches of any size

RANGES = st.lists(
    st.tuples(st.integers(1, 40), st.integers(0, 40)).map(lambda pair: (pair[0], sum(pair))), min_size=1, max_size=3
)


@given(st.integers(1, 300), RANGES)
def test_a_split_batch_is_answered_whole_and_padded_only_at_its_end(count: int, ranges: list[tuple[int, int]]) -> None:
    parts = split(count, ranges)
    assert sum(rows for rows, _ in parts) == count
    assert all(any(least <= fed <= most for least, most in ranges) for _, fed in parts)
    assert all(rows == fed for rows, fed in parts[:-1])
    rows, fed = parts[-1]
    assert rows == fed or fed == min(least for least, _ in ranges)


@pytest.mark.parametrize(
    ("count", "ranges", "parts"),
    [
        (1, [(4, 4)], [(1, 4)]),
        (9, [(4, 4)], [(4, 4), (4, 4), (1, 4)]),
        (9, [(2, 8)], [(7, 7), (2, 2)]),
        (12, [(2, 8), (16, 32)], [(8, 8), (4, 4)]),
        (64, [(2, 8), (16, 32)], [(32, 32), (32, 32)]),
        (33, [(2, 8), (16, 32)], [(31, 31), (2, 2)]),
        (5, [(1, 16)], [(5, 5)]),
    ],
)
def test_batches_are_split_as_few_as_can_be(count, ranges, parts) -> None:
    assert split(count, ranges) == parts


def test_parts_feed_what_has_no_batch_as_it_is() -> None:
    seen = []

    def run(feeds):
        seen.append((feeds["x"].tolist(), feeds["scale"].tolist()))
        return {"y": feeds["x"] * feeds["scale"]}

    feeds = {"x": np.arange(5), "scale": np.array([10])}
    found = run_parts(run, feeds, ("x",), [(3, 3), (2, 3)])
    assert found["y"].tolist() == [0, 10, 20, 30, 40]
    assert seen == [([0, 1, 2], [10]), ([3, 4, 4], [10])]


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11])
def test_a_fixed_batch_takes_any(engine: str, fixed_artifact: Artifact, photos, logits, count: int) -> None:
    out = {"logits": np.full((count, 4), np.nan, np.float32)}
    with load(fixed_artifact, engine) as session:
        found = session.run({"photos": photos[:count]})["logits"]
        assert session.run({"photos": photos[:count]}, out) is out
        later = session.submit({"photos": photos[:count]}).result()["logits"]
    assert near(found, logits[:count]) and near(out["logits"], logits[:count]) and near(later, logits[:count])


def test_an_out_of_another_size_is_refused_for_a_split_batch_too(fixed_artifact: Artifact, photos) -> None:
    with load(fixed_artifact) as session, pytest.raises(BadInput, match=r"out\['logits'\]"):
        session.run({"photos": photos[:6]}, {"logits": np.zeros((5, 4), np.float32)})


def test_a_batch_on_a_gpu_does_not_let_one_of_numpy_pass_whole(onnx_artifact: Artifact) -> None:
    class OnGpu:
        __cuda_array_interface__ = {"data": (64, False), "shape": (5, 32, 32, 3), "typestr": "|u1", "version": 3}

    inputs = Inputs(onnx_artifact, ((1, 4),), on_device=True)
    assert inputs.accept({"photos": OnGpu()}) == []
    five = {"photos": np.zeros((5, 32, 32, 3), np.uint8)}
    assert not inputs.as_before(five) and len(inputs.accept(five)) == 2


def test_a_fixed_graph_that_takes_no_photos_is_not_split(fixed_artifact: Artifact, photos) -> None:
    artifact = Artifact(fixed_artifact.folder, dataclasses.replace(fixed_artifact.manifest, preprocess=None))
    with load(artifact) as session:
        session.run({"photos": photos[:4]})
        with pytest.raises(BadInput, match="fed photos") as caught:
            session.run({"photos": photos[:8]})
    assert caught.value.expected == "photos uint8(4, 32, 32, 3)"


@pytest.mark.parametrize("count", [1, 4])
def test_an_array_in_a_dicts_place_is_told_how_it_is_fed(onnx_artifact: Artifact, photos, count: int) -> None:
    with load(onnx_artifact) as session:
        for fed in (photos[:count], None):
            with pytest.raises(BadInput, match="fed (ndarray|NoneType)") as caught:
                session.run(fed)
            assert caught.value.fix == "session.run({'photos': array})"


def test_one_photo_and_a_batch_answer_alike(engine: str, onnx_artifact: Artifact, photos, logits) -> None:
    with load(onnx_artifact, engine) as session:
        for count in (1, 5, 1, 16, 1):
            assert near(session.run({"photos": photos[:count]})["logits"], logits[:count])


# Threads


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("backend", [*ENGINES, "torch", "null"])
def test_many_threads_may_run_one_session(
    request: pytest.FixtureRequest, backend: str, photos, logits, lanes: int
) -> None:
    if not backends.probe(backend).runs:
        pytest.skip(f"{backend} does not run here")
    artifact = request.getfixturevalue("pt2_artifact" if backend == "torch" else "onnx_artifact")
    wanted = np.zeros_like(logits) if backend == "null" else logits
    with load(artifact, RunConfig(backend, threads=1, lanes=lanes)) as session, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: session.run({"photos": photos[n : n + 1 + n % 3]})["logits"], range(48)))
    assert all(np.abs(rows - wanted[n : n + len(rows)]).max() <= 1e-3 for n, rows in enumerate(found))


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_lane_is_never_used_twice_at_once(onnx_artifact: Artifact, gates: list[Gate], lanes: int) -> None:
    with Session(onnx_artifact, RunConfig("null", lanes=lanes)) as session, ThreadPoolExecutor(6) as pool:
        for gate in gates:
            gate.go.set()
        futures = [session.submit(numbered(n)) if n % 2 else pool.submit(session.run, numbered(n)) for n in range(120)]
        assert [future.result(PATIENCE_S)["logits"][0, 0] for future in futures] == list(range(120))
    assert max(gate.most for gate in gates) == 1 and len(gates) == lanes


def test_lanes_share_the_engine(
    engine: str, onnx_artifact: Artifact, monkeypatch: pytest.MonkeyPatch, photos, logits
) -> None:
    made = []
    module, name = ("onnxruntime", "InferenceSession") if engine == "onnxruntime" else ("openvino", "Core")
    __import__(module)
    owner = sys.modules[module]

    if engine == "onnxruntime":
        real = owner.InferenceSession
        monkeypatch.setattr(owner, name, lambda *a, **k: made.append(1) or real(*a, **k))
    else:
        real = owner.Core.compile_model
        monkeypatch.setattr(owner.Core, "compile_model", lambda *a, **k: made.append(1) or real(*a, **k))
    with load(onnx_artifact, RunConfig(engine, lanes=3, hint="throughput")) as session:
        assert len(made) == 1
        futures = [session.submit({"photos": photos[n : n + 1]}) for n in range(24)]
        assert near(np.concatenate([future.result()["logits"] for future in futures]), logits[:24])
        assert len(made) == 1  # OpenVINO compiles one more where larger batches come
        futures = [session.submit({"photos": photos[n : n + 2]}) for n in range(0, 24, 2)]
        assert near(np.concatenate([future.result()["logits"] for future in futures]), logits[:24])
        assert len(made) == (2 if engine == "openvino" else 1)


def test_cores_are_divided_among_lanes(engine: str, onnx_artifact: Artifact) -> None:
    cores = usable_cores()
    with load(onnx_artifact, RunConfig(engine, lanes=2)) as session:
        assert session.applied.run.threads == max(1, cores // 2) and session.applied.run.lanes == 2


# The queue


def test_an_error_comes_with_its_future_and_the_lane_goes_on() -> None:
    def fail(lane):
        raise EngineFailed("no")

    queue = Dispatcher(["lane"])
    bad, good = queue.submit(fail), queue.submit(lambda lane: lane)
    assert isinstance(bad.exception(PATIENCE_S), EngineFailed) and good.result(PATIENCE_S) == "lane"
    queue.close()


@pytest.mark.parametrize("lanes", [1, 2])
def test_a_thread_that_cannot_start_is_an_error_and_not_a_wait(lanes: int) -> None:
    ready = threading.Event()

    def enter() -> None:
        assert ready.wait(PATIENCE_S)
        raise OSError("the core is gone")

    queue = Dispatcher(list(range(lanes)), enter)
    futures = [queue.submit(lambda lane: lane) for _ in range(queue.limit)]
    ready.set()
    for future in futures:
        assert "the core is gone" in str(future.exception(PATIENCE_S))
    with pytest.raises(BadInput, match="the core is gone"):
        queue.submit(lambda lane: lane)
    closing = threading.Thread(target=queue.close, daemon=True)
    closing.start()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()


@pytest.mark.parametrize("name", ["tiffin-lane", "tiffin-clock"])
def test_a_system_without_threads_is_an_error_and_asked_again(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        real(thread)

    queue = Dispatcher(["lane"])
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(EngineFailed, match="can't start new thread"):
            queue.submit(lambda lane: lane, timeout_s=PATIENCE_S)
    assert queue.submit(lambda lane: lane, timeout_s=PATIENCE_S).result(PATIENCE_S) == "lane"
    queue.close()


def test_the_queue_is_bounded_and_lanes_run_side_by_side() -> None:
    both, go = threading.Barrier(3), threading.Event()

    def work(lane):
        if not go.is_set():
            both.wait(PATIENCE_S)
            go.wait(PATIENCE_S)

    queue = Dispatcher(["one", "two"])
    futures = [queue.submit(work) for _ in range(2)]
    both.wait(PATIENCE_S)  # two lanes are busy at once
    futures += [queue.submit(work) for _ in range(4)]
    with pytest.raises(Busy, match="4 requests"):
        queue.submit(work, block=False)
    blocked = threading.Thread(target=lambda: futures.append(queue.submit(work)))
    blocked.start()
    blocked.join(0.05)
    assert blocked.is_alive()
    go.set()
    blocked.join(PATIENCE_S)
    queue.close()
    assert len(futures) == 7 and all(future.done() for future in futures)


def test_a_full_session_says_busy_and_takes_requests_again(gated: Session, gates: list[Gate]) -> None:
    futures = busy(gated, gates[0], waiting=2)
    with pytest.raises(Busy) as caught:
        gated.submit(numbered(9), block=False)
    assert caught.value.exit_code == 1 and caught.value.fix
    gates[0].go.set()
    assert [future.result(PATIENCE_S)["logits"][0, 0] for future in futures] == [0, 1, 2]
    assert gated.submit(numbered(7), block=False).result(PATIENCE_S)["logits"][0, 0] == 7


def test_a_cancelled_request_is_not_run_and_leaves_room(gated: Session, gates: list[Gate]) -> None:
    futures = busy(gated, gates[0], waiting=2)
    assert futures[1].cancel() and not futures[0].cancel()
    assert concurrent.futures.wait(futures[1:2], timeout=PATIENCE_S).done
    late = gated.submit(numbered(8), block=False)
    gates[0].go.set()
    assert late.result(PATIENCE_S)["logits"][0, 0] == 8
    assert gates[0].ran == [0, 2, 8]


def test_a_request_that_does_not_begin_in_time_ends_and_leaves_room(gated: Session, gates: list[Gate]) -> None:
    first, *_ = busy(gated, gates[0])
    timed = [gated.submit(numbered(n), timeout_s=0.02 * n) for n in (2, 1)]
    for future in timed:  # while the lane is still busy
        assert isinstance(future.exception(PATIENCE_S), TimedOut)
    assert not first.done()
    again = [gated.submit(numbered(n), block=False) for n in (3, 4)]
    gates[0].go.set()
    assert [future.result(PATIENCE_S)["logits"][0, 0] for future in again] == [3, 4]
    assert gates[0].ran == [0, 3, 4]


def test_waiting_for_room_counts(gated: Session, gates: list[Gate]) -> None:
    busy(gated, gates[0], waiting=2)
    with pytest.raises(TimedOut):
        gated.submit(numbered(5), timeout_s=0.02)
    with pytest.raises(TimedOut):
        gated.run(numbered(6), timeout_s=0.02)
    gates[0].go.set()
    gated.close()
    assert gates[0].ran == [0, 1, 2]


def test_the_wait_for_room_is_not_added_to_the_time_given(gated: Session, gates: list[Gate], monkeypatch) -> None:
    given: list[float] = []
    whole = Job.result
    monkeypatch.setattr(Dispatcher, "_wait_for_room", lambda self, block, deadline: time.sleep(0.2))
    monkeypatch.setattr(Job, "result", lambda job, timeout=None: given.append(timeout) or whole(job, timeout))
    with pytest.raises(TimedOut):
        gated.run(numbered(0), timeout_s=0.5)
    assert given[0] <= 0.3
    gates[0].go.set()


def test_a_run_that_takes_too_long_is_abandoned_unharmed(gated: Session, gates: list[Gate]) -> None:
    out = {"logits": np.full((1, 4), np.nan, np.float32)}
    with pytest.raises(TimedOut) as caught:
        gated.run(numbered(1), out, timeout_s=0.05)
    assert caught.value.fix and gates[0].inside == 1  # it had begun, and runs on
    gates[0].go.set()
    assert gated.run(numbered(2), out, timeout_s=PATIENCE_S) is out and (out["logits"] == 2).all()
    assert gates[0].ran == [1, 2] and gates[0].most == 1


def test_in_time_is_as_without(engine: str, onnx_artifact: Artifact, photos, logits) -> None:
    with load(onnx_artifact, engine) as session:
        assert near(session.run({"photos": photos[:2]}, timeout_s=PATIENCE_S)["logits"], logits[:2])
        assert near(session.submit({"photos": photos[:2]}, timeout_s=PATIENCE_S).result()["logits"], logits[:2])


def test_an_answer_that_comes_as_the_time_ends_is_an_answer(gated: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(concurrent.futures.Future):
        deadline = 0.0

        def result(self, timeout=None):
            if not self.done():
                self.set_result({"logits": np.zeros((1, 4), np.float32)})
                raise TimeoutError
            return super().result()

    monkeypatch.setattr(gated._dispatcher, "submit", lambda work, timeout_s: Late())
    assert gated.run(numbered(1), timeout_s=1.0)["logits"].shape == (1, 4)


def test_an_answer_that_was_fetched_is_kept_by_nobody(gated: Session, gates: list[Gate]) -> None:
    import weakref

    gates[0].go.set()
    feeds = numbered(3)
    held = weakref.ref(feeds["photos"])
    future = gated.submit(feeds, timeout_s=PATIENCE_S)
    answer = weakref.ref(future.result(PATIENCE_S)["logits"])
    del feeds
    gc.collect()
    assert held() is None
    del future
    gc.collect()
    assert answer() is None


def test_feeds_that_were_not_run_are_kept_by_nobody(gated: Session, gates: list[Gate]) -> None:
    import weakref

    busy(gated, gates[0])
    fed = [numbered(1), numbered(2)]
    held = [weakref.ref(feeds["photos"]) for feeds in fed]
    cancelled, late = gated.submit(fed[0]), gated.submit(fed[1], timeout_s=0.05)
    assert cancelled.cancel() and isinstance(late.exception(PATIENCE_S), TimedOut)
    fed.clear()
    gc.collect()
    assert [feeds() for feeds in held] == [None, None]


# Async


def collected(session: Session, source) -> list[float]:
    async def collect() -> list[float]:
        return [float(found["logits"][0, 0]) async for found in session.iterate(source)]

    return asyncio.run(asyncio.wait_for(collect(), PATIENCE_S))


async def arriving(count: int):
    for number in range(count):
        await asyncio.sleep(0)
        yield numbered(number)


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("source", [lambda: [numbered(n) for n in range(30)], lambda: map(numbered, range(30)),
                                    lambda: arriving(30)])  # fmt: skip
def test_answers_come_in_the_sources_order(onnx_artifact: Artifact, gates, lanes: int, source) -> None:
    with Session(onnx_artifact, RunConfig("null", lanes=lanes)) as session:
        for gate in gates:
            gate.go.set()
        assert collected(session, source()) == list(range(30))
        assert collected(session, []) == []


def test_async_on_a_real_engine(engine: str, onnx_artifact: Artifact, photos, logits) -> None:
    async def collect(session: Session) -> np.ndarray:
        source = ({"photos": photos[n : n + 1]} for n in range(20))
        return np.concatenate([found["logits"] async for found in session.iterate(source)])

    with load(onnx_artifact, RunConfig(engine, lanes=2)) as session:
        assert near(asyncio.run(collect(session)), logits[:20])


def test_a_source_is_read_no_further_than_the_queue(gated: Session, gates: list[Gate]) -> None:
    read = []

    def source():
        for number in range(9):
            read.append(number)
            yield numbered(number)

    async def first() -> None:
        answers = gated.iterate(source())
        one = asyncio.ensure_future(anext(answers))
        for _ in range(200):
            await asyncio.sleep(0.001)
        # Two in flight, and one that was read while they were.
        assert len(read) == 3 and not one.done()
        gates[0].go.set()
        assert (await one)["logits"][0, 0] == 0
        await answers.aclose()

    asyncio.run(asyncio.wait_for(first(), PATIENCE_S))
    gated.close()
    assert len(gates[0].ran) <= 4


def test_an_answer_does_not_wait_for_the_sources_next_item(gated: Session, gates: list[Gate]) -> None:
    gates[0].go.set()

    async def conversation() -> list[float]:
        heard: asyncio.Queue[int] = asyncio.Queue()

        async def source():
            for number in range(5):
                yield numbered(number)
                assert await heard.get() == number

        found = []
        async for answer in gated.iterate(source()):
            found.append(float(answer["logits"][0, 0]))
            heard.put_nowait(len(found) - 1)
        return found

    assert asyncio.run(asyncio.wait_for(conversation(), PATIENCE_S)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ends_in", ["a bad item", "a broken source"])
def test_the_first_error_comes_in_its_turn_and_ends_it(gated: Session, gates: list[Gate], ends_in: str) -> None:
    gates[0].go.set()

    def source():
        yield numbered(0)
        yield numbered(1)
        if ends_in == "a bad item":
            yield {"photos": np.zeros((1, 3, 32, 32), np.uint8)}
        raise BadInput("the camera vanished")

    found = []

    async def collect() -> None:
        async for answer in gated.iterate(source()):
            found.append(float(answer["logits"][0, 0]))

    with pytest.raises(BadInput, match="fed" if ends_in == "a bad item" else "camera"):
        asyncio.run(asyncio.wait_for(collect(), PATIENCE_S))
    assert found == [0, 1]
    assert gated.run(numbered(5))["logits"][0, 0] == 5


def test_where_others_fill_the_queue_the_loop_goes_on(gated: Session, gates: list[Gate]) -> None:
    busy(gated, gates[0], waiting=2)

    async def both() -> float:
        one = asyncio.ensure_future(anext(gated.iterate([numbered(6)])))
        for _ in range(100):
            await asyncio.sleep(0.001)
        assert not one.done()
        gates[0].go.set()
        return float((await one)["logits"][0, 0])

    assert asyncio.run(asyncio.wait_for(both(), PATIENCE_S)) == 6


# Close


def test_what_was_submitted_is_finished_and_no_thread_is_left(onnx_artifact: Artifact, gates: list[Gate]) -> None:
    others = own_threads()
    session = Session(onnx_artifact, RunConfig("null", lanes=2))
    futures = [session.submit(numbered(n), timeout_s=PATIENCE_S) for n in range(5)]
    assert own_threads() > others
    closing = threading.Thread(target=session.close)
    closing.start()
    closing.join(0.05)
    assert closing.is_alive()
    for entry in (session.run, session.submit):
        with pytest.raises(BadInput, match="closed"):
            entry(numbered(1))
    for gate in gates:
        gate.go.set()
    closing.join(PATIENCE_S)
    assert [future.result(0)["logits"][0, 0] for future in futures] == list(range(5))
    assert own_threads() <= others
    session.close()


def test_close_waits_for_whoever_runs(gated: Session, gates: list[Gate]) -> None:
    with ThreadPoolExecutor(3) as pool:
        running = pool.submit(gated.run, numbered(3))
        assert gates[0].begun.acquire(timeout=PATIENCE_S)
        closing = [pool.submit(gated.close) for _ in range(2)]
        assert not concurrent.futures.wait(closing, timeout=0.05).done
        gates[0].go.set()
        assert running.result(PATIENCE_S)["logits"][0, 0] == 3
        assert [future.result(PATIENCE_S) for future in closing] == [None, None]


def test_who_waits_for_room_is_refused_when_it_closes(gated: Session, gates: list[Gate]) -> None:
    busy(gated, gates[0], waiting=2)
    with ThreadPoolExecutor(2) as pool:
        blocked = pool.submit(gated.submit, numbered(4))
        assert not concurrent.futures.wait([blocked], timeout=0.05).done
        closing = pool.submit(gated.close)
        assert isinstance(blocked.exception(PATIENCE_S), BadInput)
        gates[0].go.set()
        closing.result(PATIENCE_S)


def test_a_callback_may_not_close_and_may_submit(gated: Session, gates: list[Gate]) -> None:
    said: list[object] = []

    def callback(future) -> None:
        try:
            gated.close()
        except BadInput as error:
            said.append(error)
        said.append(gated.submit(numbered(2), block=False))

    gates[0].go.set()
    future = gated.submit(numbered(1))
    future.add_done_callback(callback)
    concurrent.futures.wait([future], PATIENCE_S)
    for _ in range(2000):
        if len(said) == 2:
            break
        time.sleep(0.005)
    assert "callback" in str(said[0]) and said[1].result(PATIENCE_S)["logits"][0, 0] == 2


def test_the_callback_of_a_request_that_timed_out_may_not_close(gated: Session, gates: list[Gate]) -> None:
    said: concurrent.futures.Future = concurrent.futures.Future()

    def callback(future) -> None:
        try:
            said.set_result(gated.close())
        except BaseException as error:
            said.set_exception(error)

    busy(gated, gates[0])
    gated.submit(numbered(1), timeout_s=0.05).add_done_callback(callback)
    assert isinstance(said.exception(PATIENCE_S), BadInput)
    gates[0].go.set()
    assert gated.submit(numbered(2)).result(PATIENCE_S)["logits"][0, 0] == 2  # nothing is half closed


def test_use_while_it_closes_is_answered_or_refused(engine: str, onnx_artifact: Artifact, photos, logits) -> None:
    session = load(onnx_artifact, RunConfig(engine, lanes=2))

    def use() -> str:
        for n in range(400):
            try:
                found = session.run({"photos": photos[n % 32 : n % 32 + 1]})["logits"]
            except BadInput as error:
                assert "closed" in error.what
                return "refused"
            assert near(found, logits[n % 32 : n % 32 + 1])
        return "finished"

    with ThreadPoolExecutor(4) as pool:
        users = [pool.submit(use) for _ in range(4)]
        session.run({"photos": photos[:1]})
        session.close()
        assert {user.result(PATIENCE_S) for user in users} <= {"refused", "finished"}


def test_sessions_come_and_go_without_a_trace(engine: str, onnx_artifact: Artifact, photos) -> None:
    def once() -> None:
        with load(onnx_artifact, RunConfig(engine, threads=1, lanes=2)) as session:
            session.run({"photos": photos[:1]}, timeout_s=PATIENCE_S)
            session.submit({"photos": photos[:1]}).result()

    for _ in range(3):
        once()
    before, others = psutil.Process().num_threads(), own_threads()
    for _ in range(5):
        once()
    assert psutil.Process().num_threads() <= before + 1 and own_threads() <= others


def test_a_session_that_is_dropped_frees_its_engine_and_threads(engine: str, onnx_artifact: Artifact, photos) -> None:
    others = own_threads()
    session = load(onnx_artifact, RunConfig(engine, threads=1, lanes=2))
    answer = session.submit({"photos": photos[:1]}, timeout_s=PATIENCE_S)
    lane = weakref.ref(session._lanes[0])
    del session
    assert answer.result(PATIENCE_S)["logits"].shape == (1, 4)
    del answer
    until = time.monotonic() + PATIENCE_S / 4
    while (lane() or own_threads() - others) and time.monotonic() < until:
        time.sleep(0.01)
    assert lane() is None and own_threads() <= others


# Processes


def in_a_process(script: str, *words: object, code: int = 0) -> str:
    """What a script prints that ends of itself."""
    head = "import os, sys, time\nimport numpy as np\nimport tiffin\nfrom tiffin.artifact import RunConfig\n"
    command = [sys.executable, "-W", "ignore", "-c", head + textwrap.dedent(script), *map(str, words)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ended.returncode == code, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("backend", [*ENGINES, "torch"])
def test_a_process_that_ends_with_requests_in_flight_keeps_its_exit_code(
    backend: str, onnx_artifact: Artifact, pt2_artifact: Artifact
) -> None:
    need(backend)
    script = """
        session = tiffin.load(sys.argv[1], RunConfig(sys.argv[2], threads=1, lanes=2))
        for _ in range(4):
            session.submit({"photos": np.zeros((2048, 32, 32, 3), np.uint8)}).add_done_callback(
                lambda future: print("answered\\n", end="", flush=True))
        sys.exit(3)
        """
    folder = (pt2_artifact if backend == "torch" else onnx_artifact).folder
    assert in_a_process(script, folder, backend, code=3).split() == ["answered"] * 4


def test_a_process_does_not_wait_for_ever_for_an_engine_that_hangs() -> None:
    script = """
        import logging
        from tiffin.runtime import dispatch
        logging.basicConfig(stream=sys.stdout, format="%(message)s")
        dispatch.END_S = 0.2
        dispatcher = dispatch.Dispatcher([None])
        dispatcher.submit(lambda lane: time.sleep(1000))
        """
    assert "while an engine still runs" in in_a_process(script)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks nothing")
@pytest.mark.parametrize("ends", ["os._exit(0)", "sys.exit(0)"])
def test_a_forked_child_gets_one_error_and_the_parent_goes_on(engine: str, onnx_artifact: Artifact, ends: str) -> None:
    """Also where a thread of the parent holds the session at that moment, and where the child ends as Python does."""
    if (engine, ends) == ("onnxruntime", "sys.exit(0)"):
        pytest.skip("ONNX Runtime's own exit waits for threads that a forked child does not have")
    said = in_a_process(
        f"""
        import threading
        from tiffin.errors import BadInput
        photo = {{"photos": np.zeros((1, 32, 32, 3), np.uint8)}}
        session = tiffin.load(sys.argv[1], RunConfig(sys.argv[2], threads=2))
        wanted = session.submit(photo).result()["logits"]
        stop = threading.Event()
        def use():
            while not stop.is_set():
                session.run(photo)
        user = threading.Thread(target=use)
        user.start()
        time.sleep(0.05)
        for _ in range(5):
            child = os.fork()
            if child == 0:
                for entry in (session.run, session.submit):
                    try:
                        entry(photo)
                    except BadInput as error:
                        print(error.what, flush=True)
                session.close()
                del session
                {ends}
            end = time.monotonic() + 20
            while os.waitpid(child, os.WNOHANG) == (0, 0):
                assert time.monotonic() < end, "the child hangs"
                time.sleep(0.005)
        stop.set()
        user.join()
        assert np.array_equal(session.run(photo)["logits"], wanted)
        session.close()
        print("parent goes on")
        """,
        onnx_artifact.folder,
        engine,
    )
    assert said.splitlines()[-1] == "parent goes on"
    assert len(re.findall("opened by the process that this one was forked from", said)) == 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks nothing")
def test_a_child_opens_its_own(onnx_artifact: Artifact) -> None:
    """Forked before any session was opened, or after on ONNX Runtime."""
    said = in_a_process(
        """
        photo = {"photos": np.zeros((1, 32, 32, 3), np.uint8)}
        session = tiffin.load(sys.argv[1], "onnxruntime")
        session.run(photo)
        child = os.fork()
        if child == 0:
            with tiffin.load(sys.argv[1], "onnxruntime") as own:
                print(own.run(photo)["logits"].shape, own.submit(photo).result()["logits"].shape, flush=True)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        """,
        onnx_artifact.folder,
    )
    assert said.split("\n")[0] == "(1, 4) (1, 4)"


def test_a_spawned_process_opens_its_own(engine: str, onnx_artifact: Artifact, tmp_path: Path) -> None:
    script = tmp_path / "own.py"
    script.write_text(
        textwrap.dedent("""
        import sys
        import numpy as np
        import tiffin
        def answer(words):
            with tiffin.load(*words) as session:
                return session.run({"photos": np.zeros((1, 32, 32, 3), np.uint8)})["logits"]
        if __name__ == "__main__":
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing import get_context
            words = tuple(sys.argv[1:])
            here = answer(words)
            with tiffin.load(*words) as session, ProcessPoolExecutor(1, get_context("spawn")) as pool:
                there = pool.submit(answer, words).result()
                session.run({"photos": np.zeros((1, 32, 32, 3), np.uint8)})
            print(np.array_equal(here, there))
        """)
    )
    ended = subprocess.run(
        [sys.executable, script, onnx_artifact.folder, engine], capture_output=True, text=True, timeout=60
    )
    assert ended.stdout == "True\n", ended.stderr


def test_lanes_that_begin_at_once_in_a_new_process_do_not_wait_for_one_another(
    engine: str, classifier_artifact: Artifact
) -> None:
    """Engines set themselves up at their first run; threads are switched often, so that a race is met."""
    script = """if True:
        import sys
        import numpy as np
        from tiffin.artifact import RunConfig
        from tiffin.runtime import load
        sys.setswitchinterval(1e-5)
        feeds = {"photos": np.zeros((1, 224, 224, 3), np.uint8)}
        with load(sys.argv[1], RunConfig(sys.argv[2], threads=1, lanes=2, hint="throughput")) as session:
            for future in [session.submit(feeds) for _ in range(8)]:
                future.result()
    """
    for _ in range(2):
        words = [sys.executable, "-c", script, str(classifier_artifact.folder), engine]
        assert subprocess.run(words, capture_output=True, timeout=30).returncode == 0


def test_a_session_is_not_sent_to_another_process(onnx_artifact: Artifact) -> None:
    with load(onnx_artifact, "null") as session, pytest.raises(BadInput, match="another process") as caught:
        pickle.dumps(session)
    assert "open a session there" in caught.value.fix


# Options, as applied


def placed(threads: set[int]) -> tuple[set[frozenset[int]], set[int]]:
    """Cores and niceness of threads."""
    return ({frozenset(os.sched_getaffinity(thread)) for thread in threads},
            {os.getpriority(os.PRIO_PROCESS, thread) for thread in threads})  # fmt: skip


def all_threads() -> set[int]:
    return {int(entry.name) for entry in Path("/proc/self/task").iterdir()}


def worked(threads: set[int]) -> dict[int, int]:
    """Clock ticks that each thread has computed for."""
    found = {}
    for thread in threads:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            fields = Path(f"/proc/self/task/{thread}/stat").read_text().rsplit(")", 1)[1].split()
            found[thread] = int(fields[11]) + int(fields[12])
    return found


@ON_LINUX
@pytest.mark.parametrize("lanes", [1, 2])
def test_a_session_computes_on_its_cores_only(engine: str, classifier_artifact: Artifact, lanes: int) -> None:
    core = max(os.sched_getaffinity(0))
    before, here = all_threads(), os.sched_getaffinity(0)
    photo = {"photos": np.zeros((1, 224, 224, 3), np.uint8)}
    if engine == "openvino" and lanes > 1:
        with pytest.raises(BadInput, match="given cores"):
            load(classifier_artifact, RunConfig(engine, lanes=lanes, cpus=(core,)))
        return
    with load(classifier_artifact, RunConfig(engine, lanes=lanes, cpus=(core,))) as session:
        assert session.applied.run.cpus == (core,) and session.applied.run.threads == 1
        start = worked(all_threads())
        session.run(photo)
        for future in [session.submit(photo) for _ in range(20)]:
            future.result()
        spent = {thread: ticks - start.get(thread, 0) for thread, ticks in worked(all_threads()).items()}
        busiest = {thread for thread, ticks in spent.items() if ticks >= 5}
        assert busiest and not busiest & before
        assert placed(busiest)[0] == {frozenset({core})}
    assert os.sched_getaffinity(0) == here  # the caller's own is untouched


@ON_LINUX
def test_a_session_of_low_priority_is_nicer(engine: str, classifier_artifact: Artifact) -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    if own > 9:
        pytest.skip("this process is as nice as can be")
    photo = {"photos": np.zeros((1, 224, 224, 3), np.uint8)}
    with load(classifier_artifact, RunConfig(engine, threads=1, priority="low")) as session:
        assert session.applied.run.priority == "low"
        start = worked(all_threads())
        for _ in range(20):
            session.run(photo)
        spent = {thread: ticks - start.get(thread, 0) for thread, ticks in worked(all_threads()).items()}
        busiest = {thread for thread, ticks in spent.items() if ticks >= 5}
        assert placed(busiest)[1] == {own + 10}
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


@ON_LINUX
def test_high_priority_is_applied_or_refused(onnx_artifact: Artifact, photos) -> None:
    try:
        with load(onnx_artifact, RunConfig("onnxruntime", priority="high")) as session:
            assert session.applied.run.priority == "high"
            session.run({"photos": photos[:1]})
    except BadInput as error:
        assert "not permitted" in error.what and "CAP_SYS_NICE" in error.fix


@ON_LINUX
@pytest.mark.parametrize(
    ("run", "said"),
    [
        ({"backend": "onnxruntime", "cpus": (4095,)}, "cpus 4095"),
        ({"backend": "openvino", "cpus": (0,), "threads": 2}, "all of this process"),
        ({"backend": "openvino", "priority": "low", "threads": 2}, "all of this process"),
        ({"backend": "onnxruntime", "device": "gpu", "priority": "low"}, "priority low|CUDAExecutionProvider"),
    ],
)
def test_what_cannot_be_honoured_is_one_error(onnx_artifact: Artifact, run, said: str) -> None:
    with pytest.raises(TiffinError, match=said) as caught:
        load(onnx_artifact, RunConfig(**run))
    assert caught.value.expected


@pytest.mark.parametrize(
    "wrong",
    [{"priority": "urgent"}, {"cpus": ()}, {"cpus": (-1,)}, {"cpus": (0, 0)}, {"device": "cpu:0"}, {"device": "CPU.0"}],
)
def test_a_wrong_option_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput, match="priority|cpus|device"):
        RunConfig("null", **wrong)


def test_a_manifest_with_an_indexed_cpu_is_one_error() -> None:
    text = plain_manifest(RunConfig("openvino")).to_json().replace('"cpu"', '"cpu:0"')
    text = text.replace('"files": []', f'"files": [{{"name": "m", "size_bytes": 1, "sha256": "{"0" * 64}"}}]')
    with pytest.raises(BadArtifact, match="device 'cpu:0'"):
        parse_manifest(text, "here")


def test_a_cpu_in_capitals_is_certified_as_any_other(onnx_artifact: Artifact) -> None:
    from tiffin.runtime.certified import Standing, standing

    int8 = dataclasses.replace(onnx_artifact.manifest, precision="int8")
    artifact = dataclasses.replace(onnx_artifact, manifest=int8)
    assert standing(artifact, RunConfig("openvino", device="CPU"))[0] is Standing.UNKNOWN


def plain_manifest(run: RunConfig | None) -> Manifest:
    spec = (TensorSpec("x", "float32", (None, 4)),)
    return Manifest("features", "onnx", "fp32", spec, spec, (), Producer("export"), run=run)


def test_manifests_keep_the_digest_that_they_had_before_there_were_these_options() -> None:
    """Written by the version before priority and cpus."""
    digest = "ceb5af16d3121e922c85a4d2f0d106e79dc169087d212efdd1a63335d6699228"
    manifest = plain_manifest(RunConfig("openvino", threads=2, lanes=3, hint="throughput"))
    assert manifest.digest() == digest
    assert "priority" not in manifest.to_json() and "cpus" not in manifest.to_json()


def test_options_travel_in_a_manifest() -> None:
    manifest = plain_manifest(RunConfig("openvino", priority="low", cpus=(0, 2)))
    manifest = dataclasses.replace(manifest, files=(ModelFile("model.onnx", 1, "0" * 64),))
    read = parse_manifest(manifest.to_json(), "here")
    assert read == manifest and read.run.cpus == (0, 2) and read.digest() == manifest.digest()
    assert read.digest() != plain_manifest(RunConfig("openvino")).digest()


def test_requests_of_old_records_are_read() -> None:
    from tiffin.records.record import load_record

    record = load_record(Path(tiffin.__file__).parent / "benchmarks/results/overhead.json")
    runs = [RunConfig(**row.requested) for row in record.subjects]
    assert all(run.plain() == dict(row.requested) for run, row in zip(runs, record.subjects, strict=True))


# What an engine made of a model, kept


def need(backend: str) -> None:
    if not backends.probe(backend).runs:
        pytest.skip(f"{backend} does not run here")


def answers(artifact: Artifact, run: RunConfig, photos: np.ndarray) -> tuple[np.ndarray, str]:
    with load(artifact, run) as session:
        return session.run({"photos": photos})["logits"], session.applied.details.get("cache", "")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_kept_model_answers_the_same_bits(classifier_artifact: Artifact, tmp_path: Path, backend: str) -> None:
    need(backend)
    photos = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    run = RunConfig(backend, cache=str(tmp_path / "deep" / "cache"))
    plain, _ = answers(classifier_artifact, dataclasses.replace(run, cache=None), photos)
    for wanted in ("written", "read", "read"):
        found, said = answers(classifier_artifact, run, photos)
        assert said == wanted and np.array_equal(found, plain)
    (file,) = Path(run.cache).iterdir()
    assert file.name.startswith(f"{backend}-")


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("damage", ["cut", "empty", "a bit", "foreign", "another's"])
def test_a_damaged_or_foreign_cache_is_made_again(
    onnx_artifact: Artifact, classifier_artifact: Artifact, photos, tmp_path: Path, damage: str, backend: str
) -> None:
    need(backend)
    run = RunConfig(backend, cache=str(tmp_path))
    wanted, _ = answers(onnx_artifact, run, photos[:1])
    (file,) = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    if damage == "a bit":
        content[-len(content) // 3] ^= 1
    if damage == "another's":
        load(classifier_artifact, run).close()
        (other,) = set(tmp_path.iterdir()) - {file}
        content = bytearray(other.read_bytes())
    cases = {"cut": content[:-1], "empty": b"", "foreign": b"\x08\x0a" + bytes(content)}
    file.write_bytes(bytes(cases.get(damage, content)))
    for said in ("written", "read"):
        found, told = answers(onnx_artifact, run, photos[:1])
        assert told == said and np.array_equal(found, wanted)


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_cache_that_cannot_be_written_is_told(onnx_artifact: Artifact, photos, tmp_path: Path, backend: str) -> None:
    need(backend)
    (tmp_path / "file").write_bytes(b"in its place")
    run = RunConfig(backend, cache=str(tmp_path / "file"))
    with load(onnx_artifact, run) as session:
        assert session.applied.run.cache is None and session.applied.details["cache"].startswith("off: ")
        session.run({"photos": photos[:1]})


def test_a_kept_form_that_openvino_does_not_take_is_made_again(onnx_artifact: Artifact, photos, tmp_path: Path) -> None:
    need("openvino")
    run = RunConfig("openvino", cache=str(tmp_path))
    wanted, _ = answers(onnx_artifact, run, photos[:1])
    (file,) = tmp_path.glob("openvino-*")
    head, _, content = file.read_bytes().partition(b"\n")
    broken = content[: len(content) // 2]  # whole by its own sum: written by another build, say
    said = b" ".join([*head.split()[:2], b"%08x" % zlib.crc32(broken)])
    file.write_bytes(said + b"\n" + broken)
    found, told = answers(onnx_artifact, run, photos[:1])
    assert told == "written" and np.array_equal(found, wanted)


def test_larger_batches_are_kept_by_openvino_itself(onnx_artifact: Artifact, photos, tmp_path: Path) -> None:
    need("openvino")
    run = RunConfig("openvino", cache=str(tmp_path))
    first, again = (answers(onnx_artifact, run, photos[:3])[0] for _ in range(2))
    assert np.array_equal(first, again) and len(list(tmp_path.iterdir())) == 2


# Bad input


@pytest.fixture(scope="session")
def float_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """y = 2 x, float32 (N, 4)."""
    from onnx import TensorProto, helper

    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 4]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    specs = [(TensorSpec(name, "float32", (None, 4)),) for name in "xy"]
    manifest = Manifest("features", "onnx", "fp32", *specs, (), Producer("export"))
    return save(tmp_path_factory.mktemp("float") / "model", manifest, {"model.onnx": model.SerializeToString()})


def test_nan_is_refused_and_infinity_is_not(engine: str, float_artifact: Artifact) -> None:
    with load(float_artifact, engine) as session:
        for _ in range(2):  # the second is like the last that was accepted
            for entry in (session.run, session.submit):
                with pytest.raises(BadInput, match="x holds NaN"):
                    entry({"x": np.array([[0, 1, np.nan, 3]], np.float32)})
            found = session.run({"x": np.array([[0, 1, np.inf, -np.inf]], np.float32)})["y"]
            assert found.tolist() == [[0, 2, np.inf, -np.inf]]


BAD = {
    "dtype": lambda photos: {"photos": photos.astype(np.int8)},
    "layout": lambda photos: {"photos": photos.transpose(0, 3, 1, 2)},
    "empty": lambda photos: {"photos": photos[:0]},
    "none": lambda photos: {"photos": None},
    "name": lambda photos: {"images": photos},
}


def test_memory_is_flat_over_bad_input(engine: str, onnx_artifact: Artifact, photos) -> None:
    with load(onnx_artifact, engine) as session:

        def refused(count: int) -> int:
            for n in range(count):
                feeds = list(BAD.values())[n % len(BAD)](photos[:1])
                with pytest.raises(BadInput, match="fed"):
                    (session.run, session.submit)[n % 2](feeds)
            gc.collect()
            return psutil.Process().memory_info().rss

        first = refused(500)
        # A kilobyte kept of each would be two megabytes.
        assert refused(2000) - first < 1_500_000
        assert session.run({"photos": photos[:1]})["logits"].shape == (1, 4)


def test_an_artifact_that_is_replaced_goes_on_and_opens_no_more(
    engine: str, onnx_artifact: Artifact, photos, logits, tmp_path: Path
) -> None:
    folder = shutil.copytree(onnx_artifact.folder, tmp_path / "replaced")
    with load(folder, engine) as session:
        path = session.artifact.model_path
        path.write_bytes(bytes(len(path.read_bytes())))
        assert near(session.run({"photos": photos[:1]})["logits"], logits[:1])
        assert near(session.run({"photos": photos[:1]})["logits"], logits[:1])
        with pytest.raises(BadArtifact, match="bytes changed"):
            load(folder, engine)


# The page


def test_the_code_of_the_page_runs(onnx_artifact: Artifact, tmp_path: Path) -> None:
    page = (Path(tiffin.__file__).parent / "docs/runtime.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) >= 4
    (tmp_path / "out").mkdir()
    shutil.copytree(onnx_artifact.folder, tmp_path / "out/int8")
    for index, block in enumerate(blocks):
        script = tmp_path / f"block{index}.py"
        script.write_text(block.replace("224", "32"))
        ended = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 0, (block, ended.stderr)
