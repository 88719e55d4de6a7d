"""data/: layouts, roles, draws, the proof of disjointness, and the download from a local server."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import logging
import os
import shutil
import sys
import threading
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tiffin.artifact import Preprocess
from tiffin.data import download as room
from tiffin.data.array_file import new_array
from tiffin.data.classes import read_as
from tiffin.data.corrupted import prepare_corrupted
from tiffin.data.corruptions import CLEAN, KINDS, STRENGTHS, Chance, corrupt, corruption_named, parameter_of, reduced
from tiffin.data.dataset import Dataset, Photo, balanced, sample
from tiffin.data.download import download_grocery_store, find_dataset, synthesized
from tiffin.data.layouts import open_dataset
from tiffin.data.overlap import pixel_hash, pixel_hashes, pixels_hash, prove_disjoint
from tiffin.data.prepared import PreparedPhotos, part_of, prepare_photos
from tiffin.data.splits import hold_out
from tiffin.errors import BadDataset, BadInput, Overlap
from tiffin.records.corruption import Corruption
from tiffin.runtime.decode import decode
from tiffin.runtime.preprocess import fit, prepare
from tiffin.runtime.sources.files import PHOTO_ENDINGS


def photo(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def grocery(root: Path) -> Path:
    head = "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),Image"
    text(root / "classes.csv", head, "Gala,0,Apple,0,/a", "Leek,1,Leek,1,/b")
    for split, count in (("train", 3), ("val", 1), ("test", 2)):
        rows = [(f"{split}/{name}/{name}_{n}.jpg", label) for n in range(count) for label, name in enumerate("ab")]
        text(root / f"{split}.txt", *(f"{path}, {label}, {label}" for path, label in rows))
        for seed, (path, _) in enumerate(rows):
            photo(root / path, seed + 100 * count)
    return root


def sizes(dataset: Dataset) -> tuple[int, ...]:
    return tuple(len(dataset.roles.get(role, ())) for role in ("train", "calibrate", "select", "confirm"))


# Layouts


@pytest.mark.parametrize("below", ["", "dataset"])
def test_grocery_store(tmp_path: Path, below: str) -> None:
    grocery(tmp_path / below)
    dataset = open_dataset(tmp_path)
    assert (dataset.name, dataset.labels, dataset.coarse) == (
        "grocery-store",
        ("Gala", "Leek"),
        ("Apple", "Leek"),
    )
    assert (dataset.kind, dataset.root) == ("photos", tmp_path / below)
    assert sizes(dataset) == (6, 6, 2, 4)
    assert dataset.role("confirm")[1] == Photo(tmp_path / below / "test/b/b_0.jpg", 1)


def test_folder_per_class_in_splits(tmp_path: Path) -> None:
    for name in (
        "train/rice/1.jpg",
        "train/rice/2.PNG",
        "train/dal/1.jpg",
        "val/dal/9.jpg",
        "test/rice/7.jpg",
    ):
        photo(tmp_path / name)
    text(tmp_path / "train/rice/notes.txt", "no photo")
    dataset = open_dataset(tmp_path)
    assert dataset.labels == ("dal", "rice")
    assert sizes(dataset) == (3, 3, 1, 1)
    assert dataset.role("confirm")[0].label == 1


def test_a_dataset_takes_the_photos_that_predict_takes(tmp_path: Path) -> None:
    (tmp_path / "rice").mkdir()
    for ending in PHOTO_ENDINGS:
        (tmp_path / "rice" / f"1{ending}").write_bytes(b"")
    roles = open_dataset(tmp_path).roles.values()
    assert {photo.path.suffix for photos in roles for photo in photos} == PHOTO_ENDINGS


def test_folder_per_class_alone_is_cut_into_calibrate_select_and_confirm(tmp_path: Path) -> None:
    for number in range(60):
        photo(tmp_path / f"{'dal' if number % 2 else 'rice'}/{number}.jpg", number)
    dataset = open_dataset(tmp_path)
    calibrate, select, confirm = (set(dataset.role(role)) for role in ("calibrate", "select", "confirm"))
    assert len(calibrate | select | confirm) == len(calibrate) + len(select) + len(confirm) == 60
    assert 4 <= len(calibrate) <= 20 and 2 <= len(select) <= 12
    assert set(dataset.role("train")) == calibrate and "a fifth of the photos is train" in dataset.note


def test_a_role_without_photos_says_what_to_add(tmp_path: Path) -> None:
    photo(tmp_path / "rice/1.jpg")
    with pytest.raises(BadDataset, match="select") as caught:
        open_dataset(tmp_path).role("select")
    assert "confirm" in caught.value.expected and caught.value.fix


MAC, LINUX = "Cre\u0300me", "Cr\u00e8me"  # look the same


def test_a_class_that_a_mac_wrote_is_the_one_that_linux_wrote(tmp_path: Path) -> None:
    folders, listed = tmp_path / "folders", tmp_path / "listed"
    for index, (split, name) in enumerate([("train", MAC), ("train", LINUX), ("test", MAC), ("test", "Kiwi")]):
        photo(folders / split / name / f"{index}.jpg", index)
        photo(listed / name / f"{index}.jpg", index)
    text(listed / "train.csv", "path,label", f"{LINUX}/1.jpg,{LINUX}", "Kiwi/3.jpg,Kiwi")
    text(listed / "test.csv", "path,label", f"{MAC}/0.jpg,{MAC}")
    for dataset, trained in ((open_dataset(folders), 2), (open_dataset(listed), 1)):
        assert dataset.labels == (LINUX, "Kiwi")
        fitted = (*dataset.role("train"), *dataset.roles["select"])  # of two photos one is held out
        assert [photo.label for photo in fitted].count(0) == trained
        assert 0 in [photo.label for photo in dataset.role("confirm")]
        assert all(photo.path.is_file() for photo in dataset.role("confirm"))  # paths stay as they are
        assert read_as(dataset, ("Kiwi", MAC), "the model")[0].labels == ("Kiwi", MAC)


@pytest.mark.skipif(os.name == "nt", reason="no such folder there")
def test_a_class_that_steers_the_terminal_is_refused(tmp_path: Path) -> None:
    photo(tmp_path / "rice\x1b]0;title\x07" / "1.jpg")
    with pytest.raises(BadDataset, match=r"class: 'rice\\x1b.*control character"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("split", ["", "train"])
def test_a_folder_without_photos_is_no_class_and_said_once(tmp_path: Path, caplog, split: str) -> None:
    photo(tmp_path / split / "rice" / "1.jpg")
    for name in ("dal", ".cache", "soup"):
        (tmp_path / split / name).mkdir()
    (tmp_path / split / "soup" / "1.txt").write_bytes(b"")
    assert open_dataset(tmp_path).labels == ("rice",)
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == ["dal, soup"]


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        (("train", "val", "test"), ""),
        (("train", "val"), "no test split: val is confirm, and a tenth"),
        (("train", "test"), "no val split"),
        (("train",), "no val split"),
        (("val", "test"), ""),
        (("val",), "no train split"),
        (("test",), "no train split"),
    ],
)
def test_a_split_that_is_absent_is_said(tmp_path: Path, splits: tuple[str, ...], said: str) -> None:
    for number, split in enumerate(splits):
        photo(tmp_path / split / "rice" / "1.jpg", number)
    note = open_dataset(tmp_path).note
    assert said in note and bool(said) == bool(note)


def test_ifood_csv(tmp_path: Path) -> None:
    text(tmp_path / "class_list.txt", "0 macaron", "1 beignet")
    for split, count in (("train", 30), ("val", 2)):
        names = [f"{split}_{number}.jpg" for number in range(count)]
        text(tmp_path / f"{split}_labels.csv", "img_name,label", *(f"{n},{i % 2}" for i, n in enumerate(names)))
        for seed, name in enumerate(names):
            photo(tmp_path / f"{split}_set/{name}", seed)
    dataset = open_dataset(tmp_path)
    assert dataset.labels == ("macaron", "beignet")
    train, calibrate, select, confirm = sizes(dataset)
    assert train == calibrate and train + select == 30 and 0 < select < 10 and confirm == 2


def test_csv_with_class_names(tmp_path: Path) -> None:
    for split, label in (("train", "soup"), ("val", "dal"), ("test", "soup")):
        photo(tmp_path / f"photos/{split}.jpg")
        text(tmp_path / f"{split}.csv", "path,label", f"photos/{split}.jpg,{label}")
    dataset = open_dataset(tmp_path)
    assert dataset.labels == ("dal", "soup")
    assert [dataset.role(role)[0].label for role in ("train", "select", "confirm")] == [1, 0, 1]


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (['"1.jpg,dal', "2.jpg,soup"], 'row 2: "1.jpg,dal '),
        (["1.jpg,dal", '2.jpg,"soup', '3.jpg,rice"'], 'row 3: 2.jpg,"soup '),
        (["1.jpg,dal", '"2.jpg" x,soup'], "row 3"),
        (["1.jpg,dal", "2.jpg," + "x" * 140_000], "row 3: 2.jpg,xx.* limit"),
        (["1.jpg,dal", "2.jpg"], "row 3 is too short: 2.jpg"),
        (["1.jpg,0", "2.jpg," + "9" * 5000], "label '999"),
    ],
)
def test_a_csv_row_that_cannot_be_read_is_named(tmp_path: Path, rows: list[str], said: str) -> None:
    text(tmp_path / "test.csv", "path,label", *rows)
    for number in (1, 2, 3):
        photo(tmp_path / f"{number}.jpg")
    with pytest.raises(BadDataset, match=said) as caught:
        open_dataset(tmp_path)
    assert len(str(caught.value)) < 500


def test_quoted_values_of_a_csv_may_hold_commas(tmp_path: Path) -> None:
    text(tmp_path / "test.csv", "path, label", 'photo.jpg, "rice, ""red"""')
    photo(tmp_path / "photo.jpg")
    assert open_dataset(tmp_path).labels == ('rice, "red"',)


