"""Files: a traced network under a plan as ONNX, a Cell as MindIR, each read again and compared.

``onnx_network`` writes a graph, ``onnx_operators`` and ``onnx_shapes`` know the operators, ``files`` writes, runs
and compares. Read ``onnx_network`` first. It may import ``numerics`` and ``tracing``.
"""
