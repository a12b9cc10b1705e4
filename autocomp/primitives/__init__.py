"""How a choice changes a network.

Each of these can be used alone: :func:`trace`, :func:`channel_groups`, :func:`prune_channels`,
:func:`fold_batchnorm`; the quantizers that train, :class:`SimQAT`, :class:`LSQ`, :class:`PACT` and :class:`SLB`, and
those that do not, :class:`RTN`, :class:`AdaRound`, :class:`GPTQ`, :class:`AWQ`, :class:`SmoothQuant`,
:class:`OutlierSuppression` and :class:`Rotation`; :class:`Distilled` trains towards the float network; for pruning
:class:`ChannelPruner`, :class:`SCOP`, :class:`UniPruning`, :class:`Sparsity`, :class:`HeadPruning`, and without
training :class:`Wanda` and :class:`SparseGPT`; for replacing layers by cheaper ones :class:`LowRank`, :class:`Ghost`,
:class:`SmallerKernel`, :class:`Grouped` and :class:`Separable`; :class:`Resolution` for smaller images; for the cache
of a decoder :class:`IntegerCache`. MindSpore is loaded when one is used.
"""

if __name__ != "autocomp.primitives":
    raise ImportError(f"import autocomp.primitives, not {__name__}")

from importlib import import_module
from typing import TYPE_CHECKING, Any

from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.primitives.tracing.tracer import trace
from autocomp.primitives.verification.standalone import channel_groups, fold_batchnorm, prune_channels

if TYPE_CHECKING:
    from autocomp.primitives.cells.integer_cache import IntegerCache
    from autocomp.primitives.distillation.distilled import Distilled
    from autocomp.primitives.pruning.attention import open_attention
    from autocomp.primitives.pruning.channel_pruner import ChannelPruner
    from autocomp.primitives.pruning.head_pruning import HeadPruning
    from autocomp.primitives.pruning.one_shot_sparsity import SparseGPT, Wanda
    from autocomp.primitives.pruning.scop import SCOP
    from autocomp.primitives.pruning.sparsity import Sparsity
    from autocomp.primitives.pruning.unipruning import UniPruning
    from autocomp.primitives.quantization.adaround import AdaRound
    from autocomp.primitives.quantization.awq import AWQ
    from autocomp.primitives.quantization.gptq import GPTQ
    from autocomp.primitives.quantization.lsq import LSQ
    from autocomp.primitives.quantization.pact import PACT
    from autocomp.primitives.quantization.rtn import RTN
    from autocomp.primitives.quantization.simqat import SimQAT
    from autocomp.primitives.quantization.slb import SLB
    from autocomp.primitives.quantization.smooth_quant import SmoothQuant
    from autocomp.primitives.quantization.transformations.outlier_suppression import OutlierSuppression
    from autocomp.primitives.quantization.transformations.rotation import Rotation
    from autocomp.primitives.registry import register
    from autocomp.primitives.replacement.convolutions import Grouped, Separable, SmallerKernel
    from autocomp.primitives.replacement.ghost import Ghost
    from autocomp.primitives.replacement.low_rank import LowRank
    from autocomp.primitives.replacement.resolution import Resolution
    from autocomp.primitives.verification.batchnorm_statistics import reestimate_batchnorm

LAZY = {
    "register": "registry",
    "reestimate_batchnorm": "verification.batchnorm_statistics",
    "AWQ": "quantization.awq",
    "AdaRound": "quantization.adaround",
    "ChannelPruner": "pruning.channel_pruner",
    "Distilled": "distillation.distilled",
    "GPTQ": "quantization.gptq",
    "Ghost": "replacement.ghost",
    "Grouped": "replacement.convolutions",
    "HeadPruning": "pruning.head_pruning",
    "IntegerCache": "cells.integer_cache",
    "LSQ": "quantization.lsq",
    "LowRank": "replacement.low_rank",
    "OutlierSuppression": "quantization.transformations.outlier_suppression",
    "PACT": "quantization.pact",
    "RTN": "quantization.rtn",
    "Resolution": "replacement.resolution",
    "Rotation": "quantization.transformations.rotation",
    "SCOP": "pruning.scop",
    "SLB": "quantization.slb",
    "Separable": "replacement.convolutions",
    "SimQAT": "quantization.simqat",
    "SmallerKernel": "replacement.convolutions",
    "SmoothQuant": "quantization.smooth_quant",
    "SparseGPT": "pruning.one_shot_sparsity",
    "Sparsity": "pruning.sparsity",
    "UniPruning": "pruning.unipruning",
    "open_attention": "pruning.attention",
    "Wanda": "pruning.one_shot_sparsity",
}

__all__ = [
    "AWQ",
    "GPTQ",
    "LSQ",
    "PACT",
    "RTN",
    "SCOP",
    "SLB",
    "AdaRound",
    "ChannelPruner",
    "Distilled",
    "Ghost",
    "Grouped",
    "HeadPruning",
    "IntegerCache",
    "LowRank",
    "OutlierSuppression",
    "Resolution",
    "Rotation",
    "Separable",
    "SimQAT",
    "SmallerKernel",
    "SmoothQuant",
    "SparseGPT",
    "Sparsity",
    "UniPruning",
    "Wanda",
    "channel_groups",
    "fold_batchnorm",
    "open_attention",
    "prune_channels",
    "reestimate_batchnorm",
    "register",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name in LAZY:
        load_mindspore()  # with its settings, before a module imports it without them
        return getattr(import_module(f".{LAZY[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
