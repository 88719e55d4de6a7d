"""Fixtures built once a session by the real code: a tiny classifier, trained, exported, compiled; never stored."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

if TYPE_CHECKING:
    from tiffin.artifact import Artifact
    from tiffin.tests.command import Run
    from tiffin.train import Checkpoint

# Before torch is imported, here and in what tests start: a tiny network gains nothing by a second thread, which spins
# where tests side by side have the cores; and its bits no longer depend on how many there are.
os.environ.setdefault("OMP_NUM_THREADS", "1")

LABELS = ("apple", "leek", "milk", "pear")
# Neighbouring classes share a hue and differ in the direction of their stripes, so that some photos are hard.
_HUES = np.array([[200, 60, 50], [60, 180, 70], [200, 90, 60], [80, 150, 90]], np.float64)


def draw(label: int, rng: np.random.Generator, height: int = 32, width: int = 32) -> np.ndarray:
    """One photo of a class: striped, tinted, lit unevenly and noisy; uint8 RGB `(height, width, 3)`."""
    y, x = np.mgrid[0:height, 0:width]
    along = y if label % 2 else x
    stripes = 40 * np.sin(along * rng.uniform(0.8, 1.4) + rng.uniform(0, 6))
    light = rng.uniform(-40, 40) + rng.uniform(-1, 1) * x + rng.uniform(-1, 1) * y
    tint = _HUES[label] + rng.normal(0, 25, 3)
    noise = rng.normal(0, 20, (height, width, 3))
    return np.clip(tint + (stripes + light)[..., None] + noise, 0, 255).astype(np.uint8)


def draw_many(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Photos uint8 `(count, 32, 32, 3)` of all classes in turn, and their classes."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % len(LABELS)
    return np.stack([draw(int(label), rng) for label in truth]), truth


@pytest.fixture
def run_tiffin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Run a command as the console's entry does, within this process: an exception that escapes fails the test."""
    from tiffin.cli.app import main
    from tiffin.tests.command import Ended

    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.delenv("TIFFIN_DEBUG", raising=False)
    monkeypatch.delenv("TIFFIN_DATA", raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["tiffin", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        shown = capsys.readouterr()
        return Ended(ended.value.code or 0, shown.out, shown.err)  # type: ignore[arg-type]

    yield run
    for number, handler in kept.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def photos() -> np.ndarray:
    """64 prepared photos that training did not see: uint8 `(64, 32, 32, 3)`, classes in turn."""
    return draw_many(64, seed=1)[0]


@pytest.fixture(scope="session")
def checkpoint_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny trained checkpoint on disk."""
    from tiffin.artifact import Preprocess
    from tiffin.runtime.preprocess import with_golden
    from tiffin.train import Checkpoint
    from tiffin.train.checkpoint import save_checkpoint

    host = with_golden(
        Preprocess(32, 32, crop_fraction=0.875, interpolation="bicubic", mean=(127.0,) * 3, std=(128.0,) * 3)
    )
    path = tmp_path_factory.mktemp("checkpoint") / "tiny.safetensors"
    return save_checkpoint(path, Checkpoint(_train(), "tinynet", LABELS, host, sha256=""))


def _train():  # type: ignore[no-untyped-def]
    import torch

    from tiffin.train.network import build_network

    pixels, truth = draw_many(512, seed=0)
    images = (torch.from_numpy(pixels).float().permute(0, 3, 1, 2) - 127) / 128
    labels = torch.from_numpy(truth)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network("tinynet", len(LABELS)).train()
        optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
        for _ in range(8):
            for rows in torch.randperm(len(labels)).split(64):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(network(images[rows]), labels[rows]).backward()
                optimizer.step()
    return network.eval()


@pytest.fixture(scope="session")
def checkpoint(checkpoint_file: Path) -> Checkpoint:
    """A tiny classifier of four classes at 32×32, trained for 64 steps."""
    from tiffin.train import load_checkpoint

    return load_checkpoint(checkpoint_file)


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset in the layout SPLIT/CLASS/photo, JPEG and PNG: 12 train, 4 val, 12 test a class, no two alike."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(2)
    for split, count in (("train", 12), ("val", 4), ("test", 12)):
        for label, name in enumerate(LABELS):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                height, width = (int(side) for side in rng.integers(36, 52, 2))
                ending = "jpg" if index % 2 else "png"
                Image.fromarray(draw(label, rng, height, width)).save(folder / f"{index:02}.{ending}")
    return root


@pytest.fixture(scope="session")
def onnx_artifact(checkpoint: Checkpoint, photos: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The checkpoint as an fp32 ONNX artifact."""
    from tiffin.export.to_onnx import to_onnx

    return to_onnx(checkpoint, tmp_path_factory.mktemp("onnx") / "model", photos)[0]


@pytest.fixture(scope="session")
def pt2_artifact(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The checkpoint as a torch program."""
    from tiffin.export.to_pt2 import to_pt2

    return to_pt2(checkpoint, tmp_path_factory.mktemp("pt2") / "model")


@pytest.fixture(scope="session")
def openvino_artifact(onnx_artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The ONNX artifact compiled to OpenVINO's IR."""
    from tiffin.export.to_openvino import to_openvino

    return to_openvino(onnx_artifact, tmp_path_factory.mktemp("openvino") / "model")


@pytest.fixture(scope="session")
def classifier_artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The shipped checkpoint, EfficientNet-Lite0 at 224×224, as an fp32 ONNX artifact."""
    from tiffin.export.to_onnx import to_onnx
    from tiffin.train import DEFAULT_CHECKPOINT, load_checkpoint

    shown = np.random.default_rng(3).integers(0, 256, (4, 224, 224, 3), dtype=np.uint8)
    return to_onnx(load_checkpoint(DEFAULT_CHECKPOINT), tmp_path_factory.mktemp("classifier") / "model", shown)[0]


@pytest.fixture(scope="session")
def resnet50_photos() -> np.ndarray:
    """Drawn photos uint8 `(8, 64, 64, 3)`."""
    rng = np.random.default_rng(4)
    return np.stack([draw(index % len(LABELS), rng, 64, 64) for index in range(8)])


@pytest.fixture(scope="session")
def resnet50_artifact(resnet50_photos: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """ResNet-50 of ten classes at 64×64, untrained, as an fp32 ONNX artifact."""
    from tiffin.artifact import Preprocess
    from tiffin.export.to_onnx import to_onnx
    from tiffin.runtime.preprocess import with_golden
    from tiffin.train import Checkpoint

    host = with_golden(Preprocess(64, 64, crop_fraction=0.875, mean=(127.0,) * 3, std=(128.0,) * 3))
    labels = tuple(f"class {index}" for index in range(10))
    checkpoint = Checkpoint(_resnet50(len(labels), resnet50_photos), "resnet50", labels, host, sha256="0" * 64)
    return to_onnx(checkpoint, tmp_path_factory.mktemp("resnet50") / "model", resnet50_photos)[0]


def _resnet50(classes: int, photos: np.ndarray):  # type: ignore[no-untyped-def]
    """He et al. 2015, arXiv 1512.03385, table 1; stride in the 3×3 convolution (v1.5). Weights drawn with one seed.

    BatchNorm's statistics are those of `photos`, so that activations neither vanish nor grow.
    """
    import torch
    from torch import nn

    from tiffin.train.zoo.layers import GlobalMean

    def convolution(inputs: int, outputs: int, size: int, stride: int = 1) -> list[nn.Module]:
        weights = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        return [weights, nn.BatchNorm2d(outputs, momentum=1.0)]

    class Bottleneck(nn.Module):
        def __init__(self, inputs: int, width: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                *convolution(inputs, width, 1), nn.ReLU(), *convolution(width, width, 3, stride), nn.ReLU(),
                *convolution(width, 4 * width, 1),
            )  # fmt: skip
            same = stride == 1 and inputs == 4 * width
            self.shortcut = nn.Identity() if same else nn.Sequential(*convolution(inputs, 4 * width, 1, stride))

        def forward(self, features: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.body(features) + self.shortcut(features))

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        layers, inputs = [*convolution(3, 64, 7, 2), nn.ReLU(), nn.MaxPool2d(3, 2, 1)], 64
        for width, count, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
            for index in range(count):
                layers.append(Bottleneck(inputs, width, stride if index == 0 else 1))
                inputs = 4 * width
        network = nn.Sequential(*layers, GlobalMean(), nn.Flatten(), nn.Linear(inputs, classes)).train()
        network(torch.from_numpy(photos).float().permute(0, 3, 1, 2).sub(127).div(128))
    return network.eval()
