"""Fewer bits: RTN and AdaRound without training, SimQAT, LSQ, PACT and SLB with training.

Read ``trained_quantization``, the common part, then ``simqat``. ``round_to_nearest`` and ``ranged_weight`` have fixed
ranges. ``format_knobs`` has their knobs for a search. This package may import ``distillation``, ``verification``,
``export``, ``cells``, ``numerics`` and ``tracing``.
"""
