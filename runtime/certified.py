"""Before an artifact is opened: what is certified of it for the class of CPU that it will run on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from .. import machine
from ..artifact import Artifact, RunConfig
from ..artifact.certificate import MARGIN, Certificate, certificates_for, read_certificates
from ..artifact.cpu_class import CpuClass, class_here
from ..artifact.lineage import variants_of
from ..artifact.scheme import SCHEMES
from ..errors import BadArtifact, EngineMissing, NotCertified, command
from . import backends

if TYPE_CHECKING:
    from ..artifact.bundle import Variant

_log = logging.getLogger("tiffin")
_ANYWAY = "pass allow_uncertified=True (--allow-uncertified)"


class Standing(Enum):
    """What is known of an artifact on the class of CPU here."""

    REFERENCE = "float32, or not on the CPU: nothing to certify"
    CERTIFIED = "certified"
    UNKNOWN = "not certified"
    UNDECIDED = "certified without a verdict"
    FAILED = "certified to answer worse"


def is_reference(artifact: Artifact, run: RunConfig) -> bool:
    """True of what needs no certificate: float32 throughout, or not on the CPU."""
    return artifact.manifest.precision == "fp32" and run.execution_precision == "fp32" or run.device != "cpu"


def standing(artifact: Artifact, run: RunConfig) -> tuple[Standing, str]:
    """What is known, and why in a few words.

    A PASS holds for the engine's version and the execution precision that it was made with; one at a wider margin than
    the usual is said. A FAIL holds for others too, until it is certified again: what saturates is the CPU.

    Raises:
        BadArtifact: a certificate is not what its predictions give.
    """
    if is_reference(artifact, run):
        return Standing.REFERENCE, ""
    cpu = class_here(run.backend)
    held = certificates_for(artifact, cpu.name, run.backend) if cpu else []
    if not held:
        return _elsewhere(artifact, run, cpu)
    from ..records.certification import check_certificate  # statistics: only where there is something to check

    for found in held:
        check_certificate(artifact, found)
    valid = [found for found in held if not _other_engine(found, run)]
    for found in valid[:1] or held:
        if found.verdict == "FAIL":
            return Standing.FAILED, f"certified to answer worse ({found.reason})"
    if not valid:
        return Standing.UNKNOWN, f"certified with {_other_engine(held[0], run)}"
    if valid[0].verdict != "PASS":
        return Standing.UNDECIDED, f"certified without a verdict ({valid[0].reason})"
    wide = valid[0].margin > MARGIN
    return Standing.CERTIFIED, f"certified to lose at most {valid[0].margin * 100:g} points" if wide else ""


def _elsewhere(artifact: Artifact, run: RunConfig, cpu: CpuClass | None) -> tuple[Standing, str]:
    """Without a certificate for this class: what those for others and the artifact's scheme tell."""
    passed = [each for each in read_certificates(artifact) if each.verdict == "PASS"]
    others = sorted({f"{each.cpu_class} with {each.backend}" for each in passed})
    scheme = SCHEMES.get(artifact.manifest.scheme or "")
    fused = run.graph_level != "none"  # else int8 is computed in float, as ONNX defines it
    if fused and cpu and cpu.saturates and scheme and scheme.needs_vnni:
        alone = f"certified on {', '.join(others)} alone" if others else "not certified"
        return Standing.FAILED, f"{alone}, and its scheme {scheme.name} needs VNNI"
    return Standing.UNKNOWN, "not certified" + (f" (but on {', '.join(others)})" if others else "")


def _line(artifact: Artifact, run: RunConfig, known: Standing, why: str) -> str:
    cpu = class_here(run.backend)
    about = f"{artifact.folder} on {run.backend}, CPU class {cpu.name if cpu else 'unknown'}: {why}"
    if known is not Standing.UNKNOWN:
        return about
    precision = None if run.execution_precision == "fp32" else run.execution_precision
    return f"{about}; certify it: `{command('certify', f'{artifact.folder}@{run.backend}', precision=precision)}`"


