"""A network as data, and surgery on its cells. Read ``tracer`` first, then ``channels``.

``platform`` loads MindSpore. ``mindir``, ``nodes`` and ``tracer`` export a network to MindIR and read it. ``channels``,
``channel_identities`` and ``channel_rules`` carry the identities of channels through its operators. ``axes`` and
``batch_axis`` find the axes of its tensors. ``surgery`` and ``weight_layout`` find and replace cells in a copy. This
package may import ``search_spaces``, ``errors`` and ``process``.
"""
