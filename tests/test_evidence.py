"""gate/evidence: every changed byte is named, every figure is worked out again, and what a forger can and cannot do."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import io
import json
import random
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiffin
from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.certificate import Certificate
from tiffin.benchmarks.accuracy import score
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.options import RoundOptions
from tiffin.benchmarks.rounds import Measurement
from tiffin.data import find_dataset
from tiffin.data.prepared import prepare_photos
from tiffin.errors import BadInput
from tiffin.gate.baseline import Baseline, to_json, updated
from tiffin.gate.decide import decide
from tiffin.gate.evidence import layout
from tiffin.gate.evidence.bundle import Bundle, packed, read, unpacked
from tiffin.gate.evidence.check import Check, State
from tiffin.gate.evidence.collect import Verdict, ancestry, collect
from tiffin.gate.evidence.figures import differences, figures, photo_tables, plain
from tiffin.gate.evidence.reading import inconsistent
from tiffin.gate.evidence.replay import bytes_check, replay
from tiffin.gate.files import described, judge, judge_files
from tiffin.gate.measured import rows_of
from tiffin.gate.policy import parse_policy
from tiffin.records import Predictions, Record
from tiffin.records.certification import Evidence as CertificateEvidence
from tiffin.records.certification import figures as certificate_figures
from tiffin.records.certification import write_certificate
from tiffin.records.findings import Outcome
from tiffin.records.record import load_record
from tiffin.records.side_by_side import EARLIER
from tiffin.tests.command import Run

RESULTS = Path(tiffin.__file__).parent / "benchmarks" / "results"
HAS_MINISIGN = shutil.which("minisign") is not None
needs_minisign = pytest.mark.skipif(not HAS_MINISIGN, reason="minisign is not installed (apt-get install minisign)")
ROWS = ("onnxruntime fp32", "openvino fp32")


@pytest.fixture(scope="module")
def folder(onnx_artifact: Artifact, openvino_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Artifacts beside one another, as a build leaves them."""
    root = tmp_path_factory.mktemp("evidence")
    shutil.copytree(onnx_artifact.folder, root / "fp32")
    shutil.copytree(openvino_artifact.folder, root / "openvino-fp32")
    return root


@pytest.fixture(scope="module")
def record_path(folder: Path, photo_folder: Path) -> Path:
    """Two engines on 48 real files, answered and timed."""
    dataset = find_dataset(photo_folder)
    drawn = dataset.role("confirm")
    fp32, compiled = Artifact.load(folder / "fp32"), Artifact.load(folder / "openvino-fp32")
    prepared = prepare_photos(drawn, fp32.preprocess, folder / "cache", dataset.kind)
    candidates = [
        Candidate(ROWS[0], fp32, RunConfig("onnxruntime", threads=1)),
        Candidate(ROWS[1], compiled, RunConfig("openvino", threads=1)),
    ]
    timed = Measurement(candidates, RoundOptions(launches=2, blocks=2, block_s=0.01, warmup_s=0.01, target=None))
    timed.run()
    answered = {each.name: score(each, prepared, folder / "cache") for each in candidates}
    subjects = tuple(
        dataclasses.replace(subject, applied=answered[subject.name][1], cold_start_s=(0.5, 0.6))
        for subject in timed.subjects()
    )
    about = {"name": dataset.name, "kind": dataset.kind, "role": "confirm", "count": len(prepared),
             "labels": dataset.labels,
             "files": [photo.path.relative_to(dataset.root).as_posix() for photo in drawn]}  # fmt: skip
    record = Record("bench", machine.environment(), subjects, {}, about, timed.rounds(),
                    {name: found for name, (found, _) in answered.items()}, created=machine.utc_now())  # fmt: skip
    return record.save(folder / "bench.json")


@pytest.fixture(scope="module")
def bundle_path(folder: Path, record_path: Path) -> Path:
    found = collect(Artifact.load(folder / "openvino-fp32"), [record_path])
    path = folder / "bundle.zip"
    path.write_bytes(packed(found.about, found.members))
    return path


def checks(bundle: Bundle) -> dict[str, Check]:
    with unpacked(bundle) as at:
        return {check.name: check for check in (bytes_check(bundle), *(replay(bundle, at) if bundle.index else ()))}


def failing(bundle: Bundle) -> set[str]:
    return {name for name, check in checks(bundle).items() if check.state is State.FAILS}


def about_of(bundle: Bundle) -> dict[str, object]:
    """What the index holds beside the members."""
    return {key: value for key, value in bundle.index.items() if key not in ("members", "sha256")}


def again(bundle: Bundle, **changed: bytes | None) -> bytes:
    """The bundle once more with other members and all hashes made anew, as a forger would."""
    members = {**bundle.members, **{name.replace("__", "/"): content for name, content in changed.items()}}
    return packed(about_of(bundle), {name: content for name, content in members.items() if content is not None})


def written(tmp_path: Path, content: bytes) -> Bundle:
    path = tmp_path / "other.zip"
    path.write_bytes(content)
    return read(path)


def rewritten(bundle: Bundle, tmp_path: Path, change: Callable[[Record], Record]) -> dict[str, bytes]:
    """The bundle's members with another record, whose own hash holds."""
    (entry,) = bundle.index["records"]
    with unpacked(bundle) as at:
        record = change(load_record(at / entry["member"]))
    path = record.save(tmp_path / "forged.json")
    pair = {entry["member"]: path.read_bytes(),
            entry["member"].replace(".json", ".npz"): path.with_suffix(".npz").read_bytes()}  # fmt: skip
    return {**bundle.members, **pair}


def answering_rightly(record: Record, row: str, count: int = 1) -> Record:
    """A few wrong answers of a row made right, logits and all: what a forger would do."""
    found = record.predictions[row]
    assert found.logits is not None
    logits = found.logits.copy()
    wrong = np.flatnonzero(found.top[:, 0] != found.truth)[:count]
    assert len(wrong) == count
    logits[wrong, found.truth[wrong]] = logits[wrong].max(1) + 1
    better = Predictions.from_logits(found.photos, found.truth, logits, found.kind)
    return dataclasses.replace(record, predictions={**record.predictions, row: better})


# What is in it


def test_a_bundle_holds_together_and_the_same_input_gives_the_same_bytes(
    folder: Path, record_path: Path, bundle_path: Path
) -> None:
    bundle = read(bundle_path)
    assert failing(bundle) == set()
    found = collect(Artifact.load(folder / "openvino-fp32"), [record_path])
    assert packed(found.about, dict(reversed(found.members.items()))) == bundle_path.read_bytes()
    with zipfile.ZipFile(bundle_path) as opened:  # any tool reads it
        assert opened.testzip() is None
        assert opened.namelist()[0] == "bundle.json"


def test_the_zips_bytes_are_those_of_every_release() -> None:
    """Another Python or another release that wrote other bytes would call every older bundle changed."""
    content = packed({"tiffin": "1"}, {"a/b.txt": b"photo", "c": b""})
    assert hashlib.sha256(content).hexdigest() == "0e7c6f6ffe49fa087b7ce1894206974f66a6e4c9c33127c6e171f999b9273b2d"


