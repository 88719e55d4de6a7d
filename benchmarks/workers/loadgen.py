"""MLPerf LoadGen drives an open session: it asks for samples, we answer, it keeps the clock and the logs.

Worker side: imports floors 1 to 3 only, and LoadGen itself not before it is needed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...errors import BadInput, EngineMissing
from ...runtime.session import Session
from .sut import Samples, System

SCENARIOS = {
    "single-stream": "SingleStream",
    "multi-stream": "MultiStream",
    "offline": "Offline",
    "server": "Server",
}
MODES = {"performance": "PerformanceOnly", "accuracy": "AccuracyOnly"}
# MLPerf's own image classifier: LoadGen carries the official settings of each of MLPerf's networks (its mlperf.conf),
# and these are what a classifier of photos is held to.
_OFFICIAL_NETWORK = "resnet50"


@dataclass(frozen=True)
class LoadOptions:
    """What is asked of LoadGen.

    Args:
        scenario, mode: a key of `SCENARIOS`, of `MODES`.
        official: LoadGen's official least duration and counts; else `duration_s` and no least count.
        duration_s: least duration of a shortened run, seconds.
        batch: samples a call; offline and multi-stream only.
        target_qps: queries a second that the server scenario sends; samples a second expected offline.
        target_latency_ms: what the server's 99th percentile must keep; None for MLPerf's 15 ms.
    """

    scenario: str = "single-stream"
    mode: str = "performance"
    official: bool = False
    duration_s: float = 10.0
    batch: int = 1
    target_qps: float | None = None
    target_latency_ms: float | None = None


def need_loadgen() -> ModuleType:
    """LoadGen's Python module.

    Raises:
        EngineMissing: it is not installed.
    """
    try:
        import mlperf_loadgen
    except ImportError as error:
        raise EngineMissing(
            f"mlperf_loadgen cannot be imported ({error})", "MLPerf LoadGen", 'pip install "tiffin[loadgen]"'
        ) from error
    return mlperf_loadgen


def probe(session: Session, samples: Mapping[str, str], options: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Warm up as the scenario will run.

    Returns:
        `samples_per_s`, and `expected_s`, about how long `drive` will take.
    """
    asked, loadgen = LoadOptions(**options), need_loadgen()
    system = System(loadgen, session, Samples(samples), asked.scenario, asked.batch)
    system.samples.load(range(min(32, system.samples.count)))
    rate = system.rate(seconds)
    settings, _ = _settings(loadgen, asked, system.samples.count, rate)
    if asked.mode == "accuracy":
        return {"samples_per_s": rate, "expected_s": system.samples.count / rate}
    least_s = settings.min_duration_ms / 1e3
    each = settings.multi_stream_samples_per_query if asked.scenario == "multi-stream" else 1
    # An overloaded server still answers all that was due.
    due = (asked.target_qps or 0) * least_s if asked.scenario == "server" else 0
    count = max(settings.min_query_count * each, due)
    return {"samples_per_s": rate, "expected_s": max(least_s, count / rate)}


def drive(
    session: Session, samples: Mapping[str, str], options: Mapping[str, Any], samples_per_s: float, folder: str
) -> dict[str, Any]:
    """One test; LoadGen's logs go to `folder`, and with them `query_ns.npy`, what each query took as we saw it.

    Args:
        samples: input name → .npy file, one row a sample.
        options: those of `LoadOptions`.
        samples_per_s: as `probe` found; LoadGen makes its queries beforehand and must know how many will do.

    Returns:
        `shortened`: setting → words, for each that is below the official one; `duration_s` of the test.

    Raises:
        EngineFailed, BadInput: what the session raised; LoadGen's threads then stand still until the process ends.
    """
    asked, loadgen = LoadOptions(**options), need_loadgen()
    system = System(loadgen, session, Samples(samples), asked.scenario, asked.batch)
    settings, shortened = _settings(loadgen, asked, system.samples.count, samples_per_s)
    sut = loadgen.ConstructSUT(system.issue, lambda: None)
    count = system.samples.count
    qsl = loadgen.ConstructQSL(count, min(count, settings.performance_sample_count_override), system.samples.load,
                               system.samples.unload)  # fmt: skip
    threading.Thread(
        target=_test, args=(loadgen, sut, qsl, settings, _logs(loadgen, folder), system), daemon=True
    ).start()
    error = system.outcome.get()
    if error is not None:
        raise error
    loadgen.DestroyQSL(qsl)
    loadgen.DestroySUT(sut)
    np.save(Path(folder, "query_ns.npy"), np.array(system.query_ns, np.int64))
    return {"shortened": shortened, "duration_s": system.duration_s}


def _test(loadgen: ModuleType, sut: int, qsl: int, settings: Any, logs: Any, system: System) -> None:
    try:
        loadgen.StartTestWithLogSettings(sut, qsl, settings, logs, "")
        system.outcome.put(None)
    except BaseException as error:
        system.outcome.put(error)


def _settings(loadgen: ModuleType, asked: LoadOptions, count: int, samples_per_s: float) -> tuple[Any, dict[str, str]]:
    """LoadGen's settings, and which official ones are shortened."""
    settings = loadgen.TestSettings()
    if settings.FromConfig("", _OFFICIAL_NETWORK, SCENARIOS[asked.scenario], 0) != 0:  # 0: only what it carries itself
        raise BadInput(
            "this LoadGen carries no official settings", "version 6 or newer", 'pip install -U "mlcommons-loadgen>=6"'
        )
    official = {name: getattr(settings, name) for name in _SHORTENED}
    kept_ns = settings.server_target_latency_ns
    settings.scenario = getattr(loadgen.TestScenario, SCENARIOS[asked.scenario])
    settings.mode = getattr(loadgen.TestMode, MODES[asked.mode])
    if not asked.official:
        settings.min_duration_ms, settings.min_query_count = round(asked.duration_s * 1e3), 1
    settings.performance_sample_count_override = min(count, settings.performance_sample_count_override)
    # Half of what a query takes, and 1.2 of the rate: too many queries made beforehand cost memory, too few end early.
    settings.single_stream_expected_latency_ns = max(1, round(0.5e9 / samples_per_s))
    settings.multi_stream_expected_latency_ns = max(
        1, round(0.5e9 * settings.multi_stream_samples_per_query / samples_per_s)
    )
    settings.offline_expected_qps = asked.target_qps or 1.2 * samples_per_s
    settings.server_target_qps = asked.target_qps or 1.0
    if asked.target_latency_ms is not None:
        settings.server_target_latency_ns = round(asked.target_latency_ms * 1e6)
    applied = {name: getattr(settings, name) for name in _SHORTENED}
    shortened = _below(official, applied)
    if settings.server_target_latency_ns > kept_ns:
        shortened["server_target_latency_ns"] = f"{settings.server_target_latency_ns} of {kept_ns}"
    return settings, {} if asked.mode == "accuracy" else shortened


_SHORTENED = ("min_duration_ms", "min_query_count", "performance_sample_count_override")


def _below(official: Mapping[str, int], applied: Mapping[str, int]) -> dict[str, str]:
    return {name: f"{applied[name]} of {official[name]}" for name in official if applied[name] < official[name]}


def _logs(loadgen: ModuleType, folder: str) -> Any:
    output = loadgen.LogOutputSettings()
    output.outdir, output.copy_summary_to_stdout = folder, False
    logs = loadgen.LogSettings()
    logs.log_output, logs.enable_trace = output, False
    return logs
