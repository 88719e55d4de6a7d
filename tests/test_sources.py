"""export/loaders/: a user's module, transformers, .pt2, TorchScript and foreign ONNX, and what each refuses."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import json
import os
import re
import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file, save_model
from torch import nn
from typer.main import get_command

import tiffin
from tiffin.artifact import Artifact, Preprocess, RunConfig
from tiffin.artifact.manifest import parse_manifest
from tiffin.benchmarks.options import RoundOptions
from tiffin.benchmarks.preprocessing import compare
from tiffin.cli.app import app
from tiffin.cli.plain import record_json
from tiffin.data import open_dataset
from tiffin.data.classes import read_as
from tiffin.data.dataset import Dataset, Photo
from tiffin.errors import BadDataset, BadInput, EngineMissing, ParityFailed, TiffinError
from tiffin.export import onnx_source
from tiffin.export.from_source import export_source, program_of
from tiffin.export.graph.canonical import PROLOGUE
from tiffin.export.loaders import (
    OnnxClassifier,
    Told,
    huggingface,
    keras,
    open_alone,
    open_source,
    reopened,
    timm,
    torchvision,
)  # fmt: skip
from tiffin.export.loaders.classifier import checked_labels
from tiffin.export.loaders.named import named
from tiffin.export.loaders.state import load_weights, without_prefix
from tiffin.export.loaders.told import TURNED, read_labels
from tiffin.export.logits import engine_logits
from tiffin.optimize.budget import Budget, SearchOptions
from tiffin.optimize.demo import run_demo
from tiffin.optimize.optimize import optimize, roles, short_name
from tiffin.optimize.pipeline import Recipe, build, gather
from tiffin.optimize.proof import reference_of
from tiffin.quantize import synthesis
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.data_free import data_free, made_from
from tiffin.quantize.forecast import forecast
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_half, quantize_int8
from tiffin.quantize.sensitivity import sensitivity
from tiffin.quantize.synthesis import SynthesisOptions
from tiffin.records.closeness import closeness
from tiffin.runtime.preprocess import fit, golden_hashes, patterns
from tiffin.tests.command import Run

LABELS = ("apple", "leek", "milk", "pear")
HALF = (0.5, 0.5, 0.5)
PHOTOS = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
WIDE = np.random.default_rng(0).integers(0, 256, (20, 24, 40, 3), dtype=np.uint8)


def network() -> nn.Module:
    """Seeded, untrained; any size of input."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU()]
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).eval()


@pytest.fixture
def told(tmp_path: Path) -> Told:
    (tmp_path / "labels.txt").write_text("\n".join(LABELS) + "\n")
    return Told(labels=tmp_path / "labels.txt", size=(32, 32), mean=HALF, std=HALF)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write the user's own module in the current directory; its name changes, so that no import is remembered."""
    monkeypatch.chdir(tmp_path)
    count = iter(range(99))

    def write(code: str) -> str:
        name = f"mine_{tmp_path.name.replace('-', '_')}_{next(count)}"
        (tmp_path / f"{name}.py").write_text("import torch\nfrom torch import nn\n\n" + code)
        return f"{name}:make"

    yield write
    for name in [name for name in sys.modules if name.startswith("mine_")]:
        del sys.modules[name]


MAKE = """
def make():
    layers = [nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, 2), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
"""


def with_weights(told: Told, path: Path, content: object) -> Told:
    torch.save(content, path)
    return dataclasses.replace(told, weights=path)


def wanted(module: nn.Module, photos: np.ndarray, mean: float = 127.5, std: float = 127.5) -> np.ndarray:
    images = (torch.from_numpy(photos).float() - mean) / std
    with torch.inference_mode():
        return module(images.permute(0, 3, 1, 2)).numpy()


def answers(artifact: Artifact, photos: np.ndarray) -> np.ndarray:
    with tiffin.load(artifact, RunConfig("onnxruntime")) as session:
        return session.run({"photos": photos})["logits"]