def test_csv_with_bare_indices_keeps_them(tmp_path: Path) -> None:
    text(tmp_path / "test.csv", "path,label", *(f"{number}.jpg,{number}" for number in (2, 10)))
    [photo(tmp_path / f"{number}.jpg") for number in (2, 10)]
    dataset = open_dataset(tmp_path)
    assert dataset.labels == tuple(map(str, range(11)))
    assert {p.label for photos in dataset.roles.values() for p in photos} == {2, 10}


def test_food101(tmp_path: Path) -> None:
    text(tmp_path / "food-101/meta/classes.txt", "apple_pie", "waffles")
    for split, count in (("train", 30), ("test", 3)):
        names = [f"{'waffles' if n % 2 else 'apple_pie'}/{split}{n}" for n in range(count)]
        text(tmp_path / f"food-101/meta/{split}.txt", *names)
        for seed, name in enumerate(names):
            photo(tmp_path / f"food-101/images/{name}.jpg", seed)
    dataset = open_dataset(tmp_path)
    train, _, select, confirm = sizes(dataset)
    assert dataset.name == "food-101" and train + select == 30 and select and confirm == 3
    assert not set(dataset.role("train")) & set(dataset.role("select"))
    assert [p.label for p in dataset.role("confirm")] == [0, 1, 0]


