"""deploy/serve/: the protocol, batching, bounds, a graceful end, the page: a real server with real engines."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import http.client
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
import venv
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from uvicorn.server import ServerState

from tiffin.artifact import Artifact, Preprocess, Producer, RunConfig, TensorSpec
from tiffin.artifact.manifest import Manifest
from tiffin.artifact.store import save
from tiffin.cli import serve as serve_command
from tiffin.deploy import datatypes
from tiffin.deploy.serve import app, body, protocol
from tiffin.deploy.serve.batching import Batcher
from tiffin.deploy.serve.metrics import Metrics
from tiffin.deploy.serve.model import Limits, Model
from tiffin.deploy.serve.server import patient
from tiffin.errors import BadInput, EngineMissing
from tiffin.runtime import Classifier, Session
from tiffin.runtime.backends import null

COMMAND = [sys.executable, "-c", "from tiffin.cli.app import main; main()", "serve"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Served:
    """A server in a process of its own."""

    def __init__(self, started: subprocess.Popen[str]) -> None:
        self.process = started
        assert started.stdout is not None
        self.url = started.stdout.readline().strip()
        assert self.url, started.communicate()[1]
        self.address = ("127.0.0.1", int(self.url.rpartition(":")[2]))
        self.client = httpx.Client(base_url=self.url, timeout=30)

    def metric(self, name: str) -> float:
        text = self.client.get("/metrics").text
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        self.process.send_signal(number)
        said = self.process.communicate(timeout=30)[1]
        return self.process.returncode, said


@contextmanager
def serving(*words: object) -> Iterator[Served]:
    command = [*COMMAND, *map(str, words), "--port", "0", "--threads", "1"]
    with running(command) as served:
        yield served


@contextmanager
def running(command: list[str]) -> Iterator[Served]:
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        served = Served(started)
        yield served
        served.client.close()
    finally:
        started.kill()
        started.communicate()


@pytest.fixture(scope="module")
def server(onnx_artifact: Artifact, openvino_artifact: Artifact) -> Iterator[Served]:
    """Two engines side by side."""
    with serving(f"onnx={onnx_artifact.folder}", f"ir={openvino_artifact.folder}", "--max-body-mb", "1") as served:
        yield served


@pytest.fixture(scope="module")
def session(onnx_artifact: Artifact) -> Iterator[Session]:
    with Session(onnx_artifact, RunConfig("onnxruntime", threads=1)) as opened:
        yield opened


class Here:
    """A server in this process, without sockets, of one model whose answers are zeros."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.metrics, told = Metrics(), Limits(**limits)
        specs = (TensorSpec("photos", "uint8", (None, 8, 8, 3)),), (TensorSpec("logits", "float32", (None, 2)),)
        manifest = Manifest("classification", "null", "fp32", *specs, (), Producer("export"), labels=("dal", "naan"),
                            preprocess=Preprocess(8, 8))  # fmt: skip
        self.session = Session(save(folder / "m", manifest, {"model.bin": b"m"}), RunConfig("null"))
        self.pool = ThreadPoolExecutor(1)
        models = {"m": Model("m", self.session, told, self.metrics)}
        self.application = app.Server(models, told, self.metrics, self.pool).application()

    def ask(self, path: str, how: dict[str, Any], times: int = 1) -> list[httpx.Response]:
        async def asked() -> list[httpx.Response]:
            through = httpx.ASGITransport(self.application)
            async with httpx.AsyncClient(transport=through, base_url="http://x") as client:
                return await asyncio.gather(*(client.post(path, **how) for _ in range(times)))

        return asyncio.run(asked())

    def close(self) -> None:
        self.pool.shutdown()
        self.session.close()


@pytest.fixture
def here(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Here]:
    """Parametrized indirectly by its limits."""
    with closing(Here(tmp_path, **getattr(request, "param", {}))) as made:
        yield made


@pytest.fixture
def rows(photos: np.ndarray) -> np.ndarray:
    return photos[:3]


def tensor(rows: np.ndarray, **more: Any) -> dict[str, Any]:
    return {"name": "photos", "shape": list(rows.shape), "datatype": "UINT8", **more}


