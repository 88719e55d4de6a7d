"""Photos at speed, exactly: every path to the same pixels, streams in order, bad photos answered one by one."""

from __future__ import annotations

import asyncio
import ctypes
import dataclasses
import gc
import hashlib
import io
import json
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.manifest import ROUNDINGS, Preprocess
from tiffin.data.download import SYNTHESIZED
from tiffin.errors import BadInput, EngineFailed, EngineMissing, TiffinError
from tiffin.runtime import Classifier, decode, frames, jpeg, load, preprocess, selfcheck
from tiffin.runtime.backends import _cuda
from tiffin.runtime.drawn import Drawn
from tiffin.runtime.frames import LAYOUTS, Frame
from tiffin.runtime.host_array import to_host
from tiffin.runtime.items import Item
from tiffin.runtime.lend import _lent, can_lend, lend
from tiffin.runtime.preprocess import fit, prepare, prepare_into

HOST = Preprocess(32, 32, crop_fraction=0.875)


def smooth(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture that JPEG keeps: colours that change slowly, uint8 `(H, W, 3)`."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8 + 2, width // 8 + 2, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def encoded(image: Image.Image | np.ndarray, form: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(file, form, **options)
    return file.getvalue()


def by_pillow(content: bytes) -> np.ndarray:
    """As Pillow alone reads and turns it."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What simplejpeg decoded in this test; skips where it cannot be used."""
    module, seen = jpeg.decoder(), []
    if module is None:
        pytest.skip("no simplejpeg, or a Pillow that cannot take its pixels as they are")
    true = module.decode_jpeg

    def decode_jpeg(*args: object, **options: object) -> np.ndarray:
        found = true(*args, **options)
        seen.append("decoded")
        return found

    monkeypatch.setattr(module, "decode_jpeg", decode_jpeg)
    return seen


# simplejpeg and Pillow


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    quality=st.integers(1, 100),
    progressive=st.booleans(),
    restart=st.integers(0, 3),
    orientation=st.integers(0, 9),
)
@settings(max_examples=120, deadline=None)
def test_simplejpeg_gives_pillows_pixels(
    height: int, width: int, subsampling: str, quality: int, progressive: bool, restart: int, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(
        smooth(height, width, quality),
        subsampling=subsampling,
        quality=quality,
        progressive=progressive,
        restart_marker_rows=restart,
        exif=exif,
    )
    np.testing.assert_array_equal(np.asarray(decode.decode(content)), by_pillow(content))


def test_simplejpeg_decodes_what_it_may(counted: list[str], tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(smooth(30, 40)))
    decode.decode(tmp_path / "photo.jpg")
    decode.decode(encoded(smooth(30, 40), keep_rgb=True))
    assert len(counted) == 2


@pytest.mark.parametrize("kind", ["grey", "cmyk", "large metadata"])
def test_pillow_decodes_the_rest(counted: list[str], kind: str) -> None:
    image = Image.fromarray(smooth(33, 47))
    mode = {"grey": "L", "cmyk": "CMYK"}.get(kind, "RGB")
    content = encoded(image.convert(mode))
    if kind == "large metadata":
        content += bytes(2_000_000)
    np.testing.assert_array_equal(np.asarray(decode.decode(content)), by_pillow(content))
    assert not counted


@pytest.mark.slow  # decodes a dataset of thousands of photos twice: a minute
def test_each_photo_of_the_dataset_is_decoded_as_by_pillow(counted: list[str]) -> None:
    folder = os.environ.get("TIFFIN_DATA")
    photos = sorted(Path(folder).rglob("*.jpg")) if folder else []
    if not photos:
        pytest.skip("no photos: set TIFFIN_DATA")
    assert [path for path in photos if not np.array_equal(decode.decode(path), by_pillow(path.read_bytes()))] == []
    assert len(counted) == len(photos)


def test_a_damaged_jpeg_is_what_pillow_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """With simplejpeg or without: the same photo, or refused by both."""
    rng, outcomes = np.random.default_rng(1), {"read": 0, "refused": 0}
    whole = encoded(smooth(40, 50), quality=90)
    true = jpeg.decoded
    for turn in range(300):
        damaged = np.frombuffer(whole, np.uint8).copy()
        damaged[rng.integers(2, len(whole), 2)] = rng.integers(0, 256, 2)
        content = damaged.tobytes()[: len(whole) if turn % 3 else int(rng.integers(300, len(whole)))]
        found = []
        for way in (true, lambda file, image: None):
            monkeypatch.setattr(jpeg, "decoded", way)
            try:
                found.append(np.asarray(decode.decode(content)).tobytes())
            except BadInput:
                found.append(b"refused")
        assert found[0] == found[1]
        outcomes["refused" if found[0] == b"refused" else "read"] += 1
    assert min(outcomes.values()) > 10


@pytest.mark.skipif(not can_lend(), reason="Pillow before 11.2.1")
def test_lent_pixels_live_as_long_as_their_image() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 4), dtype=np.uint8)
    image = lend(pixels)
    np.testing.assert_array_equal(np.asarray(image), pixels[..., :3])
    kept, wanted = image.resize((7, 9)), Image.fromarray(pixels[..., :3].copy()).resize((7, 9))
    np.testing.assert_array_equal(np.asarray(kept), np.asarray(wanted))
    before = len(_lent)
    del image
    gc.collect()
    assert len(_lent) == before - 1


