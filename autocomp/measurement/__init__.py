"""Measures a device: makes, runs and times operators, and fits a model to them. Read ``profiling`` first.

``operator_models`` writes one operator as ONNX. ``profiling`` times it. ``processor`` measures this machine.
``own_devices`` reads measurements made elsewhere, ``measured_networks`` whole networks from ONNX
files. This package may import ``hardware_models`` and ``primitives``.
"""