def test_the_lineage_goes_back_to_the_checkpoint(folder: Path, bundle_path: Path) -> None:
    bundle = read(bundle_path)
    chain = [Artifact.load(folder / name).digest for name in ("openvino-fp32", "fp32")]
    assert [entry["digest"] for entry in bundle.index["lineage"]] == chain
    checkpoint = Artifact.load(folder / "fp32").manifest.checkpoint
    assert checkpoint is not None
    said = checks(bundle)["lineage"].lines[0]
    assert said == f"openvino-fp32 ← fp32 ← checkpoint {checkpoint[:12]}…"


def test_an_ancestor_that_is_not_there_is_said(folder: Path, record_path: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "openvino-fp32", tmp_path / "alone" / "openvino-fp32")
    artifact = Artifact.load(tmp_path / "alone" / "openvino-fp32")
    assert len(list(ancestry(artifact))) == 1
    found = collect(artifact, [record_path])
    bundle = written(tmp_path, packed(found.about, found.members))
    assert checks(bundle)["lineage"].lines[0].endswith("not in the bundle")


def test_model_files_travel_only_where_asked(folder: Path, record_path: Path, bundle_path: Path) -> None:
    artifact = Artifact.load(folder / "openvino-fp32")
    files = {file.name for file in artifact.manifest.files}
    held = {name.rsplit("/", 1)[-1] for name in read(bundle_path).members}
    assert not files & held
    more = collect(artifact, [record_path], with_model=True)
    assert files <= {name.rsplit("/", 1)[-1] for name in more.members}


@pytest.mark.parametrize("name", ["default", "cpus-speed", "optimize-search", "loadgen"])
def test_committed_records_contradict_nothing(name: str) -> None:
    record = load_record(RESULTS / f"{name}.json")
    assert list(inconsistent(record)) == []
    found = figures(record)
    assert len(found["rows"]) == len(record.subjects)
    assert json.loads(json.dumps(found)) == found


# Every byte


def region_of(bundle: Bundle, offset: int) -> layout.Region:
    return next(region for region in layout.layout(bundle.index) if region.start <= offset < region.stop)


def changed_at(content: bytes, offset: int, rng: random.Random) -> bytes:
    other = content[offset] ^ rng.randrange(1, 256)
    return content[:offset] + bytes([other]) + content[offset + 1 :]


def assert_named(bundle: Bundle, content: bytes, offset: int, path: Path, rng: random.Random) -> None:
    """One byte changed: the region that it lies in is named, and nothing else is blamed."""
    region = region_of(bundle, offset)
    path.write_bytes(changed_at(content, offset, rng))
    found = read(path)
    assert {damage.member for damage in found.damage} == {region.member}, (offset, region, found.damage)
    check = bytes_check(found)
    assert check.state is State.FAILS
    assert region.member in check.lines[0]


def test_fifty_changed_bytes_are_all_found_and_named(bundle_path: Path, tmp_path: Path) -> None:
    content, bundle, rng = bundle_path.read_bytes(), read(bundle_path), random.Random(15)
    for offset in rng.sample(range(len(content)), 50):
        assert_named(bundle, content, offset, tmp_path / "b.zip", rng)


@pytest.mark.slow
def test_five_hundred_changed_bytes_of_a_committed_records_bundle_are_all_found(tmp_path: Path) -> None:
    pair = {f"records/1-default{end}": (RESULTS / f"default{end}").read_bytes() for end in (".json", ".npz")}
    content, rng = packed({}, pair), random.Random(500)
    (tmp_path / "whole.zip").write_bytes(content)
    bundle = read(tmp_path / "whole.zip")
    for offset in rng.sample(range(len(content)), 500):
        assert_named(bundle, content, offset, tmp_path / "b.zip", rng)


def test_each_byte_of_a_small_bundle_is_named(tmp_path: Path) -> None:
    content, rng = packed({"tiffin": "1"}, {"a/b.txt": b"photo", "c": b"", "d": b"x"}), random.Random(1)
    bundle = written(tmp_path, content)
    for offset in range(len(content)):
        assert_named(bundle, content, offset, tmp_path / "b.zip", rng)


def test_each_byte_of_the_zips_own_structure_is_named(bundle_path: Path, tmp_path: Path) -> None:
    """Beside .npz members, which are zips with an end of their own."""
    content, bundle, rng = bundle_path.read_bytes(), read(bundle_path), random.Random(2)
    headers = [region for region in layout.layout(bundle.index) if region.part != "content"]
    for region in rng.sample(headers, 6) + headers[-1:]:
        for offset in range(region.start, region.stop):
            assert_named(bundle, content, offset, tmp_path / "b.zip", rng)


def test_every_command_names_a_changed_byte(bundle_path: Path, run_tiffin: Run, tmp_path: Path) -> None:
    content, bundle, rng = bundle_path.read_bytes(), read(bundle_path), random.Random(3)
    for region in rng.sample(layout.layout(bundle.index), 6):
        path = tmp_path / "b.zip"
        path.write_bytes(changed_at(content, region.start, rng))
        ended = run_tiffin("verify", path)
        assert (ended.code, region.member in ended.out) == (1, True), ended
        assert "bytes" in ended.out.splitlines()[-1]


def test_bytes_before_and_after_are_counted(bundle_path: Path, tmp_path: Path) -> None:
    content = bundle_path.read_bytes()
    assert written(tmp_path, b"#!/bin/sh\n" + content).damage[0] == ("the zip", "10 bytes before its start")
    assert written(tmp_path, content + b"\n").damage == (("the zip", "1 bytes after its end"),)


def test_a_comment_an_extra_field_and_a_repeated_key_are_found(tmp_path: Path) -> None:
    content = packed({"tiffin": "1"}, {"a": b"photo"})
    path = tmp_path / "b.zip"
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as opened:
        opened.comment = b"hello"
    assert read(path).damage
    text = content.replace(b'"tiffin": "1"', b'"tiffin": "2", "tiffin": "1"')
    assert "bundle.json" in {damage.member for damage in written(tmp_path, text).damage}


# What no bundle may be


def evil(name: str, size: int = 1, **more: object) -> bytes:
    """A bundle whose index is sound and holds a member of this name."""
    index = {"schema": 1, "members": {name: {"bytes": size, "sha256": "0" * 64}}, **more}
    index["sha256"] = layout.index_digest(index)
    return layout.zipped(layout.index_text(index), {"a": b"x"})


@pytest.mark.parametrize(
    "name",
    ["../out", "a/../../out", "/etc/passwd", "C:/out", "C:out", "a\\b", "..", ".", "a//b", "a/", "", " a", ".hidden",
     "bundle.json", "päckchen", "\u202egpj.exe", "🍎.json", "a\nb", "a\0b", "x" * 300],
)  # fmt: skip
def test_a_member_that_climbs_out_or_hides_is_refused(name: str, tmp_path: Path, run_tiffin: Run) -> None:
    path = tmp_path / "b.zip"
    path.write_bytes(evil(name))
    ended = run_tiffin("verify", path)
    assert ended.code == 2
    assert ended.err.startswith("error: ")
    assert ended.err.isascii()
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(BadInput):
        packed({}, {name: b"x"})


