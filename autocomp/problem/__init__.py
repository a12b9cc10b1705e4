"""What is asked: the budget, the data and its metric, and the job prepared from them.

``budget`` parses bounds, ``metrics`` knows units, ``data`` takes samples in, ``pareto`` says what dominates what,
``jobs`` prepares a search: traced network, calibration, space, evaluator, costs. Read ``budget`` first, ``jobs``
last. It may import ``samplers`` and everything below.
"""
