"""`tiffin explain`: budgets add up, each way to break an artifact is named, an innocent one is not accused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper
from PIL import Image

from tiffin import machine
from tiffin.artifact import Artifact, Preprocess, RunConfig
from tiffin.artifact.cpu_class import class_named
from tiffin.artifact.manifest import ROUNDINGS
from tiffin.artifact.store import save
from tiffin.benchmarks.candidate import Candidate
from tiffin.benchmarks.certify import Context, Target, certificate_of
from tiffin.benchmarks.explain import activations, feeds, graph_resize, labels, normalization, ranges
from tiffin.benchmarks.explain.measure import Asked, explain
from tiffin.benchmarks.workers.place import Place
from tiffin.cli.explain import explain_text
from tiffin.data import Dataset, open_dataset
from tiffin.errors import BadInput
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_int8
from tiffin.records import Predictions, Record, Subject, load_record
from tiffin.records.causes import causes
from tiffin.records.certification import Evidence, write_certificate
from tiffin.records.loss_budget import adds_up, loss_budget, on_photos, worst_stage
from tiffin.runtime.preprocess import prepare
from tiffin.tests.command import Run
from tiffin.train import DEFAULT_CHECKPOINT

from .conftest import LABELS, draw, draw_many

NONE = np.zeros(3, int)
ORT, OPENVINO = RunConfig("onnxruntime"), RunConfig("openvino")


def predictions(top: np.ndarray, truth: np.ndarray, rows: np.ndarray | None = None) -> Predictions:
    """Answers to all photos, or to some."""
    rows = np.arange(len(truth)) if rows is None else rows
    photos = tuple(f"{row:064x}" for row in rows)
    return Predictions(photos, truth[rows], top[rows, None].astype(np.int32), np.zeros((len(rows), 1), np.float32))


def record_of(answers: dict[str, Predictions], **options: object) -> Record:
    """An explain record; a subject is a hypothesis if the options say so."""
    told = options.get("hypotheses", {})
    subjects = tuple(
        Subject(name, artifact=name, place=f"hypothesis: {name}" if name in told else "native") for name in answers
    )
    return Record("explain", {}, subjects, options, predictions=answers)


# The budget.


@given(st.data(), st.integers(1, 60), st.integers(2, 6), st.integers(2, 5))
@settings(max_examples=150, deadline=None)
def test_any_stages_add_up(data: st.DataObject, n: int, stages: int, classes: int) -> None:
    chance = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    truth = chance.integers(0, classes, n)
    answers = {f"stage {k}": predictions(chance.integers(0, classes, n), truth) for k in range(stages)}
    last = f"stage {stages - 1}"
    sampled = np.sort(chance.permutation(n)[: data.draw(st.integers(1, n))])
    answers["whole class"] = predictions(chance.integers(0, classes, n), truth)
    answers["sampled class"] = predictions(chance.integers(0, classes, n), truth, sampled)
    found = loss_budget(record_of(answers, after={"whole class": last, "sampled class": last}))
    assert adds_up(found)
    by_name = {stage.name: stage for stage in found}
    chain = found[:stages]
    assert chain[-1].right == chain[0].right + sum(one.healed - one.harmed for one in chain)
    assert chain[-1].flipped == sum(one.newly - one.recovered for one in chain)
    assert chain[-1].flipped == int((answers[last].top[:, 0] != answers["stage 0"].top[:, 0]).sum())
    whole, part = by_name["whole class"], by_name["sampled class"]
    assert whole.right_before == by_name[last].right and whole.after == part.after == last
    assert part.n == len(sampled) and part.right == part.right_before + part.healed - part.harmed


@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("name", ["right", "harmed", "healed", "flipped", "newly", "recovered", "rows"])
def test_a_wrong_figure_does_not_add_up(name: str, at: int) -> None:
    """Of a stage in the middle, and of one that answered a sample."""
    chance, truth = np.random.default_rng(0), np.arange(40) % 3
    answers = {f"{k}": predictions(chance.integers(0, 3, 40), truth) for k in range(3)}
    answers["sampled"] = predictions(chance.integers(0, 3, 40), truth, np.arange(15))
    found = loss_budget(record_of(answers))
    value = getattr(found[at], name)
    wrong = dataclasses.replace(found[at], **{name: value[1:] if name == "rows" else value + 1})
    assert adds_up(found) and not adds_up((*found[:at], wrong, *found[at + 1 :]))


def test_the_worst_stage_is_the_one_that_lost_most() -> None:
    truth = np.zeros(10, int)
    steps = {"first": np.zeros(10, int), "few": np.eye(10, dtype=int)[0], "many": np.ones(10, int)}
    found = loss_budget(record_of({name: predictions(top, truth) for name, top in steps.items()}))
    assert [stage.harmed for stage in found] == [0, 1, 9] and worst_stage(found) is found[2]
    assert worst_stage(loss_budget(record_of({k: predictions(truth, truth) for k in "ab"}))) is None


@pytest.mark.parametrize(
    "answers, options",
    [
        ({"alone": predictions(np.zeros(3), np.zeros(3, int))}, {}),
        ({"a": predictions(NONE, NONE, np.array([0, 1])), "b": predictions(NONE, NONE)}, {}),
        ({k: predictions(np.zeros(3), np.zeros(3, int)) for k in "ab"}, {"after": {"b": "nobody"}}),
    ],
)  # fmt: skip
def test_a_budget_of_nothing_or_of_other_photos_is_refused(
    answers: dict[str, Predictions], options: dict[str, object]
) -> None:
    with pytest.raises(BadInput):
        loss_budget(record_of(answers, **options))


# Causes, from answers alone.


def tried(kinds: dict[str, str]) -> dict[str, dict[str, str]]:
    return {name: {"kind": kind, "against": "artifact", "words": name} for name, kind in kinds.items()}


def test_the_hypothesis_under_which_answers_return_is_named_and_no_other() -> None:
    chance, truth = np.random.default_rng(1), np.arange(100) % 5
    good = np.where(np.arange(100) < 90, truth, (truth + 1) % 5)
    broken = np.where(chance.random(100) < 0.4, chance.integers(0, 5, 100), good)
    half = np.where(np.arange(100) % 2, good, broken)
    answers = {"checkpoint": good, "artifact": broken, "all": good, "half": half, "nothing": chance.integers(0, 5, 100)}
    told = tried({"all": "channel order", "half": "resize", "nothing": "labels"})
    found = causes(record_of({name: predictions(top, truth) for name, top in answers.items()}, hypotheses=told))
    assert [(cause.name, cause.named) for cause in found][0] == ("all", True)
    assert [cause.named for cause in found[1:]] == [False, False]
    assert found[0].explains == 1.0 and found[0].undoes == 1.0 and found[0].reference == "checkpoint"
    assert found[0].p_value < 0.001 and found[0].gain.low > 0


def test_flips_tell_a_cause_where_top_1_does_not() -> None:
    truth = np.zeros(200, int)
    good = np.where(np.arange(200) < 150, 0, 1)
    broken = good.copy()
    broken[150:180] = 2  # from one wrong answer to another
    answers = {"checkpoint": good, "artifact": broken, "repaired": good}
    found = causes(
        record_of({k: predictions(v, truth) for k, v in answers.items()}, hypotheses=tried({"repaired": "resize"}))
    )
    assert found[0].named and found[0].explains is None and found[0].undoes == 1.0


def test_without_a_reference_the_truth_tells() -> None:
    truth = np.arange(60) % 3
    answers = {"artifact": (truth + 1) % 3, "repaired": truth}
    found = causes(
        record_of({k: predictions(v, truth) for k, v in answers.items()}, hypotheses=tried({"repaired": "labels"}))
    )
    assert found[0].named and found[0].reference == "" and found[0].explains is None


def test_what_makes_it_worse_is_no_cause() -> None:
    truth = np.arange(60) % 3
    answers = {"checkpoint": truth, "artifact": truth, "worse": (truth + 1) % 3}
    told = tried({"worse": "labels"})
    (found,) = causes(record_of({k: predictions(v, truth) for k, v in answers.items()}, hypotheses=told))
    assert not found.named and found.p_value == 1 and found.undoes is None


def test_chance_names_nothing() -> None:
    """Forty hypotheses that move answers at random, twenty times: Holm keeps the chance of any name under 5 %."""
    named = 0
    for seed in range(20):
        chance, truth = np.random.default_rng(seed), np.arange(200) % 4
        good = np.where(chance.random(200) < 0.9, truth, chance.integers(0, 4, 200))

        def moved(share: float, good: np.ndarray = good, chance: np.random.Generator = chance) -> np.ndarray:
            return np.where(chance.random(200) < share, chance.integers(0, 4, 200), good)

        answers = {"checkpoint": good, "artifact": moved(0.05)} | {f"h{k}": moved(0.05) for k in range(40)}
        told = tried({f"h{k}": "any" for k in range(40)})
        found = causes(record_of({k: predictions(v, truth) for k, v in answers.items()}, hypotheses=told))
        named += any(cause.named for cause in found)
    assert named <= 2


def test_a_hypothesis_about_a_stage_that_is_not_there_is_refused() -> None:
    truth = np.zeros(5, int)
    with pytest.raises(BadInput, match="about 'gone'"):
        told = {"b": {"kind": "labels", "against": "gone", "words": "b"}}
        causes(record_of({k: predictions(truth, truth) for k in "ab"}, hypotheses=told))


# The repairs, each alone.


def test_normalization_is_read_and_exchanged(onnx_artifact: Artifact) -> None:
    model = onnx.load(onnx_artifact.model_path)
    mean, std = normalization.normalization_of(model)  # type: ignore[misc]
    assert np.allclose(mean, 127, atol=1e-3) and np.allclose(std, 128, atol=1e-3)
    other = normalization.with_normalization(model, *normalization.KNOWN["ImageNet's mean and std"])
    onnx.checker.check_model(other)
    assert np.allclose(normalization.normalization_of(other)[0], (123.675, 116.28, 103.53))  # type: ignore[index]
    assert normalization.normalization_of(model) == (mean, std)


def test_without_antialias_is_the_host_part_where_nothing_is_resized_and_not_where_it_is() -> None:
    host = Preprocess(32, 32, crop_fraction=0.8)
    same = Image.fromarray(draw(0, np.random.default_rng(0), 40, 40))
    assert np.array_equal(feeds.without_antialias(same, host), prepare(same, host))
    large = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 240, 3), np.uint8))
    plain, smooth = feeds.without_antialias(large, host), prepare(large, host)
    assert plain.shape == smooth.shape and plain.std() > 2 * smooth.std()
    assert feeds.squeezed(large, host).shape == (32, 32, 3)


def test_without_antialias_cuts_the_corner_of_the_host_part() -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (73, 75, 3), dtype=np.uint8))
    for rounding in ROUNDINGS:
        host = Preprocess(64, 64, 64 / 73, rounding=rounding)
        assert np.array_equal(feeds.without_antialias(photo, host), prepare(photo, host))


def test_without_antialias_is_not_moved() -> None:
    """A ramp stays the ramp that the host part gives, to a level: pixel centres fall together."""
    ramp = np.broadcast_to(np.linspace(0, 255, 120).round().astype(np.uint8)[None, :, None], (90, 120, 3))
    host = Preprocess(30, 30, crop_fraction=0.75)
    photo = Image.fromarray(np.ascontiguousarray(ramp))
    difference = feeds.without_antialias(photo, host).astype(int) - prepare(photo, host).astype(int)
    assert abs(difference).max() <= 2


def test_a_lost_activation_is_found_and_put_back(onnx_artifact: Artifact, photos: np.ndarray) -> None:
    parent = onnx.load(onnx_artifact.model_path)
    broken = without_clip(parent, 1)
    lost = activations.lost_activations(broken, parent)
    assert [str(each) for each in lost] == [f"Clip(0, 6) behind {activations.layers_of(parent)[1].name}"]
    restored = activations.with_activations(broken, parent, lost)
    onnx.checker.check_model(restored)
    assert activations.lost_activations(restored, parent) == []
    assert np.array_equal(run(restored, photos), run(parent, photos))
    assert not np.array_equal(run(broken, photos), run(parent, photos))


def test_an_activation_that_its_quantizer_holds_is_not_lost(onnx_artifact: Artifact, calibrated: Artifact) -> None:
    model = onnx.load(calibrated.model_path)
    assert len([node for node in model.graph.node if node.op_type == "Clip"]) < 3
    assert activations.lost_activations(model, onnx.load(onnx_artifact.model_path)) == []


def test_ranges_of_noise_are_told_and_exchanged(onnx_artifact: Artifact, noisy: Artifact, photos: np.ndarray) -> None:
    parent, model = onnx.load(onnx_artifact.model_path), onnx.load(noisy.model_path)
    found = ranges.observed(model, parent, photos)
    assert len(found) == len(ranges.activations_of(model)) and max(each.clipped for each in found) > 0.05
    repaired = ranges.with_ranges(model, found)
    onnx.checker.check_model(repaired)
    assert max(each.clipped for each in ranges.observed(repaired, parent, photos)) < 0.001
    wanted = run(parent, photos)
    assert abs(run(repaired, photos) - wanted).mean() < 0.5 * abs(run(model, photos) - wanted).mean()


def test_a_resize_in_the_graph_is_found_and_antialiased(onnx_artifact: Artifact) -> None:
    model = resized(onnx.load(onnx_artifact.model_path), 96)
    assert graph_resize.resizes_of(onnx.load(onnx_artifact.model_path)) == []
    assert graph_resize.resizes_of(model) == ["resized"]
    smooth = graph_resize.antialiased(model)
    noise = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), np.uint8)
    assert not np.allclose(run(smooth, noise), run(model, noise))


def test_labels_mixed_up_are_read_right_and_chance_is_not_taken_for_it() -> None:
    chance = np.random.default_rng(0)
    truth = np.arange(160) % 8
    order = chance.permutation(8)
    mixed = predictions(order[truth], truth)
    assert (labels.cross_matched(mixed, 8).top[:, 0] == truth).mean() == 1
    gains = []
    for seed in range(20):
        guessed = predictions(np.random.default_rng(seed).integers(0, 8, 160), truth)
        gains.append((labels.cross_matched(guessed, 8).top[:, 0] == truth).mean() - 1 / 8)
    assert abs(np.mean(gains)) < 0.02


# Real artifacts, broken and whole.


def run(model: onnx.ModelProto, photos: np.ndarray) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, {model.graph.input[0].name: photos})[0]


def without_clip(model: onnx.ModelProto, which: int) -> onnx.ModelProto:
    broken = onnx.ModelProto()
    broken.CopyFrom(model)
    lost = [node for node in broken.graph.node if node.op_type == "Clip"][which]
    for other in broken.graph.node:
        other.input[:] = [lost.input[0] if name == lost.output[0] else name for name in other.input]
    broken.graph.node.remove(lost)
    return broken


def resized(model: onnx.ModelProto, side: int) -> onnx.ModelProto:
    """It takes photos of `side` and resizes them in the graph without antialias."""
    for place in (1, 2):
        model.graph.input[0].type.tensor_type.shape.dim[place].dim_value = side
    layout = next(node for node in model.graph.node if node.name == "preprocess/layout")
    model.graph.initializer.append(numpy_helper.from_array(np.array([32, 32], np.int64), "sizes"))
    node = onnx.helper.make_node("Resize", [layout.output[0], "", "", "sizes"], ["resized"], axes=[2, 3], mode="linear")
    for other in model.graph.node:
        other.input[:] = ["resized" if name == layout.output[0] else name for name in other.input]
    model.graph.node.insert(list(model.graph.node).index(layout) + 1, node)
    return model


def bgr(model: onnx.ModelProto) -> onnx.ModelProto:
    first = next(node for node in model.graph.node if node.op_type == "Conv").input[1]
    return exchanged(model, {first: lambda weights: weights[:, ::-1]})


def shifted(model: onnx.ModelProto) -> onnx.ModelProto:
    head = next(node for node in model.graph.node if node.op_type == "Gemm")
    axis = 0 if any(each.name == "transB" and each.i for each in head.attribute) else 1
    rolls = {head.input[1]: lambda weights: np.roll(weights, 1, axis), head.input[2]: lambda bias: np.roll(bias, 1)}
    return exchanged(model, rolls)


def raw_pixels(model: onnx.ModelProto) -> onnx.ModelProto:
    return normalization.with_normalization(model, *normalization.KNOWN["ImageNet's mean alone"])


def exchanged(model: onnx.ModelProto, changes: dict[str, Callable[[np.ndarray], np.ndarray]]) -> onnx.ModelProto:
    for tensor in model.graph.initializer:
        if tensor.name in changes:
            value = np.ascontiguousarray(changes[tensor.name](numpy_helper.to_array(tensor)))
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return model


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """100 test photos, each the size of the model's resize, so that only what is broken makes a difference."""
    root, rng = tmp_path_factory.mktemp("many"), np.random.default_rng(7)
    for split, count in (("train", 6), ("val", 2), ("test", 25)):
        for label, name in enumerate(LABELS):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                Image.fromarray(draw(label, rng, 37, 37)).save(folder / f"{index:02}.png")
    return open_dataset(root)


