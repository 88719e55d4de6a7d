"""A certificate's figures, derived from the predictions that lie beside it: written with them, checked against them."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import machine
from ..artifact import Artifact
from ..artifact.certificate import IDENTITY, SAMPLE, WHOLE, Certificate, evidence_path
from ..artifact.claims import claim_text
from ..artifact.files import replace_files
from ..errors import BadArtifact, BadInput, command
from .bounded import require_bounded
from .estimate import Decision, Verdict
from .paired import agreement, flips, mcnemar, non_inferior
from .power import power_of_margin
from .predictions import Predictions

_NONE = np.zeros(0, np.int64)
_NO_LOGITS = np.zeros((0, 0), np.float32)


@dataclass(frozen=True)
class Evidence:
    """The predictions behind one certificate.

    Args:
        photos: sha256 of the pixels of each photo that the figures are over, hex.
        truth, reference, answers: label indices, int64 `(n,)`: the true one, the reference's top-1, the artifact's.
        kind: of the photos, as in `Predictions`.
        rows: for basis "identity", the photos answered in both places, int64 `(K,)`.
        native, there: their logits natively and there, float32 `(K, classes)`.
        alarm_photos: sha256 of the photos of the alarm, hex.
        alarm_native, alarm_there: the artifact's top-1 of each natively and there, int64.
    """

    photos: tuple[str, ...]
    truth: np.ndarray
    reference: np.ndarray
    answers: np.ndarray
    kind: str = "photos"
    rows: np.ndarray = field(default_factory=lambda: _NONE)
    native: np.ndarray = field(default_factory=lambda: _NO_LOGITS)
    there: np.ndarray = field(default_factory=lambda: _NO_LOGITS)
    alarm_photos: tuple[str, ...] = ()
    alarm_native: np.ndarray = field(default_factory=lambda: _NONE)
    alarm_there: np.ndarray = field(default_factory=lambda: _NONE)

    @classmethod
    def of(cls, subject: Predictions, reference: Predictions, **more: Any) -> Evidence:
        """From what both answered to the same photos.

        Raises:
            BadInput: the photos are not the same.
        """
        if subject.photos != reference.photos:
            raise BadInput("a certificate over different photos", "the same photos in the same order")
        return cls(subject.photos, subject.truth, reference.top[:, 0].astype(np.int64),
                   subject.top[:, 0].astype(np.int64), subject.kind, **more)  # fmt: skip

    def __post_init__(self) -> None:
        sizes = [len(self.photos), *(self.truth.shape, self.reference.shape, self.answers.shape)]
        alarm = [len(self.alarm_photos), *(self.alarm_native.shape, self.alarm_there.shape)]
        for count, *shapes in (sizes, alarm):
            if any(shape != (count,) for shape in shapes):
                raise BadInput(f"evidence of {count} photos in arrays of {shapes}", "one entry a photo")

    def subject(self) -> Predictions:
        """The artifact's answers."""
        return self._answered(self.answers)

    def base(self) -> Predictions:
        """The reference's answers."""
        return self._answered(self.reference)

    def _answered(self, top: np.ndarray) -> Predictions:
        return Predictions(self.photos, self.truth, top[:, None], np.zeros((len(top), 1), np.float32), self.kind)

    def is_identical(self) -> bool:
        """True if the photos of `rows` got the same bits in both places, and these are the answers given."""
        drawn = np.unique(self.rows)
        if len(drawn) < len(self.rows) or (len(drawn) and not 0 <= drawn[0] <= drawn[-1] < len(self.photos)):
            return False
        alike = len(self.rows) > 0 and self.native.shape == self.there.shape and len(self.native) == len(self.rows)
        if not alike or same_bits(self.native, self.there) < len(self.rows):
            return False
        return bool(np.array_equal(np.argmax(self.native, 1), self.answers[self.rows]))


def same_bits(one: np.ndarray, other: np.ndarray) -> int:
    """How many rows of two float32 arrays are equal bit for bit: a NaN equals itself, +0 is not -0."""
    ours, theirs = (np.ascontiguousarray(rows, np.float32).view(np.uint32) for rows in (one, other))
    return int((ours == theirs).all(1).sum())


def figures(evidence: Evidence, basis: str, margin: float) -> dict[str, Any]:
    """All fields of a `Certificate` that its predictions decide."""
    subject, base = evidence.subject(), evidence.base()
    changed = flips(subject, base)
    verdict, power = _verdict(subject, base, margin)
    reason = verdict.reason
    if basis == IDENTITY:
        count, equal = len(evidence.rows), same_bits(evidence.native, evidence.there)
        reason += f"; native answers, of {count} photos {equal} bit-equal there"
    alarm = len(evidence.alarm_photos), int((evidence.alarm_native != evidence.alarm_there).sum())
    return {
        "n": len(subject),
        "answered": len(evidence.rows) if basis == IDENTITY else len(subject),
        "agreement": agreement(subject, base).value,
        "flips": changed.count,
        "lost": changed.lost,
        "won": changed.won,
        "flip_rate": (changed.rate.value, changed.rate.low, changed.rate.high),
        "verdict": verdict.decision.value,
        "reason": reason,
        "power": power,
        "alarm": alarm if evidence.alarm_photos else None,
        "predictions": _digest(_pack(evidence)),
    }


