"""Matrix products in one thread while processors have other work, or the matrices are small.

The threads of a BLAS wait for one another by spinning. Beside forward passes that keep all processors busy that made
rounding a weight take several times as long, and on a sampler's small matrices it doubled the processor's time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """For the whole process. May be nested; of several threads that want it the first decides. Also a decorator."""
    with _blas().limit(limits=1, user_api="blas"):
        yield


@cache
def _blas() -> ThreadpoolController:
    import scipy.linalg  # noqa: F401  has a BLAS of its own, which is found once it is loaded

    return ThreadpoolController()
