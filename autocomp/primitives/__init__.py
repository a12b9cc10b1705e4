"""How a choice changes a network.

Usable alone: :func:`trace`, :func:`channel_groups`, :func:`prune_channels`, :func:`fold_batchnorm`; the quantizers that
train, :class:`SimQAT`, :class:`LSQ`, :class:`PACT` and :class:`SLB`, and those that do not, :class:`RTN` and
:class:`AdaRound`; :class:`Distilled` trains towards the float network; what prunes: :class:`ChannelPruner`,
:class:`SCOP`, :class:`UniPruning`, :class:`Sparsity`, :class:`HeadPruning`; and what puts cheaper layers in the place
of others: :class:`LowRank`, :class:`Ghost`. MindSpore is loaded when one is used.
"""

if __name__ != "autocomp.primitives":
    raise ImportError(f"import autocomp.primitives, not {__name__}")

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .by_hand import channel_groups, fold_batchnorm, prune_channels
from .platform import load_mindspore
from .trace import trace

if TYPE_CHECKING:
    from .adaround import AdaRound
    from .batchnorm_statistics import reestimate_batchnorm
    from .channel_pruner import ChannelPruner
    from .distillation import Distilled
    from .ghost import Ghost
    from .head_pruning import HeadPruning
    from .low_rank import LowRank
    from .lsq import LSQ
    from .pact import PACT
    from .rtn import RTN
    from .scop import SCOP
    from .simqat import SimQAT
    from .slb import SLB
    from .sparsity import Sparsity
    from .unipruning import UniPruning

LAZY = {
    "reestimate_batchnorm": "batchnorm_statistics",
    "AdaRound": "adaround",
    "ChannelPruner": "channel_pruner",
    "Distilled": "distillation",
    "Ghost": "ghost",
    "HeadPruning": "head_pruning",
    "LSQ": "lsq",
    "LowRank": "low_rank",
    "PACT": "pact",
    "RTN": "rtn",
    "SCOP": "scop",
    "SLB": "slb",
    "SimQAT": "simqat",
    "Sparsity": "sparsity",
    "UniPruning": "unipruning",
}

__all__ = [
    "LSQ",
    "PACT",
    "RTN",
    "SCOP",
    "SLB",
    "AdaRound",
    "ChannelPruner",
    "Distilled",
    "Ghost",
    "HeadPruning",
    "LowRank",
    "SimQAT",
    "Sparsity",
    "UniPruning",
    "channel_groups",
    "fold_batchnorm",
    "prune_channels",
    "reestimate_batchnorm",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name in LAZY:
        load_mindspore()  # before a module imports it without its settings
        return getattr(import_module(f".{LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