def synthesized_set(root: Path) -> Path:
    text(root / "synthesized.json", '{"kind": "synthesized", "labels": ["dal", "rice"]}')
    text(root / "photos.csv", "role,path,label", "calibrate,1.jpg,dal", "confirm,2.jpg,1")
    photo(root / "1.jpg", 1)
    photo(root / "2.jpg", 2)
    return root


def test_synthesized(tmp_path: Path) -> None:
    dataset = open_dataset(synthesized_set(tmp_path))
    assert (dataset.kind, dataset.labels) == ("synthesized", ("dal", "rice"))
    assert sizes(dataset) == (0, 1, 0, 1)
    assert dataset.role("confirm")[0] == Photo(tmp_path / "2.jpg", 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda root: (root / "photos.csv").write_text("role,path,label\ntest,1.jpg,0\n"), "role 'test'"),
        (lambda root: (root / "photos.csv").write_text("role,path,label\nconfirm,1.jpg,soup\n"), "'soup'"),
        (lambda root: (root / "photos.csv").write_text("role,path,label\nconfirm,1.jpg,2\n"), "labels"),
        (lambda root: (root / "photos.csv").write_text("role,path\nconfirm,1.jpg\n"), "label"),
        (lambda root: (root / "photos.csv").write_text("role,path,label\n"), "no photos"),
        (lambda root: (root / "synthesized.json").write_text("{"), "synthesized.json"),
        (lambda root: (root / "photos.csv").write_bytes(b"\xff\xfe\xff"), "cannot be read"),
    ],
)
def test_a_broken_list_is_named(tmp_path: Path, change, said: str) -> None:
    change(synthesized_set(tmp_path))
    with pytest.raises(BadDataset, match=said):
        open_dataset(tmp_path)


def test_a_malformed_line_is_named(tmp_path: Path) -> None:
    text(grocery(tmp_path) / "val.txt", "val/a/a_0.jpg; 0; 0")
    with pytest.raises(BadDataset, match="a_0.jpg; 0; 0"):
        open_dataset(tmp_path)


def test_missing_photos_are_counted_and_three_are_named(tmp_path: Path) -> None:
    for path in sorted((grocery(tmp_path) / "train").rglob("*.jpg"))[:4]:
        path.unlink()
    with pytest.raises(BadDataset, match="4 of 12") as caught:
        open_dataset(tmp_path)
    assert str(caught.value).count(".jpg") == 3


def test_unknown_layout_names_those_tried(tmp_path: Path) -> None:
    with pytest.raises(BadDataset) as caught:
        open_dataset(tmp_path)
    assert all(word in caught.value.expected for word in ("Grocery", "Food-101", "CSV", "CLASS"))


def test_a_file_is_no_dataset(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="no folder"):
        open_dataset(photo(tmp_path / "a.jpg"))


def test_an_unknown_role_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataset, match="validate"):
        open_dataset(grocery(tmp_path)).role("validate")


# Draws

COUNTS = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def photos_of(counts: list[int], root: str = "/set") -> list[Photo]:
    return [Photo(Path(f"{root}/{c}/{n}.jpg"), c) for c, count in enumerate(counts) for n in range(count)]


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(1, 8), st.integers(0, 99), st.randoms())
def test_balanced_draw(counts: list[int], per_class: int, seed: int, chance) -> None:
    photos = photos_of(counts)
    drawn = balanced(photos, per_class, seed)
    assert Counter(p.label for p in drawn) == {c: min(per_class, count) for c, count in enumerate(counts)}
    assert set(drawn) <= set(photos) and list(drawn) == sorted(drawn, key=lambda p: p.path)
    chance.shuffle(photos)
    assert balanced(photos, per_class, seed) == drawn
    assert set(drawn) <= set(balanced(photos, per_class + 1, seed))
    elsewhere = balanced(photos_of(counts, "/other/place"), per_class, seed)
    assert [p.path.parts[-2:] for p in elsewhere] == [p.path.parts[-2:] for p in drawn]


