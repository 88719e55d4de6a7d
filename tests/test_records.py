"""records/: the round trip of a record, intervals against published values, pairs, latencies, certificates."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import tiffin
from tiffin import machine
from tiffin.artifact import Artifact, Producer, RunConfig, TensorSpec
from tiffin.artifact.certificate import Certificate, certificates_for, evidence_path, read_certificates
from tiffin.artifact.manifest import Manifest
from tiffin.artifact.store import save
from tiffin.benchmarks.studies.bounds import tango_score
from tiffin.cli.tables import detail_table
from tiffin.errors import BadArtifact, BadInput
from tiffin.records import Predictions, Record, Rounds, Stages, Subject
from tiffin.records.calibration import calibration_error
from tiffin.records.certification import Evidence, check_certificate, figures, same_bits, write_certificate
from tiffin.records.classification import (
    by_group,
    coarse_top_1,
    confusion,
    per_class,
    proportion,
    top_k,
    wilson,
)
from tiffin.records.comparison import (
    Change,
    RecordChange,
    anchor_of,
    answers_of,
    compare_records,
    two_sample_ratio,
    yuen_p,
)
from tiffin.records.conditions import (
    cpu_s_per_photo,
    drift,
    energy_j_per_photo,
    first_block,
    flags,
    mann_kendall_p,
    memory_growth,
    sustained,
    throughput,
)
from tiffin.records.differences import p_of_counts
from tiffin.records.distributions import (
    binomial_cdf,
    binomial_pmf,
    binomial_tail,
    median_ranks,
    quantile_ranks,
    student_cdf,
    student_quantile,
)
from tiffin.records.environment import MACHINE, SOFTWARE, describe, differing, require_same_machine
from tiffin.records.estimate import Decision
from tiffin.records.latency import TAILS, median_interval, summarize, tail
from tiffin.records.multiple import holm, worst_class
from tiffin.records.paired import (
    agreement,
    difference,
    flipped_photos,
    flips,
    mcnemar,
    mcnemar_p,
    newcombe_paired,
    non_inferior,
    same_answers,
)
from tiffin.records.power import power_of_drop, power_of_margin, smallest_visible_drop
from tiffin.records.ratios import launch_ratios, ratio_over_launches, trimmed_p
from tiffin.records.record import SCHEMA_VERSION, load_record, schema_path
from tiffin.records.rounds import REGIMES
from tiffin.records.speed import ALPHA, Speed, compare_speeds, launches_needed, verdict
from tiffin.records.stopping import precision


def digests(count: int, start: int = 0) -> tuple[str, ...]:
    return tuple(hashlib.sha256(str(n).encode()).hexdigest() for n in range(start, start + count))


def answers(top1: list[int], truth: list[int], kind: str = "photos", start: int = 0) -> Predictions:
    """Predictions of five classes whose first answer is given."""
    logits = np.eye(5, dtype=np.float32)[top1] if top1 else np.zeros((0, 5), np.float32)
    return Predictions.from_logits(digests(len(top1), start), np.array(truth), logits, kind)


def pair(both: int, first: int, second: int, neither: int) -> tuple[Predictions, Predictions]:
    """Two subjects with these counts of photos that both, only the first, only the second, neither got right."""
    cases = [(0, 0)] * both + [(0, 1)] * first + [(1, 0)] * second + [(1, 2)] * neither
    truth = [0] * len(cases)
    return answers([a for a, _ in cases], truth), answers([b for _, b in cases], truth)


def blocks(*medians_ns: int, count: int = 3, **more: object) -> Rounds:
    arrays = tuple(np.full(count, median, np.int64) for median in medians_ns)
    number = len(arrays)
    return Rounds(arrays, tuple(range(number)), tuple(range(0, 2 * number, 2)), **more)  # type: ignore[arg-type]


def record() -> Record:
    rounds = Rounds(
        (np.array([5, 7, 6], np.int64), np.array([2**40], np.int64)),
        (0, 1),
        (1, 0),
        np.array([90, 80], np.int64),
        batch=4,
        regime="paced",
        lanes=3,
        sensors={"cpu_s": np.array([0.5, np.nan]), "wall_s": np.array([1.0, 2.0])},
        ended="interrupted",
    )
    one, other = answers([0, 1, 2], [0, 1, 1]), answers([4, 1, 0], [0, 1, 1])
    return Record(
        kind="bench",
        environment={"cpu": "Übermaschine", "cores": 2, "versions": {"numpy": "2.0"}, "memory_bytes": None},
        subjects=(
            Subject("ort fp32 cpu", "ab" * 32, "fp32", None, "onnx", {"verb": "export"}, 123, {"threads": None},
                    {"threads": 2}, "native", (0.25, 0.5), 4096, "",
                    {"start": (0.1, 0.2), "first": (0.15, 0.3)}, 2048, 3072, 0),
            Subject("ov int8 cpu", precision="int8", scheme="cpu"),
            Subject("tensorrt fp16 gpu", reason="no NVIDIA driver"),
        ),
        options={"batch": 4},
        data={"name": "tiny", "count": 3},
        rounds={"ort fp32 cpu": rounds, "ov int8 cpu": Rounds()},
        predictions={"ov int8 cpu": other, "ort fp32 cpu": one},
        complete=False,
        created="2026-01-01T00:00:00Z",
        stages={"ort fp32 cpu": Stages(("decode", "infer"), np.array([[1, 2], [3, 4], [5, 6]], np.int64))},
    )  # fmt: skip


def assert_same_rounds(one: Rounds, other: Rounds) -> None:
    assert (one.launches, one.order, one.batch, one.regime) == (other.launches, other.order, other.batch, other.regime)
    assert (one.lanes, one.ended, list(one.sensors)) == (other.lanes, other.ended, list(other.sensors))
    assert len(one.blocks) == len(other.blocks)
    for name in one.sensors:
        assert one.sensor(name).dtype == other.sensor(name).dtype == np.float64
        np.testing.assert_array_equal(one.sensor(name), other.sensor(name))
    for left, right in zip((*one.blocks, one.warmup), (*other.blocks, other.warmup), strict=True):
        assert left.dtype == right.dtype == np.int64
        np.testing.assert_array_equal(left, right)


def assert_same_predictions(one: Predictions, other: Predictions) -> None:
    assert (one.photos, one.kind) == (other.photos, other.kind)
    for name in ("truth", "top", "scores", "logits"):
        left, right = getattr(one, name), getattr(other, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


# Record


def test_record_round_trip(tmp_path: Path) -> None:
    made = record()
    read = load_record(made.save(tmp_path / "deep/down/run.json"))
    for name in ("kind", "environment", "subjects", "options", "data", "complete", "created"):
        assert getattr(read, name) == getattr(made, name), name
    assert read.subject("ort fp32 cpu").cold_start_s == (0.25, 0.5)
    assert set(read.rounds) == set(made.rounds) and set(read.predictions) == set(made.predictions)
    for name, rounds in made.rounds.items():
        assert_same_rounds(read.rounds[name], rounds)
    for name, found in made.predictions.items():
        assert_same_predictions(read.predictions[name], found)
    assert list(read.stages) == ["ort fp32 cpu"] and read.stages["ort fp32 cpu"].names == ("decode", "infer")
    np.testing.assert_array_equal(read.stages["ort fp32 cpu"].ns, made.stages["ort fp32 cpu"].ns)
    assert sorted(path.name for path in (tmp_path / "deep/down").iterdir()) == ["run.json", "run.npz"]


BLOCKS = st.lists(st.lists(st.integers(1, 2**50), max_size=4), max_size=4)


@settings(max_examples=25, deadline=None)
@given(BLOCKS, st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), max_size=3), st.integers(0, 5))
def test_raw_values_survive_saving(tmp_path_factory, times, tops, photos_from: int) -> None:
    path = tmp_path_factory.getbasetemp() / "law.json"
    rounds = Rounds(
        tuple(np.array(block, np.int64) for block in times), tuple(range(len(times))), tuple(range(len(times)))
    )
    found = {str(n): answers(top, [0, 1, 2], start=n * photos_from) for n, top in enumerate(tops)}
    subjects = (Subject("timed"), *(Subject(name) for name in found))
    read = load_record(Record("score", {}, subjects, rounds={"timed": rounds}, predictions=found).save(path))
    assert_same_rounds(read.rounds["timed"], rounds)
    for name in found:
        assert_same_predictions(read.predictions[name], found[name])


def test_saving_again_replaces(tmp_path: Path) -> None:
    path = record().save(tmp_path / "run.json")
    Record("score", {}, ()).save(path)
    assert load_record(path).kind == "score" and not load_record(path).rounds


def test_an_unknown_subject_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        record().subject("absent")


def test_a_newer_schema_says_to_upgrade(tmp_path: Path) -> None:
    path = record().save(tmp_path / "run.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema": SCHEMA_VERSION + 1, "new": 1}))
    with pytest.raises(BadInput, match=f"schema {SCHEMA_VERSION + 1}") as caught:
        load_record(path)
    assert "upgrade" in caught.value.fix


NO_RECORDS = ["", "{", "[]", "3", "null", "{}", '{"schema": "x"}', '{"schema": null}', '{"schema": 1}']


@pytest.mark.parametrize("text", NO_RECORDS)
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    path = record().save(tmp_path / "run.json")
    path.write_text(text)
    with pytest.raises(BadInput, match=r"run\.json"):
        load_record(path)


_TOLD = answers([0, 1], [0, 1])


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"rounds": {"a": blocks(5, 0)}}, "timed call: 0 or less"),
        ({"rounds": {"a": blocks(5, sensors={"wall_s": np.array([-1.0])})}}, "wall time of a block: 0 or less"),
        ({"subjects": (Subject("a", cold_start_s=(0.1, 0.0)),)}, "cold start of a: 0 or less"),
        ({"predictions": {"a": replace(_TOLD, truth=np.array([0, -1]))}}, "label below 0"),
        ({"predictions": {"a": replace(_TOLD, top=-_TOLD.top)}}, "label below 0"),
    ],
)
def test_times_of_nothing_and_labels_below_0_are_refused(tmp_path: Path, part: dict, words: str) -> None:
    path = Record(**{"kind": "bench", "environment": {}, "subjects": (Subject("a"),), **part}).save(tmp_path / "r.json")
    with pytest.raises(BadInput, match=words):
        load_record(path)


def test_a_record_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such record"):
        load_record(tmp_path / "run.json")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(BadInput, match=r"deep\.json: no record \(maximum recursion"):
        load_record(tmp_path / "deep.json")
    with pytest.raises(BadInput, match=r"no record \(it is a folder\)"):
        load_record(tmp_path)


@pytest.mark.parametrize("text", ["[]", "null", "{}"])
def test_other_json_is_said_to_have_no_schema(tmp_path: Path, text: str) -> None:
    (tmp_path / "list.json").write_text(text)
    with pytest.raises(BadInput, match=r"list\.json: no record \(it has no schema\)"):
        load_record(tmp_path / "list.json")


def test_a_record_without_its_arrays_names_their_file(tmp_path: Path) -> None:
    path = record().save(tmp_path / "run.json")
    path.with_suffix(".npz").unlink()
    with pytest.raises(BadInput, match=r"run\.json: record cannot be read \(no run\.npz beside it\)"):
        load_record(path)


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "changed", "of another record"])
def test_a_damaged_npz_is_refused(tmp_path: Path, damage: str) -> None:
    path = record().save(tmp_path / "run.json")
    npz = path.with_suffix(".npz")
    whole = npz.read_bytes()
    if damage == "missing":
        npz.unlink()
    elif damage == "of another record":
        Record("score", {}, ()).save(tmp_path / "other.json")
        npz.write_bytes((tmp_path / "other.npz").read_bytes())
    else:
        middle = len(whole) // 3
        changed = whole[:45] + bytes(byte ^ 0x55 for byte in whole[45:middle]) + whole[middle:]
        npz.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "changed": changed}[damage])
    with pytest.raises(BadInput, match=r"run\.json.*cannot be read"):
        load_record(path)


def test_predictions_keep_five_and_break_ties_downwards() -> None:
    logits = np.array([[1, 3, 3, 0, 2, 3, -1]], np.float32)
    found = Predictions.from_logits(digests(1), np.array([1]), logits, "photos")
    assert found.top.tolist() == [[1, 2, 5, 4, 0]] and found.scores.tolist() == [[3, 3, 3, 2, 1]]
    assert (found.top.dtype, found.scores.dtype, found.truth.dtype) == (np.int32, np.float32, np.int64)


# One proportion


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@settings(max_examples=80, deadline=None)
@given(st.data(), st.integers(1, 5000))
def test_wilson_as_scipy(data: st.DataObject, n: int) -> None:
    from scipy.stats import binomtest

    successes = data.draw(st.integers(0, n))
    wanted = binomtest(successes, n).proportion_ci(method="wilson")
    found = proportion(successes, n)
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high), abs=1e-9)
    assert 0 <= found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high <= 1
    assert (found.value, found.n) == (successes / n, n)
    mirrored = proportion(n - successes, n)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low), abs=1e-12)


def test_no_photos_have_no_proportion() -> None:
    with pytest.raises(BadInput):
        proportion(0, 0)
    with pytest.raises(BadInput):
        newcombe_paired(0, 0, 0, 0)


def test_top_k() -> None:
    logits = np.array([[5, 4, 3, 2], [5, 4, 3, 2], [2, 3, 4, 5]], np.float32)
    found = Predictions.from_logits(digests(3), np.array([0, 2, 0]), logits, "photos")
    assert [top_k(found, k).value for k in (1, 2, 3, 4)] == pytest.approx([1 / 3, 1 / 3, 2 / 3, 1])


def test_synthesized_images_have_no_accuracy() -> None:
    with pytest.raises(BadInput, match="synthesized") as caught:
        top_k(answers([0, 1], [0, 1], kind="synthesized"))
    assert "agreement" in caught.value.fix


# Pairs


@pytest.mark.parametrize(
    ("counts", "value", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17:2635, method 10
        ((36, 12, 2, 0), 0.2000, 0.0569, 0.3404),
    ],
)
def test_newcombe_as_published(counts: tuple[int, int, int, int], value: float, low: float, high: float) -> None:
    found = newcombe_paired(*counts)
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=5e-5)
    assert found.n == sum(counts)


def test_newcombe_by_hand_where_the_pairs_agree() -> None:
    """Positive correlation: phi is corrected by n / 2, so (20·16 - 12·2 - 25) / √(32·18·22·28)."""
    found = newcombe_paired(20, 12, 2, 16)
    phi = 271 / math.sqrt(32 * 18 * 22 * 28)
    (l1, u1), (l2, u2) = wilson(32, 50), wilson(22, 50)
    below = math.sqrt((0.64 - l1) ** 2 - 2 * phi * (0.64 - l1) * (u2 - 0.44) + (u2 - 0.44) ** 2)
    above = math.sqrt((u1 - 0.64) ** 2 - 2 * phi * (u1 - 0.64) * (0.44 - l2) + (0.44 - l2) ** 2)
    assert (found.low, found.high) == pytest.approx((0.2 - below, 0.2 + above), abs=1e-12)


def test_newcombe_without_any_flip_is_about_zero() -> None:
    found = newcombe_paired(54, 0, 0, 0)
    assert found.value == 0 and found.high == pytest.approx(-found.low)
    assert found.high == pytest.approx(1 - wilson(54, 54)[0])


COUNTS = st.tuples(st.integers(1, 400), *[st.integers(0, 400)] * 3)


@settings(max_examples=60, deadline=None)
@given(COUNTS)
def test_newcombe_laws(counts: tuple[int, int, int, int]) -> None:
    both, first, second, neither = counts
    found = newcombe_paired(*counts)
    assert found.value == pytest.approx((first - second) / sum(counts))
    assert -1 - 1e-9 <= found.low <= found.value <= found.high <= 1 + 1e-9
    swapped = newcombe_paired(both, second, first, neither)
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low), abs=1e-12)
    failures = newcombe_paired(neither, second, first, both)
    assert (failures.low, failures.high) == pytest.approx((-found.high, -found.low), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(0, 12)] * 4).filter(any))
def test_difference_counts_the_table(counts: tuple[int, int, int, int]) -> None:
    assert difference(*pair(*counts)) == newcombe_paired(*counts)


def test_flips_are_lost_won_or_neither() -> None:
    truth = [0, 0, 0, 0, 0]
    before = answers([0, 0, 1, 1, 2], truth)
    now = answers([0, 3, 0, 2, 2], truth)
    found = flips(now, before)
    assert (found.count, found.lost, found.won, found.n) == (3, 1, 1, 5)
    assert found.rate.value == 0.6 and agreement(now, before).value == 0.4
    assert agreement(now, before).low == pytest.approx(1 - found.rate.high)
    assert not same_answers(now, before) and same_answers(now, now)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=30))
def test_flips_laws(rows: list[tuple[int, int, int]]) -> None:
    truth, now, before = ([row[place] for row in rows] for place in range(3))
    found, back = flips(answers(now, truth), answers(before, truth)), flips(answers(before, truth), answers(now, truth))
    assert (found.count, found.lost, found.won) == (back.count, back.won, back.lost)
    assert found.lost + found.won <= found.count <= found.n
    assert (found.won - found.lost) / found.n == pytest.approx(
        difference(answers(now, truth), answers(before, truth)).value
    )
    assert (found.count == 0) == same_answers(answers(now, truth), answers(before, truth))


@pytest.mark.parametrize("compare", [flips, agreement, difference, same_answers, lambda a, b: non_inferior(a, b, 0.01)])
def test_other_photos_cannot_be_compared(compare) -> None:
    with pytest.raises(BadInput, match="different photos"):
        compare(answers([0, 1], [0, 1]), answers([0, 1], [0, 1], start=1))
    with pytest.raises(BadInput, match="different photos"):
        compare(answers([0, 1], [0, 1]), answers([0], [0]))


@pytest.mark.parametrize(
    ("counts", "margin", "decision"),
    [
        ((2000, 10, 10, 480), 0.01, Decision.PASS),
        ((2000, 30, 5, 480), 0.001, Decision.PASS),  # better than the reference
        ((2000, 0, 100, 400), 0.01, Decision.FAIL),
        ((2000, 10, 30, 460), 0.01, Decision.INCONCLUSIVE),
        ((8, 1, 1, 2), 0.01, Decision.INCONCLUSIVE),  # too few photos
    ],
)
def test_non_inferior(counts: tuple[int, int, int, int], margin: float, decision: Decision) -> None:
    verdict = non_inferior(*pair(*counts), margin)
    assert verdict.decision is decision
    assert f"{(counts[1] - counts[2]) / sum(counts) * 100:+.2f} points" in verdict.reason


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(0, 40)] * 4).filter(any), st.floats(0, 0.2), st.floats(0, 0.2))
def test_a_wider_margin_is_never_stricter(counts: tuple[int, int, int, int], one: float, other: float) -> None:
    order = [Decision.FAIL, Decision.INCONCLUSIVE, Decision.PASS]
    narrow, wide = (order.index(non_inferior(*pair(*counts), m).decision) for m in sorted((one, other)))
    assert narrow <= wide


# Latency


def spread(median_ns: float, logs: np.ndarray, **more: object) -> Rounds:
    """One block a launch, its median the given one times exp(log)."""
    return blocks(*(int(value) for value in median_ns * np.exp(logs)), **more)


def launches(*medians: list[int], **more: object) -> Rounds:
    """Launches of several blocks each."""
    arrays = tuple(np.full(3, median, np.int64) for launch in medians for median in launch)
    owners = tuple(index for index, launch in enumerate(medians) for _ in launch)
    return Rounds(arrays, owners, tuple(range(len(arrays))), **more)  # type: ignore[arg-type]


def test_latency_counts_each_launch_once() -> None:
    found = summarize(launches([10, 20, 60], [40, 40], [30], batch=2))
    assert found is not None
    assert (found.p50_s.value, found.p50_s.low, found.p50_s.high) == pytest.approx((30e-9, 20e-9, 40e-9))
    assert (found.p50_s.n, found.p50_s.confidence, found.p50_s.method) == (3, 0.75, "order statistics")
    assert (found.low_s, found.high_s, found.n, found.outliers) == pytest.approx((10e-9, 60e-9, 18, 0))
    assert summarize(Rounds()) is None


def test_outliers_are_counted_and_kept() -> None:
    calls = np.array([*range(100, 200), 349, 352, 5000], np.int64)  # quartiles 125.5 and 176.5: the far fence is 329.5
    found = summarize(Rounds((calls,), (0,), (0,)))
    assert found is not None and (found.outliers, found.n) == (3, 103)
    assert found.high_s == pytest.approx(np.median(calls) / 1e9)


def test_the_medians_interval_as_published() -> None:
    values = np.arange(1.0, 11.0)[::-1]  # ranks 2 and 9 of 10, in every table of the sign test
    found = median_interval(values)
    assert (found.value, found.low, found.high, found.confidence) == (5.5, 2, 9, 0.95)
    few = median_interval(np.array([3.0, 1.0, 2.0, 5.0, 4.0]))
    assert (few.value, few.low, few.high) == (3, 1, 5) and few.confidence == pytest.approx(1 - 2 / 2**5)
    one = median_interval(np.array([7.0]))
    assert (one.value, one.low, one.high, one.confidence) == (7, 7, 7, 0)


def test_the_medians_interval_covers_what_is_skewed() -> None:
    drawn = np.random.default_rng(0).lognormal(0, 1, (400, 12))
    held = [found.low <= 1 <= found.high for found in map(median_interval, drawn)]
    assert np.mean(held) >= 0.93


@pytest.mark.parametrize(("percentile", "needed"), [(0.9, 64), (0.99, 662)])  # MLPerf Inference Rules, early stopping
def test_a_tail_needs_the_calls_that_mlperf_asks_for(percentile: float, needed: int) -> None:
    few = tail(np.arange(needed - 1), percentile)
    assert (few.value_s, few.bound_s, few.n, few.needed) == (None, None, needed - 1, needed)
    enough = tail(np.arange(1, needed + 1) * 10**9, percentile)
    assert enough.bound_s == needed  # nothing may lie beyond it yet
    assert enough.value_s == pytest.approx(1 + percentile * (needed - 1))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(TAILS[:3]), st.integers(1, 9000))
def test_a_tails_bound_is_the_tightest_that_the_binomial_allows(percentile: float, n: int) -> None:
    found = tail(np.random.default_rng(n).permutation(n) + 1, percentile)
    ranks = np.arange(1, n + 1)
    allowed = int((stats.binom.cdf(ranks, n, 1 - percentile) <= 0.01).sum())
    assert (allowed > 0) == (n >= found.needed) == (found.bound_s is not None)
    if found.bound_s is not None and found.value_s is not None:
        assert found.bound_s == pytest.approx((n - allowed + 1) / 1e9) and found.bound_s >= found.value_s


def test_a_tails_bound_is_hardly_ever_below_the_truth() -> None:
    truth = -math.log(0.1)  # p90 of the exponential distribution
    drawn = np.random.default_rng(0).exponential(1e9, (1000, 200))
    assert np.mean([tail(calls, 0.9).bound_s >= truth for calls in drawn]) >= 0.99


MEDIANS = st.lists(st.integers(10**3, 10**9), min_size=2, max_size=8)
PAIRED = MEDIANS.flatmap(lambda one: st.tuples(st.just(one), st.lists(
    st.integers(10**3, 10**9), min_size=len(one), max_size=len(one))))  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(PAIRED, st.integers(2, 1000))
def test_laws_of_the_ratio_over_launches(pair: tuple[list[int], list[int]], factor: int) -> None:
    one, other = (blocks(*medians) for medians in pair)
    there = ratio_over_launches(launch_ratios(one, other))
    back = ratio_over_launches(launch_ratios(other, one))
    assert 0 < there.low <= there.value <= there.high and there.n == back.n == len(pair[0])
    assert (there.value * back.value, there.low * back.high, there.high * back.low) == pytest.approx((1, 1, 1))
    scaled = [blocks(*(median * factor for median in medians)) for medians in pair]
    again = ratio_over_launches(launch_ratios(*scaled))
    assert (again.value, again.low, again.high) == pytest.approx((there.value, there.low, there.high))
    mean, error, degrees = yuen(np.log(launch_ratios(one, other)))
    low, high = stats.t.interval(0.95, degrees, mean, error or 1e-300)
    assert math.log(there.low) <= low + 1e-9 and math.log(there.high) >= high - 1e-9


def yuen(values: np.ndarray) -> tuple[float, float, int]:
    """Trimmed mean, its error and degrees of freedom by scipy's winsorizing; untrimmed below six values."""
    n, share = len(values), 0.2 if len(values) >= 6 else 0.0
    kept = n - 2 * int(share * n)
    spread = np.asarray(stats.mstats.winsorize(values, (share, share))).std(ddof=1)
    return stats.trim_mean(values, share), spread * math.sqrt((n - 1) / (kept * (kept - 1))), kept - 1


