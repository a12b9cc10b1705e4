"""Ascend: networks compiled by atc or by MindSpore's graph mode.

A max pool runs in the convolution that it alone reads. Tensors lie in blocks (NC1HWC0), whose sizes stand in the device
file under [layout]. Weights that are only stored in integers become floats when the network is loaded.
"""

from __future__ import annotations

from .base import Runtime

ASCEND = Runtime("ascend", fuses_pools=True)
