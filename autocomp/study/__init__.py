"""The loop of a search, its ledger and its workers. Read ``study`` first.

``study`` proposes plans, evaluates them and passes the outcomes to the sampler. ``constraints`` compares plans with the
budget. ``scoring`` measures the sensitivity of choices. ``failures`` counts plans that failed. ``ledger`` keeps
finished evaluations. ``executors`` evaluate in this process or on Ray; ``worker_check``
says early where workers cannot. ``progress`` shows the progress. This package may import ``problem``, ``samplers`` and
``evaluators``.
"""
