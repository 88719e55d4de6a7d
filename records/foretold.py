"""What is foretold of a float graph in int8: noise at each layer, how it reaches the answers, what it means there.

`quantize.forecast` makes it, and says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import erf, sqrt

import numpy as np

from ..artifact.scheme import Scheme
from .closeness import decibels
from .divergence import by_photo


@dataclass(frozen=True)
class Forecast:
    """One layer, over some photos; powers are sums over all output values.

    Args:
        node, op: as in the graph; `--float-node` takes these names.
        signal: of its output.
        inputs: grid of its inputs → noise by rounding them.
        weights: bits of its weights ("7", "8", "8u") → noise by rounding them; empty where they are no constants.
        depthwise: each output channel sees one input channel.
        spread: largest span of a channel of its input by the median span; 1 where all are alike.
        outlier: its input's range by that without the largest 0.001 % of magnitudes.
        source: operator that makes its input, where that is an unbounded activation, or an addition.
    """

    node: str
    op: str
    signal: float
    inputs: Mapping[str, float]
    weights: Mapping[str, float] = field(default_factory=dict)
    depthwise: bool = False
    spread: float = 1.0
    outlier: float = 1.0
    source: str = ""

    def noise(self, scheme: Scheme, ranges: str = "minmax") -> tuple[float, float]:
        """By rounding its inputs, and by rounding its weights."""
        return self.inputs[_grid(scheme, ranges)], self.weights.get(bits_of(scheme), 0.0)

    def sqnr_db(self, scheme: Scheme, ranges: str = "minmax") -> float:
        """Foretold signal to noise at its output, its own rounding alone; as `sensitivity` measures it."""
        return decibels(self.signal, sum(self.noise(scheme, ranges)))


def _grid(scheme: Scheme, ranges: str) -> str:
    if scheme.symmetric_activations:
        return "int8"
    return "percentile" if ranges == "percentile" else "uint8"


def bits_of(scheme: Scheme) -> str:
    """The word for its weights' grid: "7", "8" or "8u"."""
    return "8u" if scheme.weights == "uint8" else str(scheme.weight_bits)


@dataclass(frozen=True)
class Flow:
    """What one node does with the noise of its sources: an addition sums its power, all else keeps its ratio.

    Args:
        tensor: what the node makes; sources: the computed tensors that it reads.
        signal: power of the tensor, a sum over all values.
    """

    tensor: str
    node: str
    sources: tuple[str, ...]
    signal: float
    adds: bool = False


@dataclass(frozen=True)
class Foretold:
    """All layers, and how their noise reaches the answers.

    Args:
        layers: in the graph's order.
        logits: float answers `(N, classes)`.
        flow: of every node, in the graph's order, up to the answers.
        photos: how many it stands on.
        rounded: scheme → answers with every layer rounded, as `logits`.
    """

    layers: tuple[Forecast, ...]
    logits: np.ndarray
    flow: tuple[Flow, ...]
    photos: int
    rounded: Mapping[str, np.ndarray]

    def ratio(self, scheme: Scheme, ranges: str = "minmax", floats: tuple[str, ...] = ()) -> float:
        """Noise-to-signal ratio of the answers where all layers but `floats` round.

        As seen, where all round over the whole range; anything else in the proportion that the model of flow gives.
        """
        noise = self.rounded[scheme.name].astype(np.float64) - self.logits
        seen = _share(float((noise**2).sum()), float((self.logits.astype(np.float64) ** 2).sum()))
        if ranges == "minmax" and not floats:
            return seen
        whole = self._flows(scheme, "minmax", ())
        return seen * self._flows(scheme, ranges, floats) / whole if whole > 0 else seen

    def _flows(self, scheme: Scheme, ranges: str, floats: tuple[str, ...]) -> float:
        """That ratio by the model alone."""
        own = {each.node: sum(each.noise(scheme, ranges)) for each in self.layers if each.node not in floats}
        power: dict[str, float] = {}
        signals = {each.tensor: each.signal for each in self.flow}
        last = 0.0
        for each in self.flow:
            known = [name for name in each.sources if name in signals]
            came = [power[name] if each.adds else each.signal * _share(power[name], signals[name]) for name in known]
            power[each.tensor] = sum(came) + own.get(each.node, 0.0)
            last = _share(power[each.tensor], each.signal)
        return last

    def sqnr_db(self, scheme: Scheme, ranges: str = "minmax", floats: tuple[str, ...] = ()) -> float:
        """Foretold signal to noise of the answers, dB."""
        return decibels(1.0, self.ratio(scheme, ranges, floats))

    def kl(self, scheme: Scheme) -> float:
        """Mean divergence of the rounded answers from the float ones, nats."""
        return float(by_photo(self.rounded[scheme.name], self.logits).mean())

    def flips(self, ratio: float) -> float:
        """Foretold share of photos whose top-1 changes: normal noise against the gap to the second."""
        sigma = sqrt(ratio * float(np.mean(self.logits.astype(np.float64) ** 2)))
        top = np.sort(self.logits, 1)
        gaps = top[:, -1] - top[:, -2]
        return float(np.mean([0.5 * (1 - erf(gap / (2 * sigma))) for gap in gaps])) if sigma > 0 else 0.0


def _share(noise: float, signal: float) -> float:
    return noise / signal if signal > 0 else 0.0
