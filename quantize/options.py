"""What may be asked of post-training quantization, and which of it each quantizer offers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..artifact.scheme import Scheme, scheme_named
from ..errors import BadInput

# The first word of each is the quantizer's default.
OFFERED: Mapping[str, Mapping[str, tuple[Any, ...]]] = {
    "nncf": {
        "bias_correction": ("fast", "full", "empirical", "none"),
        "ranges": ("moving-average", "minmax", "percentile", "mse"),
        "preset": ("performance", "mixed"),
        "smooth": (False, True),
    },
    "ort": {
        "bias_correction": ("none", "empirical"),
        "ranges": ("minmax", "moving-average", "percentile", "entropy"),
        "preset": (None,),
        "smooth": (False,),
    },
}

# Of what an int8 graph does not quantize.
FLOATS = ("fp32", "fp16")
# In whose places and ranges fp8 rounds: symmetric, float biases.
FP8_SCHEME = "tensorrt"


def default_quantizer(scheme: Scheme) -> str:
    """The scheme's first. Compensated, both are as near to fp32; ORT's graph is the one that ORT itself runs fast."""
    return scheme.quantizers[0]


@dataclass(frozen=True)
class PtqOptions:
    """Options of `quantize_int8`; None takes the default of the scheme or of the quantizer.

    Args:
        scheme: int8 dialect, a name in `artifact.scheme`.
        quantizer: "nncf" or "ort".
        bias_correction: "none"; NNCF's "fast" (one pass over the calibration set) or "full" (layer after layer, on a
            fifth of the set); "empirical" (`corrections`).
        ranges: how the range of an activation tensor follows from the photos. "minmax": the extremes of all photos;
            "moving-average": the mean over photos of each photo's extremes, which is what both quantizers compute
            under such a name (NNCF keeps the extremes where it quantizes per channel); "percentile": the outermost
            10⁻⁴ of each photo's values is cut off (NNCF), or the outermost 10⁻⁵ of all (ORT); "mse": least squared
            error of the values (NNCF, per tensor only); "entropy": least divergence of the histogram (ORT).
        preset: NNCF's "performance" (symmetric) or "mixed" (asymmetric activations).
        smooth: SmoothQuant before quantization (Xiao et al., ICML 2023, arXiv 2211.10438), by NNCF.
        compensate: a scale and a shift for each output channel, folded in at the end (`corrections`); the one technique
            that took the answers nearer to fp32's with both quantizers (docs/int8.md).
        float_nodes: names of ONNX nodes that stay in float.
        floats: type of what is not quantized: "fp32", or "fp16" where TensorRT reads the scheme.
    """

    scheme: str = "cpu"
    quantizer: str | None = None
    bias_correction: str | None = None
    ranges: str | None = None
    preset: str | None = None
    smooth: bool = False
    compensate: bool = True
    float_nodes: tuple[str, ...] = ()
    floats: str = FLOATS[0]

    def applied(self) -> PtqOptions:
        """The same with every None filled in.

        Raises:
            BadInput: no such scheme or quantizer, or one that does not offer an option.
        """
        scheme = scheme_named(self.scheme)
        _check_floats(self.floats, scheme)
        quantizer = self.quantizer or default_quantizer(scheme)
        if quantizer not in OFFERED:
            raise BadInput(f"unknown quantizer {quantizer!r}", f"one of {', '.join(OFFERED)}")
        if quantizer not in scheme.quantizers:
            raise BadInput(
                f"{quantizer.upper()} does not write scheme {scheme.name!r} ({scheme.why})",
                f"a scheme that it writes, or quantizer {' or '.join(scheme.quantizers)}",
                f"use --quantizer {scheme.quantizers[0]}",
            )
        chosen = {name: _choice(self, name, quantizer) for name in OFFERED[quantizer]}
        return dataclasses.replace(self, quantizer=quantizer, **chosen)

    def plain(self) -> dict[str, Any]:
        """As JSON has it, for a manifest."""
        said = {**dataclasses.asdict(self), "float_nodes": list(self.float_nodes)}
        if self.floats == FLOATS[0]:  # artifacts keep the digest that they had before there was a choice
            del said["floats"]
        return said


def fp8_options(options: PtqOptions) -> PtqOptions:
    """What `quantize_fp8` takes, as applied.

    Raises:
        BadInput: an option that fp8 does not have.
    """
    applied = options.applied()
    unfit = {
        f"--scheme {applied.scheme}": applied.scheme != FP8_SCHEME,
        f"--floats {applied.floats}": applied.floats != FLOATS[0],
    }
    found = next((word for word, wrong in unfit.items() if wrong), None)
    if found:
        raise BadInput(f"fp8 has no {found}", f"scheme {FP8_SCHEME}, the rest in {FLOATS[0]}", "leave it out")
    return applied


def _check_floats(floats: str, scheme: Scheme) -> None:
    if floats not in FLOATS:
        raise BadInput(f"unknown float type {floats!r}", f"one of {', '.join(FLOATS)}")
    if floats != FLOATS[0] and "tensorrt" not in scheme.engines:
        raise BadInput(
            f"--floats {floats} with scheme {scheme.name!r}, whose engines keep them in fp32",
            "a scheme that TensorRT reads",
            "use --scheme tensorrt",
        )


def _choice(options: PtqOptions, name: str, quantizer: str) -> Any:
    """What was asked, or the default."""
    asked, offered = getattr(options, name), OFFERED[quantizer][name]
    if asked is None or asked in offered:
        return offered[0] if asked is None else asked
    others = [other for other, table in OFFERED.items() if asked in table[name]]
    option = f"--{name.replace('_', '-')}"
    what = option if asked is True else f"{option} {asked!r}"
    expected = f"one of {', '.join(map(str, offered))}" if offered[1:] else "without it"
    raise BadInput(f"{quantizer} has no {what}", expected, f"use --quantizer {others[0]}" if others else "")