def encoded(row: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(row).save(file, "PNG")
    return file.getvalue()


# The protocol


def test_health_and_metadata(server: Served, onnx_artifact: Artifact) -> None:
    assert server.client.get("/v2").json()["name"] == "tiffin"
    assert server.client.get("/v2/health/live").status_code == server.client.get("/v2/health/ready").status_code == 200
    about = server.client.get("/v2/models/onnx").json()
    version = onnx_artifact.digest[:12]
    assert about["name"] == "onnx" and about["versions"] == [version] and about["platform"] == "onnxruntime_onnx"
    assert about["inputs"] == [{"name": "photos", "datatype": "UINT8", "shape": [-1, 32, 32, 3]}]
    assert server.client.get(f"/v2/models/onnx/versions/{version}/ready").json()["ready"] is True
    assert server.client.get("/v2/models/onnx/versions/7").status_code == 404
    assert "loaded: onnx" in server.client.get("/v2/models/other").json()["error"]


@pytest.mark.parametrize("model", ["onnx", "ir"])
def test_tensors_as_json_and_as_bytes_have_the_sessions_answer(
    server: Served, session: Session, rows: np.ndarray, model: str
) -> None:
    wanted = session.run({"photos": rows})["logits"]
    asked = {"id": "7", "inputs": [tensor(rows, data=rows.tolist())]}
    plain = server.client.post(f"/v2/models/{model}/infer", json=asked).json()
    assert plain["id"] == "7" and plain["outputs"][0]["shape"] == list(wanted.shape)
    found = np.array(plain["outputs"][0]["data"], np.float32).reshape(wanted.shape)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3)
    head = json.dumps({"parameters": {"binary_data_output": True},
                       "inputs": [tensor(rows, parameters={"binary_data_size": rows.nbytes})]}).encode()  # fmt: skip
    told = server.client.post(f"/v2/models/{model}/infer", content=head + rows.tobytes(),
                              headers={protocol.LENGTH_HEADER: str(len(head))})  # fmt: skip
    size = int(told.headers[protocol.LENGTH_HEADER])
    assert json.loads(told.content[:size])["outputs"][0]["parameters"]["binary_data_size"] == wanted.nbytes
    np.testing.assert_array_equal(np.frombuffer(told.content[size:], "<f4").reshape(wanted.shape), found)


def test_classes_are_named(server: Served, session: Session, rows: np.ndarray) -> None:
    asked = {"inputs": [tensor(rows, data=rows.ravel().tolist())],
             "outputs": [{"name": "logits", "parameters": {"classification": 2}}]}  # fmt: skip
    told = server.client.post("/v2/models/onnx/infer", json=asked).json()["outputs"][0]
    best = Classifier(session).rank(session.run({"photos": rows})["logits"], 2)
    assert told["datatype"] == "BYTES" and told["shape"] == [3, 2]
    assert [word.split(":")[1:] for word in told["data"]] == [[str(g.index), g.label] for row in best for g in row]


NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)
SPEC = TensorSpec("x", "float32", (None, 2))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=4), st.booleans())
def test_what_is_written_is_read_again(values: list[tuple[float, float]], binary: bool) -> None:
    array = np.array(values, np.float32)
    written, size = protocol.format_response({}, [protocol.Wanted("x", binary)], {"x": array}, ())
    head = json.loads(written[:size])
    text = json.dumps({"inputs": head["outputs"]}).encode()
    raw = b"" if size is None else written[size:]
    asked = protocol.parse_request(text + raw, len(text) if binary else None, [SPEC], [SPEC], 8)
    np.testing.assert_array_equal(asked.feeds["x"], array)


def test_an_unsigned_byte_out_of_its_range_is_refused_not_wrapped() -> None:
    text = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"UINT8","data":[256]}]}'
    with pytest.raises(BadInput, match="0 to 255|256"):
        protocol.parse_request(text, None, [TensorSpec("x", "uint8", (None, 1))], [], 8)


