"""A certificate: how an artifact answers on one class of CPU and one engine, beside the artifact as a claim.

It is derived from predictions that lie beside it in an .npz (`records.certification` writes and checks both).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BadArtifact
from .claims import read_claim
from .store import CLAIMS, Artifact
from .strict import read_as_type

_PREFIX = "certificate-"
CERTIFICATE_VERSION = 1
MARGIN = 0.01  # of top-1 that may be lost, where no other is told

WHOLE = "whole"  # all photos were answered there
IDENTITY = "identity"  # some were, with the same bits as natively: the native answers to all photos stand for it
SAMPLE = "sample"  # a random sample was answered there


@dataclass(frozen=True)
class Certificate:
    """What is certified, for whom, and on what evidence.

    Args:
        cpu_class: name of a `CpuClass`.
        backend, engine_version, execution_precision: what ran.
        place: "native", "limited to avx2", "emulated cortex-a76"; with `emulator`, its version, or empty.
        basis: "whole", "identity" or "sample".
        data: name, role, kind and count of the photos that the verdict is about.
        answered: photos answered in that place.
        n: photos that the figures below are over.
        agreement: share of the n with the reference's top-1 answer.
        flips, lost, won: photos with another top-1; those that were right and are wrong now; the other way round.
        flip_rate: value, low and high of the share of flips, 95 %.
        verdict: "PASS", "FAIL" or "INCONCLUSIVE" at `margin`, with `reason`.
        power: chance that an artifact as good as the reference passes with so many photos, or None where no verdict is.
        alarm: of the photos with the smallest margins, how many were answered there and how many got another answer
            than natively: no part of the figures; None where nothing was asked.
        native_class: of the machine whose answers stand for this class, for basis "identity"; else empty.
        reference: digest of the artifact that flips count against.
        predictions: sha256 of the evidence.
        tiffin, created: version, and ISO 8601 time.
        version: of this layout.
    """

    cpu_class: str
    backend: str
    engine_version: str
    execution_precision: str
    place: str
    emulator: str
    basis: str
    data: Mapping[str, Any]
    answered: int
    n: int
    agreement: float
    flips: int
    lost: int
    won: int
    flip_rate: tuple[float, float, float]
    verdict: str
    reason: str
    margin: float
    power: float | None
    alarm: tuple[int, int] | None
    native_class: str
    reference: str
    predictions: str
    tiffin: str
    created: str
    version: int = CERTIFICATE_VERSION

    @property
    def kind(self) -> str:
        """The claim's name: one certificate a class, backend and precision, and one more from an emulator."""
        precision = "" if self.execution_precision == "fp32" else f"-{self.execution_precision}"
        return f"{_PREFIX}{self.cpu_class}-{self.backend}{precision}" + ("-emulated" if self.emulator else "")


def evidence_path(artifact: Artifact, certificate: Certificate) -> Path:
    """The .npz of predictions that the figures are derived from."""
    return artifact.folder / CLAIMS / f"{certificate.kind}.npz"


def certificates_for(artifact: Artifact, cpu_class: str, backend: str) -> list[Certificate]:
    """A class's certificates on one backend as they are written, not checked against their predictions.

    Those from a real CPU come first.

    Raises:
        BadArtifact: one cannot be read, or is about another artifact.
    """
    found = [each for each in read_certificates(artifact) if (each.cpu_class, each.backend) == (cpu_class, backend)]
    return sorted(found, key=lambda each: bool(each.emulator))


def claim_files(artifact: Artifact) -> list[Path]:
    """What is claimed: its claims, and the predictions of those that are certificates; other files claim nothing.

    Raises:
        BadArtifact: one cannot be read, or is about another artifact.
    """
    claims = sorted((artifact.folder / CLAIMS).glob("[!.]*.json"))
    for path in claims:
        read_claim(artifact, path.stem)
    return claims + [evidence_path(artifact, each) for each in read_certificates(artifact)]


def read_certificates(artifact: Artifact) -> list[Certificate]:
    """All of an artifact's, sorted by class and backend.

    Raises:
        BadArtifact: one cannot be read, or is about another artifact.
    """
    kinds = sorted(path.stem for path in (artifact.folder / CLAIMS).glob(f"{_PREFIX}*.json"))
    return [found for kind in kinds if (found := _parse(artifact, kind))]


def _parse(artifact: Artifact, kind: str) -> Certificate | None:
    body = read_claim(artifact, kind)
    if body is None:
        return None
    path = artifact.folder / CLAIMS / f"{kind}.json"
    if isinstance(body.get("version"), int) and body["version"] > CERTIFICATE_VERSION:
        raise BadArtifact(f"{path}: certificate version {body['version']}", f"at most {CERTIFICATE_VERSION}",
                          "upgrade tiffin")  # fmt: skip
    try:
        said = {field.name: body[field.name] for field in dataclasses.fields(Certificate)}
        found: Certificate = read_as_type(said, Certificate, "certificate")
    except (KeyError, TypeError, ValueError) as error:
        raise BadArtifact(f"{path}: no certificate ({error})", "one written by `tiffin certify`",
                          f"delete {path}") from error  # fmt: skip
    if found.kind != kind:
        raise BadArtifact(f"{path}: says {found.kind}", f"a certificate under its own name, {kind}", f"delete {path}")
    return found