@settings(max_examples=60, deadline=None)
@given(COUNTS, st.integers(1, 80), st.integers(0, 99), st.randoms())
def test_sample(counts: list[int], count: int, seed: int, chance) -> None:
    photos = photos_of(counts)
    drawn = sample(photos, count, seed)
    assert len(drawn) == len(set(drawn)) == min(count, len(photos))
    per_class = Counter(p.label for p in drawn)
    most = max(per_class.values())
    assert all(per_class[c] >= min(most - 1, available) for c, available in enumerate(counts))
    chance.shuffle(photos)
    assert sample(photos, count, seed) == drawn
    assert set(drawn) <= set(sample(photos, count + 1, seed))


def test_seeds_draw_differently_and_stay_as_they_are() -> None:
    photos = photos_of([50, 50])
    assert balanced(photos, 5, 0) != balanced(photos, 5, 1)
    assert sample(photos, 9, 0) != sample(photos, 9, 1)
    # Recorded results name seeds: this changes only if every one of them is to be measured again.
    assert [p.path.stem for p in balanced(photos, 3, 0)] == ["34", "39", "7", "13", "31", "7"]


def test_draws_of_nothing_are_refused() -> None:
    with pytest.raises(BadInput):
        balanced(photos_of([2]), 0, 0)
    with pytest.raises(BadInput):
        sample(photos_of([2]), 0, 0)


def test_held_out_photos_stay_when_others_come() -> None:
    few, many = photos_of([9, 9]), photos_of([12, 12])
    held, kept = (set(part) for part in hold_out(few, Path("/set"), 0.3))
    held_later, kept_later = (set(part) for part in hold_out(many, Path("/set"), 0.3))
    assert held and held <= held_later and kept <= kept_later


@given(counts=COUNTS, part=st.floats(0.05, 0.95))
def test_a_class_of_two_or_more_is_on_both_sides_and_a_lone_photo_is_kept(counts: list[int], part: float) -> None:
    held, kept = hold_out(photos_of(counts), Path("/set"), part)
    assert sorted((*held, *kept), key=lambda p: p.path) == sorted(photos_of(counts), key=lambda p: p.path)
    fewest = [Counter(p.label for p in side) for side in (held, kept)]
    assert all(fewest[1][c] >= 1 and fewest[0][c] >= (count > 1) for c, count in enumerate(counts))


def test_copies_in_a_class_are_never_parted(tmp_path: Path) -> None:
    originals = [photo(tmp_path / f"rice/{number}.png", number) for number in range(9)]
    for path in originals:
        path.with_suffix(".again.png").symlink_to(path)
        shutil.copy(path, tmp_path / "rice" / f"copy-{path.name}")
    photos = [Photo(path, 0) for path in sorted((tmp_path / "rice").iterdir())]
    held, kept = hold_out(photos, tmp_path, 0.4)
    prove_disjoint(held, kept, ("held out", "kept"))
    assert len(held) % 3 == 0 and 3 <= len(held) < len(photos) == len(held) + len(kept)


# Overlap


def test_the_same_pixels_in_two_roles_are_refused(tmp_path: Path) -> None:
    first = [Photo(photo(tmp_path / f"train/{n}.png", n), 0) for n in range(5)]
    again = [Photo(photo(tmp_path / f"test/{n}.bmp", n), 1) for n in range(1, 5)]  # other file bytes
    with pytest.raises(Overlap, match="4 photos in both train and confirm") as caught:
        prove_disjoint(first, again, ("train", "confirm"))
    assert str(caught.value).count(" = ") == 3 and "1 more" in caught.value.what and "train" in caught.value.fix


def test_different_pixels_pass(tmp_path: Path) -> None:
    photos = [Photo(photo(tmp_path / f"{n}.jpg", n), 0) for n in range(4)]
    prove_disjoint(photos[:2], photos[2:], ("train", "confirm"), tmp_path / "cache.json")


def test_size_counts_beside_pixels(tmp_path: Path) -> None:
    for name, size in (("wide", (4, 2)), ("tall", (2, 4))):
        Image.new("RGB", size, "red").save(tmp_path / f"{name}.png")
    assert pixel_hash(tmp_path / "wide.png") != pixel_hash(tmp_path / "tall.png")


def test_hashes_are_cached_until_the_photo_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = photo(tmp_path / "a.png", 1), tmp_path / "kept/hashes.json"
    before = pixel_hashes([Photo(path, 0)], cache)
    with monkeypatch.context() as patch:
        patch.setattr("tiffin.data.overlap.pixel_hash", lambda path: pytest.fail("hashed again"))
        assert pixel_hashes([Photo(path, 0)], cache) == before
    photo(path, 2)
    os.utime(path, ns=(1, 1))
    assert pixel_hashes([Photo(path, 0)], cache) != before


@pytest.mark.skipif(os.name == "nt", reason="its ctime is that of the first file of the name")
@pytest.mark.parametrize("in_place", [True, False])
def test_a_photo_replaced_by_one_of_its_size_and_time_is_hashed_anew(tmp_path: Path, in_place: bool) -> None:
    path, new, cache = tmp_path / "a.bmp", tmp_path / "new.bmp", tmp_path / "hashes.json"
    for seed, target in enumerate((path, path if in_place else new)):
        Image.fromarray(np.full((4, 4, 3), seed, np.uint8)).save(target)
        os.utime(target, (1e9, 1e9))  # as a reproducible archive has them
        target.replace(path)
        assert pixel_hashes([Photo(path, 0)], cache)[path] == pixel_hash(path)
        time.sleep(0.02)  # more than the kernel's clock ticks


