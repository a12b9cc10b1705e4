"""The layout AscendV1 of msModelSlim, which vLLM Ascend reads: ``quant_model_weights.safetensors``, and the type of
each tensor in ``quant_model_description.json``.

W8A16 and W8A8_DYNAMIC: int8 weights (out, in), ``weight_scale`` and ``weight_offset`` (out, 1) float32; the weight is
(weight - offset) * scale, with offsets of zero here. Layers that a server fuses (q, k, v; gate, up) must be of one
type.

Source: msModelSlim's documents ``quantized_weight_format.md`` and ``quantization_result.md``; vllm-project/vllm-ascend,
``quantization/methods`` (w8a16.py, w8a8_dynamic.py) and ``modelslim_config.py``, as read in November 2026.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .stored_layer import StoredLayer

NAME, WEIGHTS, DESCRIPTION = "ascend-v1", "quant_model_weights.safetensors", "quant_model_description.json"
WEIGHT_ONLY, DYNAMIC, FLOAT = "W8A16", "W8A8_DYNAMIC", "FLOAT"
PARTS = ("weight", "weight_scale", "weight_offset")


def tensors_of(layer: StoredLayer) -> dict[str, np.ndarray]:
    """ValueError for a format that the layout does not hold."""
    if layer.bits != 8 or layer.scale.shape[1] > 1:
        raise ValueError(f"{NAME} holds w8 and w8a8 per token, with a scale for each output, but {layer.name} has "
                         f"{layer.format}: choose one of these for it, or exclude it")  # fmt: skip
    values = (layer.integers, layer.scale, np.zeros_like(layer.scale))
    return {f"{layer.name}.{part}": value for part, value in zip(PARTS, values, strict=True)}


def described(layers: Sequence[StoredLayer], names: Iterable[str]) -> dict[str, str]:
    """The type of each tensor, and of most layers as that of the model. names: of all tensors."""
    types = {layer.name: DYNAMIC if layer.per_token else WEIGHT_ONLY for layer in layers}
    most = Counter(types.values()).most_common(1)[0][0]
    return {"model_quant_type": most, "version": "1.0.0"} | {
        name: types.get(name.rpartition(".")[0], FLOAT) for name in names
    }


def read_layers(tensors: Mapping[str, np.ndarray], description: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The float weights of all quantized layers, by layer. ValueError for a folder that breaks a rule."""
    if missing := sorted(set(tensors) - set(description)):
        raise ValueError(f"{DESCRIPTION} must give the type of each tensor, but lacks {missing[0]}")
    found: dict[str, np.ndarray] = {}
    for name in tensors:
        layer, _, part = name.rpartition(".")
        if description[name] == FLOAT:
            if tensors[name].dtype.kind == "i" and part == "weight":
                raise ValueError(f"{name} is {FLOAT}, but holds {tensors[name].dtype}")
        elif part == "weight":
            found[layer] = _read(layer, tensors, str(description[name]))
    return found


def _read(layer: str, tensors: Mapping[str, np.ndarray], kind: str) -> np.ndarray:
    if kind not in (WEIGHT_ONLY, DYNAMIC):
        raise ValueError(f"{layer}.weight must be {WEIGHT_ONLY}, {DYNAMIC} or {FLOAT}, but is {kind}")
    values = [tensors.get(f"{layer}.{part}") for part in PARTS]
    wanted = [np.int8, np.float32, np.float32]
    for part, value, dtype in zip(PARTS, values, wanted, strict=True):
        if value is None or value.dtype != dtype:
            raise ValueError(f"{kind} needs {layer}.{part} in {np.dtype(dtype)}")
    weight, scale, offset = (value for value in values if value is not None)
    for part, value in zip(PARTS[1:], (scale, offset), strict=True):
        if value.shape != (len(weight), 1):
            raise ValueError(f"{layer}.{part} must have the shape ({len(weight)}, 1), but has {value.shape}")
    rebuilt: np.ndarray = (weight.astype(np.float32) - offset) * scale
    return rebuilt
