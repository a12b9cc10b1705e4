"""The layout AscendV1 of msModelSlim, which vLLM Ascend reads: ``quant_model_weights.safetensors``, and the type of
each tensor in ``quant_model_description.json``.

W8A16 and W8A8_DYNAMIC: int8 weights (out, in), ``weight_scale`` and ``weight_offset`` (out, 1) float32; the weight is
(weight - offset) * scale, with offsets of zero here. Layers that a server fuses (q, k, v; gate, up) must be of one
type.

W8A8, with one range of the input, has besides ``input_scale`` (1,) float32, ``input_offset`` (1,) int8, ``deq_scale``
(out,) and ``quant_bias`` (out,) int32: a product of integers plus ``quant_bias``, times ``deq_scale``, is the output.
So the one is input_scale * weight_scale, and the other round(bias / deq_scale) - input_offset * the sum of the
weight's row. ``deq_scale`` is float32, or for a model in float16 the bits of that number in int64.

Source: msModelSlim's documents ``quantized_weight_format.md`` and ``quantization_result.md``; MindIE's document of
W8A8 weights (tables of types and shapes); vllm-project/vllm-ascend, ``quantization/methods`` (w8a16.py,
w8a8_dynamic.py, w8a8_static.py) and ``modelslim_config.py``, as read in November 2026.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from .stored_layer import StoredLayer

NAME, WEIGHTS, DESCRIPTION = "ascend-v1", "quant_model_weights.safetensors", "quant_model_description.json"
WEIGHT_ONLY, DYNAMIC, STATIC, FLOAT = "W8A16", "W8A8_DYNAMIC", "W8A8", "FLOAT"
PARTS = ("weight", "weight_scale", "weight_offset")
RANGE = ("input_scale", "input_offset", "deq_scale", "quant_bias")


def tensors_of(layer: StoredLayer, half: bool = False) -> dict[str, np.ndarray]:
    """half: whether the model is in float16. ValueError for a format that the layout does not hold."""
    if layer.bits != 8 or layer.scale.shape[1] > 1:
        raise ValueError(f"{NAME} holds w8 and w8a8, with a scale for each output, but {layer.name} has "
                         f"{layer.format}: choose one of these for it, or exclude it")  # fmt: skip
    values = (layer.integers, layer.scale, np.zeros_like(layer.scale))
    found = {f"{layer.name}.{part}": value for part, value in zip(PARTS, values, strict=True)}
    if layer.static is not None:
        scale = np.array([layer.static.scale], np.float32)
        steps = scale * layer.scale[:, 0]
        offset = np.array([layer.static.offset], np.int8)
        added = _added(layer.integers, steps, layer.static.offset, layer.bias)
        ranges = (scale, offset, _as_bits(steps) if half else steps, added)
        found |= {f"{layer.name}.{part}": value for part, value in zip(RANGE, ranges, strict=True)}
    return found


def _added(integers: np.ndarray, steps: np.ndarray, offset: int, bias: np.ndarray | None) -> np.ndarray:
    """(out,) int32, see above. steps: (out,) float32, those of the products."""
    rounded = np.zeros(len(steps)) if bias is None else np.rint(bias.astype(np.float64) / steps)
    found = rounded - offset * integers.astype(np.int64).sum(1)
    return np.clip(found, -(2**31), 2**31 - 1).astype(np.int32)


def _as_bits(steps: np.ndarray) -> np.ndarray:
    """float32 -> int64, whose lower half has the same bits."""
    return np.ascontiguousarray(steps, np.float32).view(np.int32).astype(np.int64)


def described(layers: Sequence[StoredLayer], names: Iterable[str]) -> dict[str, str]:
    """The type of each tensor, and of most layers as that of the model. names: of all tensors."""
    types = {layer.name: _type(layer) for layer in layers}
    most = Counter(types.values()).most_common(1)[0][0]
    return {"model_quant_type": most, "version": "1.0.0"} | {
        name: types.get(name.rpartition(".")[0], FLOAT) for name in names
    }


def _type(layer: StoredLayer) -> str:
    return DYNAMIC if layer.per_token else WEIGHT_ONLY if layer.static is None else STATIC


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
    if kind not in (WEIGHT_ONLY, DYNAMIC, STATIC):
        raise ValueError(f"{layer}.weight must be {WEIGHT_ONLY}, {DYNAMIC}, {STATIC} or {FLOAT}, but is {kind}")
    values = [tensors.get(f"{layer}.{part}") for part in PARTS]
    wanted = [np.int8, np.float32, np.float32]
    for part, value, dtype in zip(PARTS, values, wanted, strict=True):
        if value is None or value.dtype != dtype:
            raise ValueError(f"{kind} needs {layer}.{part} in {np.dtype(dtype)}")
    weight, scale, offset = (value for value in values if value is not None)
    for part, value in zip(PARTS[1:], (scale, offset), strict=True):
        if value.shape != (len(weight), 1):
            raise ValueError(f"{layer}.{part} must have the shape ({len(weight)}, 1), but has {value.shape}")
    if kind == STATIC:
        _check_range(layer, tensors, scale[:, 0])
    rebuilt: np.ndarray = (weight.astype(np.float32) - offset) * scale
    return rebuilt


def _check_range(layer: str, tensors: Mapping[str, np.ndarray], scale: np.ndarray) -> None:
    """ValueError where the tensors of the input's range do not belong to each other. scale: (out,), the weight's."""
    rows = (len(scale),)
    wanted = {"input_scale": ((1,), ("float32",)), "input_offset": ((1,), ("int8",)),
              "deq_scale": (rows, ("float32", "int64")), "quant_bias": (rows, ("int32",))}  # fmt: skip
    for part, (shape, kinds) in wanted.items():
        value = tensors.get(f"{layer}.{part}")
        if value is None or value.shape != shape or str(value.dtype) not in kinds:
            raise ValueError(f"{STATIC} needs {layer}.{part} in {' or '.join(kinds)}, of shape {shape}")
    steps = tensors[f"{layer}.input_scale"] * scale
    held = tensors[f"{layer}.deq_scale"]
    if not np.array_equal(held, _as_bits(steps) if held.dtype == np.int64 else steps):
        raise ValueError(f"{layer}.deq_scale must be input_scale * weight_scale, but is not")