def require_same(found: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


# The user's own code


FILES = {
    "state_dict": lambda state: state,
    "lightning": lambda state: {
        "state_dict": {"loss.weight": torch.ones(2), **{f"model.{name}": value for name, value in state.items()}},
        "epoch": 3,
        "hyper_parameters": {"lr": 0.1},
    },
    "data parallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "compiled": lambda state: {"model": {f"_orig_mod.{name}": value for name, value in state.items()}},
    "without counts": lambda state: {name: value for name, value in state.items() if "num_batches" not in name},
    "half": lambda state: {name: value.half() if value.is_floating_point() else value for name, value in state.items()},
}


@pytest.mark.parametrize("form", FILES)
def test_a_factory_takes_weights_as_trainers_save_them(mine, told: Told, tmp_path: Path, form: str) -> None:
    source = open_source(mine(MAKE), with_weights(told, tmp_path / "w.pt", FILES[form](network().state_dict())))
    near = 1e-2 if form == "half" else 1e-5
    found = wanted(source.model.module, PHOTOS)
    np.testing.assert_allclose(found, wanted(network(), PHOTOS), atol=near)
    assert source.model.labels == LABELS and source.model.preprocess.mean == (127.5,) * 3
    assert any("model." in note and "loss.weight" in note for note in source.notes) == (form == "lightning")


def test_the_set_of_weights_that_is_taken_of_several_is_said(mine, told: Told, tmp_path: Path) -> None:
    state = network().state_dict()
    half = {name: value * 0.5 if value.is_floating_point() else value for name, value in state.items()}
    kept = {"model_ema": half, "model": state, "optimizer": {"state": {0: {"step": torch.ones(1)}}}}
    source = open_source(mine(MAKE), with_weights(told, tmp_path / "w.pt", kept))
    assert "weights are those under 'model' of the file; left: 'model_ema'" in source.notes
    np.testing.assert_allclose(wanted(source.model.module, PHOTOS), wanted(network(), PHOTOS), atol=1e-5)


def test_a_factory_with_safetensors_is_exported_and_answers_alike(mine, told: Told, tmp_path: Path) -> None:
    save_file(network().state_dict(), tmp_path / "w.safetensors")
    source = open_source(mine(MAKE), dataclasses.replace(told, weights=tmp_path / "w.safetensors"))
    artifact, parity = export_source(source, tmp_path / "out", PHOTOS)
    require_same(answers(artifact, PHOTOS), wanted(network(), PHOTOS))
    assert parity.photos == len(PHOTOS) and artifact.manifest.checkpoint == source.model.sha256
    assert golden_hashes(artifact.preprocess) == dict(artifact.preprocess.golden)
    shown = "\n".join(source.lines())
    assert "labels 4: apple, leek, milk" in shown and "32×32" in shown and "mean 0.5, 0.5, 0.5" in shown


@pytest.mark.parametrize("takes", [True, False])
def test_what_a_layer_keeps_beside_its_weights_is_no_weight(mine, told: Told, tmp_path: Path, takes: bool) -> None:
    extra = "\n    def get_extra_state(self):\n        return {'calls': 3}\n"
    extra += "\n    def set_extra_state(self, state):\n        pass\n" * takes
    code = f"class Linear(nn.Linear):{extra}\n{MAKE.replace('nn.Linear', 'Linear')}"
    source = open_source(mine(code), with_weights(told, tmp_path / "w.pt", network().state_dict()))
    artifact, _ = export_source(source, tmp_path / "out", PHOTOS)
    require_same(answers(artifact, PHOTOS), wanted(network(), PHOTOS))


def test_a_factory_that_asks_for_classes_gets_the_number_of_labels(mine, told: Told, tmp_path: Path) -> None:
    code = MAKE.replace("make()", "make(num_classes=1000)").replace("16, 4))", "16, num_classes))")
    source = open_source(mine(code), with_weights(told, tmp_path / "w.pt", network().state_dict()))
    assert source.model.labels == LABELS


class Evil:
    def __reduce__(self):
        return (os.mkdir, ("ran",))


def poisoned(state: dict) -> dict:
    return {"state_dict": state, "extra": Evil()}


def test_a_pickle_that_needs_more_than_tensors_is_refused_and_never_run(mine, told: Told, tmp_path: Path) -> None:
    told = with_weights(told, tmp_path / "w.pt", poisoned(network().state_dict()))
    with pytest.raises(
        BadInput, match="refused, because unpickling it could run code: it needs (posix|nt).mkdir"
    ) as caught:
        open_source(mine(MAKE), told)
    assert "state_dict(), FILE" in caught.value.fix and not Path("ran").exists()
    told = with_weights(told, tmp_path / "whole.pt", network())
    with pytest.raises(BadInput, match=r"it needs torch\.nn\.modules"):
        open_source(mine(MAKE), told)


def without_head(state: dict) -> dict:
    return {name: value for name, value in state.items() if not name.startswith("7.")}


STATES = {
    "missing": (without_head, r"missing or extra weights: 2 missing: 7\.bias, 7\.weight"),
    "extra": (lambda state: {**state, **{f"aux{n}": torch.ones(1) for n in range(12)}}, "12 extra: aux0, aux1, aux10"),
    "another shape": (
        lambda state: {**state, "7.weight": torch.ones(9, 16)},
        r"1 weights of another shape: 7.weight \(9",
    ),
    "NaN": (lambda state: {**state, "7.bias": torch.full((4,), torch.nan)}, "NaN or infinity"),
    "nothing": (lambda state: {"epoch": 3}, "no weights in it"),
    "8 bits": (
        lambda state: {**state, "7.weight": state["7.weight"].to(torch.float8_e4m3fn)},
        r"1 weights of another kind: 7\.weight float8_e4m3fn",
    ),
    "integers": (lambda state: {**state, "7.weight": state["7.weight"].to(torch.int8)}, r"7\.weight int8"),
    "sparse": (lambda state: {**state, "7.weight": state["7.weight"].to_sparse()}, r"7\.weight sparse"),
    "not there": (lambda state: {**state, "7.weight": state["7.weight"].to("meta")}, r"7\.weight meta"),
    "complex": (lambda state: {**state, "7.weight": state["7.weight"].to(torch.complex64)}, r"7\.weight complex64"),
}


@pytest.mark.parametrize("name", STATES)
def test_weights_that_do_not_fit_are_named(mine, told: Told, tmp_path: Path, name: str) -> None:
    spoil, said = STATES[name]
    with pytest.raises(BadInput, match=said) as caught:
        open_source(mine(MAKE), with_weights(told, tmp_path / "w.pt", spoil(network().state_dict())))
    assert caught.value.what.count("aux") in (0, 10)  # ten at most


def test_damaged_and_missing_weights_are_one_error(mine, told: Told, tmp_path: Path) -> None:
    text = mine(MAKE)
    damaged = {b"": "it is empty", b"hello": r"KeyError: \d+", b"PK\x03\x04 cut off": "RuntimeError: "}
    for content, said in damaged.items():
        (tmp_path / "w.pt").write_bytes(content)
        with pytest.raises(BadInput, match=rf"w\.pt: cannot be read \({said}"):
            open_source(text, dataclasses.replace(told, weights=tmp_path / "w.pt"))
    with pytest.raises(BadInput, match="no such file"):
        open_source(text, dataclasses.replace(told, weights=tmp_path / "absent.pt"))
    with pytest.raises(BadInput, match="code alone"):
        open_source(text, told)


FACTORIES = {
    "raises": ("def make():\n    raise ValueError('no data today')\n", "raised ValueError: no data today"),
    "raises TypeError": ("def make():\n    return len(5)\n", "raised TypeError: object of type 'int'"),
    "exits": ("def make():\n    raise SystemExit(3)\n", "raised SystemExit: 3"),
    "exits at once": ("raise SystemExit(3)\n", "cannot be imported: SystemExit: 3"),
    "needs more": ("def make(depth):\n    return nn.Flatten()\n", "raised TypeError"),
    "returns no module": ("def make():\n    return {'net': 1}\n", "returned dict"),
    "is not there": ("def build():\n    pass\n", "has no make"),
    "does not import": ("import no_such_package\n", "cannot be imported: ModuleNotFoundError"),
}


@pytest.mark.parametrize("name", FACTORIES)
def test_a_factory_that_makes_no_network_is_one_error(mine, told: Told, tmp_path: Path, name: str) -> None:
    code, said = FACTORIES[name]
    with pytest.raises(BadInput, match=said) as caught:
        open_source(mine(code), with_weights(told, tmp_path / "w.pt", network().state_dict()))
    assert ("takes none" in caught.value.fix) == (name == "needs more")


def head(forward: str, before: str = "") -> str:
    """A module of one linear layer on 3·8·8 pixels."""
    return (
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        f"        self.head = nn.Linear(192, 4)\n{before}"
        f"    def forward(self, x):\n{forward}\ndef make():\n    return Net()\n"
    )


def opened_head(mine, told: Told, tmp_path: Path, forward: str):
    torch.manual_seed(0)
    state = {f"head.{name}": value for name, value in nn.Linear(192, 4).state_dict().items()}
    told = dataclasses.replace(told, size=(8, 8))
    return open_source(mine(head(forward)), with_weights(told, tmp_path / "w.pt", state))


ANSWERS = {
    "probabilities": ("        return self.head(x.flatten(1)).softmax(1)\n", "a softmax is its last layer"),
    "pictures": ("        return x\n", r"answers an image with torch.float32 \(1, 3, 8, 8\)"),
    "words": ("        return 'apple'\n", "answers an image with str"),
    "NaN": ("        return self.head(x.flatten(1)) * float('nan')\n", "NaN or infinity"),
    "an error": ("        return self.head(x)\n", r"fails on an image of \(1, 3, 8, 8\)"),
    "chance": ("        return self.head((x + 0.1 * torch.randn_like(x)).flatten(1))\n", "when asked again: by chance"),
    "one number": ("        return self.head(x.flatten(1))[:, :1]\n", "answers an image with one number"),
    "more classes": ("        return self.head(x.flatten(1)).repeat(1, 2)\n", "8 classes, there are 4 labels"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_a_network_that_is_no_classifier_is_refused(mine, told: Told, tmp_path: Path, name: str) -> None:
    forward, said = ANSWERS[name]
    with pytest.raises(BadInput, match=said):
        opened_head(mine, told, tmp_path, forward)


def test_a_sigmoid_for_each_class_is_refused(mine, told: Told, tmp_path: Path) -> None:
    source = opened_head(mine, told, tmp_path, "        return self.head(x.flatten(1)).sigmoid()\n")
    with pytest.raises(BadInput, match="a sigmoid for each class") as caught:
        export_source(source, tmp_path / "out", PHOTOS[:, :8, :8].copy())
    assert "leave the sigmoid out" in caught.value.fix and not (tmp_path / "out").exists()


def test_a_network_without_labels_or_preprocessing_says_what_to_give(mine, told: Told, tmp_path: Path) -> None:
    text, weights = mine(MAKE), with_weights(told, tmp_path / "w.pt", network().state_dict())
    with pytest.raises(BadInput, match="names none of its 4 classes") as caught:
        open_source(text, dataclasses.replace(weights, labels=None))
    assert "--labels" in caught.value.fix
    with pytest.raises(BadInput, match="--mean, --size, --std unknown"):
        open_source(text, dataclasses.replace(weights, size=None, mean=None, std=None))


@pytest.mark.parametrize("answer", ["{'logits': y, 'features': x}", "(y, x)", "types.SimpleNamespace(logits=y)"])
def test_logits_are_found_in_an_answer_of_several(mine, told: Told, tmp_path: Path, answer: str) -> None:
    source = opened_head(
        mine, told, tmp_path, f"        import types\n        y = self.head(x.flatten(1))\n        return {answer}\n"
    )
    taken = "the first of 2 is taken" if answer.startswith("(y") else "its logits are taken"
    assert f"the network answers with more than one tensor: {taken}" in source.notes
    export_source(source, tmp_path / "out", PHOTOS[:4, :8, :8])


# What cannot be traced, and what takes one photo at a time


BRANCHES = {
    "if": ("        if x.mean() > 5:\n            x = x * 2\n        return self.head(x.flatten(1))\n",
           "if x.mean() > 5:", "torch.where"),
    "item": ("        count = int(x.max().item())\n        return self.head(x.flatten(1)) * torch.ones(count + 9)[0]\n",
             "count = int", "taken out of a tensor"),
    "numpy": ("        return self.head(torch.from_numpy(x.detach().numpy()).flatten(1))\n", "numpy", "numpy cannot"),
}  # fmt: skip


@pytest.mark.parametrize("name", BRANCHES)
def test_control_flow_is_told_by_its_line_and_what_to_change(
    mine, told: Told, tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    forward, line, advice = BRANCHES[name]
    source = opened_head(mine, told, tmp_path, forward)
    with pytest.raises(BadInput, match="cannot be traced") as caught:
        export_source(source, tmp_path / "out", PHOTOS[:4, :8, :8])
    assert re.search(r"mine_\w+\.py:\d+ in forward", caught.value.what) and line in caught.value.what
    assert advice in caught.value.fix and not (tmp_path / "out").exists()
    assert "def forward" not in "".join(capfd.readouterr())  # torch prints the graph as far as it came


def test_a_network_of_one_photo_at_a_time_is_exported_so_and_still_answers_batches(mine, told, tmp_path: Path) -> None:
    source = opened_head(mine, told, tmp_path, "        return self.head(x.view(1, 192))\n")
    photos = np.ascontiguousarray(PHOTOS[:, :8, :8])
    artifact, parity = export_source(source, tmp_path / "out", photos)
    assert artifact.manifest.inputs[0].shape == (1, 8, 8, 3) and parity.top1_agreement == 1
    assert "two photos" in artifact.manifest.producer.options["fixed_batch"]
    assert answers(artifact, photos).shape == (20, 4)
    int8 = quantize_int8(artifact, PtqOptions(), CalibrationSet(photos, "drawn"), tmp_path / "int8")
    free = opened_head(mine, told, tmp_path, "        return self.head(x.flatten(1))\n")
    fp32 = export_source(free, tmp_path / "free", photos)[0]
    wanted = quantize_int8(fp32, PtqOptions(), CalibrationSet(photos, "drawn"), tmp_path / "free-int8")
    require_same(answers(int8, photos), answers(wanted, photos))
    assert [row.kl for row in sensitivity(artifact, int8, photos[:6])] == pytest.approx(
        [row.kl for row in sensitivity(fp32, wanted, photos[:6])], rel=1e-3
    )
    again = program_of(source, tmp_path / "pt2")
    with tiffin.load(again, RunConfig("torch")) as session:
        require_same(session.run({"photos": photos})["logits"], answers(artifact, photos))


def test_of_two_networks_in_a_file_none_is_taken_by_chance(tmp_path: Path) -> None:
    module, path = network(), tmp_path / "w.pt"
    state = {f"{word}.{name}": each for word in ("net", "aux", "student")
             for name, each in module.state_dict().items()}  # fmt: skip
    assert without_prefix(state, module, path)[1][0].startswith("weights are those under 'aux.'; left: net.")
    state["student.7.bias"] = state["student.7.bias"] + 1
    with pytest.raises(BadInput, match=r"several times: under 'aux\.', 'student\.'") as caught:
        without_prefix(state, module, path)
    assert "removeprefix('student.')" in caught.value.fix


TIED = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.flat, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Flatten(), nn.Linear(192, 4)
        self.two = nn.Conv2d(3, 3, 3, padding=1)
        self.two.weight = self.one.weight
    def forward(self, x):
        return self.head(self.flat(self.two(self.one(x))))
def make():
    return Net()
"""


def test_a_weight_under_two_names_may_be_saved_under_one(mine, told: Told, tmp_path: Path) -> None:
    text, told = mine(TIED), dataclasses.replace(told, size=(8, 8), weights=tmp_path / "w.safetensors")
    trained = open_source(text, with_weights(told, tmp_path / "w.pt", named(text, "a factory")().state_dict()))
    save_model(trained.model.module, told.weights)  # as safetensors does, under one name
    found = open_source(text, told).model.module.state_dict()
    assert all(torch.equal(value, found[name]) for name, value in trained.model.module.state_dict().items())


def test_a_network_above_two_gigabytes_is_refused(mine, told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(mine(MAKE), with_weights(told, tmp_path / "w.pt", network().state_dict()))
    monkeypatch.setattr(onnx_source, "_LIMIT_BYTES", 1000)
    with pytest.raises(BadInput, match="less than 2 GB"):
        export_source(source, tmp_path / "out", PHOTOS)
    assert not (tmp_path / "out").exists()


# Channels, sizes, squeezing


def test_bgr_networks_see_what_they_were_trained_on(mine, told: Told, tmp_path: Path) -> None:
    told = dataclasses.replace(told, channels="BGR", mean=(0.4, 0.5, 0.6))
    source = open_source(mine(MAKE), with_weights(told, tmp_path / "w.pt", network().state_dict()))
    shown = "\n".join(source.lines())
    assert (
        "mean 0.6, 0.5, 0.4, std" in shown and "of red, green, blue" in shown and "taken as blue, green, red" in shown
    )
    artifact, _ = export_source(source, tmp_path / "out", PHOTOS)
    images = (torch.from_numpy(PHOTOS[..., ::-1].copy()).float() / 255 - torch.tensor((0.4, 0.5, 0.6))) / 0.5
    with torch.inference_mode():
        require_same(answers(artifact, PHOTOS), network()(images.permute(0, 3, 1, 2)).numpy())


def test_a_squeezed_photo_is_seen_whole_and_older_digests_hold() -> None:
    crop, squeeze = Preprocess(20, 30, 0.8), Preprocess(20, 30, 0.8, fit="squeeze")
    rounded = dataclasses.replace(crop, rounding="torchvision")
    assert "rounding" not in crop.plain() and crop.digest() != rounded.digest()
    assert "fit" not in crop.plain() and squeeze.plain()["fit"] == "squeeze" and crop.digest() != squeeze.digest()
    assert Preprocess(224, 224, 0.875).digest() == "d3acb3f5e84ce889a4687f60a4180faa24746a18ce40a2e298c271efba9f7051"
    image = patterns()["rgb"]
    whole = image.resize((38, image.height), Image.Resampling.BICUBIC).resize((38, 25), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(fit(image, squeeze), np.asarray(whole)[2:22, 4:34])
    with pytest.raises(BadInput, match="fit 'pad'"):
        Preprocess(20, 30, fit="pad")


@given(st.integers(20, 90), st.integers(20, 90), st.integers(8, 40), st.integers(8, 40), st.floats(0.5, 1.0))
@settings(max_examples=40, deadline=None)
def test_squeezing_gives_the_size_asked_of_any_photo(
    high: int, wide: int, height: int, width: int, crop: float
) -> None:
    image = Image.fromarray(np.random.default_rng(high).integers(0, 256, (high, wide, 3), dtype=np.uint8))
    assert fit(image, Preprocess(height, width, crop, fit="squeeze")).shape == (height, width, 3)


def test_a_squeezing_manifest_is_read_again(mine, told: Told, tmp_path: Path) -> None:
    told = dataclasses.replace(told, size=(24, 40), fit="squeeze", interpolation="bilinear")
    source = open_source(mine(MAKE), with_weights(told, tmp_path / "w.pt", network().state_dict()))
    artifact, _ = export_source(source, tmp_path / "out", WIDE)
    assert Artifact.load(artifact.folder).preprocess == source.model.preprocess
    assert parse_manifest(artifact.manifest.to_json(), "x").digest() == artifact.digest
    require_same(answers(artifact, WIDE), wanted(network(), WIDE))


TELLING = {
    "no labels": ({"labels": "\n"}, "no label"),
    "unknown field": ({"preprocess": '{"heigth": 3}'}, "unknown field 'heigth'"),
    "no JSON": ({"preprocess": "{"}, "cannot be read"),
    "two channels": ({"preprocess": '{"mean": [0, 0]}'}, r"preprocess\.json: mean \[0, 0\]"),
    "a word": ({"preprocess": '{"height": "32"}'}, r"preprocess\.json: height '32'"),
    "no whole number": ({"preprocess": '{"width": 0.5}'}, "width 0.5"),
    "std 0": ({"preprocess": '{"std": [1, 1, 0]}'}, r"std \[1, 1, 0\]"),
    "std of 0 to 1": ({"preprocess": '{"std": [0.229, 0.224, 0.225]}'}, r"preprocess\.json: std \[0.229"),
    "no crop": ({"preprocess": '{"crop_fraction": null}'}, "crop_fraction None"),
    "transformers' word": (
        {"preprocess": '{"do_resize": true, "size": {"height": "x", "width": 8}}'},
        "preprocessor_config.json: invalid literal",
    ),
}


@pytest.mark.parametrize("name", TELLING)
def test_what_is_told_must_be_readable(tmp_path: Path, name: str) -> None:
    files, said = TELLING[name]
    paths = {}
    for field, content in files.items():
        paths[field] = tmp_path / f"{field}.{'txt' if field == 'labels' else 'json'}"
        paths[field].write_text(content)
    with pytest.raises(BadInput, match=said):
        given = Told(**paths)
        given.label_names(), given.fields()


@pytest.mark.parametrize(
    "raw",
    [list(LABELS), {"labels": list(LABELS)}, dict(enumerate(LABELS)), {"id2label": dict(enumerate(LABELS))},
     {name: index for index, name in enumerate(LABELS)},
     {"class_to_idx": {name: index for index, name in reversed(list(enumerate(LABELS)))}}],
)  # fmt: skip
def test_labels_come_as_lists_or_maps(tmp_path: Path, raw: object) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(raw))
    assert read_labels(tmp_path / "labels.json") == LABELS


@pytest.mark.parametrize("raw", [{"a": 0, "b": 0}, {"a": 0, "b": 2}, {"a": True}, {"a": "b"}, 3, [1, 2]])
def test_what_names_no_classes_is_refused(tmp_path: Path, raw: object) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(raw))
    with pytest.raises(BadInput, match=r"labels\.json: (no labels|index)"):
        read_labels(tmp_path / "labels.json")


@pytest.mark.parametrize(("name", "text"), [("labels.txt", "\n".join(LABELS)), ("labels.json", json.dumps(LABELS))])
def test_labels_of_a_windows_editor_begin_without_its_mark(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
    assert read_labels(tmp_path / name) == LABELS


def test_a_source_with_a_label_that_steers_the_terminal_is_refused() -> None:
    with pytest.raises(BadInput, match=r"net: a label: 'pear\\x1b\[31m' holds a control character"):
        checked_labels(("apple", "pear\x1b[31m"), 2, "net")


def test_mean_and_std_are_of_zero_to_one_or_of_levels() -> None:
    assert Told(mean=HALF, std=(0.25,) * 3).fields() == {"mean": (127.5,) * 3, "std": (63.75,) * 3}
    assert Told(mean=(127.0,) * 3, std=(1.0,) * 3).fields() == {"mean": (127.0,) * 3, "std": (1.0,) * 3}


@pytest.mark.parametrize(
    ("name", "value"), [("std", -0.5), ("std", 0.0), ("std", float("nan")), ("mean", float("inf"))]
)
def test_mean_and_std_that_cannot_be_are_refused(name: str, value: float) -> None:
    with pytest.raises(BadInput, match=f"{name} .{value}, 0.5") as caught:
        Told(**{name: (value, 0.5, 0.5)})
    assert "finite" in caught.value.expected and ("above 0" in caught.value.expected) == (name == "std")


# transformers


NORMAL = {"do_resize": True, "image_mean": list(HALF), "image_std": list(HALF)}
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
FOLDERS = {
    "vit": ({"size": {"height": 32, "width": 32}, "resample": 2, **NORMAL}, ("squeeze", 1.0, "bilinear")),
    "resnet": ({"size": {"shortest_edge": 32}, "crop_pct": 0.875, "resample": 3, **NORMAL},
               ("crop", 32 / 36, "bicubic")),
    "convnext": ({"size": {"shortest_edge": 32}, "crop_pct": 0.875, "resample": 3, **NORMAL},
                 ("crop", 32 / 36, "bicubic")),
    "mobilenet_v2": ({"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True,
                      "resample": 2, **NORMAL}, ("crop", 32 / 36, "bilinear")),
    "swin": ({"size": {"height": 32, "width": 32}, "resample": 3, **NORMAL}, ("squeeze", 1.0, "bicubic")),
}  # fmt: skip


def save_transformers(kind: str, folder: Path) -> nn.Module:
    """A tiny random classifier as `save_pretrained` leaves it."""
    transformers = pytest.importorskip("transformers")
    labels = dict(enumerate(LABELS))
    options = {
        "vit": {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
                "image_size": 32, "patch_size": 8},
        "resnet": {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "layer_type": "basic"},
        "convnext": {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2},
        "mobilenet_v2": {"depth_multiplier": 0.1, "image_size": 32},
        "swin": {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2],
                 "window_size": 4},
    }[kind]  # fmt: skip
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(kind, id2label=labels, **options)
    model = transformers.AutoModelForImageClassification.from_config(config).eval()
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(FOLDERS[kind][0]))
    return model


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_of_transformers_brings_labels_and_preprocessing(tmp_path: Path, kind: str) -> None:
    model = save_transformers(kind, tmp_path / "model")
    source = open_source(f"hf:{tmp_path / 'model'}")
    host = source.model.preprocess
    assert (host.fit, host.crop_fraction, host.interpolation) == FOLDERS[kind][1] and host.mean == (127.5,) * 3
    assert source.model.labels == LABELS and source.model.architecture == kind
    require_same(wanted(source.model.module, PHOTOS), wanted(lambda images: model(images).logits, PHOTOS))


@pytest.mark.parametrize("kind", ["vit", "convnext", "swin", pytest.param("mobilenet_v2", marks=pytest.mark.slow)])
def test_transformers_is_exported_and_answers_alike(tmp_path: Path, kind: str) -> None:
    """ResNet goes the whole way, below."""
    model = save_transformers(kind, tmp_path / "model")
    artifact, _ = export_source(open_source(f"hf:{tmp_path / 'model'}"), tmp_path / "out", PHOTOS)
    require_same(answers(artifact, PHOTOS), wanted(lambda images: model(images).logits, PHOTOS))


HOSTS = {
    "levels": ({**NORMAL, "size": {"height": 8, "width": 8}, "do_rescale": False, "image_mean": 127, "image_std": 128},
               {"mean": (127.0,) * 3, "std": (128.0,) * 3}),
    "offset": ({"size": {"height": 8, "width": 8}, "rescale_factor": 1 / 127.5, "rescale_offset": True,
                "do_normalize": False}, {"mean": (127.5,) * 3, "std": (127.5,) * 3}),
    "efficientnet": ({**NORMAL, "size": 8, "feature_extractor_type": "EfficientNetImageProcessor"},
                     {"mean": (127.5,) * 3, "std": (63.75,) * 3}),
    "large convnext": ({**NORMAL, "size": {"shortest_edge": 384}, "crop_pct": 0.9}, {"fit": "squeeze", "height": 384}),
    "shorter side": ({**NORMAL, "size": {"shortest_edge": 256}, "do_center_crop": True,
                      "crop_size": {"height": 224, "width": 224}}, {"rounding": "transformers", "height": 224}),
    "one number, square": ({**NORMAL, "size": 224, "feature_extractor_type": "ViTFeatureExtractor"},
                           {"fit": "squeeze"}),
    "larger than its crop": ({**NORMAL, "size": {"height": 256, "width": 256}, "do_center_crop": True,
                              "crop_size": {"height": 224, "width": 224}},
                             {"fit": "squeeze", "crop_fraction": 0.875}),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTS)
def test_preprocessor_configs_become_preprocess(name: str) -> None:
    config, expected = HOSTS[name]
    found = huggingface.host_fields(config)
    Preprocess(**found)
    assert {
        key: found[key] if isinstance(found[key], str) else pytest.approx(found[key]) for key in expected
    } == expected
    assert found["rounding"] == ("nearest" if found["fit"] == "squeeze" else "transformers")


@pytest.mark.parametrize("crop", [60, 61])
@pytest.mark.parametrize("size", [(150, 146), (97, 131), (64, 64)])
def test_photos_are_prepared_as_transformers_own_processor_does(
    tmp_path: Path, size: tuple[int, int], crop: int
) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": 73}, crop_size={"height": crop, "width": crop}, image_mean=HALF, image_std=HALF
    )
    processor.save_pretrained(tmp_path)
    host = Preprocess(**huggingface.host_fields(json.loads((tmp_path / "preprocessor_config.json").read_text())))
    photo = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(photo).resize((size[1], size[0])).save(tmp_path / "photo.png")
    found = compare(host, lambda image: processor(image, return_tensors="np"), [tmp_path / "photo.png"])
    assert found.alike, found.largest


@pytest.mark.parametrize("more", [{}, {"rescale_offset": True}, {"include_top": False}, {"do_normalize": False}])
def test_photos_are_prepared_as_efficientnets_processor_does(tmp_path: Path, more: dict) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.EfficientNetImageProcessorPil(
        size={"height": 32, "width": 32}, resample=3, **IMAGENET, **more
    )
    processor.save_pretrained(tmp_path)
    host = Preprocess(**huggingface.host_fields(json.loads((tmp_path / "preprocessor_config.json").read_text())))
    photo = np.random.default_rng(0).integers(0, 256, (60, 50, 3), dtype=np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    found = compare(host, lambda image: processor(image, return_tensors="np"), [tmp_path / "photo.png"])
    assert found.alike, found.largest


def test_a_checkpoints_json_is_a_whole_rule(tmp_path: Path) -> None:
    whole = {"height": 8, "width": 8, "mean": [0, 0, 0], "std": [1, 1, 1]}
    (tmp_path / "whole.json").write_text(json.dumps({"labels": list(LABELS), "preprocess": whole}))
    (tmp_path / "part.json").write_text(json.dumps(whole))
    own = {"rounding": "torchvision", "fit": "squeeze"}
    found = [Told(preprocess=tmp_path / name).host(own, "net") for name in ("whole.json", "part.json")]
    assert [(host.rounding, host.fit) for host in found] == [("nearest", "crop"), ("torchvision", "squeeze")]


REFUSED = {
    "nearest": ({**NORMAL, "size": {"height": 8, "width": 8}, "resample": 0}, "interpolation 'nearest'"),
    "box": ({**NORMAL, "size": {"height": 8, "width": 8}, "resample": 4}, "interpolation 'box'"),
    "padded": ({**NORMAL, "size": {"height": 8, "width": 8}, "do_pad": True}, "do_pad"),
    "not resized": ({"do_resize": False}, "do_resize false"),
    "one number": ({**NORMAL, "size": 224}, "size 224"),
    "crop larger": ({**NORMAL, "size": {"shortest_edge": 8}, "do_center_crop": True,
                     "crop_size": {"height": 9, "width": 9}}, "9×9 cut from 8×8"),
    "two channels": ({**NORMAL, "size": {"height": 8, "width": 8}, "image_mean": [0.5, 0.5]}, "2 channels"),
    "std 0": ({**NORMAL, "size": {"height": 8, "width": 8}, "image_std": [0.5, 0.5, 0]}, r"std \(0.5, 0.5, 0.0\)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_preprocessing_that_no_device_repeats_is_refused(name: str) -> None:
    config, said = REFUSED[name]
    with pytest.raises(BadInput, match=said):
        Preprocess(**huggingface.host_fields(config))


def test_what_is_told_wins_over_transformers_own(tmp_path: Path) -> None:
    save_transformers("resnet", tmp_path / "model")
    path = tmp_path / "model" / "preprocessor_config.json"
    path.write_text(json.dumps({**NORMAL, "size": {"height": 32, "width": 32}, "resample": 0}))
    (tmp_path / "names.json").write_text(json.dumps(["a", "b", "c", "d"]))
    text = f"hf:{tmp_path / 'model'}"
    with pytest.raises(BadInput, match="nearest"):
        open_source(text)
    source = open_source(text, Told(interpolation="lanczos", size=(40, 32), labels=tmp_path / "names.json"))
    host = source.model.preprocess
    assert (host.interpolation, host.height, host.width, source.model.labels) == (
        "lanczos",
        40,
        32,
        ("a", "b", "c", "d"),
    )


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_a_folder_whose_answers_are_no_choice_of_one_class_is_refused(tmp_path: Path, problem: str) -> None:
    model = save_transformers("resnet", tmp_path / "model")
    model.config.problem_type = problem
    model.config.save_pretrained(tmp_path / "model")
    with pytest.raises(BadInput, match=f"problem_type {problem}"):
        open_source(f"hf:{tmp_path / 'model'}")


def test_labels_that_are_told_stand_for_a_folders_own_that_cannot_be_read(told: Told, tmp_path: Path) -> None:
    model = save_transformers("resnet", tmp_path / "model")
    model.config.id2label = {index + 1: name for index, name in enumerate(LABELS)}
    model.config.save_pretrained(tmp_path / "model")
    text = f"hf:{tmp_path / 'model'}"
    with pytest.raises(BadInput, match=r"config\.json: index 0 of the labels"):
        open_source(text)
    assert open_source(text, Told(labels=told.labels)).model.labels == LABELS


def test_a_folder_without_a_head_is_refused(tmp_path: Path) -> None:
    """transformers draws what is missing at random, another each time."""
    model = save_transformers("resnet", tmp_path / "model")
    state = {name: each for name, each in model.state_dict().items() if not name.startswith("classifier")}
    model.save_pretrained(tmp_path / "model", state_dict=state)
    with pytest.raises(BadInput, match=r"no weights that fit classifier\.1\.bias, classifier\.1\.weight"):
        open_source(f"hf:{tmp_path / 'model'}")


def test_a_folder_that_is_none_of_transformers_is_one_error(tmp_path: Path, monkeypatch) -> None:
    transformers = pytest.importorskip("transformers")
    for name in ("./absent", "absent"):
        with pytest.raises(BadInput, match="no such folder"):
            open_source(f"hf:{name}")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="cannot be loaded"):
        open_source(f"hf:{tmp_path}")
    with pytest.raises(BadInput, match="a folder of transformers") as caught:
        open_source(str(tmp_path))
    assert f"tiffin export hf:{tmp_path}" in caught.value.fix

    def unreachable(*given: object, **more: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(transformers.AutoModelForImageClassification, "from_pretrained", unreachable)
    with pytest.raises(BadInput, match="no such folder is here, and of the hub: no network"):
        open_source("hf:shops/food")


# timm and torchvision: their configurations, written here


def test_a_pretrained_cfg_becomes_preprocess() -> None:
    config = {"input_size": (3, 224, 224), "crop_pct": 0.9, "interpolation": "bicubic", "mean": HALF, "std": HALF}
    found = Preprocess(**timm.host_fields(config))
    assert found.resized == (248, 248) and found.fit == "crop"  # timm cuts 248.9 off
    assert found.rounding == "torchvision"
    assert Preprocess(**timm.host_fields({**config, "crop_mode": "squash", "crop_pct": 1.0})).fit == "squeeze"
    for harm, said in (
        ({"crop_mode": "border"}, "border"),
        ({"interpolation": "nearest"}, "nearest"),
        ({"input_size": (1, 8, 8)}, "1 chan"),
    ):
        with pytest.raises(BadInput, match=said):
            timm.host_fields({**config, **harm})


def test_torchvisions_transforms_become_preprocess() -> None:
    preset = SimpleNamespace(resize_size=[232], crop_size=[224], interpolation=SimpleNamespace(value="bilinear"),
                             mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225])  # fmt: skip
    found = Preprocess(**torchvision.host_fields(preset))
    assert found.resized == (232, 232) and (found.height, found.interpolation) == (224, "bilinear")
    assert found.rounding == "torchvision"
    assert found.mean == pytest.approx((123.675, 116.28, 103.53))
    preset.interpolation = "nearest"
    with pytest.raises(BadInput, match="nearest"):
        torchvision.host_fields(preset)


@pytest.mark.parametrize("name", ["timm", "torchvision"])
def test_a_library_that_cannot_be_imported_is_one_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineMissing, match=f"{name} cannot be imported") as caught:
        open_source(f"{name}:resnet18")
    assert ".onnx" in caught.value.fix


class Versioned(nn.Linear):
    """A layer that asks in which version its weights were kept, as MNASNet of torchvision does."""

    _version = 2

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *rest) -> None:
        if local_metadata.get("version") != 2:
            raise ValueError("version should be set to 2")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)


@pytest.mark.parametrize("ending", ["pt", "safetensors"])
def test_a_layer_that_asks_for_its_version_is_told(tmp_path: Path, ending: str) -> None:
    one, other = Versioned(3, 4), Versioned(3, 4)
    path = tmp_path / f"w.{ending}"
    save_file(one.state_dict(), path) if ending == "safetensors" else torch.save(one.state_dict(), path)
    load_weights(other, path)
    assert torch.equal(one.weight, other.weight)


class Standardized(nn.Conv2d):
    """Its weights are standardized at every call, as those of NF-Nets and BiT are."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, weight / weight.std((1, 2, 3), keepdim=True), self.bias)


def standardized() -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3, 2), nn.ReLU(), Standardized(16, 64, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(64, 4))


def test_a_weight_that_is_computed_is_a_weight_to_the_quantizer(mine, told: Told, tmp_path: Path) -> None:
    code = "\n\n".join(map(inspect.getsource, (Standardized, standardized))).replace("standardized()", "make()")
    told = with_weights(told, tmp_path / "w.pt", standardized().state_dict())
    artifact, _ = export_source(open_source(mine(code), told), tmp_path / "out", PHOTOS)
    graph = onnx.load(artifact.model_path).graph
    held = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    assert [held[node.input[1]] for node in graph.node if node.op_type == "Conv"] == [(16, 3, 3, 3), (64, 16, 3, 3)]
    made = quantize_int8(artifact, PtqOptions("cpu", "ort"), CalibrationSet(PHOTOS, "drawn"), tmp_path / "int8")
    stored = {tuple(tensor.dims) for tensor in onnx.load(made.model_path).graph.initializer
              if tensor.data_type == TensorProto.INT8}  # fmt: skip
    assert (64, 16, 3, 3) in stored
    assert closeness(answers(artifact, PHOTOS), answers(made, PHOTOS)).sqnr_db > 20


# By name: the libraries' own caches hold drawn weights, in place of those that they would fetch

OPENED = """
import json, sys
from tiffin.export.loaders import open_source
model = open_source(sys.argv[1]).model
host = model.preprocess
print(json.dumps({"labels": model.labels, "resized": host.resized, "size": [host.height, host.width],
                  "filter": host.interpolation, "fit": host.fit}))
"""
KEPT = {
    "hf": """
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor
names = {0: "leek", 1: "milk", 2: "pear"}
small = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96)
config = ViTConfig(**small, image_size=64, patch_size=16, num_labels=3, id2label=names)
ViTForImageClassification(config).save_pretrained(folder)
ViTImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
""",
    "timm": """
import timm
from safetensors.torch import save_file
save_file(timm.create_model("lcnet_050", pretrained=False).state_dict(), folder / "model.safetensors")
""",
    "torchvision": """
import torch
from torchvision import models
name = models.get_model_weights("squeezenet1_1").DEFAULT.url.rsplit("/", 1)[1]
torch.save(models.get_model("squeezenet1_1").state_dict(), folder / name)
""",
}


def opened_by_name(text: str, tmp_path: Path, folder: Path) -> dict:
    """What a process finds behind a name when the library's cache is in `tmp_path`, which makes `folder` first."""
    family = text.partition(":")[0]
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "TORCH_HOME": str(tmp_path)}
    found = subprocess.run([sys.executable, "-c", f"import {family}"], capture_output=True) if family != "hf" else None
    if found and found.returncode:
        pytest.skip(f"{family} cannot be imported here: `make sources` has an environment where it can")
    folder.mkdir(parents=True)
    code = f"from pathlib import Path\nfolder = Path({str(folder)!r})\n{KEPT[family]}{OPENED}"
    ended = subprocess.run([sys.executable, "-c", code, text], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads(ended.stdout.splitlines()[-1])


def hub(tmp_path: Path, repository: str) -> Path:
    """Folder of a repository's only snapshot in the hub's cache."""
    kept = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("a" * 40)
    return kept / "snapshots" / ("a" * 40)


def test_a_network_of_the_hub_comes_by_its_name(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    found = opened_by_name("hf:shop/food", tmp_path, hub(tmp_path, "shop/food"))
    assert found == {"labels": ["leek", "milk", "pear"], "resized": [64, 64], "size": [64, 64], "filter": "bilinear",
                     "fit": "squeeze"}  # fmt: skip


def test_a_network_of_timm_comes_by_its_name(tmp_path: Path) -> None:
    found = opened_by_name("timm:lcnet_050", tmp_path, hub(tmp_path, "timm/lcnet_050.ra2_in1k"))
    assert len(found["labels"]) == 1000 and found["labels"][0] == "tench"
    assert sum(label.startswith("crane (n") for label in found["labels"]) == 2
    assert (found["size"], found["resized"], found["filter"]) == ([224, 224], [256, 256], "bicubic")


def test_a_network_of_torchvision_comes_by_its_name(tmp_path: Path) -> None:
    found = opened_by_name("torchvision:squeezenet1_1", tmp_path, tmp_path / "hub" / "checkpoints")
    assert len(found["labels"]) == 1000 and found["labels"][0] == "tench"
    assert (found["size"], found["resized"], found["filter"]) == ([224, 224], [256, 256], "bilinear")


# .pt2 and TorchScript


def save_pt2(path: Path, rows: int = 2, free: bool = True, size: tuple[int, int] = (32, 32)) -> Path:
    shapes = ({0: torch.export.Dim("batch")},) if free else None
    torch.export.save(torch.export.export(network(), (torch.zeros(rows, 3, *size),), dynamic_shapes=shapes), path)
    return path


def test_a_torch_program_brings_its_size(told: Told, tmp_path: Path) -> None:
    text = str(save_pt2(tmp_path / "net.pt2", size=(24, 40)))
    source = open_source(text, dataclasses.replace(told, size=None))
    assert (source.model.preprocess.height, source.model.preprocess.width) == (24, 40)
    artifact, _ = export_source(source, tmp_path / "out", WIDE)
    require_same(answers(artifact, WIDE), wanted(network(), WIDE))
    with tiffin.load(program_of(source, tmp_path / "pt2"), RunConfig("torch")) as session:
        require_same(session.run({"photos": WIDE})["logits"], wanted(network(), WIDE))


def test_a_torch_program_of_one_image_is_exported_so_and_of_eight_refused(told: Told, tmp_path: Path) -> None:
    source = open_source(str(save_pt2(tmp_path / "one.pt2", 1, free=False)), told)
    artifact, _ = export_source(source, tmp_path / "out", PHOTOS)
    assert artifact.manifest.inputs[0].shape[0] == 1
    require_same(answers(artifact, PHOTOS), wanted(network(), PHOTOS))
    with pytest.raises(BadInput, match="for 8 images at a time"):
        open_source(str(save_pt2(tmp_path / "eight.pt2", 8, free=False)), told)


@pytest.mark.parametrize("dropped", [True, False])
def test_a_program_in_training_mode_is_refused(told: Told, tmp_path: Path, dropped: bool) -> None:
    """A batch norm that normalizes by the photos beside answers alike when asked again."""
    trained = (nn.Sequential(network(), nn.Dropout()) if dropped else network()).train()
    program = torch.export.export(trained, (torch.zeros(2, 3, 32, 32),), dynamic_shapes=({0: torch.export.Dim("n")},))
    torch.export.save(program, tmp_path / "net.pt2")
    with pytest.raises(BadInput, match=r"exported in training mode: aten\.batch_norm") as caught:
        open_source(str(tmp_path / "net.pt2"), told)
    assert ("aten.dropout" in caught.value.what) == dropped and "network.eval()" in caught.value.fix


class StandardizedByBatchNorm(nn.Conv2d):
    """As timm's: a batch norm in training mode, without running statistics, of the weights."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = nn.functional.batch_norm(self.weight.reshape(1, len(self.weight), -1), None, None, training=True)
        return nn.functional.conv2d(x, weight.reshape_as(self.weight), self.bias)


def test_a_program_of_standardized_weights_is_no_training(told: Told, tmp_path: Path) -> None:
    module = nn.Sequential(StandardizedByBatchNorm(3, 4, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    torch.export.save(torch.export.export(module, (torch.zeros(1, 3, 32, 32),)), tmp_path / "net.pt2")
    source = open_source(str(tmp_path / "net.pt2"), told)
    require_same(wanted(source.model.module, PHOTOS[:1]), wanted(module, PHOTOS[:1]))


def test_what_is_no_program_is_one_error(
    told: Told, pt2_artifact: Artifact, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog
) -> None:
    (tmp_path / "cut.pt2").write_bytes(b"PK")
    with pytest.raises(BadInput, match="no torch.export program"):
        open_source(str(tmp_path / "cut.pt2"), told)
    assert "Traceback" not in "".join(capfd.readouterr()) and not caplog.records
    with pytest.raises(BadInput, match="takes torch.uint8") as caught:
        open_source(str(pt2_artifact.model_path), told)
    assert "artifact already" in caught.value.fix


def test_torchscript_becomes_onnx_and_says_what_is_lost(told: Told, tmp_path: Path) -> None:
    torch.jit.trace(network(), torch.zeros(1, 3, 32, 32)).save(tmp_path / "net.pt")
    source = open_source(str(tmp_path / "net.pt"), told)
    assert isinstance(source.model, OnnxClassifier) and source.model.batch is None
    assert "no .pt2" in source.notes[0]
    artifact, _ = export_source(source, tmp_path / "out", PHOTOS)
    require_same(answers(artifact, PHOTOS), wanted(network(), PHOTOS))
    with pytest.raises(BadInput, match="no torch module"):
        program_of(source, tmp_path / "pt2")


class Named(nn.Module):
    """Answers by name."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": self.network(images)}


def test_a_script_that_answers_a_dict_is_one_error(
    told: Told, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    torch.jit.trace(Named(), torch.zeros(1, 3, 32, 32), strict=False).save(tmp_path / "net.pt")
    with pytest.raises(BadInput, match="it answers a dict") as caught:
        open_source(str(tmp_path / "net.pt"), told)
    assert "logits alone" in caught.value.fix and capfd.readouterr().out == ""


class Branching(nn.Module):
    """Another answer for bright images."""

    def __init__(self) -> None:
        super().__init__()
        self.network = network()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if bool(images.mean() > 0):
            return self.network(images)
        return -self.network(images)


def test_a_script_that_branches_on_values_is_refused(told: Told, tmp_path: Path) -> None:
    torch.jit.script(Branching()).save(tmp_path / "net.pt")
    with pytest.raises(BadInput, match=r"branches on values \(If in ONNX\)") as caught:
        open_source(str(tmp_path / "net.pt"), told)
    assert "torch.jit.trace" in caught.value.fix


def test_weights_alone_are_told_that_code_is_missing(told: Told, tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "w.pt")
    with pytest.raises(BadInput, match="weights without a network") as caught:
        open_source(str(tmp_path / "w.pt"), told)
    assert "--weights" in caught.value.fix
    torch.jit.trace(network(), torch.zeros(1, 3, 32, 32)).save(tmp_path / "net.pt")
    with pytest.raises(BadInput, match="a TorchScript program, no state_dict"):
        open_source("torch.nn:Flatten", dataclasses.replace(told, weights=tmp_path / "net.pt"))


# Foreign ONNX


WEIGHTS = {name: value.numpy() for name, value in network().state_dict().items()}
NORMALIZED = (PHOTOS.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2)


def foreign(
    before: list | None = None, after: list | None = None, layout: str = "NCHW", dtype: int = TensorProto.FLOAT,
    batch: object = "N", opset: int = 17, output: str = "y", shape: list | None = None, constants: dict | None = None,
    size: tuple[object, object] = (32, 32), flatten: list | None = None,
) -> onnx.ModelProto:  # fmt: skip
    """A graph as another exporter writes it: Conv, Relu, mean, Gemm; input `x`, first layer reads `images`."""
    drawn = np.random.default_rng(1)
    held = {"w": drawn.normal(0, 0.3, (8, 3, 3, 3)), "v": drawn.normal(0, 0.5, (4, 8)), "b": drawn.normal(0, 0.1, 4),
            **(constants or {})}  # fmt: skip
    nodes = list(before or [helper.make_node("Identity", ["x"], ["images"])])
    nodes += [
        helper.make_node("Conv", ["images", "w"], ["c"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        *(flatten or [helper.make_node("Flatten", ["p"], ["f"])]),
        helper.make_node("Gemm", ["f", "v", "b"], ["y"], transB=1),
        *(after or []),
    ]
    sizes = [batch, 3, *size] if layout == "NCHW" else [batch, *size, 3]
    graph = helper.make_graph(
        nodes, "theirs", [helper.make_tensor_value_info("x", dtype, shape or sizes)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value, np.float32 if np.asarray(value).dtype.kind == "f" else None), name)
         for name, value in held.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run_plainly(model: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, {"x": image[None]})[0] for image in images])


def adopted(model: onnx.ModelProto, told: Told, tmp_path: Path):
    onnx.save(model, tmp_path / "theirs.onnx")
    return open_source(str(tmp_path / "theirs.onnx"), told)


def arithmetic(*steps: tuple[str, str]) -> list:
    """Nodes from `x` to `images`."""
    words = ["x", *(f"s{place}" for place in range(len(steps) - 1)), "images"]
    return [helper.make_node(kind, [words[place], *([name] if name else [])], [words[place + 1]])
            for place, (kind, name) in enumerate(steps)]  # fmt: skip


def cast() -> onnx.NodeProto:
    return helper.make_node("Cast", ["x"], ["s0"], to=TensorProto.FLOAT)


MEAN = np.array([0.485, 0.456, 0.406], np.float32).reshape(1, 3, 1, 1)
STD = np.array([0.229, 0.224, 0.225], np.float32).reshape(1, 3, 1, 1)
TO_NCHW = helper.make_node("Transpose", ["s0"], ["images"], perm=[0, 3, 1, 2])
UNIT = (PHOTOS.astype(np.float32) / 255).transpose(0, 3, 1, 2)
LEVELS = PHOTOS.astype(np.float32).transpose(0, 3, 1, 2)
# name: graph, what its own input is of PHOTOS, what is told beside labels, what the notes say, mean and std of it all
GRAPHS = {
    "normalized outside": (foreign(), NORMALIZED, {}, "NCHW, float32", (127.5, 127.5)),
    "imagenet inside": (
        foreign(arithmetic(("Sub", "m"), ("Div", "s")), constants={"m": MEAN, "s": STD}), UNIT,
        {"mean": None, "std": None}, "taken as 0 to 1", (255 * 0.485, 255 * 0.229)),
    "levels inside": (
        foreign(arithmetic(("Mul", "m"), ("Add", "s")), constants={"m": np.float32(1 / 127.5), "s": np.float32(-1)}),
        LEVELS, {"mean": None, "std": None}, "taken as 0 to 255", (127.5, 127.5)),
    "uint8 NHWC": (
        foreign([cast(), helper.make_node("Div", ["s0", "d"], ["s1"]),
                 helper.make_node("Transpose", ["s1"], ["images"], perm=[0, 3, 1, 2])],
                layout="NHWC", dtype=TensorProto.UINT8, constants={"d": np.float32(255)}),
        PHOTOS, {"mean": None, "std": None}, "NHWC, uint8", (0.0, 255.0)),
    "float NHWC": (
        foreign([helper.make_node("Transpose", ["x"], ["images"], perm=[0, 3, 1, 2])], layout="NHWC"),
        NORMALIZED.transpose(0, 2, 3, 1), {}, "NHWC, float32", (127.5, 127.5)),
    "opset 9": (foreign(opset=9), NORMALIZED, {}, "opset 9 converted to 20", (127.5, 127.5)),
    "opset 22": (foreign(opset=22), NORMALIZED, {}, "opset 22 converted to 20", (127.5, 127.5)),
    "fixed batch": (foreign(batch=1), NORMALIZED, {}, "is free now", (127.5, 127.5)),
    "reshaped by a constant": (
        foreign(batch=1, flatten=[helper.make_node("Reshape", ["p", "to"], ["f"])],
                constants={"to": np.array([1, -1])}),
        NORMALIZED, {}, "is free now", (127.5, 127.5)),
    "any size": (foreign(size=("H", "W")), NORMALIZED, {}, "NCHW", (127.5, 127.5)),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_a_foreign_graph_answers_photos_as_it_did(told: Told, tmp_path: Path, name: str) -> None:
    model, images, extra, note, (mean, std) = GRAPHS[name]
    source = adopted(model, dataclasses.replace(told, **extra), tmp_path)
    assert any(note in said for said in source.notes), source.notes
    host = source.model.preprocess
    assert (host.mean[0], host.std[0]) == pytest.approx((mean, std), abs=1e-4)
    artifact, parity = export_source(source, tmp_path / "out", PHOTOS)
    require_same(answers(artifact, PHOTOS), run_plainly(model, images))
    assert parity.max_relative < 1e-5 and artifact.manifest.inputs[0].shape == (None, 32, 32, 3)
    made = onnx.load(artifact.model_path)
    assert [node.name for node in made.graph.node][:4] == list(PROLOGUE)
    assert {each.version for each in made.opset_import} == {20}


def ends_exchanged() -> onnx.ModelProto:
    """Its input is called as our output is, and its output as our input."""
    model = foreign(after=[helper.make_node("Flatten", ["y"], ["photos"])], output="photos")
    model.graph.input[0].name = model.graph.node[0].input[0] = "logits"
    return model


def named_in_branches() -> onnx.ModelProto:
    """A branch reads `logits` from outside and has a tensor `photos` of its own."""
    nodes = [helper.make_node("Abs", ["logits"], ["photos"]), helper.make_node("Neg", ["photos"], ["made"])]
    value = helper.make_tensor_value_info("made", TensorProto.FLOAT, None)
    bodies = {name: helper.make_graph(nodes, name, [], [value]) for name in ("then_branch", "else_branch")}
    after = [helper.make_node("Identity", ["y"], ["logits"]), helper.make_node("ReduceMax", ["y"], ["m"], keepdims=0),
             helper.make_node("Greater", ["m", "zero"], ["high"]),
             helper.make_node("If", ["high"], ["z"], **bodies)]  # fmt: skip
    return foreign(after=after, output="z", constants={"zero": np.float32(0)})


CALLED = {
    "tensor": foreign(flatten=[helper.make_node("Flatten", [a], [b]) for a, b in (("p", "logits"), ("logits", "f"))]),
    "constant": foreign(arithmetic(("Mul", "photos"), ("Add", "preprocess/shift_value")),
                        constants={"photos": np.float32(2), "preprocess/shift_value": np.float32(-1)}),
    "weight": foreign([helper.make_node("Mul", ["x", "logits"], ["images"])],
                      constants={"logits": np.full((1, 3, 32, 32), 2.0)}),
    "ends": ends_exchanged(),
    "branches": named_in_branches(),
}  # fmt: skip


@pytest.mark.parametrize("name", CALLED)
def test_a_graph_may_call_its_tensors_as_ours_are_called(told: Told, tmp_path: Path, name: str) -> None:
    told = dataclasses.replace(told, mean=(0.0,) * 3, std=(1.0,) * 3)
    source = adopted(CALLED[name], told, tmp_path)
    artifact, parity = export_source(source, tmp_path / "out", PHOTOS)
    assert parity.max_relative < 1e-5
    assert [each.name for each in (*artifact.manifest.inputs, *artifact.manifest.outputs)] == ["photos", "logits"]


def test_a_softmax_at_the_end_is_left_out_and_parity_is_of_probabilities(told: Told, tmp_path: Path) -> None:
    model = foreign(after=[helper.make_node("Softmax", ["y"], ["z"], axis=1)], output="z")
    source = adopted(model, told, tmp_path)
    artifact, _ = export_source(source, tmp_path / "out", PHOTOS)
    powers = np.exp(answers(artifact, PHOTOS))
    np.testing.assert_allclose(powers / powers.sum(1, keepdims=True), run_plainly(model, NORMALIZED), atol=1e-5)
    assert any("softmax" in note for note in source.notes)
    assert "Softmax" not in {node.op_type for node in onnx.load(artifact.model_path).graph.node}


def test_a_bgr_graph_is_turned_in_its_first_layer(told: Told, tmp_path: Path) -> None:
    model = foreign()
    source = adopted(model, dataclasses.replace(told, channels="BGR", mean=(0.4, 0.5, 0.6)), tmp_path)
    assert source.model.preprocess.mean == pytest.approx((153, 127.5, 102)) and TURNED in source.notes
    artifact, _ = export_source(source, tmp_path / "out", PHOTOS)
    mean = np.array((0.4, 0.5, 0.6), np.float32).reshape(1, 3, 1, 1)
    require_same(answers(artifact, PHOTOS), run_plainly(model, ((UNIT[:, ::-1] - mean) / 0.5).astype(np.float32)))


@pytest.mark.parametrize("command", ["export", "optimize", "synthesize", "demo"])
def test_the_order_of_mean_and_std_is_said(command: str) -> None:
    options = {each.name: each for each in get_command(app).commands[command].params}
    assert "with BGR B,G,R" in options["mean"].help and "order of --mean" in options["std"].help


def test_a_batch_that_the_graph_fixes_stays_and_sessions_split(
    told: Told, tmp_path: Path, run_tiffin: Run, photo_folder: Path
) -> None:
    """Multiplied by a constant of one row a photo: another batch has no meaning."""
    rows = np.array([[1.0], [2.0]], np.float32)
    model = foreign(
        batch=2, after=[helper.make_node("Mul", ["y", "rows"], ["z"])], output="z", constants={"rows": rows}
    )
    source = adopted(model, told, tmp_path)
    assert source.model.batch == 2 and any("fixed at 2 by the graph" in note for note in source.notes)
    artifact, _ = export_source(source, tmp_path / "out", PHOTOS)
    assert artifact.manifest.inputs[0].shape[0] == 2 and answers(artifact, PHOTOS[:5]).shape == (5, 4)
    with pytest.raises(BadInput, match="its batch is fixed at 2"):
        quantize_int8(artifact, PtqOptions(), CalibrationSet(PHOTOS, "drawn"), tmp_path / "int8")
    about = ("--data", photo_folder)
    code, _, err = run_tiffin("doctor", artifact.folder, "--for", "int8", *about)
    assert code == 2 and "its batch is fixed at 2" in err
    words = ("--labels", tmp_path / "labels.txt", "--mean", "0.5", "--std", "0.5", "--out", tmp_path / "again", *about)
    code, _, err = run_tiffin("export", tmp_path / "theirs.onnx", *words)
    assert code == 0 and "next: tiffin bench" in err and "quantize" not in err


@pytest.mark.parametrize("batch", [2, 3])
def test_a_constant_of_as_many_rows_as_the_batch_keeps_it_fixed(told: Told, tmp_path: Path, batch: int) -> None:
    rows = np.tile(np.array([0.1, 0.2, 0.3, 0.4], np.float32), (batch, 1))
    after = [helper.make_node("Add", ["y", "rows"], ["z"])]
    source = adopted(foreign(batch=batch, after=after, output="z", constants={"rows": rows}), told, tmp_path)
    assert source.model.batch == batch
    artifact, _ = export_source(source, tmp_path / "out", PHOTOS)
    assert answers(artifact, PHOTOS[:5]).shape == (5, 4)


def less_its_batch(batch: object) -> onnx.ModelProto:
    """From what each photo shows, the mean of all photos of the batch is taken."""
    flatten = [helper.make_node("Flatten", ["p"], ["own"]), helper.make_node("ReduceMean", ["own", "rows"], ["all"]),
               helper.make_node("Sub", ["own", "all"], ["f"])]  # fmt: skip
    return foreign(batch=batch, opset=20, flatten=flatten, constants={"rows": np.array([0])})


def branching_on_the_batch(batch: object) -> onnx.ModelProto:
    """One branch for all photos, by how bright they are together."""
    value = helper.make_tensor_value_info("z", TensorProto.FLOAT, None)
    bodies = {f"{word}_branch": helper.make_graph([helper.make_node(kind, ["y"], ["z"])], word, [], [value])
              for word, kind in (("then", "Neg"), ("else", "Identity"))}  # fmt: skip
    after = [helper.make_node("ReduceMean", ["images"], ["m"], keepdims=0),
             helper.make_node("Greater", ["m", "zero"], ["bright"]),
             helper.make_node("If", ["bright"], ["answer"], **bodies)]  # fmt: skip
    return foreign(batch=batch, after=after, output="answer", constants={"zero": np.float32(0)})


@pytest.mark.parametrize("mixing", [less_its_batch, branching_on_the_batch])
def test_a_graph_that_answers_a_photo_by_its_neighbours_is_asked_one_at_a_time(
    told: Told, tmp_path: Path, mixing
) -> None:
    with pytest.raises(BadInput, match="answers a photo otherwise beside another") as caught:
        adopted(mixing("N"), told, tmp_path)
    assert "a batch fixed at 1" in caught.value.fix
    assert adopted(mixing(1), told, tmp_path).model.batch == 1


@pytest.mark.parametrize("first", [True, False])
def test_a_batch_becomes_free_beside_an_output_without_one(told: Told, tmp_path: Path, first: bool) -> None:
    model = foreign(batch=1, after=[helper.make_node("ReduceMean", ["y"], ["mean"], keepdims=0)])
    mean = helper.make_tensor_value_info("mean", TensorProto.FLOAT, [])
    outputs = [mean, *model.graph.output] if first else [*model.graph.output, mean]
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    source = adopted(model, told, tmp_path)
    assert source.model.batch is None and any("is free now" in note for note in source.notes)
    artifact, _ = export_source(source, tmp_path / "out", PHOTOS)
    require_same(answers(artifact, PHOTOS), run_plainly(foreign(), NORMALIZED))


def test_weights_beside_a_graph_are_kept_inside_or_missed(told: Told, tmp_path: Path, monkeypatch) -> None:
    onnx.save(foreign(), tmp_path / "theirs.onnx", save_as_external_data=True, location="theirs.data", size_threshold=0)
    source = open_source(str(tmp_path / "theirs.onnx"), told)
    artifact, _ = export_source(source, tmp_path / "out", PHOTOS)
    require_same(answers(artifact, PHOTOS), run_plainly(foreign(), NORMALIZED))
    assert [file.name for file in artifact.manifest.files] == ["model.onnx"] and "theirs.data" in source.notes[0]
    monkeypatch.setattr(onnx_source, "_LIMIT_BYTES", (tmp_path / "theirs.onnx").stat().st_size + 100)
    with pytest.raises(BadInput, match="limit of an ONNX file"):
        open_source(str(tmp_path / "theirs.onnx"), told)
    (tmp_path / "theirs.data").unlink()
    with pytest.raises(BadInput, match="its weights are in theirs.data, which is not beside it"):
        open_source(str(tmp_path / "theirs.onnx"), told)


def test_our_own_export_is_read_by_its_metadata(onnx_artifact: Artifact, photos: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "ours.onnx"
    path.write_bytes(onnx_artifact.model_path.read_bytes())
    source = open_source(str(path))
    assert source.model.labels == onnx_artifact.manifest.labels
    again, _ = export_source(source, tmp_path / "out", photos)
    assert again.preprocess.digest() == onnx_artifact.preprocess.digest()
    assert again.preprocess.mean == pytest.approx(onnx_artifact.preprocess.mean)
    require_same(answers(again, photos), answers(onnx_artifact, photos))


@pytest.mark.parametrize("key", ["tiffin.labels", "tiffin.preprocess"])
def test_metadata_that_is_no_json_is_one_error(told: Told, tmp_path: Path, key: str) -> None:
    model = foreign()
    model.metadata_props.add(key=key, value="not json")
    told = dataclasses.replace(told, labels=None)
    with pytest.raises(BadInput, match=f"theirs.onnx: its metadata {key} is no JSON"):
        adopted(model, told, tmp_path)


def test_where_nothing_can_be_told_an_error_keeps_its_own_advice(mine, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is code alone") as lacking:
        open_alone(mine(MAKE))
    assert "says all of itself" in lacking.value.expected and "--weights" not in lacking.value.fix
    (tmp_path / "cut.safetensors").write_bytes(b"")
    (tmp_path / "cut.json").write_text('{"architecture": "tinynet", "labels": ["a"], "preprocess": {}}')
    with pytest.raises(BadInput, match="cannot be read") as cut:
        open_alone(str(tmp_path / "cut.safetensors"))
    assert cut.value.fix == "copy it again"


def test_labels_of_one_name_are_told_apart(told: Told, tmp_path: Path) -> None:
    model = foreign()
    model.metadata_props.add(key="tiffin.labels", value=json.dumps(["dog", "crane", "cat", "crane"]))
    source = adopted(model, dataclasses.replace(told, labels=None), tmp_path)
    assert source.model.labels == ("dog", "crane (1)", "cat", "crane (3)")
    told.labels.write_text("dog\ncrane\ncat\ncrane\n")
    assert adopted(foreign(), told, tmp_path).model.labels == source.model.labels


def quantized() -> onnx.ModelProto:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "q"], ["u"]),
        helper.make_node("DequantizeLinear", ["u", "q"], ["images"]),
    ]
    return foreign(nodes, constants={"q": np.float32(0.1)})


def half_weights() -> onnx.ModelProto:
    model = foreign([helper.make_node("Mul", ["x", "one"], ["images"])])
    model.graph.initializer.append(numpy_helper.from_array(np.ones(1, np.float16), "one"))
    return model


def padded_by(value: float) -> onnx.ModelProto:
    """Before a max pool, as torch's exporters write `F.pad`."""
    pooled = [helper.make_node("Pad", ["r", "by", "low"], ["padded"]),
              helper.make_node("MaxPool", ["padded"], ["most"], kernel_shape=[3, 3], strides=[2, 2]),
              helper.make_node("GlobalAveragePool", ["most"], ["mean"]),
              helper.make_node("Flatten", ["mean"], ["f"])]  # fmt: skip
    return foreign(flatten=pooled, constants={"by": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "low": np.float32(value)})


def sequence_out() -> onnx.ModelProto:
    model = foreign(after=[helper.make_node("SequenceConstruct", ["c", "r"], ["parts"])], output="c")
    parts = helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)
    model.graph.output.insert(0, parts)
    return model


def scalar() -> onnx.ModelProto:
    model = foreign()
    del model.graph.input[0].type.tensor_type.shape.dim[:]
    return model


RESIZE = [helper.make_node("Resize", ["x", "", "by"], ["images"], name="grow")]
CUSTOM = helper.make_node("Deform", ["x"], ["images"], name="odd", domain="acme.ops")
SICK = {
    "custom operator": (foreign([CUSTOM]), r"1 operators that are no standard ONNX: odd \(acme.ops.Deform\)"),
    "quantized": (quantized(), "quantized already"),
    "16 bits": (half_weights(), "weights in 16 bits"),
    "NaN": (foreign(constants={"b": np.full(4, np.nan)}), "NaN or infinity: b"),
    "infinite weights": (foreign(constants={"b": np.full(4, np.inf)}), "NaN or infinity: b"),
    "padded by NaN": (padded_by(np.nan), "NaN or infinity: low"),
    "resizes": (foreign(RESIZE, constants={"by": np.array([1, 1, 2, 2], np.float32)}), "resizes the photo .*grow"),
    "opset too old": (foreign(opset=5), "opset 5"),
    "opset too new": (foreign(opset=99), "opset 99"),
    "grey": (foreign(shape=["N", 1, 32, 32]), "one channel"),
    "scalar": (scalar(), "its input has 0 axes"),
    "flat": (foreign(shape=["N", 3072]), "its input has 2 axes"),
    "doubles": (foreign(dtype=TensorProto.DOUBLE), "input of double"),
    "sequence out": (sequence_out(), "outputs parts list,"),
    "sigmoid": (foreign(after=[helper.make_node("Sigmoid", ["y"], ["s"])], output="s"), "a sigmoid for each class"),
    "pictures out": (foreign(output="c"), "outputs c float32"),
    "chance": (
        foreign([helper.make_node("RandomNormalLike", ["x"], ["n"]), helper.make_node("Add", ["x", "n"], ["images"])]),
        "when asked again: by chance",
    ),
    "labels": (foreign(constants={"v": np.ones((7, 8)), "b": np.zeros(7)}), "7 classes, there are 4 labels"),
    "no graph": (onnx.ModelProto(), "holds no graph"),
}


@pytest.mark.parametrize("name", SICK)
def test_a_graph_that_cannot_be_taken_says_why(told: Told, tmp_path: Path, name: str) -> None:
    model, said = SICK[name]
    with pytest.raises(BadInput, match=said) as caught:
        adopted(model, told, tmp_path)
    assert caught.value.expected


def test_a_graph_of_two_inputs_and_one_of_another_size_are_refused(told: Told, tmp_path: Path) -> None:
    model = foreign()
    model.graph.input.append(copy.deepcopy(model.graph.input[0]))
    model.graph.input[1].name = "mask"
    with pytest.raises(BadInput, match="inputs x, mask"):
        adopted(model, told, tmp_path)
    with pytest.raises(BadInput, match="--size 40x32"):
        adopted(foreign(), dataclasses.replace(told, size=(40, 32)), tmp_path)
    with pytest.raises(BadInput, match="--mean, --std unknown"):
        adopted(foreign(), dataclasses.replace(told, mean=None, std=None), tmp_path)


@given(
    scale=st.lists(st.floats(0.125, 8, width=32), min_size=3, max_size=3),
    shift=st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3),
    kinds=st.lists(st.sampled_from(["Add", "Sub", "Mul", "Div"]), min_size=1, max_size=4),
)
@settings(max_examples=25, deadline=None)
def test_arithmetic_before_the_first_layer_is_one_mean_and_std(tmp_path_factory, scale, shift, kinds) -> None:
    folder = tmp_path_factory.mktemp("law")
    (folder / "labels.txt").write_text("\n".join(LABELS))
    held = {"m": np.float32(scale).reshape(1, 3, 1, 1), "a": np.float32(shift).reshape(3, 1, 1)}
    steps = [(kind, "a" if kind in ("Add", "Sub") else "m") for kind in kinds]
    model = foreign(arithmetic(*steps), constants=held)
    source = adopted(model, Told(labels=folder / "labels.txt", mean=(0.0,) * 3, std=(1.0,) * 3), folder)
    artifact, _ = export_source(source, folder / "out", PHOTOS)
    require_same(answers(artifact, PHOTOS), run_plainly(model, UNIT))


def test_mean_and_std_beside_a_graph_that_normalizes_are_refused(told: Told, tmp_path: Path) -> None:
    model = foreign(arithmetic(("Sub", "m"), ("Div", "s")), constants={"m": MEAN, "s": STD})
    with pytest.raises(BadInput, match="normalizes by itself, and mean or std are told") as caught:
        adopted(model, told, tmp_path)
    assert "leave --mean and --std out" in caught.value.fix


# Keras and TensorFlow: a Python of its own, here one that plays it, and the real one where it is named


def plays_tensorflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> str:
    """A program in place of a Python with TensorFlow; returns the file that it is asked about."""
    program = tmp_path / "python"
    program.write_text(f"#!{sys.executable}\nimport shutil, sys\nfrom pathlib import Path\n"
                       f"_, job, text, *files = sys.argv[1:]\n{code}\n")  # fmt: skip
    program.chmod(0o755)
    monkeypatch.setenv(keras.PYTHON, str(program))
    (tmp_path / "net.keras").write_bytes(b"weights")
    return str(tmp_path / "net.keras")


CONVERTS = "if job == 'convert': shutil.copy(Path(text).with_name('theirs.onnx'), files[0])\nelse: "
RUNS = (
    "import numpy as np, onnxruntime; run = onnxruntime.InferenceSession(Path(text).with_name('theirs.onnx')).run; "
    "np.save(files[1], {0} * np.concatenate([run(None, {{'x': each[None]}})[0] for each in np.load(files[0])]))"
)


def test_a_keras_file_is_held_against_what_tensorflow_answers(told: Told, tmp_path: Path, monkeypatch) -> None:
    onnx.save(foreign(layout="NHWC", before=[helper.make_node("Transpose", ["x"], ["images"], perm=[0, 3, 1, 2])]),
              tmp_path / "theirs.onnx")  # fmt: skip
    source = open_source(plays_tensorflow(tmp_path, monkeypatch, CONVERTS + RUNS.format(1)), told)
    assert source.kind == "TensorFlow" and any(".pt2" in note for note in source.notes)
    artifact, parity = export_source(source, tmp_path / "out", PHOTOS)
    assert parity.photos == len(PHOTOS) and artifact.manifest.labels == LABELS
    other = open_source(plays_tensorflow(tmp_path, monkeypatch, CONVERTS + RUNS.format(1.01)), told)
    with pytest.raises(ParityFailed):
        export_source(other, tmp_path / "other", PHOTOS)
    assert not (tmp_path / "other").exists()


def test_parity_is_of_the_output_that_classifies(told: Told, tmp_path: Path, monkeypatch) -> None:
    model = foreign(layout="NHWC", before=[helper.make_node("Transpose", ["x"], ["images"], perm=[0, 3, 1, 2])])
    features = helper.make_tensor_value_info("p", TensorProto.FLOAT, None)
    model.graph.output.insert(0, features)
    onnx.save(model, tmp_path / "theirs.onnx")
    code = CONVERTS + RUNS.format(1).replace("{'x': each[None]})[0]", "{'x': each[None]})[int(files[2])]")
    source = open_source(plays_tensorflow(tmp_path, monkeypatch, code), told)
    _, parity = export_source(source, tmp_path / "out", PHOTOS)
    assert parity.top1_agreement == 1


@pytest.mark.parametrize(
    ("code", "error", "said"),
    [
        ("raise ValueError('Lambda layers are refused')", BadInput, "cannot convert it .*Lambda layers are refused"),
        ("import a_library_that_is_absent", EngineMissing, "No module named 'a_library_that_is_absent'"),
        ("sys.exit(3)", BadInput, "exit 3"),
        ("import os; print('starts', file=sys.stderr); os.kill(os.getpid(), 9)", BadInput, "killed by signal 9"),
        ("sys.exit('tiffin: ValueError: two inputs\\nFull config: {}')", BadInput, r"it \(ValueError: two inputs\)"),
        ("pass", BadInput, "wrote no ONNX file"),
    ],
)
def test_what_tensorflow_cannot_convert_is_one_error(
    told: Told, tmp_path: Path, monkeypatch, code: str, error: type[TiffinError], said: str
) -> None:
    text = plays_tensorflow(tmp_path, monkeypatch, code)
    with pytest.raises(error, match=said) as caught:
        open_source(text, told)
    assert caught.value.expected and caught.value.fix


def test_without_tensorflow_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(keras.PYTHON, raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    for name in ("net.keras", "net.h5", "net.tflite"):
        with pytest.raises(BadInput, match="no such file"):
            open_source(name)
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(EngineMissing, match="TensorFlow is not installed") as caught:
            open_source(str(tmp_path / name))
        assert "pip install tensorflow tf2onnx" in caught.value.fix and keras.PYTHON in caught.value.fix
    with pytest.raises(EngineMissing):
        open_source(str(tmp_path))
    monkeypatch.setenv(keras.PYTHON, str(tmp_path / "absent"))
    with pytest.raises(BadInput, match="cannot be started"):
        open_source(str(tmp_path / "net.keras"))


KERAS_NET = """
import keras, sys
from keras import layers
keras.utils.set_random_seed(0)
photos = keras.Input((32, 32, 3))
x = layers.Rescaling(1 / 127.5, offset=-1)(photos)
x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
x = layers.GlobalAveragePooling2D()(layers.DepthwiseConv2D(3, padding="same", activation="hard_swish")(x))
network = keras.Model(photos, layers.Dense(4, activation="softmax")(x))
network.save("net.keras")
network.save("net.h5")
network.export("net", verbose=False)
import tensorflow as tf
open("net.tflite", "wb").write(tf.lite.TFLiteConverter.from_saved_model("net").convert())
network = keras.Sequential([keras.Input((8, 8, 3)), layers.Lambda(lambda x: x), layers.GlobalAveragePooling2D()])
network.save("code.keras")
network.save("code.h5")
photo = keras.Input(batch_shape=(2, 32, 32, 3))
pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3)(photo))
keras.Model(photo, {"all": pooled, "of": layers.Dense(4)(pooled)}).export("two", verbose=False)
"""


@pytest.mark.skipif(keras.PYTHON not in os.environ, reason=f"${keras.PYTHON} names no Python with TensorFlow")
def test_real_keras_files_come_through(tmp_path: Path) -> None:
    made = subprocess.run([os.environ[keras.PYTHON], "-c", KERAS_NET], cwd=tmp_path, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    told = Told(labels=tmp_path / "labels.txt", fit="squeeze", interpolation="bilinear")
    for name in ("net.keras", "net.h5", "net", "net.tflite"):
        source = open_source(str(tmp_path / name), told)
        assert source.model.preprocess.mean == pytest.approx((127.5,) * 3)
        artifact, _ = export_source(source, tmp_path / f"out-{name}", PHOTOS)
        assert artifact.manifest.labels == LABELS
    for name in ("code.keras", "code.h5"):
        with pytest.raises(BadInput, match="Lambda"):
            open_source(str(tmp_path / name), told)
    two = open_source(str(tmp_path / "two"), dataclasses.replace(told, mean=HALF, std=HALF))
    export_source(two, tmp_path / "out-two", PHOTOS[:3])


# Which loader, and its name


def test_every_string_finds_its_loader_or_an_error_that_lists_them(tmp_path: Path, checkpoint_file: Path) -> None:
    source = open_source(str(checkpoint_file))
    assert source.kind == "checkpoint" and source.model.labels == LABELS
    for text in ("nothing at all", str(tmp_path / "absent.zip"), str(tmp_path)):
        with pytest.raises(BadInput, match="no source|no such file") as caught:
            open_source(text)
        assert "hf:FOLDER" in caught.value.expected
    with pytest.raises(BadInput, match="with --weights"):
        open_source(str(checkpoint_file), Told(weights=checkpoint_file))


def test_what_is_told_of_a_checkpoint_wins(checkpoint_file: Path) -> None:
    told = open_source(str(checkpoint_file), Told(fit="squeeze", crop_fraction=1.0)).model.preprocess
    assert (told.fit, told.crop_fraction, told.height) == ("squeeze", 1.0, 32)
    assert dict(told.golden) == golden_hashes(told)
    assert told.golden != open_source(str(checkpoint_file)).model.preprocess.golden


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("timm:resnet50", "resnet50"),
        ("hf:me/net.v2", "net.v2"),
        ("a.b:make", "make"),
        ("x/net.onnx", "net"),
        ("hf:/", "model"),
    ],
)
def test_sources_have_short_names(text: str, name: str) -> None:
    assert short_name(text) == name


def test_code_that_changed_beside_the_same_weights_is_another_source(mine, told: Told, tmp_path: Path) -> None:
    told = with_weights(told, tmp_path / "w.pt", network().state_dict())
    one, same, other = (
        open_source(mine(code), told) for code in (MAKE, MAKE, MAKE.replace("nn.ReLU()]", "nn.Tanh()]"))
    )
    relabelled = dataclasses.replace(one.model, labels=LABELS[::-1])
    assert one.key == same.key != dataclasses.replace(one, model=relabelled).key
    assert other.key != one.key


# A dataset's classes and a model's labels


def classes(*labels: str) -> Dataset:
    photos = tuple(Photo(Path(f"{label}.jpg"), index) for index, label in enumerate(labels))
    return Dataset("set", Path(), labels, {"confirm": photos}, coarse=tuple(f"some {label}" for label in labels))


def test_classes_are_found_by_name_among_more_labels_in_another_order() -> None:
    found, note = read_as(classes("pear", "apple"), LABELS, "the model")
    assert [photo.label for photo in found.role("confirm")] == [3, 0] and "by name" in note
    assert found.labels == LABELS and found.coarse == ("some apple", "leek", "milk", "some pear")
    same = classes(*LABELS)
    assert read_as(same, LABELS, "the model") == (same, "")


def test_a_class_that_a_model_has_twice_is_refused() -> None:
    labels = ("dog", "crane", "cat", "crane")
    with pytest.raises(BadDataset, match="net has several classes called crane"):
        read_as(classes("cat", "crane"), labels, "net")
    assert [photo.label for photo in read_as(classes("cat", "dog"), labels, "net")[0].role("confirm")] == [2, 0]


def test_classes_without_a_name_in_common_are_taken_by_position_and_said() -> None:
    found, note = read_as(classes("Apfel", "Lauch", "Milch", "Birne"), LABELS, "the model")
    assert found.labels == LABELS and note.startswith("WARNING") and "'Apfel' as 'apple'" in note


@pytest.mark.parametrize("labels", [("apple", "kiwi"), ("apple", "leek", "milk", "kiwi")])
def test_classes_that_a_model_does_not_know_are_refused(labels: tuple[str, ...]) -> None:
    with pytest.raises(BadDataset, match=r"1 of \d classes of set are no labels of net: kiwi"):
        read_as(classes(*labels), LABELS, "net")


# The whole way


QUICK = RoundOptions(launches=2, max_launches=2, blocks=2, block_s=0.01, warmup_s=0.01, target=None)


class Silent:
    def say(self, line: str) -> None: ...

    def bar(self, name: str, total: int):
        return lambda done: None

    def timing(self, status) -> None: ...

    def timed(self) -> None: ...


def trained_module(checkpoint, mine, told: Told, tmp_path: Path):
    code = "from tiffin.train.network import build_network\n\ndef make():\n    return build_network('tinynet', 4)\n"
    state = {"state_dict": {f"model.{name}": value for name, value in checkpoint.module.state_dict().items()}}
    told = dataclasses.replace(told, mean=(127.0,) * 3, std=(128.0,) * 3, crop_fraction=0.875)
    return open_source(mine(code), with_weights(told, tmp_path / "w.ckpt", state))


def from_transformers(checkpoint, mine, told: Told, tmp_path: Path):
    save_transformers("resnet", tmp_path / "model")
    return open_source(f"hf:{tmp_path / 'model'}")


def from_onnx(checkpoint, mine, told: Told, tmp_path: Path):
    told = dataclasses.replace(told, mean=(127.0,) * 3, std=(128.0,) * 3, fit="squeeze")
    module = nn.Sequential(copy.deepcopy(checkpoint.module), nn.Softmax(1)).eval()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(1, 3, 32, 32),), tmp_path / "net.onnx", dynamo=False, opset_version=13)
    return open_source(str(tmp_path / "net.onnx"), told)


