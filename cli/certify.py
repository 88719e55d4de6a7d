"""Commands about CPUs that are not this one: certify, certificates, emulate."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInput, EngineMissing
from . import certificates as tables
from . import options, output, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from ..benchmarks.candidate import Candidate
    from ..benchmarks.certify import Outcome, Target
    from ..data import Dataset, Photo

emulate = typer.Typer(no_args_is_help=True, help="Other CPUs, emulated by QEMU's user mode.")

_OF_EMULATION = ("photos", "identity", "alarm", "everything")


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(certify)
    app.command()(certificates)
    app.add_typer(emulate, name="emulate")


def certify(
    context: typer.Context,
    artifacts: options.Subjects,
    isa: Annotated[
        str | None, typer.Option(help="Classes to limit this CPU to, such as sse41,avx2,avx512,vnni,bf16,amx.")
    ] = None,
    cpu: Annotated[str | None, typer.Option(help="CPUs to emulate, such as cortex-a76,cortex-a72,haswell.")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="The fp32 artifact. Default: the ancestor in a folder beside.")
    ] = None,
    backend: options.Backend = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    data: options.Data = None,
    role: Annotated[str, typer.Option(help="Role of the photos: confirm or select.")] = "confirm",
    margin: Annotated[float, typer.Option(help="Non-inferiority margin of top-1: 0.01 is one point.")] = 0.01,
    photos: Annotated[int, typer.Option(min=1, help="Random sample where an emulated CPU has other bits.")] = 300,
    identity: Annotated[int, typer.Option(min=1, help="Photos whose bits are compared first when emulated.")] = 32,
    alarm: Annotated[int, typer.Option(min=1, help="Photos of the smallest margins, beside a sample.")] = 40,
    everything: Annotated[bool, typer.Option("--all", help="All photos on emulated CPUs too.")] = False,
    seed: options.Seed = 0,
    out: Annotated[Path, typer.Option(help="Record to write.")] = Path("out/certify.json"),
    as_json: options.Json = False,
) -> None:
    """Is it as accurate on other classes of CPU?

    Default: the class of this one. See docs/cpus.md.
    """
    from .. import machine
    from ..benchmarks.accuracy import score
    from ..benchmarks.certify import BATCH, Certifier, CertifyOptions, Context
    from ..data.prepared import prepare_photos
    from .build import dataset_of

    if cpu is None:
        options.refuse(context, _OF_EMULATION, "no --cpu", "--cpu: on this machine every photo is answered")
    for named in (options.split_engine(word)[0] for word in artifacts):
        if tables.is_box(named):
            raise BadInput(f"{named}: is a box", "an artifact's folder", tables.how_to_certify_box(named))
    found = options.candidates(artifacts, backend, threads, precision)
    chosen = CertifyOptions(identity, photos, alarm, everything, seed)
    wanted = _words(isa), _words(cpu)
    _targets(wanted, found[0])  # an unknown word is refused before anything is measured
    base = options.candidates([str(_reference(reference, found))], None, threads, None)[0]
    assert base.artifact is not None
    dataset = options.labelled(dataset_of(data), [base])
    drawn = _photos(dataset, role)
    common = Context({"name": dataset.name, "kind": dataset.kind, "role": role, "count": len(drawn)},
                     base.artifact.digest, margin)  # fmt: skip
    output.prepare_record(out)
    render.echo_options(data=dataset.name, role=role, photos=len(drawn), reference=base.name, margin=margin, out=out)
    environment, cache = machine.environment(), out.parent / "cache"
    prepared = prepare_photos(drawn, options.one_preprocess([base, *found]), cache, dataset.kind)
    bar = (lambda name, total: lambda done: None) if as_json else render.TerminalProgress().bar
    answers, applied = score(base, prepared, cache, bar(f"reference {base.name}", len(prepared)), BATCH)
    outcomes: list[tuple[Candidate, Outcome]] = []
    for candidate in found:
        certifier = Certifier(candidate, prepared, answers, common, chosen, cache, bar)
        outcomes += [(candidate, certifier.certify(target)) for target in _targets(wanted, candidate)]
    record = tables.record_of((base, answers, applied), outcomes, common, chosen, environment)
    render.show(tables.as_json(record) if as_json else "\n" + tables.as_text(record))
    is_empty = all(outcome.certificate is None for _, outcome in outcomes)
    output.keep(record, out, is_empty)
    if is_empty:
        raise EngineMissing("nothing could be certified here; the reasons stand above", "at least one class of CPU")
    render.say("certificates lie beside each artifact")


def _words(text: str | None) -> list[str]:
    """Words between commas, each once."""
    return list(dict.fromkeys(word.strip().lower() for word in text.split(",") if word.strip())) if text else []


def _photos(dataset: Dataset, role: str) -> tuple[Photo, ...]:
    """Raises BadInput for photos that the model may have learned from."""
    if role not in ("confirm", "select"):
        raise BadInput(f"role {role!r} to certify on", "confirm or select: photos that training has not seen")
    return dataset.role(role)


def _reference(named: Path | None, found: list[Candidate]) -> Path:
    """The float32 artifact that all are compared with.

    Raises:
        BadInput: it is not float32, not found, or not the same for all.
    """
    from ..artifact import Artifact
    from ..artifact.lineage import reference_of

    if named is None:
        ancestors = {each.digest: each for row in found if row.artifact for each in [reference_of(row.artifact)]}
        if len(ancestors) > 1:
            raise BadInput("artifacts that came from different fp32 artifacts", "those of one",
                           "certify them apart, or name one with --reference")  # fmt: skip
        return next(iter(ancestors.values())).folder
    if (precision := Artifact.load(named).manifest.precision) != "fp32":
        raise BadInput(f"{named}: a reference of precision {precision}", "the fp32 artifact")
    return named


def _targets(wanted: tuple[list[str], list[str]], candidate: Candidate) -> list[Target]:
    """Where to certify one artifact; the class of this CPU where nothing was named.

    Raises:
        BadInput: an unknown word, or this CPU is of no class.
    """
    from ..artifact.cpu_class import class_here
    from ..benchmarks.certify import emulated_target, isa_target

    assert candidate.run is not None
    own = class_here(candidate.run.backend)
    if not any(wanted) and own is None:
        raise BadInput("this CPU is of no class that is known", "a class of docs/cpus.md", "name CPUs with --cpu")
    isas = wanted[0] if any(wanted) or own is None else [own.name]
    return [isa_target(name, candidate.run) for name in isas] + [
        emulated_target(name, candidate.run) for name in wanted[1]
    ]


def certificates(
    artifact: Annotated[Path, typer.Argument(help="An artifact's folder, or a .tiffin file.", show_default=False)],
    as_json: options.Json = False,
) -> None:
    """What is certified of an artifact. Each certificate is checked against the predictions beside it."""
    from ..artifact import Artifact
    from ..artifact.bundle import open_box
    from ..artifact.certificate import read_certificates
    from ..records.certification import check_certificate

    box = tables.is_box(str(artifact))
    held = [variant.artifact for variant in open_box(artifact).variants] if box else [Artifact.load(artifact)]
    rows = []
    for each in held:
        for found in read_certificates(each):
            check_certificate(each, found)
            rows.append((f"{each.folder.resolve().name}@{found.backend}", asdict(found)))
    render.show(tables.list_json(rows) if as_json else tables.list_text(rows, str(artifact)))


@emulate.command("list")
def list_() -> None:
    """The CPUs that can be emulated, and which are set up."""
    from ..benchmarks.emulation import cpus, sysroot

    rows = []
    for cpu in cpus.EMULATED_CPUS.values():
        rows.append([cpu.name, cpu.cpu_class.name, sysroot.status(cpu), cpu.boards])
    render.show(render.Table(("cpu", "class", "set up", "found in"), rows, left=4).text())


@emulate.command()
def setup(
    cpu: Annotated[str, typer.Argument(help="Such as cortex-a76; see `tiffin emulate list`.", show_default=False)],
    engine: Annotated[
        list[str] | None, typer.Option(help="Engines to install in it. Default: those with wheels for other CPUs.")
    ] = None,
) -> None:
    """Build what a CPU's emulation needs: Debian's Python and the engines' own wheels, in the cache."""
    from ..benchmarks.emulation import cpus, qemu, sysroot

    chosen = cpus.cpu_named(cpu)
    program, version = qemu.find_qemu(chosen)
    if not chosen.debian:
        render.show(f"{cpu}: ready; {program} {version} runs this machine's own Python")
        return
    built = sysroot.set_up(chosen, sysroot.wheels_wanted(engine or sysroot.ENGINES), render.say)
    versions = ", ".join(f"{name} {found}" for name in sysroot.ENGINES if (found := built.version(name)))
    render.show(f"{cpu}: ready in {built.root} ({versions}; QEMU {version})")


@emulate.command()
def remove(
    cpu: Annotated[str, typer.Argument(help="Such as cortex-a76.", show_default=False)],
) -> None:
    """Delete what `setup` built for a CPU."""
    from ..benchmarks.emulation import cpus, sysroot

    gone = sysroot.remove(cpus.cpu_named(cpu))
    render.show(f"{cpu}: {gone} removed" if gone else f"{cpu}: nothing was set up")
