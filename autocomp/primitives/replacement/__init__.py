"""Cheaper operators instead of layers: low rank and Ghost. Read ``replacing``, the common part, first.

``factors`` has the decompositions. ``low_rank_knobs`` and ``ghost_knobs`` make them choices of a search. This
package may import ``pruning`` and every package below it.
"""
