"""What each layer's quantization costs: divergence of the answers, and noise at the layer.

One layer at a time rounds in an otherwise float graph, as in Wu et al., "Integer Quantization for Deep Learning
Inference", 2020, arXiv 2004.09602. The other way round, one layer at a time put back to float, says less: the
divergence of a wholly quantized graph moves by more than a layer's share when any rounding in it changes
(docs/sensitivity.md). Rounding is simulated in float32 (the graph as ONNX defines it, its QDQ not fused into integer
kernels), so a figure is the scheme's; that integer kernels saturate is another matter (docs/int8.md).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime

from ..artifact import Artifact
from ..errors import BadInput
from ..export.graph.free_batch import fixed_batch
from ..export.graph.rounding import partly_quantized, rounded_layers
from ..machine import usable_cores
from ..records.closeness import decibels
from ..records.divergence import by_photo

_BATCH = 4  # photos whose tensors are in memory at once: some 20 MB each for a mobile network

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class LayerSensitivity:
    """One quantized layer.

    Args:
        node, op: as in the float parent's graph; `PtqOptions.float_nodes` takes these names.
        kl: divergence of the answers from fp32's where this layer alone rounds, mean over photos, nats.
        sqnr_db: its output's power over that of the noise which its own rounding adds, dB; infinite without noise.
    """

    node: str
    op: str
    kl: float
    sqnr_db: float


def sensitivity(
    parent: Artifact, quantized: Artifact, photos: np.ndarray, progress: Progress = lambda done, total: None
) -> list[LayerSensitivity]:
    """Every quantized layer, in the graph's order.

    Args:
        parent: the fp32 ONNX artifact that `quantized` was made from.
        photos: uint8 `(N, H, W, 3)`, prepared, none of which calibrated; some dozens.
        progress: layers done, and of how many.

    Raises:
        BadInput: not such artifacts or photos, or weights that are no rounded ones of `parent`.
    """
    _check(parent, quantized, photos)
    given = onnx.load(parent.model_path)
    layers = rounded_layers(given, onnx.load(quantized.model_path))
    wanted = _logits(given, photos)
    rows = []
    for number, layer in enumerate(layers):
        progress(number, len(layers))
        alone, noise, signal = _run(partly_quantized(given, [layer], compared=layer), photos)
        rows.append(LayerSensitivity(layer.node, layer.op, _kl(wanted, alone), decibels(float(signal), float(noise))))
    progress(len(layers), len(layers))
    return rows


def divergence(parent: Artifact, quantized: Artifact, photos: np.ndarray) -> float:
    """Mean Kullback-Leibler divergence of the quantized answers from fp32's, nats a photo, rounding simulated.

    Raises:
        BadInput: not ONNX artifacts of one classifier, or photos of another size.
    """
    _check(parent, quantized, photos)
    return _kl(*(_logits(onnx.load(artifact.model_path), photos) for artifact in (parent, quantized)))


def most_sensitive(rows: Sequence[LayerSensitivity], k: int) -> tuple[str, ...]:
    """Names of the k layers that cost most: by the divergence that each causes alone."""
    worst = sorted(rows, key=lambda row: (-row.kl, row.node))
    return tuple(row.node for row in worst[:k])


def _check(parent: Artifact, quantized: Artifact, photos: np.ndarray) -> None:
    for artifact in (parent, quantized):
        if artifact.manifest.format != "onnx" or artifact.manifest.task != "classification":
            raise BadInput(
                f"{artifact.folder}: a {artifact.manifest.format} artifact for {artifact.manifest.task}",
                "ONNX artifacts of one classifier",
                "name what `tiffin quantize` wrote, not what was compiled from it",
            )
        shape, labels = artifact.manifest.inputs[0].shape[1:], artifact.manifest.labels
        if photos.dtype != np.uint8 or photos.shape[1:] != shape or not len(photos):
            raise BadInput(f"photos {photos.dtype}{photos.shape}", f"some of uint8, each {shape}")
        if labels != parent.manifest.labels:
            raise BadInput(f"{artifact.folder}: other labels than {parent.folder}", "artifacts of one classifier")


def _run(model: onnx.ModelProto, photos: np.ndarray) -> list[np.ndarray]:
    """Logits float32 `(N, classes)`; what else the model gives is summed over the batches."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_cores()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    rows = fixed_batch(model) or _BATCH
    batches = [photos[first : first + rows] for first in range(0, len(photos), rows)]
    logits, *sums = zip(*(session.run(None, {name: batch}) for batch in batches), strict=True)
    return [np.concatenate(logits), *(np.asarray(values, np.float64).sum(axis=0) for values in sums)]


def _logits(model: onnx.ModelProto, photos: np.ndarray) -> np.ndarray:
    return _run(model, photos)[0]


def _kl(wanted: np.ndarray, found: np.ndarray) -> float:
    """Mean over photos, nats; logits `(N, classes)`."""
    return float(by_photo(found, wanted).mean())
