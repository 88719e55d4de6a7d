"""runtime/sources/ and `tiffin predict`: what is found, what is written, and what goes wrong for one item alone."""

from __future__ import annotations

import contextlib
import csv
import functools
import http.server
import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tiffin.artifact import Artifact, RunConfig
from tiffin.cli.sinks import Form, Sink, kind_of
from tiffin.errors import BadInput
from tiffin.runtime import Classifier, Guess, Session
from tiffin.runtime.frames import Frame
from tiffin.runtime.items import Answer, Item
from tiffin.runtime.sources import Options, open_words, watched
from tiffin.runtime.sources.files import natural
from tiffin.runtime.sources.live import Latest
from tiffin.runtime.sources.video import Address, Sampling, frame_of

COMMAND = [sys.executable, "-c", "from tiffin.cli.app import main; main()", "predict"]


@pytest.fixture(scope="module")
def classifier(onnx_artifact: Artifact) -> Iterator[Classifier]:
    with Session(onnx_artifact, RunConfig("onnxruntime", threads=1)) as session:
        yield Classifier(session)


@pytest.fixture
def shelf(tmp_path: Path, photos: np.ndarray) -> Path:
    """Ten photos in folders, a hidden one, and what is no photo."""
    for index in range(10):
        folder = tmp_path / "shelf" / ("deep" if index > 7 else "")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photos[index]).save(folder / f"{index + 1}.png")
    (tmp_path / "shelf" / ".hidden.png").write_bytes(b"")
    (tmp_path / "shelf" / "notes.txt").write_text("no photo")
    return tmp_path / "shelf"


def predict(*words: object, given: bytes = b"", **how: Any) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, words)]
    found = subprocess.run(command, input=given, capture_output=True, timeout=60, **how)
    return subprocess.CompletedProcess(command, found.returncode, found.stdout.decode(), found.stderr.decode())


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def names(*words: object, **options: Any) -> list[str]:
    return [item.name for item in open_words([str(word) for word in words], Options(**options)).items]


# What is found


def test_a_folder_is_read_in_natural_order_without_what_is_hidden(shelf: Path) -> None:
    found = open_words([str(shelf)])
    assert found.count == 10
    assert [Path(item.name).name for item in found.items] == [f"{n}.png" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10)]


@pytest.mark.parametrize("word", ["", "*.jpg", "**/*.jpg"])
def test_a_pipe_among_photos_is_passed_over(shelf: Path, word: str) -> None:
    os.mkfifo(shelf / "camera.jpg")
    os.mkfifo(shelf / "deep/camera.jpg")
    shutil.copy(shelf / "1.png", shelf / "one.jpg")
    assert [Path(name).name for name in names(shelf / word) if name.endswith("jpg")] == ["one.jpg"]


def test_a_link_back_into_a_folder_ends(shelf: Path) -> None:
    (shelf / "deep" / "back").symlink_to(shelf, target_is_directory=True)
    assert len(names(shelf)) == 10


@pytest.mark.parametrize("word", ["", "**/*.png", "**/**/*.png"])
def test_links_that_go_round_are_read_once(shelf: Path, word: str) -> None:
    """Two in one folder: glob's own `**` doubles its paths at each turn."""
    for name in ("round", "around"):
        (shelf / name).symlink_to(".", target_is_directory=True)
    (shelf / "itself").symlink_to("itself")
    found = names(shelf / word)
    assert len(found) == len({Path(name).resolve() for name in found}) == 10


@pytest.mark.parametrize("word", ["", "**/*.png", "**/**/*.png"])
def test_a_folder_that_several_links_lead_to_is_read_once(shelf: Path, word: str) -> None:
    """Links among siblings multiply at each turn."""
    folders = [shelf / name for name in "abcd"]
    for folder in folders:
        folder.mkdir()
        for other in folders:
            (folder / f"to_{other.name}").symlink_to(other, target_is_directory=True)
    (shelf / "1.png").rename(shelf / "d" / "1.png")
    found = names(shelf / word)
    assert len(found) == len({Path(name).resolve() for name in found}) == 10


def test_a_relative_pattern_names_relative_paths(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shelf)
    assert names("**/[19]*.png") == ["1.png", "deep/9.png", "deep/10.png"]