@pytest.mark.parametrize("broken", ["{", "[]", '{"decoder": "another", "photos": {}}'])
def test_a_broken_or_older_cache_is_written_anew(tmp_path: Path, broken: str) -> None:
    path, cache = photo(tmp_path / "a.png", 1), tmp_path / "hashes.json"
    cache.write_text(broken)
    assert pixel_hashes([Photo(path, 0)], cache) == {path: pixel_hash(path)}
    assert str(path) in cache.read_text()


def test_a_cache_that_cannot_be_written_leaves_nothing_and_is_said(tmp_path: Path, caplog) -> None:
    path, cache = photo(tmp_path / "a.png", 1), tmp_path / "kept" / "hashes.json"
    cache.mkdir(parents=True)
    assert pixel_hashes([Photo(path, 0)], cache) == {path: pixel_hash(path)}
    assert "not kept" in caplog.text and list(cache.parent.iterdir()) == [cache]


def test_an_unreadable_photo_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"no photo")
    for name in ("a.jpg", "absent.jpg"):
        with pytest.raises(BadDataset, match=name):
            pixel_hashes([Photo(tmp_path / name, 0)])


# Where the photos come from


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache and a synthesized set of this test alone."""
    for name in ("TIFFIN_DATA", "TIFFIN_DATA_SHA256"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path.with_name(tmp_path.name + "-home")
    monkeypatch.setattr(room, "SYNTHESIZED", synthesized_set(folder / "synthesized"))
    monkeypatch.setenv("TIFFIN_CACHE", str(folder / "cache"))
    return folder


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@contextlib.contextmanager
def archive(tmp_path: Path, extra: dict[str, str] | None = None) -> Iterator[tuple[str, str]]:
    """(url, sha256) of a served archive with GitHub's shape."""
    top, file = grocery(tmp_path / "Set-fc80ba9/dataset").parent, tmp_path / "served/archive.zip"
    file.parent.mkdir()
    with zipfile.ZipFile(file, "w") as opened:
        for path in sorted(top.rglob("*")):
            opened.write(path, path.relative_to(tmp_path).as_posix())
        opened.writestr("Set-fc80ba9/README.md", "not wanted")
        for name, content in (extra or {}).items():
            opened.writestr(name, content)
    with serving(file.parent) as url:
        yield f"{url}/archive.zip", hashlib.sha256(file.read_bytes()).hexdigest()


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_download_with_the_right_hash(tmp_path: Path, home: Path) -> None:
    with archive(tmp_path) as (url, sha256):
        dataset = find_dataset(url=url, sha256=sha256.upper())
    assert (dataset.kind, dataset.root) == ("photos", home / "cache/grocery-store")
    assert sizes(dataset) == (6, 6, 2, 4)
    assert left_in(home / "cache") == ["grocery-store"]
    assert left_in(dataset.root) == [
        "classes.csv",
        "test",
        "test.txt",
        "train",
        "train.txt",
        "val",
        "val.txt",
    ]
    assert find_dataset(url="http://127.0.0.1:9/").root == dataset.root  # from the cache, asking nobody


def test_a_wrong_hash_is_an_error_and_leaves_nothing(tmp_path: Path, home: Path) -> None:
    with archive(tmp_path) as (url, _), pytest.raises(BadDataset, match="not what was promised") as caught:
        find_dataset(url=url, sha256="0" * 64)
    assert "0" * 64 in caught.value.expected and "--data" in caught.value.fix
    assert left_in(home / "cache") == []


@pytest.mark.parametrize("name", ["../evil", "Set/dataset/../../evil", "/evil", "Set\\..\\evil", "C:/evil"])
def test_an_archive_that_leads_elsewhere_is_refused(tmp_path: Path, home: Path, name: str) -> None:
    with archive(tmp_path, {name: "x"}) as (url, sha256), pytest.raises(BadDataset, match="leads elsewhere"):
        find_dataset(url=url, sha256=sha256)
    assert left_in(home / "cache") == [] and not list(home.rglob("evil"))


