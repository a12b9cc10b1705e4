"""Predicts the cost of a plan on a device: latency, memory, size, energy. NumPy only: no MindSpore, no Optuna, no Ray.

Read ``operators``, ``rates`` and ``roofline`` first. ``operators`` fuses a network's nodes. ``lowered`` has the sizes
of its tensors for given plans. ``gemm`` and ``roofline`` compute the work of an operator, ``rates`` its time,
``memory`` the peak of live tensors, and ``model`` the costs of all plans. ``device_model`` reads the device files in
``devices``. ``runtimes`` describes the software on the chip. ``measurements`` has measured operators. ``fitting`` fits
rates to them. This package may import ``search_spaces``.
"""

if __name__ != "autocomp.hardware_models":
    raise ImportError(f"import autocomp.hardware_models, not {__name__}")

from .cost import Cost, OperatorCost
from .device_model import Device, device, devices
from .tables import CostTables
from .uncertainty import LatencyErrors

__all__ = ["Cost", "CostTables", "Device", "LatencyErrors", "OperatorCost", "device", "devices"]
