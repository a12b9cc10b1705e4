"""The loop of a search, its ledger and its workers.

``study`` proposes, evaluates and tells, ``constraints`` judges plans by the budget, ``ledger`` keeps finished
evaluations, ``executors`` run them here or on Ray, ``progress`` shows them. Read ``study`` first. It may import
``problem``, ``samplers`` and ``evaluators``.
"""
