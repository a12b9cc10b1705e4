"""A device's rates fitted to measurements: which shapes to measure (``standard_shapes``), profilers' files
(``profiles``), the fit (``fit``) and the device that comes of it (``own_device``). Read ``fit`` first. It may
import the model.
"""
