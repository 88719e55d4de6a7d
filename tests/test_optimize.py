"""optimize/: the pipeline and what it reuses, the candidates of a machine, what may be said of them."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiffin import machine
from tiffin.artifact import Artifact, RunConfig
from tiffin.artifact.certificate import read_certificates
from tiffin.artifact.claims import read_claim
from tiffin.artifact.store import save
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.options import RoundOptions
from tiffin.benchmarks.studies import drops
from tiffin.benchmarks.studies.matrix_training import Lesson
from tiffin.data import Dataset, open_dataset
from tiffin.data.overlap import pixel_hashes
from tiffin.errors import BadDataset, BadInput, EngineMissing, Overlap
from tiffin.export.loaders import open_source
from tiffin.optimize import gpu_checks
from tiffin.optimize.answer import Answer, plain, sentence
from tiffin.optimize.budget import Budget, SearchOptions
from tiffin.optimize.candidates import plan, without_vnni
from tiffin.optimize.choice import accuracy_refusal, choose
from tiffin.optimize.confirmation import Confirmation, certify_from, confirm, log_look, read_looks
from tiffin.optimize.demo import run_demo
from tiffin.optimize.device import merged
from tiffin.optimize.evidence import finalists, measured
from tiffin.optimize.optimize import optimize, roles
from tiffin.optimize.pipeline import Built, Recipe, build, gather
from tiffin.optimize.proof import best_float, not_faster, reference_of, vnni_notes
from tiffin.optimize.search import Search
from tiffin.optimize.selftest import run_selftest
from tiffin.optimize.stages import Stages
from tiffin.optimize.variants import structure_of
from tiffin.records import Predictions, Record, Rounds, Subject
from tiffin.records.certification import check_certificate
from tiffin.records.estimate import Decision
from tiffin.records.latency import summarize
from tiffin.records.record import load_record
from tiffin.runtime import backends, default_run, load
from tiffin.runtime.backends._cuda import driver_problem

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
    return Recipe(
        tmp_path_factory.mktemp("pipeline") / "out", open_source(str(checkpoint_file)), photos=24, per_class=2
    )


def run(recipe: Recipe, dataset: Dataset) -> tuple[Built, dict[str, str]]:
    """What was built, and what each stage said: "building" or "unchanged, reused"."""
    said: list[str] = []
    materials = gather(recipe, dataset, lambda line: None)
    built = build(recipe, materials, said.append)
    return built, dict(line.split(": ", 1) for line in said if not line.startswith("  "))


@pytest.fixture(scope="module")
def built(recipe: Recipe, dataset: Dataset) -> Built:
    return run(recipe, dataset)[0]


def copied(recipe: Recipe, folder: Path, *leave_out: str) -> Recipe:
    """The same recipe in a folder with what was built by it."""
    shutil.copytree(recipe.out, folder, ignore=shutil.ignore_patterns(*leave_out), dirs_exist_ok=True)
    return dataclasses.replace(recipe, out=folder)


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


def test_other_calibration_photos_rebuild_int8_alone(
    built: Built, recipe: Recipe, dataset: Dataset, tmp_path: Path
) -> None:
    again, said = run(dataclasses.replace(copied(recipe, tmp_path), per_class=3), dataset)
    assert rebuilt(said) - set(built.reasons) == INT8 - set(built.reasons)
    same = {name for name, digest in digests(again).items() if digest == built.artifacts[name].digest}
    assert same == set(built.artifacts) - INT8
    assert len(again.artifacts["int8-cpu-nncf"].manifest.calibration) == 12


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


def test_another_tiffin_builds_anew(onnx_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make(out: Path) -> Artifact:
        made.append(out)
        return save(out, onnx_artifact.manifest, {"model.onnx": onnx_artifact.model_path})

    def build_it() -> int:
        Stages(tmp_path, lambda line: None).needed("fp32", "source", {}, make)
        return len(made)

    assert (build_it(), build_it()) == (1, 1)
    known = importlib.metadata.version
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0" if name == "tiffin" else known(name))
    assert build_it() == 2


def test_a_stage_that_fails_is_a_reason_for_those_after_it(
    built: Built, recipe: Recipe, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise BadInput("no quantizer today")

    monkeypatch.setattr("tiffin.quantize.quantize.quantize_int8", refuse)
    found, _ = run(copied(recipe, tmp_path, "*int8*"), dataset)
    assert found.reasons["int8-cpu-nncf"] == "no quantizer today"
    assert "int8-cpu-nncf could not be built: no quantizer today" in found.reasons["openvino-int8-cpu-nncf"]
    assert {"fp32", "fp16", "openvino-fp32"} <= set(found.artifacts)


def test_calibration_and_scored_photos_must_be_disjoint(recipe: Recipe, dataset: Dataset, tmp_path: Path) -> None:
    confirm = dataset.role("confirm")
    mixed = dataclasses.replace(dataset, roles={**dataset.roles, "calibrate": confirm})
    with pytest.raises(Overlap, match="calibrate and confirm"):
        gather(dataclasses.replace(recipe, out=tmp_path), mixed, lambda line: None)


def test_an_empty_calibration_role_is_refused(recipe: Recipe, dataset: Dataset) -> None:
    bare = dataclasses.replace(dataset, roles={"confirm": dataset.role("confirm")})
    with pytest.raises(BadDataset, match="calibrate"):
        gather(recipe, bare, lambda line: None)


# Candidates


def test_candidates_run_here_or_have_a_reason(built: Built) -> None:
    rows = {row.name: row for row in plan(built, threads=1)}
    assert next(iter(rows)) == "torch fp32" and {"onnxruntime fp32", "openvino int8 cpu nncf"} <= set(rows)
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


def test_under_throughput_the_best_float_answers_most_photos_a_second() -> None:
    def crowded(call_ms: float, photos_per_s: float) -> Rounds:
        blocks = tuple(np.full(100, int(call_ms * 1e6)) for _ in range(4))
        return Rounds(blocks, tuple(range(4)), regime="throughput", sensors={"wall_s": np.full(4, 100 / photos_per_s)})

    found = record(a_fp32=[20], a_fp16=[40], a_int8=[30])
    rounds = {"a fp32": crowded(20, 100), "a fp16": crowded(40, 200), "a int8": crowded(30, 150)}
    timed = dataclasses.replace(found, rounds=rounds)  # in four lanes, fp16 takes longer a call and gives more
    assert best_float(timed, "a") == "a fp16" and "× a fp16" in not_faster(timed)["a int8"]


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
    assert {"torch fp32", "onnxruntime fp32", "openvino fp32", "openvino int8 cpu nncf"} <= ran
    assert set(demo.predictions) == ran
    assert set(demo.rounds) == {name for name in ran if "without VNNI" not in name}
    said = {"name": demo.data["name"], "kind": "photos", "role": "confirm", "count": 24, "calibration": 8}
    assert demo.data == {**said, "labels": ("apple", "leek", "milk", "pear"), "coarse": None}
    assert all(len(found) == 24 for found in demo.predictions.values())


def test_the_demos_engines_agree(demo: Record) -> None:
    wanted = demo.predictions[reference_of(demo)].top[:, 0]
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


# Choosing: hand-made records


def answered(truth: list[int], top1: list[int], kind: str = "photos") -> Predictions:
    """Answers with a logit of 4 on the label given and 0 on the other three."""
    logits = np.zeros((len(top1), 4), np.float32)
    logits[np.arange(len(top1)), top1] = 4
    digests = tuple(f"{row:064x}" for row in range(len(top1)))
    return Predictions.from_logits(digests, np.array(truth), logits, kind)


@pytest.mark.parametrize(
    ("photos", "lost", "max_drop", "refused"),
    [
        (160, 1, 0.005, False),
        (160, 2, 0.005, True),
        (50, 1, 0.01, False),
        (400, 2, 0.005, False),
        (400, 3, 0.005, True),
    ],
)
def test_one_photo_less_is_no_observation(photos: int, lost: int, max_drop: float, refused: bool) -> None:
    truth = [0] * photos
    found = accuracy_refusal(answered(truth, [1] * lost + truth[lost:]), answered(truth, truth), max_drop)
    assert found.startswith("top-1 -") == refused and bool(found) == refused


TRUTH = [row % 4 for row in range(400)]


def losing(count: int) -> list[int]:
    """Answers that are right but for the first `count` photos."""
    return [(label + 1) % 4 if row < count else label for row, label in enumerate(TRUTH)]


def trial(rows: dict[str, tuple[float, int]], **fields: object) -> Record:
    """name → (ms, photos lost); precision, scheme and place are told by words in the name, size by the ms."""
    subjects, rounds, predictions = [], {}, {}
    jitter = np.array([1.0, 1.002, 0.998, 1.001, 0.999, 1.0])
    for index, (name, (ms, lost)) in enumerate(rows.items()):
        precision = next((word for word in ("int8", "fp16", "bf16") if word in name), "fp32")
        scheme = ("cpu-vnni" if "vnni" in name.split(",")[0] else "cpu") if precision == "int8" else None
        place = "without VNNI" if ", without" in name else "native"
        subjects.append(Subject(name, name.split(",")[0], precision, scheme, size_bytes=(index + 1) * 1_000_000,
                                requested={"backend": "x", "execution_precision": "fp32"}, place=place))  # fmt: skip
        predictions[name] = answered(TRUTH, losing(lost))
        if place == "native" and ms:
            rounds[name] = Rounds(tuple(np.full(5, int(ms * 1e6 * part)) for part in jitter), tuple(range(6)))
    return replace(Record("optimize", {}, tuple(subjects), rounds=rounds, predictions=predictions), **fields)


def test_the_fastest_acceptable_candidate_wins_and_the_reason_names_what_it_beats() -> None:
    found = choose(trial({"fp32": (10, 0), "student fp32": (8, 1), "int8": (4, 2)}), Budget(), "fp32")
    assert (found.winner, found.fallback) == ("int8", "fp32")
    assert "2.00 ×" in found.because and "student fp32" in found.because
    assert [row.departure for row in found.rows] == [0, 1, 2]


@pytest.mark.parametrize("int8_ms", [9.95, 10.0, 12.0])
def test_int8_that_is_not_proven_faster_than_the_best_float_never_wins(int8_ms: float) -> None:
    found = choose(trial({"fp32": (10, 0), "int8": (int8_ms, 0)}), Budget(), "fp32")
    assert found.winner == "fp32" and "int8 is not proven faster than fp32" in found.because


def test_a_candidate_that_loses_too_much_is_refused_however_fast() -> None:
    found = choose(trial({"fp32": (10, 0), "int8": (1, 9)}), Budget(max_drop=0.01), "fp32")
    assert found.winner == "fp32" and "-2.25 points" in found.row("int8").refused
    assert choose(trial({"fp32": (10, 0), "int8": (1, 9)}), Budget(max_drop=0.03), "fp32").winner == "int8"


def test_a_change_of_top_1_has_the_sign_of_its_name() -> None:
    made = trial({"fp32": (10, 0), "int8": (4, 4)})
    rows = json.loads(plain(Answer(made, choose(made, Budget(), "fp32"))))["rows"]
    assert [row["top_1_change"]["value"] for row in rows] == [0, pytest.approx(-0.01)]


def test_a_scheme_that_saturates_is_for_this_cpu_only() -> None:
    made = trial({"fp32": (10, 0), "int8 vnni": (4, 0)})
    portable = choose(made, Budget(), "fp32")
    assert portable.winner == "fp32" and "--this-cpu" in portable.row("int8 vnni").refused
    assert choose(made, Budget(portable=False), "fp32").winner == "int8 vnni"


def test_answers_that_fail_under_a_limited_instruction_set_are_not_portable() -> None:
    made = trial({"fp32": (10, 0), "int8": (4, 0), "int8, without VNNI": (0, 40)})
    found = choose(made, Budget(), "fp32")
    assert found.winner == "fp32" and found.row("int8").refused.startswith("without VNNI: top-1 -10.00")
    assert choose(made, Budget(portable=False), "fp32").winner == "int8"


def test_bounds_of_time_and_size_are_kept_and_what_comes_nearest_is_named() -> None:
    made = trial({"fp32": (10, 0), "int8": (4, 0)})
    assert choose(made, Budget(max_size_bytes=1_000_000), "fp32").winner == "fp32"  # the second weighs 2 MB
    assert choose(made, Budget(max_latency_s=0.005), "fp32").winner == "int8"
    found = choose(made, Budget(max_latency_s=0.0005), "fp32")
    assert found.winner is None and "0.5 ms" in found.because and "nearest is int8 at 4 ms" in found.because


@pytest.mark.parametrize(
    ("ms", "refused"),
    [
        ([4.9], "1 launch, "),
        ([4.9, 4.9], "2 launches"),
        ([4.5, 4.6, 4.9], "4.66 ms (4.33–5.02)"),  # all within, which three launches in a row may be by chance
        ([4.5, 4.5, 4.51], ""),
        ([4.5, 4.5, 4.5, 4.5, 4.5, 4.5, 4.5, 5.5], ""),  # one disturbed launch
    ],
)
def test_a_bound_of_time_is_proven_over_launches(ms: list[float], refused: str) -> None:
    made = trial({"fp32": (10, 0), "int8": (4, 0)})
    rounds = Rounds(tuple(np.full(5, int(each * 1e6)) for each in ms), tuple(range(len(ms))))
    found = choose(replace(made, rounds={**made.rounds, "int8": rounds}), Budget(max_latency_s=0.005), "fp32")
    assert (found.winner == "int8") == (not refused) and found.row("int8").refused.startswith(refused)


def test_by_size_the_smallest_wins_even_if_slower() -> None:
    made = trial({"int8": (12, 0), "fp32": (10, 0)})
    assert choose(made, Budget(objective="size"), "fp32").winner == "int8"


def test_of_equally_fast_candidates_the_more_faithful_wins() -> None:
    found = choose(trial({"fp32": (10, 0), "int8 a": (4, 3), "int8 b": (4.02, 1)}), Budget(), "fp32")
    assert found.winner == "int8 b"
    assert found.row("int8 a").front and found.row("int8 b").front and found.row("fp32").front


def test_a_dominated_candidate_is_not_on_the_front() -> None:
    found = choose(trial({"fp32": (10, 0), "int8 a": (4, 1), "int8 b": (5, 2)}), Budget(), "fp32")
    assert not found.row("int8 b").front


def test_a_candidate_that_crashed_is_named_and_does_not_end_the_search() -> None:
    made = trial({"fp32": (10, 0), "int8": (4, 0)})
    crashed = replace(made.subjects[1], reason="the worker died")
    found = choose(replace(made, subjects=(made.subjects[0], crashed)), Budget(), "fp32")
    assert found.winner == "fp32" and found.row("int8").refused == "the worker died"


@pytest.mark.parametrize(
    ("about", "options", "departure"),
    [
        ({}, {}, 0),
        ({"checkpoint": "another"}, {}, 1),
        ({}, {"given": ["fp32", "int8"]}, 1),  # the same weights with another input
        ({"precision": "fp16"}, {}, 1),
    ],
)
def test_the_same_answers_of_another_model_depart_from_the_given_one(
    about: dict[str, str], options: dict[str, object], departure: int
) -> None:
    first, second, third = trial({"fp32": (10, 0), "fp32 b": (8, 0), "int8": (4, 0)}).subjects
    made = trial({"fp32": (10, 0), "fp32 b": (8, 0), "int8": (4, 0)}, options=options,
                 subjects=(first, replace(second, **about), third))  # fmt: skip
    found = choose(made, Budget(), "fp32")
    assert found.row("fp32 b").departure == departure
    assert (found.winner, found.fallback) == ("int8", "fp32" if departure else "fp32 b")


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(1, 20), st.integers(0, 12)), min_size=1, max_size=6))
def test_no_winner_is_slower_than_fp32_nor_disproven(rows: list[tuple[float, int]]) -> None:
    names = {f"int8 {number}": row for number, row in enumerate(rows)}
    made = trial({"fp32": (10, 0), **names})
    found = choose(made, Budget(), "fp32")
    assert found.winner is not None
    times = {name: summary.p50_s.value for name in made.rounds if (summary := summarize(made.rounds[name]))}
    assert times[found.winner] <= times["fp32"]
    assert found.winner == "fp32" or dict(names)[found.winner][1] <= 4  # 4 of 400 photos are the margin


# Confirming


def confirmed(lost: int, limited: int | None = None, kind: str = "photos") -> Confirmation:
    rows = {"fp32": (0, 0), "int8": (0, lost)} | ({} if limited is None else {"int8, without VNNI": (0, limited)})
    made = trial(rows)
    found = {name: answered(TRUTH, losing(rows[name][1]), kind) for name in rows}
    return confirm(replace(made, predictions=found), "int8", "fp32", Budget())


def test_the_winner_is_confirmed_only_where_non_inferiority_is_proven_in_every_place() -> None:
    assert confirmed(0).passed and confirmed(0, 0).passed
    assert confirmed(2).verdict.decision is Decision.INCONCLUSIVE and not confirmed(2).passed
    assert not confirmed(0, 40).passed and confirmed(0, 40).places["without VNNI"].decision is Decision.FAIL
    assert not confirmed(40).passed


@pytest.mark.parametrize(("lost", "shipped"), [(0, "fp32 b"), (2, "fp32"), (40, "fp32")])
def test_a_winner_in_fp32_that_is_not_confirmed_is_not_shipped_nor_called_confirmed(
    onnx_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: int, shipped: str
) -> None:
    class Searched:
        """A search that is over."""

        reference = "fp32"
        candidates = {
            name: Candidate(name, onnx_artifact, RunConfig("onnxruntime", threads=threads))
            for threads, name in enumerate(("fp32", "fp32 b"), 1)
        }

        def __init__(self, *given: object) -> None: ...

        def run(self) -> Record:
            return trial({"fp32": (10, 0), "fp32 b": (8, 0)})

    def look(*given: object) -> tuple[Confirmation, int, Record]:
        seen = trial({"fp32": (0, 0), "fp32 b": (0, lost)})
        return confirm(seen, "fp32 b", "fp32", Budget()), 1, seen

    certified: list[str] = []

    def certify(record: Record, artifact: Artifact, winner: str, *more: object) -> None:
        certified.append(winner)

    fakes = {"load_models": lambda *given: [], "Search": Searched, "_confirm": look, "certify_from": certify}
    for name, fake in fakes.items():
        monkeypatch.setattr(f"tiffin.optimize.optimize.{name}", fake)
    found = optimize([], SimpleNamespace(about=dict), Budget(), SearchOptions(tmp_path), None)
    assert (found.choice.winner, found.shipped) == ("fp32 b", shipped)
    assert found.artifact.manifest.run.threads == (1 if lost else 2)
    passed = shipped == "fp32 b"
    assert (read_claim(found.artifact, "confirmed") is not None, certified == ["fp32 b"]) == (passed, passed)
    assert ("are confirmed on photos" in sentence(found), "fp32 b was not confirmed" in sentence(found)) == (
        passed, not passed)  # fmt: skip


def test_a_fallback_that_is_beyond_the_budget_says_so() -> None:
    made = trial({"int8": (4, 0), "fp32": (10, 0)})
    choice = choose(made, Budget(max_size_bytes=1_000_000), "fp32")
    said = sentence(Answer(made, choice, confirmed(40), choice.fallback))
    assert said.startswith("ship fp32: ") and said.endswith("; beyond the budget: 2.0 MB is more than 1")


def test_what_was_confirmed_is_certified_beside_what_ships(
    onnx_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(["sse4_1", "avx2", "avx512f", "avx512_vnni"]))
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    shipped = save(tmp_path / "winner", replace(onnx_artifact.manifest, precision="int8"),
                   {"model.onnx": onnx_artifact.model_path})  # fmt: skip
    rows = {"fp32": (0, 0), "int8": (0, 0), "int8, without VNNI": (0, 40)}
    made = trial(rows, data={"name": "drawn", "kind": "photos", "role": "confirm", "count": 400})
    applied = {"backend": "openvino", "version": "2026.1", "execution_precision": "fp32"}
    requested = {"backend": "openvino", "device": "cpu", "execution_precision": "fp32"}
    subjects = tuple(replace(row, requested=requested, applied=applied) for row in made.subjects)
    certify_from(replace(made, subjects=subjects), shipped, "int8", "fp32", 0.01)
    found = {row.cpu_class: row for row in read_certificates(shipped)}
    assert {name: row.verdict for name, row in found.items()} == {"vnni": "PASS", "avx2": "FAIL"}
    assert found["avx2"].place == "without VNNI" and found["vnni"].reference == "fp32"
    for row in found.values():
        check_certificate(shipped, row)


def test_synthesized_images_are_judged_by_agreement_and_say_so() -> None:
    found = confirmed(2, kind="synthesized")
    assert found.passed and "says nothing of accuracy" in found.verdict.reason
    assert not confirmed(9, kind="synthesized").passed


def test_each_new_look_is_written_down_and_the_same_look_only_once(tmp_path: Path) -> None:
    path = tmp_path / "looks.json"
    fp32, bf16 = (RunConfig("openvino", execution_precision=word) for word in ("fp32", "bf16"))
    path.write_text('[{"artifact": "a", "photos": "photos", "margin": 0.01}]')  # as it was before it named runs
    for artifact, run, number in (("a", bf16, 2), ("a", bf16, 2), ("a", fp32, 3), ("b", fp32, 4)):
        assert len(log_look(path, artifact, run, "photos", 0.01, confirmed(0))) == number
    assert [look["artifact"] for look in read_looks(path)] == ["a", "a", "a", "b"]
    path.write_text("{")
    with pytest.raises(BadInput, match="looks.json"):
        log_look(path, "c", fp32, "photos", 0.01, confirmed(0))
    assert path.read_text() == "{"


# The search


@pytest.fixture(scope="module")
def searched(photo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The folder's photos with more of them to select by than its val split has."""
    found = open_dataset(photo_folder)
    train = sorted(found.role("train"), key=lambda photo: photo.path.name)
    some = {"calibrate": tuple(train[:16]), "select": tuple(train[16:]), "train": ()}
    return replace(found, roles={**found.roles, **some})


