"""One form for one function: a network's operators before they are costed, however the network is written.

Read ``rewrite`` first. ``regions`` finds the operators between a tensor and what is made of it alone, ``evaluation``
computes them on a small sample, and ``functions`` knows what the canonical functions give there. ``shapes`` finds what
moves no number. This package may import NumPy and ``autocomp.search_spaces`` alone.
"""

from .rewrite import canonical

__all__ = ["canonical"]