@pytest.mark.parametrize("names", [("A", "a"), ("a", "a/b"), ("a/b", "A"), ("a/b", "a/b/c")])
def test_two_members_that_would_be_one_file_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(BadInput, match="two members of one name"):
        packed({}, dict.fromkeys(names, b"x"))


def test_what_another_tool_put_in_is_named(bundle_path: Path, tmp_path: Path, run_tiffin: Run) -> None:
    path = tmp_path / "b.zip"
    for name, mode, said in (
        ("../evil", 0o100644, "'../evil': is not named"),
        ("link", 0o120777, "'link': is not named"),
        ("figures.json", 0o100644, "figures.json: is there twice"),
    ):
        path.write_bytes(bundle_path.read_bytes())
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        with pytest.warns(UserWarning) if name == "figures.json" else _nothing(), zipfile.ZipFile(path, "a") as opened:
            opened.writestr(info, b"/etc/passwd")
        ended = run_tiffin("verify", path)
        assert ended.code == 1
        assert said in " ".join(ended.out.split())
    assert list(tmp_path.iterdir()) == [path]


class _nothing:
    def __enter__(self) -> None: ...
    def __exit__(self, *ended: object) -> None: ...


def deflated_again(bundle: Bundle, path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in {"bundle.json": layout.index_text(bundle.index), **bundle.members}.items():
            opened.writestr(name, content)


def test_what_is_no_bundle_is_said(bundle_path: Path, tmp_path: Path, run_tiffin: Run) -> None:
    deflated_again(read(bundle_path), tmp_path / "again.zip")
    (tmp_path / "text.zip").write_text("not a zip")
    (tmp_path / "empty.zip").write_bytes(b"")
    (tmp_path / "newer.zip").write_bytes(evil("a", schema=2))
    (tmp_path / "bomb.zip").write_bytes(evil("a", size=10**12))
    (tmp_path / "no members.zip").write_bytes(evil("a", members=[1]))
    (tmp_path / "no lineage.zip").write_bytes(packed({}, {"a": b"x"}))
    said = {"again": "packed again?", "text": "no zip", "empty": "no zip", "newer": "upgrade tiffin", "bomb": "at most",
            "no members": "lists no members", "no lineage": "is written", "missing": "cannot be read"}  # fmt: skip
    for name, words in said.items():
        ended = run_tiffin("verify", tmp_path / f"{name}.zip")
        assert (ended.code, words in ended.err) == (2, True), (name, ended)
        assert len([line for line in ended.err.splitlines() if line.startswith("error: ")]) == 1
    assert run_tiffin("verify", tmp_path).code == 2


def test_a_bundle_cut_short_anywhere_is_one_error(bundle_path: Path, tmp_path: Path, run_tiffin: Run) -> None:
    content, rng = bundle_path.read_bytes(), random.Random(7)
    for length in [0, 1, 40, 41, 42, 60, 300, *rng.sample(range(len(content)), 40), len(content) - 1]:
        path = tmp_path / "b.zip"
        path.write_bytes(content[:length])
        with pytest.raises(BadInput) as raised:
            read(path)
        assert "cut short" in raised.value.what or length < 60
    assert run_tiffin("verify", path).code == 2


def test_arrays_that_unpack_to_much_more_are_not_unpacked(bundle_path: Path, tmp_path: Path) -> None:
    bundle = read(bundle_path)
    (entry,) = bundle.index["records"]
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("predictions/0/top.npy", bytes(200_000_000))
    head = json.loads(bundle.members[entry["member"]])
    head["arrays_sha256"] = hashlib.sha256(bomb.getvalue()).hexdigest()
    members = {**bundle.members, entry["member"]: json.dumps(head).encode(),
               entry["member"].replace(".json", ".npz"): bomb.getvalue()}  # fmt: skip
    found = checks(written(tmp_path, packed(about_of(bundle), members)))["records"]
    assert found.state is State.FAILS
    assert "would unpack to 200,000,000 bytes" in found.lines[0]


# Every figure


def test_a_changed_prediction_is_named_by_row_and_photo(bundle_path: Path, tmp_path: Path) -> None:
    bundle = read(bundle_path)
    members = rewritten(bundle, tmp_path, lambda record: answering_rightly(record, ROWS[1]))
    found = checks(written(tmp_path, packed(about_of(bundle), members)))
    assert {name for name, check in found.items() if check.state is State.FAILS} == {"figures", "photos"}
    (entry,) = bundle.index["records"]
    with unpacked(bundle) as at:
        before = load_record(at / entry["member"]).predictions[ROWS[1]]
    wrong = np.flatnonzero(before.top[:, 0] != before.truth)[0]
    assert f"photo {before.photos[wrong][:16]}: row '{ROWS[1]}'" in found["photos"].lines[0]
    assert any("top-1.value" in line for line in found["figures"].lines)


def test_a_top_that_its_logits_do_not_give_is_named(bundle_path: Path, tmp_path: Path) -> None:
    def swap(record: Record) -> Record:
        found = record.predictions[ROWS[0]]
        top = found.top.copy()
        top[5, :2] = top[5, 1::-1]
        return dataclasses.replace(
            record, predictions={**record.predictions, ROWS[0]: dataclasses.replace(found, top=top)}
        )

    bundle = read(bundle_path)
    members = rewritten(bundle, tmp_path, swap)
    lines = checks(written(tmp_path, packed(about_of(bundle), members)))["records"].lines
    (entry,) = bundle.index["records"]
    with unpacked(bundle) as at:
        photo = load_record(at / entry["member"]).predictions[ROWS[0]].photos[5]
    assert f"row '{ROWS[0]}', photo {photo[:16]}: top" in lines[0]


def test_a_damaged_array_is_named_with_its_row(bundle_path: Path, tmp_path: Path) -> None:
    bundle = read(bundle_path)
    member = bundle.index["records"][0]["member"].replace(".json", ".npz")
    region = next(r for r in layout.layout(bundle.index) if (r.member, r.part) == (member, "content"))
    with zipfile.ZipFile(io.BytesIO(bundle.members[member])) as arrays:
        entry = arrays.getinfo("rounds/1/ns.npy")
    inside = entry.header_offset + 30 + len(entry.filename) + 40
    content = bytearray(bundle_path.read_bytes())
    content[region.start + inside] ^= 0x55
    found = checks(written(tmp_path, bytes(content)))
    assert found["bytes"].lines == (f"{member}: its content is another",)
    assert any(f"array 'rounds/1/ns.npy' of row '{ROWS[1]}' is damaged" in line for line in found["records"].lines)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told["rows"][ROWS[1]]["answers"].update({"photos": 47}), "answers.photos: says 47"),
        (lambda told: told["rows"][ROWS[1]]["latency"]["p50_s"].update({"value": 1e-9}), "latency.p50_s.value: says"),
        (lambda told: told["rows"].pop(ROWS[0]), f"rows.{ROWS[0]}: not told"),
        (lambda told: told.update(extra=1), "extra: told, but nothing gives it"),
    ],
)
def test_a_figure_that_does_not_follow_is_named(
    bundle_path: Path, tmp_path: Path, change: Callable[[dict[str, object]], object], said: str
) -> None:
    bundle = read(bundle_path)
    told = json.loads(bundle.members["figures.json"])
    change(next(iter(told.values())))
    found = checks(written(tmp_path, again(bundle, **{"figures.json": json.dumps(told).encode()})))
    assert {name for name, check in found.items() if check.state is State.FAILS} == {"figures"}
    assert said in found["figures"].lines[0]


