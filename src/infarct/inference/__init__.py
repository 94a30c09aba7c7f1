"""Runs ONNX networks."""