def _other_engine(found: Certificate, run: RunConfig) -> str:
    """In what the certified run differs from this one, or an empty string."""
    here = machine.versions((run.backend,)).get(run.backend)  # the package is not imported: it may take a second
    if here != found.engine_version and backends.installed(run.backend):
        return f"{run.backend} {found.engine_version}, here is {here or 'a version that is not known'}"
    if run.execution_precision != found.execution_precision:
        return f"float layers in {found.execution_precision}, asked for {run.execution_precision}"
    return ""


def require(artifact: Artifact, run: RunConfig, allow_uncertified: bool) -> None:
    """Say what is not known in one line; refuse what is known to answer worse.

    Raises:
        NotCertified: it is known to answer worse here, and `allow_uncertified` is false.
        BadArtifact: a certificate is not what its predictions give.
        BadInput: no such backend.
    """
    known, why = standing(artifact, run)
    if not why:  # the usual case: start-up pays for nothing more
        return
    line = _line(artifact, run, known, why)
    if known is Standing.FAILED and not allow_uncertified:
        fix = f"quantize with scheme cpu (`tiffin quantize`) and certify that, or {_ANYWAY}"
        raise NotCertified(line, "an artifact that is certified here", _variant_that_passes(artifact, run) or fix)
    engine = backends.probe(run.backend)
    if engine.runs and artifact.manifest.format in engine.formats:  # else opening it says why not
        _log.warning(line)


def _variant_that_passes(artifact: Artifact, run: RunConfig) -> str:
    """How to load a neighbour of the same checkpoint that is certified here, or an empty string."""
    passing = {}
    for other in variants_of(artifact):
        with contextlib.suppress(BadArtifact):  # a broken certificate of a neighbour is not what was asked about
            for found in read_certificates(other):
                as_found = replace(run, backend=found.backend, execution_precision=found.execution_precision)
                if standing(other, as_found)[0] is Standing.CERTIFIED and _has_engine(found.backend):
                    passing[f"{other.folder} on {found.backend}"] = found
    return f"load {' or '.join(passing)}, certified here" if passing else ""


def choose(path: Path, variants: Sequence[Variant], allow_uncertified: bool) -> Variant:
    """Of a box's variants the first, the fastest, whose engine is here and that is certified for this class of CPU.

    Those before it that are not certified are said in one line.

    Raises:
        NotCertified: none is, and `allow_uncertified` is false.
        EngineMissing: no variant's engine is installed.
        BadArtifact: a certificate is not what its predictions give.
    """
    able = [variant for variant in variants if _has_engine(variant.run.backend)]
    if not able:
        named = " or ".join(sorted({variant.run.backend for variant in variants}))
        raise EngineMissing(f"{path}: no engine of its variants is here", named, "see `tiffin backends`")
    known = [(variant, *standing(variant.artifact, variant.run)) for variant in able]
    for place, (variant, found, why) in enumerate(known):
        if found in (Standing.CERTIFIED, Standing.REFERENCE):
            _log.info("%s: variant %s", path, variant.name)
            if place:
                _log.warning(f"{path}: {variant.name} is taken; faster ones are not: {_reasons(known[:place])}")
            if why:
                _log.warning(_line(variant.artifact, variant.run, found, why))
            return variant
    if not allow_uncertified:
        raise NotCertified(f"{path}: nothing in it is certified for this class of CPU: {_reasons(known)}",
                           "a variant that is", f"{_ANYWAY} to take the fastest")  # fmt: skip
    first, found, why = known[0]
    _log.warning(_line(first.artifact, first.run, found, why))
    return first


def _reasons(known: Sequence[tuple[Variant, Standing, str]]) -> str:
    return "; ".join(f"{variant.name}: {why}" for variant, _, why in known)


def _has_engine(backend: str) -> bool:
    """Asked, where it can be, without importing it: that may take a second an engine."""
    if backend not in backends.names():
        return False  # a plug-in's, on another machine
    try:
        engine = getattr(backends.backend(backend), "ENGINE", None)
    except EngineMissing:  # a plug-in's that is broken
        return False
    return backends.installed(engine) if engine else backends.probe(backend).runs
