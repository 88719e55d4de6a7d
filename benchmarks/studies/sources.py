"""Networks of timm, torchvision and Keras as sources: does each come through export, OpenVINO and int8?

    python benchmarks/studies/sources.py DATA RECORD.json [--only timm:|torchvision:|keras:|NAME]... [--again]
    python benchmarks/studies/sources.py --table docs/sources.md RECORD.json

It runs in an environment that has the libraries (`make sources`): torchvision's binaries need the torch that they were
built for. No weights are fetched: each network gets drawn ones and ten classes; so answers are compared, and nobody's
accuracy is. Each is a process of its own; rows that RECORD.json has of the same libraries and photos are taken over,
with `--again` but for those that did not come through, with `--anew` none that is asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tiffin import machine
from tiffin.artifact import Artifact, Preprocess, RunConfig
from tiffin.artifact.files import replace_files
from tiffin.benchmarks.preprocessing import TOLERANCE, compare
from tiffin.benchmarks.studies.page import fill
from tiffin.benchmarks.studies.steps import run_step
from tiffin.cli.render import Table, say
from tiffin.data import Dataset, balanced, find_dataset, sample
from tiffin.data.prepared import prepare_photos
from tiffin.errors import EngineFailed, EngineMissing, TiffinError
from tiffin.export.from_source import export_source
from tiffin.export.loaders import Source, Told, open_source
from tiffin.export.loaders.keras import PYTHON
from tiffin.export.logits import engine_logits
from tiffin.export.parity import compared
from tiffin.quantize.calibration import CalibrationSet
from tiffin.quantize.options import PtqOptions
from tiffin.quantize.quantize import quantize_int8
from tiffin.records.closeness import closeness
from tiffin.runtime.decode import decode

CLASSES = 10
LIMIT_S = 900.0
FAMILIES = {
    "torchvision": (
        "alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_v2_s", "googlenet", "inception_v3",
        "maxvit_t", "mnasnet1_0", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "regnet_x_400mf",
        "regnet_y_400mf", "resnet18", "resnet50", "resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_1", "swin_t",
        "swin_v2_t", "vgg11_bn", "vit_b_16",
    ),
    "timm": (
        "convnextv2_atto", "cspresnet50", "deit_tiny_patch16_224", "dla34", "edgenext_xx_small", "efficientformer_l1",
        "efficientvit_b0", "ese_vovnet19b_dw", "eva02_tiny_patch14_224", "fastvit_t8", "ghostnet_100",
        "hrnet_w18_small", "inception_resnet_v2", "lcnet_050", "levit_128s", "mixnet_s", "mobilenetv4_conv_small",
        "mobileone_s0", "mobilevit_s", "nf_resnet50", "repvgg_a0", "res2net50_26w_4s", "resnet50", "rexnet_100",
        "tf_efficientnet_lite0", "tinynet_a", "xception41",
    ),
    "keras": (
        "ConvNeXtTiny.keras", "DenseNet121.keras", "EfficientNetB0.keras", "EfficientNetV2B0.keras",
        "InceptionV3.keras", "MobileNetV2.keras", "MobileNetV2.h5", "MobileNetV2.tflite", "MobileNetV2",
        "MobileNetV3Small.keras", "NASNetMobile.keras", "ResNet50.keras", "VGG16.keras", "Xception.keras",
    ),
}  # fmt: skip
# What keras.applications' `preprocess_input` does to levels, where it does anything.
_CAFFE = {"mean": (103.939, 116.779, 123.68), "std": (1.0, 1.0, 1.0), "channels": "BGR"}
_TF = {"mean": (127.5,) * 3, "std": (127.5,) * 3}
_TORCH = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_KERAS: dict[str, dict[str, Any]] = {
    "DenseNet121": _TORCH, "InceptionV3": _TF, "MobileNetV2": _TF, "NASNetMobile": _TF, "ResNet50": _CAFFE,
    "VGG16": _CAFFE, "Xception": _TF, "MobileNetV3Small": {"size": (224, 224)},
}  # fmt: skip


def names() -> list[str]:
    """`family:name` of each."""
    return [f"{family}:{name}" for family, each in FAMILIES.items() for name in each]


def drawn(name: str, work: Path) -> tuple[str, Told]:
    """A source with drawn weights: its string, and what must be told of it."""
    import torch

    labels = work / "labels.txt"
    labels.write_text("\n".join(f"class {number}" for number in range(CLASSES)) + "\n")
    family, _, stem = name.partition(":")
    if family == "keras":
        return _keras(stem, work, labels)
    torch.manual_seed(0)
    module = _timm(stem) if family == "timm" else _torchvision(stem)
    for weights in module.parameters():
        if not weights.detach().any():  # a residual's last scale, a head: zero, it would hide what is before it
            torch.nn.init.normal_(weights, std=0.02)
    torch.save(module.state_dict(), work / "weights.pt")
    return name, Told(weights=work / "weights.pt", labels=labels)


def _timm(name: str) -> Any:
    import timm

    return timm.create_model(name, pretrained=False, num_classes=CLASSES)


def _torchvision(name: str) -> Any:
    from torchvision import models

    return models.get_model(name, weights=None, num_classes=CLASSES)


def _keras(name: str, work: Path, labels: Path) -> tuple[str, Told]:
    network, ending = Path(name).stem, Path(name).suffix
    path = work / f"{network}{ending}"
    script = Path(__file__).with_name("sources_keras.py")
    made = subprocess.run([os.environ[PYTHON], str(script), network, str(path)], capture_output=True, text=True)
    if made.returncode:
        raise EngineFailed(f"{network} cannot be made: {(made.stderr.splitlines() or [''])[-1]}")
    told = {"interpolation": "bilinear", "fit": "squeeze", **_KERAS.get(network, {})}
    return str(path), Told(labels=labels, **told)


class Study:
    """The photos that every network answers."""

    def __init__(self, dataset: Dataset, work: Path, photos: int) -> None:
        self._dataset, self._work = dataset, work
        self._shown = sample(dataset.role("confirm"), photos, 0)

    def row(self, name: str) -> dict[str, Any]:
        """What became of a network; `reason` says at which stage it ended, where it did not come through."""
        folder = self._work / name.replace(":", "-")
        folder.mkdir(parents=True, exist_ok=True)
        row: dict[str, Any] = {"source": name}
        began = time.monotonic()
        for stage in (self._exported, self._openvino, self._int8):
            try:
                stage(name, folder, row)
            except TiffinError as error:
                row["reason"] = f"{stage.__name__.strip('_')}: {error.what}"
                break
        return {**row, "seconds": time.monotonic() - began}

    def _photos(self, host: Preprocess) -> np.ndarray:
        return np.asarray(prepare_photos(self._shown, host, self._work / "cache").array())

    def _exported(self, name: str, folder: Path, row: dict[str, Any]) -> None:
        text, told = drawn(name, folder)
        source: Source = open_source(text, told)
        host = source.model.preprocess
        row |= {"input": [host.height, host.width], "resized": list(host.resized), "filter": host.interpolation,
                "notes": list(source.notes)}  # fmt: skip
        if source.transform:
            row["levels"] = compare(host, source.transform, [photo.path for photo in self._shown], decode).largest
        artifact, parity = export_source(source, folder / "fp32", self._photos(host))
        row |= {"parity": parity.to_json(), "bytes": artifact.model_path.stat().st_size}

    def _openvino(self, name: str, folder: Path, row: dict[str, Any]) -> None:
        artifact = Artifact.load(folder / "fp32")
        photos = self._photos(artifact.preprocess)
        wanted = engine_logits(artifact, RunConfig("onnxruntime"), photos)
        found = engine_logits(artifact, RunConfig("openvino"), photos)
        row["openvino"] = compared(found, wanted, "openvino").to_json()

    def _int8(self, name: str, folder: Path, row: dict[str, Any]) -> None:
        artifact = Artifact.load(folder / "fp32")
        some = balanced(self._dataset.role("calibrate"), 1, 0)[: len(self._shown)]
        prepared = prepare_photos(some, artifact.preprocess, self._work / "cache")
        calibration = CalibrationSet.of(prepared, self._dataset.name)
        made = quantize_int8(artifact, PtqOptions("cpu", "ort"), calibration, folder / "int8")
        photos = self._photos(artifact.preprocess)
        found, wanted = (engine_logits(each, RunConfig("onnxruntime"), photos) for each in (made, artifact))
        row["int8"] = {"sqnr_db": closeness(wanted, found).sqnr_db, "bytes": made.model_path.stat().st_size}


def page(record: dict[str, Any]) -> str:
    """The table and its notes, in Markdown."""
    head = ("source", "input", "parity Δ", "OpenVINO Δ", "photos, levels", "int8, dB", "came through")
    rows = []
    for row in record["rows"]:
        high, wide = row.get("input", ("–", "–"))
        rows.append([
            f"`{row['source']}`", f"{high}×{wide}", _relative(row.get("parity")), _relative(row.get("openvino")),
            f"{row['levels']:.2f}" if "levels" in row else "–",
            f"{row['int8']['sqnr_db']:.1f}" if "int8" in row else "–", shortfall(row) or "yes",
        ])  # fmt: skip
    through = sum(not shortfall(row) for row in record["rows"])
    said = (
        f"{through} of {len(rows)} came through, by {record['created'][:10]}; drawn weights",
        *dict.fromkeys(f"with {_libraries(row['versions'])}, {row['photos']} photos" for row in record["rows"]),
        "Δ: greatest difference of an answer, as a part of the greatest; parity is against the source's own library, "
        "OpenVINO against ONNX Runtime. Photos: greatest difference to the library's own transform, of 255 levels",
    )
    return Table(head, rows, left=1).markdown() + "\n\n" + "\n".join(f"- {line}" for line in said)


def _libraries(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def shortfall(row: dict[str, Any]) -> str:
    """Why a network did not come through, empty where it did; int8 need only be built and answer."""
    if "reason" in row:
        return row["reason"]
    if round(row.get("levels", 0.0), 1) > TOLERANCE:
        return f"photos are prepared otherwise: {row['levels']:.0f} levels"
    if row["openvino"]["max_relative"] > row["openvino"]["tolerance"]:
        return "OpenVINO answers otherwise"
    return ""


def _relative(parity: dict[str, Any] | None) -> str:
    return f"{parity['max_relative']:.0e}" if parity else "–"


def library_versions() -> dict[str, str]:
    """Of the libraries that networks come from.

    Raises:
        EngineMissing: no Python with TensorFlow is named.
    """
    if PYTHON not in os.environ:
        raise EngineMissing(f"${PYTHON} names no Python with TensorFlow", "the environments of `make sources`")
    words = "import tensorflow, keras, tf2onnx; print(tensorflow.__version__, keras.__version__, tf2onnx.__version__)"
    asked = subprocess.run([os.environ[PYTHON], "-c", words], check=True, capture_output=True, text=True).stdout
    foreign = dict(zip(("tensorflow", "keras", "tf2onnx"), asked.split()[-3:], strict=True))
    return {**machine.versions(("torch", "torchvision", "timm")), **foreign}


def run_all(asked: argparse.Namespace) -> None:
    """All that are missing, one process each; the record is written anew after each."""
    shared = [*map(str, asked.paths), "--work", str(asked.work), "--photos", str(asked.photos)]
    about = {"versions": library_versions(), "photos": asked.photos}
    record = asked.paths[1]
    known = {row["source"]: row for row in json.loads(record.read_text())["rows"]} if record.exists() else {}
    wanted = [name for name in names() if not asked.only or name.startswith(tuple(asked.only))]
    for name in wanted:
        row = known.get(name, {})
        same = row.items() >= about.items()
        if same and not asked.anew and not (asked.again and shortfall(row)):
            continue
        say(name)
        failed = run_step(__file__, [*shared, "--one", name], LIMIT_S)
        row = {"source": name, "reason": failed} if failed else json.loads(_file(asked.work, name).read_text())
        say(f"  {shortfall(row) or 'came through'}")
        known[name] = row | about
        _write(record, {
            "kind": "sources", "version": 1, "created": machine.utc_now(), "environment": machine.environment(),
            "rows": [known[each] for each in names() if each in known],
        })  # fmt: skip


def _file(work: Path, name: str) -> Path:
    return work / f"{name.replace(':', '-')}.json"


def _write(path: Path, content: dict[str, Any]) -> None:
    replace_files({path: (json.dumps(content, indent=1) + "\n").encode()})


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing, or write the table into a page."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("paths", nargs=2, type=Path)
    words.add_argument("--work", type=Path, default=Path("out/sources"))
    words.add_argument("--only", action="append", metavar="START", help="of the names that start so")
    words.add_argument("--photos", type=int, default=16)
    words.add_argument("--again", action="store_true", help="also those that did not come through")
    words.add_argument("--anew", action="store_true", help="also those that the record has")
    words.add_argument("--one", help=argparse.SUPPRESS)
    words.add_argument("--table", action="store_true")
    asked = words.parse_args(arguments)
    if asked.table:
        fill(asked.paths[0], "sources", page(json.loads(asked.paths[1].read_text())))
        return
    asked.work.mkdir(parents=True, exist_ok=True)
    if asked.one:
        row = Study(find_dataset(asked.paths[0]), asked.work, asked.photos).row(asked.one)
        _write(_file(asked.work, asked.one), row)
    else:
        run_all(asked)


if __name__ == "__main__":
    main()
