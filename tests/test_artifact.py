"""artifact/: the manifest's round trip, what `load` finds, what `save` leaves behind, claims, schemes, CPUs, boxes."""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import math
import os
import platform
import threading
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import IO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiffin import machine
from tiffin.artifact import Artifact, ModelFile, Preprocess, Producer, RunConfig, TensorSpec, bundle
from tiffin.artifact.bundle import BOX_VERSION, Variant, open_box, pack
from tiffin.artifact.certificate import Certificate, evidence_path, read_certificates
from tiffin.artifact.claims import read_claim, write_claim
from tiffin.artifact.cpu_class import CPU_CLASSES, ONEDNN_SWITCHES, class_here, class_named, class_of
from tiffin.artifact.files import replace_files
from tiffin.artifact.lineage import reference_of, variants_of
from tiffin.artifact.manifest import MANIFEST_VERSION, Manifest, parse_manifest
from tiffin.artifact.scheme import SCHEMES, scheme_named
from tiffin.artifact.store import atomic_folder, save
from tiffin.deploy.unpack import extract
from tiffin.errors import BadArtifact, BadInput
from tiffin.records import Predictions
from tiffin.records.certification import Evidence, check_certificate, figures, write_certificate
from tiffin.runtime import default_run

MODEL = bytes(range(256)) * 8


def manifest(**changed: object) -> Manifest:
    plain = Manifest(
        task="classification",
        format="null",
        precision="fp32",
        inputs=(TensorSpec("photos", "uint8", (None, 8, 8, 3)),),
        outputs=(TensorSpec("logits", "float32", (None, 2)),),
        files=(),
        producer=Producer("export", {"torch": "2.9"}, {"opset": 20}),
        labels=("dal", "crème brûlée"),
        preprocess=Preprocess(8, 8, golden={"rgb": "ab"}),
    )
    return dataclasses.replace(plain, **changed)  # type: ignore[arg-type]


def saved(folder: Path, **changed: object) -> Artifact:
    return save(folder, manifest(**changed), {"model.bin": MODEL, "extra.bin": b"more"})


def edit(artifact: Artifact, **fields: object) -> None:
    path = artifact.folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Manifest

WORDS = st.text(st.characters(codec="utf-8"), max_size=12)
SHOWN = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Zl", "Zp")), max_size=12)
TENSORS = st.builds(
    TensorSpec,
    WORDS,
    st.sampled_from(["uint8", "float32", "int64"]),
    st.lists(st.none() | st.integers(1, 4096), max_size=5).map(tuple),
)
RUNS = st.builds(
    RunConfig,
    WORDS,
    device=st.sampled_from(["cpu", "gpu", "gpu:1"]),
    threads=st.none() | st.integers(1, 256),
    lanes=st.integers(1, 64),
    hint=st.sampled_from(["latency", "throughput"]),
    execution_precision=st.sampled_from(["fp32", "fp16", "bf16"]),
    graph_level=st.sampled_from(["all", "none"]),
    cache=st.none() | WORDS,
)
PREPROCESSES = st.builds(
    Preprocess,
    st.integers(1, 999),
    st.integers(1, 999),
    st.floats(0.01, 1),
    st.sampled_from(["bicubic", "bilinear", "lanczos"]),
    mean=st.tuples(*[st.floats(0, 255)] * 3),
    std=st.tuples(*[st.floats(0.1, 255)] * 3),
    golden=st.dictionaries(WORDS, WORDS, max_size=3),
)
MANIFESTS = st.builds(
    manifest,
    task=st.just("other"),  # a classifier has as many labels as classes
    inputs=st.lists(TENSORS, min_size=1, max_size=3).map(tuple),
    outputs=st.lists(TENSORS, min_size=1, max_size=3).map(tuple),
    files=st.just((ModelFile("model.bin", 4, "0" * 64),)),
    labels=st.lists(SHOWN, max_size=4).map(tuple),
    preprocess=st.none() | PREPROCESSES,
    run=st.none() | RUNS,
    scheme=st.none() | st.sampled_from(sorted(SCHEMES)),
    temperature=st.floats(0.01, 100),
    built_for=st.dictionaries(WORDS, WORDS | st.lists(WORDS), max_size=3),
)


@settings(max_examples=150, deadline=None)
@given(MANIFESTS)
def test_manifest_round_trip(made: Manifest) -> None:
    read = parse_manifest(made.to_json(), "here")
    assert read == made and read.digest() == made.digest()


@settings(max_examples=60, deadline=None)
@given(MANIFESTS, MANIFESTS)
def test_manifests_have_one_digest_exactly_if_they_are_equal(one: Manifest, other: Manifest) -> None:
    assert (one.digest() == other.digest()) == (one == other)


def test_digest_depends_on_neither_key_order_nor_whitespace(tmp_path: Path) -> None:
    artifact = saved(tmp_path / "a")
    path = artifact.folder / "manifest.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(raw.items()))))
    assert Artifact.load(artifact.folder).digest == artifact.digest


def test_digest_is_of_content_not_of_place(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "a"), saved(tmp_path / "b")
    assert one.digest == other.digest
    assert saved(tmp_path / "c", temperature=2.0).digest != one.digest


@pytest.mark.parametrize(
    "wrong",
    [
        {"lanes": 0},
        {"threads": 0},
        {"hint": "fast"},
        {"execution_precision": "int8"},
        {"graph_level": "some"},
    ],
)
def test_a_wrong_run_config_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput, match=str(next(iter(wrong.values())))):
        RunConfig("null", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop_fraction": 0.0},
        {"crop_fraction": 1.01},
        {"height": 0},
        {"width": -1},
        {"height": 32.5},
        {"height": "8"},
        {"std": (0.0, 1.0, 1.0)},
        {"std": (1.0, 1.0)},
        {"mean": tuple("abc")},
        {"mean": (float("nan"), 0.0, 0.0)},
        {"interpolation": "nearest"},
        {"antialias": False},
    ],
)
def test_a_wrong_preprocess_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(BadInput):
        Preprocess(**{"height": 8, "width": 8, **wrong})  # type: ignore[arg-type]


def test_preprocess_digest_is_of_the_host_part() -> None:
    host = Preprocess(8, 8)
    assert host.digest() == dataclasses.replace(host, mean=(1.0,) * 3, std=(2.0,) * 3).digest()
    assert host.digest() != dataclasses.replace(host, interpolation="bilinear").digest()
    assert host.digest() != dataclasses.replace(host, version=2).digest()


# Load


def test_load_gives_what_was_saved(tmp_path: Path) -> None:
    artifact = saved(tmp_path / "deep/down/a", run=RunConfig("null", threads=3))
    again = Artifact.load(str(artifact.folder))
    assert again.manifest == artifact.manifest and again.manifest.run == RunConfig("null", threads=3)
    assert again.model_path.read_bytes() == MODEL and again.size_bytes == len(MODEL) + 4
    again.verify()


