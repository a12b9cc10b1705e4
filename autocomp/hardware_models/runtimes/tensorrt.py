"""TensorRT: engines built for an NVIDIA GPU.

Inputs are rounded symmetrically around zero, since it has no zero points. A layer in a format that it executes runs in
integers, whatever reads its output; a layer that is faster in floats runs in floats.
"""

from __future__ import annotations

from .base import Runtime

TENSORRT = Runtime("tensorrt", most_grouped=24, symmetric_inputs=True, quantizes_tensors=True)
