"""The profiling worker: what each layer of an engine takes, and what memory gives. One task a process.

`python -m tiffin.benchmarks.workers.profiler TASK` takes a task as JSON ({"task": "layers" or "copies", …}) and prints
one line of JSON. Imports floors 1 to 3 only.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from time import perf_counter_ns as clock
from typing import Any

import numpy as np

from ... import machine
from ...artifact import Artifact, RunConfig
from ...errors import EngineMissing, TiffinError
from ...runtime.backends import onnxruntime as onnxruntime_backend
from ...runtime.backends import openvino as openvino_backend
from ...runtime.backends._openvino_forms import Forms

Feeds = dict[str, np.ndarray]
Tensors = list[tuple[str, list[int]]]  # type and shape of each
_WARM_UP = 5
_TYPES = {
    "float": "float32", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "u8": "uint8", "i8": "int8",
    "i32": "int32", "i64": "int64", "boolean": "bool",
}  # fmt: skip


def layers(artifact: str, run: Mapping[str, Any], feeds: Mapping[str, str], calls: int) -> dict[str, Any]:
    """Each executed layer's median time over `calls`, its operator, and the tensors that it reads and writes.

    Args:
        feeds: input name → .npy file.
    """
    chosen, arrays = RunConfig(**run), {name: np.load(path) for name, path in feeds.items()}
    return {"layers": PROFILERS[chosen.backend](Artifact.load(artifact), chosen, arrays, calls)}


def _onnxruntime(artifact: Artifact, run: RunConfig, feeds: Feeds, calls: int) -> list[dict[str, Any]]:
    """By its own profile (SessionOptions.enable_profiling): one event a node and call."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise EngineMissing("backend onnxruntime is not installed", "onnxruntime") from error
    options, _ = onnxruntime_backend._session_options(ort, run)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as scratch:
        options.profile_file_prefix = str(Path(scratch) / "profile")
        session = ort.InferenceSession(artifact.model_path.read_bytes(), options, providers=["CPUExecutionProvider"])
        for _ in range(_WARM_UP + calls):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    found: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            told = event["args"]
            name = re.sub(r"(_nchwc|_token_\d+)+$", "", event["name"].removesuffix("_kernel_time"))
            row = found.setdefault(f"{told['node_index']}", {
                "name": name, "op": told["op_name"], "how": "", "ns": [],
                "inputs": _typed(told["input_type_shape"]), "outputs": _typed(told["output_type_shape"]),
            })  # fmt: skip
            row["ns"].append(event["dur"] * 1000)
    return [{**row, "ns": median(row["ns"][_WARM_UP:])} for row in found.values()]


def _typed(told: Iterable[Mapping[str, list[int]]]) -> Tensors:
    return [(_TYPES.get(kind, kind), shape) for tensor in told for kind, shape in tensor.items()]


def _openvino(artifact: Artifact, run: RunConfig, feeds: Feeds, calls: int) -> list[dict[str, Any]]:
    """By its own profile (PERF_COUNT), in the form that a session would run; tensors by its runtime model."""
    try:
        import openvino as ov
    except ImportError as error:
        raise EngineMissing("backend openvino is not installed", "openvino") from error
    config = {**openvino_backend._config(ov, run), "PERF_COUNT": True}
    forms = Forms(ov.Core(), "CPU", artifact, config, None)
    compiled = forms.first if forms.fixed is None or len(feeds[forms.fixed]) == 1 else forms.any_batch()
    request = compiled.create_infer_request()
    taken: dict[str, list[float]] = {}
    how = {}
    for _ in range(_WARM_UP + calls):
        request.infer(feeds, share_inputs=True)
        for info in request.get_profiling_info():
            # What took less than a microsecond is told as not run: its other calls tell that it was.
            taken.setdefault(info.node_name, []).append(info.real_time.total_seconds() * 1e9)
            if info.status == ov.ProfilingInfo.Status.EXECUTED:
                how[info.node_name] = info.node_type, info.exec_type
    found = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        name = node.get_friendly_name()
        if name in how:
            op, kernel = how[name]
            found.append({
                "name": name.removesuffix("/WithoutBiases"), "op": op, "how": kernel,
                "ns": median(taken[name][_WARM_UP:]),
                "inputs": _ports(node.inputs()), "outputs": _ports(node.outputs()),
            })  # fmt: skip
    return found


def _ports(ports: Iterable[Any]) -> Tensors:
    shapes = [(port.get_element_type().get_type_name(), port.get_partial_shape()) for port in ports]
    return [(_TYPES.get(kind, kind), list(shape.to_shape())) for kind, shape in shapes if shape.is_static]


PROFILERS: dict[str, Callable[[Artifact, RunConfig, Feeds, int], list[dict[str, Any]]]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}


def copies(threads: int, footprints: list[int], seconds: float) -> dict[str, Any]:
    """Bytes a second, read and written, of copies that touch so many bytes in all, on so many threads.

    STREAM's Copy (McCalpin, 1995) with numpy; the best of several repetitions, as there.
    """
    return {"bytes_per_s": {str(size): _copy_rate(threads, size, seconds) for size in footprints}}


def _copy_rate(threads: int, footprint: int, seconds: float) -> float:
    part = footprint // 2 // threads
    pairs = [(np.ones(part, np.uint8), np.zeros(part, np.uint8)) for _ in range(threads)]
    repeat = max(1, (16 << 20) // footprint)

    def work(pair: tuple[np.ndarray, np.ndarray]) -> None:
        for _ in range(repeat):
            np.copyto(pair[1], pair[0])

    best, end = 0.0, clock() + int(seconds * 1e9)
    with ThreadPoolExecutor(threads) as pool:
        while clock() < end or not best:
            start = clock()
            list(pool.map(work, pairs))
            best = max(best, 2 * part * threads * repeat / (clock() - start) * 1e9)
    return best


def multiply(size: int, seconds: float) -> dict[str, Any]:
    """Operations a second of a float32 matrix product of that size, by numpy's BLAS, on the threads that it may use."""
    chance = np.random.default_rng(0)
    left, right = (chance.random((size, size), dtype=np.float32) for _ in range(2))
    out, best = left @ right, 0.0
    end = clock() + int(seconds * 1e9)
    while clock() < end or not best:
        start = clock()
        np.matmul(left, right, out=out)
        best = max(best, 2 * size**3 / (clock() - start) * 1e9)
    return {"ops_per_s": best}


def main() -> None:
    """Do one task."""
    machine.die_with_parent()
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # engines that print must not garble the answer
    asked = json.loads(sys.argv[1])
    tasks: dict[str, Callable[..., dict[str, Any]]] = {"layers": layers, "copies": copies, "multiply": multiply}
    try:
        answer = tasks[asked.pop("task")](**asked)
    except TiffinError as error:
        answer = {"error": [type(error).__name__, error.what, error.expected, error.fix]}
    print(json.dumps(answer), file=reply, flush=True)


if __name__ == "__main__":
    main()
