"""What lies beside a model for those who prepare photos themselves: labels, the rule, and a pattern as proof.

labels.txt        one label a line, in the order of the logits
preprocess.json   the model's input and output, the rule, the temperature (docs/ship.md has the fields)
pattern.ppm       a picture, and
prepared.ppm      the same as the model takes it: whoever makes these bytes of that picture prepares as we do
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np

from ..artifact import Artifact, Preprocess, TensorSpec
from ..errors import BadArtifact, BadInput
from ..runtime.decode import to_rgb
from ..runtime.preprocess import fit, patterns
from .folder import DESCRIPTION, DESCRIPTION_VERSION

LABELS = "labels.txt"
PATTERN, PREPARED = "pattern.ppm", "prepared.ppm"
# Named apart, so that a reader written for the one stumbles over the other.
RESIZED = {"crop": "resize_to_at_least", "squeeze": "resize_to"}
_PROOF = "rgb"  # the pattern without alpha, palette or 16 bits


def files_beside(artifact: Artifact) -> dict[str, bytes]:
    """Name → content of the four files.

    Raises:
        BadInput: it is no classifier of photos.
        BadArtifact: this machine prepares the pattern otherwise than the artifact's golden hash says.
    """
    require_classifier(artifact)
    pattern = to_rgb(patterns()[_PROOF])
    prepared = fit(pattern, artifact.preprocess)
    found, golden = hashlib.sha256(prepared.tobytes()).hexdigest(), artifact.preprocess.golden.get(_PROOF)
    if golden is not None and found != golden:
        raise BadArtifact(f"{artifact.folder}: its pattern is prepared otherwise here ({found[:12]}…)",
                          f"{golden[:12]}…, its golden hash", "install a newer Pillow, then try again")  # fmt: skip
    return {
        LABELS: "".join(f"{label}\n" for label in artifact.manifest.labels).encode(),
        DESCRIPTION: _json(description(artifact, found)),
        PATTERN: ppm(np.asarray(pattern)),
        PREPARED: ppm(prepared),
    }


def require_classifier(artifact: Artifact) -> None:
    """Raises BadInput for what takes no photos or has several inputs."""
    manifest = artifact.manifest
    if manifest.preprocess is None or not manifest.labels or len(manifest.inputs) != 1 or len(manifest.outputs) != 1:
        raise BadInput(f"{artifact.folder}: task {manifest.task}, no classifier of photos",
                       "labels, preprocessing, one input and one output")  # fmt: skip


def description(artifact: Artifact, prepared_sha256: str) -> dict[str, Any]:
    """preprocess.json."""
    manifest, rule = artifact.manifest, artifact.preprocess
    return {
        "tiffin_preprocess": DESCRIPTION_VERSION,
        "artifact": artifact.digest,
        "precision": manifest.precision,
        "input": {**_tensor(manifest.inputs[0]), "layout": "NHWC", "colour": "RGB", "range": [0, 255]},
        "output": {**_tensor(manifest.outputs[0]), "meaning": "logits"},
        "temperature": manifest.temperature,
        "probabilities": "softmax(logits / temperature)",
        "steps": _steps(rule),
        "version": rule.version,
        "height": rule.height,
        "width": rule.width,
        "fit": rule.fit,
        RESIZED[rule.fit]: list(rule.resized),
        "crop_fraction": rule.crop_fraction,
        "rounding": rule.rounding,
        "interpolation": rule.interpolation,
        "antialias": rule.antialias,
        "inside_the_model": {"mean": list(rule.mean), "std": list(rule.std), "layout": "NCHW"},
        "proof": {"picture": PATTERN, "prepared": PREPARED, "sha256_of_pixels": prepared_sha256},
    }


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "dtype": spec.dtype, "shape": list(spec.shape)}


_SIZES = {
    "crop": "to the smallest size of the same aspect ratio that covers resize_to_at_least (height, width); sides "
    "rounded {}",
    "squeeze": "to resize_to (height, width) exactly, whatever the photo's aspect ratio",
}
_SIDES = {"nearest": "half to even", "torchvision": "down", "transformers": "down"}
_SMALLER = "an odd margin is smaller on the left and at the top"
_MARGINS = {
    "nearest": _SMALLER,
    "torchvision": "half of an odd margin is rounded to the even number, on the left and at the top",
    "transformers": _SMALLER,
}


def _steps(rule: Preprocess) -> list[str]:
    return [
        "decode; apply the EXIF orientation",
        "palette and alpha over white; CMYK to RGB as Pillow does; 16-bit grey to 8 bits by its high byte",
        f"resize, {rule.interpolation}, antialiased as Pillow does, {_SIZES[rule.fit].format(_SIDES[rule.rounding])}",
        f"crop the centre, height × width; {_MARGINS[rule.rounding]}",
        "feed uint8 RGB as it is: mean and std are applied inside the model",
    ]


def ppm(pixels: np.ndarray) -> bytes:
    """uint8 RGB `(H, W, 3)` as a binary PPM (P6): a short header, then the bytes."""
    return b"P6\n%d %d\n255\n" % (pixels.shape[1], pixels.shape[0]) + np.ascontiguousarray(pixels).tobytes()


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()