def test_a_name_that_is_too_long_is_an_error_of_its_own(shelf: Path) -> None:
    assert names("x" * 5000, shelf / "1.png") == ["x" * 5000, str(shelf / "1.png")]


@pytest.mark.parametrize(
    ("pattern", "count"), [("**", 11), ("*.png", 8), ("**/*.png", 10), ("[12].png", 2), ("deep/*", 2)]
)
def test_a_quoted_glob_is_expanded(shelf: Path, pattern: str, count: int) -> None:
    assert len(names(shelf / pattern)) == count


@pytest.mark.parametrize(("word", "words"), [("*.jpg", "matches no file"), ("empty", "without photos")])
def test_a_word_that_names_no_photo_is_refused(shelf: Path, word: str, words: str) -> None:
    (shelf / "empty").mkdir()
    with pytest.raises(BadInput, match=words):
        open_words([str(shelf / word)])


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=6, unique=True))
def test_numbers_in_names_sort_by_their_value(numbers: list[int]) -> None:
    shuffled = [f"shelf {number} a.jpg" for number in numbers]
    assert sorted(shuffled, key=natural) == [f"shelf {number} a.jpg" for number in sorted(numbers)]


@pytest.mark.parametrize("zero", [False, True])
def test_a_list_is_read_from_standard_input(onnx_artifact: Artifact, shelf: Path, zero: bool) -> None:
    given = (b"\0" if zero else b"\n").join([b"1.png", b"", b"deep/9.png"])
    told = predict(onnx_artifact.folder, "-", "--jsonl", *(["-0"] if zero else []), given=given, cwd=shelf)
    assert told.returncode == 0 and [line["photo"] for line in lines(told.stdout)] == ["1.png", "deep/9.png"]


# What is written


def test_the_answers_are_the_classifiers(onnx_artifact: Artifact, classifier: Classifier, shelf: Path) -> None:
    told = predict(onnx_artifact.folder, shelf, "--jsonl", "--top", 2, "--batch", 3)
    assert told.returncode == 0
    for line in lines(told.stdout):
        wanted = classifier.predict(line["photo"], 2)
        assert [guess["label"] for guess in line["top"]] == [guess.label for guess in wanted] and line["known"]
        assert line["top"][0]["score"] == pytest.approx(wanted[0].score, abs=1e-4)


def test_bad_photos_among_good_ones_are_errors_of_their_own(onnx_artifact: Artifact, shelf: Path) -> None:
    whole = (shelf / "1.png").read_bytes()
    (shelf / "2.png").write_bytes(whole[: len(whole) // 2])
    (shelf / "3.png").write_bytes(b"")
    told = predict(onnx_artifact.folder, shelf, shelf / "none.jpg", "--jsonl")
    found = lines(told.stdout)
    assert told.returncode == 1 and len(found) == 11
    assert [Path(line["photo"]).name for line in found if "error" in line] == ["2.png", "3.png", "none.jpg"]
    assert "3 of 11 were not answered" in told.stderr and told.stderr.count("error:") == 3


def test_csv_has_a_row_a_photo(onnx_artifact: Artifact, shelf: Path) -> None:
    told = predict(onnx_artifact.folder, shelf / "1.png", shelf / "none.png", "--csv", "--top", 2)
    (good, bad) = csv.DictReader(io.StringIO(told.stdout))
    assert float(good["score_1"]) >= float(good["score_2"]) and good["label_2"] and not good["error"]
    assert bad["error"] and not bad["label_1"] and told.returncode == 1


def test_a_table_fits_a_terminal_and_knows_what_it_does_not_know(onnx_artifact: Artifact, shelf: Path) -> None:
    told = predict(onnx_artifact.folder, "1.png", "--unknown", 1, "--threshold", 0.999999, cwd=shelf)
    assert "unknown" in told.stdout and told.stdout.startswith("1.png")
    assert max(map(len, told.stdout.splitlines())) <= 80


SURE, UNSURE = (Answer("a", (Guess("kiwi", 0, score), Guess("lemon", 1, 0.1))) for score in (0.9, 0.3))


@pytest.mark.parametrize(("answer", "known"), [(SURE, True), (UNSURE, False)])
def test_below_the_confidence_that_is_asked_for_an_answer_is_unknown(answer: Answer, known: bool) -> None:
    told = json.loads(Form("jsonl", 2, 0.2, 0.5).lines(answer))
    assert told["known"] is known and [guess["label"] for guess in told["top"]] == ["kiwi"]


@pytest.mark.parametrize("form", [[], ["--csv"], ["--jsonl"]])
def test_a_pipe_that_nobody_ever_reads_ends_quietly(onnx_artifact: Artifact, shelf: Path, form: list[str]) -> None:
    read, written = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, str(onnx_artifact.folder), str(shelf), *form], stdout=written, stderr=subprocess.PIPE, text=True
    )
    os.close(written)
    assert done.returncode == 0 and "rror" not in done.stderr