PER_CLASS = 4
QUICK = RoundOptions(launches=2, max_launches=2, blocks=2, block_s=0.01, warmup_s=0.01, target=None)


@pytest.fixture(scope="module", autouse=True)
def short_heats() -> Iterator[None]:
    """One launch each, of a dozen candidates."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tiffin.optimize.search._HEAT_LAUNCHES", 1)
        yield


def begun(answer: Answer, folder: Path) -> Path:
    """A folder with what one search has built and answered, for another to go on from."""
    for name in ("artifacts", "cache"):
        shutil.copytree(answer.artifact.folder.parent / name, folder / name)
    return folder


def searching(checkpoint_file: Path, searched: Dataset, out: Path, budget: Budget, **options: object) -> Answer:
    photos = roles(searched, PER_CLASS, 0, out / "cache")
    chosen = SearchOptions(out, **{"time_budget_s": 600.0, "rounds": QUICK, **options})
    return optimize([open_source(str(checkpoint_file))], photos, budget, chosen, Silent())


@pytest.fixture(scope="module")
def answer(checkpoint_file: Path, searched: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Answer:
    return searching(checkpoint_file, searched, tmp_path_factory.mktemp("search"), Budget(max_drop=0.2))


def test_a_study_confirms_every_int8_of_a_search(
    checkpoint_file: Path, searched: Dataset, answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not what it ships alone; what is shipped is marked."""
    begun(answer, tmp_path / "work" / "tinynet")
    monkeypatch.setattr(drops, "PER_CLASS", PER_CLASS)
    monkeypatch.setitem(drops.CASES, "tinynet", drops.Case(Lesson("features"), 0.25))
    monkeypatch.setattr(drops, "find_dataset", lambda folder: searched)
    monkeypatch.setattr(drops, "trained", lambda *about: checkpoint_file)
    monkeypatch.setattr(drops, "SearchOptions", lambda out: SearchOptions(out, 600.0, ("onnxruntime",), rounds=QUICK))
    drops.confirmed("tinynet", tmp_path, tmp_path / "work", tmp_path)
    search, found = (load_record(tmp_path / f"drop-tinynet{word}.json") for word in ("-search", ""))
    made = {each.name for each in search.subjects if each.precision == "int8" and each.artifact}
    assert made and made <= set(found.predictions)
    rows = [line for line in drops.table(tmp_path).splitlines() if line.startswith("| tinynet |")]
    assert len(rows) == len(found.predictions) and sum(", shipped |" in row for row in rows) == 1
    assert all(" at 25.0 |" in row for row in rows if " int8" in row)
    assert drops.table(tmp_path).count("not run") == 7 * (len(drops.CASES) - 1)


