"""Why do OpenVINO's int8 answers on ARM differ from x86's: the engine, or the emulator that ran it?

    python benchmarks/studies/openvino_arm.py OUT.json
    python benchmarks/studies/openvino_arm.py OUT.json --pythonpath ROOT/site \
        --emulator 'qemu-aarch64-static -cpu cortex-a76 -L ROOT ROOT/usr/bin/python3.11'

One quantized layer at a time, on onnxruntime and openvino, here and in each `--emulator` (it may be given again; its
Python needs numpy and the engines). Two answers are computed in numpy: the exact one, of integers, and the one to
expect if the ARM plugin does this: float16 weights where the input's zero point is not 0; an output's zero point
computed in float32 and cut off to an integer; the first output's weight scale for all outputs of a fully connected
layer that is not quantized again and whose batch size is free. Where an emulated CPU is wrong by exactly that, the
emulator did as it was told. Weights stay within ±63: beyond, x86 without VNNI saturates.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

ENGINES = ("onnxruntime", "openvino")
X_SCALE = np.float32(0.0235)
SAME = 0.01
LAYER_TYPES = ("Convolution", "FullyConnected")


@dataclass(frozen=True)
class Layer:
    """A uint8 input, int8 weights with a scale for each output, an int32 bias; uint8 output, or floats of any batch."""

    name: str
    x: np.ndarray
    x_zero: int
    weight: np.ndarray
    weight_scale: np.ndarray
    bias: np.ndarray
    y_scale: np.float32
    y_zero: int
    group: int = 1
    floats: bool = False

    def real(self, weight: np.ndarray) -> np.ndarray:
        """The output before its quantization, of these real weights; a fully connected layer's image has one pixel."""
        pad, edge = self.weight.shape[-1] // 2, ((0, 0), (0, 0))
        x = np.pad(self.x.astype(np.float64) - self.x_zero, (*edge, (pad, pad), (pad, pad)))
        kernel = self.weight.shape[2:]
        windows = np.lib.stride_tricks.sliding_window_view(x[0], kernel, axis=(1, 2))
        windows = windows.reshape(self.group, -1, *windows.shape[1:])
        parts = weight.reshape(self.group, -1, *self.weight.shape[1:]).astype(np.float64)
        total = np.einsum("gchwij,gocij->gohw", windows, parts)
        bias = self.bias * (np.float64(X_SCALE) * self.weight_scale)
        return total.reshape(1, len(self.bias), *total.shape[2:]) + bias[None, :, None, None]

    def steps(self, real: np.ndarray, zero: int) -> np.ndarray:
        """To the nearest step, half to even; a float output is not rounded."""
        if self.floats:
            return real / np.float64(self.y_scale)
        return np.clip(np.rint(real / np.float64(self.y_scale)) + zero, 0, 255)

    def exact(self) -> np.ndarray:
        """As the ONNX standard has it: integers, and one float64 multiplication."""
        return self.steps(self.real(self.scaled(self.weight_scale)), self.y_zero)

    def scaled(self, weight_scale: np.ndarray) -> np.ndarray:
        """The weights times both scales."""
        return self.weight * (np.float64(X_SCALE) * weight_scale.astype(np.float64))[:, None, None, None]

    def expected_on_arm(self) -> np.ndarray:
        """As in this file's first lines; a depthwise layer is computed in float32."""
        if self.group > 1:
            return self.exact()
        if self.floats:
            return self.steps(self.real(self.scaled(np.full_like(self.weight_scale, self.weight_scale[0]))), 0)
        if self.x_zero:
            scale = (X_SCALE * self.weight_scale).astype(np.float16)
            return self.steps(self.real(self.weight.astype(np.float16) * scale[:, None, None, None]), self.y_zero)
        cut = int(float32_zero(self.y_scale, self.y_zero))
        return self.steps(self.real(self.scaled(self.weight_scale)), cut)


def float32_zero(scale: np.float32, zero: int) -> np.float32:
    """A zero point as OpenVINO finds it again from the ends of a quantization's range: 119.99999 for 120."""
    low, high = np.float32(-zero) * scale, np.float32(255 - zero) * scale
    return -low * np.float32(255) / (high - low)