def test_a_link_in_an_archive_is_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("Set/dataset/link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(BadDataset, match="link"):
        room._unpack(tmp_path / "a.zip", tmp_path / "out")


def test_an_archive_that_lacks_photos_leaves_nothing(tmp_path: Path, home: Path) -> None:
    extra = {"Set-fc80ba9/dataset/train.txt": "train/absent.jpg, 0, 0\n"}
    refused = pytest.raises(BadDataset, match="absent.jpg")
    with (
        pytest.warns(UserWarning, match="Duplicate name"),
        archive(tmp_path, extra) as (url, sha256),
        refused,
    ):
        find_dataset(url=url, sha256=sha256)
    assert left_in(home / "cache") == []


def test_what_is_no_zip_is_refused(tmp_path: Path, home: Path) -> None:
    (tmp_path / "archive.zip").write_text("no zip")
    sha256 = hashlib.sha256(b"no zip").hexdigest()
    with serving(tmp_path) as url, pytest.raises(BadDataset, match="zip"):
        find_dataset(url=f"{url}/archive.zip", sha256=sha256)
    assert left_in(home / "cache") == []


def test_the_hash_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with archive(tmp_path) as (url, sha256):
        monkeypatch.setenv("TIFFIN_DATA_SHA256", sha256)
        assert download_grocery_store(tmp_path / "here", url=url).root == tmp_path / "here"


def test_without_an_archive_hash_the_content_must_be_the_official_one(tmp_path: Path, home: Path) -> None:
    with archive(tmp_path) as (url, _), pytest.raises(BadDataset, match="content hash") as caught:
        find_dataset(url=url)
    assert "git clone" in str(caught.value) and left_in(home / "cache") == []


def test_without_the_download_helper_a_folder_is_asked_for_first(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    assert find_dataset().kind == "synthesized"
    assert "no dataset is named" in caplog.text and "fix: give --data FOLDER, TIFFIN_DATA, or pip" in caplog.text


def test_download_with_the_right_content(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with archive(tmp_path) as (url, sha256):
        copy = download_grocery_store(tmp_path / "copy", url=url, sha256=sha256)
        monkeypatch.setattr(room, "CONTENT_SHA256", room.content_hash(copy.root))
        assert find_dataset(url=url).root == home / "cache" / "grocery-store"


@pytest.mark.parametrize("quiet", [False, True])
def test_no_network_falls_back_with_the_reason(caplog: pytest.LogCaptureFixture, quiet: bool) -> None:
    caplog.set_level(logging.DEBUG, "tiffin")
    with serving(Path(__file__).parent) as url:
        assert find_dataset(url=f"{url}/absent.zip", sha256="0" * 64, quiet=quiet).kind == "synthesized"
    (record,) = [record for record in caplog.records if record.name.startswith("tiffin")]
    assert "404" in record.getMessage() and record.levelno == (logging.DEBUG if quiet else logging.WARNING)


def test_a_named_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = grocery(tmp_path / "one"), grocery(tmp_path / "other")
    monkeypatch.setenv("TIFFIN_DATA", str(other))
    assert find_dataset(one).root == one
    assert find_dataset().root == other


def test_a_named_folder_that_is_absent_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadDataset, match="--data"):
        find_dataset(tmp_path / "absent")
    monkeypatch.setenv("TIFFIN_DATA", str(tmp_path / "absent"))
    with pytest.raises(BadDataset, match="TIFFIN_DATA"):
        find_dataset()


def test_a_broken_cache_folder_is_an_error_with_the_fix(home: Path) -> None:
    (home / "cache/grocery-store").mkdir(parents=True)
    with pytest.raises(BadDataset) as caught:
        find_dataset()
    assert "delete" in caught.value.fix


def test_an_absent_synthesized_set_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "SYNTHESIZED", tmp_path / "absent")
    with pytest.raises(BadDataset, match="absent"):
        synthesized()


# Corruptions

WHOLE_NUMBERS = {  # sha256 of the pixels, the first 16 digits: the same on every platform
    "defocus": "9602604acbf0dbbd",
    "motion": "67bbf6cabf551f31",
    "noise": "8cfb0ddd4ada1c82",
    "under-exposure": "5cabd1c3deef473b",
    "over-exposure": "64238dfeeb47b244",
    "occlusion": "8bb38d53d409d4a2",
}
ALL = [Corruption(name, strength) for name in KINDS for strength in STRENGTHS]
DIGEST = "5" * 64


def pattern(height: int = 90, width: int = 120) -> Image.Image:
    """Made by integer arithmetic: smooth, with edges and all levels."""
    y, x = np.mgrid[0:height, 0:width]
    levels = np.stack([(x * 255) // width, (y * 255) // height, ((x // 15 + y // 15) % 2) * 200 + 20], -1)
    return Image.fromarray(levels.astype(np.uint8))


def flat(level: int, side: int = 256) -> Image.Image:
    return Image.new("RGB", (side, side), (level,) * 3)


def light_of(image: Image.Image) -> np.ndarray:
    """Linear light, 0 to 1, by the standard's own formula."""
    level = np.asarray(image) / 255
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
def test_whole_numbers_are_the_same_on_every_platform(name: str) -> None:
    found = [corrupt(pattern(), Corruption(name, strength), DIGEST).tobytes() for strength in STRENGTHS]
    assert hashlib.sha256(b"".join(found)).hexdigest()[:16] == WHOLE_NUMBERS[name]


@pytest.mark.parametrize("corruption", ALL, ids=str)
def test_a_corruption_depends_on_the_photo_alone(corruption: Corruption) -> None:
    image = pattern(240, 320)
    once, again = (np.asarray(corrupt(image, corruption, DIGEST)) for _ in range(2))
    assert np.array_equal(once, again) and not np.array_equal(once, np.asarray(image))
    drawn = corruption.name in ("motion", "noise", "rotation", "occlusion")
    others = [np.asarray(corrupt(image, corruption, f"{seed:064x}")) for seed in range(4)]
    assert any(not np.array_equal(once, other) for other in others) == drawn
    assert parameter_of(corruption) and "%" not in parameter_of(corruption).replace(" %", "")


@pytest.mark.parametrize("name", KINDS)
def test_a_greater_strength_is_further_away(name: str) -> None:
    image = pattern(300, 400)
    clean = np.asarray(image).astype(int)
    away = [
        np.mean([abs(np.asarray(corrupt(image, Corruption(name, strength), f"{seed:064x}")) - clean).mean()
                 for seed in range(3)])
        for strength in STRENGTHS
    ]  # fmt: skip
    assert 0 < away[0] < away[1] < away[2]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.sampled_from(ALL))
def test_any_size_stays_as_it_is(width: int, height: int, corruption: Corruption) -> None:
    found = corrupt(pattern(height, width), corruption, DIGEST)
    assert (found.size, found.mode) == ((width, height), "RGB")


def test_the_clean_photo_is_untouched() -> None:
    image = pattern()
    assert corrupt(image, CLEAN, DIGEST) is image and parameter_of(CLEAN) == ""


@pytest.mark.parametrize(("name", "strength"), [("fog", 1), ("noise", 0), ("noise", 4), ("none", 1)])
def test_an_unknown_corruption_is_refused(name: str, strength: int) -> None:
    with pytest.raises(BadInput, match="corruption"):
        corruption_named(name, strength)
    with pytest.raises(BadInput, match="corruption"):
        corrupt(pattern(), Corruption(name, strength), DIGEST)


@pytest.mark.parametrize("name", ["defocus", "motion", "rotation"])
def test_an_even_photo_has_nothing_to_blur_or_turn(name: str) -> None:
    found = np.asarray(corrupt(flat(97), Corruption(name, 3), DIGEST))
    assert np.array_equal(found, np.asarray(flat(97)))


def test_exposure_counts_light_and_not_levels() -> None:
    for strength, part in zip(STRENGTHS, (4, 8, 16), strict=True):
        found = light_of(corrupt(flat(255), Corruption("under-exposure", strength), DIGEST))
        assert np.allclose(found, 1 / part, atol=0.004)
    for strength, times in zip(STRENGTHS, (2, 3, 4), strict=True):
        shown = corrupt(flat(120), Corruption("over-exposure", strength), DIGEST)
        assert np.allclose(light_of(shown), min(1.0, times * light_of(flat(120)).max()), atol=0.005)
    assert np.asarray(corrupt(flat(200), Corruption("over-exposure", 2), DIGEST)).min() == 255  # clipped


def test_defocus_makes_a_disc_of_a_point_and_keeps_its_light() -> None:
    point = np.zeros((201, 301, 3), np.uint8)
    point[100, 150] = 255
    found = light_of(corrupt(Image.fromarray(point), Corruption("defocus", 3), DIGEST))[..., 0]
    y, x = np.nonzero(found)
    radius = 0.02 * 201
    assert np.hypot(y - 100, x - 150).max() == pytest.approx(radius, abs=1)
    assert len(y) == pytest.approx(np.pi * radius**2, rel=0.15)
    assert found.sum() == pytest.approx(1, rel=0.1)  # 8-bit levels round the light of each


def test_noise_has_the_electrons_that_it_names_on_any_number_of_pixels() -> None:
    level = 150
    light = light_of(flat(level)).max()
    wanted = np.sqrt(light / 200 + (1.5 / 200) ** 2)
    for side in (256, 512):
        noisy = light_of(corrupt(flat(level, side), Corruption("noise", 2), DIGEST))
        step = side // 256
        seen = noisy.reshape(256, step, 256, step, 3).mean((1, 3))  # of the same area of the scene
        assert seen.std() == pytest.approx(wanted, rel=0.03) and seen.mean() == pytest.approx(light, rel=0.01)


def test_draws_are_normal_and_each_photo_has_its_own() -> None:
    drawn = Chance(DIGEST, "noise").normal(200_001)
    assert len(drawn) == 200_001
    assert abs(drawn.mean()) < 0.01 and abs(drawn.std() - 1) < 0.01
    assert abs(np.mean(drawn > 1.6449) - 0.05) < 0.002
    assert not np.array_equal(drawn[:50], Chance("6" * 64, "noise").normal(50))


@pytest.mark.parametrize(("strength", "share"), [(1, 0.1), (2, 0.2), (3, 0.4)])
def test_occlusion_covers_the_share_that_it_names(strength: int, share: float) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    for seed in range(5):
        found = np.asarray(corrupt(image, Corruption("occlusion", strength), f"{seed:064x}"))
        covered = (found != np.asarray(image)).any(-1)
        assert covered.mean() == pytest.approx(share, rel=0.02)
        assert len(np.unique(found[covered], axis=0)) == 1


@pytest.mark.parametrize(("shorter", "wanted"), [(1023, 1023), (1024, 512), (2500, 625), (4096, 512)])
def test_a_large_photo_is_reduced_before_it_is_spoiled(shorter: int, wanted: int) -> None:
    assert min(reduced(Image.new("RGB", (shorter + 700, shorter))).size) == wanted


def prepared(tmp_path: Path, count: int = 3) -> tuple[tuple[Photo, ...], PreparedPhotos, Preprocess]:
    """Photos of several sizes, and the same prepared."""
    host = Preprocess(24, 24, crop_fraction=0.875)
    photos = []
    for index in range(count):
        path = tmp_path / f"{index}.png"
        pattern(40 + 3 * index, 50).save(path)
        photos.append(Photo(path, index))
    return tuple(photos), prepare_photos(photos, host, tmp_path / "cache"), host


def test_corrupted_photos_are_prepared_block_by_block(tmp_path: Path) -> None:
    photos, clean, host = prepared(tmp_path)
    asked = [Corruption("noise", 1), Corruption("noise", 3)]
    steps: list[int] = []
    found = prepare_corrupted(photos, clean, asked, host, tmp_path / "cache", steps.append)
    assert found.truth.tolist() == [0, 1, 2, 0, 1, 2] and len(set(found.hashes) | set(clean.hashes)) == 9
    spoiled = corrupt(decode(photos[1].path), asked[1], clean.hashes[1])
    assert np.array_equal(found.array()[4], fit(spoiled, host)) and found.hashes[4] == pixels_hash(spoiled)
    assert steps == [1, 2, 3]


def test_corrupted_photos_are_made_once(tmp_path: Path) -> None:
    photos, clean, host = prepared(tmp_path)
    asked = [Corruption("jpeg", 2)]
    first = prepare_corrupted(photos, clean, asked, host, tmp_path / "cache")
    for photo_ in photos:
        photo_.path.unlink()  # nothing is read a second time
    assert prepare_corrupted(photos, clean, asked, host, tmp_path / "cache").hashes == first.hashes
    first.path.unlink()
    with pytest.raises(BadInput, match="no such photo"):
        prepare_corrupted(photos, clean, asked, host, tmp_path / "cache")


def test_a_disk_without_room_is_told_before_it_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, clean, host = prepared(tmp_path)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=1000))
    with pytest.raises(BadInput, match="corrupted photos take .* GB, free are"):
        prepare_corrupted(photos, clean, [Corruption("jpeg", 2)], host, tmp_path / "cache")
    with pytest.raises(BadInput, match="prepared photos take .* GB, free are"):
        prepare_photos(photos, host, tmp_path / "other")
    assert {path.name for path in (tmp_path / "other").iterdir()} == {"pixel-hashes.json"}