@pytest.mark.parametrize("n", [5, 8, 15])
def test_the_ratios_interval_covers_the_truth(n: int) -> None:
    drawn = np.random.default_rng(n).lognormal(math.log(0.8), 0.05, (250, n))
    held = [found.low <= 0.8 <= found.high for found in map(ratio_over_launches, drawn)]
    assert np.mean(held) >= 0.93


def test_below_two_launches_nothing_is_known() -> None:
    one, none = ratio_over_launches(np.array([0.5])), ratio_over_launches(np.zeros(0))
    assert (one.value, one.low, one.high, one.n) == (0.5, 0, math.inf, 1)
    assert math.isnan(none.value) and (none.low, none.high, none.n) == (0, math.inf, 0)
    for medians in ([], [5]):
        found = compare_speeds({"row": (blocks(*medians), blocks(10, 10))})["row"]
        assert (found.speed, found.p, found.needed) == (Speed.UNKNOWN, 1, None)
        assert f"{len(medians)} launch" in found.reason


def test_a_drift_that_neighbours_share_leaves_ratios_alone() -> None:
    one, other = launches([50, 500], [5000, 70], [6, 7]), launches([100, 1000], [10000, 140], [12, 14])
    np.testing.assert_allclose(launch_ratios(one, other), [0.5, 0.5, 0.5])
    found = compare_speeds({"row": (one, other)})["row"]
    assert found.speed is Speed.FASTER and found.ratio.high == pytest.approx(0.5)


