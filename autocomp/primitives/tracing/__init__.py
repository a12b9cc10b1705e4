"""A network as data, and surgery on its cells.

MindSpore is loaded here (``platform``), a network is exported to MindIR and read (``mindir``, ``nodes``,
``tracer``), identities of channels are carried through its operators (``channels``, ``channel_rules``), the axes of
its tensors are named (``axes``, ``batch_axis``), and cells are found and replaced in a copy (``surgery``,
``weight_layout``). Read ``tracer`` first, then ``channels``. It may import ``search_spaces``, ``errors`` and
``process``.
"""
