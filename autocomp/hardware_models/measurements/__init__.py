"""Measured operators. Read ``shapes`` first: it imports ``search_spaces`` alone.

``shapes`` has operator shapes as small networks, and their tables. ``measured`` corrects the model's predictions by a
table; it may import the modules of the model below ``device_model``. ``hardware_models/fitting`` fits a device to such
rows.
"""