def test_what_only_one_took_part_in_is_left_out() -> None:
    one, other = launches([50], [60, 999], [7]), launches([100], [100])
    np.testing.assert_allclose(launch_ratios(one, other), [0.5, 0.6])  # the block without a neighbour, launch 2
    gap = dataclasses.replace(one, launches=(0, 2, 2, 3))
    np.testing.assert_allclose(launch_ratios(gap, other), [0.5])
    assert len(launch_ratios(Rounds(), other)) == 0


@pytest.mark.parametrize("change", [{"regime": "paced"}, {"batch": 8}, {"lanes": 2}])
def test_what_was_measured_otherwise_is_refused(change: dict[str, object]) -> None:
    (what,) = change
    one, other = blocks(5, 6), blocks(5, 6, **change)
    for ask in (launch_ratios, lambda *pair: compare_speeds({"row": pair})):
        with pytest.raises(BadInput, match=f"latencies of {what}"):
            ask(one, other)
    launch_ratios(other, other)


def test_throughput_is_judged_by_wall_time_a_photo_whatever_the_batch_and_lanes() -> None:
    def busy(wall_s: float, **more: object) -> Rounds:
        return blocks(*[10**9] * 5, regime="throughput", sensors={"wall_s": np.full(5, wall_s)}, **more)

    one, eight = busy(3.0), busy(6.0, batch=8, lanes=2)  # 1 s a photo, 0.25 s a photo
    np.testing.assert_allclose(launch_ratios(eight, one), np.full(5, 0.25))
    assert compare_speeds({"row": (eight, one)})["row"].speed is Speed.FASTER
    assert summarize(eight).p50_s.value == pytest.approx(0.25)  # type: ignore[union-attr]
    with pytest.raises(BadInput, match="latencies of regime"):
        launch_ratios(eight, blocks(*[10**9] * 5))


def judged(logs: np.ndarray, **options: float) -> Speed:
    """The verdict on one pair of rounds whose launches' ratios are exp(logs)."""
    return compare_speeds({"row": (spread(1e12, logs), blocks(*[10**12] * len(logs)))}, **options)["row"].speed


@pytest.mark.parametrize(
    ("logs", "speed"),
    [
        ([-0.05, -0.051, -0.049, -0.05, -0.05], Speed.FASTER),
        ([0.05, 0.051, 0.049, 0.05, 0.05], Speed.SLOWER),
        ([0.0, 0.0001, -0.0001, 0.0, 0.0001], Speed.SAME),
        ([0.006, 0.0061, 0.0059, 0.006, 0.006], Speed.SAME),  # certain, and below the threshold
        ([0.0099, 0.0096, 0.0097, 0.0094, 0.0103], Speed.AMBIGUOUS),  # certain, and on both sides of it
        ([0.05, -0.05, 0.02, -0.03, 0.01], Speed.AMBIGUOUS),
        ([-0.05, -0.05, -0.05], Speed.FASTER),
        ([0.0, 0.0, 0.0], Speed.SAME),
        ([-0.05, -0.05], Speed.UNKNOWN),  # two launches say next to nothing
        ([0.0, 0.0], Speed.UNKNOWN),
    ],
)
def test_verdicts(logs: list[float], speed: Speed) -> None:
    assert judged(np.array(logs)) is speed


def test_the_threshold_and_the_level_are_the_callers() -> None:
    logs = np.array([0.029, 0.031, 0.03, 0.03, 0.032, 0.028])
    assert [judged(logs, threshold=threshold) for threshold in (0.01, 0.05)] == [Speed.SLOWER, Speed.SAME]
    wide = 3 * logs - 2 * logs.mean() + np.array([0.01, -0.01, 0, 0, 0.01, -0.01])
    p = trimmed_p(wide)
    assert 1e-4 < p < 0.05
    assert [judged(wide, alpha=alpha) for alpha in (p / 2, p * 2)] == [Speed.AMBIGUOUS, Speed.SLOWER]


def test_an_ambiguous_verdict_says_how_many_launches_it_needs() -> None:
    logs = np.array([0.05, -0.05, 0.02, -0.03, 0.01])
    found = verdict(ratio_over_launches(np.exp(logs)), trimmed_p(logs), spread=float(logs.std(ddof=1)))
    assert found.speed is Speed.AMBIGUOUS and found.needed is not None and found.needed > 25
    assert found.reason.endswith(f"n = 5; need ≥ {found.needed}")
    assert "need" not in verdict(found.ratio, found.p).reason


@settings(max_examples=60, deadline=None)
@given(st.floats(1e-4, 1), st.floats(0.001, 0.2), st.floats(1.01, 3))
def test_more_noise_or_a_smaller_effect_needs_more_launches(noise: float, threshold: float, factor: float) -> None:
    needed = launches_needed(noise, threshold)
    assert 2 <= needed <= launches_needed(noise * factor, threshold)
    assert launches_needed(noise, threshold * factor) <= needed <= launches_needed(noise, threshold, power=0.9)


def test_as_many_launches_as_needed_see_the_effect_in_four_of_five_runs() -> None:
    n = launches_needed(0.03, 0.01)
    drawn = np.random.default_rng(0).normal(math.log1p(0.02), 0.03, (2000, n))  # twice the threshold
    assert (stats.ttest_1samp(drawn, 0, axis=1).pvalue < ALPHA).mean() == pytest.approx(0.8, abs=0.03)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=12).filter(lambda logs: np.std(logs) > 1e-6))
def test_the_trimmed_p_as_scipy(logs: list[float]) -> None:
    mean, error, degrees = yuen(np.array(logs))
    wanted = 2 * stats.t.sf(abs(mean) / error, degrees) if error else float(mean == 0)
    assert trimmed_p(np.array(logs)) == pytest.approx(wanted, rel=1e-6, abs=1e-12)


def test_one_launch_that_was_disturbed_as_a_whole_moves_little() -> None:
    logs = np.array([0.05, 0.051, 0.049, 0.05, 0.052, 0.048])
    found = ratio_over_launches(np.exp(np.append(logs, 0.2)))
    assert found.value == pytest.approx(math.exp(0.05), rel=1e-3)
    assert judged(np.append(logs, 0.2)) is Speed.SLOWER


def test_verdicts_are_corrected_for_their_number() -> None:
    chance = np.random.default_rng(0)
    base = blocks(*[10**9] * 6)
    logs = {f"row {i}": chance.normal(0.02, 0.008, 6) for i in range(12)}
    rows = {name: (spread(1e9, found), base) for name, found in logs.items()}
    found = compare_speeds(rows)
    alone = {name: compare_speeds({name: pair})[name] for name, pair in rows.items()}
    wanted = holm([one.p for one in alone.values()])
    np.testing.assert_allclose([one.p for one in found.values()], wanted)
    sure = [sum(one.speed is Speed.SLOWER for one in many.values()) for many in (found, alone)]
    assert sure[0] < sure[1] and all(found[name].ratio == alone[name].ratio for name in rows)
    assert compare_speeds({}) == {}


@pytest.mark.parametrize("n", [2, 5, 15])
@pytest.mark.parametrize("noise", [0.005, 0.05])
def test_equal_rows_are_hardly_ever_told_apart(n: int, noise: float) -> None:
    drawn = np.random.default_rng(n).normal(0, noise, (4000, n))
    p = stats.ttest_1samp(drawn, 0, axis=1).pvalue
    asked = [judged(logs) for logs in drawn[p < 2 * ALPHA]]  # no other can be told apart
    assert len(asked) > 20 and sum(speed in (Speed.FASTER, Speed.SLOWER) for speed in asked) <= 0.01 * len(drawn)
    assert not {judged(logs) for logs in drawn[p > 2 * ALPHA][:20]} & {Speed.FASTER, Speed.SLOWER}


@pytest.mark.parametrize("n", [5, 8])
def test_five_per_cent_are_found_in_one_per_cent_of_noise(n: int) -> None:
    drawn = np.random.default_rng(n).normal(math.log(0.95), 0.01, (120, n))
    assert np.mean([judged(logs) is Speed.FASTER for logs in drawn]) >= 0.95


# When to stop


def test_precision_is_half_the_interval_over_the_ratio() -> None:
    logs = np.array([0.01, -0.01, 0.02, -0.02, 0.0])
    one, base = spread(0.5e9, logs), blocks(*[10**9] * 5)
    known = precision(one, base, 0.01)
    ratio = ratio_over_launches(launch_ratios(one, base))
    assert (known.value, known.launches, known.settled) == (ratio.value, 5, False)
    assert known.half_width == pytest.approx((ratio.high - ratio.low) / 2 / ratio.value)
    assert known.needed is not None and known.needed > 5


def test_without_a_reference_the_median_itself_must_be_known() -> None:
    known = precision(blocks(100, 110, 90, 100), None, 0.01)
    assert known.value == pytest.approx(100e-9, rel=0.01) and 0.05 < known.half_width < 0.3
    assert precision(blocks(100, 100, 100), None, 0.01).half_width == 0


def test_before_the_second_launch_no_precision_is_known() -> None:
    for subject, value in ((blocks(50), 0.5), (Rounds(), math.nan)):
        known = precision(subject, blocks(100, 100), 0.01)
        assert known.value == pytest.approx(value, nan_ok=True)
        assert (known.half_width, known.needed, known.settled) == (math.inf, None, False)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.floats(0.002, 0.2), st.floats(1.1, 4))
def test_a_looser_target_needs_fewer_launches(seed: int, target: float, factor: float) -> None:
    one, base = spread(1e9, np.random.default_rng(seed).normal(0, 0.03, 6)), blocks(*[10**9] * 6)
    tight, loose = precision(one, base, target), precision(one, base, target * factor)
    assert tight.half_width == loose.half_width and tight.needed >= loose.needed >= 0  # type: ignore[operator]


def test_with_fewer_launches_than_needed_the_target_is_hardly_ever_reached() -> None:
    """`needed` is optimistic, so that «noisy» is not said of what could still converge."""
    chance, reached = np.random.default_rng(0), []
    for _ in range(40):
        logs = chance.normal(0, 0.02, 200)
        base = blocks(*[10**9] * 200)
        needed = precision(spread(1e9, logs[:10]), base, 0.008).needed
        assert needed is not None
        reached.append(precision(spread(1e9, logs[:needed]), base, 0.008).half_width / 0.008)
    assert np.mean(np.array(reached) > 0.95) >= 0.85


def test_a_spread_is_spoken_of_from_eight_launches_on() -> None:
    def settled(count: int) -> bool:
        logs = np.tile([0.02, -0.02], 6)[:count]
        return precision(spread(1e9, logs), blocks(*[10**9] * count), 0.01).settled

    assert [settled(count) for count in (7, 8, 12)] == [False, True, True]


# Accuracy, paired and by class


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 10**6), st.floats(1e-6, 1 - 1e-6), st.floats(-5, 5))
def test_binomial_as_scipy(data: st.DataObject, n: int, p: float, spread: float) -> None:
    from scipy.stats import binom

    k = min(max(round(n * p + spread * math.sqrt(n * p * (1 - p))), 0), n)
    assert binomial_cdf(k, n, p) == pytest.approx(binom.cdf(k, n, p), rel=1e-8)
    assert binomial_tail(k, n, p) == pytest.approx(binom.sf(k - 1, n, p), rel=1e-8)
    assert binomial_pmf(k, n, p) == pytest.approx(binom.pmf(k, n, p), rel=1e-7)


def test_binomial_ends() -> None:
    assert [binomial_cdf(k, 5, 0.3) for k in (-1, 5, 6)] == [0, 1, 1]
    assert [binomial_tail(k, 5, 0.3) for k in (-1, 0, 6)] == [1, 1, 0]
    assert [binomial_cdf(2, 5, p) for p in (0, 1)] == [1, 0] == [binomial_tail(2, 5, p) for p in (1, 0)]
    assert [binomial_pmf(k, 3, p) for k, p in ((0, 0), (1, 0), (3, 1), (4, 0.5))] == [1, 0, 1, 0]
    assert binomial_cdf(0, 0, 0.5) == 1
    for trial in ((1, -1, 0.5), (1, 2, 1.5)):
        with pytest.raises(BadInput):
            binomial_cdf(*trial)


@settings(max_examples=150, deadline=None)
@given(st.floats(1e-9, 0.49), st.booleans(), st.integers(1, 10**5))
def test_student_as_scipy(tail: float, upper: bool, degrees: int) -> None:
    from scipy.stats import t

    p = 1 - tail if upper else tail
    found = student_quantile(p, degrees)
    assert found == pytest.approx(t.ppf(p, degrees), rel=1e-8)
    assert student_cdf(found, degrees) == pytest.approx(p, rel=1e-8)


@pytest.mark.parametrize(("degrees", "t"), [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042)])
def test_student_as_printed_in_every_table(degrees: int, t: float) -> None:
    assert student_quantile(0.975, degrees) == pytest.approx(t, abs=5e-4)


