"""onnxruntime on a processor: it runs a convolution in integers only between rounded tensors, turns tensors from one
layout into another, unpacks integer weights at each inference and holds copies while it does.

``integers`` says which layers run in integers, ``blocks`` in which layout tensors lie, ``kernels`` what convolutions
copy, ``extra_work`` all its own work and the constants that price it. ``transient``, ``buffer_reuse`` and ``buffers``
say what it holds in memory. ``strategy`` puts them together. Read ``integers`` first. It may import ``runtimes.base``
and what that may import.
"""

from .strategy import ONNXRUNTIME

__all__ = ["ONNXRUNTIME"]