def test_a_members_absence_and_an_unknown_one_are_named(bundle_path: Path, tmp_path: Path) -> None:
    bundle = read(bundle_path)
    assert "figures.json: is not in the bundle" in str(
        checks(written(tmp_path, again(bundle, **{"figures.json": None})))["members"]
    )
    assert "notes.txt: nothing says what it is" in str(
        checks(written(tmp_path, again(bundle, **{"notes.txt": b"trust me"})))["members"]
    )
    table = next(name for name in bundle.members if name.startswith("photos/"))
    assert f"{table}: is not in the bundle" in str(checks(written(tmp_path, again(bundle, **{table: None})))["photos"])


def test_a_manifest_of_another_digest_is_named(bundle_path: Path, tmp_path: Path) -> None:
    bundle = read(bundle_path)
    at = next(name for name in bundle.members if name.endswith("manifest.json"))
    changed = bundle.members[at].replace(b'"temperature": 1.0', b'"temperature": 2.0')
    assert changed != bundle.members[at]
    found = checks(written(tmp_path, again(bundle, **{at: changed})))["lineage"]
    assert (found.state, at in found.lines[0], "its digest is" in found.lines[0]) == (State.FAILS, True, True)


def test_what_lies_in_a_lineages_folder_and_is_not_of_it_is_named(bundle_path: Path, tmp_path: Path) -> None:
    bundle = read(bundle_path)
    at = next(name for name in bundle.members if name.endswith("manifest.json")).removesuffix("manifest.json")
    for name in ("certified.pdf", "claims/audit.html", "claims/certificate-avx2-onnxruntime.npz"):
        found = checks(written(tmp_path, again(bundle, **{at + name: b"all is well"})))
        assert {each for each, check in found.items() if check.state is State.FAILS} == {"members"}
        assert found["members"].lines == (f"{at}{name}: nothing says what it is",)


def test_a_changed_model_is_named_whole_or_in_part(folder: Path, record_path: Path, tmp_path: Path) -> None:
    artifact = Artifact.load(folder / "openvino-fp32")
    found = collect(artifact, [record_path], with_model=True)
    bundle = written(tmp_path, packed(found.about, found.members))
    assert failing(bundle) == set()
    graph, weights = sorted(name for name in bundle.members if name.endswith((".xml", ".bin")))[::-1]
    changed = bundle.members[graph] + b"<!-- -->"
    for members in ({graph: changed}, {graph: changed, weights: None}, {weights: None}, {graph: None}):
        assert failing(written(tmp_path, again(bundle, **members))) == {"lineage"}


def test_a_digest_of_the_index_is_held_to_the_manifest_in_all_its_digits(bundle_path: Path, tmp_path: Path) -> None:
    bundle = read(bundle_path)
    first, *rest = bundle.index["lineage"]
    about = {**about_of(bundle), "lineage": [{**first, "digest": first["digest"][:16] + "f" * 48}, *rest]}
    found = checks(written(tmp_path, packed(about, bundle.members)))
    assert {name for name, check in found.items() if check.state is State.FAILS} == {"lineage"}
    assert f"is not the digest of lineage/{first['digest'][:16]}/manifest.json" in found["lineage"].lines[0]


@pytest.mark.parametrize(
    "more", [{"verified": True}, {"tiffin": 1}, {"records": [{"file": "a", "member": "b", "c": 1}]}]
)
def test_an_index_holds_nothing_that_is_not_looked_at(
    bundle_path: Path, tmp_path: Path, more: dict[str, object]
) -> None:
    bundle = read(bundle_path)
    with pytest.raises(BadInput, match="not as an index is written"):
        checks(written(tmp_path, packed({**about_of(bundle), **more}, bundle.members)))


def test_only_claims_are_collected(folder: Path, record_path: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "fp32", tmp_path / "fp32")
    (tmp_path / "fp32" / "claims" / "notes.txt").write_text("mine")
    found = collect(Artifact.load(tmp_path / "fp32"), [record_path])
    assert failing(written(tmp_path, packed(found.about, found.members))) == set()


def spoilt(record: Record) -> Record:
    """The same answers twice: to clean photos and, as if, to blurred ones."""
    n = len(record.predictions[ROWS[0]])
    twice = {
        name: Predictions.from_logits(
            found.photos * 2, np.tile(found.truth, 2), np.tile(found.logits, (2, 1)), found.kind
        )
        for name, found in record.predictions.items()
    }
    about = [
        {"name": "none", "strength": 0, "start": 0, "stop": n},
        {"name": "blur", "strength": 1, "start": n, "stop": 2 * n},
    ]
    return dataclasses.replace(record, kind="robustness", predictions=twice, data={**record.data, "corruptions": about})


@pytest.mark.parametrize(
    ("change", "key"),
    [(spoilt, "corruptions"), (lambda record: dataclasses.replace(record, kind="explain"), "stages")],
)
def test_other_kinds_of_record_have_figures_of_their_own(
    folder: Path, record_path: Path, photo_folder: Path, tmp_path: Path, run_tiffin: Run,
    change: Callable[[Record], Record], key: str,
) -> None:  # fmt: skip
    path = change(load_record(record_path)).save(tmp_path / "other.json")
    out = tmp_path / "b.zip"
    assert run_tiffin("evidence", folder / "fp32", "--record", path, "-o", out).code == 0
    (told,) = json.loads(read(out).members["figures.json"]).values()
    assert len(told[key]) == 2
    assert run_tiffin("verify", out).code == 0
    ended = run_tiffin("verify", out, "--data", photo_folder, "--artifact", folder / "fp32")
    assert (ended.code, "no row of real photos" in ended.out) == (0, True)


def certified(artifact: Artifact, record: Record) -> None:
    """A certificate of one row against the other, beside the artifact."""
    evidence = CertificateEvidence.of(record.predictions[ROWS[0]], record.predictions[ROWS[1]])
    made = Certificate(
        "avx2", "onnxruntime", "1.0", "fp32", "native", "", "whole",
        {"name": "drawn", "kind": "photos", "role": "confirm", "count": len(evidence.photos)}, margin=0.01,
        native_class="", reference="0" * 64, tiffin="0", created="2026-11-24T00:00:00+00:00",
        **certificate_figures(evidence, "whole", 0.01),
    )  # fmt: skip
    write_certificate(artifact, made, evidence)


