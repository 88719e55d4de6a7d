"""Where a bundle's artifact comes from: manifests that name one another by digest, with what is certified of each."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from ...artifact import Artifact
from ...artifact.certificate import claim_files, read_certificates
from ...artifact.manifest import parse_manifest
from ...artifact.store import CLAIMS, MANIFEST
from ...errors import BadInput
from ...records import Record
from ...records.certification import check_certificate
from ...words import counted
from .bundle import Bundle
from .check import UNREADABLE, Check, brief, check, printable
from .collect import lineage_folder
from .layout import INDEX, shown


def lineage_check(bundle: Bundle, folder: Path, records: Mapping[str, Record]) -> Check:
    """Manifests hash to their digests and name one another; certificates follow from the predictions beside them."""
    wrong: list[str] = []
    names, certificates, end = [], 0, ""
    expected: str | None = bundle.index["artifact"]
    for entry in bundle.index["lineage"]:
        at = f"{lineage_folder(entry['digest'])}/{MANIFEST}"
        try:
            artifact = bundled_artifact(bundle, folder, entry["digest"])
            if artifact.digest != expected:
                wrong.append(f"{at}: its digest is {artifact.digest[:12]}…, {str(expected)[:12]}… belongs here")
            if artifact.digest != entry["digest"]:
                wrong.append(f"{INDEX}: {shown(entry['digest'])} is not the digest of {at}, {artifact.digest}")
            expected = artifact.manifest.parent
            from_checkpoint = expected == artifact.manifest.checkpoint
            end = (
                f"checkpoint {str(expected)[:12]}…" if from_checkpoint else f"{str(expected)[:12]}…, not in the bundle"
            )
            names.append(printable(entry["folder"]))
            certificates += _check_claims(artifact)
            _check_files(artifact)
        except UNREADABLE as error:
            wrong.append(f"{at}: {brief(error, folder)}")
    rows = {subject.artifact for record in records.values() for subject in record.subjects}
    if records and bundle.index["artifact"] not in rows:
        wrong.append(f"{INDEX}: no row is about artifact {bundle.index['artifact'][:12]}…")
    certified = f"; {counted(certificates, 'certificate')}, as the predictions beside give" if certificates else ""
    return check("lineage", wrong, f"{' ← '.join([*names, end])}{certified}")


def lineage_members(bundle: Bundle, folder: Path) -> set[str]:
    """Names of all that the lineage speaks of: manifests, the files that they name, claims."""
    known = set()
    for entry in bundle.index["lineage"]:
        at = lineage_folder(entry["digest"])
        known.add(f"{at}/{MANIFEST}")
        with contextlib.suppress(*UNREADABLE):  # as `lineage_check` says
            artifact = bundled_artifact(bundle, folder, entry["digest"])
            known |= {f"{at}/{file.name}" for file in artifact.manifest.files}
            known |= {f"{at}/{CLAIMS}/{path.name}" for path in claim_files(artifact)}
    return known


def bundled_artifact(bundle: Bundle, folder: Path, digest: str) -> Artifact:
    """An artifact of the lineage as its manifest says; its files are there only where they were bundled.

    Raises:
        BadInput: no manifest of this digest, or not as one is written.
    """
    at = f"{lineage_folder(digest)}/{MANIFEST}"
    if at not in bundle.members:
        raise BadInput(f"{at} is not in the bundle", "a manifest of each artifact that the index names")
    manifest = parse_manifest(bundle.members[at].decode("utf-8", "replace"), at)
    if bundle.members[at] != manifest.to_json().encode():
        raise BadInput(f"{at}: not as a manifest is written", "canonical JSON")
    return Artifact(folder / lineage_folder(digest), manifest)


def has_model(artifact: Artifact) -> bool:
    """True if its files lie beside its manifest."""
    return all((artifact.folder / file.name).is_file() for file in artifact.manifest.files)


def _check_claims(artifact: Artifact) -> int:
    """Number of certificates, all of which follow from their predictions; other claims name the artifact.

    Raises:
        BadArtifact: one does not.
    """
    claim_files(artifact)  # reads each, certificates or not
    found = read_certificates(artifact)
    for certificate in found:
        check_certificate(artifact, certificate)
    return len(found)


def _check_files(artifact: Artifact) -> None:
    """None of its files is there, or all are, as its manifest has them.

    Raises:
        BadArtifact: some are missing, or a byte changed.
    """
    if any((artifact.folder / file.name).is_file() for file in artifact.manifest.files):
        artifact.verify()
