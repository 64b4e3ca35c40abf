"""Models that a user imports from ONNX files."""
