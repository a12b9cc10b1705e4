"""Operators that were measured: their shapes as small networks and the tables they are kept in (``shapes``), and how a
table moves what the model says (``measured``).

Read ``shapes`` first: it imports ``search_spaces`` alone. ``measured`` may import the model below ``device_model``. A
device is fitted to such rows in ``hardware_models/fitting``.
"""