def test_a_changed_byte_is_found_and_the_file_named(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a").folder
    Artifact.load(folder)
    (folder / "extra.bin").write_bytes(b"mor3")
    with pytest.raises(BadArtifact, match="extra.bin.*bytes changed"):
        Artifact.load(folder)
    with pytest.raises(BadArtifact, match=r"extra\.bin"):  # and again: a failure leaves no stamp
        Artifact.load(folder)


def test_verify_finds_a_changed_byte_whose_file_times_were_kept(tmp_path: Path) -> None:
    path = saved(tmp_path / "a").model_path
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"\xff")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BadArtifact, match=r"model\.bin"):
        Artifact.load(path.parent, verify=True)


def test_a_copied_artifact_is_hashed_anew(tmp_path: Path) -> None:
    folder = saved(tmp_path / "a").folder
    moved = folder.rename(tmp_path / "b")
    assert Artifact.load(moved).digest
    (moved / ".verified.json").write_text("{")
    assert Artifact.load(moved).digest


@pytest.mark.parametrize(("content", "said"), [(MODEL[:-1], "2,047 bytes"), (b"", "0 bytes"), (None, "missing")])
def test_a_cut_or_missing_file_is_named(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = saved(tmp_path / "a").model_path
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(BadArtifact, match=rf"model\.bin: {said}") as caught:
        Artifact.load(path.parent)
    assert "2,048" in caught.value.expected and caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"{", "not a manifest"),
        (b"", "not a manifest"),
        (b"[]", "not a manifest"),
        (b"null", "not a manifest"),
        (b"\xff\xfe\xff", "not a manifest"),
        (b"{}", "version"),
        (b'{"version": "new"}', "not a manifest"),
        (b'{"version": null}', "not a manifest"),
        (b'{"version": 1, "version": 2}', "'version' stands twice"),
        (b'{"version": Infinity}', "not a manifest"),
        pytest.param(b"[" * 100_000, "not a manifest", id="deep"),
        (b'{"version": 1}', "field"),
    ],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: bytes, said: str) -> None:
    folder = saved(tmp_path / "a").folder
    (folder / "manifest.json").write_bytes(text)
    with pytest.raises(BadArtifact, match=said):
        Artifact.load(folder)


def test_a_newer_manifest_says_to_upgrade(tmp_path: Path) -> None:
    artifact = saved(tmp_path / "a")
    edit(artifact, version=MANIFEST_VERSION + 1, unheard_of=True)
    with pytest.raises(BadArtifact, match=f"version {MANIFEST_VERSION + 1}") as caught:
        Artifact.load(artifact.folder)
    assert "upgrade" in caught.value.fix


TENSOR = {"name": "x", "dtype": "float32", "shape": [None, 2]}
BAD_TENSORS = [("name", 3), ("dtype", "float33"), ("dtype", None), ("shape", "ab"), ("shape", [-1]), ("shape", [1.5])]
FILE = {"name": "model.bin", "size_bytes": len(MODEL), "sha256": "0" * 64}
BAD_FILES = [("name", 3), ("name", None), ("size_bytes", "2048"), ("size_bytes", -1), ("sha256", 7), ("sha256", "0")]
PREPROCESS = Preprocess(8, 8).plain()


@pytest.mark.parametrize(
    "fields",
    [
        {"unheard_of": 1},
        {"inputs": [{"dtype": "uint8", "shape": [1]}]},
        {"inputs": 3},
        {"run": {"backend": "null", "hint": "fast"}},
        {"run": {"backend": "null", "gears": 4}},
        {"preprocess": {"height": 8}},
        {"producer": None},
        {"files": []},
        *({"files": [{**FILE, name: wrong}]} for name, wrong in BAD_FILES),
        {"format": ["onnx"]},
        *({end: [{**TENSOR, name: wrong}]} for end in ("inputs", "outputs") for name, wrong in BAD_TENSORS),
        *({end: []} for end in ("inputs", "outputs")),
        *({"labels": wrong} for wrong in (["dal"], "ab", [1, 2], ["\ud800", "dal"], ["dal", "na\x1ban"])),
        *({"temperature": wrong} for wrong in ("x", -1, 0, float("nan"), float("inf"), True, 10**400)),
        {"preprocess": {**PREPROCESS, "height": 1.5}},
        {"preprocess": {**PREPROCESS, "mean": [0, 0]}},
        {"run": {"backend": "null", "lanes": 1.5}},
        {"calibration": [7]},
        {"parent": 7},
        {"built_for": []},
    ],
)
def test_a_wrong_field_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    artifact = saved(tmp_path / "a")
    edit(artifact, **fields)
    with pytest.raises(BadArtifact, match=r"manifest\.json.*(field wrong|not a manifest .*surrogates)"):
        Artifact.load(artifact.folder)


@pytest.mark.parametrize("temperature", [-1.0, 0.0, math.nan, math.inf])
def test_no_artifact_is_made_with_a_temperature_that_cannot_be(temperature: float) -> None:
    with pytest.raises(BadInput, match="temperature"):
        manifest(temperature=temperature)


@pytest.mark.parametrize("label", ["two\nlines", "a\ttab", "\x1b]0;title\x07", "\x9b31m", "\u2028"])
def test_no_artifact_is_made_with_a_label_that_steers_the_terminal(label: str) -> None:
    with pytest.raises(BadInput, match="holds a control character"):
        manifest(labels=("dal", label))


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="no file here that root cannot read")
@pytest.mark.parametrize("name", ["manifest.json", "model.bin"])
def test_what_cannot_be_read_is_named_and_passed_over_by_its_neighbours(tmp_path: Path, name: str) -> None:
    first, *_, last = family(tmp_path)
    folder = save(tmp_path / "a locked one", manifest(), {"model.bin": b""}).folder
    (folder / name).unlink()
    (folder / name).symlink_to("/proc/self/mem")  # of 0 bytes, and an error to whoever reads it
    with pytest.raises(BadArtifact, match="a locked one.* cannot be read"):
        Artifact.load(folder)
    assert reference_of(last).digest == first.digest


def test_a_folder_without_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    for folder, what in ((tmp_path, r"no manifest\.json"), (tmp_path / "absent", "no such folder")):
        with pytest.raises(BadArtifact, match=what) as caught:
            Artifact.load(folder)
        assert "tiffin export" in caught.value.fix


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "sub/model.bin", "..", ""])
def test_a_file_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret").write_bytes(b"1234")
    artifact = saved(tmp_path / "a")
    edit(artifact, files=[{"name": name, "size_bytes": 4, "sha256": "0" * 64}])
    with pytest.raises(BadArtifact, match="leaves the folder"):
        Artifact.load(artifact.folder)


# Save


@pytest.mark.parametrize("name", ["../evil", "/tmp/evil", "sub/evil", "", "..", "manifest.json", "claims"])
def test_save_writes_plain_names_only(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="file name"):
        save(tmp_path / "a", manifest(), {"model.bin": MODEL, name: b"x"})
    assert left_in(tmp_path) == []


