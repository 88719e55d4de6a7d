"""Will it quantize? What int8 costs each layer of a float graph, foretold before anything is quantized.

Rounding to a step s adds noise of power s²/12, uniform and independent of the value (Bennett, "Spectra of Quantized
Signals", 1948; Widrow and Kollár, "Quantization Noise", 2008). A value that the grid holds exactly (zero, the two ends
of the range, where a clip leaves many) adds none. For a layer y = Σ w·x both kinds of noise go through the layer's own
operator, with squares in place of values, for variances of independent terms add up:

    noise of y  =  Σ w² · var(x)  +  Σ x² · var(w)        var(x) = s_x²/12 where x rounds, var(w) = s_w²/12

Of an addition the inputs' noise is the sum; of a product, that of a layer. What reaches the output is propagated: a
layer hands on the noise-to-signal ratio of its input and adds its own, an addition adds powers, everything else hands
the ratio on (Lin, Talathi and Annapureddy, "Fixed Point Quantization of Deep Convolutional Networks", ICML 2016,
arXiv 1511.06393, section 3: ratios of layers add up). That no noise is correlated and that a nonlinearity keeps the
ratio are assumptions; docs/debug.md says how far they carry.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx

from ..export.graph.canonical import PROLOGUE
from ..records.foretold import Flow, Forecast, Foretold
from .walk import Walk

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_SUMS, _PRODUCTS = ("Add", "Sub"), ("Mul",)
_UNBOUNDED = ("HardSwish", "Gelu", "Elu", "Selu", "Mish", "Softplus", "LeakyRelu", "PRelu", "Swish", "Erf")
ACTIVATIONS = ("uint8", "int8", "percentile")  # a grid from least to greatest; symmetric; uint8 cut at percentiles
_SAMPLED = 1_000_000
_CUT = 1e-5  # of each side; ONNX Runtime's percentile keeps 99.999 % of all values
Step = Callable[[int, int], None]


def forecast(
    model: onnx.ModelProto, photos: np.ndarray | Mapping[str, np.ndarray], step: Step = lambda done, total: None
) -> Foretold:
    """Look at every layer of a float graph once.

    Args:
        photos: uint8 `(N, H, W, 3)`, or arrays by input name; some dozens, such as would calibrate it.
        step: nodes done, and of how many.
    """
    walk, layers, flow = Walk(model, photos), [], []
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    values: np.ndarray = np.empty(0)
    outputs = {output.name for output in model.graph.output}
    total = len(model.graph.node)
    for done, node in enumerate(walk):
        step(done, total)
        values = walk.get(node.output[0])
        signal = _power(values)
        computed = tuple(name for name in node.input if name and not _is_constant(walk, name))
        rounds = node.name not in PROLOGUE and _rounds(node, walk, computed)
        if rounds:
            ends = any(name in outputs for name in node.output)  # quantizers round the answers too
            layers.append(_look(node, walk, computed, signal, made, values if ends else None))
        flow.append(Flow(node.output[0], node.name, computed, signal, adds=node.op_type in (*_SUMS, "Concat")))
    step(total, total)
    count = len(next(iter(photos.values()))) if isinstance(photos, Mapping) else len(photos)
    return Foretold(tuple(layers), values.reshape(len(values), -1), tuple(flow), count)


def _is_constant(walk: Walk, name: str) -> bool:
    return not walk.is_alive(name)


def _rounds(node: onnx.NodeProto, walk: Walk, computed: tuple[str, ...]) -> bool:
    if node.op_type in LAYERS:
        return bool(computed)
    both = len(computed) == 2 and walk.get(computed[0]).dtype.kind == "f"
    return node.op_type in (*_SUMS, *_PRODUCTS) and both


def _power(values: np.ndarray) -> float:
    flat = values.astype(np.float64).ravel()
    return float(flat @ flat)


def _look(
    node: onnx.NodeProto,
    walk: Walk,
    computed: tuple[str, ...],
    signal: float,
    made: Mapping[str, str],
    answers: np.ndarray | None,
) -> Forecast:
    first = walk.get(computed[0])
    inputs = {grid: _through(node, walk, {name: _variance(walk.get(name), grid) for name in computed})
              for grid in ACTIVATIONS}  # fmt: skip
    if answers is not None:
        inputs = {grid: noise + float(_variance(answers, grid).sum()) for grid, noise in inputs.items()}
    weights: dict[str, float] = {}
    if node.op_type in LAYERS and len(computed) == 1 and len(node.input) > 1:
        held, axis = walk.get(node.input[1]), _axis(node)
        weights = {bits: _through(node, walk, {node.input[1]: _weight_variance(held, bits, axis)})
                   for bits in ("7", "8", "8u")}  # fmt: skip
    group = next((each.i for each in node.attribute if each.name == "group"), 1)
    source = made.get(computed[0], "")
    source = source if source in (*_UNBOUNDED, "Add") else ""
    return Forecast(node.name, node.op_type, signal, inputs, weights, group > 1 and group == first.shape[1],
                    _channel_spread(first), _outlier(first), source)  # fmt: skip


def _through(node: onnx.NodeProto, walk: Walk, variances: Mapping[str, np.ndarray]) -> float:
    """Power of the noise behind a node, of variances of some of its inputs; the others go in as their squares."""
    if node.op_type in _SUMS:
        return float(sum(_spread_to(node, walk, variance) for variance in variances.values()))
    total = 0.0
    for name, variance in variances.items():
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        del twin.input[2:]  # the bias
        feeds = {each: (variance if each == name else walk.get(each).astype(np.float32) ** 2) for each in twin.input}
        total += float(walk.compute(twin, feeds)[node.output[0]].sum(dtype=np.float64))
    return total


def _spread_to(node: onnx.NodeProto, walk: Walk, variance: np.ndarray) -> float:
    """A sum over the output's values: an input that is broadcast counts as often as it is read."""
    return float(variance.mean(dtype=np.float64)) * walk.get(node.output[0]).size