def test_the_main_job_takes_a_graph(checkpoint, mine, told, photo_folder: Path, tmp_path: Path) -> None:
    recipe = Recipe(tmp_path / "demo", from_onnx(checkpoint, mine, told, tmp_path), photos=24, per_class=2)
    materials = gather(recipe, open_dataset(photo_folder), lambda line: None)
    built = build(recipe, materials, lambda line: None)
    assert list(built.reasons) == ["torch-fp32"] and "has no torch module" in built.reasons["torch-fp32"]
    assert {"fp32", "int8-cpu-ort", "openvino-int8-cpu-nncf"} <= set(built.artifacts)
    assert all(artifact.manifest.labels == LABELS for artifact in built.artifacts.values())
    record = run_demo(recipe, QUICK, open_dataset(photo_folder), Silent())
    assert reference_of(record) == "onnxruntime fp32" and "torch fp32" not in record.predictions
    (told,) = (
        row for row in record_json(record, reference_of(record))["rows"] if row["name"] == "onnxruntime int8 cpu ort"
    )
    assert told["flips"] is not None and told["agreement"]["value"] > 0.8


class Normed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.patches, self.first, self.inner = nn.Conv2d(3, 8, 8, 8), nn.LayerNorm(8), nn.Linear(8, 8)
        self.last, self.head = nn.LayerNorm(8, eps=1e-3), nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        return self.head(self.last(tokens + self.inner(self.first(tokens))).mean(1))