def test_certificates_travel_and_follow_from_their_predictions(folder: Path, record_path: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "fp32", tmp_path / "fp32")
    artifact = Artifact.load(tmp_path / "fp32")
    certified(artifact, load_record(record_path))
    found = collect(artifact, [record_path])
    bundle = written(tmp_path, packed(found.about, found.members))
    lineage = checks(bundle)["lineage"]
    assert (lineage.state, "1 certificate," in lineage.lines[0]) == (State.HOLDS, True)
    at = next(name for name in bundle.members if name.endswith("certificate-avx2-onnxruntime.json"))
    claim = json.loads(bundle.members[at])
    claim["agreement"] = 0.5
    said = checks(written(tmp_path, again(bundle, **{at: json.dumps(claim).encode()})))["lineage"]
    assert (said.state, "agreement: not what the predictions" in said.lines[0]) == (State.FAILS, True)


def test_plain_values_come_back_from_json() -> None:
    value = plain({"a": (1, float("nan"), np.float64(0.5)), "b": State.OPEN})
    assert value == json.loads(json.dumps(value)) == {"a": [1, None, 0.5], "b": "OPEN"}
    assert list(differences({"a": 1.0}, {"a": 1.0 + 1e-12})) == []
    assert list(differences({"a": 1}, {"a": True})) == ["a: says 1, the raw values give True"]
    assert list(differences({"a": [1]}, {"a": [1, 2]})) == ["a: says [1], the raw values give [1, 2]"]


def test_each_list_of_photos_has_its_table() -> None:
    def answers(photos: tuple[str, ...]) -> Predictions:
        logits = np.eye(len(photos), 4, dtype=np.float32)
        return Predictions.from_logits(photos, np.zeros(len(photos), np.int64), logits, "photos")

    told = {"a": answers(("1" * 64,)), "b, c": answers(("1" * 64, "2" * 64)), "=d": answers(("=e",))}
    record = Record("score", {}, (), predictions=told)
    first, second, formula = photo_tables(record)
    assert first == f"photo,truth,a\n{'1' * 64},0,0\n"
    assert second == f'photo,truth,"b, c"\n{"1" * 64},0,0\n{"2" * 64},0,1\n'
    assert formula == "photo,truth,'=d\n'=e,0,0\n"


# Every verdict

POLICY = """
[gate]
inconclusive = "warn"

[[rule]]
artifacts = "openvino*"
against = "onnxruntime fp32"
flips = 0.9
accuracy-drop = 0.5
size = 100.0

[[rule]]
artifacts = "*"
min-top-1 = 0.1
accuracy-drop = 0.3

[[expect]]
artifacts = "openvino*"
check = "min-top-1"
reason = "tiny"
until = 2020-01-01
"""


@pytest.fixture(scope="module")
def judged(folder: Path, record_path: Path) -> Path:
    """gate.json, the policy and the baseline of a run of the gate over the record."""
    (folder / "tiffin.toml").write_text(POLICY)
    rows, _ = rows_of({"": load_record(record_path)})
    (folder / "baseline.json").write_text(to_json(updated(Baseline(), list(rows.values()), "2026-01-01", "abc")))
    found = judge_files([record_path], folder / "tiffin.toml", folder / "baseline.json")
    assert {finding.outcome for finding in found.findings} == {Outcome.PASS}
    (folder / "gate.json").write_text(found.to_json())
    return folder / "gate.json"


@pytest.fixture(scope="module")
def verdict_path(folder: Path, record_path: Path, judged: Path) -> Path:
    verdict = Verdict(judged, folder / "tiffin.toml", folder / "baseline.json")
    found = collect(Artifact.load(folder / "openvino-fp32"), [record_path], verdict)
    path = folder / "verdict.zip"
    path.write_bytes(packed(found.about, found.members))
    return path


def test_the_verdict_is_decided_again(verdict_path: Path) -> None:
    found = checks(read(verdict_path))
    assert {name for name, check in found.items() if check.state is not State.HOLDS} == set()
    assert found["verdict"].lines == ("PASS, 7 findings decided again",)


def lossy(record: Record) -> Record:
    """Ten right answers of a row made wrong."""
    found = record.predictions[ROWS[1]]
    assert found.logits is not None
    logits = found.logits.copy()
    right = np.flatnonzero(found.top[:, 0] == found.truth)[:10]
    logits[right, found.truth[right]] = logits[right].min(1) - 1
    worse = Predictions.from_logits(found.photos, found.truth, logits, found.kind)
    return dataclasses.replace(record, predictions={**record.predictions, ROWS[1]: worse})


def test_a_verdict_that_the_raw_values_do_not_give_is_named_finding_by_finding(
    verdict_path: Path, tmp_path: Path
) -> None:
    bundle = read(verdict_path)
    members = rewritten(bundle, tmp_path, lossy)
    told = json.loads(members["gate.json"])
    told["records"][0]["sha256"] = hashlib.sha256(members[bundle.index["records"][0]["member"]]).hexdigest()
    members["gate.json"] = json.dumps(told).encode()
    found = checks(written(tmp_path, packed(about_of(bundle), members)))
    assert {name for name, check in found.items() if check.state is State.FAILS} == {"figures", "photos", "verdict"}
    assert f"gate.json: '{ROWS[1]}', 'flips': reason: says" in " ".join(found["verdict"].lines)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told.update(outcome="FAIL"), "outcome: says 'FAIL', the raw values give 'PASS'"),
        (lambda told: told.update(exit_code=1), "exit_code: says 1"),
        (lambda told: told["findings"][0].update(outcome="FAIL"), f"'{ROWS[1]}', 'flips': outcome: says 'FAIL'"),
        (lambda told: told["findings"][1]["value"].update(low=-9.0), "'accuracy-drop': value.low: says -9.0"),
        (lambda told: told["findings"].pop(), "6 findings, the raw values give 7"),
        (lambda told: told["records"][0].update(sha256="0" * 64), "is not in the bundle"),
        (lambda told: told["policy"].update(text="[gate]"), "policy.toml is not the policy"),
        (lambda told: told["baseline"].update(commit="v9"), "baseline.commit: says 'v9', the raw values give 'abc'"),
        (lambda told: told["baseline"].update(created="2031-01-01"), "baseline.created: says '2031-01-01'"),
        (lambda told: told["baseline"].update(by="a laboratory"), "baseline.by: told, but nothing gives it"),
        (lambda told: told["notes"].append("looked by a laboratory"), "the note 'looked by a laboratory' does not"),
        (lambda told: told.update(created="yesterday"), "cannot be decided again"),
    ],
)
def test_a_changed_verdict_is_named(
    verdict_path: Path, tmp_path: Path, change: Callable[[dict[str, object]], object], said: str
) -> None:
    bundle = read(verdict_path)
    told = json.loads(bundle.members["gate.json"])
    change(told)
    found = checks(written(tmp_path, again(bundle, **{"gate.json": json.dumps(told).encode()})))
    assert {name for name, check in found.items() if check.state is State.FAILS} == {"verdict"}
    assert said in " ".join(found["verdict"].lines)


