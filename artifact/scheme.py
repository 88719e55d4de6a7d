"""The int8 dialects, each stated once: what an engine reads exactly, and where it would answer wrongly.

Measured on this project's default classifier, whole test split (docs/int8.md): the sum of two u8 × s8 products
overflows int16 in the AVX2 and AVX-512 kernels of CPUs without VNNI, so full-range 8-bit weights lose points there;
7-bit weights cannot overflow. NNCF leaves depthwise layers at 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import BadInput


@dataclass(frozen=True)
class Scheme:
    """One int8 dialect.

    Args:
        name: the word for `--scheme`.
        activations: ONNX type of quantized activations, "uint8" or "int8".
        symmetric_activations: zero point fixed at 0.
        weights: ONNX type of quantized weights; symmetric a channel, "uint8" ones around 128.
        weight_bits: range of the weights: 7 means [-64, 64] of [-128, 127].
        quantize_bias: biases pass through an int32 DequantizeLinear.
        engines: backend words that read it exactly.
        quantizers: words of those that write it, the default first.
        needs_vnni: answers are only right on CPUs that do not saturate.
        why: one line for the user.
    """

    name: str
    activations: str
    symmetric_activations: bool
    weights: str
    weight_bits: int
    quantize_bias: bool
    engines: tuple[str, ...]
    quantizers: tuple[str, ...]
    needs_vnni: bool
    why: str


SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme(
            "cpu",
            "uint8",
            False,
            "int8",
            7,
            True,
            ("onnxruntime", "openvino"),
            ("ort", "nncf"),
            False,
            "7-bit weights: no CPU's sums saturate",
        ),
        Scheme(
            "cpu-vnni",
            "uint8",
            False,
            "int8",
            8,
            True,
            ("onnxruntime", "openvino"),
            ("ort", "nncf"),
            True,
            "full range: only where the device has VNNI",
        ),
        Scheme(
            "cpu-u8",
            "uint8",
            False,
            "uint8",
            8,
            True,
            ("onnxruntime", "openvino"),
            ("ort",),
            False,
            "uint8 weights around 128: full range, and the same answers without VNNI",
        ),
        Scheme(
            "tensorrt",
            "int8",
            True,
            "int8",
            8,
            False,
            ("tensorrt", "tensorrt_rtx"),
            ("ort",),
            True,
            "symmetric int8, float biases: what TensorRT's parser reads",
        ),
    )
}


def scheme_named(name: str) -> Scheme:
    """Look a scheme up.

    Raises:
        BadInput: there is no such scheme.
    """
    if name not in SCHEMES:
        raise BadInput(f"unknown int8 scheme {name!r}", f"one of {', '.join(SCHEMES)}")
    return SCHEMES[name]