def test_a_file_may_be_copied_in(tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(MODEL)
    artifact = save(tmp_path / "a", manifest(), {"model.bin": tmp_path / "source"})
    assert artifact.model_path.read_bytes() == MODEL and (tmp_path / "source").exists()


def test_an_artifact_is_replaced_whole(tmp_path: Path) -> None:
    old = saved(tmp_path / "a")
    write_claim(old, "score", {"top1": 0.9})
    new = save(tmp_path / "a", manifest(temperature=2.0), {"other.bin": b"x"})
    assert Artifact.load(tmp_path / "a").digest == new.digest != old.digest
    assert read_claim(new, "score") is None and not (tmp_path / "a/model.bin").exists()
    assert left_in(tmp_path) == ["a"]


def test_an_empty_folder_may_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert saved(tmp_path / "a").digest


def test_a_foreign_folder_or_file_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/only-copy.tex").write_text("\\section{}")
    (tmp_path / "file").write_text("words")
    for name in ("thesis", "file"):
        with pytest.raises(BadInput, match="is no artifact") as caught:
            saved(tmp_path / name)
        assert "--out" in caught.value.fix
    assert left_in(tmp_path) == ["file", "thesis"] and left_in(tmp_path / "thesis") == ["only-copy.tex"]
    assert (tmp_path / "file").read_text() == "words"


@pytest.mark.parametrize("other", ["notes.txt", "int8/manifest.json", "manifest.json"])
def test_an_artifact_is_replaced_only_where_nothing_else_is_lost(tmp_path: Path, other: str) -> None:
    """A web application's manifest is called as ours."""
    if other == "manifest.json":
        (tmp_path / "a").mkdir()
        (tmp_path / "a/index.html").write_text("<html>")
    else:
        saved(tmp_path / "a")
    (tmp_path / "a" / other).parent.mkdir(exist_ok=True)
    (tmp_path / "a" / other).write_text('{"name": "theirs"}')
    before = left_in(tmp_path / "a")
    with pytest.raises(
        BadInput, match="is no artifact|holds '(notes.txt|int8)', which is not its artifact's"
    ) as caught:
        saved(tmp_path / "a")
    assert "--out" in caught.value.fix and left_in(tmp_path / "a") == before and left_in(tmp_path) == ["a"]


def test_one_whose_manifest_is_damaged_is_replaced(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a")
    (tmp_path / "a/manifest.json").write_text("{")
    assert saved(tmp_path / "a").digest == whole.digest


def test_an_artifact_that_is_opened_writes_through_no_link(tmp_path: Path) -> None:
    artifact = saved(tmp_path / "a")
    (tmp_path / "diary").write_text("mine")
    stamp = tmp_path / "a/.verified.json"
    stamp.unlink(missing_ok=True)
    stamp.symlink_to(tmp_path / "diary")
    assert Artifact.load(artifact.folder).digest == artifact.digest
    assert (tmp_path / "diary").read_text() == "mine" and not stamp.is_symlink()


def test_a_claim_that_cannot_be_read_is_one_error(tmp_path: Path) -> None:
    artifact = saved(tmp_path / "a")
    write_claim(artifact, "score", {"top1": 0.9})
    (tmp_path / "a/claims/score.json").unlink()
    (tmp_path / "a/claims/score.json").symlink_to("/proc/self/mem")  # an error to whoever reads it
    with pytest.raises(BadArtifact, match=r"claims/score\.json: cannot be read"):
        read_claim(artifact, "score")


def test_an_unwritable_folder_is_refused(tmp_path: Path) -> None:
    root = os.geteuid() == 0  # writes everywhere but to /proc
    place = Path("/proc") if root else tmp_path
    tmp_path.chmod(0o555)
    try:
        with pytest.raises(BadInput, match="cannot write") as caught:
            saved(place / "tiffin-test")
        assert "--out" in caught.value.fix and not (place / "tiffin-test").exists()
    finally:
        tmp_path.chmod(0o755)


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("words")
    with pytest.raises(BadInput, match="cannot write"):
        saved(tmp_path / "file/a")
    assert left_in(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.parametrize("existed", [False, True])
def test_an_interrupted_save_leaves_nothing_of_itself(
    tmp_path: Path, error: type[BaseException], existed: bool
) -> None:
    before = saved(tmp_path / "a").digest if existed else None
    with pytest.raises(error), atomic_folder(tmp_path / "a") as draft:
        (draft / "model.bin").write_bytes(b"half")
        raise error
    assert left_in(tmp_path) == (["a"] if existed else [])
    if existed:
        assert Artifact.load(tmp_path / "a", verify=True).digest == before


@pytest.mark.parametrize("after", [1, 2])
def test_a_signal_between_the_renames_of_a_replaced_artifact_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    saved(tmp_path / "a")
    real, done = Path.rename, []

    def rename(path: Path, target: Path) -> Path:
        real(path, target)
        done.append(path)
        if len(done) == after:
            raise KeyboardInterrupt
        return target

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        saved(tmp_path / "a", temperature=2.0)
    assert left_in(tmp_path) == ["a"] and Artifact.load(tmp_path / "a").manifest.temperature == float(after)


def test_a_source_file_that_is_absent_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot read .*absent") as caught:
        save(tmp_path / "a", manifest(), {"one": b"1", "two": tmp_path / "absent"})
    assert left_in(tmp_path) == [] and "--out" not in caught.value.fix


@pytest.mark.parametrize("gone", ["model.bin", "claims/score.json"])
def test_a_copy_of_an_artifact_says_which_file_is_gone(tmp_path: Path, gone: str) -> None:
    artifact = saved(tmp_path / "a")
    write_claim(artifact, "score", {"top1": 0.9})
    (artifact.folder / gone).unlink()
    (artifact.folder / gone).symlink_to("nowhere")
    with pytest.raises(BadInput, match=f"cannot read .*{gone}"):
        extract(artifact, tmp_path / "b")
    assert left_in(tmp_path) == ["a"]


def test_a_disk_that_is_full_is_what_cannot_be_written(tmp_path: Path) -> None:
    full = errno.ENOSPC, "No space left on device"
    for names in ((), ("draft",), ("elsewhere", None, "draft")):  # shutil's copies name both
        with pytest.raises(BadInput, match="cannot write .*/a ") as caught, atomic_folder(tmp_path / "a") as draft:
            raise OSError(*full, *(str(draft / "model.bin") if name == "draft" else name for name in names))
        assert "--out" in caught.value.fix and left_in(tmp_path) == []


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path: Path) -> None:
    saved(tmp_path / "real")
    (tmp_path / "cur").symlink_to("real")
    new = saved(tmp_path / "cur", temperature=2.0)
    assert (tmp_path / "cur").is_symlink() and left_in(tmp_path) == ["cur", "real"]
    assert Artifact.load(tmp_path / "real").digest == new.digest


@pytest.mark.skipif(os.name == "nt", reason="no umask there")
@pytest.mark.parametrize(
    ("mask", "folder", "file"), [(0o022, 0o755, 0o644), (0o002, 0o775, 0o664), (0o077, 0o700, 0o600)]
)
def test_what_is_written_has_the_permissions_that_the_umask_leaves(
    tmp_path: Path, mask: int, folder: int, file: int
) -> None:
    before = os.umask(mask)
    try:
        artifact = saved(tmp_path / "a")
        write_claim(artifact, "score", {"top1": 0.9})
    finally:
        os.umask(before)
    assert artifact.folder.stat().st_mode & 0o777 == folder
    assert (artifact.folder / "claims/score.json").stat().st_mode & 0o777 == file


# Claims


def test_a_claim_that_says_something_twice_is_refused(tmp_path: Path) -> None:
    artifact = saved(tmp_path / "a")
    write_claim(artifact, "score", {"top1": 0.9})
    path = tmp_path / "a/claims/score.json"
    path.write_text(path.read_text().replace('"top1"', '"top1": 0.99, "top1"'))
    with pytest.raises(BadArtifact, match="'top1' stands twice"):
        read_claim(artifact, "score")


def test_claims_do_not_change_the_digest(tmp_path: Path) -> None:
    artifact = saved(tmp_path / "a")
    write_claim(artifact, "score", {"top1": 0.9, "artifact": "not yours to say"})
    again = Artifact.load(tmp_path / "a", verify=True)
    assert again.digest == artifact.digest
    found = read_claim(again, "score")
    assert found is not None and (found["top1"], found["artifact"]) == (0.9, artifact.digest)
    write_claim(artifact, "score", {"top1": 0.8})
    assert read_claim(again, "score") == {"artifact": artifact.digest, "kind": "score", "top1": 0.8}
    assert left_in(artifact.folder / "claims") == ["score.json"]


def test_nothing_claimed_is_none(tmp_path: Path) -> None:
    assert read_claim(saved(tmp_path / "a"), "score") is None


def test_a_claim_about_another_artifact_is_refused(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "a"), saved(tmp_path / "b", temperature=2.0)
    write_claim(one, "score", {"top1": 0.9})
    (other.folder / "claims").mkdir()
    (one.folder / "claims/score.json").rename(other.folder / "claims/score.json")
    with pytest.raises(BadArtifact, match=one.digest[:12]):
        read_claim(other, "score")


@pytest.mark.parametrize("text", ["", "{", "[]", '"words"', "[" * 100_000])
def test_a_broken_claim_is_named(tmp_path: Path, text: str) -> None:
    artifact = saved(tmp_path / "a")
    (artifact.folder / "claims").mkdir()
    (artifact.folder / "claims/score.json").write_text(text)
    with pytest.raises(BadArtifact, match=r"score\.json"):
        read_claim(artifact, "score")


# Schemes


def test_schemes_by_name() -> None:
    for name in SCHEMES:
        assert scheme_named(name).name == name
    with pytest.raises(BadInput, match="'gpu'") as caught:
        scheme_named("gpu")
    assert all(name in caught.value.expected for name in SCHEMES)


def test_signed_weights_of_full_range_are_wrong_without_vnni() -> None:
    for scheme in SCHEMES.values():
        assert scheme.needs_vnni == (scheme.weight_bits == 8 and scheme.weights == "int8")
        assert not (scheme.symmetric_activations and scheme.activations != "int8")


# Classes of CPU

_AVX2 = "sse4_1 sse4_2 movbe popcnt aes avx f16c rdrand fma bmi1 avx2 bmi2"
_AVX512 = f"{_AVX2} avx512f avx512dq avx512cd avx512bw avx512vl"
_A76 = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
CPUS = {  # of /proc/cpuinfo, without what no class asks for
    "Atom": ("x86_64", "sse2 ssse3 sse4_1 sse4_2 movbe popcnt aes rdrand", "sse41"),
    "Haswell": ("x86_64", _AVX2, "avx2"),
    "Knights Landing": ("x86_64", f"{_AVX2} avx512f avx512pf avx512er avx512cd", "avx2"),
    "N100": ("x86_64", f"{_AVX2} avx_vnni serialize", "avx_vnni"),
    "Skylake-X": ("x86_64", _AVX512, "avx512"),
    "Cascade Lake": ("x86_64", f"{_AVX512} avx512_vnni", "vnni"),
    "Zen 4": ("x86_64", f"{_AVX512} sse4a avx512ifma avx512_bf16 avx512vbmi avx512_vnni avx512_bitalg", "bf16"),
    "Sapphire Rapids": (
        "x86_64", f"{_AVX512} avx_vnni avx512_bf16 avx512_vnni amx_bf16 avx512_fp16 amx_tile amx_int8", "amx",
    ),
    "Pi 4": ("aarch64", "fp asimd evtstrm crc32 cpuid", "neon"),
    "Pi 5": ("aarch64", _A76, "dotprod"),
    "Graviton 3": ("aarch64", f"{_A76} jscvt fcma sha3 sha512 sve asimdfhm svei8mm svebf16 i8mm bf16", "i8mm"),
}  # fmt: skip
_SOME = st.frozensets(st.sampled_from(sorted({flag for _, flags, _ in CPUS.values() for flag in flags.split()})))


@pytest.mark.parametrize("cpu", CPUS)
def test_a_cpu_is_in_its_class(cpu: str) -> None:
    architecture, flags, name = CPUS[cpu]
    assert class_of(frozenset(flags.split()), architecture) == class_named(name)


@pytest.mark.parametrize(
    ("flags", "architecture"),
    [(_AVX512, "riscv64"), (_A76, "x86_64"), ("sse2 ssse3", "x86_64"), ("", "aarch64"), (_AVX512, "")],
)
def test_a_cpu_below_the_table_or_unknown_is_of_no_class(flags: str, architecture: str) -> None:
    assert class_of(frozenset(flags.split()), architecture) is None


@settings(max_examples=200, deadline=None)
@given(_SOME, _SOME, st.sampled_from(["x86_64", "aarch64"]))
def test_more_flags_never_lower_the_class(some: frozenset[str], more: frozenset[str], architecture: str) -> None:
    order = [None, *CPU_CLASSES.values()]
    less, all_of_them = class_of(some, architecture), class_of(some | more, architecture)
    assert order.index(less) <= order.index(all_of_them)
    assert less is None or (less.machine == architecture and less.features <= some)


def test_an_unknown_class_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match="'avx9'") as caught:
        class_named("avx9")
    assert all(name in caught.value.expected for name in CPU_CLASSES)


def put_in(monkeypatch: pytest.MonkeyPatch, cpu: str, switch: str | None = None) -> None:
    architecture, flags, _ = CPUS[cpu]
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(platform, "machine", lambda: architecture)
    monkeypatch.delenv(ONEDNN_SWITCHES[0], raising=False)
    if switch is not None:
        monkeypatch.setenv(ONEDNN_SWITCHES[0], switch)


@pytest.mark.parametrize(
    ("cpu", "switch", "backend", "name"),
    [
        ("Zen 4", None, "openvino", "bf16"),
        ("Zen 4", "AVX2", "openvino", "avx2"),
        ("Zen 4", "avx2", "torch", "avx2"),
        ("Zen 4", "AVX512_CORE", "openvino", "avx512"),
        ("Zen 4", "AVX2", "onnxruntime", "bf16"),  # has no switch
        ("Zen 4", "AVX2", "", "bf16"),  # the CPU's own
        ("Zen 4", "AVX512_CORE_AMX", "openvino", "bf16"),
        ("Haswell", "AVX512_CORE_VNNI", "torch", "avx2"),
        ("Zen 4", "FASTEST", "openvino", "bf16"),
        ("Zen 4", "", "openvino", "bf16"),
        ("Pi 5", "SSE41", "openvino", "dotprod"),
        ("Sapphire Rapids", "AVX2_VNNI", "openvino", "avx_vnni"),
        pytest.param("Cascade Lake", "AVX2_VNNI", "openvino", "avx2"),
        pytest.param("Skylake-X", "AVX2_VNNI_2", "torch", "avx2"),
    ],
)
def test_the_switch_lowers_the_class_of_engines_that_obey_it(
    monkeypatch: pytest.MonkeyPatch, cpu: str, switch: str | None, backend: str, name: str
) -> None:
    put_in(monkeypatch, cpu, switch)
    assert class_here(backend) == class_named(name)


def test_a_cpu_of_no_class_gets_none_by_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch, "Zen 4", "AVX2")
    monkeypatch.setattr(machine, "cpu_flags", frozenset)
    assert class_here("openvino") is None