def test_a_changed_policy_or_baseline_is_another_verdict(verdict_path: Path, tmp_path: Path) -> None:
    bundle = read(verdict_path)
    softer = bundle.members["policy.toml"].replace(b"flips = 0.9", b"flips = 1.0")
    told = json.loads(bundle.members["gate.json"])
    told["policy"]["text"] = softer.decode()
    changed = {"policy.toml": softer, "gate.json": json.dumps(told).encode()}
    said = checks(written(tmp_path, again(bundle, **changed)))["verdict"].lines[0]
    assert "'flips': limit: says 0.9" in said
    with unpacked(bundle) as at:
        rows, _ = rows_of({"worse": lossy(load_record(at / bundle.index["records"][0]["member"]))})
    worse = to_json(updated(Baseline(), list(rows.values()), "2026-01-01", "abc")).encode()
    said = checks(written(tmp_path, again(bundle, **{"baseline.json": worse})))["verdict"].lines[0]
    assert "is not the baseline that was compared with" in said
    told = json.loads(bundle.members["gate.json"])
    told["baseline"]["sha256"] = hashlib.sha256(worse).hexdigest()
    changed = {"baseline.json": worse, "gate.json": json.dumps(told).encode()}
    found = checks(written(tmp_path, again(bundle, **changed)))
    assert {name for name, check in found.items() if check.state is State.FAILS} == {"verdict"}
    assert f"'{ROWS[1]}', 'accuracy-drop': value.value: says 0.0" in " ".join(found["verdict"].lines)
    assert failing(written(tmp_path, again(bundle, **{"baseline.json": None}))) == {"verdict"}


def test_the_verdict_is_held_to_the_date_that_it_was_made(folder: Path, record_path: Path, tmp_path: Path) -> None:
    """An expected failure of then is no failure because it is verified later, and none by a date before its record."""
    policy = POLICY.replace("min-top-1 = 0.1", "min-top-1 = 1.0").replace("2020-01-01", "2026-03-15")
    record = dataclasses.replace(load_record(record_path), created="2026-03-14T23:00:00+00:00")
    path = record.save(tmp_path / "bench.json")
    rows, _ = rows_of({path.name: record})
    for created, state in (("2026-03-14T23:30:00+00:00", State.HOLDS), ("2026-03-13T12:00:00+00:00", State.FAILS)):
        about = {"records": (described(path),), "created": created}
        found = decide(parse_policy(policy), rows, None, datetime.date.fromisoformat(created[:10]), about)
        assert Outcome.EXPECTED in {finding.outcome for finding in found.findings}
        (tmp_path / "gate.json").write_text(found.to_json())
        collected = collect(Artifact.load(folder / "fp32"), [path], Verdict(tmp_path / "gate.json"))
        said = checks(written(tmp_path, packed(collected.about, collected.members)))["verdict"]
        assert said.state is state
    assert "before its record of 2026-03-14" in said.lines[0]


def test_a_reason_may_name_a_file_wherever_it_lay(folder: Path, record_path: Path, tmp_path: Path) -> None:
    record = load_record(record_path)
    timed = dataclasses.replace(record, predictions={}).save(tmp_path / "with space" / "bench.json")
    (tmp_path / "tiffin.toml").write_text('[[rule]]\nartifacts = "open*"\nagainst = "onnx*"\nflips = 0.1\n')
    found = judge_files([timed], tmp_path / "tiffin.toml")
    assert "with space" in found.findings[0].reason
    (tmp_path / "gate.json").write_text(found.to_json())
    collected = collect(Artifact.load(folder / "fp32"), [timed], Verdict(tmp_path / "gate.json"))
    bundle = written(tmp_path, packed(collected.about, collected.members))
    assert checks(bundle)["verdict"].lines == ("INCONCLUSIVE, 1 finding decided again",)
    told = json.loads(bundle.members["gate.json"])
    told["findings"][0]["reason"] += "!"
    assert failing(written(tmp_path, again(bundle, **{"gate.json": json.dumps(told).encode()}))) == {"verdict"}


def test_a_verdict_of_another_release_is_held_to_its_values(verdict_path: Path, tmp_path: Path) -> None:
    bundle = read(verdict_path)
    told = json.loads(bundle.members["gate.json"])
    told["findings"][0]["reason"] = "in other words"
    members = {**bundle.members, "gate.json": json.dumps(told).encode()}
    older = packed({**about_of(bundle), "tiffin": "0.0.1"}, members)
    assert "of another release, are not compared" in checks(written(tmp_path, older))["verdict"].lines[0]
    told["policy"]["confidence"] = 0.9999
    older = packed({**about_of(bundle), "tiffin": "0.0.1"}, {**members, "gate.json": json.dumps(told).encode()})
    assert "policy.confidence: says 0.9999" in checks(written(tmp_path, older))["verdict"].lines[0]
    told["findings"][0]["p_value"] = 0.5
    older = packed({**about_of(bundle), "tiffin": "0.0.1"}, {**members, "gate.json": json.dumps(told).encode()})
    assert failing(written(tmp_path, older)) == {"verdict"}


def test_old_and_new_side_by_side_are_decided_again_at_the_confidence_of_a_look(
    folder: Path, record_path: Path, tmp_path: Path
) -> None:
    record = load_record(record_path)
    names = dict(zip(ROWS, ("m" + EARLIER, "m"), strict=True))
    both = dataclasses.replace(
        record, kind="side-by-side", options={"looks": 4},
        subjects=tuple(dataclasses.replace(subject, name=names[subject.name]) for subject in record.subjects),
        rounds={names[name]: found for name, found in record.rounds.items()},
        predictions={names[name]: found for name, found in record.predictions.items()},
    ).save(tmp_path / "side-by-side.json")  # fmt: skip
    text = '[gate]\ninconclusive = "measure-more"\n\n[[rule]]\nartifacts = "m"\nflips = 0.5\naccuracy-drop = 0.4\n'
    policy = dataclasses.replace(parse_policy(text), budget_s=60.0)  # as --budget-s sets it
    about = {"records": (described(both),), "baseline": {"against": "main"}, "created": machine.utc_now(),
             "notes": ("looked 1 of 4 times; at least 95 % hold over all",)}  # fmt: skip
    found = judge(policy, {"side-by-side.json": load_record(both)}, about=about)
    (tmp_path / "gate.json").write_text(found.to_json())
    collected = collect(Artifact.load(folder / "openvino-fp32"), [both], Verdict(tmp_path / "gate.json"))
    bundle = written(tmp_path, packed(collected.about, collected.members))
    said = checks(bundle)["verdict"]
    assert (said.state, said.lines) == (State.HOLDS, ("PASS, 2 findings decided again",))
    told = json.loads(bundle.members["gate.json"])
    for note in ("looked 1 of 4 times; at least 99 % hold over all", "looked 9 times by a laboratory that vouches"):
        told["notes"] = [note]
        found = checks(written(tmp_path, again(bundle, **{"gate.json": json.dumps(told).encode()})))["verdict"]
        assert found.lines == (f"gate.json: the note '{note}' does not follow",)


def test_a_verdict_must_be_over_what_is_bundled(
    folder: Path, record_path: Path, judged: Path, tmp_path: Path, run_tiffin: Run
) -> None:
    words = ("evidence", folder / "fp32", "--gate", judged, "-o", tmp_path / "b.zip")
    assert "--baseline" in run_tiffin(*words, "--record", record_path).err
    words = (*words, "--baseline", folder / "baseline.json")
    assert run_tiffin(*words, "--record", record_path).code == 0
    other = dataclasses.replace(load_record(record_path), created="2026-01-01T00:00:00+00:00")
    other.save(tmp_path / "other.json")
    ended = run_tiffin(*words, "--record", tmp_path / "other.json")
    assert (ended.code, "name them all with --record" in ended.err) == (2, True)
    (tmp_path / "other.toml").write_text("[gate]")
    ended = run_tiffin(*words, "--record", record_path, "--policy", tmp_path / "other.toml")
    assert (ended.code, "not the policy" in ended.err) == (2, True)