@pytest.mark.filterwarnings("ignore")
def test_layer_norms_that_an_old_opset_writes_out_are_one_node_each(told, tmp_path: Path) -> None:
    module, path = Normed().eval(), tmp_path / "net.onnx"
    torch.onnx.export(module, (torch.zeros(1, 3, 32, 32),), path, dynamo=False, opset_version=13)
    source = open_source(str(path), told)
    assert "2 layer norms in nine nodes each are one node each" in source.notes
    artifact = export_source(source, tmp_path / "fp32", PHOTOS)[0]
    np.testing.assert_allclose(answers(artifact, PHOTOS), wanted(module, PHOTOS), atol=1e-4)
    kinds = Counter(node.op_type for node in onnx.load(artifact.model_path).graph.node)
    assert kinds["LayerNormalization"] == 2 and not {"Pow", "Sqrt"} & set(kinds)
    made = quantize_int8(artifact, PtqOptions(quantizer="ort"), CalibrationSet(PHOTOS, "drawn"), tmp_path / "int8")
    held = {node.output[0]: node.op_type for node in onnx.load(made.model_path).graph.node}
    reads = [node.input for node in onnx.load(made.model_path).graph.node if node.op_type == "LayerNormalization"]
    assert len(reads) == 2 and all(held.get(name) != "DequantizeLinear" for _, *names in reads for name in names)


