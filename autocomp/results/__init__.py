"""The results of a search: points, the front that they form, its table, its report and its file. Read ``point`` first.

``point`` is one evaluated plan, ``prediction`` one predicted plan. ``front`` is :class:`ParetoSet`. ``front_table`` and
``report`` show it, with the figures of ``plots`` and the networks of ``layers``. ``network_profile`` is one network,
layer by layer, ``comparison`` two fronts or points. ``stored`` writes and reads fronts. ``front_protocol`` is the part
of a front that its readers need. This package may import ``problem`` and ``evaluators``.
"""
