"""Commands that hand a claim on and check it again: evidence, verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import BadInput
from ..words import counted
from . import options, output, render

if TYPE_CHECKING:  # numpy, which `tiffin --help` does without
    from collections.abc import Iterator

    from ..artifact import Artifact
    from ..gate.evidence.bundle import Bundle
    from ..gate.evidence.check import Check


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(evidence)
    app.command()(verify)


def evidence(
    artifact: Annotated[Path, typer.Argument(help="Folder of the artifact that the claim is about.")],
    record: Annotated[list[Path], typer.Option(help="A record's .json; as often as there are records.")],
    gate: Annotated[Path | None, typer.Option(help="gate.json of `tiffin check` over these records.")] = None,
    policy: Annotated[Path | None, typer.Option(help="Its policy; gate.json holds the text as well.")] = None,
    baseline: Annotated[Path | None, typer.Option(help="Its baseline, where there was one.")] = None,
    report: Annotated[Path | None, typer.Option(help="Page of `tiffin report`, kept as it is.")] = None,
    with_model: Annotated[bool, typer.Option("--with-model", help="Put the model's files in as well.")] = False,
    sign: Annotated[Path | None, typer.Option(help="Secret key of minisign: write OUT.minisig beside.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle to write.")] = Path("out/evidence.zip"),
) -> None:
    """All that a claim stands on, in one file. `tiffin verify` checks it offline."""
    from ..artifact import Artifact
    from ..gate.evidence import bundle, signature
    from ..gate.evidence.collect import Verdict, collect

    if gate is None and (policy or baseline):
        raise BadInput("a policy or a baseline without a verdict", "the gate.json that was decided by it",
                       "check first: `tiffin check`, then pass --gate")  # fmt: skip
    if sign is not None:
        signature.require_minisign()
    output.make_parent(out)
    verdict = Verdict(gate, policy, baseline) if gate else None
    found = collect(Artifact.load(artifact), record, verdict, report, with_model)
    bundle.write(out, found.about, found.members)
    _sign(out, sign)
    written = bundle.read(out)
    count = len(written.members) + 1  # the index, too
    render.show(
        f"{out}: {written.size_bytes:,} bytes, {counted(count, 'member')}\nsha256 of its index: {written.identity}"
    )
    render.next_command("verify", out)


def _sign(out: Path, key: Path | None) -> None:
    from ..gate.evidence import signature

    old = signature.signature_path(out)
    if old.exists():
        old.unlink()
        render.say(f"removed {old}: it signed the bundle that was here before")
    if key is not None:
        render.say(f"signed: {signature.sign(out, key)}")


def verify(
    bundle: Annotated[Path, typer.Argument(help="A bundle that `tiffin evidence` wrote.")],
    data: Annotated[Path | None, typer.Option(help="Folder with the photos: answer them again.")] = None,
    artifact: Annotated[Path | None, typer.Option(help="The artifact that answers, where none is bundled.")] = None,
    public_key: Annotated[str | None, typer.Option(help="minisign's public key, as text or file.")] = None,
    as_json: options.Json = False,
) -> None:
    """Work out again all that a bundle says. Exit 1 names what does not hold, 2 is no bundle."""
    from ..gate.evidence.bundle import read
    from ..gate.evidence.check import State
    from ..gate.evidence.replay import bytes_check

    if artifact is not None and data is None:
        raise BadInput("an artifact without photos", "photos that it can answer", "pass --data too")
    if data is not None and not data.is_dir():
        raise BadInput(f"{data}: no folder", "a folder that holds the photos")
    found = read(bundle)
    if not as_json:
        render.show(f"{bundle.name}: {found.identity[:16] or 'no index'}")
    checks = [_told(check, as_json) for check in (bytes_check(found), *_signed(bundle, public_key))]
    if found.index:
        checks += [_told(check, as_json) for check in _replayed(found, data, artifact)]
    failed = [check.name for check in checks if check.state is State.FAILS]
    if as_json:
        _show_json(found, checks)
    else:
        render.show(f"does not hold: {', '.join(failed)}" if failed else "all of it holds")
    if failed:
        raise typer.Exit(1)


def _replayed(found: Bundle, data: Path | None, artifact: Path | None) -> Iterator[Check]:
    from ..gate.evidence.bundle import unpacked
    from ..gate.evidence.replay import replay

    with unpacked(found) as folder:
        yield from replay(found, folder)
        yield from _answered(found, folder, data, artifact)


def _answered(found: Bundle, folder: Path, data: Path | None, artifact: Path | None) -> Iterator[Check]:
    from ..gate.evidence.check import Check, State
    from ..gate.evidence.photos import answers_check

    if data is None:
        yield Check("answers", State.OPEN, ("not asked again: pass --data FOLDER with the photos",))
        return
    yield answers_check(found, folder, _chosen(found, folder, artifact), data, render.TerminalProgress().bar)


def _chosen(found: Bundle, folder: Path, given: Path | None) -> Artifact:
    """The artifact that answers: the bundled one, or the given one if it is the same.

    Raises:
        BadInput: neither is there.
    """
    from ..artifact import Artifact
    from ..gate.evidence.lineage import bundled_artifact, has_model

    digest = found.index["artifact"]
    if given is not None:
        artifact = Artifact.load(given)
        if artifact.digest != digest:
            raise BadInput(f"{given} is artifact {artifact.digest[:12]}…", f"{digest[:12]}…, which the bundle is about")
        return artifact
    bundled = bundled_artifact(found, folder, digest)
    if not has_model(bundled):
        raise BadInput("the bundle holds no model", "an artifact that can answer the photos",
                       "pass --artifact FOLDER, or make the bundle with --with-model")  # fmt: skip
    return bundled


def _signed(bundle: Path, public_key: str | None) -> Iterator[Check]:
    from ..gate.evidence import signature
    from ..gate.evidence.check import Check, State

    path = signature.signature_path(bundle)
    if public_key is not None and path.is_file():
        holds, words = signature.is_signed_by(bundle, public_key)
        yield Check("signature", State.HOLDS if holds else State.FAILS, (f"minisign: {ascii(words)[1:-1]}",))
    elif public_key is not None:
        yield Check("signature", State.FAILS, (f"{path.name} is not beside it: unsigned",))
    elif path.is_file():
        yield Check("signature", State.OPEN, ("signed, not checked: pass --public-key of whom you trust",))
    else:
        yield Check("signature", State.OPEN, ("unsigned: proves that it is whole, not who made it",))


def _told(check: Check, as_json: bool) -> Check:
    """Shown as soon as it is known."""
    if not as_json:
        head = f"{check.state.value:<6} {check.name:<10} "
        for line in check.lines:
            render.show(render.wrapped([line], head, " " * len(head)))
            head = " " * len(head)
    return check


def _show_json(found: Bundle, checks: list[Check]) -> None:
    import json
    from dataclasses import asdict

    body = {"bundle": str(found.path), "identity": found.identity, "checks": [asdict(check) for check in checks]}
    render.show(json.dumps(body, indent=1))