def test_scalars_in_nodes_of_a_foreign_graph_become_fp16_too(checkpoint, mine, told, tmp_path: Path) -> None:
    source = from_onnx(checkpoint, mine, told, tmp_path)
    assert any(node.op_type == "Constant" for node in onnx.load(tmp_path / "net.onnx").graph.node)
    fp32, _ = export_source(source, tmp_path / "fp32", PHOTOS)
    half = quantize_half(fp32, "fp16", tmp_path / "fp16")
    onnx.checker.check_model(onnx.load(half.model_path), full_check=True)
    wanted, found = (engine_logits(each, RunConfig("onnxruntime"), PHOTOS) for each in (fp32, half))
    assert 0 < np.abs(found - wanted).max() < 0.01 * np.abs(wanted).max()


GREATEST = float(np.finfo(np.float32).max)
HALVED = {
    "still NHWC": foreign([helper.make_node("Pad", ["x", "by"], ["s0"]), TO_NCHW], layout="NHWC",
                          constants={"by": np.array([0, 1, 1, 0, 0, 1, 1, 0])}),
    "no limit": foreign(after=[helper.make_node("Clip", ["y", "low", "high"], ["z"])], output="z",
                        constants={"low": np.float32(-1e30), "high": np.float32(GREATEST)}),
    "a mask": foreign(after=[helper.make_node("Where", ["shown", "y", "hidden"], ["z"])], output="z",
                      constants={"shown": np.array([True, True, False, True]), "hidden": np.float32(-GREATEST)}),
    "filled by its shape": foreign(
        after=[helper.make_node("Shape", ["y"], ["size"]),
               helper.make_node("ConstantOfShape", ["size"], ["ones"],
                                value=helper.make_tensor("value", TensorProto.FLOAT, [1], [1.5])),
               helper.make_node("Add", ["y", "ones"], ["z"])], output="z"),
}  # fmt: skip


