"""Checkpoint → ONNX, and ONNX → what each engine compiles from it."""
