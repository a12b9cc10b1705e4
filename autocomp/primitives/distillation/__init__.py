"""Training towards the float network, and inputs made from its statistics. Read ``distilled`` first.

``distilled`` wraps a loss. ``block_outputs`` compares outputs inside the network. ``matched_statistics`` is for making
inputs. ``clipped_step`` and ``class_labels`` are for the training. This package may import ``cells``, ``numerics`` and
``tracing``.
"""
