"""Measuring a device: operators made, run and timed, and a model fitted to them.

``operator_models`` writes one operator as ONNX, ``profiling`` times it, ``processor`` measures this machine,
``own_devices`` reads what was measured elsewhere. Read ``profiling`` first. It may import ``hardware_models`` and
``primitives``.
"""
