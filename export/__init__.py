"""Floor 6: checkpoint → ONNX, and ONNX → what each engine compiles from it."""