@pytest.mark.parametrize("name", HALVED)
def test_a_foreign_graph_has_halves_that_engines_open(told: Told, tmp_path: Path, name: str) -> None:
    fp32, _ = export_source(adopted(HALVED[name], told, tmp_path), tmp_path / "fp32", PHOTOS)
    fp16, bf16 = (quantize_half(fp32, word, tmp_path / word) for word in ("fp16", "bf16"))
    for half, engine in ((fp16, "onnxruntime"), (bf16, "openvino")):
        wanted, found = (engine_logits(each, RunConfig(engine), PHOTOS) for each in (fp32, half))
        assert np.isfinite(found).all()
        seen = np.abs(wanted) < 1e4
        assert np.abs(found - wanted)[seen].max() < 0.05 * np.abs(wanted[seen]).max() and (found[~seen] < -1e4).all()


@pytest.mark.parametrize("scheme", ["cpu", "tensorrt"])
def test_a_max_pool_padded_with_infinity_stays_in_float(told: Told, tmp_path: Path, scheme: str) -> None:
    fp32, _ = export_source(adopted(padded_by(-np.inf), told, tmp_path), tmp_path / "fp32", PHOTOS)
    calibration = CalibrationSet(PHOTOS, "drawn")
    made = quantize_int8(fp32, PtqOptions(scheme, "ort"), calibration, tmp_path / "int8")
    found = engine_logits(made, RunConfig("onnxruntime", graph_level="none"), PHOTOS)
    assert closeness(answers(fp32, PHOTOS), found).sqnr_db > 30
    assert np.isfinite(forecast(onnx.load(fp32.model_path), PHOTOS[:4]).rounded[scheme]).all()
    with pytest.raises(BadInput, match="ranges percentile of a graph that pads with infinity"):
        quantize_int8(fp32, PtqOptions(scheme, "ort", ranges="percentile"), calibration, tmp_path / "other")


