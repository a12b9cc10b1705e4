"""onnxruntime on a processor. Read ``integers`` first.

It runs a convolution in integers only between rounded tensors, changes the layout of tensors, converts integer weights
to floats at each inference, and holds copies meanwhile. ``integers`` finds the layers that run in integers, ``blocks``
the layouts of tensors, ``kernels`` the copies of convolutions. ``extra_work`` has all extra work and the constants for
its time. ``transient``, ``buffer_reuse`` and ``buffers`` compute the memory that it holds. ``strategy`` combines them.
This package may import ``runtimes.base`` and whatever that may import.
"""

from .strategy import ONNXRUNTIME

__all__ = ["ONNXRUNTIME"]