def test_student_ends() -> None:
    assert student_quantile(0.5, 3) == 0 and student_cdf(0, 3) == 0.5
    assert student_quantile(0.5 + 1e-9, 4) == pytest.approx(1e-9 / (3 / 8), rel=1e-6)  # the density at 0 is 3/8
    assert student_cdf(math.inf, 2) == 1 and student_cdf(-math.inf, 2) == 0
    for p, degrees in ((0, 3), (1, 3), (0.5, 0)):
        with pytest.raises(BadInput):
            student_quantile(p, degrees)


@pytest.mark.parametrize(  # as in printed tables of ranks at 95 % or just above, which count from 1
    ("n", "ranks"), [(5, None), (6, (0, 5)), (9, (1, 7)), (10, (1, 8)), (20, (5, 14)), (25, (7, 17))]
)
def test_median_ranks_as_published(n: int, ranks: tuple[int, int] | None) -> None:
    assert median_ranks(n) == ranks


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 3000), st.floats(0.02, 0.98), st.floats(0.5, 0.999))
def test_quantile_ranks_cover_and_are_the_tightest(n: int, share: float, confidence: float) -> None:
    from scipy.stats import binom

    found, risk = quantile_ranks(n, share, confidence), (1 - confidence) / 2
    if found is None:
        assert (1 - share) ** n > risk * (1 - 1e-9) or share**n > risk * (1 - 1e-9)
        return
    low, high = found
    assert 0 <= low < high < n
    assert binom.cdf(low, n, share) <= risk * (1 + 1e-7) and binom.sf(high, n, share) <= risk * (1 + 1e-7)
    assert binom.cdf(low + 1, n, share) > risk and binom.sf(high - 1, n, share) > risk


def test_newcombe_as_published_for_pairs_that_agree() -> None:
    """Cavo 2012 in Fagerland, Lydersen and Laake 2017, Statistical Analysis of Contingency Tables, chapter 8."""
    found = newcombe_paired(59, 6, 16, 80)
    assert (found.value, found.low, found.high) == pytest.approx((-0.0621, -0.1186, -0.0046), abs=5e-5)


def test_tango_score_as_published() -> None:
    assert tango_score(0, 1, 44, -0.1) == pytest.approx(1.709, abs=5e-4)  # Tango 1998, contact lenses


@settings(max_examples=40, deadline=None)
@given(COUNTS, st.sampled_from([0.005, 0.02, 0.1, 0.3]))
def test_non_inferiority_is_one_test_at_its_level(counts: tuple[int, int, int, int], margin: float) -> None:
    """PASS and FAIL are what the exact tails of the two one-sided tests refuse."""
    both, first, second, neither = counts
    same, decision = both + neither, non_inferior(*pair(*counts), margin).decision
    passes = p_of_counts([second, same, first], -margin) <= 0.05
    fails = p_of_counts([first, same, second], margin) <= 0.05
    assert (decision is Decision.PASS, decision is Decision.FAIL) == (passes, fails and not passes)


@pytest.mark.parametrize(  # statsmodels 0.14, contingency_tables.mcnemar(exact=True); Bentur 2009: 0.0703
    ("lost", "won", "p"), [(20, 8, 0.03569813817739487), (7, 1, 0.0703125), (3, 3, 1), (35, 15, 0.006600447966810918)]
)
def test_mcnemar_as_published(lost: int, won: int, p: float) -> None:
    found = mcnemar(*pair(5, won, lost, 5))
    assert (found.lost, found.won) == (lost, won) and found.p_value == pytest.approx(p, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_as_scipy(lost: int, won: int) -> None:
    from scipy.stats import binomtest

    wanted = binomtest(lost, lost + won, 0.5).pvalue if lost + won else 1
    assert mcnemar_p(lost, won) == pytest.approx(wanted, rel=1e-9) == mcnemar_p(won, lost)


def test_flipped_photos_are_those_that_flips_count() -> None:
    truth = [0, 0, 1, 1, 2]
    now, before = answers([0, 3, 1, 2, 2], truth), answers([0, 0, 0, 1, 2], truth)
    found = flipped_photos(now, before)
    assert found == [(digests(5)[1], 0, 0, 3), (digests(5)[2], 1, 0, 1), (digests(5)[3], 1, 1, 2)]
    counted = flips(now, before)
    assert len(found) == counted.count
    assert sum(one.before == one.truth for one in found) == counted.lost


def test_holm_as_statsmodels() -> None:
    found = holm([0.01, 0.04, 0.03, 0.005, 0.2, 0.03])  # statsmodels 0.14, multipletests(method="holm")
    assert found.tolist() == pytest.approx([0.05, 0.12, 0.12, 0.03, 0.2, 0.12])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=40), st.randoms())
def test_holm_laws(values: list[float], random: Random) -> None:
    found, raw = holm(values), np.array(values)
    assert np.all(found >= raw) and np.all(found <= np.minimum(raw * len(values), 1))
    assert np.all(np.diff(found[np.argsort(raw)]) >= 0)
    order = random.sample(range(len(values)), len(values))
    np.testing.assert_array_equal(holm([values[place] for place in order]), found[order])


def test_holm_refuses_what_is_no_probability() -> None:
    for values in ([1.1], [-0.1, 0.5], [math.nan]):
        with pytest.raises(BadInput):
            holm(values)


# The figures are of one-sided tests at 5 %, n = 2,485 and 2 % discordance.


@pytest.mark.parametrize(("drop", "power"), [(0.005, 0.50), (0.01, 0.97)])
def test_power_of_a_drop_as_known(drop: float, power: float) -> None:
    assert power_of_drop(drop, 2485, 0.02, sides=1) == pytest.approx(power, abs=0.01)
    assert power_of_drop(drop, 2485, 0.02) < power  # two-sided, as we test, sees less


# 0.55 and 0.97 by the normal law, which is bolder; `gate-simulation.json` drew 95.8 % (94.8 to 96.6) at one point.
@pytest.mark.parametrize(("margin", "power"), [(0.005, 0.51), (0.01, 0.958)])
def test_power_of_a_margin_as_known(margin: float, power: float) -> None:
    assert power_of_margin(margin, 2485, 0.02) == pytest.approx(power, abs=0.005)
    assert power_of_margin(margin, 2485, 0.02, confidence=0.975) < power


@settings(max_examples=8, deadline=None)
@given(st.integers(20, 50), st.floats(0.1, 0.5), st.floats(0, 1))
def test_power_is_the_share_of_samples_that_decide(n: int, discordance: float, part: float) -> None:
    """Every pair of counts, weighted by its multinomial probability."""
    from scipy.stats import multinomial

    drop = part * discordance
    shares = [(discordance + drop) / 2, (discordance - drop) / 2, 1 - discordance]
    seen = passed = 0.0
    for lost in range(n + 1):
        for won in range(n + 1 - lost):
            weight = multinomial.pmf([lost, won, n - lost - won], n, shares)
            seen += weight * (lost > won and mcnemar_p(lost, won) <= 0.05)
            passed += weight * (p_of_counts([lost, n - lost - won, won], -0.1) <= 0.05)
    assert power_of_drop(drop, n, discordance) == pytest.approx(seen, abs=1e-9)
    assert power_of_margin(0.1, n, discordance, drop) == pytest.approx(passed, abs=1e-9)


@pytest.mark.parametrize("power", [0.5, 0.8, 0.95])
def test_the_smallest_visible_drop_has_its_power(power: float) -> None:
    drop = smallest_visible_drop(2485, 0.02, power)
    assert drop is not None and power_of_drop(drop, 2485, 0.02) == pytest.approx(power, abs=1e-3)
    fewer = smallest_visible_drop(1000, 0.02, power)
    assert fewer is not None and fewer > drop


def test_no_drop_is_visible_in_few_photos() -> None:
    assert smallest_visible_drop(50, 0.02) is None and smallest_visible_drop(2485, 0.0) is None
    assert power_of_drop(0.0, 2485, 0.0) == 0 and power_of_margin(0.01, 2485, 0.0) == 1
    assert power_of_drop(1, 20, 1) == pytest.approx(1) and power_of_margin(0.01, 20, 1, 1) == pytest.approx(0)
    for wrong in ((0.03, 100, 0.02), (-0.01, 100, 0.02), (0, 0, 0.02)):
        with pytest.raises(BadInput):
            power_of_drop(*wrong)
    with pytest.raises(BadInput):
        smallest_visible_drop(100, 0.1, power=1)


def test_confusion_and_per_class() -> None:
    found = answers([0, 1, 1, 2, 2, 4], [0, 0, 1, 2, 2, 2])
    counts = confusion(found, 5)
    assert counts.dtype == np.int64 and counts.sum() == 6
    assert (counts[0, 0], counts[0, 1], counts[1, 1], counts[2, 2], counts[2, 4]) == (1, 1, 1, 2, 1)
    first, second, third, fourth, fifth = per_class(found, 5)
    assert (first, second, third) == (proportion(1, 2), proportion(1, 1), proportion(2, 3))
    assert fourth is None and fifth is None
    with pytest.raises(BadInput, match="labels 0 to 4"):
        confusion(found, 4)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=40))
def test_classes_add_up_to_top_1(rows: list[tuple[int, int]]) -> None:
    found = answers([answer for answer, _ in rows], [truth for _, truth in rows])
    known = [one for one in per_class(found, 5) if one is not None]
    assert sum(one.value * one.n for one in known) == pytest.approx(top_k(found).value * len(rows))
    assert coarse_top_1(found, list(range(5))) == top_k(found)
    assert coarse_top_1(found, [0] * 5).value == 1
    groups = by_group(found, ["fruit", "fruit", "milk", "fruit", "milk"])
    assert sum(one.n for one in groups.values()) == len(rows)


def test_by_group_forgives_an_answer_of_the_same_group() -> None:
    found = answers([1, 2, 2, 0], [0, 0, 2, 4])
    groups = ["apple", "apple", "milk", "juice", "milk"]
    assert by_group(found, groups) == {"apple": proportion(1, 2), "milk": proportion(1, 2)}
    assert coarse_top_1(found, groups).value == 0.5
    with pytest.raises(BadInput, match="labels"):
        by_group(found, groups[:3])


def of_confidence(values: list[float], right: list[bool]) -> Predictions:
    """Two labels; the answer is always 0, with this softmax probability."""
    logits = np.array([[math.log(value / (1 - value)), 0] for value in values], np.float32)
    return Predictions.from_logits(digests(len(values)), np.array([int(not hit) for hit in right]), logits, "photos")


def test_calibration_error_by_hand() -> None:
    found = of_confidence([0.95, 0.95, 0.65, 0.65], [True, False, True, True])
    assert calibration_error(found, bins=10) == pytest.approx(0.5 * 0.45 + 0.5 * 0.35, abs=1e-6)
    assert calibration_error(found, bins=1) == pytest.approx(abs(0.75 - 0.8), abs=1e-6)
    assert calibration_error(found, temperature=1e9) == pytest.approx(abs(0.75 - 0.5), abs=1e-6)


def test_a_calibrated_model_has_hardly_any_error() -> None:
    random = np.random.default_rng(7)
    values = random.uniform(0.5, 0.999, 20_000)
    found = of_confidence(values.tolist(), (random.uniform(size=20_000) < values).tolist())
    assert calibration_error(found) < 0.015 < 0.05 < calibration_error(found, temperature=0.5)


def test_calibration_needs_logits() -> None:
    found = answers([0, 1], [0, 1])
    with pytest.raises(BadInput, match="without logits"):
        calibration_error(replace(found, logits=None))
    for wrong in ({"bins": 0}, {"temperature": 0.0}):
        with pytest.raises(BadInput):
            calibration_error(found, **wrong)
    with pytest.raises(BadInput, match="0 photos"):
        calibration_error(answers([], []))


def test_worst_class() -> None:
    truth = [0] * 40 + [1] * 40 + [2] * 40
    before = answers(truth, truth)
    now = answers([3] * 12 + [0] * 28 + [3] * 20 + [1] * 20 + [3] * 2 + [2] * 38, truth)
    found = worst_class(now, before, 5)
    assert found is not None
    assert (found.label, found.lost, found.won, found.n, found.loss) == (1, 20, 0, 40, 0.5)
    assert found.p_value == pytest.approx(3 * 2 * 0.5**20)  # three classes have photos
    assert worst_class(before, now, 5) is None and worst_class(before, before, 5) is None


@pytest.mark.parametrize(("classes", "lost"), [(1, 6), (81, 12)])
def test_the_fewest_lost_photos_that_a_class_can_show(classes: int, lost: int) -> None:
    truth = np.repeat(np.arange(classes), 20)

    def of(answer: np.ndarray) -> Predictions:
        return Predictions.from_logits(digests(len(truth)), truth, np.eye(classes + 1)[answer], "photos")

    for count, seen in ((lost - 1, False), (lost, True)):
        answer = truth.copy()
        answer[:count] = classes
        assert (worst_class(of(answer), of(truth), classes + 1) is not None) is seen


@pytest.mark.parametrize(
    "measure",
    [
        lambda found: confusion(found, 5),
        lambda found: per_class(found, 5),
        lambda found: coarse_top_1(found, list(range(5))),
        lambda found: by_group(found, list(range(5))),
        calibration_error,
        lambda found: mcnemar(found, found),
        lambda found: difference(found, found),
        lambda found: worst_class(found, found, 5),
    ],
)
def test_synthesized_images_have_no_accuracy_of_any_kind(measure) -> None:
    with pytest.raises(BadInput, match="synthesized"):
        measure(answers([0, 1], [0, 1], kind="synthesized"))


