"""Cheaper operators instead of layers: low rank and Ghost. Read ``replacing``, the common part, first.

``factors`` has the decompositions. ``chains`` and ``low_rank_knobs`` make them a choice of a search. This package may
import ``pruning`` and every package below it.
"""
