"""How a choice changes a network.

Usable alone: :func:`trace`, :func:`channel_groups`, :func:`prune_channels`, :func:`fold_batchnorm`. MindSpore is
loaded when one of them is called.
"""

if __name__ != "autocomp.primitives":
    raise ImportError(f"import autocomp.primitives, not {__name__}")

from .by_hand import channel_groups, fold_batchnorm, prune_channels
from .trace import trace

__all__ = ["channel_groups", "fold_batchnorm", "prune_channels", "trace"]