# Schema

ROOT = Path(tiffin.__file__).parent
RESULTS = ROOT / "benchmarks/results"
OF_SCHEMA_1 = sorted(path for path in RESULTS.glob("*.json") if json.loads(path.read_text()).get("schema") == 1)


def assert_valid(path: Path) -> None:
    import jsonschema

    schema = json.loads(schema_path().read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(json.loads(path.read_text(encoding="utf-8")))


def test_the_schema_is_of_this_version_and_knows_every_regime() -> None:
    schema = json.loads(schema_path().read_text())
    assert schema["properties"]["schema"]["const"] == SCHEMA_VERSION
    assert schema["$defs"]["rounds"]["properties"]["regime"]["enum"] == list(REGIMES)
    assert set(schema["$defs"]["environment"]["properties"]) == set(machine.environment())


def candidate_record() -> Record:
    from tiffin.benchmarks.candidate import Candidate

    subject = Candidate("null", None, RunConfig("null"), reason="nothing to run").subject(peak_bytes=None)
    options = {"regime": "back-to-back", "limit_s": math.inf, "file": "photo\udcff.jpg"}
    return Record("bench", machine.environment(), (subject,), options, created=machine.utc_now())


@pytest.mark.parametrize("made", [record(), Record("score", {}, ()), candidate_record()], ids=["full", "empty", "here"])
def test_what_is_saved_is_valid(tmp_path: Path, made: Record) -> None:
    path = made.save(tmp_path / "run.json")
    assert_valid(path)
    again = load_record(path).save(tmp_path / "again.json")
    assert json.loads(again.read_text()) == json.loads(path.read_text())


@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(REGIMES),
    st.lists(st.floats(1e-9, 1e9), max_size=3),
    st.dictionaries(st.text("abcé_/", min_size=1), st.floats()),
    st.dictionaries(st.text(), st.none() | st.floats() | st.text() | st.lists(st.integers())),
)
def test_any_record_is_valid_and_keeps_its_sensors(tmp_path_factory, regime, cold, sensors, free) -> None:
    rounds = Rounds(
        (np.array([1], np.int64),), (0,), (0,), regime=regime, sensors={k: np.array([v]) for k, v in sensors.items()}
    )
    subject = Subject("a", cold_start_s=tuple(cold), cold_split_s={"load": tuple(cold)}, applied=free)
    path = tmp_path_factory.getbasetemp() / "valid.json"
    assert_valid(Record("bench", {}, (subject,), free, rounds={"a": rounds}).save(path))
    assert_same_rounds(load_record(path).rounds["a"], rounds)


@pytest.mark.parametrize(
    "change", [{"more": 1}, {"complete": None}, {"arrays_sha256": ""}, {"schema": SCHEMA_VERSION + 1}, {"rounds": 1}]
)
def test_the_schema_refuses_what_is_no_record(tmp_path: Path, change: dict[str, object]) -> None:
    import jsonschema

    path = record().save(tmp_path / "run.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(jsonschema.ValidationError):
        assert_valid(path)


def schema_1(folder: Path) -> Path:
    """A record as schema 1 wrote it: of today's, everything that came later taken away."""
    path = record().save(folder / "old.json")
    with np.load(path.with_suffix(".npz")) as arrays:
        kept = {key: arrays[key] for key in arrays if not re.search("sensors|stages|logits", key)}
    np.savez_compressed(path.with_suffix(".npz"), **kept)
    head = json.loads(path.read_text())
    digest = hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()
    del head["stages"]
    for entry in head["rounds"].values():
        del entry["lanes"], entry["ended"], entry["sensors"]
    for entry in head["predictions"].values():
        del entry["logits"]
    for subject in head["subjects"]:
        del subject["cold_split_s"], subject["steady_bytes"], subject["rss_bytes"], subject["device_bytes"]
    path.write_text(json.dumps({**head, "schema": 1, "arrays_sha256": digest}))
    return path


def test_schema_1_is_read_and_saved_as_today(tmp_path: Path) -> None:
    read, made = load_record(schema_1(tmp_path)), record()
    assert read.stages == {} and all(found.logits is None for found in read.predictions.values())
    assert read.subject("ort fp32 cpu").cold_split_s == {} and read.subject("ort fp32 cpu").device_bytes is None
    found = read.rounds["ort fp32 cpu"]
    assert (found.lanes, found.ended, dict(found.sensors), found.regime) == (1, "fixed", {}, "paced")
    np.testing.assert_array_equal(found.all_ns(), made.rounds["ort fp32 cpu"].all_ns())
    assert_valid(read.save(tmp_path / "new.json"))


def test_there_is_a_committed_record_of_schema_1() -> None:
    assert RESULTS / "default-avx2.json" in OF_SCHEMA_1


@pytest.mark.parametrize("path", OF_SCHEMA_1, ids=lambda path: path.stem)
def test_committed_records_of_schema_1_load_for_ever(tmp_path: Path, path: Path) -> None:
    read = load_record(path)
    assert read.rounds and all(rounds.lanes == 1 and not rounds.sensors for rounds in read.rounds.values())
    assert_valid(read.save(tmp_path / "again.json"))
    again = load_record(tmp_path / "again.json")
    assert again.subjects == read.subjects
    for name, rounds in read.rounds.items():
        assert_same_rounds(again.rounds[name], rounds)


def test_an_interrupted_record_loads(tmp_path: Path) -> None:
    half = Rounds((np.array([7], np.int64),), (0,), (0,), ended="interrupted")
    path = Record("bench", {}, (Subject("a"), Subject("b")), rounds={"a": half}, complete=False).save(
        tmp_path / "r.json"
    )
    read = load_record(path)
    assert not read.complete and list(read.rounds) == ["a"] and read.rounds["a"].ended == "interrupted"
    assert_valid(path)


@pytest.mark.parametrize("fails_at", [1, 2])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_a_full_disk_leaves_the_old_record(tmp_path: Path, monkeypatch, fails_at: int, error: BaseException) -> None:
    path = record().save(tmp_path / "run.json")
    synced = []

    def fsync(handle: int) -> None:
        synced.append(handle)
        if len(synced) == fails_at:
            raise error

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(type(error)):
        Record("score", {}, ()).save(path)
    monkeypatch.undo()
    assert load_record(path).kind == "bench"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["run.json", "run.npz"]


def test_a_folder_in_the_way_leaves_the_old_record(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    arrays = record().save(path).with_suffix(".npz").read_bytes()
    path.unlink()
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        Record("score", {}, ()).save(path)
    assert path.with_suffix(".npz").read_bytes() == arrays
    assert sorted(found.name for found in tmp_path.iterdir()) == ["run.json", "run.npz"]


def test_no_array_is_pickled(tmp_path: Path) -> None:
    path = record().save(tmp_path / "run.json")
    with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
        assert all(arrays[key].dtype != object for key in arrays)
        assert "allow_pickle" not in arrays  # a keyword that numpy before 2.1 took for an array's name


def test_the_page_says_every_array(tmp_path: Path) -> None:
    page = (ROOT / "docs/records.md").read_text()
    with np.load(record().save(tmp_path / "run.json").with_suffix(".npz")) as arrays:
        keys = {re.sub("/[0-9]+", "/#", re.sub("sensors/.*", "sensors/NAME", key)): arrays[key] for key in arrays}
    told = dict(re.findall(r"^\| `([^`]+)` \| (\w+)", page, re.MULTILINE))
    assert told == {key: "bytes" if array.dtype.kind == "S" else array.dtype.name for key, array in keys.items()}


def test_the_pages_snippet_reads_a_record_with_numpy_alone(tmp_path: Path) -> None:
    (snippet,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/records.md").read_text(), re.DOTALL)
    record().save(tmp_path / "record.json")
    words = [sys.executable, "-c", snippet]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONUTF8": "1"})
    assert (ended.stdout, ended.stderr) == (f"ort fp32 cpu [6e-06, {2**40 / 1e6}] ms\nov int8 cpu [] ms\n", "")


@pytest.mark.parametrize("index", [slice(1, 3), [1, 2], np.array([1, 2]), [], [2, 0, 2]])
@pytest.mark.parametrize("kept", [True, False])
def test_rows_keep_all_that_is_known_of_a_photo(index, kept: bool) -> None:
    logits = np.random.default_rng(0).normal(size=(4, 9))
    whole = Predictions.from_logits(digests(4), np.arange(4), logits, "synthesized")
    whole = whole if kept else replace(whole, logits=None)
    found, rows = whole.rows(index), np.arange(4)[index]
    assert found.photos == tuple(whole.photos[row] for row in rows) and found.kind == "synthesized"
    for name in ("truth", "top", "scores", *(["logits"] if kept else [])):
        one, all_ = getattr(found, name), getattr(whole, name)
        assert one.dtype == all_.dtype and np.array_equal(one, all_[rows])
    assert kept or found.logits is None


def test_from_logits_keeps_them_all() -> None:
    logits = np.random.default_rng(0).normal(size=(3, 9))
    found = Predictions.from_logits(digests(3), np.zeros(3), logits, "photos")
    assert found.logits is not None and found.logits.dtype == np.float32
    np.testing.assert_array_equal(np.take_along_axis(found.logits, found.top, 1), found.scores)


# Environment


def test_the_environment_is_plain_and_names_no_host() -> None:
    import platform

    found = machine.environment()
    assert json.loads(json.dumps(found)) == found
    values = [value for value in found.values() if isinstance(value, str)]
    assert platform.node() not in values and not any(str(Path.home()) in value for value in values)
    assert set(found) == {*MACHINE, *SOFTWARE, "load_1min"}


def git(folder: Path, *words: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    try:
        git(tmp_path, "init", "-q")
    except FileNotFoundError:
        pytest.skip("no git")
    return tmp_path


def test_the_commit_says_whether_files_differ(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert machine.git_commit() is None  # none made yet
    (repository / "file").write_text("one")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "one")
    git(repository, "tag", "-am", "a tag is no commit", "v1")
    (repository / "untracked").write_text("")
    clean = machine.git_commit()
    assert clean is not None and re.fullmatch("[0-9a-f]{40}", clean)
    (repository / "file").write_text("another")
    assert machine.git_commit() == f"{clean}+dirty"
    monkeypatch.setenv("PATH", str(repository))
    assert machine.git_commit() is None


def test_no_program_that_a_foreign_repository_names_is_run(repository: Path) -> None:
    (repository / ".gitattributes").write_text("file filter=a=b\n")
    (repository / "file").write_text("one")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "one")
    for name in ("core.fsmonitor", "filter.a=b.clean", "filter.a=b.process"):
        git(repository, "config", name, "touch ran; false")
    git(repository, "config", "filter.a=b.required", "true")
    os.utime(repository / "file", (0, 0))  # git looks into it
    commit = machine.git_commit()
    assert commit is not None and not commit.endswith("+dirty") and not (repository / "ran").exists()


def test_no_repository_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.chdir(tmp_path)
    assert machine.git_commit() is None


class FakeNvml:
    """Answers as `pynvml` did when it returned bytes."""

    @staticmethod
    def nvmlInit() -> None: ...

    @staticmethod
    def nvmlShutdown() -> None: ...

    @staticmethod
    def nvmlDeviceGetCount() -> int:
        return 2

    @staticmethod
    def nvmlDeviceGetHandleByIndex(index: int) -> int:
        return index

    @staticmethod
    def nvmlDeviceGetName(handle: int) -> bytes:
        return b"Card " + str(handle).encode()

    @staticmethod
    def nvmlSystemGetDriverVersion() -> str:
        return "575.1"


class FailingNvml(FakeNvml):
    @staticmethod
    def nvmlDeviceGetCount() -> int:
        raise RuntimeError("GPU is lost")


@pytest.mark.parametrize(
    ("nvml", "expected"), [(FakeNvml, ("Card 0, Card 1", "575.1")), (FailingNvml, (None, None)), (None, (None, None))]
)
def test_nvml_tells_or_does_not_and_never_raises(monkeypatch, nvml: object, expected: tuple[str | None, ...]) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert machine._nvml() == expected


KERNEL_FILES = {
    "/proc/self/cgroup": "4:memory:/elsewhere\n0::/system.slice/bench.service\n",
    "/sys/fs/cgroup/system.slice/bench.service/cpu.max": "150000 100000",
    "/sys/fs/cgroup/system.slice/bench.service/memory.max": "1073741824",
    "/sys/fs/cgroup/memory.max": "max",
    "/sys/devices/system/cpu/cpu0/topology/thread_siblings_list": "0,4-6",
    "/proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0",
}


def test_kernel_files_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: KERNEL_FILES.get(str(path)))
    found = machine.environment()
    names = ("cgroup_cpu_quota", "cgroup_memory_bytes", "threads_per_core", "board", "governor", "cores")
    assert [found[name] for name in names] == [1.5, 2**30, 4, "Raspberry Pi 5 Model B Rev 1.0", None, 1]


def test_a_limit_holds_wherever_it_stands_above_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    top = "/sys/fs/cgroup"
    files = {"/proc/self/cgroup": "0::/pod/box", f"{top}/pod/box/cpu.max": "max 100000",
             f"{top}/pod/cpu.max": "100000 100000", f"{top}/cpu.max": "300000 100000",
             f"{top}/pod/box/memory.max": "max", f"{top}/pod/memory.max": "2048",
             f"{top}/memory.max": "1024"}  # fmt: skip
    monkeypatch.setattr(machine, "_read", lambda path: files.get(str(path)))
    assert (machine._cgroup_cpu_quota(), machine.cgroup_memory_bytes(), machine.usable_cores()) == (1.0, 1024, 1)


@pytest.mark.parametrize("text", ["", "max", "garbage", "max 100000", "1 2 3"])
def test_kernel_files_of_another_shape_tell_nothing(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(machine, "_read", lambda path: text)
    found = machine.environment()
    names = ("cgroup_cpu_quota", "cgroup_memory_bytes", "threads_per_core")
    assert [found[name] for name in names] == [None, None, None]


HERE = {
    "cpu": "A",
    "cpu_features": ["avx2"],
    "cores": 2,
    "memory_bytes": 16 * 10**9,
    "load_1min": 0.1,
    "governor": None,
}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, {}),
        ({"load_1min": 9.0, "unheard_of": 1}, {}),
        ({"cpu": "B"}, {"cpu": ("A", "B")}),
        ({"cpu_features": ["avx2", "avx512f"]}, {"cpu_features": (["avx2"], ["avx2", "avx512f"])}),
        ({"memory_bytes": 16 * 10**9 - 10**8}, {}),
        ({"memory_bytes": 8 * 10**9}, {"memory_bytes": (16 * 10**9, 8 * 10**9)}),
        ({"memory_bytes": None}, {"memory_bytes": (16 * 10**9, None)}),
        ({"governor": "performance"}, {"governor": (None, "performance")}),
        ({"gpu": "a field that schema 1 lacked"}, {}),
    ],
)
def test_differing(change: dict[str, object], expected: dict[str, tuple[object, object]]) -> None:
    assert differing(HERE, {**HERE, **change}) == expected
    assert differing({**HERE, **change}, HERE) == {name: pair[::-1] for name, pair in expected.items()}


