"""Fits a device's rates to measurements. Read ``fit`` first.

``standard_shapes`` has the shapes to measure. ``profiles`` reads profilers' files. ``fit`` is the fit, and
``own_device`` makes a device of it. This package may import the model.
"""