def layer(name: str, shape: tuple[int, ...], group: int, x_zero: int, cut: bool, side: int = 14) -> Layer:
    """Of random weights and inputs; `cut` asks for an output's zero point that float32 does not hold."""
    random = np.random.default_rng(7)
    weight = random.integers(-63, 64, shape).astype(np.int8)
    weight_scale = (random.uniform(0.2, 1, shape[0]) * 0.01).astype(np.float32)
    bias = random.integers(-3000, 3000, shape[0]).astype(np.int32)
    x = random.integers(0, 256, (1, shape[1] * group, side, side))
    draft = Layer(name, x, x_zero, weight, weight_scale, bias, np.float32(1), 0, group)
    y_scale = np.float32(draft.real(draft.scaled(weight_scale)).std() * 6 / 255)
    y_zero = next(z for z in range(110, 160) if (int(float32_zero(y_scale, z)) != z) == cut)
    return Layer(name, x, x_zero, weight, weight_scale, bias, y_scale, y_zero, group)


def layers() -> list[Layer]:
    """Those of MobileNet-like networks."""
    return [
        layer("pointwise", (32, 64, 1, 1), 1, 0, cut=False),
        layer("pointwise, output zero point cut off", (32, 64, 1, 1), 1, 0, cut=True),
        layer("pointwise, input zero point 128", (32, 64, 1, 1), 1, 128, cut=False),
        layer("depthwise", (32, 1, 3, 3), 32, 0, cut=False),
        layer("fully connected", (40, 256, 1, 1), 1, 0, cut=False, side=1),
        layer("fully connected, output zero point cut off", (40, 256, 1, 1), 1, 0, cut=True, side=1),
        replace(
            layer("fully connected, float output, free batch size", (40, 256, 1, 1), 1, 0, cut=False, side=1),
            floats=True,
        ),
    ]


def dense(one: Layer) -> bool:
    """A Gemm, not a Conv."""
    return one.x.shape[2:] == (1, 1)


def constants(one: Layer) -> dict[str, np.ndarray]:
    """The graph's initializers."""
    values = {
        "x_scale": X_SCALE,
        "x_zero": np.uint8(one.x_zero),
        "weight": one.weight[:, :, 0, 0] if dense(one) else one.weight,
        "weight_scale": one.weight_scale,
        "weight_zero": np.zeros_like(one.bias, dtype=np.int8),
        "bias": one.bias,
        "bias_scale": X_SCALE * one.weight_scale,
        "bias_zero": np.zeros_like(one.bias),
        "y_scale": one.y_scale,
        "y_zero": np.uint8(one.y_zero),
    }
    return {name: np.asarray(value) for name, value in values.items()}


