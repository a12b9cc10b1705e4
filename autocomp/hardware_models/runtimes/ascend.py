"""Ascend: networks compiled by atc or by MindSpore's graph mode.

A max pool runs in the convolution whose only reader it is. Tensors have layout blocks (NC1HWC0), whose sizes are in the
device file under [layout]. Weights that are only stored in integers become floats when the network is loaded.
"""

from __future__ import annotations

from .base import Runtime

ASCEND = Runtime("ascend", fuses_pools=True)