def test_a_pipe_that_is_closed_ends_quietly(onnx_artifact: Artifact, shelf: Path) -> None:
    words = [*COMMAND, str(onnx_artifact.folder), *[str(shelf)] * 30, "--jsonl"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        assert started.stdout and started.stderr
        assert json.loads(started.stdout.readline())
        started.stdout.close()
        assert "error" not in started.stderr.read() and started.wait(30) == 0


# A file that survives


def test_a_killed_run_is_gone_on_with(onnx_artifact: Artifact, shelf: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for index in range(300):
        shutil.copy(shelf / f"{index % 8 + 1}.png", many / f"{index}.png")
    out = tmp_path / "answers.jsonl"
    started = subprocess.Popen([*COMMAND, str(onnx_artifact.folder), str(many), "--jsonl", "--out", str(out)])
    while not (out.exists() and out.stat().st_size > 2000):
        assert started.poll() is None
        time.sleep(0.005)
    started.kill()
    assert started.wait() < 0, "it ended before it was killed"
    with out.open("ab") as file:
        file.write(b'{"photo": "torn')
    told = predict(onnx_artifact.folder, many, "--jsonl", "--out", out, "--resume")
    assert told.returncode == 0, told.stderr
    found = [line["photo"] for line in lines(out.read_text())]
    assert len(found) == len(set(found)) == 300


def test_a_file_with_answers_is_not_overwritten(onnx_artifact: Artifact, shelf: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    out.write_text("precious\n")
    told = predict(onnx_artifact.folder, shelf, "--csv", "--out", out)
    assert told.returncode == 2 and "--resume" in told.stderr and out.read_text() == "precious\n"
    assert predict(onnx_artifact.folder, shelf, "--csv", "--out", out, "--resume").returncode == 2
    assert out.read_text() == "precious\n"


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_refused_before_it_is_read(tmp_path: Path, kind: str, resume: bool) -> None:
    out = Path("/dev/null") if kind == "device" else tmp_path / kind
    if kind == "pipe":
        os.mkfifo(out)
    if kind == "folder":
        out.mkdir()
    with pytest.raises(BadInput, match="it is a folder" if kind == "folder" else "it is no regular file"):
        Sink(Form("jsonl", 5), out, resume)


@pytest.mark.parametrize("words", [("--jsonl", "--csv"), ("--resume",), ("--every", "2", "--fps", "3"), ("-0",)])
def test_options_that_contradict_each_other_are_refused(onnx_artifact: Artifact, shelf: Path, words: list[str]) -> None:
    told = predict(onnx_artifact.folder, shelf, *words)
    assert told.returncode == 2 and told.stderr.startswith("error:")


def test_a_full_disk_leaves_whole_lines(onnx_artifact: Artifact, shelf: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.jsonl"

    def little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    told = predict(onnx_artifact.folder, shelf, "--jsonl", "--out", out, preexec_fn=little_room)
    assert told.returncode == 2 and "cannot write" in told.stderr
    assert out.read_text().endswith("\n") and lines(out.read_text())


def test_standard_output_without_room_is_one_error(onnx_artifact: Artifact, shelf: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        told = subprocess.run([*COMMAND, onnx_artifact.folder, shelf / "1.png"], stdout=full, stderr=subprocess.PIPE)
    assert told.returncode == 2 and b"cannot write to standard output" in told.stderr


@pytest.mark.parametrize(
    ("name", "kind"), [("a.jsonl", "jsonl"), ("a.CSV", "csv"), ("a.txt", "table"), (None, "table")]
)
def test_a_files_ending_says_in_what_form_answers_are_written(name: str | None, kind: str) -> None:
    assert kind_of(name and Path(name)) == kind


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_name_that_is_no_utf8_is_kept(
    onnx_artifact: Artifact, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "utf-8:strict")
    odd = Path(os.fsdecode(os.fsencode(shelf) + b"/caf\xe9.png"))
    shutil.copy(shelf / "1.png", odd)
    out = tmp_path / "answers"
    for words in ([], ["--out", out], ["--out", out, "--resume"]):
        command = [*COMMAND, onnx_artifact.folder, odd, f"--{kind}", *words]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    with Sink(Form(kind, 5), out, resume=True) as sink:
        assert sink.answered == {str(odd)}


@given(st.lists(st.text('a"\n\r,', min_size=1), min_size=1, max_size=3, unique=True), st.data())
def test_a_torn_file_is_cut_to_whole_answers(names: list[str], data: st.DataObject) -> None:
    for kind in ("jsonl", "csv"):
        form = Form(kind, 1)
        written = [form.head(), *(form.lines(Answer(name, (Guess("kiwi", 0, 0.5),))) for name in names)]
        cut = data.draw(st.integers(0, len("".join(written))))
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "answers")
            out.write_bytes("".join(written).encode()[:cut])
            with Sink(form, out, resume=True) as sink:
                left = out.read_bytes().decode()
                whole = [count for count in range(len(written) + 1) if left == "".join(written[:count])]
                assert whole and sink.answered == set(names[: max(whole[-1] - 1, 0)])  # the first line is the head


def test_a_table_steers_no_terminal() -> None:
    guesses = (Guess("kiwi", 0, 0.5),)
    for answer in (Answer("\x1b[31mré\nd.jpg", guesses), Answer("\x1b[31mré\nd.jpg", error=BadInput("broken"))):
        assert Form("table", 1).lines(answer).startswith(r"\x1b[31mré\nd.jpg  ")


def test_csv_holds_no_formula() -> None:
    form, formula = Form("csv", 1), "=cmd|' /C calc'!A0"
    said = form.lines(Answer(formula, (Guess(formula, 0, 0.5),))) + form.lines(Answer("a", error=BadInput(formula)))
    (photo, _, label, *_), (*_, error) = csv.reader(io.StringIO(said))
    assert {photo, label, error} == {"'" + formula}


@given(st.text(min_size=1) | st.text("'=+-@\t\r\na", min_size=1), st.text(min_size=1))
def test_any_name_is_read_back_from_a_file(name: str, other: str) -> None:
    for kind in ("jsonl", "csv"):
        form = Form(kind, 1)
        text = (
            form.head()
            + form.lines(Answer(name, (Guess("kiwi", 0, 0.5),)))
            + form.lines(Answer(other + "!", error=BadInput("broken")))
        )
        try:
            data = text.encode()
        except UnicodeEncodeError:  # half a surrogate pair: no file name
            return
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder, "answers")
            out.write_bytes(data)
            with Sink(form, out, resume=True) as sink:
                assert sink.answered == {name}


# Videos and cameras


@pytest.fixture
def clip(tmp_path: Path, photos: np.ndarray) -> tuple[Path, list[np.ndarray]]:
    """Twelve frames, five a second, without loss."""
    av = pytest.importorskip("av")
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "bgr0"
        for photo in photos[:12]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(photo, format="rgb24")))
        container.mux(stream.encode())
    return path, list(photos[:12])


def test_frames_of_a_video_are_answered_as_the_same_pixels(
    onnx_artifact: Artifact, classifier: Classifier, clip: tuple[Path, list[np.ndarray]]
) -> None:
    path, frames = clip
    told = predict(onnx_artifact.folder, path, "--jsonl", "--top", 1)
    assert told.returncode == 0, told.stderr
    for index, (line, frame) in enumerate(zip(lines(told.stdout), frames, strict=True)):
        (best,) = classifier.predict(frame, 1)
        assert line["photo"] == f"{path}#{index}" and line["top"][0]["label"] == best.label


@pytest.mark.parametrize(
    ("options", "taken"),
    [({"every": 5}, [0, 5, 10]), ({"fps": 2.5}, [0, 2, 4, 6, 8, 10]), ({"fps": 60}, list(range(12)))],
)
def test_some_frames_are_taken(clip: tuple[Path, list[np.ndarray]], options: dict[str, Any], taken: list[int]) -> None:
    assert names(clip[0], **options) == [f"{clip[0]}#{number}" for number in taken]


def test_a_video_that_is_none_is_one_error(tmp_path: Path) -> None:
    pytest.importorskip("av")
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    (item,) = open_words([str(path)]).items
    assert isinstance(item.source, BadInput) and str(path) in str(item.source)


@pytest.mark.parametrize("word", ["http://127.0.0.1:9/none.mp4", "nosuch://camera", "{server}/none.mp4"])
def test_a_video_that_is_not_there_does_not_end_the_rest(shelf: Path, word: str) -> None:
    pytest.importorskip("av")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = list(open_words([word.format(server=f"http://127.0.0.1:{server.server_address[1]}"), str(shelf)]).items)
        server.shutdown()
    assert isinstance(found[0].source, BadInput) and len(found) == 11


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi"])
def test_a_video_that_is_cut_off_says_so_after_its_last_frame(tmp_path: Path, ending: str) -> None:
    av = pytest.importorskip("av")
    rng = np.random.default_rng(0)
    path, cut = tmp_path / f"whole.{ending}", tmp_path / f"cut.{ending}"
    with av.open(str(path), "w", options={"movflags": "faststart"} if ending == "mp4" else {}) as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        for _ in range(50):
            noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode())
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert len(names(path)) == 50 and all(isinstance(item.source, Frame) for item in open_words([str(path)]).items)
    *frames, last = open_words([str(cut)]).items
    assert 10 < len(frames) < 40 and all(isinstance(item.source, Frame) for item in frames)
    assert isinstance(last.source, BadInput) and "cut off" in str(last.source)


