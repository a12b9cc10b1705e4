"""Training towards the float network, and inputs made from its statistics.

``distilled`` wraps a loss, ``block_outputs`` compares inside the network, ``matched_statistics`` makes inputs,
``clipped_step`` and ``class_labels`` serve the training. Read ``distilled`` first. It may import ``cells``,
``numerics`` and ``tracing``.
"""
