"""Inference with ONNX networks."""
