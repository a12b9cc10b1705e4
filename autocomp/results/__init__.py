"""The answer: points, the front they form, its table, its report and its file.

``point`` and ``prediction`` are one plan each, ``front`` is :class:`ParetoSet`, ``front_table`` and ``report`` show
it, ``stored`` writes and reads it. Read ``point`` first. It may import ``problem`` and ``evaluators``.
"""
