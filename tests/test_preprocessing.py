"""Photos through a model's own transform and through its artifact's preprocessing: alike, or caught with the cause."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn import functional as F
from typer.testing import CliRunner, Result

from tiffin.artifact import Artifact, Preprocess
from tiffin.artifact.store import save
from tiffin.benchmarks.explain.feeds import without_antialias
from tiffin.benchmarks.preprocessing import as_pixels, compare, in_one_call, levels
from tiffin.benchmarks.preprocessing_causes import likeliest
from tiffin.cli.app import app
from tiffin.errors import BadInput, ParityFailed
from tiffin.report.difference import side_by_side
from tiffin.runtime.decode import decode
from tiffin.runtime.preprocess import prepare

MEAN, STD = np.float32([123.675, 116.28, 103.53]), np.float32([58.395, 57.12, 57.375])
HOST = Preprocess(64, 64, crop_fraction=0.875, interpolation="bilinear", mean=tuple(map(float, MEAN)),
                  std=tuple(map(float, STD)))  # fmt: skip
SHORT = 73  # 64 / 0.875
Transform = Callable[[Image.Image], Any]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six photos with fine structure, of other sizes than the model's; one of them lies on its side by EXIF."""
    folder = tmp_path_factory.mktemp("shelf")
    rng = np.random.default_rng(0)
    for index in range(6):
        # Sides of a whole ratio: the longer one is the same number of pixels however it is rounded.
        height, width = (146, 146) if index % 2 else (146, 292)
        y, x = np.mgrid[0:height, 0:width]
        waves = [128 + 90 * np.sin(x * rng.uniform(0.2, 1.5) + y * rng.uniform(0.2, 1.5)) for _ in range(3)]
        pixels = np.clip(np.stack(waves, -1) + rng.normal(0, 20, (height, width, 3)), 0, 255)
        exif = Image.Exif()
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png", exif=exif)
    return sorted(folder.iterdir())


