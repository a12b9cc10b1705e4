"""onnxruntime on a processor. Read ``integers`` first.

It runs layers in integers where their format says so, and what lies between them where files round it; it changes the
layout of tensors and holds copies meanwhile. ``integers`` finds what runs in integers, ``blocks`` the layouts of
tensors, ``kernels`` the copies of convolutions. ``extra_work`` has all extra work and the constants for its time.
``transient`` and ``buffers`` compute the memory that it holds. ``strategy`` combines them.
This package may import ``runtimes.base`` and whatever that may import.
"""

from .strategy import ONNXRUNTIME

__all__ = ["ONNXRUNTIME"]
