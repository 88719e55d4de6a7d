"""Will it quantize? What int8 costs each layer of a float graph, foretold before anything is quantized.

Each tensor that a quantizer would round is rounded, to a grid over the range that the photos give it, and what that
changes goes through the layer's own operator alone:

    error of y = W · (rounded x - x)          and, of the weights, error of y = (rounded W - W) · x

In textbooks a rounding error is uniform noise of power step²/12 (Bennett, "Spectra of Quantized Signals", 1948; Widrow
and Kollár, "Quantization Noise", 2008). A softmax's small values, or those a ReLU leaves near zero, are rounded down
together, and a layer that adds them up adds their errors. Those of inputs and those of weights are added as powers.

What all layers together do to the answers is seen by rounding all of them at once, in each scheme. What one layer more
or less would change there is told in proportion to a model: a layer hands on the noise-to-signal ratio of its input and
adds its own, an addition adds powers, everything else hands the ratio on (Lin, Talathi and Annapureddy, "Fixed Point
Quantization of Deep Convolutional Networks", ICML 2016, arXiv 1511.06393, section 3: ratios of layers add up).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import onnx

from ..artifact.scheme import SCHEMES, Scheme
from ..export.graph.canonical import PROLOGUE
from ..records.foretold import Flow, Forecast, Foretold, bits_of
from .ptq_ort import operators_of
from .walk import Walk

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_SUMS, _PRODUCTS = ("Add", "Sub"), ("Mul",)
_UNBOUNDED = ("HardSwish", "Gelu", "Elu", "Selu", "Mish", "Softplus", "LeakyRelu", "PRelu", "Swish", "Erf")
ACTIVATIONS = ("uint8", "int8", "percentile")  # a grid from least to greatest; symmetric; uint8 cut at percentiles
_SAMPLED = 1_000_000
_CUT = 1e-5  # of each side; ONNX Runtime's percentile keeps 99.999 % of all values
Step = Callable[[int, int], None]
Span = tuple[float, float]


def forecast(
    model: onnx.ModelProto, photos: np.ndarray | Mapping[str, np.ndarray], step: Step = lambda done, total: None
) -> Foretold:
    """Look at every layer of a float graph once, then at the answers once a scheme.

    Args:
        photos: uint8 `(N, H, W, 3)`, or arrays by input name; some dozens, such as would calibrate it.
        step: nodes done, and of how many.
    """
    walk, layers, flow = Walk(model, photos), [], []
    operators, spans = operators_of(model), dict[str, Span]()
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    values: np.ndarray = np.empty(0)
    outputs = {output.name for output in model.graph.output}
    nodes = len(model.graph.node)
    total = nodes * (1 + len(SCHEMES))
    for done, node in enumerate(walk):
        step(done, total)
        values = walk.get(node.output[0])
        signal = _power(values)
        computed = tuple(name for name in node.input if walk.is_alive(name))
        if _rounds(node, walk, computed, operators):
            ends = any(name in outputs for name in node.output)  # quantizers round the answers too
            spans |= {name: _span(walk.get(name)) for name in (*computed, *(node.output[:1] if ends else ()))}
            layers.append(_look(node, walk, computed, signal, made, values if ends else None))
        flow.append(Flow(node.output[0], node.name, computed, signal, adds=node.op_type in (*_SUMS, "Concat")))
    rounding, answers = {layer.node for layer in layers}, dict[str, np.ndarray]()
    for at, scheme in enumerate(SCHEMES.values(), 1):
        step(at * nodes, total)
        answers[scheme.name] = _rounded_answers(Walk(model, photos), rounding, outputs, spans, scheme)
    step(total, total)
    count = len(next(iter(photos.values()))) if isinstance(photos, Mapping) else len(photos)
    return Foretold(tuple(layers), values.reshape(len(values), -1), tuple(flow), count, answers)


def _rounded_answers(
    walk: Walk, rounding: set[str], outputs: set[str], spans: Mapping[str, Span], scheme: Scheme
) -> np.ndarray:
    """What the graph answers where all nodes of `rounding` round what they read, float32 `(N, classes)`."""
    values: np.ndarray = np.empty(0)
    for node in walk:
        values = walk.get(node.output[0])
        if node.name not in rounding:
            continue
        feeds = {name: walk.get(name) for name in node.input if name}
        for at, name in enumerate(node.input):
            if name in spans and walk.is_alive(name):
                feeds[name] = _rounded(feeds[name], spans[name], scheme.activations)
            elif at == 1 and node.op_type in LAYERS:
                feeds[name] = _rounded_weights(feeds[name], bits_of(scheme), _axis(node))
        values = walk.compute(node, feeds)[node.output[0]]
        if node.output[0] in outputs:
            values = _rounded(values, spans[node.output[0]], scheme.activations)
        walk.put(node.output[0], values)
    return values.reshape(len(values), -1)


def _rounds(node: onnx.NodeProto, walk: Walk, computed: tuple[str, ...], operators: Collection[str] | None) -> bool:
    if node.name in PROLOGUE or (operators is not None and node.op_type not in operators):
        return False
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
    inputs = {grid: _through(node, walk, {name: _error(walk.get(name), grid) for name in computed})
              for grid in ACTIVATIONS}  # fmt: skip
    if answers is not None:
        inputs = {grid: noise + _power(_error(answers, grid)) for grid, noise in inputs.items()}
    weights: dict[str, float] = {}
    if node.op_type in LAYERS and len(node.input) > 1 and not walk.is_alive(node.input[1]):
        held, axis = walk.get(node.input[1]), _axis(node)
        weights = {bits: _through(node, walk, {node.input[1]: _rounded_weights(held, bits, axis) - held})
                   for bits in ("7", "8", "8u")}  # fmt: skip
    group = next((each.i for each in node.attribute if each.name == "group"), 1)
    source = made.get(computed[0], "")
    source = source if source in (*_UNBOUNDED, "Add") else ""
    return Forecast(node.name, node.op_type, signal, inputs, weights, group > 1 and group == first.shape[1],
                    _channel_spread(first), _outlier(first), source)  # fmt: skip


def _through(node: onnx.NodeProto, walk: Walk, errors: Mapping[str, np.ndarray]) -> float:
    """Power of the error behind a node, of errors of its inputs: to first order, so of a product each one alone."""
    if node.op_type in _SUMS:
        return _power(walk.compute(node, errors)[node.output[0]])
    twin = onnx.NodeProto()
    twin.CopyFrom(node)
    twin.input[:] = ["first", "second"]  # both may be one tensor, and a bias adds no error
    exact = dict(zip(twin.input, map(walk.get, node.input), strict=False))
    parts = [
        walk.compute(twin, {**exact, place: errors[name]})[node.output[0]]
        for place, name in zip(twin.input, node.input, strict=False)
        if name in errors
    ]
    return _power(np.sum(parts, axis=0))


def _span(values: np.ndarray, grid: str = "uint8") -> Span:
    """What a grid over these values has to hold: they and 0; all but their extremes, by "percentile"."""
    low, high = _middle(values) if grid == "percentile" else (float(values.min()), float(values.max()))
    return min(0.0, low), max(0.0, high)


def _rounded(values: np.ndarray, span: Span, grid: str) -> np.ndarray:
    """To a grid over a span, float32."""
    low, high = span
    if grid == "int8":
        high = max(-low, high)
        return _on_grid(values, -high, high, 254)
    return _on_grid(values, low, high, 255)


def _on_grid(values: np.ndarray, low: np.ndarray | float, high: np.ndarray | float, levels: int) -> np.ndarray:
    """Float32; a grid holds 0 exactly, and what then lies beyond its ends is clipped."""
    step = np.subtract(high, low, dtype=np.float32) / np.float32(levels)
    step = np.where(step == 0, np.float32(1), step)
    zero = np.round(low / step)
    return np.asarray(np.clip(np.round(values / step), zero, zero + levels) * step, np.float32)


def _error(values: np.ndarray, grid: str) -> np.ndarray:
    """Of rounding to a grid over the values' own span, float32."""
    return _rounded(values, _span(values, grid), grid) - values


def _rounded_weights(weights: np.ndarray, bits: str, axis: int) -> np.ndarray:
    """Each output channel's to its own grid, float32."""
    others = tuple(each for each in range(weights.ndim) if each != axis)
    most = np.abs(weights).max(others, keepdims=True)
    return _on_grid(weights, -most, most, {"7": 128, "8": 254, "8u": 255}[bits])


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
