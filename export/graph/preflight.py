"""An ONNX model before TensorRT's builder sees it: what it would refuse, read wrongly or run slowly, and the fixes.

The builder needs minutes and answers with its own words, or not at all where it reads a graph wrongly. These checks
need neither TensorRT nor a GPU; what its parser refuses besides is `export.engine.parser_problems`' to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx

from .finding import SEVERITIES, Applied, Finding, Target
from .float_bias import float_bias
from .fold_qdq import fold_qdq
from .gemm_as_conv import gemm_as_conv as _gemm_as_conv
from .layer_checks import layer_findings
from .model_checks import invalid, model_findings
from .qdq_checks import quantizer_findings
from .quantizers import QdqGraph
from .residual_qdq import residual_qdq
from .symmetric import symmetric

__all__ = ["FIXES", "HEADINGS", "Applied", "Finding", "Target", "apply_fixes", "dialect_errors", "examine", "summary"]

# What each check finds, for people.
HEADINGS = {
    "not-onnx": "no ONNX model",
    "invalid-onnx": "a model that ONNX's own checker refuses",
    "too-large": "weights that no ONNX file holds",
    "opset": "an opset out of range",
    "uint8-quantizer": "uint8 zero points, which TensorRT refuses, or reads as int8 and answers wrongly",
    "asymmetric": "zero points other than 0, which TensorRT refuses",
    "int32-bias": "biases as int32 DequantizeLinear, which TensorRT refuses",
    "quantized-type": "quantized types that TensorRT does not have",
    "bad-scale": "scales that are zero, negative or not finite, of which TensorRT builds no engine, or a wrong one",
    "quantized-constant": "quantized constants that no layer multiplies with",
    "dynamic-axis": "dynamic axes that no profile covers",
    "unsupported-operator": "what TensorRT's parser refuses",
    "precision-of-gpu": "types that the GPU does not compute in",
    "fp32-gemm-turing": "fp32 products that TensorRT-RTX does not have for Turing",
    "stays-fp32": "layers that stay in fp32",
    "residual-add": "residual sums with one branch in float",
    "slow-operator": "operators that cost at each run",
    "fixed-batch": "a batch of one size",
    "weight-only": "layers with rounded weights only",
    "residual-unfused": "residual sums with one rounding more than NVIDIA's guide places",
}
DIALECT = ("uint8-quantizer", "asymmetric", "int32-bias", "quantized-type", "bad-scale", "quantized-constant")

Pass = Callable[[onnx.ModelProto], tuple[onnx.ModelProto, tuple[Applied, ...]]]


def gemm_as_conv(model: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[Applied, ...]]:
    """`gemm_as_conv.gemm_as_conv`, told as the other passes tell."""
    changed, nodes = _gemm_as_conv(model)
    return changed, (Applied("gemm_as_conv", tuple(nodes), "float rounding"),) if nodes else ()


# In the order in which they are applied: constants first, so that a weight is what is left of them.
FIXES: dict[str, Pass] = {
    "fold_qdq": fold_qdq,
    "float_bias": float_bias,
    "symmetric": symmetric,
    "residual_qdq": residual_qdq,
    "gemm_as_conv": gemm_as_conv,
}


def examine(model: onnx.ModelProto, target: Target) -> tuple[Finding, ...]:
    """Every finding, errors first, in the order of `HEADINGS`. A model that ONNX refuses has one."""
    if (refused := invalid(model)) is not None:
        return (refused,)
    graph = QdqGraph(model)
    found = [*model_findings(model, graph), *quantizer_findings(graph), *layer_findings(model, graph, target)]
    return ordered(found)


def ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """By severity, then by check; nodes stay in the graph's order."""
    checks = list(HEADINGS)
    return tuple(sorted(findings, key=lambda each: (SEVERITIES.index(each.severity), checks.index(each.check))))


def dialect_errors(model: onnx.ModelProto) -> tuple[Finding, ...]:
    """The errors about quantizers alone, of a model that need not be whole."""
    found = quantizer_findings(QdqGraph(model))
    return ordered(finding for finding in found if finding.severity == "error" and finding.check in DIALECT)


def summary(findings: Iterable[Finding]) -> list[str]:
    """One phrase a check with its first node, such as `… (x_Q (QuantizeLinear) and 3 more)`."""
    nodes: dict[str, list[str]] = {}
    for finding in findings:
        nodes.setdefault(finding.check, []).append(finding.node)
    more = {check: f" and {len(names) - 1} more" if len(names) > 1 else "" for check, names in nodes.items()}
    return [f"{HEADINGS[check]}: {names[0]}{more[check]}" for check, names in nodes.items()]


def apply_fixes(model: onnx.ModelProto, findings: Iterable[Finding]) -> tuple[onnx.ModelProto, tuple[Applied, ...]]:
    """Run the passes that the findings name, and tell what each changed. The model itself is left as it is."""
    wanted = {finding.fixed_by for finding in findings}
    applied: list[Applied] = []
    for word, change in FIXES.items():
        if word in wanted:
            model, done = change(model)
            applied += done
    return model, tuple(applied)