@pytest.mark.parametrize(
    ("switch", "name"),
    [  # oneDNN 3, "CPU dispatcher control", from the least on
        ("SSE41", "sse41"),
        ("AVX", "sse41"),
        ("AVX2", "avx2"),
        ("AVX2_VNNI", "avx_vnni"),
        ("AVX2_VNNI_2", "avx_vnni"),
        ("AVX512_CORE", "avx512"),
        ("AVX512_CORE_VNNI", "vnni"),
        ("AVX512_CORE_BF16", "bf16"),
        ("AVX512_CORE_FP16", "bf16"),
        pytest.param("AVX10_1_512", "bf16"),  # another name of the last
        ("AVX512_CORE_AMX", "amx"),
        ("AVX10_1_512_AMX", "amx"),
        ("AVX512_CORE_AMX_FP16", "amx"),
        ("DEFAULT", "amx"),
    ],
)
def test_every_value_of_the_switch_leaves_a_class_of_x86(
    monkeypatch: pytest.MonkeyPatch, switch: str, name: str
) -> None:
    put_in(monkeypatch, "Sapphire Rapids", switch)
    assert class_here("openvino") == class_named(name)


# Lineage


def family(folder: Path) -> tuple[Artifact, Artifact, Artifact]:
    """An fp32 artifact, what was quantized from it, and what was compiled from that, side by side."""
    first = saved(folder / "fp32", checkpoint="c0")
    second = saved(folder / "int8", precision="int8", parent=first.digest, checkpoint="c0")
    third = saved(folder / "compiled", precision="int8", parent=second.digest, checkpoint="c0", temperature=2.0)
    return first, second, third


