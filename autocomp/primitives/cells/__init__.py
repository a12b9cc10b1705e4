"""Networks in MindSpore that follow a plan: cells that round, gate and train.

``layers`` are deployed and standing-in cells, ``fake_quant`` rounds with gradients, ``trained_layers`` holds both
in one cell, ``elastic`` is the network compiled once for any plan, ``conversion`` carries a plan out for good,
``compression_state`` remembers what was applied, ``masks`` gate units, ``training_callbacks`` run beside a
training. Read ``layers``, then ``elastic``. It may import ``numerics`` and ``tracing``.
"""
