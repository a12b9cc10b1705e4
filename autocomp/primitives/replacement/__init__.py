"""Cheaper operators instead of layers: low rank, Ghost and others. Read ``replacing``, the common part, first.

``factors`` has the decompositions. ``low_rank_knobs``, ``ghost_knobs`` and ``convolution_knobs`` make them choices of a
search. This
package may import ``pruning`` and every package below it.
"""