def test_the_fp32_ancestor_is_found_beside_over_generations(tmp_path: Path) -> None:
    members = family(tmp_path)
    saved(tmp_path / "stranger", temperature=9.0)
    assert {reference_of(member).digest for member in members} == {members[0].digest}


def test_an_ancestor_is_found_from_the_folder_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, _ = family(tmp_path)
    monkeypatch.chdir(second.folder)
    assert reference_of(Artifact.load(".")).digest == first.digest


@pytest.mark.parametrize("gone", ["fp32", "int8"])
def test_a_missing_ancestor_has_to_be_named(tmp_path: Path, gone: str) -> None:
    *_, last = family(tmp_path)
    (tmp_path / gone / "manifest.json").unlink()
    with pytest.raises(BadInput, match="compiled: its fp32 ancestor") as caught:
        reference_of(last)
    assert "--reference" in caught.value.fix


def test_broken_folders_beside_are_passed_over(tmp_path: Path) -> None:
    first, _, last = family(tmp_path)
    saved(tmp_path / "a cut one").model_path.write_bytes(b"half")
    (tmp_path / "0").mkdir()
    (tmp_path / "0/manifest.json").write_text("{")
    (tmp_path / "1").write_text("words")
    assert reference_of(last).digest == first.digest


def test_variants_are_of_the_same_checkpoint(tmp_path: Path) -> None:
    first, second, third = family(tmp_path)
    saved(tmp_path / "stranger", checkpoint="c1")
    saved(tmp_path / "nobody")
    assert [other.folder.name for other in variants_of(second)] == ["compiled", "fp32"]
    assert list(variants_of(Artifact.load(tmp_path / "nobody"))) == []
    assert [other.digest for other in variants_of(first)] == [third.digest, second.digest]


# Boxes

NOISE = np.random.default_rng(0).bytes(40_000)  # does not compress


def noisy(folder: Path, content: bytes = NOISE, **changed: object) -> Artifact:
    return save(folder, manifest(**changed), {"model.bin": content})


def box_of(target: Path, *artifacts: Artifact, about: dict[str, object] | None = None) -> Path:
    return pack(target, [Variant(artifact, RunConfig("null")) for artifact in artifacts], about or {})


def crafted(path: Path, change: Callable[[dict[str, bytes]], object]) -> Path:
    """The same box with other entries: `change` gets name → content."""
    with zipfile.ZipFile(path) as box:
        entries = {name: box.read(name) for name in box.namelist()}
    change(entries)
    with zipfile.ZipFile(path, "w") as box:
        for name, content in entries.items():
            box.writestr(name, content)
    return path


def reindexed(path: Path, change: Callable[[dict], object]) -> Path:
    """The same box with another index: `change` gets what box.json holds."""

    def edited(entries: dict[str, bytes]) -> None:
        index = json.loads(entries["box.json"])
        change(index)
        entries["box.json"] = json.dumps(index).encode()

    return crafted(path, edited)


def certificate(artifact: Artifact, cpu_class: str) -> Certificate:
    """Written beside an artifact: 100 photos, one answer lost."""
    photos = tuple(f"{n:064x}" for n in range(100))
    base = Predictions.from_logits(photos, np.zeros(100, np.int64), np.tile([1.0, 0.0], (100, 1)), "photos")
    top = np.where(np.arange(100)[:, None] == 7, 1, base.top)
    evidence = Evidence.of(dataclasses.replace(base, top=top), base)
    made = Certificate(
        cpu_class, "null", "1", "fp32", "native", "", "whole", {"name": "tiny", "count": 100},
        margin=0.01, native_class="", reference="ab" * 32, tiffin="0",
        created="2026-01-01T00:00:00+00:00", **figures(evidence, "whole", 0.01),
    )  # fmt: skip
    write_certificate(artifact, made, evidence)
    return made


