"""What a plan costs on a device: latency, memory, size, energy. NumPy only: no MindSpore, no Optuna, no Ray."""

if __name__ != "autocomp.hardware_models":
    raise ImportError(f"import autocomp.hardware_models, not {__name__}")

from .cost import Cost, OperatorCost
from .device_model import Device, device, devices
from .tables import CostTables
from .uncertainty import LatencyErrors

__all__ = ["Cost", "CostTables", "Device", "LatencyErrors", "OperatorCost", "device", "devices"]