# Resizing


@given(
    height=st.integers(1, 700),
    width=st.integers(1, 700),
    side=st.sampled_from([24, 28, 56, 224]),
    fraction=st.sampled_from([0.875, 0.5, 1.0, 0.9]),
    interpolation=st.sampled_from(["bicubic", "bilinear", "lanczos"]),
    rounding=st.sampled_from(ROUNDINGS),
)
@settings(max_examples=150, deadline=None)
def test_resizing_the_kept_part_alone_changes_nothing(
    height: int, width: int, side: int, fraction: float, interpolation: str, rounding: str
) -> None:
    host = Preprocess(side, side, crop_fraction=fraction, interpolation=interpolation, rounding=rounding)
    rng = np.random.default_rng(height * 1000 + width)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    try:
        size = preprocess.resized(image.size, host)
    except BadInput:
        return
    left, top = (_corner(edge - side, rounding) for edge in size)
    filtered = preprocess.FILTERS[interpolation]
    whole = image.resize((size[0], height), filtered).resize(size, filtered)  # horizontally first
    np.testing.assert_array_equal(fit(image, host), np.asarray(whole.crop((left, top, left + side, top + side))))


def _corner(margin: int, rounding: str) -> int:
    return round(margin / 2) if rounding == "torchvision" else margin // 2


@given(
    height=st.integers(1, 5000), width=st.integers(1, 5000), side=st.integers(1, 400), fraction=st.floats(0.5, 1.0),
    rounding=st.sampled_from(("torchvision", "transformers")),
)  # fmt: skip
def test_sizes_are_those_of_the_library_whose_rounding_is_told(
    height: int, width: int, side: int, fraction: float, rounding: str
) -> None:
    """Both libraries: the shorter side as asked, `int(asked * long / short)` for the other."""
    host = Preprocess(side, side, crop_fraction=fraction, rounding=rounding)
    asked, short, long = host.resized[0], min(height, width), max(height, width)
    other = int(asked * long / short)
    wanted = (asked, other) if width <= height else (other, asked)
    if asked * other <= preprocess.MAX_PIXELS:
        assert preprocess.resized((width, height), host) == wanted
        assert min(wanted) >= side


