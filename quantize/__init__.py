"""Float ONNX → typed 16-bit ONNX and int8 QDQ ONNX, and the photos that this takes."""