def test_a_type_that_the_protocol_has_no_word_for_is_refused_at_the_start(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(datatypes._WORDS, "float32")
    with pytest.raises(BadInput, match="logits' of float32"):
        Model("m", here.session, Limits(), Metrics())


# A photo


@pytest.mark.parametrize("form", [False, True])
def test_a_photo_is_labelled_by_every_model_as_in_process(
    server: Served, session: Session, rows: np.ndarray, form: bool
) -> None:
    photo = encoded(rows[0])
    how: dict[str, Any] = {"files": {"photo": ("a.png", photo, "image/png")}} if form else {"content": photo}
    told = server.client.post("/predict?top=2", **how).json()["models"]
    wanted = Classifier(session).predict(photo, 2)
    assert [each["model"] for each in told] == ["onnx", "ir"]
    for each in told:
        assert [guess["label"] for guess in each["guesses"]] == [guess.label for guess in wanted]
        assert each["known"] and each["run_s"] > 0 and each["prepare_s"] > 0
    only = server.client.post("/predict?model=ir", **how).json()["models"]
    assert [each["model"] for each in only] == ["ir"]


def test_what_is_not_likely_enough_is_unknown(onnx_artifact: Artifact, rows: np.ndarray) -> None:
    with serving(onnx_artifact.folder, "--unknown", 1) as served:
        (told,) = served.client.post("/predict", content=encoded(rows[0])).json()["models"]
        assert told["known"] is (told["guesses"][0]["score"] >= 1)


# Bad input

GZIP = {"Content-Encoding": "gzip"}
WHOLE = {"name": "photos", "shape": [1, 32, 32, 3], "datatype": "UINT8"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"[1]", "no JSON object"),
        (b'{"inputs": 3}', "inputs are missing"),
        (b'{"inputs": []}', "no input photos"),
        (json.dumps({"inputs": [{**WHOLE, "name": "other", "data": []}]}), "'other'"),
        (json.dumps({"inputs": [{**WHOLE, "datatype": "FP32", "data": []}]}), "FP32"),
        (json.dumps({"inputs": [{**WHOLE, "shape": [0, 32, 32, 3], "data": []}]}), "shape"),
        (json.dumps({"inputs": [{**WHOLE, "shape": [1, 3, 32, 32], "data": []}]}), "shape"),
        (json.dumps({"inputs": [{**WHOLE, "shape": [10**30, 32, 32, 3], "data": [1]}]}), "shape"),
        (json.dumps({"inputs": [{**WHOLE, "data": [1, 2]}]}), "2 values"),
        (json.dumps({"inputs": [{**WHOLE, "data": ["x"] * 3072}]}), "type"),
        (json.dumps({"inputs": [{**WHOLE, "data": [0.5] * 3072}]}), "float"),
        (json.dumps({"inputs": [{**WHOLE, "parameters": {"binary_data_size": 5}}]}), "binary_data_size"),
        (b'{"inputs": [{"name": "photos", "data": [NaN]}]}', "NaN"),
        (json.dumps({"inputs": [{**WHOLE, "data": [0] * 3072}], "outputs": [{"name": "x"}]}), "output 'x'"),
        (json.dumps({"inputs": [{**WHOLE, "data": [0] * 3072}], "outputs": [{"name": "logits"}] * 2}), "logits once"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_request_gets_one_clear_error(server: Served, content: bytes, words: str) -> None:
    told = server.client.post("/v2/models/onnx/infer", content=content)
    assert told.status_code == 400 and words in told.json()["error"]
    assert server.client.get("/v2/health/ready").status_code == 200


@pytest.mark.parametrize(
    ("path", "how", "code", "words"),
    [
        ("/predict", {"content": b"garbage"}, 400, "photo"),
        ("/predict", {"content": b""}, 400, "photo"),
        ("/predict?model=none", {"content": b"x"}, 400, "none"),
        ("/predict?top=0", {"content": b"x"}, 400, "top"),
        ("/predict", {"content": b"x" * 1_000_001}, 413, "--max-body-mb"),
        ("/predict", {"content": iter([b"x" * 600_000] * 2)}, 413, "--max-body-mb"),
        ("/predict", {"content": gzip.compress(b"\0" * 5_000_000), "headers": GZIP}, 413, "inflates"),
        ("/predict", {"content": b"no gzip", "headers": GZIP}, 400, "gzip"),
        ("/predict", {"content": b"x", "headers": {"Content-Encoding": "br"}}, 400, "br"),
        ("/predict", {"data": {"words": "only"}, "files": {}}, 400, "photo"),
    ],
)  # fmt: skip
def test_a_bad_photo_or_body_gets_one_clear_error(
    server: Served, path: str, how: dict[str, Any], code: int, words: str
) -> None:
    told = server.client.post(path, **how)
    assert told.status_code == code and words in told.json()["error"]
    assert server.client.get("/v2/health/live").status_code == 200


def test_who_sends_too_large_a_body_to_its_end_gets_the_answer(server: Served) -> None:
    with closing(http.client.HTTPConnection(*server.address, timeout=30)) as line:
        for _ in range(2):
            line.request("POST", "/predict", bytes(20_000_000))
            told = line.getresponse()
            assert told.status == 413 and b"--max-body-mb" in told.read()


INFER = "/v2/models/m/infer"
SMALL = {"name": "photos", "shape": [1, 8, 8, 3], "datatype": "UINT8", "data": [0] * 192}
FLOAT = json.dumps({"inputs": [{**SMALL, "parameters": {"binary_data_size": 192.0}}]}).encode()


@pytest.mark.parametrize(
    ("path", "how", "words"),
    [
        ("/predict?top=%C2%B2", {"content": b"x"}, "top '²'"),
        ("/predict?top=" + "1" * 5000, {"content": b"x"}, "1 to 100"),
        (INFER, {"content": b"{}", "headers": {protocol.LENGTH_HEADER: "²".encode("latin-1")}}, "a number of bytes"),
        (INFER, {"content": b"{}", "headers": {protocol.LENGTH_HEADER: "9" * 5000}}, "a number of bytes"),
        (INFER, {"content": FLOAT + bytes(192), "headers": {protocol.LENGTH_HEADER: str(len(FLOAT))}}, "192.0"),
        (INFER, {"json": {"inputs": [{**SMALL, "shape": [10**4200, 8, 8, 3]}]}}, "shape"),
        (INFER, {"json": {"inputs": [{**SMALL, "shape": [9, 8, 8, 3], "data": [0] * 9 * 192}]}}, "a batch of 1 to 8"),
        (INFER, {"content": json.dumps({"inputs": [{**SMALL, "shape": "\ud800"}]})}, "shape '\\ud800'"),
        (INFER, {"content": json.dumps({"id": "\ud800", "inputs": [SMALL]})}, "a string of Unicode"),
    ],
    ids=["top", "top of 5000", "header", "header of 5000", "float", "shape", "batch", "shape's surrogate", "surrogate"],
)
def test_what_looks_like_a_number_or_a_text_is_refused(here: Here, path: str, how: dict[str, Any], words: str) -> None:
    (told,) = here.ask(path, how)
    assert told.status_code == 400 and words in told.json()["error"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("path", "how"), [("/predict", {"content": b"x"}), (INFER, {"json": {"inputs": [SMALL]}})])
def test_answers_that_are_no_numbers_are_the_engines_failure(
    here: Here, monkeypatch: pytest.MonkeyPatch, value: float, path: str, how: dict[str, Any]
) -> None:
    monkeypatch.setattr(app, "prepare", lambda photo, host: np.zeros((8, 8, 3), np.uint8))
    monkeypatch.setattr(null.NullLane, "run", lambda *_: {"logits": np.full((1, 2), value, np.float32)})
    (told,) = here.ask(path, how)
    assert told.status_code == 500 and "logits holds NaN or infinity" in told.json()["error"]


def test_an_error_of_the_servers_own_is_logged_and_answered_as_any(
    here: Here, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(app, "prepare", lambda photo, host: {}["a secret"])
    (told,) = here.ask("/predict", {"content": b"x"})
    assert told.status_code == 500 and "log" in told.json()["error"] and "secret" not in told.text
    assert "POST /predict" in caplog.text and "KeyError: 'a secret'" in caplog.text
    assert b'tiffin_requests_total{code="500",route="/predict"} 1.0' in here.metrics.text()


FORM = {"Content-Type": "multipart/form-data"}  # without its boundary


@pytest.mark.parametrize(
    ("path", "how", "route", "code"),
    [
        ("/v2/models/none/infer", {"content": b"{}"}, "/v2/models/{name}/infer", 404),
        ("/predict", {"content": b"x", "headers": FORM}, "/predict", 400),
        ("/predict?top=0", {"content": b"x"}, "/predict", 400),
    ],
)
def test_every_error_of_a_route_is_counted(here: Here, path: str, how: dict[str, Any], route: str, code: int) -> None:
    (told,) = here.ask(path, how)
    assert told.status_code == code and told.json()["error"]
    assert f'tiffin_requests_total{{code="{code}",route="{route}"}} 1.0' in here.metrics.text().decode()


def test_bad_requests_leave_nothing_behind(server: Served) -> None:
    psutil = pytest.importorskip("psutil")
    resident = psutil.Process(server.process.pid).memory_info
    noise = os.urandom(100_000)
    for turn in range(500):
        if turn == 200:
            before = resident().rss
        server.client.post("/predict", content=noise)
    assert resident().rss - before < 20_000_000  # a leak of the bodies alone would be 30 MB
    assert server.metric("tiffin_requests_inside") == 0


async def sent(application: Any, *messages: dict[str, Any], encoding: bytes = b"identity") -> list[dict[str, Any]]:
    """What /predict answers to a client that sends so much and no more."""
    scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": b"",
             "headers": [(b"content-encoding", encoding)]}  # fmt: skip
    coming, told = iter(messages), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return next(coming, None) or await asyncio.Future()

    async def send(message: dict[str, Any]) -> None:
        told.append(message)

    await application(scope, receive, send)
    return told


@pytest.mark.parametrize("end", [[], [{"type": "http.disconnect"}]], ids=["refused", "broken off"])
def test_what_gets_no_answer_keeps_no_body(here: Here, end: list[Any]) -> None:
    message = {"type": "http.request", "body": bytes(5_000_000), "more_body": bool(end)}
    asyncio.run(sent(here.application, message, *end))  # Pillow's plugins are loaded
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        told = asyncio.run(sent(here.application, message, *end))
        assert told[0]["status"] == (499 if end else 400)
        assert tracemalloc.get_traced_memory()[0] < 1_000_000
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize("here", [{"max_body_bytes": 1000, "bodies_bytes": 10}], indirect=True)
@pytest.mark.parametrize(("encoding", "body"), [(b"identity", bytes(600)), (b"gzip", gzip.compress(bytes(600)))],
                         ids=["plain", "gzip"])  # fmt: skip
def test_bodies_are_bounded_together(here: Here, encoding: bytes, body: bytes) -> None:
    async def asked() -> list[int]:
        message = {"type": "http.request", "body": bytes(600)}
        first = asyncio.ensure_future(sent(here.application, {**message, "more_body": True}))
        await asyncio.sleep(0.1)
        second = await sent(here.application, {**message, "body": body}, encoding=encoding)
        first.cancel()
        await asyncio.wait([first])
        third = await sent(here.application, message)
        return [told[0]["status"] for told in (second, third)]

    assert asyncio.run(asked()) == [503, 400]  # no photo


def test_inflating_is_bounded_and_whole() -> None:
    data = b"photo" * 100
    assert body.inflated(gzip.compress(data), "gzip", 1000) == data
    with pytest.raises(BadInput):
        body.inflated(gzip.compress(data)[:-5], "gzip", 1000)


# Waiting, and no longer


def test_requests_that_wait_share_a_run(session: Session, photos: np.ndarray) -> None:
    async def ask() -> list[Any]:
        batcher = Batcher(session, 4, 0.05)
        return await asyncio.gather(*(batcher.run({"photos": photos[index : index + 1]}) for index in range(6)))

    found = asyncio.run(ask())
    assert [ran.batch for ran in found] == [4, 4, 4, 4, 2, 2]
    alone = [session.run({"photos": photos[index : index + 1]})["logits"] for index in range(6)]
    np.testing.assert_allclose(
        np.concatenate([ran.outputs["logits"] for ran in found]), np.concatenate(alone), atol=1e-4
    )


def test_requests_that_cannot_be_joined_are_told(session: Session, photos: np.ndarray, monkeypatch) -> None:
    def short_of_memory(group: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("tiffin.deploy.serve.batching._together", short_of_memory)

    async def ask() -> list[Any]:
        batcher = Batcher(session, 2, 0.05)
        asked = (batcher.run({"photos": photos[:1]}) for _ in range(2))
        return await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)

    assert [type(told) for told in asyncio.run(ask())] == [MemoryError] * 2


def test_a_request_that_is_cancelled_while_it_waits_is_not_run(session: Session, photos: np.ndarray) -> None:
    async def ask() -> Any:
        batcher = Batcher(session, 8, 0.2)
        one, other = (asyncio.ensure_future(batcher.run({"photos": photos[:1]})) for _ in range(2))
        await asyncio.sleep(0.05)
        one.cancel()
        return await other

    assert asyncio.run(ask()).batch == 1


def test_a_full_queue_says_when_to_come_again(onnx_artifact: Artifact, rows: np.ndarray) -> None:
    photo = encoded(rows[0])
    with serving(onnx_artifact.folder, "--queue", 1, "--max-delay-ms", 1500) as served:
        first: list[int] = []
        asking = threading.Thread(
            target=lambda: first.append(httpx.post(f"{served.url}/predict", content=photo).status_code)
        )
        asking.start()
        _until(lambda: served.metric("tiffin_requests_inside") == 1)
        told = served.client.post("/predict", content=photo)
        asking.join()
        assert told.status_code == 503 and int(told.headers["Retry-After"]) >= 1 and first == [200]
        assert served.metric("tiffin_refused_total") == 1


def test_a_deadline_ends_the_wait(onnx_artifact: Artifact, rows: np.ndarray) -> None:
    with serving(onnx_artifact.folder, "--deadline-s", 0.05, "--max-delay-ms", 2000) as served:
        assert served.client.post("/predict", content=encoded(rows[0])).status_code == 504
        assert served.metric("tiffin_requests_inside") == 0


@pytest.mark.parametrize("here", [{"deadline_s": 0.05}], indirect=True)
def test_the_deadline_covers_preparing(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = [], threading.Event()

    def slow(photo: bytes, host: Preprocess) -> np.ndarray:
        begun.append(photo)
        go_on.wait(1)
        return np.zeros((8, 8, 3), np.uint8)

    monkeypatch.setattr(app, "prepare", slow)
    try:
        assert [told.status_code for told in here.ask("/predict", {"content": b"photo"}, times=3)] == [504] * 3
    finally:
        go_on.set()
    here.pool.shutdown()
    assert len(begun) == 1 and b'tiffin_requests_inside{model="m"} 0.0' in here.metrics.text()


def test_a_client_that_goes_away_gives_its_place_back(onnx_artifact: Artifact, rows: np.ndarray) -> None:
    photo = encoded(rows[0])
    with serving(onnx_artifact.folder, "--max-delay-ms", 20_000) as served:
        with socket.create_connection(served.address) as gone:
            gone.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(photo) + photo)
            _until(lambda: served.metric("tiffin_requests_inside") == 1)
        _until(lambda: served.metric("tiffin_requests_inside") == 0)
        assert served.metric('tiffin_requests_total{code="499"') == 1
        assert served.metric("tiffin_batch_rows_count") == 0


def _until(holds: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


# Slow clients, and the end

IMPATIENT = """
    import sys
    from tiffin.artifact import Artifact, RunConfig
    from tiffin.deploy.serve.model import Limits
    from tiffin.deploy.serve.server import listen, serve
    with listen("127.0.0.1", 0) as at:
        serve([("m", Artifact.load(sys.argv[1]), RunConfig("onnxruntime", threads=1))],
              Limits(header_s=0.4, body_s=0.4), at, lambda session: None,
              lambda: print(f"http://127.0.0.1:{at.getsockname()[1]}", flush=True))
"""


@pytest.fixture(scope="module")
def impatient(onnx_artifact: Artifact) -> Iterator[Served]:
    with running([sys.executable, "-c", textwrap.dedent(IMPATIENT), str(onnx_artifact.folder)]) as served:
        yield served


@pytest.mark.parametrize("start", [b"", b"GET /v2 HTTP/1.1\r\nHost:"])
def test_a_head_that_does_not_come_is_not_waited_for(impatient: Served, start: bytes) -> None:
    with socket.create_connection(impatient.address, timeout=10) as slow:
        slow.sendall(start)
        assert slow.recv(1) == b""  # closed by the server


def test_a_body_that_drips_is_not_waited_for(impatient: Served) -> None:
    with socket.create_connection(impatient.address, timeout=10) as slow:
        slow.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx")
        told = slow.recv(1000)
        assert b" 408 " in told.splitlines()[0]


CHUNKED = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"


@pytest.mark.parametrize("start", ["GET /v2 HTTP/1.1\r\n", CHUNKED], ids=["head", "trailers"])
@pytest.mark.parametrize("more", ["A: b\r\n", "a"], ids=["many", "long"])
def test_a_head_that_does_not_end_is_not_collected(here: Here, start: str, more: str) -> None:
    served = listening(here.application, head_s=10, body_s=10, idle_s=10)
    closed = contextlib.suppress(ConnectionError)
    with served as address, socket.create_connection(address, timeout=2) as endless, closed:
        endless.sendall(f"{start}A: {more * 200_000}".encode())
        while endless.recv(10_000):
            pass


@contextmanager
def listening(application: Any, head_s: float, body_s: float, idle_s: float) -> Iterator[tuple[str, int]]:
    """The address of the server's own protocol, in a thread."""
    loop, config = asyncio.new_event_loop(), uvicorn.Config(application, timeout_keep_alive=idle_s, lifespan="off")
    config.load()
    make, state = patient(head_s, body_s), ServerState()
    opened = loop.run_until_complete(loop.create_server(lambda: make(config, state, {}, loop), "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield opened.sockets[0].getsockname()
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        opened.close()
        loop.close()


def dripped(address: tuple[str, int], start: bytes) -> float:
    """Seconds until the server closed on a client that then sends a byte every 20 ms; 8 where it does not."""
    with socket.create_connection(address, timeout=10) as slow, contextlib.suppress(ConnectionError):
        slow.sendall(start)
        begin = time.monotonic()
        slow.settimeout(0.02)
        while time.monotonic() < begin + 8:
            try:
                if not slow.recv(10_000):
                    break
            except TimeoutError:
                slow.sendall(b"x")
    return time.monotonic() - begin


@pytest.mark.parametrize("start", [b"POST /nowhere", b"GET /v2", b"POST /predict?top=0", b"POST /v2/models/none/infer"])
def test_a_body_that_no_route_reads_is_not_waited_for(here: Here, start: bytes) -> None:
    with listening(here.application, head_s=10, body_s=0.2, idle_s=10) as address:
        assert 0.1 < dripped(address, start + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n") < 8


@pytest.mark.parametrize(("more", "late"), [(b"Content-Length: 1\r\n", b"x"), (b"", b"\r\n")])
def test_an_idle_connection_is_closed_whatever_came_late(here: Here, more: bytes, late: bytes) -> None:
    served = listening(here.application, head_s=10, body_s=10, idle_s=0.2)
    with served as address, socket.create_connection(address, timeout=2) as idle:
        idle.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n")
        assert idle.recv(10_000)
        idle.sendall(late)
        while idle.recv(10_000):
            pass


def test_a_body_that_waits_for_the_server_is_waited_for() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await asyncio.sleep(0.3)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
    with listening(slow, head_s=10, body_s=0.2, idle_s=10) as address, socket.create_connection(address, 2) as eager:
        for sent in (post + b"x" + post, b"x"):
            eager.sendall(sent)
            told = b""
            while not told.endswith(b"ok"):
                assert (part := eager.recv(10_000)), "closed"
                told += part


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_begun_is_answered_before_the_end(onnx_artifact: Artifact, rows: np.ndarray, number: int) -> None:
    with serving(onnx_artifact.folder, "--max-delay-ms", 1000) as served:
        codes: list[int] = []
        asking = threading.Thread(
            target=lambda: codes.append(httpx.post(f"{served.url}/predict", content=encoded(rows[0])).status_code)
        )
        asking.start()
        _until(lambda: served.metric("tiffin_requests_inside") == 1)
        code, said = served.end(number)
        asking.join()
        assert codes == [200] and code == 0 and said.rstrip().endswith("stopped")


def test_the_loaded_artifact_answers_whatever_lies_on_the_disk(
    onnx_artifact: Artifact, rows: np.ndarray, tmp_path: Path
) -> None:
    folder = shutil.copytree(onnx_artifact.folder, tmp_path / "model")
    with serving(folder) as served:
        before = served.client.post("/predict", content=encoded(rows[0])).json()["models"][0]
        shutil.rmtree(folder)
        after = served.client.post("/predict", content=encoded(rows[0])).json()["models"][0]
        assert before["guesses"] == after["guesses"] and after["version"] == onnx_artifact.digest[:12]


# The command


def ended(*words: object) -> tuple[int, str]:
    found = subprocess.run([*COMMAND, *map(str, words)], capture_output=True, text=True, timeout=60)
    return found.returncode, found.stderr


def test_a_taken_port_or_name_is_one_clear_error(server: Served, onnx_artifact: Artifact) -> None:
    code, said = ended(onnx_artifact.folder, "--port", server.address[1])
    assert code == 2 and "cannot listen" in said and "--port" in said
    code, said = ended(f"a={onnx_artifact.folder}", f"a={onnx_artifact.folder}", "--port", 0)
    assert code == 2 and "different names" in said


def test_beyond_loopback_a_line_warns(onnx_artifact: Artifact) -> None:
    with serving(onnx_artifact.folder, "--host", "0.0.0.0") as served:
        assert "no authentication" in served.end()[1]


def test_without_its_packages_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineMissing, match="starlette") as refused:
        serve_command.serve(["fp32"])
    assert 'pip install "tiffin[serve]"' in refused.value.fix


# The page


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: `apt-get install chromium`")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_photo_that_is_chosen_on_the_page_shows_both_models(
    server: Served, session: Session, rows: np.ndarray, tmp_path: Path, scheme: str
) -> None:
    sync = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    photo = tmp_path / "kiwi.png"
    photo.write_bytes(encoded(rows[0]))
    (best,) = Classifier(session).predict(photo, 1)
    with sync.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        shown = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 844})
        wrong: list[str] = []
        shown.on("console", lambda said: wrong.append(said.text))
        shown.on("pageerror", lambda error: wrong.append(str(error)))
        shown.on(
            "request", lambda asked: None if asked.url.startswith((server.url, "blob:")) else wrong.append(asked.url)
        )
        shown.goto(server.url)
        shown.set_input_files("#photo", str(photo))
        shown.wait_for_selector("section li")
        assert shown.locator("section h2").all_inner_texts() == ["onnx", "ir"]
        assert all(best.label in text for text in shown.locator("section li:first-child").all_inner_texts())
        assert "run" in shown.locator("section .times").first.inner_text()
        assert shown.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = [one for one in axe.run(shown).response["violations"] if one["impact"] in ("serious", "critical")]
        assert not found, [(one["id"], one["nodes"][0]["html"][:200]) for one in found]
        assert [line for line in wrong if "favicon" not in line and "404" not in line] == []
        bad = tmp_path / "bad.png"
        bad.write_bytes(b"no photo")
        shown.set_input_files("#photo", str(bad))
        shown.wait_for_selector("#status.wrong")
        assert "photo" in shown.locator("#status").inner_text() and shown.locator("section").count() == 0
        browser.close()


# Somebody else's client

TRITON = """
    import sys, numpy as np, tritonclient.http as http
    client = http.InferenceServerClient(sys.argv[1])
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("onnx")
    assert client.get_server_metadata()["name"] == "tiffin"
    assert client.get_model_metadata("onnx")["inputs"][0]["shape"] == [-1, 32, 32, 3]
    rows = np.load(sys.argv[2])
    answers = []
    for binary in (True, False):
        given = http.InferInput("photos", rows.shape, "UINT8")
        given.set_data_from_numpy(rows, binary_data=binary)
        wanted = [http.InferRequestedOutput("logits", binary_data=binary)]
        for how in ({}, {"request_compression_algorithm": "gzip"}, {"request_compression_algorithm": "deflate"}):
            answers.append(client.infer("onnx", [given], outputs=wanted, request_id="7", **how).as_numpy("logits"))
    answers.append(client.infer("onnx", [given]).as_numpy("logits"))
    assert all(np.array_equal(answer, answers[0]) for answer in answers)
    named = client.infer("onnx", [given], outputs=[http.InferRequestedOutput("logits", class_count=1)])
    assert named.as_numpy("logits").shape == (len(rows), 1)
    try:
        client.infer("other", [given])
    except http.InferenceServerException as error:
        assert "no model 'other'" in str(error)
    np.save(sys.argv[3], answers[0])
"""


@pytest.mark.slow  # installs tritonclient, which pins gevent and numpy, into an environment of its own: half a minute
def test_tritons_own_client_gets_the_sessions_answer(
    server: Served, session: Session, rows: np.ndarray, tmp_path: Path
) -> None:
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env" / "bin" / "python")
    installed = subprocess.run(
        [python, "-m", "pip", "install", "-q", "tritonclient[http]==2.73.0"], capture_output=True
    )
    if installed.returncode:
        pytest.skip("tritonclient cannot be installed: no package index")
    np.save(tmp_path / "rows.npy", rows)
    words = [server.url.removeprefix("http://"), str(tmp_path / "rows.npy"), str(tmp_path / "answer.npy")]
    subprocess.run([python, "-c", textwrap.dedent(TRITON), *words], check=True)
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), session.run({"photos": rows})["logits"], atol=1e-4)


def test_the_documents_commands_are_answered(server: Served, rows: np.ndarray, tmp_path: Path) -> None:
    """Each curl of docs/serve.md, against this server."""
    text = (Path(__file__).parents[1] / "docs" / "serve.md").read_text()
    (tmp_path / "kiwi.jpg").write_bytes(encoded(rows[0]))
    curls = re.findall(r"^\$ (curl .*)$", text, re.MULTILINE)
    assert len(curls) >= 4
    if not shutil.which("curl"):
        pytest.skip("no curl")
    for line in curls:
        words = line.replace("http://127.0.0.1:8000", server.url).replace("/int8", "/onnx").replace("=int8", "=onnx")
        told = subprocess.run(["sh", "-c", words + " -f"], cwd=tmp_path, capture_output=True, text=True)
        assert told.returncode == 0 and told.stdout, (words, told.stderr)
