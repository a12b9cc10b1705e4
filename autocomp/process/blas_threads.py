"""Matrix products in one thread, for use while other threads keep the processors busy or where matrices are small.

The threads of a BLAS wait for one another by spinning. At the same time as forward passes that keep all processors
busy, this made rounding a weight take several times as long. On a sampler's small matrices it doubled the processor
time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limits BLAS to one thread in the whole process. May be nested; where several threads enter it, the first decides.
    It is also a decorator."""
    with _blas().limit(limits=1, user_api="blas"):
        yield


@cache
def _blas() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  SciPy has its own BLAS, which is found only after it is loaded

    return ThreadpoolController()
