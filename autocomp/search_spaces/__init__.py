"""Which choices there are, and at which place of the network. Pure data: no MindSpore, no Optuna, no Ray."""

if __name__ != "autocomp.search_spaces":
    raise ImportError(f"import autocomp.search_spaces, not {__name__}")

from .activations import KEPT, RELU, Activation, replaceable_activations, with_relus
from .blocks import SKIPPED, ResidualBlock, kept_nodes, without_blocks
from .cached import CACHE_BITS, RoundedRead
from .chains import WHOLE, LayerChain, origins, with_chains
from .constants import SMALL, constant_bytes
from .formats import FLOAT_BITS, Format
from .graph import ChannelGroup, NetworkGraph, Node
from .grouped_layers import groups_together, groups_together_in_floats
from .knob import DENSE, SPARSE, Knob, kept_units
from .node_attributes import WEIGHTED, Argument, Convolution, Narrowing, NodeAttributes, Normalization, SplitPart
from .packed_layers import BLOCK, packs
from .plan import RESOLUTION, Plan, Value, lower_resolution
from .quantized_tensors import CLIPPING, MAX_POOLS, SPLITS, IntegerFlow, foldable
from .space import SearchSpace
from .values import SEPARATOR, carried_out_by, split_value
from .workload import Workload, once

__all__ = [
    "BLOCK",
    "CACHE_BITS",
    "CLIPPING",
    "DENSE",
    "FLOAT_BITS",
    "KEPT",
    "MAX_POOLS",
    "RELU",
    "RESOLUTION",
    "SEPARATOR",
    "SKIPPED",
    "SMALL",
    "SPARSE",
    "SPLITS",
    "WEIGHTED",
    "WHOLE",
    "Activation",
    "Argument",
    "ChannelGroup",
    "Convolution",
    "Format",
    "IntegerFlow",
    "Knob",
    "LayerChain",
    "Narrowing",
    "NetworkGraph",
    "Node",
    "NodeAttributes",
    "Normalization",
    "Plan",
    "ResidualBlock",
    "RoundedRead",
    "SearchSpace",
    "SplitPart",
    "Value",
    "Workload",
    "carried_out_by",
    "constant_bytes",
    "foldable",
    "groups_together",
    "groups_together_in_floats",
    "kept_nodes",
    "kept_units",
    "lower_resolution",
    "once",
    "origins",
    "packs",
    "replaceable_activations",
    "split_value",
    "with_chains",
    "with_relus",
    "without_blocks",
]
