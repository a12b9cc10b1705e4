"""Proof that a cut is right, and repair of what it lost, on the network itself.

``trial_cut`` cuts every channel group once and compares, ``standalone`` offers the same steps without a search,
``refit`` and ``refit_replaced`` fit layers one after the other by least squares, ``batchnorm_statistics`` estimates
statistics anew. Read ``standalone`` first. It may import ``export``, ``cells``, ``numerics`` and ``tracing``.
"""
