"""Control of the process itself. It imports nothing of autocomp.

``blas_threads`` limits BLAS to one thread; ``interrupts`` turns Ctrl-C and SIGTERM into one exception;
``training_bar`` shows the progress of a training; ``optuna_logging`` quietens Optuna; ``plugins`` finds what installed
packages add; ``bounded_files`` reads files within limits; ``deadline`` is a time limit that counts from a call on;
``time_out`` ends code that takes too long; ``steps`` says which step of a preparation runs.
"""
