"""The loop of a search, its ledger and its workers. Read ``study`` first.

``study`` proposes plans, evaluates them and passes the outcomes to the sampler. ``groups`` are the plans under way.
``constraints`` compares plans with the budget. ``scoring`` measures the sensitivity of choices. ``failures`` counts
plans that failed. ``ledger`` keeps finished evaluations; ``retries`` writes to a storage that fails for a moment;
``lease`` keeps a second driver away. ``executors`` evaluate: ``in_process`` here, ``cluster/`` on Ray; ``answers`` is
what runs in both places. ``progress`` shows the progress; ``announcing`` says it to those who look from elsewhere,
and ``status`` reads it there. ``storages`` opens what evaluations are kept in. This package may import ``problem``,
``samplers`` and ``evaluators``.
"""