def test_a_box_gives_its_artifacts_and_runs_in_order(tmp_path: Path) -> None:
    fast, slow = saved(tmp_path / "fast", precision="int8"), saved(tmp_path / "a slow one")
    runs = RunConfig("null", threads=2, hint="throughput"), RunConfig("onnxruntime")
    about = {"order": "as measured", "ms": {"fast": 0.5}}
    path = pack(tmp_path / "deep/down/m.tiffin", [Variant(fast, runs[0]), Variant(slow, runs[1])], about)
    assert left_in(path.parent) == ["m.tiffin"]
    box = open_box(path, tmp_path / "cache")
    assert [variant.run for variant in box.variants] == list(runs)
    assert [variant.artifact.folder.name for variant in box.variants] == ["fast", "a slow one"]
    assert (box.path, box.about) == (path, about)
    for one, other in zip((fast, slow), box.variants, strict=True):
        assert other.artifact.manifest == one.manifest and other.artifact.model_path.read_bytes() == MODEL
        Artifact.load(other.artifact.folder, verify=True)


def test_equal_files_are_kept_once_and_unpacked_once(tmp_path: Path) -> None:
    one, twin = noisy(tmp_path / "one"), noisy(tmp_path / "twin", temperature=2.0)
    other = noisy(tmp_path / "other", NOISE[::-1], temperature=3.0)
    alone, both, all_three = (
        box_of(tmp_path / f"{len(held)}.tiffin", *held).stat().st_size
        for held in ([one], [one, twin], [one, twin, other])
    )
    assert both - alone < len(NOISE) / 10 and all_three - both > len(NOISE)
    first, second, third = (v.artifact.model_path for v in open_box(tmp_path / "3.tiffin", tmp_path / "c").variants)
    assert first.samefile(second) and not first.samefile(third)
    assert third.read_bytes() == NOISE[::-1]


def test_one_artifact_may_be_held_for_several_engines(tmp_path: Path) -> None:
    artifact, other = noisy(tmp_path / "a"), saved(tmp_path / "b")
    held = [
        Variant(artifact, RunConfig("openvino")),
        Variant(other, RunConfig("null")),
        Variant(artifact, RunConfig("onnxruntime", threads=2)),
    ]
    path = pack(tmp_path / "m.tiffin", held, {})
    assert path.stat().st_size < 1.2 * len(NOISE)
    found = open_box(path, tmp_path / "cache").variants
    assert [variant.name for variant in found] == ["a@openvino", "b@null", "a@onnxruntime"]
    assert [(v.artifact.digest, v.run) for v in found] == [(v.artifact.digest, v.run) for v in held]


def test_packing_twice_gives_equal_bytes(tmp_path: Path) -> None:
    artifact = saved(tmp_path / "a")
    certificate(artifact, "avx2")
    first = box_of(tmp_path / "1.tiffin", artifact).read_bytes()
    os.utime(artifact.model_path, (0, 10**9))
    assert box_of(tmp_path / "2.tiffin", Artifact.load(artifact.folder)).read_bytes() == first


def test_claims_travel_in_a_box(tmp_path: Path) -> None:
    one, other = saved(tmp_path / "one"), saved(tmp_path / "other", temperature=2.0)
    write_claim(one, "score", {"top1": 0.9})
    made = [certificate(one, "avx2"), certificate(one, "neon")]
    unpacked = [v.artifact for v in open_box(box_of(tmp_path / "m.tiffin", one, other), tmp_path / "cache").variants]
    assert read_certificates(unpacked[0]) == made and read_certificates(unpacked[1]) == []
    for found in made:
        assert check_certificate(unpacked[0], found).photos == check_certificate(one, found).photos
    assert (read_claim(unpacked[0], "score") or {})["top1"] == 0.9


def test_predictions_that_unpack_to_any_size_are_not_read(tmp_path: Path) -> None:
    artifact = saved(tmp_path / "a")
    made = certificate(artifact, "avx2")
    np.savez_compressed(evidence_path(artifact, made), truth=np.zeros(40_000_000, np.int32))
    with pytest.raises(BadArtifact, match=r"would unpack to 160,000,"):
        check_certificate(artifact, made)


def test_boxes_are_unpacked_into_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIFFIN_CACHE", str(tmp_path / "cache"))
    path = box_of(tmp_path / "m.tiffin", saved(tmp_path / "a"))
    assert open_box(path).variants[0].artifact.folder.parents[1] == tmp_path / "cache/boxes"


def test_a_box_is_unpacked_once_however_often_it_is_opened_or_copied(tmp_path: Path) -> None:
    path, cache = box_of(tmp_path / "m.tiffin", saved(tmp_path / "a"), noisy(tmp_path / "b")), tmp_path / "cache"

    def seen() -> dict[Path, tuple[int, int]]:
        return {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in cache.rglob("*")}

    open_box(path, cache)
    before = seen()
    open_box(path, cache)
    open_box(path.rename(tmp_path / "moved.tiffin"), cache)
    assert seen() == before
    open_box(box_of(tmp_path / "n.tiffin", noisy(tmp_path / "b")), cache)
    assert len(left_in(cache)) == 2


def test_a_box_may_be_opened_by_many_at_once(tmp_path: Path) -> None:
    path = box_of(tmp_path / "m.tiffin", noisy(tmp_path / "a", NOISE * 50))
    failed: list[BaseException] = []

    def opening(cache: Path, start: threading.Barrier) -> None:
        try:
            start.wait(20)
            open_box(path, cache)
        except Exception as error:
            failed.append(error)

    for count in range(12):
        start = threading.Barrier(6)
        threads = [threading.Thread(target=opening, args=(tmp_path / str(count), start)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"labels": ("dal", "naan")}, "labels"),
        ({"labels": ("crème brûlée", "dal")}, "labels"),
        ({"task": "features"}, "task"),
        ({"inputs": (TensorSpec("photos", "uint8", (None, 9, 9, 3)),)}, "inputs"),
        ({"outputs": (TensorSpec("scores", "float32", (None, 2)),)}, "outputs"),
        ({"preprocess": Preprocess(8, 8, interpolation="bilinear")}, "preprocess"),
    ],
)
def test_a_box_is_of_one_model(tmp_path: Path, changed: dict[str, object], what: str) -> None:
    with pytest.raises(BadInput, match=f"one@null and other@null have different {what}"):
        box_of(tmp_path / "m.tiffin", saved(tmp_path / "one"), saved(tmp_path / "other", **changed))
    assert not (tmp_path / "m.tiffin").exists()


def test_a_box_of_two_names_alike_or_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="a@null, a@null"):
        box_of(tmp_path / "m.tiffin", saved(tmp_path / "x/a"), saved(tmp_path / "y/a", temperature=2.0))
    with pytest.raises(BadInput, match="nothing"):
        box_of(tmp_path / "m.tiffin")
    with pytest.raises(BadInput, match="a@null, a@null"):
        box_of(tmp_path / "m.tiffin", *[Artifact.load(tmp_path / "x/a")] * 2)
    assert left_in(tmp_path) == ["x", "y"]


