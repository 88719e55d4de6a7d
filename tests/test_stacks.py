"""benchmarks/studies/stacks.py: a network answers alike in each stack's form, and the table says what was found."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiffin
from tiffin.artifact import Artifact
from tiffin.records import Record, Subject

if not (Path(tiffin.__file__).parent / "benchmarks" / "studies").is_dir():
    pytest.skip("no checkout", allow_module_level=True)

from tiffin.benchmarks.studies import stack_models, stack_programs, stacks
from tiffin.benchmarks.studies.coldstart import Launch, launch

Answer = Callable[[np.ndarray], np.ndarray]


def _engine(model: Path) -> Answer:
    """Of one file, by the engine that reads it."""
    if model.suffix == ".xml":
        import openvino

        hints = {"INFERENCE_PRECISION_HINT": "f32"}
        compiled = openvino.Core().compile_model(model, "CPU", hints)
        return lambda array: compiled(array)[0]
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    return lambda array: session.run(None, {session.get_inputs()[0].name: array})[0]


@pytest.mark.parametrize(("engine", "file"), [("onnxruntime", "model.onnx"), ("openvino", "openvino_model.xml")])
def test_optimums_folder_answers_like_the_artifact(
    engine: str, file: str, onnx_artifact: Artifact, photos: np.ndarray, tmp_path: Path
) -> None:
    folder = stack_models.optimum_folder(onnx_artifact, tmp_path / "optimum", engine)
    told = json.loads((folder / "preprocessor_config.json").read_text())
    normalized = ((photos[:4] - np.array(told["image_mean"])) / told["image_std"]).astype(np.float32)
    found = _engine(folder / file)(normalized.transpose(0, 3, 1, 2))
    assert np.allclose(found, _engine(onnx_artifact.model_path)(photos[:4]), atol=1e-4)
    assert told["size"] == {"shortest_edge": 37} and told["crop_size"] == {"height": 32, "width": 32}
    labels = json.loads((folder / "config.json").read_text())["id2label"]
    assert list(labels.values()) == list(onnx_artifact.manifest.labels)
    assert {path.name for path in folder.iterdir()} & {"model.onnx", "openvino_model.xml"} == {file}


@pytest.mark.parametrize("temperature", [1.0, 0.4])
def test_ultralytics_file_gives_the_artifacts_probabilities(
    temperature: float, onnx_artifact: Artifact, photos: np.ndarray, tmp_path: Path
) -> None:
    artifact = dataclasses.replace(
        onnx_artifact, manifest=dataclasses.replace(onnx_artifact.manifest, temperature=temperature)
    )
    file = stack_models.ultralytics_file(artifact, tmp_path / "ultralytics")
    found = _engine(file)((photos[:4] / 255).astype(np.float32).transpose(0, 3, 1, 2))
    powers = np.exp(_engine(artifact.model_path)(photos[:4]) / temperature)
    assert np.allclose(found, powers / powers.sum(axis=1, keepdims=True), atol=1e-4)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells a process's peak")
def test_a_program_tells_what_it_used_and_not_what_its_parent_did(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(
        'import json\nprint(json.dumps(["leek", 0.5]), flush=True)' + stack_programs.TELL
    )
    ballast = np.ones(40_000_000)  # 320 MB here, and none there
    found = launch([sys.executable, str(tmp_path / "program.py")], dict(os.environ))
    assert found.answer == ("leek", 0.5) and found.seconds > 0 and found.cpu_s is not None
    assert found.peak_bytes is not None and 1e6 < found.peak_bytes < ballast.nbytes


def test_a_program_that_ends_with_an_error_is_told(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("raise ValueError('no such engine')")
    with pytest.raises(SystemExit, match="no such engine"):
        launch([sys.executable, str(tmp_path / "program.py")], dict(os.environ))


def _found(**answers: tuple[str, float]) -> dict[stacks.Installed, list[Launch]]:
    made = {stack.full_name.replace(" ", "_"): stacks.Installed(stack, Path("python")) for stack in stacks.STACKS}
    return {made[name]: [Launch(1.0, answer)] for name, answer in answers.items()}


def test_scores_must_agree_where_the_preparation_does() -> None:
    stacks.require_same_answers(
        _found(
            onnxruntime_tiffin=("leek", 0.9),
            onnxruntime_optimum=("leek", 0.90005),
            onnxruntime_ultralytics=("leek", 0.7),
            openvino_tiffin=("leek", 0.8),
        )  # fmt: skip
    )


@pytest.mark.parametrize("other", [("leek", 0.95), ("kiwi", 0.9)])
def test_another_answer_is_no_record(other: tuple[str, float]) -> None:
    with pytest.raises(SystemExit, match="answer differently"):
        stacks.require_same_answers(_found(onnxruntime_tiffin=("leek", 0.9), onnxruntime_optimum=other))


def test_another_label_is_no_record_whoever_prepared_the_photo() -> None:
    with pytest.raises(SystemExit, match="answer differently"):
        stacks.require_same_answers(_found(onnxruntime_tiffin=("leek", 0.9), onnxruntime_ultralytics=("kiwi", 0.9)))


def test_the_table_has_a_row_a_stack_and_the_reason_of_one_that_did_not_run() -> None:
    names = ("onnxruntime tiffin", "onnxruntime optimum", "onnxruntime ultralytics")
    sizes = {"tiffin": {"version": "1.2", "bytes": 5_000_000}, "nvidia-cublas": {"version": "13", "bytes": 7_000_000}}
    record = Record(
        "study", {"cpu": "a CPU", "system": "Linux", "python": "3.11"},
        (Subject(names[0], precision="int8", cold_start_s=(0.2, 0.2, 0.2), peak_bytes=100_000_000),
         Subject(names[1], precision="int8", cold_start_s=(2.0, 2.0, 2.0), peak_bytes=500_000_000),
         Subject(names[2], precision="int8", reason="no torchvision")),
        {"threads": 2, "launches": 3, "installed": dict.fromkeys(names, sizes),
         "told": dict.fromkeys(names, ["tiffin"]), "cpu_s": {names[0]: [0.3] * 3, names[1]: [2.5] * 3}},
        created="2026-11-26T00:00:00Z",
    )  # fmt: skip
    text = stacks.table(record)
    assert "| onnxruntime | tiffin | tiffin 1.2 | 200 | 1 | 300 | 100 | 12 |" in text
    assert "| onnxruntime | optimum | tiffin 1.2 | 2000 | 10.00 (10.00–10.00) | 2500 | 500 | 12 |" in text
    assert "| onnxruntime | ultralytics | tiffin 1.2 | no torchvision |" in text
    assert "7 MB of ultralytics are NVIDIA's libraries" in text


def test_an_environment_is_made_again_when_its_pins_or_the_wheel_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, ...]] = []

    def fresh(folder: Path, *wanted: str) -> dict[str, object]:
        folder.mkdir(exist_ok=True)
        made.append(wanted)
        return {}

    monkeypatch.setattr(stacks, "fresh", fresh)
    ours, theirs = stacks.STACKS[0], stacks.STACKS[1]
    wheel = tmp_path / "tiffin.whl"
    for content in (b"1", b"1", b"2"):
        wheel.write_bytes(content)
        stacks.install(ours, wheel, tmp_path)
        stacks.install(theirs, wheel, tmp_path)
    assert [any("tiffin.whl" in word for word in wanted) for wanted in made] == [True, False, True]