class MjpegCamera(http.server.BaseHTTPRequestHandler):
    """A hundred frames a second, each of one shade, until nobody listens."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for shade in range(10_000):
                held = io.BytesIO()
                Image.new("RGB", (32, 32), (shade % 256,) * 3).save(held, "JPEG")
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {held.tell()}\r\n\r\n"
                self.wfile.write(head.encode() + held.getvalue() + b"\r\n")
                time.sleep(0.01)
        except OSError:
            pass

    def log_message(self, *about: object) -> None:
        """Nothing."""


def test_an_mjpeg_camera_over_http_gives_its_newest_frame() -> None:
    pytest.importorskip("av")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), MjpegCamera) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        source = open_words([f"http://127.0.0.1:{server.server_address[1]}/stream"])
        shades = []
        for item in source.items:
            assert isinstance(item.source, Frame), item.source
            shades.append(int(item.source.rgb().mean()))
            if len(shades) == 3:
                break
            time.sleep(0.4)  # a slow engine
        source.stopped.set()
        server.shutdown()
    assert source.dropped() > 5 and all(later > earlier + 3 for earlier, later in zip(shades, shades[1:], strict=False))


def test_a_video_over_http_is_read(clip: tuple[Path, list[np.ndarray]]) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(clip[0].parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert len(names(f"http://127.0.0.1:{server.server_address[1]}/clip.mkv")) == 12
        server.shutdown()


@pytest.mark.parametrize(
    ("form", "layout"), [("nv12", "nv12"), ("yuyv422", "yuyv"), ("rgb24", "rgb"), ("gray", "gray")]
)
def test_a_cameras_pixels_are_handed_on_as_they_are(photos: np.ndarray, form: str, layout: str) -> None:
    av = pytest.importorskip("av")
    frame = av.VideoFrame.from_ndarray(photos[0], format="rgb24").reformat(format=form)
    found = frame_of(frame)
    assert found.layout == layout
    np.testing.assert_array_equal(found.pixels, frame.to_ndarray())


def test_pixels_of_other_colours_are_converted(photos: np.ndarray) -> None:
    av = pytest.importorskip("av")
    frame = av.VideoFrame.from_ndarray(photos[0], format="rgb24").reformat(format="nv12")
    frame.color_range = 2  # full
    assert frame_of(frame).layout == "rgb"


def test_of_a_live_source_the_newest_frame_wins(monkeypatch: pytest.MonkeyPatch, photos: np.ndarray) -> None:
    """Frames that come while nobody takes any are dropped and counted; the end is an item of its own."""
    ready = threading.Event()

    class Camera:
        def __enter__(self) -> Camera:
            return self

        def __exit__(self, *about: object) -> None: ...

        def decode(self, video: int) -> Iterator[Any]:
            yield 0
            ready.wait(10)
            yield from range(1, 50)

    monkeypatch.setattr("tiffin.runtime.sources.live.opened", lambda where: Camera())
    monkeypatch.setattr("tiffin.runtime.sources.live.frame_of", lambda number: Frame(photos[number % 3], "rgb"))
    camera = Latest("camera:0", Address("x"), Sampling(), threading.Event())
    items = camera.items()
    assert next(items).name.startswith("camera:0@")
    ready.set()
    _until(lambda: camera.dropped >= 48)
    last, end = items
    np.testing.assert_array_equal(last.source.pixels, photos[49 % 3])
    assert isinstance(end, Item) and "ended" in str(end.source)


def test_a_camera_that_is_not_there_is_one_error(onnx_artifact: Artifact) -> None:
    pytest.importorskip("av")
    told = predict(onnx_artifact.folder, "camera:99", "--jsonl")
    assert told.returncode == 1 and "camera:99" in lines(told.stdout)[0]["error"]


def test_without_pyav_a_video_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    (tmp_path / "clip.mp4").write_bytes(b"x")
    with pytest.raises(BadInput) as refused:
        open_words([str(tmp_path / "clip.mp4")])
    assert "tiffin[video]" in refused.value.fix


# Watched folders


def test_a_photo_is_answered_once_it_is_whole(shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the name that its folder was given by; nothing of a hidden folder."""
    pytest.importorskip("watchfiles")
    monkeypatch.chdir(tmp_path)
    watched = Path("watched")
    (watched / ".hidden").mkdir(parents=True)
    shutil.copy(shelf / "1.png", watched / "first.png")
    source = open_words([str(watched)], Options(watch=True))
    found: list[Item] = []
    taking = threading.Thread(target=lambda: found.extend(source.items), daemon=True)
    taking.start()
    _until(lambda: len(found) == 1)
    shutil.copy(shelf / "3.png", watched / ".hidden" / "3.png")
    whole = (shelf / "2.png").read_bytes()
    with (watched / "slow.png").open("wb") as file:
        for start in range(0, len(whole), 500):
            file.write(whole[start : start + 500])
            file.flush()
            time.sleep(0.1)
            assert len(found) == 1
    _until(lambda: len(found) == 2)
    (tmp_path / "full").mkdir()
    shutil.copy(shelf / "4.png", tmp_path / "full" / "4.png")
    (tmp_path / "full").rename(watched / "full")
    _until(lambda: len(found) == 3)
    shutil.rmtree(watched)
    _until(lambda: len(found) == 4)
    taking.join(10)
    assert [item.name for item in found] == ["watched/first.png", "watched/slow.png", "watched/full/4.png", "watched"]
    assert isinstance(found[-1].source, BadInput)


