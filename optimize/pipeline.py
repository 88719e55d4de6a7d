"""Source → ONNX → fp16, bf16, int8 → OpenVINO IR, TensorRT-RTX engine: every artifact that can be built here."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..artifact import Artifact
from ..data import Dataset, balanced, sample
from ..data.dataset import Photo
from ..data.overlap import prove_all_disjoint, prove_disjoint
from ..data.prepared import PreparedPhotos, prepare_photos
from ..export.confidence import HeldOut, held_out
from ..export.loaders import Source
from .stages import Make, Say, Stages

PARITY_PHOTOS = 64


@dataclass(frozen=True)
class Recipe:
    """What to build and score.

    Args:
        out: folder for artifacts, cache and record.
        source: the trained classifier.
        photos: photos of the confirm role to score; None takes all.
        per_class: calibration photos a class.
        full: also build what only a study needs (the full-range CPU scheme).
    """

    out: Path
    source: Source
    photos: int | None = 500
    per_class: int = 3
    seed: int = 0
    full: bool = False


@dataclass(frozen=True)
class Materials:
    """Prepared photos, proven disjoint."""

    dataset: Dataset
    calibration: PreparedPhotos
    confirm: PreparedPhotos
    held_out: HeldOut


@dataclass(frozen=True)
class Built:
    """Artifacts by stage name, and why the others could not be built."""

    artifacts: dict[str, Artifact]
    reasons: dict[str, str]


def gather(recipe: Recipe, dataset: Dataset, say: Say) -> Materials:
    """Draw, prove disjoint and prepare the photos.

    Raises:
        Overlap: a calibration photo is among the scored ones.
        BadDataset: a role is empty or a photo unreadable.
    """
    cache, model = recipe.out / "cache", recipe.source.model
    drawn = balanced(dataset.role("calibrate"), recipe.per_class, recipe.seed)
    confirm = dataset.role("confirm")
    confirm = confirm if recipe.photos is None else sample(confirm, recipe.photos, recipe.seed)
    say(f"photos: {len(drawn)} calibrate, {len(confirm)} are scored, of {dataset.name}")
    prove_disjoint(drawn, confirm, ("calibrate", "confirm"), cache / "pixel-hashes.json")
    if recipe.full:
        _prove_roles(dataset, cache / "pixel-hashes.json")

    def prepared(photos: tuple[Photo, ...]) -> PreparedPhotos:
        return prepare_photos(photos, model.preprocess, cache, dataset.kind)

    held = held_out(dataset, model.labels, model.preprocess, cache)
    return Materials(dataset, prepared(drawn), prepared(confirm), held)


def parity_photos(materials: Materials) -> np.ndarray:
    """The photos on which an export is compared with its source: uint8 `(N, H, W, 3)`."""
    return np.asarray(materials.confirm.array()[:PARITY_PHOTOS])


def _prove_roles(dataset: Dataset, cache: Path) -> None:
    """Every pair of roles that a dataset has; calibrate is drawn from train, so these two are one."""
    kept = [role for role in ("train", "select", "confirm") if dataset.roles.get(role)]
    prove_all_disjoint({role: dataset.role(role) for role in kept}, cache)


def build(recipe: Recipe, materials: Materials, say: Say) -> Built:
    """Build every artifact; one that cannot be built here is a reason, not an end.

    Raises:
        BadInput, ParityFailed: the source cannot be exported, or answers otherwise afterwards.
    """
    return _Build(recipe, materials, say).run()


class _Build:
    """The main job's stages in their order."""

    def __init__(self, recipe: Recipe, materials: Materials, say: Say) -> None:
        self._recipe, self._materials, self._say = recipe, materials, say
        self._stages = Stages(recipe.out / "artifacts", say)

    def run(self) -> Built:
        # Imported here: a run whose stages are all known needs none of them.
        from ..export.engine_options import EngineOptions
        from ..export.from_source import program_of
        from ..export.to_openvino import to_openvino
        from ..export.to_tensorrt import to_tensorrt
        from ..quantize.quantize import quantize_half

        source, held = self._recipe.source, self._materials.held_out
        fitted = {"held_out": held.digest()}
        self._stages.needed("fp32", source.key, {"photos": self._parity_digest(), **fitted}, self._export)
        self._stages.first("torch-fp32", source.key, fitted, lambda out: program_of(source, out, held))
        for precision in ("fp16", "bf16"):
            make = self._with("fp32", quantize_half, precision, held_out=held)
            self._stages.then(precision, "fp32", {"precision": precision, **fitted}, make)
        for scheme, quantizer in self._int8():
            options = {"scheme": scheme, "quantizer": quantizer, "photos": self._materials.calibration.digest()}
            make = self._quantize(scheme, quantizer)
            self._stages.then(f"int8-{scheme}-{quantizer}", "fp32", {**options, **fitted}, make)
        for stage in ("fp32", "int8-cpu-nncf", "int8-cpu-ort"):
            self._stages.then(f"openvino-{stage}", stage, {}, self._with(stage, to_openvino))
        for stage in ("fp16", "int8-tensorrt-ort"):
            make = self._with(stage, to_tensorrt, backend="tensorrt_rtx")  # one engine for every GPU from 8.0 on
            self._stages.then(f"tensorrt_rtx-{stage}", stage, EngineOptions().plain(), make)
        return Built(self._stages.artifacts, self._stages.reasons)

    def _int8(self) -> tuple[tuple[str, str], ...]:
        usual = (("cpu", "nncf"), ("cpu", "ort"), ("tensorrt", "ort"))
        return (*usual, ("cpu-vnni", "nncf"), ("cpu-vnni", "ort")) if self._recipe.full else usual

    def _with(self, stage: str, make: Callable[..., Artifact], *options: Any, **named: Any) -> Make:
        return lambda out: make(self._stages.artifacts[stage], *options, out=out, **named)

    def _export(self, out: Path) -> Artifact:
        from ..export.from_source import export_source

        some = self._materials
        artifact, parity = export_source(self._recipe.source, out, parity_photos(some), some.held_out)
        self._say(
            f"  parity with the source on {parity.photos} photos: largest difference {parity.max_relative:.1e} of the "
            f"largest logit, top-1 agreement {parity.top1_agreement:.0%}"
        )
        return artifact

    def _parity_digest(self) -> str:
        return hashlib.sha256("".join(self._materials.confirm.hashes[:PARITY_PHOTOS]).encode()).hexdigest()

    def _quantize(self, scheme: str, quantizer: str) -> Make:
        def run(out: Path) -> Artifact:
            from ..quantize.calibration import CalibrationSet
            from ..quantize.options import PtqOptions
            from ..quantize.quantize import quantize_int8

            some = self._materials
            photos = CalibrationSet.of(some.calibration, some.dataset.name)
            chosen = PtqOptions(scheme, quantizer)
            return quantize_int8(self._stages.artifacts["fp32"], chosen, photos, out, some.held_out)

        return run
