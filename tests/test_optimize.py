"""optimize/: the pipeline and what it reuses, the candidates of a machine, what may be said of them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from tiffin import machine
from tiffin.benchmarks.options import RoundOptions
from tiffin.data import Dataset, open_dataset
from tiffin.errors import BadDataset, BadInput, Overlap
from tiffin.optimize.candidates import plan, without_vnni
from tiffin.optimize.demo import run_demo
from tiffin.optimize.pipeline import Built, Recipe, build, gather
from tiffin.optimize.proof import REFERENCE, best_float, not_faster, vnni_notes
from tiffin.records import Record, Rounds, Subject
from tiffin.records.record import load_record
from tiffin.runtime import backends
from tiffin.train import load_checkpoint

STAGES = {
    "fp32",
    "torch-fp32",
    "fp16",
    "bf16",
    "int8-cpu-nncf",
    "int8-cpu-ort",
    "int8-tensorrt-ort",
    "openvino-fp32",
    "openvino-int8-cpu-nncf",
    "openvino-int8-cpu-ort",
    "tensorrt_rtx-fp16",
    "tensorrt_rtx-int8-tensorrt-ort",
}
INT8 = {name for name in STAGES if "int8" in name}


@pytest.fixture(scope="module")
def dataset(photo_folder: Path) -> Dataset:
    return open_dataset(photo_folder)


@pytest.fixture(scope="module")
def recipe(checkpoint_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return Recipe(tmp_path_factory.mktemp("pipeline") / "out", checkpoint_file, photos=24, per_class=2)


def run(recipe: Recipe, dataset: Dataset) -> tuple[Built, dict[str, str]]:
    """What was built, and what each stage said: "building" or "unchanged, reused"."""
    said: list[str] = []
    checkpoint = load_checkpoint(recipe.checkpoint)
    materials = gather(recipe, dataset, checkpoint, lambda line: None)
    built = build(recipe, checkpoint, materials, said.append)
    return built, dict(line.split(": ", 1) for line in said if not line.startswith("  "))


@pytest.fixture(scope="module")
def built(recipe: Recipe, dataset: Dataset) -> Built:
    return run(recipe, dataset)[0]


def digests(built: Built) -> dict[str, str]:
    return {name: artifact.digest for name, artifact in built.artifacts.items()}


def times(built: Built) -> dict[Path, int]:
    files = [artifact.folder / file.name for artifact in built.artifacts.values() for file in artifact.manifest.files]
    return {path: path.stat().st_mtime_ns for path in files}


def rebuilt(said: dict[str, str]) -> set[str]:
    return {name for name, words in said.items() if words == "building"}


# Pipeline


def test_every_stage_is_built_or_has_a_reason(built: Built) -> None:
    assert set(built.artifacts) | set(built.reasons) == STAGES
    assert not {name for name in built.reasons if not name.startswith("tensorrt_rtx")}
    assert all(built.reasons.values())


def test_a_second_run_reuses_everything(built: Built, recipe: Recipe, dataset: Dataset) -> None:
    before = times(built)
    again, said = run(recipe, dataset)
    assert rebuilt(said) <= set(built.reasons)
    assert digests(again) == digests(built) and times(again) == before


def test_other_calibration_photos_rebuild_int8_alone(built: Built, recipe: Recipe, dataset: Dataset) -> None:
    again, said = run(dataclasses.replace(recipe, per_class=3), dataset)
    assert rebuilt(said) - set(built.reasons) == INT8 - set(built.reasons)
    same = {name for name, digest in digests(again).items() if digest == built.artifacts[name].digest}
    assert same == set(built.artifacts) - INT8
    assert len(again.artifacts["int8-cpu-nncf"].manifest.calibration) == 12
    run(recipe, dataset)  # as it was, for the other tests


def test_the_full_recipe_adds_the_full_range_scheme(built: Built, recipe: Recipe, dataset: Dataset) -> None:
    full, said = run(dataclasses.replace(recipe, full=True), dataset)
    assert set(full.artifacts) - set(built.artifacts) == {"int8-cpu-vnni-nncf", "int8-cpu-vnni-ort"}
    assert rebuilt(said) - set(built.reasons) == {"int8-cpu-vnni-nncf", "int8-cpu-vnni-ort"}


def test_a_changed_byte_is_built_anew(built: Built, recipe: Recipe, dataset: Dataset) -> None:
    victim = built.artifacts["int8-cpu-ort"].model_path
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(content)
    again, said = run(recipe, dataset)
    assert rebuilt(said) - set(built.reasons) == {"int8-cpu-ort"}
    again.artifacts["int8-cpu-ort"].verify()
    assert digests(again)["int8-cpu-ort"] == built.artifacts["int8-cpu-ort"].digest


@pytest.mark.parametrize("harm", ["manifest.json", "claims/stage.json"])
def test_a_broken_stage_is_built_anew(built: Built, recipe: Recipe, dataset: Dataset, harm: str) -> None:
    (built.artifacts["fp16"].folder / harm).write_text("{")
    again, said = run(recipe, dataset)
    assert "fp16" in rebuilt(said) and digests(again)["fp16"] == built.artifacts["fp16"].digest


def test_a_stage_that_fails_is_a_reason_for_those_after_it(
    recipe: Recipe, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BadInput("no quantizer today")

    monkeypatch.setattr("tiffin.quantize.quantize.quantize_int8", refuse)
    found, _ = run(dataclasses.replace(recipe, out=tmp_path), dataset)
    assert found.reasons["int8-cpu-nncf"] == "no quantizer today"
    assert "int8-cpu-nncf could not be built: no quantizer today" in found.reasons["openvino-int8-cpu-nncf"]
    assert {"fp32", "fp16", "openvino-fp32"} <= set(found.artifacts)


def test_calibration_and_scored_photos_must_be_disjoint(recipe: Recipe, dataset: Dataset, tmp_path: Path) -> None:
    confirm = dataset.role("confirm")
    mixed = dataclasses.replace(dataset, roles={**dataset.roles, "calibrate": confirm})
    with pytest.raises(Overlap, match="calibrate and confirm"):
        gather(dataclasses.replace(recipe, out=tmp_path), mixed, load_checkpoint(recipe.checkpoint), lambda line: None)


def test_an_empty_calibration_role_is_refused(recipe: Recipe, dataset: Dataset) -> None:
    bare = dataclasses.replace(dataset, roles={"confirm": dataset.role("confirm")})
    with pytest.raises(BadDataset, match="calibrate"):
        gather(recipe, bare, load_checkpoint(recipe.checkpoint), lambda line: None)


# Candidates


def test_candidates_run_here_or_have_a_reason(built: Built) -> None:
    rows = {row.name: row for row in plan(built, threads=1)}
    assert next(iter(rows)) == REFERENCE and {"onnxruntime fp32", "openvino int8 cpu nncf"} <= set(rows)
    assert all(row.reason or (row.artifact and row.run and row.run.threads == 1) for row in rows.values())
    assert not rows["onnxruntime int8 cpu ort"].reason and "bf16" in rows["onnxruntime bf16"].reason
    assert not {name for name in rows if "cpu-vnni" in name}  # only the full recipe builds them


def test_tensorrt_rows_have_reasons_where_there_is_no_gpu(built: Built) -> None:
    if backends.probe("tensorrt_rtx").runs:
        pytest.skip("there is a GPU here")
    rows = [row for row in plan(built) if row.name.startswith("tensorrt_rtx")]
    assert len(rows) == 2 and all("driver" in row.reason or "not" in row.reason for row in rows)


def test_a_stage_that_was_not_built_is_a_row_with_its_reason(built: Built) -> None:
    artifacts = {name: artifact for name, artifact in built.artifacts.items() if name != "fp16"}
    lacking = Built(artifacts, {**built.reasons, "fp16": "no half today"})
    rows = {row.name: row for row in plan(lacking)}
    assert (rows["onnxruntime fp16"].reason, rows["onnxruntime fp16"].artifact) == ("no half today", None)


def test_only_int8_is_scored_again_without_vnni(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = plan(built)
    monkeypatch.setattr(machine, "has_vnni", lambda: True)
    limited = without_vnni(rows)
    assert [row.name for row in limited] == [
        "openvino int8 cpu nncf, without VNNI",
        "openvino int8 cpu ort, without VNNI",
    ]
    assert {row.place.env["ONEDNN_MAX_CPU_ISA"] for row in limited} == {"AVX2"}
    monkeypatch.setattr(machine, "has_vnni", lambda: False)
    assert without_vnni(rows) == []


def test_what_a_machine_cannot_tell_is_noted() -> None:
    assert "no VNNI" in vnni_notes({"cpu_features": ["avx2"]})[0]
    assert "onnxruntime" in vnni_notes({"cpu_features": ["avx2", "avx512_vnni"]})[0]


# What may be said


def record(**medians_ms: list[float]) -> Record:
    """Hand-made: name (underscores are spaces) → a median a launch, in ms."""
    names = {name: name.replace("_", " ") for name in medians_ms}
    subjects = tuple(
        Subject(
            names[name],
            precision="int8" if "int8" in name else "fp16" if "fp16" in name else "fp32",
            requested={"backend": name.split("_")[0], "execution_precision": "bf16" if "bf16" in name else "fp32"},
        )
        for name in medians_ms
    )
    rounds = {
        names[name]: Rounds(tuple(np.full(5, int(ms * 1e6)) for ms in blocks), tuple(range(len(blocks))))
        for name, blocks in medians_ms.items()
    }
    return Record("bench", {}, subjects, rounds=rounds)


def test_int8_that_is_proven_faster_is_not_marked() -> None:
    assert not_faster(record(a_fp32=[5, 6, 5, 5.5, 5.2, 5], a_int8=[3.1, 3.6, 3, 3.3, 3.2, 3])) == {}


def test_int8_that_is_not_proven_faster_is_marked_with_ratio_and_verdict() -> None:
    (mark,) = not_faster(record(a_fp32=[5, 6, 5, 5, 5, 5], a_int8=[3, 4, 7.5, 3, 5, 4])).values()
    assert re.fullmatch(r"0\.\d\d \(0\.\d\d–1\.\d\d\) × a fp32, ambiguous", mark)
    (mark,) = not_faster(record(a_fp32=[5, 6, 5, 5, 5, 5], a_int8=[10, 12, 10, 10.1, 9.9, 10])).values()
    assert mark.startswith("2.0") and mark.endswith("slower")


def test_int8_is_compared_with_its_own_engines_best_float() -> None:
    medians = {"a_fp32": 5, "a_bf16": 3, "a_fp16": 4, "a_int8": 3.5, "b_fp32": 9, "b_int8": 5, "c_int8": 99}
    found = record(**{name: [ms, 1.01 * ms, ms, 0.99 * ms, ms, ms] for name, ms in medians.items()})
    assert best_float(found, "a") == "a bf16" and best_float(found, "c") is None
    assert list(not_faster(found)) == ["a int8"]


def test_rows_that_were_not_timed_are_not_marked() -> None:
    found = record(a_fp32=[5], a_int8=[9])
    assert not_faster(dataclasses.replace(found, rounds={"a fp32": found.rounds["a fp32"]})) == {}


# The whole way


class Silent:
    """Progress that keeps the names of what was scored."""

    def __init__(self) -> None:
        self.bars: list[str] = []

    def say(self, line: str) -> None: ...

    def bar(self, name: str, total: int):
        self.bars.append(name)
        return lambda done: None

    def timing(self, status) -> None: ...

    def timed(self) -> None: ...


@pytest.fixture(scope="module")
def demo(recipe: Recipe, dataset: Dataset, built: Built) -> Record:
    quick = RoundOptions(launches=1, blocks=1, block_s=0.01, min_calls=3, warmup_s=0.01, target=None)
    return run_demo(recipe, quick, dataset, Silent())


def test_the_demo_times_and_scores_all_that_runs(demo: Record) -> None:
    ran = {subject.name for subject in demo.subjects if not subject.reason}
    assert {REFERENCE, "onnxruntime fp32", "openvino fp32", "openvino int8 cpu nncf"} <= ran
    assert set(demo.predictions) == ran
    assert set(demo.rounds) == {name for name in ran if "without VNNI" not in name}
    assert demo.data == {"name": demo.data["name"], "kind": "photos", "role": "confirm", "count": 24, "calibration": 8}
    assert all(len(found) == 24 for found in demo.predictions.values())


def test_the_demos_engines_agree(demo: Record) -> None:
    wanted = demo.predictions[REFERENCE].top[:, 0]
    for name in ("onnxruntime fp32", "openvino fp32"):
        np.testing.assert_array_equal(demo.predictions[name].top[:, 0], wanted)
    assert (demo.predictions["openvino int8 cpu nncf"].top[:, 0] == wanted).mean() >= 0.8


def test_the_demos_record_is_printed_in_80_columns(
    demo: Record, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tiffin.cli.app import app

    path = demo.save(tmp_path / "record.json")
    assert [subject.name for subject in load_record(path).subjects] == [subject.name for subject in demo.subjects]
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        app(["show", str(path)])
    shown = capsys.readouterr().out
    assert not ended.value.code and max(map(len, shown.splitlines())) <= 80
    words = " ".join(shown.split())
    assert all(subject.name.split(",")[0] in words for subject in demo.subjects)