def test_int8_of_infinite_values_is_refused_by_their_node(told: Told, tmp_path: Path) -> None:
    after = [helper.make_node("Where", ["shown", "y", "hidden"], ["z"]), helper.make_node("Softmax", ["z"], ["s"]),
             helper.make_node("Add", ["s", "y"], ["end"])]  # fmt: skip
    hidden = {"shown": np.array([True, True, False, True]), "hidden": np.float32(-np.inf)}
    masked = foreign(after=after, output="end", constants=hidden)
    fp32, _ = export_source(adopted(masked, told, tmp_path), tmp_path / "fp32", PHOTOS)
    with pytest.raises(BadInput, match="infinite or NaN values where int8 would round: ") as caught:
        quantize_int8(fp32, PtqOptions("tensorrt"), CalibrationSet(PHOTOS, "drawn"), tmp_path / "int8")
    assert "--float-node" in caught.value.fix


def test_weights_that_fp16_does_not_hold_are_named(told: Told, tmp_path: Path) -> None:
    large = foreign(after=[helper.make_node("Mul", ["y", "large"], ["z"])], output="z", constants={"large": [1e5]})
    fp32, _ = export_source(adopted(large, told, tmp_path), tmp_path / "fp32", PHOTOS)
    with pytest.raises(BadInput, match="too large for fp16: large"):
        quantize_half(fp32, "fp16", tmp_path / "fp16")
    assert quantize_half(fp32, "bf16", tmp_path / "bf16").manifest.precision == "bf16"


