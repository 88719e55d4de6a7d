"""Operators with weights: one list, without onnx, for whoever asks before a graph is read."""

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
