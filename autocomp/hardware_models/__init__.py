"""What a plan costs on a device: latency, memory, size, energy. NumPy only: no MindSpore, no Optuna, no Ray.

``operators`` fuses a network's nodes, ``lowered`` says how its tensors lie for the plans at hand. ``gemm`` and
``roofline`` say what an operator asks of a chip, ``rates`` how long that takes, ``memory`` what lives at once and
``model`` what all plans cost. ``device_model`` reads the device files in ``devices``. ``runtimes`` says what the
software on the chip does, ``measurements`` holds operators that were measured, ``fitting`` fits rates to them. Read
``operators``, ``rates`` and ``roofline`` first. It may import ``search_spaces``.
"""

if __name__ != "autocomp.hardware_models":
    raise ImportError(f"import autocomp.hardware_models, not {__name__}")

from .cost import Cost, OperatorCost
from .device_model import Device, device, devices
from .tables import CostTables
from .uncertainty import LatencyErrors

__all__ = ["Cost", "CostTables", "Device", "LatencyErrors", "OperatorCost", "device", "devices"]