def pillow(photo: Image.Image, filter_: Image.Resampling = Image.Resampling.BILINEAR, short: int = SHORT) -> np.ndarray:
    """As torchvision writes it: Resize, CenterCrop; uint8 HWC."""
    size = tuple(short * side // min(photo.size) for side in photo.size)
    photo = photo.resize(size, filter_)
    left, top = ((side - 64) // 2 for side in photo.size)
    return np.asarray(photo.crop((left, top, left + 64, top + 64)))


def interpolated(photo: Image.Image, antialias: bool) -> np.ndarray:
    """By torch, on uint8 where that antialiases."""
    width, height = (SHORT * side // min(photo.size) for side in photo.size)
    image = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None]
    image = image if antialias else image.float()
    image = F.interpolate(image, (height, width), mode="bilinear", antialias=antialias, align_corners=False)
    top, left = (height - 64) // 2, (width - 64) // 2
    return image[0, :, top : top + 64, left : left + 64].permute(1, 2, 0).numpy()


def normalized(pixels: np.ndarray, mean: np.ndarray = MEAN, std: np.ndarray = STD) -> torch.Tensor:
    return torch.from_numpy((pixels.astype(np.float32) - mean) / std).permute(2, 0, 1)


ALIKE: dict[str, Transform] = {
    "levels": pillow,
    "normalized": lambda photo: normalized(pillow(photo)),
    "a batch of one": lambda photo: normalized(pillow(photo))[None],
    "pixel_values": lambda photo: {"pixel_values": [normalized(pillow(photo)).numpy()]},
    "an image": lambda photo: Image.fromarray(pillow(photo)),
    "channels first levels": lambda photo: pillow(photo).transpose(2, 0, 1),
    "torch antialiased": lambda photo: normalized(interpolated(photo, True)),
}


@pytest.mark.parametrize("transform", ALIKE.values(), ids=ALIKE)
def test_the_same_preprocessing_is_known_in_every_form(transform: Transform, shelf: list[Path]) -> None:
    found = compare(HOST, transform, shelf)
    assert found.alike and found.photos == found.resized == 6


def test_one_level_is_allowed_and_two_are_not(shelf: list[Path]) -> None:
    for by, alike in ((1, True), (2, False)):
        assert compare(HOST, lambda photo, by=by: pillow(photo).astype(np.int16) + by, shelf).alike is alike


BGR = "channels in the order BGR"
UNSCALED, FROM_0_TO_1 = "values from 0 to 255, not normalized", "values from 0 to 1, not normalized further"
CAUGHT: dict[str, tuple[Transform, tuple[str, ...]]] = {
    "no antialias": (lambda photo: normalized(interpolated(photo, False)), ("photos resized without antialias",)),
    "bicubic": (
        lambda photo: normalized(pillow(photo, Image.Resampling.BICUBIC)), ("photos resized by bicubic",)
    ),
    "lanczos": (lambda photo: normalized(pillow(photo, Image.Resampling.LANCZOS)), ("photos resized by lanczos",)),
    "squeezed": (
        lambda photo: normalized(np.asarray(photo.resize((64, 64), Image.Resampling.BILINEAR))),
        ("whole photos squeezed", "centre crop of 1 of the resized side"),
    ),
    "whole side": (lambda photo: normalized(pillow(photo, short=64)), ("centre crop of 1 of the resized side",)),
    "BGR": (lambda photo: normalized(pillow(photo)[..., ::-1]), (BGR,)),
    "levels as BGR": (lambda photo: pillow(photo)[..., ::-1], (BGR,)),
    "not normalized": (lambda photo: pillow(photo).astype(np.float32), (UNSCALED,)),
    "ToTensor alone": (lambda photo: pillow(photo).astype(np.float32) / 255, (FROM_0_TO_1,)),
    "half": (
        lambda photo: normalized(pillow(photo), np.float32(127.5), np.float32(127.5)),
        ("values from -1 to 1 (mean and std 0.5)",),
    ),
    "own numbers": (
        lambda photo: normalized(pillow(photo), np.float32([100, 110, 120]), np.float32([50, 60, 70])),
        ("normalized by mean (100.0, 110.0, 120.0) and std (50.0, 60.0, 70.0) in levels of 255",),
    ),
    "two at once": (lambda photo: pillow(photo, short=64)[..., ::-1].astype(np.float32) / 255,
                    ("centre crop of 1 of the resized side", BGR, FROM_0_TO_1)),
}  # fmt: skip


@pytest.mark.parametrize(("transform", "changes"), CAUGHT.values(), ids=CAUGHT)
def test_another_preprocessing_is_caught_and_its_cause_is_named(
    transform: Transform, changes: tuple[str, ...], shelf: list[Path]
) -> None:
    found = compare(HOST, transform, shelf)
    assert not found.alike and found.worst[0].largest == found.largest
    cause = likeliest(HOST, found.worst)
    assert cause is not None and cause.changes == changes and cause.left < found.largest / 2


def test_an_orientation_that_is_ignored_is_named(tmp_path: Path, shelf: list[Path]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(shelf[1]).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    photos = [tmp_path / "turned.jpg"]
    cause = likeliest(HOST, compare(HOST, pillow, photos).worst)
    assert cause is not None and cause.changes == ("photos opened without EXIF orientation, alpha dropped",)
    assert compare(HOST, lambda photo: pillow(ImageOps.exif_transpose(photo)), photos).alike


def test_torchvisions_rounding_of_a_crop_is_named(tmp_path: Path, shelf: list[Path]) -> None:
    """Resize cuts 73 · 150 / 146 down to 75; CenterCrop's corner is 4.5 rounded to even."""
    Image.open(shelf[1]).resize((150, 146)).save(tmp_path / "odd.png")

    def transform(photo: Image.Image) -> np.ndarray:
        photo = photo.resize((SHORT * 150 // 146, SHORT), Image.Resampling.BILINEAR)
        left, top = (round((side - 64) / 2) for side in photo.size)
        return np.asarray(photo.crop((left, top, left + 64, top + 64)))

    found = compare(HOST, transform, [tmp_path / "odd.png"])
    cause = likeliest(HOST, found.worst)
    assert not found.alike and cause is not None
    assert cause.changes == ("size and corner of the crop rounded as torchvision does",) and cause.left == 0
    assert compare(replace(HOST, rounding="torchvision"), transform, [tmp_path / "odd.png"]).largest == 0


def test_no_antialias_and_another_rounding_are_named_together(tmp_path: Path, shelf: list[Path]) -> None:
    Image.open(shelf[1]).resize((300, 292)).save(tmp_path / "odd.png")
    theirs = replace(HOST, rounding="torchvision")
    found = compare(HOST, lambda photo: without_antialias(photo, theirs), [tmp_path / "odd.png"])
    cause = likeliest(HOST, found.worst)
    assert cause is not None and cause.left == 0
    assert cause.changes == (
        "photos resized without antialias", "size and corner of the crop rounded as torchvision does"
    )  # fmt: skip


def test_the_order_of_pillows_two_passes_is_no_difference(tmp_path: Path) -> None:
    """Pillow 13 resizes a tall photo vertically first; older ones never do, and there is nothing to tell."""
    noise = np.random.default_rng(0).choice(np.uint8([0, 255]), (348, 130, 3))
    Image.fromarray(noise).save(tmp_path / "tall.png")
    host = replace(HOST, interpolation="lanczos", rounding="torchvision")
    found = compare(host, lambda photo: in_one_call(photo, host), [tmp_path / "tall.png"])
    assert found.alike and found.largest == 0
    if int(PIL.__version__.partition(".")[0]) >= 13:
        assert found.by_order > 1
    other = compare(
        host, lambda photo: in_one_call(photo, replace(host, interpolation="bicubic")), [tmp_path / "tall.png"]
    )
    assert not other.alike and other.by_order == 0


def test_a_librarys_transform_has_no_part_in_opening_photos(tmp_path: Path, shelf: list[Path]) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(shelf[1]).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert compare(HOST, pillow, [tmp_path / "turned.jpg"], decode).alike
    assert not compare(HOST, pillow, [tmp_path / "turned.jpg"]).alike


def test_noise_has_no_usual_cause(shelf: list[Path]) -> None:
    rng = np.random.default_rng(0)
    found = compare(HOST, lambda photo: rng.integers(0, 256, (64, 64, 3), dtype=np.uint8), shelf)
    assert likeliest(HOST, found.worst) is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((64, 64), np.uint8), "uint8(64, 64)"),
        (np.zeros((2, 3, 64, 64), np.float32), "(2, 3, 64, 64)"),
        (np.full((3, 64, 64), np.nan, np.float32), "NaN"),
        ("kiwi", "str"),
        (None, "NoneType"),
    ],
)  # fmt: skip
def test_what_is_no_picture_is_refused(given: object, said: str) -> None:
    with pytest.raises(BadInput) as refused:
        as_pixels(given)
    assert said in str(refused.value)


def test_another_size_is_caught(shelf: list[Path]) -> None:
    with pytest.raises(ParityFailed, match="32×32"):
        compare(HOST, lambda photo: np.asarray(photo.resize((32, 32))), shelf)


def test_mean_and_std_are_undone(shelf: list[Path]) -> None:
    ours = prepare(shelf[0], HOST)
    np.testing.assert_allclose(levels(as_pixels(normalized(ours)), HOST), ours, atol=1e-3)


def test_the_picture_shows_both_and_the_difference_amplified() -> None:
    import io

    ours = np.full((20, 30, 3), 100, np.uint8)
    theirs = ours.astype(np.float32)
    theirs[5, 5] = 105
    page = np.asarray(Image.open(io.BytesIO(side_by_side(theirs, ours))))
    assert page.shape == (20 + 32, 3 * 30 + 32, 3)
    panels = [page[24:44, left : left + 30] for left in (8, 46, 84)]
    assert (panels[0][5, 5] == 105).all() and (panels[1] == 100).all()
    assert (panels[2][5, 5] == 255).all() and (panels[2].sum() == 3 * 255)


# On the command line


def cli(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def at_the_door(onnx_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An artifact with `HOST`'s preprocessing, and transforms in the current directory."""
    monkeypatch.chdir(tmp_path)
    manifest = replace(onnx_artifact.manifest, preprocess=HOST)
    save(tmp_path / "model", manifest, {"model.onnx": onnx_artifact.model_path})
    (tmp_path / "mine.py").write_text(
        "from tiffin.tests.test_preprocessing import interpolated, normalized, pillow\n"
        "def right(photo): return normalized(pillow(photo))\n"
        "def cv2_like(photo): return normalized(interpolated(photo, False))\n"
        "def raises(photo): raise RuntimeError('shelf 7')\n"
        "class Class: pass\n"
        "from tiffin.artifact import Preprocess\n"
        "from tiffin.runtime.preprocess import fit\n"
        "def tiny(photo): return fit(photo, Preprocess(32, 32, crop_fraction=0.875))\n"
        "def half_size(photo): return fit(photo, Preprocess(32, 32, interpolation='bilinear'))\n"
        "number = 7\n"
    )
    return tmp_path


def test_the_command_says_how_near_they_are(at_the_door: Path, shelf: list[Path]) -> None:
    done = cli("preprocessing", "model", shelf[0].parent, "--reference", "mine:right")
    assert done.exit_code == 0 and "6 photos" in done.output and "largest difference" in done.output
    assert not (at_the_door / "out" / "preprocessing.png").exists()
    told = json.loads(cli("preprocessing", "model", *shelf, "--reference", "mine:right", "--most", 3, "--json").stdout)
    assert told["photos"] == 3 and told["largest"] <= 1
    assert told["photo"] is told["cause"] is told["picture"] is None


def test_the_command_fails_with_the_cause_and_a_picture(at_the_door: Path, shelf: list[Path]) -> None:
    error = cli("preprocessing", "model", *shelf, "--reference", "mine:cv2_like").exception
    assert isinstance(error, ParityFailed) and error.exit_code == 1
    assert "without antialias" in error.fix and "out/preprocessing.png" in error.fix
    assert Image.open(at_the_door / "out" / "preprocessing.png").size == (3 * 64 + 32, 64 + 32)


def test_a_difference_is_told_as_json_too(at_the_door: Path, shelf: list[Path]) -> None:
    done = cli("preprocessing", "model", *shelf, "--reference", "mine:cv2_like", "--json")
    told = json.loads(done.stdout)
    assert isinstance(done.exception, ParityFailed) and told["largest"] > 1 and told["photo"] in map(str, shelf)
    assert any("without antialias" in change for change in told["cause"]["changes"]) and told["cause"]["left"] < 2
    assert told["picture"] == "out/preprocessing.png" and Path(told["picture"]).is_file()


def test_a_picture_takes_no_other_files_place(at_the_door: Path, shelf: list[Path]) -> None:
    words = ("preprocessing", "model", *shelf, "--reference", "mine:cv2_like", "--out")
    Path("labels.txt").write_text("leek")
    error = cli(*words, "labels.txt").exception
    assert isinstance(error, BadInput) and "labels.txt: is there already" in error.what
    assert Path("labels.txt").read_text() == "leek"
    for _ in range(2):
        assert isinstance(cli(*words, "seen.png").exception, ParityFailed)


def test_photos_that_are_not_resized_say_nothing_of_the_filter(at_the_door: Path, shelf: list[Path]) -> None:
    photo = Image.open(shelf[1]).resize((SHORT, SHORT))
    photo.save(at_the_door / "small.png")
    done = cli("preprocessing", "model", "small.png", "--reference", "mine:right")
    assert done.exit_code == 0 and "the filter was not looked at" in " ".join(done.output.split())


def test_export_refuses_another_preprocessing_before_it_writes(
    at_the_door: Path, checkpoint_file: Path, photo_folder: Path
) -> None:
    words = ["export", checkpoint_file, "--data", photo_folder, "--out", "fp32", "--no-fit-temperature"]
    error = cli(*words, "--reference", "mine:half_size").exception
    assert isinstance(error, ParityFailed) and "likeliest cause" in error.fix and not Path("fp32").exists()
    assert Path("fp32-preprocessing.png").is_file()
    done = cli(*words, "--reference", "mine:tiny")
    assert done.exit_code == 0 and "as the artifact does" in " ".join(done.output.split()) and Path("fp32").is_dir()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("mine", "package.module:name"),
        ("nowhere:f", "nowhere cannot be imported"),
        ("mine:nothing", "has no nothing"),
        ("mine:number", "is int"),
        ("mine:Class", "is type"),
        ("mine:raises", "shelf 7"),
    ],
)
def test_a_reference_that_cannot_be_used_is_one_clear_error(
    reference: str, said: str, at_the_door: Path, shelf: list[Path]
) -> None:
    error = cli("preprocessing", "model", shelf[0], "--reference", reference).exception
    assert isinstance(error, BadInput) and said in str(error)
