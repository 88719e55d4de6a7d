"""artifact/: the manifest's round trip, what `load` finds, what `save` leaves behind, claims, schemes."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiffin.artifact import Artifact, Preprocess, Producer, RunConfig, TensorSpec
from tiffin.artifact.claims import read_claim, write_claim
from tiffin.artifact.manifest import MANIFEST_VERSION, Manifest, parse_manifest
from tiffin.artifact.scheme import SCHEMES, scheme_named
from tiffin.artifact.store import atomic_folder, save
from tiffin.errors import BadArtifact, BadInput

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
    inputs=st.lists(TENSORS, max_size=3).map(tuple),
    outputs=st.lists(TENSORS, max_size=3).map(tuple),
    labels=st.lists(WORDS, max_size=4).map(tuple),
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
    ],
)
def test_a_wrong_field_is_refused(tmp_path: Path, fields: dict[str, object]) -> None:
    artifact = saved(tmp_path / "a")
    edit(artifact, **fields)
    with pytest.raises(BadArtifact, match=r"manifest\.json.*field wrong"):
        Artifact.load(artifact.folder)


def test_a_folder_without_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BadArtifact, match=r"no manifest\.json") as caught:
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


def test_a_source_file_that_is_absent_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(BadInput):
        save(tmp_path / "a", manifest(), {"one": b"1", "two": tmp_path / "absent"})
    assert left_in(tmp_path) == []


# Claims


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


@pytest.mark.parametrize("text", ["", "{", "[]", '"words"'])
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
