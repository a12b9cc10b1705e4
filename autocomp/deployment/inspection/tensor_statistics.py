"""What a tensor holds, in five numbers."""

from __future__ import annotations

from typing import Any

import numpy as np


def statistics(tensor: np.ndarray | None) -> dict[str, Any]:
    """Fields of a LayerProfile; empty for no tensor, or one without numbers."""
    if tensor is None or not tensor.size or tensor.dtype.kind not in "fiub":
        return {}
    values = tensor.astype(np.float32, copy=False)
    return {
        "low": float(values.min()),
        "high": float(values.max()),
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "zeros": float((values == 0).mean()),
    }