def test_pillows_own_order_is_no_concern() -> None:
    """Pillow 13 reduces a tall photo vertically first, others before it horizontally: ours are the same bytes."""
    tall = np.random.default_rng(0).integers(0, 256, (550, 280, 3), dtype=np.uint8)
    host = Preprocess(28, 28, crop_fraction=0.5)
    assert hashlib.sha256(prepare(tall, host).tobytes()).hexdigest()[:12] == "09525c1d7ce5"


def test_the_kept_part_alone_is_resized_where_that_is_exact() -> None:
    assert preprocess._kept(348, 256, 16, 224).size == 224
    assert preprocess._kept(348, 219, 13, 192).size == 219  # 348/219 of a pixel is never a round number


def test_a_row_is_filled_in_place() -> None:
    rows = np.zeros((2, 32, 32, 3), np.uint8)
    prepare_into(smooth(50, 60), HOST, rows[1])
    assert not rows[0].any()
    np.testing.assert_array_equal(rows[1], prepare(smooth(50, 60), HOST))


# The rule for every kind of photo


@pytest.mark.parametrize("kind", ["RGB", "RGBA"])
def test_16_bit_colour_keeps_its_high_byte(kind: str) -> None:
    """Pillow writes no such PNG, so its chunks are written here (PNG specification, 16-bit truecolour)."""
    import struct
    import zlib

    values = np.arange(2 * 3 * len(kind), dtype=np.uint16).reshape(2, 3, -1) * 3001
    if kind == "RGBA":
        values[..., 3] = 0xFFFF
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    chunks = {b"IHDR": struct.pack(">IIBBBBB", 3, 2, 16, {"RGB": 2, "RGBA": 6}[kind], 0, 0, 0)}
    chunks |= {b"IDAT": zlib.compress(lines), b"IEND": b""}
    content = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks.items()
    )
    np.testing.assert_array_equal(np.asarray(decode.decode(content)), values[..., :3] >> 8)


def test_heic_is_read_where_pillow_heif_is() -> None:
    heif = pytest.importorskip("pillow_heif")
    photo = smooth(48, 64)
    file = io.BytesIO()
    heif.from_pillow(Image.fromarray(photo)).save(file, quality=95)
    found = np.asarray(decode.decode(file.getvalue())).astype(int)
    assert found.shape == photo.shape and np.abs(found - photo).mean() < 12


def test_without_pillow_heif_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    decode._register_heif.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BadInput, match="pillow-heif is not installed") as caught:
        decode.decode(b"\0\0\0\x18ftypheic" + bytes(40))
    decode._register_heif.cache_clear()
    assert "tiffin[heif]" in caught.value.fix


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF"])
def test_a_bomb_is_refused_by_its_header(form: str) -> None:
    """16,000 × 16,000 pixels of one colour in a small file: nothing is decoded."""
    content = encoded(Image.new("1", (16_000, 16_000)), form)
    before = psutil.Process().memory_info().rss
    with pytest.raises(BadInput, match="too large"):
        decode.decode(content)
    assert psutil.Process().memory_info().rss - before < 100_000_000


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("limit", [None, 100, 10**9])
def test_the_bound_is_ours_whatever_pillows_is(monkeypatch: pytest.MonkeyPatch, limit: int | None) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(BadInput, match="too large"):
        decode.decode(encoded(Image.new("1", (9000, 9000)), "PNG"))


@pytest.mark.parametrize("source", [None, 5, ["a.jpg"], {"a": 1}])
def test_what_is_no_photo_at_all_is_refused(source: object) -> None:
    with pytest.raises(BadInput, match="a photo of type"):
        decode.decode(source)  # type: ignore[arg-type]


