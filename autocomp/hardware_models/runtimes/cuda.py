"""onnxruntime on an NVIDIA GPU: its CUDA backend has no convolution and no dense layer in integers, and runs float
files."""

from __future__ import annotations

from .base import Runtime

CUDA = Runtime("onnxruntime-cuda", title="onnxruntime", floats_alone=True)
