"""What a process needs, whatever it computes: BLAS in one thread (``blas_threads``), Ctrl-C and SIGTERM as one
exception (``interrupts``), a bar on long work (``training_bar``). It imports nothing of autocomp.
"""