@pytest.fixture(scope="module")
def shelf(onnx_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which artifacts lie beside the fp32 one."""
    folder = tmp_path_factory.mktemp("shelf")
    copied(onnx_artifact, folder / "fp32")
    return folder


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the checkpoint is exported once for all."""
    return tmp_path_factory.mktemp("work")


def copied(artifact: Artifact, out: Path, **fields: object) -> Artifact:
    manifest = dataclasses.replace(artifact.manifest, **fields)  # type: ignore[arg-type]
    return save(out, manifest, {"model.onnx": artifact.model_path})


@pytest.fixture(scope="module")
def calibrated(shelf: Path) -> Artifact:
    """int8 as it should be."""
    source = CalibrationSet(draw_many(64, seed=5)[0], "drawn")
    return quantize_int8(Artifact.load(shelf / "fp32"), PtqOptions("cpu"), source, shelf / "int8")


@pytest.fixture(scope="module")
def noisy(shelf: Path) -> Artifact:
    """int8 calibrated on faint noise."""
    pixels = np.random.default_rng(0).integers(96, 160, (32, 32, 32, 3), np.uint8)
    options = PtqOptions("cpu", compensate=False)
    return quantize_int8(Artifact.load(shelf / "fp32"), options, CalibrationSet(pixels, "noise"), shelf / "noisy")


def asked(artifact: Artifact, dataset: Dataset, work: Path, run: RunConfig = ORT, **more: object) -> Asked:
    photos = dataset.role("confirm")
    given = {"tries": len(photos), "classes": (), **more}
    return Asked(Candidate("it", artifact, run), dataset, "confirm", photos, work, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "kind, words, change",
    [
        ("channel order", "BGR", bgr),
        ("normalization", "the checkpoint's mean and std", raw_pixels),
        ("labels", "labels shifted by -1", shifted),
        ("activation", "with Clip(0, 6) behind", lambda model: without_clip(without_clip(model, 2), 0)),
    ],
)
def test_what_was_broken_is_named(
    kind: str, words: str, change: Callable[[onnx.ModelProto], onnx.ModelProto],
    onnx_artifact: Artifact, checkpoint_file: Path, dataset: Dataset, work: Path, tmp_path: Path,
) -> None:  # fmt: skip
    """Alone in a folder, its manifest as if nothing had happened: only the checkpoint is known."""
    model = change(onnx.load(onnx_artifact.model_path))
    made = save(tmp_path / "alone" / "broken", onnx_artifact.manifest, {"model.onnx": model.SerializeToString()})
    record = explain(asked(made, dataset, work, checkpoint=str(checkpoint_file)))
    stages, found = loss_budget(record), causes(record)
    assert adds_up(stages) and worst_stage(stages).name == "ONNX, unoptimized"  # type: ignore[union-attr]
    assert found[0].named and found[0].kind == kind and words in found[0].words
    assert found[0].explains is not None and found[0].explains > 0.8
    assert {cause.kind for cause in found if cause.named} == {kind}
    lost = record.options["lost"]
    assert all(each["low"] < 0 or each["high"] > 6 for each in lost) and bool(lost) == (kind == "activation")


def test_ranges_from_noise_are_named(noisy: Artifact, dataset: Dataset, tmp_path: Path) -> None:
    record = explain(asked(noisy, dataset, tmp_path, OPENVINO))
    stages, found = loss_budget(record), causes(record)
    assert adds_up(stages) and worst_stage(stages).name == "int8, in float"  # type: ignore[union-attr]
    assert found[0].named and found[0].kind == "ranges"
    worst = record.options["ranges"][0]
    assert worst["clipped"] > 0.05 and worst["seen_high"] > worst["high"]
    assert "cause of int8, in float: ranges: " in " ".join(explain_text(record).split())


def test_an_innocent_artifact_is_not_accused(calibrated: Artifact, dataset: Dataset, tmp_path: Path) -> None:
    record = explain(asked(calibrated, dataset, tmp_path / "work", OPENVINO))
    stages, found = loss_budget(record), causes(record)
    names = ["ONNX, unoptimized", "fp32 on openvino", "int8, in float", "int8 on openvino"]
    assert [stage.name for stage in stages] == names and adds_up(stages)
    assert len(found) > 10 and not any(cause.named for cause in found)
    absent = {subject.name: subject.reason for subject in record.subjects if subject.reason}
    assert list(absent) == ["checkpoint in torch"] and "--checkpoint" in absent["checkpoint in torch"]
    text = explain_text(record)
    assert max(map(len, text.splitlines())) <= 80 and "cause of" not in text
    assert any(words in " ".join(text.split()) for words in ("no hypothesis explains", "nothing to explain"))
    again = load_record(record.save(tmp_path / "explain.json"))
    assert loss_budget(again) == stages and [each.name for each in causes(again)] == [each.name for each in found]


def test_an_artifact_without_its_parent_says_what_is_absent(
    calibrated: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    alone = copied(calibrated, tmp_path / "alone" / "int8")
    record = explain(asked(alone, dataset, tmp_path / "work", OPENVINO))
    reasons = {subject.name: subject.reason for subject in record.subjects if subject.reason}
    assert "fp32 ONNX ancestor" in reasons["ONNX, unoptimized"] and "fp32 ONNX ancestor" in reasons["fp32 on openvino"]
    assert "no fp32 ONNX graph" in reasons["activation ranges from photos, in float"]
    assert [stage.name for stage in loss_budget(record)] == ["int8, in float", "int8 on openvino"]


def test_a_sampled_certificate_keeps_the_sums_honest(calibrated: Artifact, dataset: Dataset, tmp_path: Path) -> None:
    made = copied(calibrated, tmp_path / "shelf" / "int8")
    copied(Artifact.load(calibrated.folder.parent / "fp32"), tmp_path / "shelf" / "fp32")
    first = explain(asked(made, dataset, tmp_path / "work", tries=0))
    native = first.predictions["int8 on onnxruntime"]
    some = on_photos(native, native.photos[10:40])
    other = dataclasses.replace(some, top=np.roll(some.top, 1, axis=0))
    evidence = Evidence.of(other, some, alarm_photos=native.photos[:2], alarm_native=np.zeros(2, np.int64),
                           alarm_there=np.zeros(2, np.int64))  # fmt: skip
    target = Target("neon", class_named("neon"), Place("emulated cortex-a72"), "QEMU 7.2")
    applied = {"backend": "onnxruntime", "version": "1", "execution_precision": "fp32"}
    context = Context({"name": "many", "role": "confirm", "kind": "photos", "count": len(native)}, made.digest)
    write_certificate(made, certificate_of(target, "sample", evidence, applied, context), evidence)
    record = explain(asked(made, dataset, tmp_path / "work", tries=0, classes=None))
    stages = loss_budget(record)
    assert stages[-1].name == "on neon" and stages[-1].n == 30 and stages[-1].after == "int8 on onnxruntime"
    assert stages[-1].rows == tuple(np.flatnonzero(other.top[:, 0] != some.top[:, 0])) and adds_up(stages)
    assert record.subject("on neon").place == "certificate: emulated cortex-a72, sample"


@pytest.mark.skipif(not machine.has_vnni(), reason="this CPU is the lesser class itself")
def test_a_class_of_cpu_is_limited_here_or_absent_with_its_reason(
    calibrated: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    record = explain(asked(calibrated, dataset, tmp_path, OPENVINO, tries=0, classes=("avx2", "neon", "sse41")))
    found = {stage.name: stage.after for stage in loss_budget(record)}
    assert found["on avx2"] == found["on sse41"] == "int8 on openvino" and "on neon" not in found
    assert "needs a CPU of class neon" in record.subject("on neon").reason
    assert record.subject("on avx2").place == "limited to avx2"


def test_what_cannot_be_explained_is_refused(
    onnx_artifact: Artifact, pt2_artifact: Artifact, dataset: Dataset, tmp_path: Path
) -> None:
    turned = copied(onnx_artifact, tmp_path / "turned", labels=("apple", "leek", "milk", "plum"))
    drawn = dataclasses.replace(dataset, kind="synthesized")
    nowhere, other = str(tmp_path / "none.safetensors"), str(DEFAULT_CHECKPOINT)
    refused = {
        "no such checkpoint": lambda: explain(asked(onnx_artifact, dataset, tmp_path, checkpoint=nowhere)),
        "not what": lambda: explain(asked(onnx_artifact, dataset, tmp_path, checkpoint=other)),
        "other labels": lambda: asked(turned, dataset, tmp_path),
        "no photos": lambda: asked(onnx_artifact, drawn, tmp_path),
        "no stages": lambda: explain(asked(pt2_artifact, dataset, tmp_path, RunConfig("torch"))),
        "unknown class": lambda: explain(asked(onnx_artifact, dataset, tmp_path, classes=("z80",))),
        "photos to try": lambda: asked(onnx_artifact, dataset, tmp_path, tries=-1),
    }  # fmt: skip
    for words, call in refused.items():
        with pytest.raises(BadInput, match=words):
            call()


# The command.


def test_the_command_prints_what_it_wrote(
    run_tiffin: Run, calibrated: Artifact, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ("--data", dataset.root, "--tries", 0, "--cpu-classes", "none")
    code, out, err = run_tiffin("explain", f"{calibrated.folder}@openvino", *given)
    assert code == 0, err
    assert max(map(len, out.splitlines())) <= 80
    assert "the stages add up: " in out and "int8 on openvino" in out
    assert "absent: checkpoint in torch" in out and "options: " in err
    assert "no hypothesis about a cause was tried" in out
    assert run_tiffin("show", "out/explain.json")[1] == out
    told = json.loads(run_tiffin("show", "out/explain.json", "--json")[1])
    assert told["adds_up"] is True and [stage["name"] for stage in told["stages"]][-1] == "int8 on openvino"
    assert run_tiffin("show", "out/explain.json", "--markdown")[1].startswith("| stage | top-1 % |")


@pytest.mark.parametrize(
    "words, said",
    [
        (("--role", "train"), "photos that training has not seen"),
        (("--cpu-classes", "z80"), "unknown class of CPU 'z80'"),
        (("--checkpoint", "nowhere.safetensors"), "no such checkpoint"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_the_command_refuses_bad_input(
    words: tuple[str, ...], said: str, run_tiffin: Run, onnx_artifact: Artifact, dataset: Dataset, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    given = () if "--data" in words else ("--data", dataset.root)
    code, _, err = run_tiffin("explain", onnx_artifact.folder, *given, *words)
    assert code == 2 and said in err and "Traceback" not in err
