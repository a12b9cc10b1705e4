"""Checks on the network itself that a cut is correct, and repairs its loss. Read ``standalone`` first.

``trial_cut`` cuts every channel group once and compares. ``standalone`` offers the same steps without a search.
``refit``, ``refit_replaced`` and ``refit_plan`` fit layers one after the other by least squares, the last one towards
what stands behind them (``layer_tail``). ``batchnorm_statistics`` estimates statistics again. This package may import
``export``, ``cells``, ``numerics`` and ``tracing``.
"""
