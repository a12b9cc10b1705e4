"""The arithmetic of compression, in NumPy alone. Read ``quantizers`` first, ``plan_compressor`` last.

``quantizers``, ``nearest_levels`` and ``calibrators`` have quantizers and their scales. ``patches`` has the moments of
the patches that a weight is multiplied with. ``adaptive_rounding`` rounds for the least output error.
``reconstruction`` estimates channels from others. ``folding`` folds BatchNorm. ``first_last_layers`` finds the first
and last layers. ``plan_compressor`` combines them: it computes the weights of a plan. This package may import
``tracing``.
"""