# What a forger can do


@pytest.mark.parametrize(
    ("member", "told", "check"),
    [
        ("figures.json", b'"kind": "bench"', "figures"),
        ("gate.json", b'"exit_code": 0', "verdict"),
        ("records/1-bench.json", b'"complete": true', "records"),
        ("baseline.json", b'"commit": "abc"', "verdict"),
    ],
)
def test_a_name_that_stands_twice_is_refused(
    verdict_path: Path, tmp_path: Path, member: str, told: bytes, check: str
) -> None:
    """Who reads the file sees the first value, and Python takes the last."""
    bundle = read(verdict_path)
    assert told in bundle.members[member]
    forged = bundle.members[member].replace(told, told.split(b":")[0] + b': "another", ' + told, 1)
    verdict = json.loads(bundle.members["gate.json"])
    if member == "baseline.json":
        verdict["baseline"]["sha256"] = hashlib.sha256(forged).hexdigest()
    changed = {"gate.json": json.dumps(verdict).encode(), member: forged}
    assert "stands twice" in checks(written(tmp_path, again(bundle, **changed)))[check].lines[0]


def test_a_forger_who_changes_a_record_and_all_hashes_is_caught_by_the_figures(
    bundle_path: Path, tmp_path: Path, run_tiffin: Run
) -> None:
    bundle = read(bundle_path)
    members = rewritten(bundle, tmp_path, lambda record: answering_rightly(record, ROWS[1], 2))
    path = tmp_path / "forged.zip"
    path.write_bytes(packed(about_of(bundle), members))
    ended = run_tiffin("verify", path)
    assert ended.code == 1
    assert "HOLDS  bytes" in ended.out
    assert "FAILS  figures" in ended.out
    assert ended.out.splitlines()[-1].startswith("does not hold: figures, photos")


def forged_throughout(bundle: Bundle, folder: Path, tmp_path: Path) -> bytes:
    """Records, figures, tables and hashes all made anew from changed answers."""
    members = rewritten(bundle, tmp_path, lambda record: answering_rightly(record, ROWS[1], 2))
    (entry,) = bundle.index["records"]
    (tmp_path / "bench.json").write_bytes(members[entry["member"]])
    (tmp_path / "bench.npz").write_bytes(members[entry["member"].replace(".json", ".npz")])
    found = collect(Artifact.load(folder / "openvino-fp32"), [tmp_path / "bench.json"])
    return packed(found.about, found.members)


def test_only_a_signature_or_the_photos_stop_one_who_makes_everything_anew(
    bundle_path: Path, folder: Path, photo_folder: Path, tmp_path: Path, run_tiffin: Run
) -> None:
    forged = tmp_path / "forged.zip"
    forged.write_bytes(forged_throughout(read(bundle_path), folder, tmp_path))
    ended = run_tiffin("verify", forged)
    assert ended.code == 0
    assert "unsigned: proves that it is whole, not who made it" in " ".join(ended.out.split())
    ended = run_tiffin("verify", forged, "--data", photo_folder, "--artifact", folder / "openvino-fp32")
    assert ended.code == 1
    assert " ".join(ended.out.split()).count("in the record,") == 2
    assert "does not hold: answers" in ended.out


@needs_minisign
def test_a_signature_holds_and_a_forgery_under_it_does_not(
    bundle_path: Path, folder: Path, record_path: Path, tmp_path: Path, run_tiffin: Run
) -> None:
    for name in ("ours", "theirs"):
        words = ["minisign", "-G", "-W", "-p", str(tmp_path / f"{name}.pub"), "-s", str(tmp_path / f"{name}.key")]
        assert subprocess.run(words, capture_output=True).returncode == 0
    out = tmp_path / "signed.zip"
    words = ("evidence", folder / "openvino-fp32", "--record", record_path, "-o", out)
    assert run_tiffin(*words, "--sign", tmp_path / "ours.key").code == 0
    assert out.read_bytes() == bundle_path.read_bytes()
    said = run_tiffin("verify", out)
    assert (said.code, "signed, not checked" in said.out) == (0, True)
    text = (tmp_path / "ours.pub").read_text().splitlines()[1]
    for key in (tmp_path / "ours.pub", text):
        ended = run_tiffin("verify", out, "--public-key", key)
        assert (ended.code, "HOLDS  signature" in ended.out) == (0, True), ended
    ended = run_tiffin("verify", out, "--public-key", tmp_path / "theirs.pub")
    assert (ended.code, "FAILS  signature" in ended.out) == (1, True)
    out.write_bytes(forged_throughout(read(bundle_path), folder, tmp_path))
    ended = run_tiffin("verify", out, "--public-key", text)
    assert (ended.code, ended.out.splitlines()[-1]) == (1, "does not hold: signature")
    assert run_tiffin(*words).code == 0  # written again without a signature: the old one goes
    assert not out.with_name("signed.zip.minisig").exists()
    ended = run_tiffin("verify", out, "--public-key", text)
    assert (ended.code, "unsigned" in ended.out) == (1, True)
    ended = run_tiffin(*words, "--sign", tmp_path / "no.key")
    assert (ended.code, "minisign did not sign" in ended.err) == (2, True)


