"""Fewer units: prunes channels, heads and single weights. Read ``selection``, then ``trained_pruning``.

``importance`` rates units and ``selection`` chooses them. ``cut_cost`` computes the cost of a cut network.
``channel_pruning`` has the knobs of a search. ``trained_pruning`` is the common part of :class:`ChannelPruner`,
:class:`SCOP`, :class:`UniPruning` and :class:`HeadPruning`. ``sparsity`` sets weights to zero. This package may import
every package of ``primitives`` except ``quantization`` and ``replacement``.
"""