def _variance(values: np.ndarray, grid: str) -> np.ndarray:
    """Of rounding each value to a grid over the values' own range, float32; what is cut off counts by its square."""
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    if grid == "percentile":
        least, most = _middle(values)
        low, high = min(0.0, least), max(0.0, most)
    if grid == "int8":
        high = max(-low, high)
        low, levels = -high, 254
    else:
        levels = 255
    step = (high - low) / levels
    exact = (values == 0) | (values == low) | (values == high)
    cut = np.maximum(low - values, 0) + np.maximum(values - high, 0)
    noise = np.where(exact | (cut > 0), 0.0, step**2 / 12) + cut**2
    return np.asarray(noise, np.float32)


def _weight_variance(weights: np.ndarray, bits: str, axis: int) -> np.ndarray:
    """Of rounding each output channel's weights to its own step, float32."""
    others = tuple(each for each in range(weights.ndim) if each != axis)
    if bits == "8u":
        low, high = (
            np.minimum(weights.min(others, keepdims=True), 0),
            np.maximum(weights.max(others, keepdims=True), 0),
        )
        step = (high - low) / 255
    else:
        step = np.abs(weights).max(others, keepdims=True) / {"7": 64, "8": 127}[bits]
    return np.asarray(np.where(weights == 0, 0.0, step**2 / 12), np.float32)


def _axis(node: onnx.NodeProto) -> int:
    """Of a weight's output channels."""
    if node.op_type == "Conv":
        return 0
    by_row: Any = next((each.i for each in node.attribute if each.name == "transB"), 0)
    return 0 if node.op_type == "Gemm" and by_row else 1


def _channel_spread(values: np.ndarray) -> float:
    """Largest span of a channel by the median one."""
    if values.ndim < 2 or values.shape[1] < 2:
        return 1.0
    others = (0, *range(2, values.ndim))
    spans = values.max(others) - values.min(others)
    middle = float(np.median(spans))
    return float(spans.max()) / middle if middle > 0 else 1.0


def _outlier(values: np.ndarray) -> float:
    least, most = _middle(values)
    middle = max(most, 0.0) - min(least, 0.0)
    span = max(float(values.max()), 0.0) - min(float(values.min()), 0.0)
    return span / middle if middle > 0 else 1.0


def _middle(values: np.ndarray) -> tuple[float, float]:
    """Between which all but 10⁻⁵ at each end lie; of a million evenly taken values, where there are more."""
    flat = values.ravel()[:: max(1, values.size // _SAMPLED)]
    least, most = np.quantile(flat, [_CUT, 1 - _CUT])
    return float(least), float(most)