def test_photos_are_prepared_anew_by_another_decoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, clean, host = prepared(tmp_path)
    assert prepare_photos(photos, host, tmp_path / "cache").path == clean.path
    monkeypatch.setattr("tiffin.data.prepared.decoder", lambda: "pillow 99")
    other = prepare_photos(photos, host, tmp_path / "cache")
    assert other.path != clean.path and np.array_equal(other.array(), clean.array())


def test_nothing_is_left_of_photos_that_cannot_be_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos, _, host = prepared(tmp_path)
    folder, seen = tmp_path / "other", []

    def failing(path: Path, host: Preprocess) -> np.ndarray:
        seen.extend(each.name for each in folder.glob("*.npy"))
        if path == photos[2].path:
            raise BadInput("a photo that was taken away")
        return prepare(path, host)

    monkeypatch.setattr("tiffin.data.prepared.prepare", failing)
    with pytest.raises(BadInput, match="taken away"):
        prepare_photos(photos, host, folder)
    assert seen and {path.name for path in folder.iterdir()} == {"pixel-hashes.json"}


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    old, new = tmp_path / "photos-1.1.npy", tmp_path / "photos-1.2.npy"
    for path in (old, new):
        path.write_bytes(b"rows")
    os.utime(old, (0, 0))
    with new_array(tmp_path / "photos-1.npy", (2, 3), "rows") as array:
        array[:] = 7
    assert (np.load(tmp_path / "photos-1.npy") == 7).all() and not old.exists() and new.exists()


