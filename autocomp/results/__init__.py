"""The results of a search: points, the front that they form, its table, its report and its file. Read ``point`` first.

``point`` is one evaluated plan, ``prediction`` one predicted plan. ``front`` is :class:`ParetoSet`. ``front_table`` and
``report`` show it. ``stored`` writes and reads it. ``front_protocol`` is the part of a front that these three need.
This package may import ``problem`` and ``evaluators``.
"""
