"""Confidence: its error, the temperature that lessens it, and where artifacts get it from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from tiffin.artifact import Artifact, RunConfig
from tiffin.cli import answers as told_of
from tiffin.cli.app import app
from tiffin.data import open_dataset
from tiffin.data.prepared import PreparedPhotos, digest_of
from tiffin.errors import BadInput
from tiffin.export.confidence import HeldOut, held_out, save_fitted, told
from tiffin.export.logits import engine_logits
from tiffin.export.to_onnx import to_onnx
from tiffin.export.to_openvino import to_openvino
from tiffin.export.to_pt2 import to_pt2
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_half, quantize_int8
from tiffin.records import Predictions, Record
from tiffin.records.calibration import (
    BOUNDS,
    calibration_error,
    confidences,
    coverage,
    error_estimate,
    fit_temperature,
    likelihood_gain,
    negative_log_likelihood,
)

from .conftest import LABELS, draw_many


def answered(logits: np.ndarray, truth: np.ndarray) -> Predictions:
    return Predictions.from_logits(tuple(f"{i:064x}" for i in range(len(truth))), truth, logits, "photos")


def sampled(temperature: float, n: int = 4000, classes: int = 6, seed: int = 0) -> Predictions:
    """Labels drawn from softmax(logits / temperature): at that temperature, perfectly calibrated."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2 * temperature, (n, classes)).astype(np.float32)
    truth = (logits / temperature + rng.gumbel(size=logits.shape)).argmax(1)
    return answered(logits, truth)