def test_a_graph_that_branches_is_exported_and_int8_of_it_refused_in_one_sentence(told: Told, tmp_path: Path) -> None:
    fp32, _ = export_source(adopted(named_in_branches(), told, tmp_path), tmp_path / "fp32", PHOTOS)
    with pytest.raises(BadInput, match=r"branches or loops: .*\(If\)"):
        quantize_int8(fp32, PtqOptions(), CalibrationSet(PHOTOS, "drawn"), tmp_path / "int8")
    with pytest.raises(BadInput, match=r"branches or loops: .*\(If\)"):
        forecast(onnx.load(fp32.model_path), PHOTOS)


def test_a_graph_may_write_its_domain_out(told: Told, tmp_path: Path) -> None:
    model = foreign(opset=20)
    for each in (*model.opset_import, *model.graph.node):
        each.domain = "ai.onnx"
    fp32, _ = export_source(adopted(model, told, tmp_path), tmp_path / "fp32", PHOTOS)
    bf16 = onnx.load(quantize_half(fp32, "bf16", tmp_path / "bf16").model_path)
    assert [(each.domain, each.version) for each in bf16.opset_import] == [("", 22)]


def test_images_are_made_from_any_source_that_has_a_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(synthesis, "SynthesisOptions", partial(SynthesisOptions, coarse_steps=2, fine_steps=1))
    save_transformers("resnet", tmp_path / "model")
    name = f"hf:{tmp_path / 'model'}"
    artifact, _ = export_source(open_source(name), tmp_path / "fp32", PHOTOS)
    assert reopened(artifact, name).model.preprocess == artifact.preprocess
    code, said = run_command("synthesize", tmp_path / "set", "--checkpoint", name)
    assert code == 0, said
    assert made_from(open_dataset(tmp_path / "set")) == artifact.manifest.checkpoint
    config = tmp_path / "model" / "preprocessor_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "image_mean": [0.1, 0.1, 0.1]}))
    with pytest.raises(BadInput, match="more was told at its export"):
        data_free(artifact, name, tmp_path / "cache")
    onnx.save(foreign(), tmp_path / "theirs.onnx")
    for text, said in ((artifact.model_path, "has no torch module"), (tmp_path / "theirs.onnx", "unknown")):
        with pytest.raises(BadInput, match=said):
            reopened(artifact, str(text))


@pytest.mark.parametrize("make", [trained_module, from_transformers, from_onnx])
def test_a_source_goes_through_optimize(make, checkpoint, mine, told, photo_folder: Path, tmp_path: Path) -> None:
    source = make(checkpoint, mine, told, tmp_path)
    dataset = open_dataset(photo_folder)
    train = sorted(dataset.role("train"), key=lambda photo: photo.path.name)
    dataset = dataclasses.replace(
        dataset, roles={**dataset.roles, "calibrate": tuple(train[:16]), "select": tuple(train[16:])}
    )
    out = tmp_path / "search"
    options = SearchOptions(out, 120.0, ("onnxruntime",), (1,), QUICK)
    answer = optimize([source], roles(dataset, 4, 0, out / "cache"), Budget(max_drop=0.5), options, Silent())
    assert answer.artifact is not None and answer.artifact.manifest.labels == LABELS
    assert answer.artifact.preprocess == source.model.preprocess
    int8 = [row for row in answer.choice.rows if "int8" in row.name and row.flips is not None]
    assert int8 and all(row.cost is not None or row.refused for row in answer.choice.rows)


def run_command(*words: object) -> tuple[int, str]:
    from typer.testing import CliRunner

    from tiffin.cli.app import app

    done = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(done.exception, TiffinError):
        return done.exception.exit_code, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_the_command_shows_a_source_before_it_uses_it(told: Told, photo_folder: Path, tmp_path: Path) -> None:
    onnx.save(foreign(size=(24, 40)), tmp_path / "theirs.onnx")
    words = ["export", tmp_path / "theirs.onnx", "--labels", told.labels, "--mean", "0.5", "--std", "0.5,0.5,0.5"]
    code, said = run_command(
        *words, "--size", "24x40", "--fit", "squeeze", "--data", photo_folder, "--out", tmp_path / "out"
    )
    assert code == 0 and said.index("labels 4: apple, leek, milk, …") < said.index("parity on")
    assert "preprocess: squeezed to 24×40" in said and "top-1 agreement 100.00%" in said
    assert Artifact.load(tmp_path / "out").preprocess.fit == "squeeze"
    for option, value in (("--size", "24by40"), ("--mean", "a,b,c"), ("--std", "1,2"), ("--channels", "GBR")):
        code, said = run_command(*words, option, value, "--data", photo_folder, "--out", tmp_path / "out")
        assert code == 2 and value in said


def test_a_librarys_own_transform_is_held_against_the_host_part(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_transformers("convnext", tmp_path / "model")
    words = [f"hf:{tmp_path / 'model'}", "--data", photo_folder, "--out"]
    code, said = run_command("export", *words, tmp_path / "out")
    assert code == 0 and "the transform of transformers prepares" in said
    read = huggingface.host_fields
    monkeypatch.setattr(huggingface, "host_fields", lambda config: {**read(config), "interpolation": "bilinear"})
    (tmp_path / "labels.txt").write_text("\n".join(LABELS))
    graph = ("--also", words[0], "--labels", tmp_path / "labels.txt", "--mean", "0.5", "--std", "0.5")
    onnx.save(foreign(), tmp_path / "theirs.onnx")
    for command in (("export", words[0]), ("optimize", words[0]), ("demo", words[0]),
                    ("optimize", tmp_path / "theirs.onnx", *graph)):  # fmt: skip
        code, said = run_command(*command, *words[1:], tmp_path / "other")
        assert code == 1 and "likeliest cause: the reference has photos resized by bicubic" in said, said
        assert ("`tiffin export hf:" if "--also" in command else "tell --preprocess") in said
        assert (tmp_path / "other-preprocessing.png").is_file()
        assert not (tmp_path / "other" / "manifest.json").exists()
    for accepted in (("--reference", "none"), ("--fit", "squeeze"), ("--interpolation", "bilinear")):
        code, said = run_command("export", *words, tmp_path / f"as-told-{accepted[1]}", *accepted)
        assert code == 0 and ("prepares" in said) == (accepted[0] == "--interpolation")  # of the same filter


def test_a_processor_that_transformers_does_not_know_is_said(tmp_path: Path) -> None:
    save_transformers("convnext", tmp_path / "model")
    raw = json.loads((tmp_path / "model" / "preprocessor_config.json").read_text())
    named = {**raw, "image_processor_type": "NobodysImageProcessor"}
    (tmp_path / "model" / "preprocessor_config.json").write_text(json.dumps(named))
    source = open_source(f"hf:{tmp_path / 'model'}")
    assert source.transform is None and any("was not checked" in note for note in source.notes)


def test_photos_of_other_classes_are_refused_before_anything_is_scored(onnx_artifact: Artifact, tmp_path: Path) -> None:
    for name in (*LABELS[:3], "kiwi"):
        for split in ("train", "test"):
            (tmp_path / split / name).mkdir(parents=True)
            Image.fromarray(PHOTOS[len(name)]).save(tmp_path / split / name / "0.png")
    for command in ("score", "certify", "robustness"):
        code, said = run_command(command, onnx_artifact.folder, "--data", tmp_path, "--out", tmp_path / "record.json")
        assert code == 2 and "1 of 4 classes of" in said and "kiwi" in said, said
    code, said = run_command("optimize", onnx_artifact.folder, "--fit", "squeeze", "--data", tmp_path)
    assert code == 2 and "is an artifact" in said