def test_the_search_ships_one_artifact_with_its_run_and_its_evidence(answer: Answer) -> None:
    assert answer.shipped and answer.artifact and answer.artifact.manifest.run is not None
    backend = answer.shipped.split("@")[1].split()[0]
    assert answer.artifact.manifest.run.backend == backend == default_run(answer.artifact).backend
    with load(answer.artifact) as session:
        assert session.applied.run.backend == backend
    out = answer.artifact.folder.parent
    kept = load_record(out / "search.json")
    assert kept.data["role"] == "select" and kept.kind == "optimize"
    assert sentence(answer).startswith(f"ship {answer.shipped}")
    again = choose(kept, Budget(max_drop=0.2), answer.choice.reference)
    assert (again.winner, again.because) == (answer.choice.winner, answer.choice.because)


def test_the_search_never_sees_a_photo_that_confirms(answer: Answer, searched: Dataset, tmp_path: Path) -> None:
    confirming = set(pixel_hashes(searched.role("confirm")).values())
    seen = {photo for found in answer.search.predictions.values() for photo in found.photos}
    assert seen and not seen & confirming
    if answer.confirmation:
        kept = load_record(answer.artifact.folder.parent / "confirm.json")
        assert set(kept.predictions) <= {answer.choice.reference, answer.choice.winner}
        assert all(set(found.photos) == confirming for found in kept.predictions.values())
        assert len(kept.options["looks"]) == answer.looks == 1