def model(one: Layer) -> bytes:
    """QDQ: quantize the input, dequantize everything, compute; quantize and dequantize unless floats are asked for."""
    from onnx import TensorProto, helper, numpy_helper

    def node(op: str, name: str, to: str, scales: str, **attributes: object):  # type: ignore[no-untyped-def]
        return helper.make_node(op, [name, f"{scales}_scale", f"{scales}_zero"], [to], **attributes)

    pad = one.weight.shape[-1] // 2
    about = {"transB": 1} if dense(one) else {"group": one.group, "pads": [pad] * 4}
    nodes = [node("QuantizeLinear", "in", "xq", "x"), node("DequantizeLinear", "xq", "xd", "x")]
    nodes += [node("DequantizeLinear", name, f"{name}_d", name, axis=0) for name in ("weight", "bias")]
    end, terms = "out" if one.floats else "y", ["xd", "weight_d", "bias_d"]
    nodes.append(helper.make_node("Gemm" if dense(one) else "Conv", terms, [end], **about))
    if not one.floats:
        nodes += [node("QuantizeLinear", "y", "yq", "y"), node("DequantizeLinear", "yq", "out", "y")]
    batch, image = "N" if one.floats else 1, () if dense(one) else one.x.shape[2:]
    shapes = {"in": (batch, *feed(one).shape[1:]), "out": (batch, len(one.bias), *image)}
    put, got = ([helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)] for name, shape in shapes.items())
    held = [numpy_helper.from_array(value, name) for name, value in constants(one).items()]
    graph = helper.make_graph(nodes, "layer", put, got, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()


def feed(one: Layer) -> np.ndarray:
    """The input in float32, each value on a step of its quantization."""
    x = ((one.x - one.x_zero) * np.float64(X_SCALE)).astype(np.float32)
    return x[:, :, 0, 0] if dense(one) else x


def run_onnxruntime(path: Path, x: np.ndarray) -> tuple[np.ndarray, str]:
    """One thread. It does not tell its kernels."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {"in": x})[0], ""


def run_openvino(path: Path, x: np.ndarray) -> tuple[np.ndarray, str]:
    """One thread, asked for float32: what is not int8 should be that. And the layer's kernel."""
    import openvino

    config = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", config)
    told = [op.get_rt_info() for op in compiled.get_runtime_model().get_ordered_ops()]
    kernels = [info["primitiveType"].astype(str) for info in told if info["layerType"].astype(str) in LAYER_TYPES]
    return np.array(compiled([x])[0]), " ".join(kernels)


def work(folder: Path, engine: str) -> None:
    """The part that runs here or in the emulator: every layer in the folder, its kernel told in JSON."""
    run = {"onnxruntime": run_onnxruntime, "openvino": run_openvino}[engine]
    kernels = {}
    for path in sorted(folder.glob("*.onnx")):
        try:
            y, kernels[path.stem] = run(path, np.load(path.with_suffix(".npy")))
        except RuntimeError as error:
            kernels[path.stem] = f"failed: {str(error).strip().splitlines()[-1]}"
            continue
        np.save(path.with_suffix(f".{engine}.npy"), y)
    version = __import__(engine).__version__
    (folder / f"{engine}.json").write_text(json.dumps({"version": version, "kernels": kernels}))


def write(folder: Path) -> None:
    """The models and their inputs."""
    for number, one in enumerate(layers()):
        (folder / f"{number}.onnx").write_bytes(model(one))
        np.save(folder / f"{number}.npy", feed(one))


def place(command: list[str]) -> str:
    """The processor asked for and the emulator's version, without paths."""
    if command == [sys.executable]:
        return f"here, {platform.machine()}"
    words = command[1 : command.index("-L")] if "-L" in command else []
    version = subprocess.run([command[0], "--version"], capture_output=True, text=True, check=True).stdout
    return f"{' '.join(words)}, {version.splitlines()[0]}"


def study(command: list[str], engine: str, pythonpath: str | None) -> list[dict[str, object]]:
    """A process of its own: an instruction that a CPU lacks ends it, and that is told."""
    env = {key: value for key, value in os.environ.items() if key != "OPENBLAS_CORETYPE"}
    env |= {"PYTHONPATH": pythonpath} if pythonpath else {}
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        words = [*command, str(Path(__file__).resolve()), folder, "--work", engine]
        ended = subprocess.run(words, env=env, capture_output=True, text=True)
        told = {"engine": engine, "place": place(command)}
        if ended.returncode:
            why = (ended.stderr.strip().splitlines() or [""])[-1]
            return [{**told, "failed": ended.returncode, "why": why}]
        return [{**told, **row} for row in rows(Path(folder), engine)]


def rows(folder: Path, engine: str) -> list[dict[str, object]]:
    """Each layer's distance from the exact answer, and the share that the ARM plugin's arithmetic does not foretell."""
    about = json.loads((folder / f"{engine}.json").read_text())
    found = []
    for number, one in enumerate(layers()):
        row = {"graph": one.name, "version": about["version"], "kernel": about["kernels"][str(number)]}
        answer = folder / f"{number}.{engine}.npy"
        found.append(row | distance(one, np.load(answer)) if answer.exists() else row)
    return found


def distance(one: Layer, answer: np.ndarray) -> dict[str, object]:
    """In steps of the output's quantization."""
    exact = one.exact()
    found = answer.astype(np.float64).reshape(exact.shape) / np.float64(one.y_scale)
    found = found if one.floats else np.rint(found) + one.y_zero
    off, unexpected = found - exact, found - one.expected_on_arm()
    return {
        "max_steps": float(np.abs(off).max()),
        "mean_steps": float(off.mean()),
        "differs": float(np.mean(np.abs(off) > SAME)),
        "not_foretold": float(np.mean(np.abs(unexpected) > SAME)),
    }


def main() -> None:
    """Study, or be the part that runs elsewhere."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("out", type=Path)
    words.add_argument("--emulator", action="append", default=[], help="a Python and the words before it")
    words.add_argument("--pythonpath", help="the emulated Python's packages")
    words.add_argument("--work", choices=ENGINES, help=argparse.SUPPRESS)
    asked = words.parse_args()
    if asked.work:
        return work(asked.out, asked.work)
    found = [row for engine in ENGINES for row in study([sys.executable], engine, None)]
    for emulator in asked.emulator:
        found += [row for engine in ENGINES for row in study(shlex.split(emulator), engine, asked.pythonpath)]
    asked.out.write_text(json.dumps({"kind": "openvino-arm", "layers": found}, indent=1) + "\n")
    return None


if __name__ == "__main__":
    main()