def test_memory_stays_flat_over_bad_photos() -> None:
    whole, png = encoded(smooth(200, 300)), encoded(smooth(200, 300), "PNG")
    bad = [b"", b"\xff\xd8\xff", whole[: len(whole) // 2], png[:-40], b"\0" * 500, whole[:20] + b"\xff" * 500]

    def spoil(times: int) -> int:
        for turn in range(times):
            with pytest.raises(BadInput):
                prepare(bad[turn % len(bad)], HOST)
        gc.collect()
        return psutil.Process().memory_info().rss

    before = spoil(300)
    assert spoil(1500) - before < 8_000_000


# Raw frames


def to_rgb_by_the_formula(y: int, u: int, v: int) -> list[int]:
    luma, u, v = 1.164 * max(y - 16, 0), u - 128, v - 128
    exact = (luma + 1.596 * v, luma - 0.391 * u - 0.813 * v, luma + 2.018 * u)
    return [min(255, max(0, int(np.floor(value + 0.5)))) for value in exact]


@given(y=st.integers(0, 255), u=st.integers(0, 255), v=st.integers(0, 255))
@settings(max_examples=300, deadline=None)
def test_a_frame_of_one_colour_is_what_the_formula_says(y: int, u: int, v: int) -> None:
    nv12 = np.array([[y] * 2, [y] * 2, [u, v]], np.uint8)
    yuyv = np.array([[[y, u], [y, v]]], np.uint8)
    for frame in (Frame(nv12, "nv12"), Frame(yuyv, "yuyv")):
        found = frame.rgb().reshape(-1, 3).astype(int)
        assert np.abs(found - to_rgb_by_the_formula(y, u, v)).max() <= 1 and (found == found[0]).all()


def test_frames_are_the_same_bytes_everywhere() -> None:
    """If this fails, frames become other pixels than before."""
    y, x = np.mgrid[0:60, 0:32]
    nv12 = Frame(((x * 37 + y * 91) % 256).astype(np.uint8), "nv12")
    yuyv = Frame(np.stack([(x * 5 + y) % 256, (x * 11 + y * 3) % 256], -1).astype(np.uint8), "yuyv")
    assert [hashlib.sha256(f.rgb().tobytes()).hexdigest()[:12] for f in (nv12, yuyv)] == GOLDEN_FRAMES


GOLDEN_FRAMES = ["80aebded5baf", "71d20e35e925"]


def test_chroma_belongs_to_its_pixels() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(16, 236, (4, 6), dtype=np.uint8)
    u, v = rng.integers(16, 241, (2, 2, 3), dtype=np.uint8)
    nv12 = Frame(np.concatenate([y, np.stack([u, v], -1).reshape(2, 6)]), "nv12")
    for row, column in np.ndindex(4, 6):
        alone = Frame(np.array([[y[row, column]] * 2] * 2 + [[u[row // 2, column // 2], v[row // 2, column // 2]]],
                               np.uint8), "nv12")  # fmt: skip
        np.testing.assert_array_equal(nv12.rgb()[row, column], alone.rgb()[0, 0])
    doubled = np.repeat(np.stack([u, v], -1), 2, axis=0)  # of two lines each: YUYV has chroma in every line
    chroma = np.empty((4, 6), np.uint8)
    chroma[:, 0::2], chroma[:, 1::2] = doubled[..., 0], doubled[..., 1]
    np.testing.assert_array_equal(Frame(np.stack([y, chroma], -1), "yuyv").rgb(), nv12.rgb())


def test_frames_agree_with_ffmpegs_conversion() -> None:
    """PyAV's swscale keeps fewer bits: within 3 levels, where chroma is the same for neighbours."""
    av = pytest.importorskip("av")
    y = np.tile(np.arange(16, 236, dtype=np.uint8)[:, None], (1, 32))
    for u, v in ((128, 128), (90, 200), (200, 60), (30, 140)):
        chroma = np.tile(np.array([u, v], np.uint8), (110, 16))
        pixels = np.concatenate([y, chroma])
        wanted = av.VideoFrame.from_ndarray(pixels, format="nv12").to_ndarray(format="rgb24")
        assert np.abs(Frame(pixels, "nv12").rgb().astype(int) - wanted).max() <= 3


def test_the_other_layouts() -> None:
    photo = smooth(20, 30)
    opencv = np.ascontiguousarray(photo[..., ::-1])
    for source in (Frame(photo, "rgb"), Frame(opencv, "bgr"), photo[::-1][::-1], opencv[..., ::-1]):
        np.testing.assert_array_equal(prepare(source, HOST), prepare(photo, HOST))
    flipped = np.asarray(decode.decode(Frame(opencv[::-1, ::-1], "bgr")))
    np.testing.assert_array_equal(flipped, photo[::-1, ::-1])
    grey = np.asarray(decode.decode(Frame(photo[..., 0], "gray")))
    assert (grey == photo[..., :1]).all()


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((4, 6), "rgb"), ((4, 6, 4), "bgr"), ((4, 6, 3), "gray"), ((5, 6), "nv12"), ((6, 5), "nv12"),
        ((3, 2, 2), "nv12"), ((4, 5, 2), "yuyv"), ((4, 6), "yuyv"), ((0, 6, 3), "rgb"), ((4, 6, 3), "i420"),
        ((), "gray"),
    ],
)  # fmt: skip
def test_a_frame_of_another_shape_is_refused(shape: tuple[int, ...], layout: str) -> None:
    with pytest.raises(BadInput, match=r"frame of|layout"):
        Frame(np.zeros(shape, np.uint8), layout)


def test_float_pixels_are_refused() -> None:
    """Pillow would make 0 and 1 of what lies between: black."""
    with pytest.raises(BadInput, match="float pixels"):
        decode.decode(Image.fromarray(np.full((4, 6), 0.5, np.float32)))


def test_a_frame_of_another_dtype_is_refused() -> None:
    for pixels in (np.zeros((4, 6, 3), np.float32), [[1, 2], [3, 4]], None):
        with pytest.raises(BadInput, match="frame of"):
            Frame(pixels, "rgb")  # type: ignore[arg-type]
    assert set(LAYOUTS) == {"rgb", "bgr", "gray", "nv12", "yuyv"}


class Handed:
    """An array of some library, which hands itself over by DLPack alone."""

    def __init__(self, array: np.ndarray, device: tuple[int, int] | None = None) -> None:
        self._array, self._device = array, device

    def __dlpack__(self, **asked: object) -> object:
        return self._array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._device or self._array.__dlpack_device__()


def test_dlpack_on_the_cpu_is_not_copied() -> None:
    photo = np.array(smooth(20, 30))
    assert np.shares_memory(to_host(Handed(photo)), photo)
    np.testing.assert_array_equal(prepare(Handed(photo), HOST), prepare(photo, HOST))
    with pytest.raises(BadInput, match="photo array of float32"):
        decode.decode(Handed(np.zeros((4, 4, 3), np.float32)))


def test_dlpack_on_a_gpu_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    with pytest.raises(EngineMissing, match="cuda.bindings is not installed"):
        decode.decode(Handed(smooth(4, 4), (2, 0)))


class CopyingCuda:
    """The calls of CUDA's runtime that a copy to the host takes; "device" memory is the host's."""

    cudaMemcpyKind = SimpleNamespace(cudaMemcpyDefault=4)  # noqa: N815  the real name

    def __init__(self) -> None:
        self.done: list[str] = []

    def __getattr__(self, name: str) -> Callable[..., tuple[object, ...]]:
        return {
            "cudaGetDeviceCount": lambda: (0, 2),
            "cudaPointerGetAttributes": lambda address: (0, SimpleNamespace(type=2, device=1)),
            "cudaGetDevice": lambda: (0, 0),
            "cudaSetDevice": lambda index: (self.done.append(f"gpu {index}") or 0,),
            "cudaStreamSynchronize": lambda stream: (self.done.append(f"wait {stream}") or 0,),
            "cudaMemcpyAsync": self._copy,
        }[name]

    def _copy(self, target: int, source: int, size: int, kind: int, stream: int) -> tuple[int]:
        ctypes.memmove(target, source, size)
        self.done.append(f"copy {stream}")
        return (0,)


def test_a_photo_on_a_gpu_is_copied_after_what_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, photo = CopyingCuda(), np.array(smooth(20, 30))
    monkeypatch.setattr(_cuda, "cuda_runtime", lambda instead="": cuda)
    monkeypatch.setattr(_cuda, "has_context", lambda index: True)
    told = {"shape": photo.shape, "typestr": "|u1", "data": (photo.ctypes.data, False), "version": 3, "stream": 7}
    found = np.asarray(decode.decode(SimpleNamespace(__cuda_array_interface__=told)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found, photo)
    assert cuda.done == ["gpu 1", "wait 7", "copy 1", "wait 1", "gpu 0"]


# Streams


@pytest.fixture(scope="module")
def classifier(onnx_artifact: Artifact) -> Iterator[Classifier]:
    with load(onnx_artifact, RunConfig("onnxruntime", threads=1, lanes=2)) as session:
        yield Classifier(session)


def items(count: int) -> list[Item]:
    """Photos of different kinds and sizes; every fifth cannot be read."""
    found = []
    for index in range(count):
        content = encoded(smooth(40 + index % 7, 50, index), "JPEG" if index % 2 else "PNG")
        found.append(Item(f"{index}", content[:100] if index % 5 == 3 else content))
    return found


@pytest.mark.parametrize("workers", [None, 1, 3])
@pytest.mark.parametrize("batch", [1, 4])
def test_a_stream_answers_as_predict_does(classifier: Classifier, batch: int, workers: int | None) -> None:
    given = items(23)
    answers = list(classifier.stream(iter(given), top=3, batch=batch, workers=workers))
    assert [answer.name for answer in answers] == [item.name for item in given]
    for item, answer in zip(given, answers, strict=True):
        if int(item.name) % 5 == 3:
            assert isinstance(answer.error, BadInput) and not answer.guesses and not answer.run_s
            continue
        wanted = classifier.predict(item.source, top=3)  # type: ignore[arg-type]
        assert [guess.label for guess in answer.guesses] == [guess.label for guess in wanted]
        assert np.allclose([g.score for g in answer.guesses], [g.score for g in wanted], atol=1e-5)
        assert answer.error is None and answer.prepare_s > 0 and answer.run_s > 0


def test_an_item_that_is_an_error_is_answered_with_it(classifier: Classifier) -> None:
    lost = TiffinError("the camera is gone")
    answers = list(classifier.stream([Item("a", lost), Item("b", smooth(9, 9)), Item("c", lost)], batch=2))
    assert [answer.error for answer in answers] == [lost, None, lost]


def test_nothing_in_nothing_out(classifier: Classifier) -> None:
    assert list(classifier.stream([])) == []


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"workers": 0}, {"batch": -1}])
def test_a_stream_of_no_batch_or_worker_is_refused_at_once(classifier: Classifier, wrong: dict[str, int]) -> None:
    for way in (classifier.stream, classifier.astream):
        with pytest.raises(BadInput, match="at least 1"):
            way([], **wrong)


def test_a_run_that_fails_answers_its_own_items(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    true, calls = classifier.session.submit, []

    def submit(feeds: dict[str, np.ndarray]) -> object:
        calls.append(feeds)
        if len(calls) == 2:
            raise EngineFailed("out of memory")
        return true(feeds)

    monkeypatch.setattr(classifier.session, "submit", submit)
    answers = list(classifier.stream([Item(f"{i}", smooth(20, 20, i)) for i in range(6)], batch=2, workers=1))
    assert [bool(answer.error) for answer in answers] == [False, False, True, True, False, False]


def test_what_the_source_raises_ends_the_stream_after_the_answers_before_it(classifier: Classifier) -> None:
    def source() -> Iterator[Item]:
        yield Item("a", smooth(20, 20))
        raise OSError("unplugged")

    answers = classifier.stream(source())
    assert next(answers).name == "a"
    with pytest.raises(OSError, match="unplugged"):
        next(answers)


def test_a_stream_reads_only_a_little_ahead(classifier: Classifier) -> None:
    drawn: list[int] = []

    def source() -> Iterator[Item]:
        for index in range(1000):
            drawn.append(index)
            yield Item(f"{index}", smooth(12, 12, index))

    answers = classifier.stream(source(), workers=2)
    next(answers)
    time.sleep(0.2)  # enough to read all thousand, were there no bound
    assert len(drawn) < 12
    answers.close()
    before = len(drawn)
    time.sleep(0.05)
    assert len(drawn) == before


def test_a_frame_is_answered_before_the_next_one_comes(classifier: Classifier) -> None:
    """A camera: the source waits until the answer to what it gave is there."""
    answered = threading.Semaphore(0)

    def camera() -> Iterator[Item]:
        for index in range(4):
            yield Item(f"{index}", smooth(20, 20, index))
            assert answered.acquire(timeout=20)

    names = []
    for answer in classifier.stream(camera()):
        names.append(answer.name)
        answered.release()
    assert names == ["0", "1", "2", "3"]


def test_a_closed_stream_leaves_no_thread(classifier: Classifier) -> None:
    list(classifier.stream(items(4)))  # the session's own threads exist from here on
    before = {thread.ident for thread in threading.enumerate()}
    answers = classifier.stream(items(100))
    next(answers)
    answers.close()
    list(classifier.stream(items(7), batch=3))
    assert {thread.ident for thread in threading.enumerate()} <= before


def test_an_async_stream_answers_the_same(classifier: Classifier) -> None:
    given = items(11)

    async def source():
        for item in given:
            await asyncio.sleep(0)
            yield item

    async def collect(of: object) -> list[tuple[str, bool, tuple]]:
        return [(a.name, bool(a.error), a.guesses) async for a in classifier.astream(of, top=2)]  # type: ignore[arg-type]

    wanted = [(a.name, bool(a.error), a.guesses) for a in classifier.stream(given, top=2)]
    for of in (given, source()):
        found = asyncio.run(collect(of))
        assert [(name, failed, [g.label for g in guesses]) for name, failed, guesses in found] == [
            (name, failed, [g.label for g in guesses]) for name, failed, guesses in wanted
        ]


def test_an_async_stream_lets_the_loop_run_and_can_be_cancelled(classifier: Classifier) -> None:
    async def camera():
        yield Item("first", smooth(20, 20))
        await asyncio.Event().wait()  # the next frame never comes

    async def run() -> list[str]:
        names: list[str] = []

        async def watch() -> None:
            async for answer in classifier.astream(camera()):
                names.append(answer.name)

        watching = asyncio.create_task(watch())
        while not names:
            await asyncio.sleep(0.01)
        watching.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(watching, 20)
        return names

    assert asyncio.run(run()) == ["first"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("tiffin prepares")]


def test_an_async_source_may_be_cancelled_as_its_next_item_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def camera():
        yield Item("never", b"")

    def asked(drawing: Coroutine, loop: object) -> Future:
        drawing.close()
        drawn.cancel()
        waiting: Future = Future()
        waiting.result = lambda: Future.result(waiting, 0.1)  # type: ignore[method-assign]
        return waiting

    drawn = Drawn(camera(), None)  # type: ignore[arg-type]
    monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", asked)
    assert list(drawn) == []


def test_an_async_source_that_fails_ends_the_stream(classifier: Classifier) -> None:
    async def source():
        yield Item("a", smooth(20, 20))
        raise OSError("unplugged")

    async def run() -> list[str]:
        names = []
        with pytest.raises(OSError, match="unplugged"):
            async for answer in classifier.astream(source()):
                names.append(answer.name)
        return names

    assert asyncio.run(run()) == ["a"]


def test_memory_stays_flat_over_a_stream_of_bad_photos(classifier: Classifier) -> None:
    bad = encoded(smooth(200, 300))[:2000]

    def spoil(times: int) -> int:
        assert all(answer.error for answer in classifier.stream(Item("", bad) for _ in range(times)))
        gc.collect()
        return psutil.Process().memory_info().rss

    before = spoil(500)
    assert spoil(2000) - before < 8_000_000


# `tiffin selftest`


def outcomes(checks: Iterable[selfcheck.Check]) -> dict[str, str]:
    return {check.name: check.outcome for check in checks}


def test_this_machine_gives_the_golden_bytes() -> None:
    found = [*selfcheck.photo_checks(SYNTHESIZED), selfcheck.default_check()]
    assert "failed" not in outcomes(found).values()
    assert outcomes(found)["decoding by Pillow"] == outcomes(found)["preprocessing"] == "passed"


def test_another_decoder_resizer_or_arithmetic_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def other(content: bytes) -> np.ndarray:
        with Image.open(io.BytesIO(content)) as image:
            image.draft("RGB", (8, 8))
            return np.asarray(decode.to_rgb(image))

    monkeypatch.setattr(selfcheck, "_by_pillow", other)
    monkeypatch.setitem(preprocess.FILTERS, "bicubic", Image.Resampling.BILINEAR)
    monkeypatch.setattr(frames, "_GREEN_U", frames._GREEN_U + 300)
    found = outcomes([*selfcheck.photo_checks(SYNTHESIZED), selfcheck.default_check()])
    assert found["decoding by Pillow"] == found["raw frames"] == found["preprocessing"] == "failed"


def test_an_artifacts_own_hashes_are_checked() -> None:
    host = preprocess.with_golden(HOST)
    assert selfcheck.preprocess_check(host, "model").outcome == "passed"
    moved = dataclasses.replace(host, crop_fraction=0.9)
    assert selfcheck.preprocess_check(moved, "model").outcome == "failed"
    assert selfcheck.preprocess_check(HOST, "model").outcome == "not run"


def test_engines_that_agree_pass(onnx_artifact: Artifact) -> None:
    pictures = sorted(SYNTHESIZED.glob("confirm-*.jpg"))[:4]
    found = outcomes(selfcheck.engine_checks(onnx_artifact, pictures))
    assert found["onnxruntime"] == "passed" and "failed" not in found.values() and "null" not in found


def test_an_engine_that_answers_otherwise_fails() -> None:
    first = np.eye(20, dtype=np.float32)
    assert selfcheck._answered("other", first, ("one", first)).outcome == "passed"
    assert selfcheck._answered("other", np.roll(first, 1, 0), ("one", first)).outcome == "failed"
    assert selfcheck._answered("other", first * np.nan, None).outcome == "failed"


def test_selftest_prints_every_check_and_says_by_its_exit_code(
    onnx_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    from typer.testing import CliRunner

    from tiffin.cli.app import app

    said = CliRunner().invoke(app, ["selftest", str(onnx_artifact.folder)])
    assert said.exit_code == 0 and "passed: raw frames" in said.stdout and "passed: onnxruntime" in said.stdout
    told = json.loads(CliRunner().invoke(app, ["selftest", "--json"]).stdout)
    assert {check["outcome"] for check in told["checks"]} <= {"passed", "not run"}
    monkeypatch.setitem(preprocess.FILTERS, "bicubic", Image.Resampling.BILINEAR)
    wrong = CliRunner().invoke(app, ["selftest"])
    assert isinstance(wrong.exception, EngineFailed) and "failed: preprocessing" in wrong.stdout
    of_the_gpu = (["--photos", "3"], ["--out", "x"], ["--seed", "0"], ["--time-limit-s", "9"])
    for words in (*of_the_gpu, ["--gpu", str(onnx_artifact.folder)]):
        refused = CliRunner().invoke(app, ["selftest", *words])
        assert isinstance(refused.exception, BadInput)
