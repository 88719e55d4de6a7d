"""The temperature of an artifact, fitted on held-out photos with that artifact's own answers, before it is saved."""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..artifact import Artifact, Preprocess, RunConfig
from ..artifact.manifest import Manifest
from ..artifact.scheme import SCHEMES
from ..artifact.store import save
from ..data import Dataset, sample
from ..data.prepared import PreparedPhotos, digest_of, prepare_photos
from ..errors import TiffinError
from ..records import Predictions
from ..records.calibration import Fit, fit_temperature, require_enough
from .logits import engine_logits

log = logging.getLogger(__name__)

# More photos make one number no better that is worth their seconds (docs/confidence.md).
MOST = 1000
_ROLE = "select"


@dataclass(frozen=True)
class HeldOut:
    """Photos that the network was not trained with, prepared; None with the reason where there are none."""

    photos: PreparedPhotos | None
    reason: str = ""

    def digest(self) -> str:
        """What a fit depends on."""
        return self.photos.digest() if self.photos else self.reason


def held_out(dataset: Dataset, labels: tuple[str, ...], preprocess: Preprocess, cache: Path, seed: int = 0) -> HeldOut:
    """Photos of the select role for a model with these labels; at most `MOST`, then spread over the classes.

    Raises:
        BadInput: a photo cannot be read.
    """
    photos = dataset.roles.get(_ROLE, ())
    if dataset.kind != "photos":
        return HeldOut(None, "synthesized images have no true labels")
    if dataset.labels != labels:
        return HeldOut(None, f"{dataset.name} has other labels than the model")
    if not photos:
        return HeldOut(None, f"{dataset.name} has no photos in the role {_ROLE}")
    return HeldOut(prepare_photos(sample(photos, MOST, seed), preprocess, cache))


def save_fitted(out: Path, manifest: Manifest, files: Mapping[str, bytes | Path], photos: HeldOut | None) -> Artifact:
    """Save an artifact with its own temperature; without `photos`, with the one in `manifest`.

    Raises:
        BadInput: `out` cannot be written.
    """
    if photos is not None:
        with tempfile.TemporaryDirectory() as scratch:
            manifest = fitted(save(Path(scratch) / "draft", manifest, files), photos)
    return save(out, manifest, files)


def fitted(draft: Artifact, held: HeldOut | None) -> Manifest:
    """The draft's manifest with its temperature, and how that was found in the producer's options.

    Where none can be fitted, the draft's own stays (1.0, or that of what it was made from), and the reason is kept.
    """
    manifest = draft.manifest
    if held is None:
        return manifest
    found: Fit | None = None
    about: dict[str, object] = {"reason": held.reason}
    if held.photos is not None:
        try:
            found, about = _fit(draft, held.photos)
        except TiffinError as error:  # too few photos, or no engine here that runs it
            about = {"reason": error.what}
    temperature = manifest.temperature if found is None else found.temperature
    options = {**manifest.producer.options, "confidence": {"temperature": temperature, **about}}
    return dataclasses.replace(
        manifest, temperature=temperature, producer=dataclasses.replace(manifest.producer, options=options)
    )


def _fit(draft: Artifact, photos: PreparedPhotos) -> tuple[Fit, dict[str, object]]:
    rows = _not_seen(draft.manifest, photos)
    require_enough(len(rows))
    run = _run(draft.manifest)
    logits = engine_logits(draft, run, np.asarray(photos.array())[rows])
    hashes = tuple(photos.hashes[row] for row in rows)
    fit = fit_temperature(Predictions.from_logits(hashes, photos.truth[rows], logits, photos.kind))
    about = {"role": _ROLE, "photos": fit.photos, "photos_sha256": digest_of(hashes), "backend": run.backend,
             "nll": list(fit.nll), "calibration_error": list(fit.ece)}  # fmt: skip
    return fit, {**about, "reason": fit.reason} if fit.reason else about


def _not_seen(manifest: Manifest, photos: PreparedPhotos) -> list[int]:
    """Rows of the photos that have not calibrated the artifact."""
    seen = set(manifest.calibration)
    rows = [row for row, digest in enumerate(photos.hashes) if digest[:16] not in seen]
    if len(rows) < len(photos):
        log.warning("temperature: left out %d photos that calibrated the artifact", len(photos) - len(rows))
    return rows


def _run(manifest: Manifest) -> RunConfig:
    """An engine that gives the graph's own answers on every CPU.

    Full-range int8 and TensorRT's dialects run unfused, in float: fused, they saturate on CPUs without VNNI.
    ONNX Runtime has no bf16 convolution for CPUs.
    """
    if manifest.format == "pt2":
        return RunConfig("torch")
    if manifest.precision == "bf16":
        return RunConfig("openvino")
    scheme = SCHEMES.get(manifest.scheme or "")
    unfused = manifest.precision == "fp8" or (scheme is not None and scheme.needs_vnni)
    return RunConfig("onnxruntime", graph_level="none" if unfused else "all")


def told(manifest: Manifest) -> str:
    """An artifact's temperature and where it comes from, in lines of at most 80 columns where the reason is short."""
    about = manifest.producer.options.get("confidence", {})
    said = f"confidence: temperature {manifest.temperature:g}"
    if about.get("reason"):
        return f"{said}, not fitted: {about['reason']}"
    if "nll" not in about:
        return f"{said}, not fitted"
    (before, after), (wrong, less) = about["nll"], about["calibration_error"]
    change = f"log-loss {before:.3f} → {after:.3f}, calibration error {wrong * 100:.1f} → {less * 100:.1f} %"
    return f"{said}, fitted on {about['photos']} held-out photos\n  on these: {change}"
