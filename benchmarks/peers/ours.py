"""Make one of our int8 artifacts once more, in a process as the peers' are, so that its time can be told.

python ours.py FP32_ARTIFACT ARTIFACT CALIBRATE.npy OUT
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import numpy as np

from tiffin.artifact import Artifact
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_int8


def main() -> None:
    """Same source, photos and options, as the manifest tells them."""
    fp32, ours, photos, out = (Path(word) for word in sys.argv[1:])
    told = Artifact.load(ours).manifest
    known = {field.name for field in dataclasses.fields(PtqOptions)}
    asked = {name: value for name, value in told.producer.options.items() if name in known}
    options = PtqOptions(**{**asked, "float_nodes": tuple(asked.get("float_nodes", ()))})
    source = str(told.producer.options["calibration_source"])
    quantize_int8(Artifact.load(fp32), options, CalibrationSet(np.load(photos), source, told.calibration), out)


if __name__ == "__main__":
    main()