def test_versions_differ_by_package_and_are_told_only() -> None:
    one, other = {**HERE, "versions": {"a": "1", "b": "1"}}, {**HERE, "versions": {"a": "2", "b": "1", "c": "1"}}
    assert differing(one, other) == {"versions.a": ("1", "2"), "versions.c": (None, "1")}
    assert differing(one, other, MACHINE) == {} and describe(differing(one, other)) == (
        "versions.a: 1 / 2; versions.c: none / 1"
    )
    require_same_machine([Record("bench", one, ()), Record("bench", other, ())])


def test_two_machines_are_refused_by_the_field_that_differs() -> None:
    records = [Record("bench", HERE, ()), Record("bench", HERE, ()), Record("bench", {**HERE, "cores": 4}, ())]
    require_same_machine(records[:2])
    require_same_machine([])
    with pytest.raises(BadInput, match=r"record 1 and record 3 .*\(cores: 2 / 4\)") as caught:
        require_same_machine(records)
    assert "--across-machines" in caught.value.fix
    with pytest.raises(BadInput, match=r"old\.json and new\.json"):
        require_same_machine(records[1:], ["old.json", "new.json"])


def test_this_machine_is_this_machine(tmp_path: Path) -> None:
    path = Record("bench", machine.environment(), ()).save(tmp_path / "run.json")
    assert differing(load_record(path).environment, machine.environment(), MACHINE) == {}


# Conditions


def told(*medians_ns: int, launches: int = 1, **sensors: list[float]) -> Rounds:
    """Blocks of three equal calls, dealt evenly to the launches, with what sensors told."""
    number = len(medians_ns)
    owners = tuple(block * launches // number for block in range(number))
    arrays = tuple(np.full(3, median, np.int64) for median in medians_ns)
    values = {name: np.array(column, np.float64) for name, column in sensors.items()}
    return Rounds(arrays, owners, tuple(range(number)), sensors=values)


def test_a_quiet_machine_has_no_flags() -> None:
    quiet = told(
        *[100] * 6, launches=2, wall_s=[1] * 6, steal_s=[0.01] * 6, clock_mhz=[2000, 1990, 2000, 1980, 1950, 1960],
        temperature_c=[40, 45, 50, 50, 50, 50], throttled=[0] * 6, cgroup_throttled=[0] * 6,
    )  # fmt: skip
    assert flags(quiet) == () and flags(told(*[100] * 6, launches=2)) == () and flags(Rounds()) == ()


def test_each_condition_has_its_flag() -> None:
    nan = math.nan
    noisy = told(
        *[100] * 6, wall_s=[1] * 6, steal_s=[0.02, 0.05, 0.01, nan, 0.04, 0.04], throttled=[0, 0, 2, 0, 1, nan],
        cgroup_throttled=[1, 0, 0, 0, 0, 0], clock_mhz=[2000, 2000, 1900, 1900, 1500, 1500],
        temperature_c=[nan, 40, 60, 71, 70, 70],
    )  # fmt: skip
    assert flags(noisy) == (
        "steal 3.2 % of the time",
        "throttled by heat or power in 2 of 6 blocks",
        "throttled by the cgroup's CPU quota in 1 of 6 blocks",
        "clock fell 25 % to 1500 MHz",
        "temperature rose 31 °C to 71 °C",
    )


def test_steal_is_of_the_time_between_the_readings() -> None:
    assert flags(told(100, wall_s=[1], span_s=[4], steal_s=[0.03])) == ()
    assert flags(told(10**9, steal_s=[0.06])) == ("steal 2.0 % of the time",)


def test_a_first_block_that_differs_in_most_launches() -> None:
    slow = told(120, 100, 100, 121, 100, 100, 119, 100, 100, 110, 100, 100, launches=4)
    assert first_block(slow) == pytest.approx((1.2 * 1.21 * 1.19 * 1.1) ** 0.25)
    assert flags(slow) == ("first block after the warm-up 17 % slower",)
    assert flags(told(*[80, 100, 100] * 4, launches=4)) == ("first block after the warm-up 20 % faster",)


def test_a_first_block_that_differs_now_and_then_is_noise() -> None:
    assert first_block(told(160, 100, 160, 100, 99, 100, 99, 100, launches=4)) is None
    assert first_block(told(104, 100, 104, 100, launches=2)) is None
    assert first_block(told(150, 100, launches=2)) is None
    # 3/4 of the launches, and not significant: t = 2.8 of 3 degrees of freedom.
    assert first_block(told(120, 100, 120, 100, 120, 100, 99, 100, launches=4)) is None
    # However large, three launches are too few.
    assert first_block(told(200, 100, 200, 100, 201, 100, launches=3)) is None


@pytest.mark.parametrize(
    ("megabytes", "launches", "grown"),
    [
        ([100, 110, 130, 100, 130, 140], 2, 35e6),
        ([100, 110, 130, 100, 110, 110], 2, None),  # one launch of two
        ([50, math.nan, 65] * 4, 4, None),  # 30 %, and only 15 MB
        ([200, 210, 230] * 4, 4, None),  # 30 MB, and only 15 %
        ([100, 150, 130, 100, 100, 130, math.nan, 100, 130, 100, 100, 100], 4, 30e6),
        ([math.nan] * 6, 2, None),
        ([100, 200], 2, None),
    ],
)
def test_memory_that_grows_within_most_launches(megabytes: list[float], launches: int, grown: float | None) -> None:
    rounds = told(*[100] * len(megabytes), launches=launches, pss_bytes=[1e6 * value for value in megabytes])
    assert memory_growth(rounds) == (pytest.approx(grown) if grown else None)
    expected = (f"memory grew by {grown / 1e6:.0f} MB within a launch: a leak?",) if grown else ()
    assert flags(rounds) == expected


def test_drift_needs_a_trend_and_a_size() -> None:
    assert drift(told(100, 102, 104, 106, 108, launches=5)) == pytest.approx(1.08)
    assert flags(told(108, 106, 104, 102, 97, launches=5)) == (
        "drift over launches: the last 10 % faster than the first",
    )
    assert drift(told(100, 101, 102, 103, 104, launches=5)) is None
    assert drift(told(100, 106, 104, 102, 108, launches=5)) is None
    assert drift(told(100, 110, 120, 130, launches=4)) is None


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(7)))
def test_the_trends_p_is_kendalls_exact_one(values: list[int]) -> None:
    stats = pytest.importorskip("scipy.stats")
    expected = stats.kendalltau(range(len(values)), values, method="exact").pvalue
    assert mann_kendall_p(values) == pytest.approx(expected)
    assert mann_kendall_p(values) == mann_kendall_p(values[::-1])


def test_the_trends_p_of_few_and_of_equal_values() -> None:
    assert mann_kendall_p([1, 2, 3, 4, 5]) == pytest.approx(2 / 120)
    assert mann_kendall_p([1, 1, 1, 1, 1]) == 1 and mann_kendall_p([1]) == 1


TIMES = st.lists(st.integers(1000, 10**6), min_size=6, max_size=12)


@settings(max_examples=60, deadline=None)
@given(TIMES, st.integers(2, 50))
def test_the_unit_of_time_changes_no_finding(times: list[int], factor: int) -> None:
    one, other = told(*times, launches=3), told(*[factor * ns for ns in times], launches=3)
    assert flags(one) == flags(other)
    assert sustained(one).slowdown == pytest.approx(sustained(other).slowdown)
    assert throughput(one) == pytest.approx(factor * throughput(other))


@settings(max_examples=60, deadline=None)
@given(TIMES)
def test_a_run_backwards_slows_down_as_much_as_it_sped_up(times: list[int]) -> None:
    assert sustained(told(*times)).slowdown * sustained(told(*times[::-1])).slowdown == pytest.approx(1)


def test_cost_a_photo_is_of_the_blocks_that_tell_it() -> None:
    rounds = dataclasses.replace(
        told(1, 1, 1, wall_s=[2, 2, 2], cpu_s=[6, math.nan, 12], energy_cpu_j=[30, 30, math.nan],
             energy_gpu_j=[math.nan] * 3), batch=2,
    )  # fmt: skip
    assert cpu_s_per_photo(rounds) == pytest.approx(18 / 12)
    assert energy_j_per_photo(rounds) == {"cpu": pytest.approx(60 / 12)}
    assert throughput(rounds) == pytest.approx(18 / 6)
    assert cpu_s_per_photo(told(1)) is None and energy_j_per_photo(told(1)) == {} and throughput(Rounds()) is None


def test_energy_of_the_warm_up_between_is_not_the_blocks() -> None:
    assert energy_j_per_photo(told(1, wall_s=[3], span_s=[4], energy_board_j=[40])) == {"board": pytest.approx(10)}


def test_calls_that_overlap_tell_no_wall_time() -> None:
    rounds = told(10**9, wall_s=[math.nan])
    assert throughput(rounds) == pytest.approx(1)
    assert throughput(dataclasses.replace(rounds, lanes=4)) is None


def test_a_sustained_run_by_time() -> None:
    heat = told(*[10**9] * 2, *[2 * 10**9] * 6, wall_s=[3, 3, *[6] * 6], temperature_c=[40, *[80] * 7])
    found = sustained(heat)
    assert [moment.start_s for moment in found.moments] == [0, 3, 6, 12, 18, 24, 30, 36]
    first, last = found.moments[0], found.moments[-1]
    assert (first.p50_s, first.temperature_c, first.clock_mhz, first.throughput) == (1, 40, None, 1)
    assert (last.p50_s, last.temperature_c, last.throughput) == (2, 80, 0.5)
    assert found.slowdown == 2
    assert sustained(told(1, 2, 3)).slowdown is None and sustained(Rounds()).moments == ()


# Two records


def one_of(name: str, **more: object) -> Subject:
    """A subject that ran."""
    return Subject(name, "ab" * 32, requested={"backend": "a"}, applied={"version": "1"}, **more)  # type: ignore[arg-type]


def timed(seed: int, scale: float = 1.0, n: int = 8, spread_: float = 0.01, **factors: float) -> Record:
    """A record of n launches: `base` takes 10 ms times `scale`, each other row its factor of that."""
    chance = np.random.default_rng(seed)
    drift = chance.normal(0, 0.05, n)
    rows = {"base": 1.0, **factors}
    rounds = {
        name: spread(10_000_000 * scale * factor, drift + chance.normal(0, spread_, n)) for name, factor in rows.items()
    }
    return Record("bench", {"cpu": "one"}, tuple(one_of(name) for name in rows), rounds=rounds)


def row(change: RecordChange, name: str) -> Change:
    return {found.name: found for found in change.rows}[name]


def test_drift_between_two_records_cancels_where_both_hold_the_same_row() -> None:
    before, after = timed(0, a=0.5, b=0.7), timed(1, scale=1.3, a=0.55, b=0.7)
    rebuilt = tuple(replace(one, artifact="cd" * 32) if one.name == "a" else one for one in after.subjects)
    found = compare_records(before, replace(after, subjects=rebuilt))
    assert found.anchor in ("base", "b")
    changed, kept = row(found, "a").speed, row(found, "b" if found.anchor == "base" else "base").speed
    assert changed.speed is Speed.SLOWER and changed.ratio.value == pytest.approx(1.1, abs=0.02)
    assert kept.speed not in (Speed.FASTER, Speed.SLOWER) and kept.ratio.value == pytest.approx(1, abs=0.02)
    assert row(found, "b").after_s.value / row(found, "b").before_s.value == pytest.approx(1.3, rel=0.1)


