"""Will it quantize? What int8 costs each layer of a float graph, foretold before anything is quantized.

Each tensor that ONNX Runtime's quantizer would round (`rounded_tensors`) is rounded, to a grid over the range that the
calibration photos give it, and clipped to it. What that changes at a layer is seen by running the layer alone on what
it reads, rounded and not:

    error of y = f(rounded x, W) - f(x, W)          and, of the weights, error of y = f(x, rounded W) - f(x, W)

In textbooks a rounding error is uniform noise of power step²/12 (Bennett, "Spectra of Quantized Signals", 1948; Widrow
and Kollár, "Quantization Noise", 2008). A softmax's small values, or those a ReLU leaves near zero, are rounded down
together, and a layer that adds them up adds their errors. Those of inputs and those of weights are added as powers.

What all layers together do to the answers is seen by rounding all of them at once, in each scheme. What one layer more
or less would change there is told in proportion to a model: a layer hands on the noise-to-signal ratio of its input and
adds its own, an addition adds powers, everything else hands the ratio on (Lin, Talathi and Annapureddy, "Fixed Point
Quantization of Deep Convolutional Networks", ICML 2016, arXiv 1511.06393, section 3: ratios of layers add up).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx

from ..artifact.scheme import SCHEMES, Scheme
from ..errors import BadInput
from ..export.graph.layers import LAYERS
from ..export.graph.rounding import COMMUTING
from ..records.foretold import Flow, Forecast, Foretold, bits_of
from .ptq_ort import padded_with_infinity
from .rounded_tensors import rounded_tensors
from .walk import Walk

_SUMS = ("Add", "Sub", "Concat")
_UNBOUNDED = ("HardSwish", "Gelu", "Elu", "Selu", "Mish", "Softplus", "LeakyRelu", "PRelu", "Swish", "Erf")
ACTIVATIONS = ("uint8", "int8", "percentile")  # a grid from least to greatest; symmetric; uint8 without the largest
_CHUNK = 16  # photos
_LEVELS = {"7": (-64, 64), "8": (-127, 127), "8u": (-128, 127)}  # of weights, by their bits; "8u" around 128
_SAMPLED = 1_000_000  # values of a tensor, evenly taken from all photos
_CUT = 1e-5  # ONNX Runtime's percentile keeps the smallest 99.999 % of all magnitudes (`calibrate.HistogramCollector`)
_KEPT = int(2 * _CUT * _SAMPLED) + 1  # an even stride takes up to twice as many
Photos = np.ndarray | Mapping[str, np.ndarray]
Step = Callable[[int, int], None]
Span = tuple[float, float]


def forecast(
    model: onnx.ModelProto,
    photos: Photos,
    calibration: Photos | None = None,
    step: Step = lambda done, total: None,
) -> Foretold:
    """Look at every layer of a float graph once, then at the answers once a scheme.

    Args:
        photos: uint8 `(N, H, W, 3)`, or arrays by input name; some dozens that it was not trained on.
        calibration: what the grids have to hold: all that the quantizer will see; None for `photos`.
        step: nodes done, and of how many, over all looks.

    Raises:
        BadInput: a layer gives NaN or infinite values.
    """
    layers, flow, logits = [], [], np.empty(0)
    made = {name: node.op_type for node in model.graph.node for name in node.output}
    outputs = [output.name for output in model.graph.output]
    parts = _parts(photos if calibration is None else calibration)
    rounding = _Rounding(model, _SAMPLED // len(parts))
    done, total = 0, len(model.graph.node) * (len(parts) + 1 + len(SCHEMES))
    for part in parts:
        for tensors in _values(Walk(model, part)):
            step(done := done + 1, total)
            for name, values in tensors.items():
                rounding.see(name, values)
    walk = Walk(model, photos)
    for node in walk:
        step(done := done + 1, total)
        if found := _look(node, walk, rounding, made, outputs):
            layers.append(found)
        if logits.size == 0:  # what comes behind the answers does not change them
            flow += _flows(node, walk)
        if outputs[0] in node.output:
            logits = walk.get(outputs[0])
    answers = dict[str, np.ndarray]()
    for scheme in SCHEMES.values():
        for tensors in _rounded(Walk(model, photos), rounding, scheme):
            step(done := done + 1, total)
            if outputs[0] in tensors:
                answers[scheme.name] = _by_photo(tensors[outputs[0]])
    step(total, total)
    shown = len(next(iter(photos.values()))) if isinstance(photos, Mapping) else len(photos)
    return Foretold(tuple(layers), _by_photo(logits), tuple(flow), shown, answers)


def _parts(photos: Photos) -> list[Photos]:
    """As many at once as tensors of some hundred MB allow."""
    if isinstance(photos, Mapping):
        return [photos]
    return list(np.split(photos, range(_CHUNK, len(photos), _CHUNK)))


def _by_photo(values: np.ndarray) -> np.ndarray:
    """`(N, …)` → `(N, values)`."""
    return values.reshape(len(values), -1)


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]


def _power(values: np.ndarray) -> float:
    flat = values.astype(np.float64).ravel()
    return float(flat @ flat)


def _flows(node: onnx.NodeProto, walk: Walk) -> list[Flow]:
    """One a tensor that it makes."""
    sources, adds = tuple(filter(walk.is_alive, node.input)), node.op_type in _SUMS
    return [Flow(name, _name(node), sources, _power(walk.get(name)), adds) for name in filter(None, node.output)]


class _Rounding:
    """Which tensors are rounded, and to which grids, once their values have been seen."""

    def __init__(self, model: onnx.ModelProto, taken: int) -> None:
        """As many values of a tensor as `taken` are looked at for its percentile, each time that it is seen."""
        self._grids = {grid: rounded_tensors(model, symmetric=grid == "int8") for grid in ("uint8", "int8")}
        self._owners = {owner for grids in self._grids.values() for owner in grids.values()}
        self._spans: dict[str, Span] = {}
        self._magnitudes: dict[str, _Largest] = {}
        self._taken, self.endless = taken, frozenset(padded_with_infinity(model))

    def see(self, name: str, values: np.ndarray) -> None:
        """Take a tensor's values into its range."""
        if name not in self._owners or values.dtype.kind != "f":
            return
        low, high = self._spans.get(name, (0.0, 0.0))
        self._spans[name] = min(low, float(values.min())), max(high, float(values.max()))
        magnitudes = np.abs(values.ravel()[:: max(1, values.size // self._taken)])
        self._magnitudes.setdefault(name, _Largest()).see(magnitudes)

    def outlier(self, name: str) -> float:
        """A tensor's range by that without its largest magnitudes; 1 where it is not rounded."""
        if name not in self._spans:
            return 1.0
        (low, high), (least, most) = self._spans[name], self._span(name, "percentile")
        return (high - low) / (most - least) if most > least else 1.0

    def _span(self, owner: str, grid: str) -> Span:
        low, high = self._spans[owner]
        if grid != "percentile":
            return low, high
        most = self._magnitudes[owner].without(_CUT)
        return max(low, -most), min(high, most)

    def rounded(self, name: str, values: np.ndarray, grid: str) -> np.ndarray | None:
        """Values of a tensor on its grid, float32; None where it is not rounded."""
        owner = self._grids["int8" if grid == "int8" else "uint8"].get(name)
        if owner not in self._spans:
            return None
        low, high = self._span(owner, grid)
        if grid == "int8":
            step = max(-low, high) / 127
            return _on_grid(values, step, -127, 127)
        step = (high - low) / 255
        least = round(low / step) if step else 0  # 0 is on the grid, its ends as nearly as that allows
        return _on_grid(values, step, least, least + 255)


class _Largest:
    """The largest of many values, of which no more are kept than are to be cut."""

    def __init__(self) -> None:
        self._kept, self._count = np.empty(0, np.float32), 0

    def see(self, values: np.ndarray) -> None:
        """Take some more."""
        self._count += values.size
        kept = np.concatenate([self._kept, values])
        self._kept = np.sort(np.partition(kept, -_KEPT)[-_KEPT:] if kept.size > _KEPT else kept)

    def without(self, share: float) -> float:
        """The largest that is left once a share of all is cut."""
        return float(self._kept[-1 - int(share * self._count)])


def _on_grid(values: np.ndarray, step: np.ndarray | float, least: int, most: int) -> np.ndarray:
    """Whole multiples of a step, those beyond clipped, float32; a step of 0 has 0 alone to hold."""
    step = np.where(np.equal(step, 0), 1, step).astype(np.float32)
    return np.asarray(np.clip(np.round(values / step), least, most) * step, np.float32)


def _rounded_weights(weights: np.ndarray, bits: str, axis: int) -> np.ndarray:
    """Each output channel's to its own grid, float32."""
    others = tuple(each for each in range(weights.ndim) if each != axis)
    least, most = _LEVELS[bits]
    return _on_grid(weights, 2 * np.abs(weights).max(others, keepdims=True) / (most - least), least, most)


def _weights(node: onnx.NodeProto, walk: Walk) -> str | None:
    """Name of the constant that a layer multiplies by."""
    return next((name for name in node.input[:2] if not walk.is_alive(name)), None) if node.op_type in LAYERS else None


def _look(
    node: onnx.NodeProto, walk: Walk, rounding: _Rounding, made: Mapping[str, str], outputs: list[str]
) -> Forecast | None:
    """One layer; None where nothing that it reads is rounded, and no answer that it gives."""
    end, exact = node.output[0], {name: walk.get(name) for name in node.input if name}
    values = walk.get(end)
    if node.op_type in COMMUTING or values.dtype.kind != "f" or node.name in rounding.endless:
        return None

    def noise(changed: Mapping[str, np.ndarray]) -> float:
        return _power(walk.compute(node, {**exact, **changed})[end] - values) if changed else 0.0

    def on_grids(tensors: Mapping[str, np.ndarray], grid: str) -> dict[str, np.ndarray]:
        found = {name: rounding.rounded(name, held, grid) for name, held in tensors.items() if walk.is_alive(name)}
        return {name: held for name, held in found.items() if held is not None}

    answers = {end: values} if end in outputs else {}
    read = {grid: on_grids(exact, grid) for grid in ACTIVATIONS}
    given = {grid: on_grids(answers, grid) for grid in ACTIVATIONS}
    weights, held = dict[str, float](), _weights(node, walk)
    if held:
        weights = {bits: noise({held: _rounded_weights(exact[held], bits, _axis(node))}) for bits in _LEVELS}
    elif not any(read.values()) and not any(given.values()):
        return None
    signal = _power(values)
    if not np.isfinite(signal):
        raise BadInput(f"{_name(node)} gives NaN or infinite values", "finite ones, of each photo",
                       "look for it by `tiffin debug`, or take other photos")  # fmt: skip
    inputs = {grid: noise(read[grid]) + sum(_power(rounded - values) for rounded in given[grid].values())
              for grid in ACTIVATIONS}  # fmt: skip
    first = next(name for name in node.input if walk.is_alive(name))
    group = next((each.i for each in node.attribute if each.name == "group"), 1)
    source = made.get(first, "") if made.get(first) in (*_UNBOUNDED, "Add") else ""
    return Forecast(_name(node), node.op_type, signal, inputs, weights, group > 1 and group == exact[first].shape[1],
                    _channel_spread(exact[first]), rounding.outlier(first), source)  # fmt: skip


def _values(walk: Walk) -> Iterator[dict[str, np.ndarray]]:
    """What each node makes, by names; what is fed first."""
    yield {name: walk.get(name) for name in walk.fed}
    for node in walk:
        yield {name: walk.get(name) for name in node.output if name}


def _rounded(walk: Walk, rounding: _Rounding, scheme: Scheme) -> Iterator[dict[str, np.ndarray]]:
    """What each node makes where all is rounded that a scheme rounds, by names."""

    def put(tensors: Mapping[str, np.ndarray]) -> None:
        for name, values in tensors.items():
            on_grid = rounding.rounded(name, values, scheme.activations)
            walk.put(name, values if on_grid is None else on_grid)

    put({name: walk.get(name) for name in walk.fed})
    for node in walk:
        names = [name for name in node.output if name]
        if held := _weights(node, walk):
            exact = {name: walk.get(name) for name in node.input if name}
            exact[held] = _rounded_weights(exact[held], bits_of(scheme), _axis(node))
            put(walk.compute(node, exact))
        else:
            put({name: walk.get(name) for name in names})
        yield {name: walk.get(name) for name in names}


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
