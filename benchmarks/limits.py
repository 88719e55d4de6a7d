"""What a CPU gives at best: operations a second by matrix products, bytes a second by copies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import errors
from ..artifact import Artifact, Producer, RunConfig, TensorSpec
from ..artifact.manifest import Manifest
from ..artifact.store import save
from ..errors import TiffinError, WorkerFailed
from ..machine import usable_cores
from .rounds import random_feeds
from .workers.client import WorkerClient
from .workers.place import NATIVE

FOOTPRINTS = tuple(1 << power for power in (18, 20, 22, 24, 26, 28))  # bytes, from a core's own cache to memory
# Rows and columns of the matrix products: 5 ms and 0.3 s at 50 Gop/s. The large one has the least overhead, the small
# one may end before something else gets its turn on the core.
PRODUCTS = (512, 2048)

_TIMEOUT_S = 600
_SECONDS = 2.0  # of each product, and four times as long as of copies of one size

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Limits:
    """What this CPU gives on so many threads.

    Args:
        ops_per_s: by the type of what is multiplied, "float" or "int8"; a multiplication and an addition are two.
        by: the product that gave each.
        bytes_per_s: read and written, by the number of bytes that the copies touch.
    """

    ops_per_s: Mapping[str, float]
    by: Mapping[str, str]
    bytes_per_s: Mapping[int, float]

    def memory_s(self, size: int) -> float:
        """The least that moving so many bytes can take: the best rate among the footprints that are not smaller."""
        fitting = [rate for footprint, rate in self.bytes_per_s.items() if footprint >= size]
        return size / max(fitting or self.bytes_per_s.values())


def measure_limits(run: RunConfig, arithmetics: Iterable[str], progress: Progress = lambda line: None) -> Limits:
    """Measure them on the threads of `run`, each in a process of its own.

    A float product is computed by numpy's BLAS and by the engine, an int8 one by the engine; the best of them counts.
    Products of 8-bit numbers are exact in float32, so what float gives bounds int8 too: an engine's int8 product may be
    slower than that (it is where the CPU has no VNNI and the kernel is an old one).

    Args:
        arithmetics: "float", "int8" or both.
    """
    threads = run.threads or usable_cores()
    progress("measuring memory's bandwidth")
    rates = ask_profiler("copies", threads=threads, footprints=FOOTPRINTS, seconds=_SECONDS / 4)["bytes_per_s"]
    found: dict[str, float] = {}
    ops_per_s: dict[str, float] = {}
    by: dict[str, str] = {}
    for arithmetic in sorted({"float", *arithmetics}):
        progress(f"measuring {arithmetic} matrix products")
        for size in PRODUCTS:
            found[f"{size}³ in {arithmetic} by {run.backend}"] = _engine_product(run, size, arithmetic)
            if arithmetic == "float" and run.execution_precision == "fp32":
                told = ask_profiler("multiply", threads, size=size, seconds=_SECONDS)
                found[f"{size}³ in float by numpy"] = told["ops_per_s"]
        by[arithmetic] = max(found, key=lambda name: found[name])
        ops_per_s[arithmetic] = found[by[arithmetic]]
    return Limits(ops_per_s, by, {int(size): rate for size, rate in rates.items()})


def ask_profiler(task: str, blas_threads: int = 1, **asked: Any) -> dict[str, Any]:
    """Let `workers.profiler` do one task in a process of its own.

    Raises:
        WorkerFailed: it died or hung.
        TiffinError: what it raised, of the same class.
    """
    command = [sys.executable, "-m", "tiffin.benchmarks.workers.profiler", json.dumps({"task": task, **asked})]
    env = {**os.environ, **{f"{name}_NUM_THREADS": str(blas_threads) for name in ("OMP", "OPENBLAS", "MKL")}}
    try:
        found = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S,
                               env=env)  # fmt: skip
        answer = json.loads(found.stdout)
    except subprocess.TimeoutExpired as error:
        raise WorkerFailed(f"profiling did not end within {_TIMEOUT_S} s") from error
    except ValueError as error:
        last = (found.stderr.strip() or "without a word").splitlines()[-1]
        raise WorkerFailed(f"profiling died with {found.returncode}: {last[:300]}") from error
    if "error" in answer:
        name, *words = answer["error"]
        raise getattr(errors, name, TiffinError)(*words)
    return answer


def _engine_product(run: RunConfig, size: int, arithmetic: str) -> float:
    """Operations a second of a matrix product by the engine itself, the best of its calls."""
    with tempfile.TemporaryDirectory() as scratch:
        artifact = product_artifact(Path(scratch) / "product", size, arithmetic)
        with WorkerClient(artifact, run, NATIVE, random_feeds(artifact, size, 0)) as worker:
            return 2 * size**3 / float(worker.time(_SECONDS, 3).ns.min()) * 1e9


def product_artifact(out: Path, size: int, arithmetic: str) -> Artifact:
    """A matrix product as an ONNX artifact: in "float", or in "int8" from uint8 to uint8 with int8 weights."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(0).integers(-63, 64, (size, size)).astype(np.int8)  # 7 bits, as in scheme "cpu"
    if arithmetic == "int8":
        element, dtype = TensorProto.UINT8, "uint8"
        held = {"whole": weights, "step": np.float32(0.01), "zero": np.uint8(0), "middle": np.int8(0),
                "coarse": np.float32(0.01 * size)}  # fmt: skip
        nodes = [
            helper.make_node("DequantizeLinear", ["given", "step", "zero"], ["rows"]),
            helper.make_node("DequantizeLinear", ["whole", "step", "middle"], ["columns"]),
            helper.make_node("MatMul", ["rows", "columns"], ["exact"]),
            helper.make_node("QuantizeLinear", ["exact", "coarse", "zero"], ["found"]),
        ]
    else:
        element, dtype, held = TensorProto.FLOAT, "float32", {"columns": weights.astype(np.float32)}
        nodes = [helper.make_node("MatMul", ["given", "columns"], ["found"])]
    ends = [[helper.make_tensor_value_info(name, element, [size, size])] for name in ("given", "found")]
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in held.items()]
    graph = helper.make_graph(nodes, "product", *ends, initializer=tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    given, found = ((TensorSpec(name, dtype, (size, size)),) for name in ("given", "found"))
    precision = "int8" if arithmetic == "int8" else "fp32"
    manifest = Manifest("product", "onnx", precision, given, found, files=(), producer=Producer("roofline"))
    return save(out, manifest, {"model.onnx": model.SerializeToString()})
