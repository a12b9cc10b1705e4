"""MindSpore Lite on a processor: assumed, none of its kernels was measured.

A layer in a format that the processor executes runs in integers, whatever reads its output. Weights that are only
stored in integers become floats when the network is loaded.
"""

from __future__ import annotations

from .base import Runtime

LITE = Runtime("lite")
