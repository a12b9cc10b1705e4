"""The behaviour of the runtimes that run a network on a chip. Read ``base`` first.

A runtime decides in which precision a layer runs, how tensors are stored, which operators are fused, what is held in
memory, and which work is done in addition to the arithmetic. ``base`` has ``Runtime``, whose methods describe most
compilers' runtimes. ``ascend``, ``tensorrt``, ``lite`` and the package ``onnxruntime`` each define one. ``registry``
finds the runtime of a device file. This package may import ``lowered``, ``lookup`` and the modules below them; the rest
of the model uses the runtime of a device.
"""