def test_room_is_asked_for_in_bytes_of_the_arrays_own_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=23))
    full = pytest.raises(BadInput, match="features take .* GB, free are")
    with full, new_array(tmp_path / "features-1.npy", (2, 3), "features", np.float32):
        raise AssertionError("it was begun")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=24))
    with new_array(tmp_path / "features-1.npy", (2, 3), "features", np.float32) as array:
        array[:] = 0.5
    found = np.load(tmp_path / "features-1.npy")
    assert found.dtype == np.float32 and (found == 0.5).all()


def test_a_part_of_prepared_photos_is_a_file_of_its_own(tmp_path: Path) -> None:
    _, clean, _ = prepared(tmp_path)
    some = part_of(clean, np.array([2, 0]), tmp_path)
    assert np.array_equal(some.array(), clean.array()[[2, 0]]) and some.truth.tolist() == [2, 0]
    assert some.hashes == (clean.hashes[2], clean.hashes[0])
    assert part_of(clean, np.array([2, 0]), tmp_path).path == some.path


def test_two_containers_that_fill_the_same_array_do_not_empty_each_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in every container
    path = tmp_path / "photos-1.npy"
    with new_array(path, (2, 3), "rows") as slow:
        slow[0] = 7
        with pytest.raises(BadInput), new_array(path, (2, 3), "rows"):
            raise BadInput("the other one was stopped")
        slow[1] = 7
    assert (np.load(path) == 7).all() and left_in(tmp_path) == ["photos-1.npy"]
