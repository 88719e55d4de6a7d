"""records/: the round trip of a record, intervals against published values, paired comparisons, latencies."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiffin.errors import BadInput
from tiffin.records import Predictions, Record, Rounds, Subject
from tiffin.records.classification import proportion, top_k, wilson
from tiffin.records.estimate import Decision
from tiffin.records.latency import clearly_faster, paired_ratio, summarize
from tiffin.records.paired import agreement, difference, flips, newcombe_paired, non_inferior, same_answers
from tiffin.records.record import SCHEMA_VERSION, load_record


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
    )
    one, other = answers([0, 1, 2], [0, 1, 1]), answers([4, 1, 0], [0, 1, 1])
    return Record(
        kind="bench",
        environment={"cpu": "Übermaschine", "cores": 2, "versions": {"numpy": "2.0"}, "memory_bytes": None},
        subjects=(
            Subject("ort fp32 cpu", "ab" * 32, "fp32", None, "onnx", {"verb": "export"}, 123, {"threads": None},
                    {"threads": 2}, "native", (0.25, 0.5), 4096),
            Subject("ov int8 cpu", precision="int8", scheme="cpu"),
            Subject("tensorrt fp16 gpu", reason="no NVIDIA driver"),
        ),
        options={"batch": 4},
        data={"name": "tiny", "count": 3},
        rounds={"ort fp32 cpu": rounds, "ov int8 cpu": Rounds()},
        predictions={"ov int8 cpu": other, "ort fp32 cpu": one},
        complete=False,
        created="2026-01-01T00:00:00Z",
    )  # fmt: skip


def assert_same_rounds(one: Rounds, other: Rounds) -> None:
    assert (one.launches, one.order, one.batch, one.regime) == (other.launches, other.order, other.batch, other.regime)
    assert len(one.blocks) == len(other.blocks)
    for left, right in zip((*one.blocks, one.warmup), (*other.blocks, other.warmup), strict=True):
        assert left.dtype == right.dtype == np.int64
        np.testing.assert_array_equal(left, right)


def assert_same_predictions(one: Predictions, other: Predictions) -> None:
    assert (one.photos, one.kind) == (other.photos, other.kind)
    for name in ("truth", "top", "scores"):
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
    assert sorted(path.name for path in (tmp_path / "deep/down").iterdir()) == ["run.json", "run.npz"]


BLOCKS = st.lists(st.lists(st.integers(0, 2**50), max_size=4), max_size=4)


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


def test_a_record_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no such record"):
        load_record(tmp_path / "run.json")
    with pytest.raises(BadInput):
        load_record(tmp_path)


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


def test_latency_is_of_all_calls_and_spread_of_blocks() -> None:
    rounds = Rounds((np.array([10, 20, 30], np.int64), np.array([40, 50, 60], np.int64)), (0, 1), (0, 1), batch=2)
    found = summarize(rounds)
    assert found is not None
    assert (found.p50_s, found.low_s, found.high_s, found.n) == pytest.approx((35e-9, 20e-9, 50e-9, 6))
    assert found.throughput == pytest.approx(2 * 6 / 210e-9)
    assert summarize(Rounds()) is None


def test_paired_ratio() -> None:
    found = paired_ratio(blocks(50, 60, 90), blocks(100, 100, 100))
    assert found is not None
    assert (found.value, found.low, found.high, found.pairs) == pytest.approx((0.6, 0.5, 0.9, 3))
    assert clearly_faster(blocks(50, 60, 90), blocks(100, 100, 100))
    assert not clearly_faster(blocks(50, 60, 101), blocks(100, 100, 100))


def test_a_drift_that_both_saw_leaves_the_paired_ratio_alone() -> None:
    found = paired_ratio(blocks(50, 500, 5000), blocks(100, 1000, 10000))
    assert found is not None and (found.low, found.high) == pytest.approx((0.5, 0.5))


def test_unpaired_blocks_are_left_out_and_none_gives_none() -> None:
    found = paired_ratio(blocks(50, 60), blocks(100, 100, 1))
    assert found is not None and found.pairs == 2 and found.high == pytest.approx(0.6)
    assert paired_ratio(Rounds(), blocks(1)) is None and not clearly_faster(Rounds(), blocks(1))


MEDIANS = st.lists(st.integers(1, 10**9), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(MEDIANS, MEDIANS)
def test_paired_ratio_laws(one: list[int], other: list[int]) -> None:
    there, back = paired_ratio(blocks(*one), blocks(*other)), paired_ratio(blocks(*other), blocks(*one))
    assert there is not None and back is not None and there.pairs == back.pairs
    assert there.low <= there.value <= there.high
    assert (there.low * back.high, there.high * back.low) == pytest.approx((1, 1))
    assert not (clearly_faster(blocks(*one), blocks(*other)) and clearly_faster(blocks(*other), blocks(*one)))
