"""MindSpore Lite on a processor: assumed, none of its kernels was measured.

A layer in a format that the processor executes runs in integers, whatever reads its output. Weights that are only
stored in integers become floats when the network is loaded. The files that are written for it hold floats alone: its
converter refuses files with integers (see the guide on deploying). They have the opset and the static shapes of files
for atc, and their size.
"""

from __future__ import annotations

from .base import Runtime

LITE = Runtime("lite", recognises=False)
LITE_FLOATS = Runtime("lite-floats", title="lite", container="atc", floats_alone=True)
