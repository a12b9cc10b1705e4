"""Networks in MindSpore that follow a plan: cells that round, gate and train. Read ``layers``, then ``elastic``.

``layers`` has the cells of deployed networks. ``fake_quant`` rounds with gradients. ``trained_layers`` combines a layer
with fake quantizers. ``elastic`` is the network, compiled once for any plan. ``conversion`` applies a plan permanently.
``compression_state`` stores what was applied. ``masks`` gate units. ``training_callbacks`` are for trainings. This
package may import ``numerics`` and ``tracing``.
"""