@pytest.mark.skipif(os.name == "nt", reason="no such folder there")
def test_a_folder_whose_name_leads_elsewhere_in_windows_is_not_packed(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"a box of 'C:a'"):
        box_of(tmp_path / "m.tiffin", saved(tmp_path / "C:a"))


def test_a_folder_among_the_claims_is_named(tmp_path: Path) -> None:
    artifact = saved(tmp_path / "a")
    (artifact.folder / "claims/notes").mkdir(parents=True)
    with pytest.raises(BadInput, match="claims/notes: cannot be read"):
        box_of(tmp_path / "m.tiffin", artifact)
    assert left_in(tmp_path) == ["a"]


def test_a_box_is_not_written_where_nothing_can_be(tmp_path: Path) -> None:
    artifact = saved(tmp_path / "a")
    (tmp_path / "file").write_text("words")
    for target in (tmp_path / "file/m.tiffin", tmp_path / "a", Path("/proc/tiffin-test/m.tiffin")):
        with pytest.raises(BadInput, match="cannot write") as caught:
            box_of(target, artifact)
        assert "--out" in caught.value.fix
    assert left_in(tmp_path) == ["a", "file"]


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = box_of(tmp_path / "m.tiffin", saved(tmp_path / "a"))
    (tmp_path / "file").write_text("words")
    monkeypatch.setenv("TIFFIN_CACHE", str(tmp_path / "file"))
    with pytest.raises(BadInput, match="cannot write") as caught:
        open_box(path)
    assert "TIFFIN_CACHE" in caught.value.fix and not isinstance(caught.value, BadArtifact)


def test_a_box_that_is_not_there_says_how_to_make_one(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.tiffin", tmp_path):
        with pytest.raises(BadArtifact, match="no such file") as caught:
            open_box(path, tmp_path / "cache")
        assert "tiffin pack" in caught.value.fix


def refused_box(path: Path, said: str | None = None) -> BadArtifact:
    """It is refused with these words, and nothing of it stays behind."""
    cache = path.parent / "cache"
    with pytest.raises(BadArtifact, match=said) as caught:
        open_box(path, cache)
    assert not cache.exists() or left_in(cache) == []
    return caught.value


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
def test_a_truncated_box_is_refused(tmp_path: Path, kept: float) -> None:
    path = box_of(tmp_path / "m.tiffin", noisy(tmp_path / "a"))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept if kept > 1 else len(whole) * kept)])
    assert "tiffin pack" in refused_box(path, r"m\.tiffin: no box").expected


def test_what_is_no_box_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.tiffin"
    path.write_text("words")
    refused_box(path, "no box")
    other = io.BytesIO()
    np.savez(other, array=np.zeros(3))
    path.write_bytes(other.getvalue())
    refused_box(path, r"no box.*box\.json")


@pytest.mark.parametrize(
    ("content", "method"), [(b"\0" * 5_000_000, zipfile.ZIP_DEFLATED), (b"model", zipfile.ZIP_LZMA)]
)
def test_a_box_that_unpacks_to_more_than_it_says_is_refused(tmp_path: Path, content: bytes, method: int) -> None:
    path = box_of(tmp_path / "m.tiffin", saved(tmp_path / "a"))
    with zipfile.ZipFile(path) as box:
        kept = {name: box.read(name) for name in box.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as box:
        for name, held in kept.items():
            inside = name.startswith("files/")
            box.writestr(name, content if inside else held, method if inside else zipfile.ZIP_DEFLATED)
    with pytest.raises(BadArtifact, match="at most|stored or deflated"):
        open_box(path, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_claims_of_a_box_are_bounded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = box_of(tmp_path / "m.tiffin", saved(tmp_path / "a"))
    crafted(path, lambda entries: entries.update({f"variants/a/claims/{n}.npz": bytes(50_000) for n in range(3)}))
    assert len(left_in(open_box(path, tmp_path / "c").variants[0].artifact.folder / "claims")) == 3
    monkeypatch.setattr("tiffin.artifact.bundle._MOST_BYTES", 100_000)
    refused_box(path, "claims of 15.,... bytes")


def test_a_model_that_the_disk_has_no_room_for_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = box_of(tmp_path / "m.tiffin", noisy(tmp_path / "a", bytes(1_000_000)))
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=900_000))
    with pytest.raises(BadInput, match="unpacks to 1,000,000 bytes") as caught:
        open_box(path, tmp_path / "cache")
    assert "TIFFIN_CACHE" in caught.value.fix and left_in(tmp_path / "cache") == []


def test_no_model_is_held_in_memory_to_pack_or_unpack_it(tmp_path: Path) -> None:
    artifact = noisy(tmp_path / "a", bytes(32_000_000))
    tracemalloc.start()
    try:
        open_box(box_of(tmp_path / "m.tiffin", artifact), tmp_path / "cache")
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_a_box_that_is_replaced_while_it_is_opened_is_still_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = saved(tmp_path / "a")
    path, new = box_of(tmp_path / "m.tiffin", artifact, about={"order": "old"}), tmp_path / "new.tiffin"
    real, old = bundle.sha256_of, path.read_bytes()

    def slow(file: IO[bytes]) -> str:
        found = real(file)
        box_of(new, artifact, about={"order": "new"}).replace(path)
        return found

    monkeypatch.setattr(bundle, "sha256_of", slow)
    assert open_box(path, tmp_path / "cache").about == {"order": "old"}
    monkeypatch.undo()
    assert open_box(path, tmp_path / "cache").about == {"order": "new"}
    path.write_bytes(old)
    assert open_box(path, tmp_path / "cache").about == {"order": "old"}


def test_a_box_with_a_changed_byte_is_the_same_or_refused(tmp_path: Path) -> None:
    path = box_of(tmp_path / "m.tiffin", saved(tmp_path / "a"))
    digest, whole, refused = Artifact.load(tmp_path / "a").digest, path.read_bytes(), 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            assert open_box(path, tmp_path / "cache").variants[0].artifact.digest == digest
        except BadInput:
            refused += 1
    assert refused > len(whole) / 14


def test_a_newer_box_says_to_upgrade(tmp_path: Path) -> None:
    path = box_of(tmp_path / "m.tiffin", saved(tmp_path / "a"))
    reindexed(path, lambda index: index.update(version=BOX_VERSION + 1, variants={"other": "form"}))
    assert "upgrade" in refused_box(path, f"version {BOX_VERSION + 1}").fix


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.pop("version"),
        lambda index: index.pop("variants"),
        lambda index: index.update(variants=3),
        lambda index: index["variants"][0].pop("name"),
        lambda index: index["variants"][0].update(name=3),
        lambda index: index["variants"][0].update(name="other"),
        pytest.param(lambda index: index.pop("about")),
        pytest.param(lambda index: index["variants"][0].pop("digest")),
        pytest.param(lambda index: index["variants"][0].update(run={"backend": "null", "gears": 4})),
        pytest.param(lambda index: index["variants"][0].update(run={"backend": "null", "hint": "fast"})),
        lambda index: index.update(variants=[]),
        lambda index: index.update(about={"times_of_the_first": {"a@null": "x"}}),
        lambda index: index.update(about={"order": ["by time"]}),
        lambda index: index.update(about={"cpu": "\x1b]0;title\x07"}),
        lambda index: index["variants"][0]["run"].update(backend=["a"]),
        lambda index: index["variants"][0]["run"].update(device=5),
        lambda index: index["variants"][0]["run"].update(backend="a\x1b[31m"),
        lambda index: index["variants"][0]["run"].update(lanes=1.5),
        lambda index: index["variants"][0]["run"].update(threads=True),
    ],
)
def test_a_box_with_a_wrong_index_is_refused(tmp_path: Path, change: Callable[[dict], object]) -> None:
    refused_box(reindexed(box_of(tmp_path / "m.tiffin", saved(tmp_path / "a")), change), r"m\.tiffin")