@given(st.integers(0, 2**32 - 1), st.floats(0.06, 15), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_an_error_is_a_share_and_answers_stay(seed: int, temperature: float, bins: int) -> None:
    rng = np.random.default_rng(seed)
    found = answered(rng.normal(0, 3, (40, 4)), rng.integers(0, 4, 40))
    assert 0 <= calibration_error(found, bins, temperature) <= 1
    sure = confidences(found, temperature)
    assert ((sure > 1 / 4 - 1e-9) & (sure <= 1 + 1e-12)).all()
    scaled = answered(found.logits / np.float32(temperature), found.truth)
    assert (scaled.logits.argmax(1) == found.top[:, 0]).all()


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_a_fit_finds_the_temperature_that_labels_were_drawn_at(temperature: float) -> None:
    found = sampled(temperature)
    fit = fit_temperature(found)
    assert fit.temperature == pytest.approx(temperature, rel=0.06) and fit.reason == "" and fit.photos == 4000
    assert fit.nll[1] <= fit.nll[0] == round(negative_log_likelihood(found), 4)


@given(st.floats(0.3, 3))
@settings(max_examples=8, deadline=None)
def test_logits_times_k_have_temperature_times_k(k: float) -> None:
    found = sampled(1.5, 400)
    scaled = answered(found.logits * np.float32(k), found.truth)
    assert fit_temperature(scaled).temperature == pytest.approx(k * fit_temperature(found).temperature, rel=5e-3)


def test_perfect_calibration_has_an_error_of_about_none() -> None:
    bounds = [error_estimate(sampled(1.0, 1500, seed=seed)) for seed in range(12)]
    assert sum(each.low == 0 for each in bounds) >= 10 and all(each.value < 0.05 for each in bounds)
    off = error_estimate(sampled(1.0, 1500), temperature=0.4)
    assert off.low > 0.05 and off.low <= off.value <= off.high


def test_the_gain_has_the_sign_of_the_truth() -> None:
    found = sampled(2.0)
    assert likelihood_gain(found, 2.0).low > 0 > likelihood_gain(found, 0.5).high
    wanted = negative_log_likelihood(found) - negative_log_likelihood(found, 2.0)
    assert likelihood_gain(found, 2.0).value == pytest.approx(wanted)


def test_a_fit_at_a_bound_is_not_kept() -> None:
    truth = np.arange(60) % 4
    sure = fit_temperature(answered(np.eye(4)[truth] * 0.5, truth))
    lost = fit_temperature(answered(np.eye(4)[(truth + 1) % 4], truth))
    assert sure.temperature == lost.temperature == 1.0
    assert f"bound {BOUNDS[0]:g}" in sure.reason and f"bound {BOUNDS[1]:g}" in lost.reason


def test_coverage_by_hand() -> None:
    logits = np.log(np.array([[0.95, 0.05], [0.8, 0.2], [0.8, 0.2], [0.6, 0.4]]))
    none, some, all_of_them = coverage(answered(logits, np.array([0, 0, 1, 1])), (0.99, 0.75, 0.0))
    assert none.right is None and none.answered.value == 0
    assert some.right is not None and (some.answered.value, some.right.value, some.right.n) == (0.75, 2 / 3, 3)
    assert all_of_them.right is not None and (all_of_them.answered.value, all_of_them.right.value) == (1, 0.5)


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda found: fit_temperature(replace(found, logits=None)), "without logits"),
        (lambda found: fit_temperature(answered(found.logits[:20], found.truth[:20])), "20 photos"),
        (lambda found: fit_temperature(answered(found.logits * np.nan, found.truth)), "no numbers"),
        (lambda found: fit_temperature(replace(found, kind="synthesized")), "synthesized"),
        (lambda found: coverage(found, (1.5,)), "confidence 1.5"),
        (lambda found: confidences(found, float("nan")), "temperature nan"),
        (lambda found: negative_log_likelihood(found, -1), "temperature -1"),
        (lambda found: error_estimate(found, bins=0), "0 bins"),
        (lambda found: likelihood_gain(answered(found.logits[:1], found.truth[:1]), 2), "one photo"),
    ],
)
def test_bad_input_is_refused(ask, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        ask(sampled(1.0, 100))


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> HeldOut:
    """200 photos that neither training nor calibration saw."""
    pixels, truth = draw_many(200, seed=9)
    path = tmp_path_factory.mktemp("held") / "photos.npy"
    np.save(path, pixels)
    return HeldOut(PreparedPhotos(path, tuple(f"{i:016x}" + 48 * "0" for i in range(200)), truth.astype(np.int64)))


def own_fit(artifact: Artifact, held: HeldOut, run: RunConfig) -> float:
    assert held.photos is not None
    return fit_temperature(answered(engine_logits(artifact, run, held.photos.array()), held.photos.truth)).temperature


@pytest.fixture(scope="module")
def exported(checkpoint, photos: np.ndarray, held: HeldOut, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return to_onnx(checkpoint, tmp_path_factory.mktemp("fitted") / "fp32", photos, held)[0]


def test_an_export_has_its_own_temperature_and_the_same_bytes(exported, onnx_artifact, held: HeldOut) -> None:
    about = exported.manifest.producer.options["confidence"]
    assert exported.manifest.temperature == own_fit(exported, held, RunConfig("onnxruntime")) != 1.0
    assert about["temperature"] == exported.manifest.temperature and about["photos"] == 200
    assert about["nll"][1] < about["nll"][0] and "fitted on 200 held-out photos" in told(exported.manifest)
    assert max(map(len, told(exported.manifest).splitlines())) <= 80
    assert exported.model_path.read_bytes() == onnx_artifact.model_path.read_bytes()
    assert onnx_artifact.manifest.temperature == 1.0 and "not fitted" in told(onnx_artifact.manifest)


def test_quantization_fits_with_the_quantized_answers(exported, photos, held: HeldOut, tmp_path: Path) -> None:
    calibration = CalibrationSet(photos, "drawn")
    options = PtqOptions("cpu", "ort", compensate=False)
    made = quantize_int8(exported, options, calibration, tmp_path / "int8", held)
    kept = quantize_int8(exported, options, replace(calibration, taken=0), tmp_path / "kept")
    assert made.manifest.temperature == own_fit(made, held, RunConfig("onnxruntime"))
    assert (
        made.manifest.producer.options["confidence"]["nll"] != exported.manifest.producer.options["confidence"]["nll"]
    )
    assert kept.manifest.temperature == exported.manifest.temperature
    assert made.model_path.read_bytes() == kept.model_path.read_bytes()
    assert to_openvino(made, tmp_path / "ir").manifest.temperature == made.manifest.temperature


@pytest.mark.parametrize("word", ["fp16", "bf16"])
def test_half_precision_is_fitted_too(exported, held: HeldOut, tmp_path: Path, word: str) -> None:
    made = quantize_half(exported, word, tmp_path / word, held)
    assert made.manifest.producer.options["confidence"]["photos"] == 200
    assert made.manifest.temperature == pytest.approx(exported.manifest.temperature, rel=0.1)


def test_a_torch_program_is_fitted_too(checkpoint, exported, held: HeldOut, tmp_path: Path) -> None:
    found = to_pt2(checkpoint, tmp_path / "pt2", held).manifest.temperature
    assert found == pytest.approx(exported.manifest.temperature, abs=0.002)


def test_photos_that_calibrated_are_left_out(exported, held: HeldOut, tmp_path: Path) -> None:
    assert held.photos is not None
    manifest = replace(exported.manifest, calibration=tuple(digest[:16] for digest in held.photos.hashes[:30]))
    made = save_fitted(tmp_path / "one", manifest, {"model.onnx": exported.model_path}, held)
    about = made.manifest.producer.options["confidence"]
    assert (about["photos"], about["photos_sha256"]) == (170, digest_of(held.photos.hashes[30:]))


def test_where_nothing_can_be_fitted_the_sources_temperature_stays_and_it_is_said(exported, tmp_path: Path) -> None:
    for reason in ("no labels", "nobody home"):
        made = save_fitted(
            tmp_path / "one", exported.manifest, {"model.onnx": exported.model_path}, HeldOut(None, reason)
        )
        assert made.manifest.temperature == exported.manifest.temperature
        assert f"not fitted: {reason}" in told(made.manifest)


def test_which_photos_are_held_out(checkpoint, photo_folder: Path, tmp_path: Path) -> None:
    dataset = open_dataset(photo_folder)
    found = held_out(dataset, LABELS, checkpoint.preprocess, tmp_path)
    assert found.photos is not None and len(found.photos) == 16  # val
    others = {
        "synthesized": replace(dataset, kind="synthesized"),
        "other labels": replace(dataset, labels=("a", "b", "c", "d")),
        "no photos in the role select": replace(dataset, roles={**dataset.roles, "select": ()}),
    }
    for words, other in others.items():
        none = held_out(other, LABELS, checkpoint.preprocess, tmp_path)
        assert none.photos is None and words in none.reason and none.digest() != found.digest()


def test_the_commands_say_it_and_can_leave_it(checkpoint_file: Path, photo_folder: Path, tmp_path: Path) -> None:
    def export(name: str, *more: str) -> tuple[str, Artifact]:
        words = ["export", str(checkpoint_file), "--out", str(tmp_path / name), "--data", str(photo_folder), *more]
        ran = CliRunner().invoke(app, words)
        assert ran.exit_code == 0, ran.output
        return ran.stdout, Artifact.load(tmp_path / name)

    said, few = export("few")
    assert "not fitted: 16 photos to fit a temperature on" in said and few.manifest.temperature == 1.0
    assert "confidence" in few.manifest.producer.options
    assert "confidence" not in export("left", "--no-fit-temperature")[1].manifest.producer.options


def test_a_record_tells_both_errors_or_that_it_cannot() -> None:
    found = sampled(0.5, 300)
    record = Record("score", {}, (), {"temperatures": {"a": 0.5, "b": 1.0}}, {"labels": list("abcdef")},
                    predictions={"a": found, "b": found, "c": replace(found, logits=None)})  # fmt: skip
    column = [row[1] for row in told_of.answers_table(record, "a").rows]
    after = calibration_error(found, temperature=0.5)
    assert column[0].endswith(f"→ {after * 100:.2f}") and "→" not in column[1] and column[2] == "not known: no logits"
    plain = told_of.confidence_json(record, "a")
    assert plain is not None and plain["after"]["calibration_error"]["value"] == after and json.dumps(plain)
    assert told_of.confidence_json(record, "c") is None
    assert [note.split(":")[0] for note in told_of.confidence_notes(record)] == ["a", "b"]