def _verdict(subject: Predictions, base: Predictions, margin: float) -> tuple[Verdict, float | None]:
    """The verdict, and the chance that an artifact as good as the reference passes with so many photos.

    That is of one with as many photos changing sides as were seen.
    """
    if subject.kind != "photos":
        return Verdict(Decision.INCONCLUSIVE, "synthesized images have no accuracy: agreement only"), None
    discordance = mcnemar(subject, base).discordance(len(subject))
    power = power_of_margin(margin, len(subject), discordance)
    return non_inferior(subject, base, margin), power


def write_certificate(artifact: Artifact, certificate: Certificate, evidence: Evidence) -> None:
    """Write a certificate and its predictions; of a kill between the two `check_certificate` tells.

    Raises:
        BadInput: the artifact's folder is not writable, or the disk is full.
    """
    path = evidence_path(artifact, certificate)
    packed = io.BytesIO()
    np.savez_compressed(packed, **_pack(evidence))  # type: ignore[arg-type]
    text = claim_text(artifact, certificate.kind, dataclasses.asdict(certificate))
    try:
        path.parent.mkdir(exist_ok=True)
        replace_files({path: packed.getvalue(), path.with_suffix(".json"): text.encode()})
    except OSError as error:
        raise BadInput(f"cannot write {path.parent} ({error.strerror})", "a writable artifact") from error


def check_certificate(artifact: Artifact, certificate: Certificate) -> Evidence:
    """Derive the figures again from the predictions beside it.

    Raises:
        BadArtifact: the predictions are missing or damaged, or do not give these figures.
    """
    path = evidence_path(artifact, certificate)
    evidence = _read(artifact, certificate)
    if not isinstance(certificate.margin, (int, float)):
        raise BadArtifact(f"{path.with_suffix('.json')}: margin {certificate.margin!r}", "a number")
    try:
        found = figures(evidence, certificate.basis, certificate.margin)
        # Words and the power's arithmetic may change with a release: they are held to by the release that wrote them.
        later = () if certificate.tiffin == machine.versions(("tiffin",)).get("tiffin") else ("reason", "power")
        wrong = sorted(name for name, value in found.items() if not _equal(getattr(certificate, name), value))
        wrong = [name for name in wrong if name not in later]
        wrong += [] if _is_based(certificate, evidence) else ["basis"]
    except (ValueError, IndexError, KeyError, TypeError, BadInput) as error:
        wrong = [str(error)]
    if wrong:
        raise BadArtifact(
            f"{path.with_suffix('.json')}: {', '.join(wrong)}: not what the predictions beside it give",
            "a certificate as `tiffin certify` wrote it",
            f"certify again: `{command('certify', artifact.folder)}`",
        )
    return evidence


def _is_based(certificate: Certificate, evidence: Evidence) -> bool:
    """True if the evidence is of the kind that the certificate says."""
    n, everything = len(evidence.photos), certificate.data["count"]
    kinds = {
        WHOLE: n == everything,
        IDENTITY: n == everything and evidence.is_identical(),
        SAMPLE: 0 < n < everything and len(evidence.alarm_photos) > 0,
    }
    return kinds.get(certificate.basis, False)


def _equal(claimed: object, found: object) -> bool:
    """Floats to their last digits: another machine's libm may round the last bit the other way."""
    if isinstance(found, tuple) and isinstance(claimed, tuple):
        return len(claimed) == len(found) and all(map(_equal, claimed, found))
    if isinstance(found, float):
        return isinstance(claimed, (int, float)) and math.isclose(claimed, found, rel_tol=1e-9, abs_tol=1e-12)
    return claimed == found


_INDICES = ("truth", "reference", "answers", "rows", "alarm_native", "alarm_there")


def _pack(evidence: Evidence) -> dict[str, np.ndarray]:
    packed = {name: np.asarray(getattr(evidence, name), np.int32) for name in _INDICES}
    packed |= {name: np.asarray(getattr(evidence, name), np.float32) for name in ("native", "there")}
    packed |= {name: _bytes(getattr(evidence, name)) for name in ("photos", "alarm_photos")}
    return packed | {"kind": np.array(evidence.kind)}


def _bytes(digests: tuple[str, ...]) -> np.ndarray:
    """Hex digests as uint8 `(n, 32)`: half the size, and they do not compress."""
    return np.frombuffer(bytes.fromhex("".join(digests)), np.uint8).reshape(-1, 32)


def _digest(packed: Mapping[str, np.ndarray]) -> str:
    """sha256 over names, types, shapes and bytes, in order of the names."""
    digest = hashlib.sha256()
    for name in sorted(packed):
        digest.update(f"{name} {packed[name].dtype.str} {packed[name].shape}\n".encode())
        digest.update(packed[name].tobytes())
    return digest.hexdigest()


def _read(artifact: Artifact, certificate: Certificate) -> Evidence:
    path = evidence_path(artifact, certificate)
    try:
        require_bounded(path)
        with np.load(path) as arrays:
            indices = {name: arrays[name].astype(np.int64) for name in _INDICES}
            photos, alarm = (tuple(row.tobytes().hex() for row in arrays[name]) for name in ("photos", "alarm_photos"))
            logits = {name: arrays[name] for name in ("native", "there")}
            return Evidence(photos, alarm_photos=alarm, kind=str(arrays["kind"]), **indices, **logits)
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        BadInput,
    ) as error:
        raise BadArtifact(
            f"{path}: predictions of a certificate cannot be read ({error})",
            "the .npz that `tiffin certify` wrote beside it",
            f"certify again: `{command('certify', artifact.folder)}`",
        ) from error
