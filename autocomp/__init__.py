"""Automatic compression of MindSpore networks: a network, a budget and a device in, a Pareto set of networks out.

    front = autocomp.search(net, budget="latency<50%", device="ascend")
    point = front.pick("accuracy>-1%")
    point.export("net.mindir")

Names are loaded when first used (PEP 562), so that ``import autocomp`` loads neither MindSpore nor Ray nor Optuna.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autocomp.deployment.deployed import load_deployed
    from autocomp.deployment.elastic.plans import train_elastic
    from autocomp.deployment.inspection.profiler import profile
    from autocomp.deployment.rebuilding import rebuild
    from autocomp.deployment.standalone_export import export
    from autocomp.deployment.validation import validate_ascend
    from autocomp.driver import load, search
    from autocomp.estimates import compare, estimate
    from autocomp.hardware_models import devices
    from autocomp.measurement.processor import device
    from autocomp.primitives.restrictions import Restrict
    from autocomp.problem.budget import Budget
    from autocomp.problem.data import Data
    from autocomp.results.front import ParetoSet, Point
    from autocomp.search_spaces import Plan
    from autocomp.study.study import Study

__version__ = "0.1.0"

if "mindspore" not in sys.modules:  # see primitives/tracing/platform.py; here, for users who load MindSpore themselves
    os.environ.setdefault("ONEDNN_MAX_CPU_ISA", "AVX2")

__all__ = [
    "Budget",
    "Data",
    "ParetoSet",
    "Plan",
    "Point",
    "Restrict",
    "Study",
    "compare",
    "device",
    "devices",
    "estimate",
    "export",
    "load",
    "load_deployed",
    "profile",
    "rebuild",
    "search",
    "train_elastic",
    "validate_ascend",
]

# No module may bear the name of a function here: importing it would put the module in the function's place.
_MODULES = {
    "Budget": "autocomp.problem.budget",
    "Data": "autocomp.problem.data",
    "ParetoSet": "autocomp.results.front",
    "Plan": "autocomp.search_spaces",
    "Point": "autocomp.results.front",
    "Restrict": "autocomp.primitives.restrictions",
    "Study": "autocomp.study.study",
    "compare": "autocomp.estimates",
    "device": "autocomp.measurement.processor",
    "devices": "autocomp.hardware_models",
    "estimate": "autocomp.estimates",
    "export": "autocomp.deployment.standalone_export",
    "load": "autocomp.driver",
    "load_deployed": "autocomp.deployment.deployed",
    "profile": "autocomp.deployment.inspection.profiler",
    "rebuild": "autocomp.deployment.rebuilding",
    "search": "autocomp.driver",
    "train_elastic": "autocomp.deployment.elastic.plans",
    "validate_ascend": "autocomp.deployment.validation",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'autocomp' has no attribute {name!r}")
    value = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