def test_every_candidate_was_timed_or_says_why_not(answer: Answer) -> None:
    rows = answer.choice.rows
    assert {"tiny@onnxruntime", "tiny@openvino"} <= {row.name for row in rows}
    assert all(row.cost is not None or row.refused for row in rows)
    assert any("int8" in row.name and row.flips is not None for row in rows)


def test_an_interrupted_search_goes_on_where_it_was(
    checkpoint_file: Path, searched: Dataset, answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = answer.artifact.folder.parent
    monkeypatch.setattr("tiffin.optimize.evidence.Measurement.run", lambda self: pytest.fail("measured again"))
    again = searching(checkpoint_file, searched, out, Budget(max_drop=0.2))
    assert (again.shipped, again.choice.because) == (answer.shipped, answer.choice.because)
    assert again.looks == answer.looks


def test_a_measurement_is_reused_on_the_same_machine_alone_unless_time_cut_it(
    onnx_artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran, ended = [], ["converged"]

    class Timed:
        def __init__(self, *given: object) -> None:
            ran.append(given)

        def run(self) -> None: ...

        def subjects(self) -> tuple[Subject, ...]:
            return (Subject("fp32"),)

        def rounds(self) -> dict[str, Rounds]:
            return {"fp32": Rounds((np.full(5, 9),), (0,), (0,), ended=ended[0])}

    def measure_it(limit_s: float = 300.0) -> int:
        row = Candidate("fp32", onnx_artifact, RunConfig("onnxruntime"))
        options = RoundOptions(time_limit_s=limit_s)
        measured(tmp_path / "bench.json", [row], options, lambda line: None, lambda status: None)
        return len(ran)

    monkeypatch.setattr("tiffin.optimize.evidence.Measurement", Timed)
    assert (measure_it(), measure_it(), measure_it(400.0)) == (1, 1, 1)
    monkeypatch.setattr("tiffin.machine.usable_cores", lambda: 99)  # another cpuset: as many threads by default
    ended[0] = "time limit"
    assert (measure_it(), measure_it(), measure_it(200.0)) == (2, 2, 2)
    assert (measure_it(400.0), measure_it()) == (3, 3)  # more time for what time had cut


def test_a_budget_that_nothing_meets_ships_nothing_and_leaves_no_earlier_winner(
    checkpoint_file: Path, searched: Dataset, answer: Answer, tmp_path: Path
) -> None:
    out = shutil.copytree(answer.artifact.folder.parent, tmp_path / "search")
    stale = [out / "confirm.json", out / "confirm.npz", out / "winner"]
    for path in stale[:2]:
        path.touch()
    found = searching(checkpoint_file, searched, out, Budget(max_drop=0.2, max_latency_s=1e-7))
    assert found.shipped is None and found.artifact is None and "the nearest is" in sentence(found)
    assert not any(path.exists() for path in stale)


def test_the_search_refuses_what_it_cannot_judge(
    checkpoint_file: Path, searched: Dataset, onnx_artifact: Artifact, tmp_path: Path
) -> None:
    few = replace(searched, roles={**searched.roles, "select": searched.role("select")[:20]})
    with pytest.raises(BadInput, match="20 photos to select by"):
        searching(checkpoint_file, few, tmp_path, Budget())
    twice = replace(searched, roles={**searched.roles, "confirm": searched.role("select")})
    with pytest.raises(Overlap, match="select and confirm"):
        searching(checkpoint_file, twice, tmp_path, Budget())
    with pytest.raises(BadInput, match="does not know backend"):
        searching(checkpoint_file, searched, tmp_path, Budget(), backends=("null",))


def test_where_no_recipe_keeps_the_accuracy_the_most_sensitive_layers_stay_in_float(
    checkpoint_file: Path, searched: Dataset, answer: Answer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(found: Predictions, base: Predictions, max_drop: float) -> str:
        return "" if np.allclose(found.logits, base.logits, atol=1e-3) else "not the same to a hair"

    monkeypatch.setattr("tiffin.optimize.search.accuracy_refusal", refuse)
    out = begun(answer, tmp_path / "search")
    found = searching(checkpoint_file, searched, out, Budget(max_drop=0.2), backends=("onnxruntime",))
    mixed = [row for row in found.search.subjects if "-float@" in row.name]
    assert mixed and all(row.artifact or row.reason for row in mixed)
    nodes = [row.producer["options"]["float_nodes"] for row in mixed if row.artifact]
    assert sorted(map(len, nodes)) == sorted({len(names) for names in nodes}) and all(nodes)


def test_graphs_that_differ_in_values_alone_share_a_structure(onnx_artifact: Artifact, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(onnx_artifact.model_path)
    for value in model.graph.initializer:
        if value.data_type == onnx.TensorProto.FLOAT and value.raw_data:
            value.raw_data = bytes(len(value.raw_data))
    files = {"model.onnx": model.SerializeToString()}
    other = save(tmp_path / "zeros", onnx_artifact.manifest, files)
    assert structure_of(other) == structure_of(onnx_artifact)
    model.graph.node[-1].op_type = "Identity"
    changed = save(tmp_path / "changed", onnx_artifact.manifest, {"model.onnx": model.SerializeToString()})
    assert structure_of(changed) != structure_of(onnx_artifact)


def test_the_heats_keep_the_fastest_the_reference_and_the_best_float() -> None:
    times = {f"int8 {number}": 4.0 + number / 100 for number in range(8)}
    times |= {"fp32": 10.0, "fp32 b": 9.0, "int8 slow": 4.7}
    kept = finalists(times, {"fp32", "fp32 b"}, "fp32")
    assert kept == {*(f"int8 {number}" for number in range(5)), "fp32", "fp32 b"}


def test_by_size_the_heats_keep_the_smallest_that_are_fast_enough() -> None:
    times = {"fp32": 4.0, **{f"int8 {number}": 16.0 - number for number in range(8)}}
    sizes = {"fp32": 90, **{f"int8 {number}": 10 + number for number in range(8)}}
    assert finalists(times, {"fp32"}, "fp32", sizes) == {"fp32", *(f"int8 {number}" for number in range(5))}
    within = finalists(times, {"fp32"}, "fp32", sizes, 13.0)  # 15 % above it may be noise
    assert within == {"fp32", *(f"int8 {number}" for number in range(2, 7))}


@pytest.mark.parametrize("budget", [Budget(max_size_bytes=5_000_000), Budget(objective="size")])
def test_small_candidates_are_timed_to_the_end_however_slow(monkeypatch: pytest.MonkeyPatch, budget: Budget) -> None:
    """Those too large are not timed; the reference, which cannot win, drops none; it takes no longer than is left."""
    rows = {"fp32": 10.0, "fp32 b": 8.0, **{f"int8 {number}": 15.0 + number / 10 for number in range(7)}}
    found = Search.__new__(Search)
    found.candidates = {
        name: SimpleNamespace(artifact=SimpleNamespace(
            size_bytes=4_000_000 if "int8" in name else 13_000_000,
            manifest=SimpleNamespace(precision=name.split()[0])))
        for name in rows
    }  # fmt: skip
    found._budget, found._options, found._progress, found._reasons = budget, SearchOptions(Path()), Silent(), {}
    found._began = time.monotonic() - 0.6 * found._options.time_budget_s
    timed: list[str] = []

    def measured(name: str, names: list[str], options: RoundOptions) -> Record:
        assert options.time_limit_s <= 0.1 * found._options.time_budget_s
        timed.extend(names)
        return trial({name: (rows[name], 0) for name in names})

    monkeypatch.setattr(found, "_measured", measured)
    found._halve_by_size()
    found._heats()
    assert ("fp32 b" in timed) == (budget.max_size_bytes is None)
    assert {f"int8 {number}" for number in range(5)} < set(found._open()) and "fp32" in found._open()


def begun_search(names: list[str], *more: str) -> Search:
    """After all select photos were answered; precision and scheme by words in the names, and all of one structure."""
    found = Search.__new__(Search)
    found._budget, found._options, found._progress, found._reasons = Budget(), SearchOptions(Path()), Silent(), {}
    subjects = {row.name: row for row in trial({name: (1, 0) for name in (*names, *more)}).subjects}
    found.candidates = {
        name: SimpleNamespace(
            name=name, reason="", run=RunConfig("openvino"), subject=lambda row=row: row,
            artifact=SimpleNamespace(size_bytes=1, manifest=SimpleNamespace(precision=row.precision)))
        for name, row in subjects.items() if name in names
    }  # fmt: skip
    found._variants = {name: SimpleNamespace(structure=row.precision) for name, row in subjects.items()}
    found._answers = {name: answered(TRUTH, losing(0)) for name in names}
    found._limited, found._owner = [], dict.fromkeys(names, "net")
    return found


def test_what_is_not_portable_takes_no_portable_candidates_place() -> None:
    found = begun_search(["fp32", "int8 a vnni", "int8 b"])
    found._halve_by_portability(found._open())
    found._halve_by_structure()
    assert found._open() == ["fp32", "int8 b"] and "--this-cpu" in found._reasons["int8 a vnni"]


def test_layers_kept_in_float_are_answered_without_vnni_too(monkeypatch: pytest.MonkeyPatch) -> None:
    found, mixed = begun_search(["fp32"], "int8 mixed"), begun_search(["fp32", "int8 mixed"])
    monkeypatch.setattr(machine, "has_vnni", lambda: True)
    monkeypatch.setattr(found, "_most_faithful", lambda model: "net-int8-cpu-ort@openvino")
    monkeypatch.setattr("tiffin.quantize.sensitivity.sensitivity", lambda *given: ())
    monkeypatch.setattr("tiffin.quantize.sensitivity.most_sensitive", lambda rows, count: ())
    monkeypatch.setattr(found, "_add", lambda *given: found.candidates.update(mixed.candidates))
    lost = {"int8 mixed, without VNNI": 40}
    monkeypatch.setattr(found, "_score", lambda name, row, part: answered(TRUTH, losing(lost.get(row.name, 0))))
    fp32 = SimpleNamespace(precision="fp32")
    found._models = [SimpleNamespace(name="net", artifact=SimpleNamespace(manifest=fp32))]
    found._select = {"net": SimpleNamespace(array=lambda: np.zeros(1))}
    found._began = time.monotonic()
    found._mix(SimpleNamespace(built=lambda stage: None, mixed=lambda *given: []))
    assert found._reasons["int8 mixed"].startswith("without VNNI: top-1 -10.00")


# Records of a device


def test_latencies_and_answers_of_a_device_are_joined_by_artifact() -> None:
    made = trial({"fp32": (10, 0), "int8": (4, 1)}, environment=machine.environment())
    timed = replace(made, predictions={})
    renamed = tuple(replace(row, name=f"scored {row.name}") for row in made.subjects)
    answers = {f"scored {name}": found for name, found in made.predictions.items()}
    scored = replace(made, kind="score", subjects=renamed, rounds={}, predictions=answers)
    record, first = merged([scored, timed], ["a.json", "b.json"], None)
    assert first == "fp32" and choose(record, Budget(), first).winner == "int8"
    with pytest.raises(BadInput, match="hold latencies"):
        merged([scored], ["a.json"], None)
    with pytest.raises(BadInput, match="was not both timed and scored"):
        merged([scored, timed], ["a.json", "b.json"], "fp64")


# The selftest of a GPU: what its record proves


def agreeing(same: int, of: int = 1000) -> Predictions:
    """Of so many photos of class 0, those answered so; the others get class 1."""
    return answered([0] * of, [0] * same + [1] * (of - same))


def selftest_record(agreed: dict[str, int], tests: dict[str, object], missing: str = "") -> Record:
    names = [gpu_checks.REFERENCE, *agreed]
    subjects = [Subject(name) for name in names] + ([Subject(missing, reason="no such build")] if missing else [])
    answers = {gpu_checks.REFERENCE: agreeing(1000), **{name: agreeing(same) for name, same in agreed.items()}}
    return Record("selftest", {}, tuple(subjects), {"gpu_tests": tests}, predictions=answers)


@pytest.mark.parametrize(
    ("name", "same", "outcome"),
    [
        ("tensorrt_rtx fp16", 995, "passed"),
        ("tensorrt_rtx fp16", 994, "failed"),
        ("tensorrt int8", 985, "passed"),
        ("tensorrt int8", 984, "failed"),
        ("tensorrt int8 fp16", 984, "failed"),
        ("tensorrt bf16", 10, "passed"),  # nothing is asked of it
        ("onnxruntime fp16 gpu", 990, "failed"),
        ("torch fp32 gpu", 1000, "passed"),
    ],
)
def test_parity_is_judged_by_precision(name: str, same: int, outcome: str) -> None:
    found = gpu_checks.checks(selftest_record({name: same}, {"exit_code": 0, "passed": 3}))
    assert [check.outcome for check in found] == [outcome, "passed"]
    assert f"{same / 1000:.2%}" in found[0].words


@pytest.mark.parametrize(
    ("told", "outcome"),
    [
        ({"exit_code": 0, "passed": 2}, "passed"),
        ({"exit_code": 1, "passed": 2, "failed": 1}, "failed"),
        ({"exit_code": 0, "skipped": 9}, "failed"),  # a GPU that all tests skip was not tested
        ({"reason": "not in this installation"}, "not run"),
        ({}, "not run"),
    ],
)
def test_the_gpu_tests_count_only_where_they_ran(told: dict[str, object], outcome: str) -> None:
    assert gpu_checks.checks(selftest_record({}, told))[-1].outcome == outcome


@pytest.mark.parametrize(
    ("raw_us", "session_us", "outcome", "words"),
    [
        (2000, [2080, 2100, 2060], "passed", "1.040, +80.0 µs"),  # by the ratio
        (150, [195, 200, 190], "passed", "1.300, +45.0 µs"),  # by the microseconds
        (2000, [2140, 2120, 1800], "failed", "1.060, +120.0 µs"),
    ],
)
def test_our_runtime_is_judged_beside_a_bare_loop(raw_us: int, session_us: list[int], outcome: str, words: str) -> None:
    told = {"session": [1000 * us for us in session_us], "raw": [1000 * raw_us] * 3}
    found = gpu_checks.checks(replace(selftest_record({}, {}), options={"raw": {"tensorrt int8": told}}))[0]
    assert found.outcome == outcome and found.words.startswith(words)
    assert found.words.endswith("asked: at most 1.05, or +50 µs")


def test_what_did_not_run_is_said() -> None:
    found = gpu_checks.checks(selftest_record({}, {}, missing="tensorrt fp8"))
    assert (found[0].outcome, found[0].words) == ("not run", "no such build")


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("...\n3 passed, 1 skipped in 2.10s\n", {"passed": 3, "skipped": 1}),
        ("FAILED tests/a.py\n1 failed, 12 passed in 1s\n", {"failed": 1, "passed": 12}),
        ("no tests ran in 0.1s\n", {}),
        ("", {}),
    ],
)
def test_pytests_last_line_is_counted(text: str, counts: dict[str, int]) -> None:
    assert gpu_checks.counted(text) == counts


@pytest.mark.skipif(not driver_problem(), reason="there is a GPU here")
def test_a_selftest_without_a_gpu_says_so_before_it_builds(checkpoint_file: Path, tmp_path: Path) -> None:
    with pytest.raises(EngineMissing, match="nothing was tested"):
        run_selftest(Recipe(tmp_path, open_source(str(checkpoint_file))), RoundOptions(), None, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.gpu
@pytest.mark.slow  # and so none of the tests that a selftest itself runs
@pytest.mark.skipif(bool(driver_problem()), reason=driver_problem() or "there is a GPU")
def test_a_selftest_on_a_gpu_runs_every_engine(checkpoint_file: Path, photo_folder: Path, tmp_path: Path) -> None:
    rounds = RoundOptions(launches=2, blocks=2, block_s=0.02, target=None)
    record = run_selftest(
        Recipe(tmp_path, open_source(str(checkpoint_file))), rounds, open_dataset(photo_folder), Silent()
    )
    engines = [subject for subject in record.subjects if subject.name.startswith("tensorrt")]
    assert engines and not [f"{each.name}: {each.reason}" for each in engines if each.reason]