def test_a_watch_is_ended_by_its_event(shelf: Path) -> None:
    pytest.importorskip("watchfiles")
    source = open_words([str(shelf)], Options(watch=True))
    threading.Timer(1.5, source.stopped.set).start()
    assert len(list(source.items)) == 10


@pytest.mark.skipif(sys.platform != "linux", reason="leases are Linux's")
def test_who_opens_a_photo_while_it_is_looked_at_ends_nothing(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system tells the holder of a lease by a signal."""
    import fcntl

    real, told, opened = fcntl.fcntl, [], []

    def interrupted(descriptor: int, command: int, value: int) -> int:
        done = real(descriptor, command, value)
        if value == fcntl.F_RDLCK and command == fcntl.F_SETLEASE:
            with contextlib.suppress(BlockingIOError):
                os.close(os.open(shelf / "1.png", os.O_WRONLY | os.O_NONBLOCK))
            opened.append(True)
        return done

    monkeypatch.setattr(fcntl, "fcntl", interrupted)
    before = signal.signal(signal.SIGIO, lambda number, frame: told.append(number))
    try:
        assert watched._is_being_written(str(shelf / "1.png")) is False
    finally:
        signal.signal(signal.SIGIO, before)
    assert opened and not told


def test_what_is_no_folder_cannot_be_watched(shelf: Path) -> None:
    with pytest.raises(BadInput, match="cannot be watched"):
        open_words([str(shelf / "1.png")], Options(watch=True))


def _until(holds: Any, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
