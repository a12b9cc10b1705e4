"""The arithmetic of compression, in NumPy alone.

Quantizers and their scales (``quantizers``, ``nearest_levels``, ``calibrators``), the moments of what a weight is
multiplied with (``patches``), rounding for the least output error (``adaptive_rounding``), channels guessed from
others (``reconstruction``), BatchNorm folded (``folding``), and ``plan_compressor``, which puts them together: what
a plan makes of a network's numbers. Read ``quantizers`` first, ``plan_compressor`` last. It may import ``tracing``.
"""
