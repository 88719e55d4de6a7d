"""Quantization-aware training: an int8 model's weights and biases, fitted until it answers as fp32 does.

A post-training quantizer places the roundings and finds the ranges; they stay. What it wrote runs in torch with its
rounding simulated (`export.graph.to_torch`), imitates the fp32 graph (`train.fit`), and its new weights are put back
where the old ones were: same nodes, same dialect, same speed. BatchNorm was folded into the convolutions at export, so
what is trained is what runs (Jacob et al., CVPR 2018, arXiv 1712.05877; distillation: Mishra & Marr, ICLR 2018,
arXiv 1711.05852).
"""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import torch

from ..artifact import Artifact, Producer, RunConfig
from ..artifact.claims import write_claim
from ..artifact.manifest import Manifest
from ..data.prepared import PreparedPhotos
from ..errors import BadInput
from ..export.confidence import HeldOut
from ..export.graph.to_torch import TorchGraph
from ..export.logits import engine_logits
from ..export.parity import TOLERANCE, Parity, compared, require_parity
from ..export.to_onnx import save_proven
from ..machine import versions
from ..train.augment import Augmentation
from ..train.fit import FitOptions, Progress, Student, fit
from .calibration import CalibrationSet
from .options import FLOATS, PtqOptions
from .quantize import quantize_int8

# A low rate and no decay: weights move by parts of a step. Views close to what is scored, since answers to those count.
QAT_OPTIONS = FitOptions(
    epochs=1, batch=16, learning_rate=1e-5, weight_decay=0.0, average=0.99, train_batch_norm=False, margin_weight=4.0,
    augmentation=Augmentation(min_area=0.5, colour=0.2, mixup=0.0),
)  # fmt: skip
# Of the largest logit: sums in another order round the other way now and then, seen up to 0.02.
ROUNDING_TOLERANCE = 0.1
_BATCH, _PARITY_PHOTOS = 16, 64


def quantize_qat(
    parent: Artifact,
    start: PtqOptions,
    calibration: CalibrationSet,
    photos: PreparedPhotos,
    options: FitOptions,
    out: Path,
    progress: Progress = lambda status: None,
    held_out: HeldOut | None = None,
) -> Artifact:
    """int8 QDQ ONNX, trained from what `quantize_int8` makes with `start`.

    An interrupted run goes on from the file `OUT-….state` beside `out` if it is given the same again.

    Args:
        parent: the fp32 ONNX artifact, which is the teacher too.
        photos: `training_photos` of the train role.
        held_out: what the temperature is fitted on; without them it is the parent's.

    Raises:
        BadInput: as `quantize_int8` and `fit`, or an operator that cannot be trained.
        ParityFailed: the graph in torch does not answer as it does in ONNX Runtime; nothing is saved.
    """
    if start.floats != FLOATS[0]:
        raise BadInput(f"training with floats {start.floats}", f"floats {FLOATS[0]}", "leave --floats out")
    host = parent.preprocess
    with tempfile.TemporaryDirectory() as scratch:
        first = quantize_int8(parent, start, calibration, Path(scratch) / "start")
        source, model = onnx.load(parent.model_path), onnx.load(first.model_path)
        teacher, student = Student(TorchGraph(source), host), Student(TorchGraph(model, source), host)
        shown = calibration.photos[:_PARITY_PHOTOS]
        require_parity(_parity(teacher, parent, shown, TOLERANCE))
        require_parity(_parity(student, first, shown, ROUNDING_TOLERANCE))
        state = out.with_name(f"{out.name}-{first.manifest.files[0].sha256[:8]}.state")
        history = fit(student, photos, options, teacher, progress, state)
    assert isinstance(student.module, TorchGraph)
    artifact, _ = save_proven(
        out,
        _manifest(first, photos, options),
        student.module.write(model),
        lambda draft: _parity(student, draft, shown, ROUNDING_TOLERANCE),
        held_out,
    )
    write_claim(artifact, "training", {"history": [asdict(epoch) for epoch in history]})
    state.unlink(missing_ok=True)
    return artifact


def _manifest(first: Artifact, photos: PreparedPhotos, options: FitOptions) -> Manifest:
    """That of the quantized start, with how it was trained; no photo of the training may be scored."""
    training = {
        "method": "qat",
        "fit": asdict(options),
        "training_photos": len(photos),
        "training_photos_seen": options.epochs * (len(photos) // options.batch) * options.batch,
        "training_photos_sha256": photos.digest(),
    }
    producer = first.manifest.producer
    return dataclasses.replace(
        first.manifest,
        producer=Producer(
            producer.verb, {**producer.versions, **versions(("torch",))}, {**producer.options, **training}
        ),
        calibration=tuple(dict.fromkeys((*first.manifest.calibration, *(digest[:16] for digest in photos.hashes)))),
    )


def _parity(student: Student, artifact: Artifact, photos: np.ndarray, tolerance: float) -> Parity:
    """The module in torch against the artifact in ONNX Runtime, whose QDQ runs unfused: float on every CPU."""
    answers = engine_logits(artifact, RunConfig("onnxruntime", graph_level="none"), photos)
    with torch.inference_mode():
        batches = (torch.tensor(photos[start : start + _BATCH]) for start in range(0, len(photos), _BATCH))
        rows = [student.logits(batch.permute(0, 3, 1, 2).float()).numpy() for batch in batches]
    return compared(answers, np.concatenate(rows), "onnxruntime", tolerance)
