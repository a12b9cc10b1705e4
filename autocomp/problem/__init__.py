"""The problem of a search: the budget, the data and its metric, and the job prepared from them.

Read ``budget`` first and ``jobs`` last. ``budget`` parses bounds. ``metrics`` has the units of costs. ``data`` reads
samples. ``pareto`` finds non-dominated points. ``jobs`` prepares a search: traced network, calibration, space,
evaluator, costs. ``record`` is one evaluated plan. This package may import ``samplers`` and everything below.
"""
