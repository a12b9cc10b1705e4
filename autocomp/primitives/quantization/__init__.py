"""Fewer bits: RTN and AdaRound without training, SimQAT, LSQ, PACT and SLB with it.

``trained_quantization`` is what all of them share, ``round_to_nearest`` and ``ranged_weight`` the forms with fixed
ranges, ``format_knobs`` their knobs in a search. Read ``trained_quantization``, then ``simqat``. It may import
every room named before: ``distillation``, ``verification``, ``export``, ``cells``, ``numerics`` and ``tracing``.
"""
