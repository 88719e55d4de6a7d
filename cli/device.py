"""What this machine can run: backends. Needs no torch and no onnx."""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from . import options, render


def register(app: typer.Typer) -> None:
    """Add this file's command."""
    app.command()(backends)


def backends(as_json: options.Json = False) -> None:
    """What this machine can run. Engines, versions, devices, CPU features, precisions worth using."""
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
