"""Passes over ONNX graphs: one pass, one file."""