def test_a_box_and_a_manifest_name_no_folder_of_their_makers_for_a_cache(tmp_path: Path) -> None:
    run = RunConfig("null", cache="/home/maker/cache", lanes=2)
    artifact = saved(tmp_path / "a", run=run)
    path = pack(tmp_path / "m.tiffin", [Variant(artifact, run)], {})
    assert b"maker" not in zipfile.ZipFile(path).read("box.json")
    reindexed(path, lambda index: index["variants"][0]["run"].update(cache="/home/maker/cache"))
    (found,) = open_box(path, tmp_path / "cache").variants
    assert found.run == default_run(artifact) == RunConfig("null", lanes=2)


@pytest.mark.parametrize(
    "name",
    [
        *("../evil", "/tmp/tiffin-evil", "sub/evil", "..", ".", "", "box.json", "a/", ".files"),
        *("C:evil", "..\\evil", "\\\\host\\share"),  # which leave it in Windows
        *("x\x1b[31mRED", "one\ntwo"),
    ],
)
def test_a_variant_does_not_leave_its_box(tmp_path: Path, name: str) -> None:
    path = box_of(tmp_path / "m.tiffin", saved(tmp_path / "a"))

    def renamed(entries: dict[str, bytes]) -> None:
        for inside in [inside for inside in entries if inside.startswith("variants/a/")]:
            entries[f"variants/{name}/{inside.removeprefix('variants/a/')}"] = entries.pop(inside)

    crafted(path, renamed)
    refused_box(reindexed(path, lambda index: index["variants"][0].update(name=name)), "leaves the box")
    assert (
        left_in(tmp_path) in (["a", "cache", "m.tiffin"], ["a", "m.tiffin"]) and not Path("/tmp/tiffin-evil").exists()
    )


@pytest.mark.parametrize(
    "name",
    ["../evil", "/tmp/tiffin-evil", "sub/evil", "..", "", "claims", "manifest.json", "C:evil", "..\\evil"],
)
def test_a_file_does_not_leave_its_variant(tmp_path: Path, name: str) -> None:
    path = box_of(tmp_path / "m.tiffin", saved(tmp_path / "a"))

    def renamed(entries: dict[str, bytes]) -> None:
        text = json.loads(entries["variants/a/manifest.json"])
        text["files"][0]["name"] = name
        entries["variants/a/manifest.json"] = json.dumps(text).encode()

    refused_box(crafted(path, renamed), "leaves")
    assert not Path("/tmp/tiffin-evil").exists()


@pytest.mark.parametrize("sha256", ["../../../evil", "ABSOLUTE", "", "."])
def test_a_hash_does_not_leave_the_box(tmp_path: Path, sha256: str) -> None:
    (tmp_path / "m").mkdir()
    path, evil = box_of(tmp_path / "m/m.tiffin", saved(tmp_path / "a")), tmp_path / "m/evil"
    told = sha256.replace("ABSOLUTE", str(evil))

    def rehashed(entries: dict[str, bytes]) -> None:
        text = json.loads(entries["variants/a/manifest.json"])
        text["files"][-1]["sha256"] = told
        entries["variants/a/manifest.json"] = json.dumps(text).encode()
        entries[f"files/{told}"] = b"evil"

    refused_box(crafted(path, rehashed))
    assert not evil.exists()


def test_a_claim_does_not_leave_its_folder(tmp_path: Path) -> None:
    path = box_of(tmp_path / "m.tiffin", saved(tmp_path / "a"))
    names = ("variants/a/claims/../../../../evil", "../evil", "variants/a/claims/C:evil", "variants/a/claims/..\\evil")
    crafted(path, lambda entries: entries.update(dict.fromkeys(names, b"x")))
    (found,) = open_box(path, tmp_path / "cache").variants
    assert left_in(found.artifact.folder / "claims") == [] and not list(tmp_path.rglob("evil"))


def test_a_model_with_changed_bytes_in_a_box_is_found_out(tmp_path: Path) -> None:
    path = box_of(tmp_path / "m.tiffin", saved(tmp_path / "a"))

    def changed(entries: dict[str, bytes]) -> None:
        (name,) = (name for name, content in entries.items() if content == MODEL)
        entries[name] = MODEL[:-1] + b"\0"

    crafted(path, changed)
    for _ in range(2):  # and again, once it is unpacked
        with pytest.raises(BadArtifact, match=r"model\.bin.*bytes changed"):
            open_box(path, tmp_path / "cache")


def test_a_variant_other_than_the_listed_one_is_found_out(tmp_path: Path) -> None:
    artifact = saved(tmp_path / "a")
    path = reindexed(
        box_of(tmp_path / "m.tiffin", artifact), lambda index: index["variants"][0].update(digest="0123456789ab" * 5)
    )
    for _ in range(2):
        with pytest.raises(BadArtifact, match=f"a is artifact {artifact.digest[:12]}") as caught:
            open_box(path, tmp_path / "cache")
        assert "0123456789ab" in caught.value.expected


def test_a_box_that_lacks_a_file_leaves_nothing_unpacked(tmp_path: Path) -> None:
    path = box_of(tmp_path / "m.tiffin", saved(tmp_path / "a"), noisy(tmp_path / "b"))
    last = max(name for name in zipfile.ZipFile(path).namelist() if name.startswith("files/"))
    refused_box(crafted(path, lambda entries: entries.pop(last)), "no box")


def test_a_half_unpacked_folder_is_not_taken_for_a_box(tmp_path: Path) -> None:
    path, cache = box_of(tmp_path / "m.tiffin", saved(tmp_path / "a"), noisy(tmp_path / "b")), tmp_path / "cache"
    folder = open_box(path, cache).variants[0].artifact.folder.parent
    (folder / "box.json").unlink()  # the last that is written
    (folder / "b/model.bin").write_bytes(b"half")
    assert open_box(path, cache).variants[1].artifact.model_path.read_bytes() == NOISE
    assert left_in(cache) == [folder.name]


def test_a_link_stays_where_the_file_that_it_names_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/page.html").write_text("old")
    (tmp_path / "link.html").symlink_to("kept/page.html")
    replace_files({tmp_path / "link.html": b"new"})
    assert (tmp_path / "link.html").is_symlink() and (tmp_path / "kept/page.html").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
