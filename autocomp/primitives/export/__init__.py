"""Files: a traced network under a plan as ONNX, a Cell as MindIR; each is loaded again and compared.

Read ``onnx_network`` first: it writes a graph. ``onnx_writer`` writes the layers, ``onnx_operators`` and
``onnx_shapes`` have the forms of the operators. ``files`` writes, runs and compares files. This package may import
``numerics`` and ``tracing``.
"""