def test_without_minisign_both_commands_say_how_to_get_it(
    bundle_path: Path, folder: Path, record_path: Path, tmp_path: Path, run_tiffin: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ("evidence", folder / "openvino-fp32", "--record", record_path, "-o", tmp_path / "b.zip")
    ended = run_tiffin(*words, "--sign", tmp_path / "key")
    assert (ended.code, "apt-get install minisign" in ended.err) == (2, True)
    assert not (tmp_path / "b.zip").exists()
    shutil.copyfile(bundle_path, tmp_path / "b.zip")
    (tmp_path / "b.zip.minisig").write_text("signature")
    ended = run_tiffin("verify", tmp_path / "b.zip", "--public-key", "RWQ")
    assert (ended.code, "apt-get install minisign" in ended.err) == (2, True)


# Any tampering


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_tampering_with_a_member_is_named_and_with_all_hashes_never_crashes(
    bundle_path: Path, tmp_path: Path, data: st.DataObject
) -> None:
    bundle = read(bundle_path)
    name = data.draw(st.sampled_from(sorted(bundle.members)))
    content = bundle.members[name]
    at = data.draw(st.integers(0, len(content)))
    cut = data.draw(st.integers(0, 40))
    other = content[:at] + data.draw(st.binary(max_size=40)) + content[at + cut :]
    if other == content:
        return
    whole = {member: held for member, held in bundle.members.items()} | {name: other}
    index = bundle.members and layout.index_text(bundle.index)
    stale = tmp_path / "stale.zip"  # the index as it was
    stale.write_bytes(layout.zipped(index, whole))
    try:
        found = read(stale)
        assert name in {damage.member for damage in found.damage}
    except BadInput as error:
        assert len(other) < len(content) and "cut short" in error.what
    forged = checks(written(tmp_path, packed(about_of(bundle), whole)))  # all hashes made anew
    assert forged["bytes"].state is State.HOLDS
    if name.endswith((".csv", ".npz")):
        assert {check.state for check in forged.values()} >= {State.FAILS}


# With the photos


def test_the_photos_are_answered_again_by_the_bundled_model(
    folder: Path, record_path: Path, photo_folder: Path, tmp_path: Path, run_tiffin: Run
) -> None:
    out = tmp_path / "b.zip"
    assert run_tiffin("evidence", folder / "fp32", "--record", record_path, "--with-model", "-o", out).code == 0
    ended = run_tiffin("verify", out, "--data", photo_folder)
    assert (ended.code, "48 of 48 photos get the answer" in " ".join(ended.out.split())) == (0, True), ended


def test_photos_are_found_by_their_pixels_and_a_missing_one_is_named(
    bundle_path: Path, folder: Path, photo_folder: Path, tmp_path: Path, run_tiffin: Run
) -> None:
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    files = sorted((photo_folder / "test").rglob("*.*g"))
    for number, path in enumerate(files[1:]):
        shutil.copyfile(path, moved / f"{number}{path.suffix}")
    words = ("verify", bundle_path, "--artifact", folder / "openvino-fp32", "--data")
    ended = run_tiffin(*words, moved)
    assert ended.code == 1
    assert "1 photo not in the folder" in " ".join(ended.out.split())
    shutil.copyfile(files[0], moved / f"last{files[0].suffix}")
    assert run_tiffin(*words, moved).code == 0
    empty = tmp_path / "empty"
    empty.mkdir()
    ended = run_tiffin(*words, empty)
    assert (ended.code, "none of the 48 photos" in " ".join(ended.out.split())) == (1, True)
    assert run_tiffin(*words, tmp_path / "nowhere").code == 2


def test_another_engine_version_is_said_and_decides_nothing(
    bundle_path: Path, folder: Path, photo_folder: Path, tmp_path: Path, run_tiffin: Run
) -> None:
    def older(record: Record) -> Record:
        subjects = tuple(
            dataclasses.replace(subject, applied={**subject.applied, "version": "1.0"}) for subject in record.subjects
        )
        return answering_rightly(dataclasses.replace(record, subjects=subjects), ROWS[1])

    bundle = read(bundle_path)
    members = rewritten(bundle, tmp_path, older)
    (tmp_path / "bench.json").write_bytes(members[bundle.index["records"][0]["member"]])
    (tmp_path / "bench.npz").write_bytes(members[bundle.index["records"][0]["member"].replace(".json", ".npz")])
    found = collect(Artifact.load(folder / "openvino-fp32"), [tmp_path / "bench.json"])
    path = tmp_path / "older.zip"
    path.write_bytes(packed(found.about, found.members))
    ended = run_tiffin("verify", path, "--data", photo_folder, "--artifact", folder / "openvino-fp32")
    words = " ".join(ended.out.split())
    assert (ended.code, "OPEN answers" in words) == (0, True), ended
    assert "47 of 48" in words
    assert "engine 1.0, here" in words


def test_a_request_that_is_none_is_named(
    bundle_path: Path, folder: Path, photo_folder: Path, tmp_path: Path, run_tiffin: Run
) -> None:
    def odd(record: Record) -> Record:
        subjects = tuple(dataclasses.replace(subject, requested={"engine": 1}) for subject in record.subjects)
        return dataclasses.replace(record, subjects=subjects, data={**record.data, "files": True})

    path = tmp_path / "odd.zip"
    path.write_bytes(packed(about_of(read(bundle_path)), rewritten(read(bundle_path), tmp_path, odd)))
    ended = run_tiffin("verify", path, "--data", photo_folder, "--artifact", folder / "openvino-fp32")
    assert (ended.code, "cannot be answered here (row 'openvino fp32': a request" in " ".join(ended.out.split())) == (
        1,
        True,
    ), ended


def test_photos_need_the_artifact_that_the_bundle_is_about(
    bundle_path: Path, folder: Path, photo_folder: Path, run_tiffin: Run
) -> None:
    ended = run_tiffin("verify", bundle_path, "--data", photo_folder)
    assert (ended.code, "holds no model" in ended.err) == (2, True)
    ended = run_tiffin("verify", bundle_path, "--data", photo_folder, "--artifact", folder / "fp32")
    assert (ended.code, "which the bundle is about" in ended.err) == (2, True)
    assert run_tiffin("verify", bundle_path, "--artifact", folder / "fp32").code == 2


# The commands


def test_the_commands_go_together(folder: Path, record_path: Path, tmp_path: Path, run_tiffin: Run) -> None:
    out = tmp_path / "deep" / "b.zip"
    ended = run_tiffin("evidence", folder / "openvino-fp32", "--record", record_path, "-o", out)
    assert ended.code == 0
    assert read(out).identity in ended.out
    ended = run_tiffin("verify", out)
    assert (ended.code, ended.out.splitlines()[-1]) == (0, "all of it holds")
    assert max(map(len, ended.out.splitlines())) <= 80
    body = json.loads(run_tiffin("verify", out, "--json").out)
    assert {check["state"] for check in body["checks"]} == {"HOLDS", "OPEN"}


def test_file_names_in_any_script_travel_as_data(
    folder: Path, record_path: Path, tmp_path: Path, run_tiffin: Run
) -> None:
    odd = tmp_path / "\u202eпакет 🍎.json"
    for ending in (".json", ".npz"):
        shutil.copyfile(record_path.with_suffix(ending), odd.with_suffix(ending))
    out = tmp_path / "b.zip"
    assert run_tiffin("evidence", folder / "fp32", "--record", odd, "--record", record_path, "-o", out).code == 0
    assert [entry["file"] for entry in read(out).index["records"]] == [odd.name, "bench.json"]
    ended = run_tiffin("verify", out)
    assert ended.code == 0
    assert "\u202e" not in ended.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policy", "x.toml"], "without a verdict"),
        (["--gate", "no.json"], "no result of the gate"),
        (["--report", "no.html"], "cannot be read"),
        (["--record", "no.json"], "no such record"),
    ],
)
def test_what_cannot_be_bundled_is_one_error(
    folder: Path, record_path: Path, tmp_path: Path, run_tiffin: Run, words: list[str], said: str
) -> None:
    out = tmp_path / "b.zip"
    ended = run_tiffin("evidence", folder / "fp32", "--record", record_path, *words, "-o", out)
    assert (ended.code, said in ended.err, out.exists()) == (2, True, False), ended


def test_a_record_of_other_artifacts_is_no_evidence(
    onnx_artifact: Artifact, record_path: Path, pt2_artifact: Artifact, tmp_path: Path, run_tiffin: Run
) -> None:
    ended = run_tiffin("evidence", pt2_artifact.folder, "--record", record_path, "-o", tmp_path / "b.zip")
    assert (ended.code, "no row of" in ended.err) == (2, True)
