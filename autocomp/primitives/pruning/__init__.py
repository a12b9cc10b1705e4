"""Fewer units: channels, heads and single weights, by importance or while training.

``importance`` and ``selection`` rate and choose, ``cut_cost`` says what a cut saves, ``channel_pruning`` gives the
knobs of a search, ``trained_pruning`` is what :class:`ChannelPruner`, :class:`SCOP`, :class:`UniPruning` and
:class:`HeadPruning` share, ``sparsity`` zeroes weights. Read ``selection``, then ``trained_pruning``. It may import
every room but ``quantization`` and ``replacement``.
"""