def test_drift_between_two_records_shows_where_nothing_is_the_same() -> None:
    before, after = timed(0, a=0.5, b=0.7), timed(1, scale=1.3, a=0.5, b=0.7)
    found = compare_records(before, replace(after, subjects=tuple(replace(one, place="far") for one in after.subjects)))
    assert found.anchor is None
    for change in found.rows:
        assert change.speed.speed is Speed.SLOWER and change.speed.ratio.value == pytest.approx(1.3, rel=0.1)


def test_p_values_of_two_records_are_adjusted_over_the_rows() -> None:
    before, after = timed(0, a=0.5, b=0.7), timed(1, a=0.503, b=0.71)
    found = compare_records(before, after)
    others = {name for name in before.rounds if name != found.anchor}
    logs = {
        name: [np.log(launch_ratios(one.rounds[name], one.rounds[found.anchor])) for one in (before, after)]
        for name in others
    }
    raw = {name: stats.ttest_ind(*pair, equal_var=False, trim=0.2).pvalue for name, pair in logs.items()}
    least = min(raw, key=raw.get)
    assert {change.name for change in found.rows if change.speed} == others
    assert row(found, least).speed.p == pytest.approx(2 * yuen_p(*logs[least])) and 2 * raw[least] < 1


def test_of_two_rows_the_first_is_the_anchor() -> None:
    assert {anchor_of(timed(seed, a=0.5), timed(seed + 1, a=0.6)) for seed in range(20)} == {"base"}


def test_the_anchor_is_the_steadiest_row_that_is_the_same_thing() -> None:
    before, after = timed(0, a=0.5, b=0.7, c=0.9), timed(1, a=0.5, b=0.7, c=0.9)
    noisy = replace(after, rounds={**after.rounds, "base": timed(2, spread_=0.2).rounds["base"]})
    assert anchor_of(before, noisy) not in (None, "base")
    changes = [replace(one, artifact="cd" * 32) for one in after.subjects[1:]]
    assert anchor_of(before, replace(after, subjects=(after.subjects[0], *changes))) == "base"
    for other in ({"artifact": "x"}, {"requested": {"backend": "b"}}, {"applied": {"version": "2"}}, {"place": "far"}):
        changed = tuple(replace(one, **other) for one in after.subjects)
        assert anchor_of(before, replace(after, subjects=changed)) is None


def test_rows_that_only_one_has_are_named_and_failed_ones_are_no_rows() -> None:
    before, after = timed(0, a=0.5, old=0.7), timed(1, a=0.5, fresh=0.7)
    after = replace(after, subjects=(*after.subjects, Subject("tensorrt", reason="no driver")))
    found = compare_records(before, after)
    assert (found.gone, found.new) == (("old",), ("fresh", "tensorrt"))
    assert {change.name for change in found.rows} == {"base", "a"}


def test_single_rows_are_compared_whatever_their_names() -> None:
    before, after = timed(0), timed(1, scale=1.5)
    after = replace(after, subjects=(one_of("renamed"),), rounds={"renamed": after.rounds["base"]})
    found = compare_records(before, after)
    assert found.anchor is None and row(found, "renamed").speed.speed is Speed.SLOWER


def test_two_records_that_cannot_be_compared() -> None:
    before, after = timed(0, a=0.5), timed(1, a=0.5)
    with pytest.raises(BadInput, match="no row in common"):
        compare_records(before, replace(after, subjects=(one_of("x"), one_of("y")), rounds={}))
    paced = {name: replace(rounds, regime="paced") for name, rounds in after.rounds.items()}
    with pytest.raises(BadInput, match="regime back-to-back and paced"):
        compare_records(before, replace(after, rounds=paced))
    scored = replace(before, predictions={"a": answers([0, 1], [0, 1])})
    with pytest.raises(BadInput, match="different photos"):
        compare_records(scored, replace(after, predictions={"a": answers([0, 1], [0, 1], start=1)}))
    with pytest.raises(BadInput, match="other labels"):
        compare_records(scored, replace(after, predictions={"a": answers([0, 1], [1, 0])}))


def test_answers_of_two_records() -> None:
    now, before = pair(2000, 2, 40, 400)
    one, other = (replace(timed(0, a=0.5), predictions={"a": found, "base": found}) for found in (before, now))
    found = row(compare_records(one, other), "a").answers
    assert found is not None and found.mcnemar is not None and found.top_1 is not None
    assert (found.flips.count, found.mcnemar.lost, found.mcnemar.won) == (442, 40, 2)
    assert found.mcnemar.p_value == pytest.approx(min(1, 2 * mcnemar(now, before).p_value))  # Holm over two rows
    assert found.top_1.value == pytest.approx(-38 / 2442) and found.non_inferior.decision is Decision.FAIL
    assert found.visible == smallest_visible_drop(2442, 42 / 2442)
    drawn = replace(now, kind="synthesized"), replace(before, kind="synthesized")
    assert answers_of(*drawn, 0.01).flips.count == 442 and answers_of(*drawn, 0.01).top_1 is None


SAMPLES = st.lists(st.floats(-1, 1, allow_subnormal=False), min_size=2, max_size=12)


@settings(max_examples=60, deadline=None)
@given(SAMPLES, SAMPLES)
def test_two_samples_laws(one: list[float], other: list[float]) -> None:
    before, after = np.round(one, 3), np.round(other, 3)
    there, back = two_sample_ratio(before, after), two_sample_ratio(after, before)
    assert there.value * back.value == pytest.approx(1)
    assert there.low <= there.value * (1 + 1e-12) and there.value <= there.high * (1 + 1e-12)
    assert yuen_p(before, after) == pytest.approx(yuen_p(after, before))
    if before.std() > 0.01 and after.std() > 0.01:  # degrees of freedom are rounded down: never bolder than scipy
        trim = 0.2 if min(len(before), len(after)) >= 6 else 0
        if trim == 0 and max(len(before), len(after)) >= 6:
            return  # scipy trims both or none
        wanted = stats.ttest_ind(before, after, equal_var=False, trim=trim).pvalue
        # scipy divides zero by zero where only the trimmed values differ
        assert np.isnan(wanted) or yuen_p(before, after) >= wanted - 1e-9


def test_yuen_as_scipy_for_many_launches() -> None:
    chance = np.random.default_rng(0)
    before, after = chance.normal(0, 1, 400), chance.normal(0.2, 2, 300)
    assert yuen_p(before, after) == pytest.approx(
        stats.ttest_ind(before, after, equal_var=False, trim=0.2).pvalue, rel=1e-2
    )


def test_too_few_launches_prove_nothing_between_records() -> None:
    before, after = timed(0, n=1, a=0.5), timed(1, n=1, a=0.9)
    found = compare_records(before, after)
    assert [change.speed.speed for change in found.rows if change.speed] == [Speed.UNKNOWN]


@pytest.mark.parametrize("n", [3, 5, 7, 10])
def test_records_of_the_same_thing_seldom_differ(n: int) -> None:
    chance = np.random.default_rng(n)
    runs = [(chance.normal(0, 0.02, n), chance.normal(0, 0.01, n)) for _ in range(3000)]
    assert sum(yuen_p(*run) < ALPHA for run in runs) <= 30  # 1 %; a verdict asks for a smaller p and more


def test_answers_under_renamed_labels_are_refused() -> None:
    one = replace(timed(0, a=0.5), predictions={"a": answers([0, 1], [0, 1])}, data={"labels": ["leek", "milk"]})
    with pytest.raises(BadInput, match="'milk' / 'pear'"):
        compare_records(one, replace(one, data={"labels": ["leek", "pear"]}))


# Certificates


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """An artifact to write certificates beside."""
    specs = (TensorSpec("photos", "uint8", (None, 8, 8, 3)),), (TensorSpec("logits", "float32", (None, 5)),)
    made = Manifest("classification", "null", "int8", *specs, (), Producer("quantize"), labels=tuple("abcde"))
    return save(tmp_path_factory.mktemp("certified") / "int8", made, {"model.bin": b"model"})


def evidence_of(cases: list[tuple[int, int, int]], kind: str = "photos", **more: object) -> Evidence:
    """From each photo's truth, the reference's answer and the subject's."""
    truth, before, now = ([case[place] for case in cases] for place in range(3))
    return Evidence.of(answers(now, truth, kind), answers(before, truth, kind), **more)


def certificate_of(evidence: Evidence, basis: str = "whole", **changed: object) -> Certificate:
    return Certificate(
        **{
            "cpu_class": "avx2",
            "backend": "onnxruntime",
            "engine_version": "1.20",
            "execution_precision": "fp32",
            "place": "native",
            "emulator": "",
            "basis": basis,
            "data": {
                "name": "tiny",
                "role": "confirm",
                "kind": evidence.kind,
                "count": len(evidence.photos) + (basis == "sample"),
            },
            "margin": 0.01,
            "native_class": "vnni" if basis == "identity" else "",
            "reference": "ab" * 32,
            "tiffin": tiffin.__version__,
            "created": "2026-01-01T00:00:00+00:00",
            **figures(evidence, basis, 0.01),
            **changed,
        }
    )


def written(artifact: Artifact, evidence: Evidence, basis: str = "whole", **changed: object) -> Certificate:
    """Written beside an artifact and read again."""
    write_certificate(artifact, certificate_of(evidence, basis, **changed), evidence)
    found = certificates_for(artifact, "avx2", "onnxruntime")[0]
    assert found is not None
    return found


def edit_json(artifact: Artifact, **fields: object) -> Certificate:
    """The certificate with some fields written over by hand, as it is read."""
    path = artifact.folder / "claims/certificate-avx2-onnxruntime.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    found = certificates_for(artifact, "avx2", "onnxruntime")[0]
    assert found is not None
    return found


def edit_npz(artifact: Artifact, certificate: Certificate, **arrays: np.ndarray) -> None:
    path = evidence_path(artifact, certificate)
    with np.load(path) as whole:
        kept = dict(whole)
    np.savez(path, **{**kept, **arrays})


# 3 lost, 1 won, 2 wrong before and after with another answer, of 100
FEW_FLIPS = [(0, 0, 0)] * 90 + [(0, 0, 1)] * 3 + [(0, 1, 0)] + [(0, 1, 2)] * 2 + [(0, 3, 3)] * 4
ALARM = {
    "alarm_photos": digests(4, 500),
    "alarm_native": np.array([0, 1, 2, 3]),
    "alarm_there": np.array([0, 2, 2, 4]),
}


def test_a_certificates_figures_are_those_of_its_answers() -> None:
    found = figures(evidence_of(FEW_FLIPS, **ALARM), "sample", 0.05)
    counts = ("n", "answered", "lost", "won", "flips", "agreement", "alarm")
    assert [found[name] for name in counts] == [100, 100, 3, 1, 6, 0.94, (4, 2)]
    truth, before, now = ([case[place] for case in FEW_FLIPS] for place in range(3))
    subject, reference = answers(now, truth), answers(before, truth)
    rate, decided = flips(subject, reference).rate, non_inferior(subject, reference, 0.05)
    assert found["flip_rate"] == (rate.value, rate.low, rate.high)
    assert (found["verdict"], found["reason"]) == (decided.decision.value, decided.reason)
    assert found["power"] == power_of_margin(0.05, 100, 0.04)


@pytest.mark.parametrize(
    ("lost", "n", "decision"), [(0, 400, "PASS"), (0, 100, "INCONCLUSIVE"), (5, 400, "INCONCLUSIVE"), (40, 400, "FAIL")]
)
def test_a_certificate_has_the_verdict_of_its_margin(lost: int, n: int, decision: str) -> None:
    cases = [(0, 0, 1)] * lost + [(0, 0, 0)] * (n - lost)
    assert figures(evidence_of(cases), "whole", 0.01)["verdict"] == decision


def test_by_identity_few_are_answered_and_all_are_counted() -> None:
    logits = np.eye(5, dtype=np.float32)[[0, 0, 0]]
    found = figures(evidence_of(FEW_FLIPS, rows=np.array([0, 5, 9]), native=logits, there=logits), "identity", 0.01)
    assert (found["answered"], found["n"], found["alarm"]) == (3, 100, None)


def test_evidence_is_of_the_same_photos() -> None:
    with pytest.raises(BadInput, match="different photos"):
        Evidence.of(answers([0, 1], [0, 1]), answers([0, 1], [0, 1], start=1))


OTHER_FIGURES = {
    "n": lambda n: n + 1,
    "answered": lambda answered: answered - 1,
    "agreement": lambda agreement: agreement - 1e-4,
    "flips": lambda flips: flips + 1,
    "lost": lambda lost: lost + 1,
    "won": lambda won: won + 1,
    "flip_rate": lambda rate: [rate[0], rate[1], rate[2] + 1e-4],
    "verdict": lambda verdict: "FAIL" if verdict == "PASS" else "PASS",
    "reason": lambda reason: f"{reason}.",
    "power": lambda power: 0.99 if power is None else None,
    "alarm": lambda alarm: [40, 0] if alarm is None else None,
    "predictions": lambda digest: digest[::-1],
}
CASES = st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=60)


