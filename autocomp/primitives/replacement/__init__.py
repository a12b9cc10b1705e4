"""Cheaper operators instead of layers: low rank and Ghost. Read ``replacing``, the common part, first.

``factors`` has the decompositions. This package may import ``pruning`` and every package below it.
"""
