"""The loop of a search, its ledger and its workers. Read ``study`` first.

``study`` proposes plans, evaluates them and passes the outcomes to the sampler. ``constraints`` compares plans with
the budget. ``scoring`` measures the sensitivity of choices. ``failures`` counts plans that failed. ``ledger`` keeps
finished evaluations; ``retries`` writes to a storage that fails for a moment; ``lease`` keeps a second driver away.
``executors`` evaluate: ``in_process`` here, ``ray_workers`` on Ray: ``worker_pool`` holds the actors and survives
their loss, ``travel`` packs what they need, ``watchdog`` ends the Ray of a killed driver, ``answers`` is what runs in
both places. ``worker_check`` says early where workers cannot. ``progress`` shows the progress. This package may import
``problem``, ``samplers`` and ``evaluators``.
"""
