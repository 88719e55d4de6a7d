"""A network that is no classifier, to int8 and back: python segmentation.py. Put your own in place of `network`."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from tiffin import load
from tiffin.artifact import Preprocess
from tiffin.export.module import export_module
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_int8
from tiffin.records.fidelity import iou

torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2),
    nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.ConvTranspose2d(16, 3, 2, stride=2),
)  # fmt: skip
host = Preprocess(64, 64, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))  # as it was trained: inside the artifact
photos = np.random.default_rng(0).integers(0, 256, (64, 64, 64, 3), dtype=np.uint8)  # yours, prepared to 64×64

fp32, parity = export_module(
    network, {"photos": photos[:8]}, Path("out/segmentation"), "segmentation", ["scores"], host
)
print("largest difference from torch:", parity.max_relative)
int8 = quantize_int8(fp32, PtqOptions(), CalibrationSet(photos[:48], "mine"), Path("out/segmentation-int8"))

with load(fp32) as one, load(int8) as other:
    wanted, found = (each.run({"photos": photos[48:]})["scores"].argmax(axis=1) for each in (one, other))
print(f"int8 against fp32: mean IoU {np.nanmean(iou(found, wanted, classes=3)):.3f}")
