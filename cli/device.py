"""Commands for the device: predict, backends. They need no torch and no onnx."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from . import options, render


def register(app: typer.Typer) -> None:
    """Add this file's commands."""
    app.command()(predict)
    app.command()(backends)


def predict(
    artifact: Annotated[Path, typer.Argument(help="The artifact's folder, or a .tiffin file.")],
    photos: Annotated[list[Path], typer.Argument(help="One photo or more.")],
    backend: options.Backend = None,
    threads: options.Threads = None,
    precision: options.Precision = None,
    top: Annotated[int, typer.Option(min=1, help="How many labels.")] = 5,
    allow_uncertified: Annotated[
        bool, typer.Option("--allow-uncertified", help="Run what is known to answer worse on this class of CPU.")
    ] = False,
    as_json: options.Json = False,
) -> None:
    """The likeliest labels of photos, with scores and time."""
    import numpy as np

    from ..runtime import Classifier, Session, resolve
    from ..runtime.preprocess import prepare

    loaded, run = resolve(artifact, backend, allow_uncertified, threads=threads, execution_precision=precision)
    with Session(loaded, run) as session:
        classifier = Classifier(session)
        applied = session.applied
        render.echo_options(artifact=loaded.folder.name, backend=applied.run.backend, version=applied.version,
                            device=applied.run.device, threads=applied.run.threads,
                            precision=loaded.manifest.precision,
                            float_layers=applied.run.execution_precision)  # fmt: skip
        host = classifier.preprocess
        classifier(np.zeros((1, host.height, host.width, 3), np.uint8))  # the first call pays for set-up
        for photo in photos:
            start = time.perf_counter_ns()
            prepared = prepare(photo, classifier.preprocess)
            middle = time.perf_counter_ns()
            guesses = classifier.rank(classifier(prepared[None]), top)[0]
            times = {"prepare_s": (middle - start) / 1e9, "run_s": (time.perf_counter_ns() - middle) / 1e9}
            if as_json:
                render.show(json.dumps({"photo": str(photo), "top": [asdict(guess) for guess in guesses], **times}))
                continue
            render.show(f"{photo}  (prepare {times['prepare_s'] * 1e3:.1f} ms, run {times['run_s'] * 1e3:.1f} ms)")
            for guess in guesses:
                render.show(f"  {guess.score:6.1%}  {guess.label}")


def backends(as_json: options.Json = False) -> None:
    """What this machine can run: engines, versions, devices, CPU features, precisions worth using."""
    from .. import machine
    from ..artifact.cpu_class import class_here
    from ..runtime import backends as registry

    probes = [registry.probe(name) for name in registry.names()]
    if as_json:
        environment, cpu = machine.environment(), class_here()
        about = {"environment": environment, "cpu_class": cpu.name if cpu else None}
        render.show(json.dumps({**about, "backends": [asdict(probe) for probe in probes]}, indent=1))
        return
    words = ", ".join(machine.feature_words(machine.cpu_features())) or "no vector extensions that matter"
    render.show(f"{machine.cpu_model()}, {machine.usable_cores()} usable cores: {words}")
    cpu = class_here()
    render.show(f"class of CPU for certificates: {f'{cpu.name} ({cpu.words})' if cpu else 'none that is known'}")
    if cpu and cpu.saturates:
        render.show("no VNNI: int8 with full-range weights answers wrongly here; use scheme cpu")
    render.show("")
    rows = [[p.backend, p.version or "–", ", ".join(p.devices) or "–", ", ".join(p.precisions) or "–"] for p in probes]
    render.show(render.Table(("backend", "version", "devices", "precisions"), rows, left=4).text())
    notes = [f"{p.backend}: {p.reason}" + (f"; {p.install}" if p.install else "") for p in probes if p.reason]
    render.show("\n" + render.wrapped(notes) if notes else "")