@settings(max_examples=25, deadline=None)
@given(CASES, st.sampled_from(["photos", "synthesized"]), st.sampled_from(["whole", "sample", "identity"]), st.data())
def test_what_is_written_checks_and_no_figure_can_be_edited(
    certified: Artifact, cases: list[tuple[int, int, int]], kind: str, basis: str, data: st.DataObject
) -> None:
    more: dict[str, object] = dict(ALARM) if basis == "sample" else {}
    if basis == "identity":
        rows = np.array(data.draw(st.lists(st.integers(0, len(cases) - 1), min_size=1, max_size=9, unique=True)))
        native = np.eye(5, dtype=np.float32)[[cases[row][2] for row in rows]]
        more = {"rows": rows, "native": native, "there": native.copy()}
    evidence = evidence_of(cases, kind, **more)
    found = written(certified, evidence, basis)
    assert found == certificate_of(evidence, basis)
    checked = check_certificate(certified, found)
    assert (checked.photos, checked.kind, checked.alarm_photos) == (evidence.photos, kind, evidence.alarm_photos)
    for name in ("truth", "reference", "answers", "rows", "native", "there", "alarm_native", "alarm_there"):
        np.testing.assert_array_equal(getattr(checked, name), getattr(evidence, name))
    for name, other in OTHER_FIGURES.items():
        was = getattr(found, name)
        with pytest.raises(BadArtifact, match=rf"avx2-onnxruntime\.json: {name}: not what"):
            check_certificate(certified, edit_json(certified, **{name: other(was)}))
        edit_json(certified, **{name: was})
    check_certificate(certified, edit_json(certified))


@pytest.mark.parametrize("name", ["answers", "reference", "truth", "photos", "alarm_there", "alarm_photos"])
def test_changed_evidence_is_found_out(certified: Artifact, name: str) -> None:
    found = written(certified, evidence_of(FEW_FLIPS, **ALARM), "sample")
    with np.load(evidence_path(certified, found)) as arrays:
        changed = arrays[name].copy()
    changed.flat[0] += 1
    edit_npz(certified, found, **{name: changed})
    with pytest.raises(BadArtifact, match="predictions") as caught:
        check_certificate(certified, found)
    assert "tiffin certify" in caught.value.fix


def test_evidence_of_another_kind_is_found_out(certified: Artifact) -> None:
    found = written(certified, evidence_of([(0, 0, 0)] * 400))
    assert found.verdict == "PASS"
    edit_npz(certified, found, kind=np.array("synthesized"))
    with pytest.raises(BadArtifact, match="predictions.*verdict"):
        check_certificate(certified, found)


NAN, OTHER_NAN = (np.array([bits], np.uint32).view(np.float32)[0] for bits in (0x7FC00000, 0x7FC00001))


@pytest.mark.parametrize(
    ("native", "there", "alike"),
    [
        (1.5, 1.5, True),
        (1.5, np.nextafter(np.float32(1.5), np.float32(2)), False),
        (0.0, -0.0, False),
        (-0.0, -0.0, True),
        (NAN, NAN, True),
        (NAN, OTHER_NAN, False),
        (np.inf, np.inf, True),
    ],
)
def test_identity_is_of_bits(certified: Artifact, native: float, there: float, alike: bool) -> None:
    here = np.full((3, 5), 1.0, np.float32)
    here[1, 3] = native
    now = here.argmax(1)
    emulated = here.copy()
    emulated[1, 3] = there
    evidence = evidence_of([(0, 0, int(top)) for top in now], rows=np.arange(3), native=here, there=emulated)
    assert evidence.is_identical() == alike
    found = written(certified, evidence, "identity")
    if alike:
        check_certificate(certified, found)
        return
    with pytest.raises(BadArtifact, match="json: basis: not what"):
        check_certificate(certified, found)


def test_identity_needs_photos_answered_in_both_places(certified: Artifact) -> None:
    with pytest.raises(BadArtifact, match="basis"):
        check_certificate(certified, written(certified, evidence_of(FEW_FLIPS), "identity"))


def test_identity_is_of_the_answers_given(certified: Artifact) -> None:
    logits = np.eye(5, dtype=np.float32)[[4, 4]]  # of 0 0 0, whose answer is 0
    evidence = evidence_of(FEW_FLIPS, rows=np.array([0, 1]), native=logits, there=logits)
    with pytest.raises(BadArtifact, match="basis"):
        check_certificate(certified, written(certified, evidence, "identity"))


ROWS = st.lists(st.lists(st.integers(0, 2**32 - 1), min_size=3, max_size=3), min_size=1, max_size=6)


@settings(max_examples=100, deadline=None)
@given(ROWS, st.data())
def test_same_bits_counts_rows_of_equal_bytes(bits: list[list[int]], data: st.DataObject) -> None:
    one = np.array(bits, np.uint32)
    masks = data.draw(st.lists(st.sampled_from([0, 0, 1, 1 << 31]), min_size=one.size, max_size=one.size))
    other = one ^ np.array(masks, np.uint32).reshape(one.shape)
    equal = sum(left.tobytes() == right.tobytes() for left, right in zip(one, other, strict=True))
    assert same_bits(one.view(np.float32), other.view(np.float32)) == equal
    assert same_bits(one.view(np.float32), one.view(np.float32).copy()) == len(one)


def test_synthesized_photos_give_no_verdict() -> None:
    found = figures(evidence_of([(0, 0, 0)] * 5000, "synthesized"), "whole", 0.01)
    assert (found["verdict"], found["power"], found["agreement"]) == ("INCONCLUSIVE", None, 1.0)
    assert "synthesized" in found["reason"]


def test_a_certificate_under_another_classs_name_is_refused(certified: Artifact, tmp_path: Path) -> None:
    artifact = save(tmp_path / "a", certified.manifest, {"model.bin": b"model"})
    path = evidence_path(artifact, written(artifact, evidence_of(FEW_FLIPS)))
    for ending in (".npz", ".json"):
        path.with_suffix(ending).rename(path.parent / f"certificate-vnni-onnxruntime{ending}")
    for read in (lambda: certificates_for(artifact, "vnni", "onnxruntime"), lambda: read_certificates(artifact)):
        with pytest.raises(BadArtifact, match="vnni-onnxruntime.json: says certificate-avx2-onnxruntime"):
            read()


def test_another_artifacts_certificate_is_refused(certified: Artifact, tmp_path: Path) -> None:
    written(certified, evidence_of(FEW_FLIPS))
    other = save(tmp_path / "a", replace(certified.manifest, temperature=2.0), {"model.bin": b"model"})
    shutil.copytree(certified.folder / "claims", other.folder / "claims")
    with pytest.raises(BadArtifact, match=f"about artifact {certified.digest[:12]}"):
        certificates_for(other, "avx2", "onnxruntime")[0]


def test_a_certificate_that_lacks_a_field_is_refused(certified: Artifact) -> None:
    path = evidence_path(certified, written(certified, evidence_of(FEW_FLIPS))).with_suffix(".json")
    whole = json.loads(path.read_text())
    for name in ("verdict", "flip_rate", "cpu_class", "created"):
        path.write_text(json.dumps({key: value for key, value in whole.items() if key != name}))
        with pytest.raises(BadArtifact, match=f"no certificate.*{name}"):
            certificates_for(certified, "avx2", "onnxruntime")[0]
    for wrong in ({"flip_rate": 0.5}, {"alarm": 3}):
        path.write_text(json.dumps({**whole, **wrong}))
        with pytest.raises(BadArtifact, match="no certificate"):
            certificates_for(certified, "avx2", "onnxruntime")[0]


def test_an_artifact_lists_its_certificates(certified: Artifact, tmp_path: Path) -> None:
    artifact = save(tmp_path / "a", certified.manifest, {"model.bin": b"model"})
    assert read_certificates(artifact) == [] and certificates_for(artifact, "avx2", "onnxruntime") == []
    evidence = evidence_of(FEW_FLIPS)
    made = [
        certificate_of(evidence, cpu_class=cpu, backend=backend)
        for cpu, backend in (("vnni", "openvino"), ("avx2", "openvino"), ("avx2", "onnxruntime"))
    ]
    for each in made:
        write_certificate(artifact, each, evidence)
    assert read_certificates(artifact) == made[::-1]


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "words", "foreign", "changed"])
def test_missing_or_garbled_predictions_are_refused(certified: Artifact, damage: str) -> None:
    found = written(certified, evidence_of(FEW_FLIPS))
    path = evidence_path(certified, found)
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "foreign":
        np.savez(path, array=np.zeros(3))
    else:
        changed = whole[:45] + bytes(byte ^ 0x55 for byte in whole[45:300]) + whole[300:]
        path.write_bytes({"empty": b"", "cut": whole[:-9], "words": b"words", "changed": changed}[damage])
    with pytest.raises(BadArtifact, match=r"avx2-onnxruntime\.npz.*cannot be read") as caught:
        check_certificate(certified, found)
    assert "tiffin certify" in caught.value.fix


@pytest.mark.parametrize(
    "wrong",
    [
        {"photos": np.zeros((99, 32), np.uint8)},
        {"native": np.zeros((2, 5), np.float32)},
        pytest.param({"truth": np.zeros(99, np.int32)}),
        pytest.param({"answers": np.zeros(101, np.int32)}),
        pytest.param({"photos": np.zeros(100, np.uint8)}),
        pytest.param({"alarm_there": np.zeros(3, np.int32)}),
        pytest.param(
            {
                "photos": np.zeros((0, 32), np.uint8),
                "answers": np.zeros(0),
                "truth": np.zeros(0),
                "reference": np.zeros(0),
            }
        ),
        pytest.param({"rows": np.array([100], np.int32)}),
    ],
)
def test_predictions_that_do_not_fit_together_are_refused(certified: Artifact, wrong: dict[str, np.ndarray]) -> None:
    logits = np.eye(5, dtype=np.float32)[[0]]
    found = written(
        certified, evidence_of(FEW_FLIPS, rows=np.array([0]), native=logits, there=logits, **ALARM), "identity"
    )
    edit_npz(certified, found, **wrong)
    with pytest.raises(BadArtifact):
        check_certificate(certified, found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n", "100"),
        ("agreement", None),
        ("agreement", float("nan")),
        ("flip_rate", [0.06]),
        *(case for case in (("margin", "0.01"), ("margin", None), ("basis", "guess"))),
    ],
)
def test_a_field_of_another_type_or_word_is_refused(certified: Artifact, name: str, value: object) -> None:
    written(certified, evidence_of(FEW_FLIPS))
    with pytest.raises(BadArtifact, match=name):
        check_certificate(certified, edit_json(certified, **{name: value}))


@pytest.mark.parametrize("margin", [0.05, 0.5])
def test_another_margin_does_not_fit_the_figures(certified: Artifact, margin: float) -> None:
    written(certified, evidence_of(FEW_FLIPS))
    with pytest.raises(BadArtifact, match="power"):
        check_certificate(certified, edit_json(certified, margin=margin))


def test_a_certificate_is_not_written_where_nothing_can_be(certified: Artifact, tmp_path: Path) -> None:
    artifact = save(tmp_path / "a", certified.manifest, {"model.bin": b"model"})
    (artifact.folder / "claims").write_text("words")
    evidence = evidence_of(FEW_FLIPS)
    with pytest.raises(BadInput, match="cannot write"):
        write_certificate(artifact, certificate_of(evidence), evidence)
    assert (artifact.folder / "claims").read_text() == "words"


def test_the_power_of_many_photos_is_at_most_1() -> None:
    for n in (20_000, 50_000):
        assert power_of_margin(0.01, n, 0.05) <= 1


@pytest.mark.parametrize("kind", ["explain", "robustness", "side-by-side"])
def test_answers_to_something_else_are_not_compared(kind: str) -> None:
    with pytest.raises(BadInput, match=f"a record of kind {kind}"):
        compare_records(record(), replace(record(), kind=kind))


def test_an_npz_that_is_no_zip_is_one_clear_error(tmp_path: Path) -> None:
    path = record().save(tmp_path / "r.json")
    path.with_suffix(".npz").write_bytes(b"PK" + bytes(100))
    head = json.loads(path.read_text())
    head["arrays_sha256"] = hashlib.sha256(path.with_suffix(".npz").read_bytes()).hexdigest()
    path.write_text(json.dumps(head))
    with pytest.raises(BadInput, match="record cannot be read"):
        load_record(path)


def test_memory_of_a_gpu_has_a_column_where_a_row_has_it() -> None:
    rounds = {name: Rounds((np.full(700, 1000),), (0,), (0,)) for name in ("on a GPU", "on a CPU")}
    rows = (Subject("on a GPU", device_bytes=12_000_000), Subject("on a CPU"))
    for subjects, last in ((rows, ["GPU MB", "12", ""]), (rows[1:], ["start s", ""])):
        record = Record("bench", {}, subjects, rounds={row.name: rounds[row.name] for row in subjects})
        table = detail_table(record, subjects[0].name)
        assert [row[-1] for row in (table.header, *table.rows)] == last
