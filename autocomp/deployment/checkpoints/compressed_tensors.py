"""The layout of compressed-tensors, which vLLM reads: ``model.safetensors``, and ``quantization_config`` in
``config.json``.

``pack-quantized``: weights of 4 or 8 bits in int32, along the inputs, the first value in the lowest bits, each moved by
2^(bits - 1). ``int-quantized``: int8 weights, one scale for each output, inputs rounded for each token, or with one
range: ``input_scale`` (1,) float32, and ``input_zero_point`` (1,) int8 where that is not around zero.

Source: vllm-project/compressed-tensors, ``compressors/pack_quantized`` (base.py, helpers.py),
``naive_quantized/base.py`` and ``quantization/quant_config.py``, ``quant_scheme.py``, as read in November 2026.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .stored_layer import StoredLayer

NAME, WEIGHTS = "compressed-tensors", "model.safetensors"
PACKED, BYTES = "pack-quantized", "int-quantized"
TOKEN, TENSOR, OFFSET = "token", "tensor", "tensor with a zero point"  # how inputs are rounded


def pack(integers: np.ndarray, bits: int) -> np.ndarray:
    """(out, in) integers of -2^(bits - 1) .. 2^(bits - 1) - 1 -> (out, ceil(in bits / 32)) int32. bits: 4 or 8."""
    each = 32 // bits
    rows, columns = integers.shape
    moved = np.zeros((rows, -(-columns // each) * each), np.uint32)
    moved[:, :columns] = integers.astype(np.int64) + 2 ** (bits - 1)
    places = np.arange(each, dtype=np.uint32) * np.uint32(bits)
    words = np.bitwise_or.reduce(moved.reshape(rows, -1, each) << places, axis=-1)
    return np.ascontiguousarray(words).view(np.int32)


def unpack(words: np.ndarray, bits: int, shape: Sequence[int]) -> np.ndarray:
    """What :func:`pack` was given, int8."""
    places = np.arange(32 // bits, dtype=np.uint32) * np.uint32(bits)
    levels = (np.ascontiguousarray(words).view(np.uint32)[..., None] >> places) & np.uint32(2**bits - 1)
    found = levels.reshape(len(words), -1)[:, : shape[1]].astype(np.int64) - 2 ** (bits - 1)
    return found.astype(np.int8)


def tensors_of(layer: StoredLayer) -> dict[str, np.ndarray]:
    """ValueError for a format that the layout does not hold."""
    rounds = layer.per_token or layer.static is not None
    fits = layer.bits == 8 and layer.scale.shape[1] == 1 if rounds else layer.bits in (4, 8)
    if not fits:
        raise ValueError(f"{NAME} holds w4, w8, both in groups, and w8a8, but {layer.name} has "
                         f"{layer.format}: choose one of these for it, or exclude it")  # fmt: skip
    if rounds:
        found = {f"{layer.name}.weight": layer.integers, f"{layer.name}.weight_scale": layer.scale}
        if layer.static is not None:
            found[f"{layer.name}.input_scale"] = np.array([layer.static.scale], np.float32)
            if layer.static.offset:
                found[f"{layer.name}.input_zero_point"] = np.array([layer.static.offset], np.int8)
        return found
    return {
        f"{layer.name}.weight_packed": pack(layer.integers, layer.bits),
        f"{layer.name}.weight_scale": layer.scale,
        f"{layer.name}.weight_shape": np.array(layer.integers.shape, np.int64),
    }


def described(layers: Sequence[StoredLayer], floats: Sequence[str]) -> dict[str, Any]:
    """The value of ``quantization_config``. floats: dense layers that stay in float."""
    groups: dict[tuple[int, str, int], list[str]] = {}
    for layer in layers:
        size = layer.group_size if layer.scale.shape[1] > 1 else 0
        inputs = TOKEN if layer.per_token else ""
        if layer.static is not None:
            inputs = OFFSET if layer.static.offset else TENSOR
        groups.setdefault((layer.bits, inputs, size), []).append(layer.name)
    made = {f"group_{i}": _group(*how, names) for i, (how, names) in enumerate(groups.items())}
    formats = {group["format"] for group in made.values()}
    return {
        "quant_method": NAME, "quantization_status": "compressed",
        "format": formats.pop() if len(formats) == 1 else "mixed-precision",
        "config_groups": made, "ignore": list(floats), "kv_cache_scheme": None, "global_compression_ratio": None,
    }  # fmt: skip


def _group(bits: int, inputs: str, size: int, names: list[str]) -> dict[str, Any]:
    """inputs: TOKEN, TENSOR, OFFSET, or empty for floats."""
    weights = {"num_bits": bits, "type": "int", "symmetric": True, "strategy": "group" if size else "channel",
               "group_size": size or None, "dynamic": False, "actorder": None}  # fmt: skip
    rounded = {"num_bits": 8, "type": "int", "symmetric": inputs != OFFSET, "group_size": None, "actorder": None,
               "strategy": "token" if inputs == TOKEN else "tensor", "dynamic": inputs == TOKEN}  # fmt: skip
    return {"format": BYTES if inputs else PACKED, "targets": [f"re:{re.escape(name)}$" for name in names],
            "weights": weights, "input_activations": rounded if inputs else None,
            "output_activations": None}  # fmt: skip


def read_layers(tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The float weights of all quantized layers, by layer. ValueError for a folder that breaks a rule."""
    if config.get("quant_method") != NAME or config.get("quantization_status") != "compressed":
        raise ValueError(f"quantization_config must be of quant_method {NAME!r}, with the status 'compressed'")
    found: dict[str, np.ndarray] = {}
    scaled = [name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale")]
    for layer in scaled:
        found[layer] = _read(layer, tensors, _scheme(layer, config))
    return found


def _scheme(layer: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    if layer in config.get("ignore", ()):
        raise ValueError(f"{layer} has a scale, but 'ignore' names it")
    for group in config.get("config_groups", {}).values():
        if any(re.match(target.removeprefix("re:"), layer) for target in group["targets"]):
            return dict(group)
    raise ValueError(f"{layer} has a scale, but no group of the description names it")


def _read(layer: str, tensors: Mapping[str, np.ndarray], group: Mapping[str, Any]) -> np.ndarray:
    bits, scale = group["weights"]["num_bits"], tensors[f"{layer}.weight_scale"]
    key = f"{layer}.weight" if group["format"] == BYTES else f"{layer}.weight_packed"
    kind = np.dtype(np.int8 if group["format"] == BYTES else np.int32)
    if key not in tensors or tensors[key].dtype != kind:
        raise ValueError(f"{group['format']} needs {key} in {kind}")
    _check_range(layer, tensors, group.get("input_activations"))
    levels = tensors[key]
    if group["format"] == PACKED:
        shape = tensors.get(f"{layer}.weight_shape")
        if shape is None or shape.shape != (2,):
            raise ValueError(f"{PACKED} needs {layer}.weight_shape with two numbers")
        rows, columns = (int(size) for size in shape)
        if levels.shape != (rows, -(-columns * bits // 32)):
            raise ValueError(f"{key} of {rows} x {columns} values of {bits} bits cannot have the shape {levels.shape}")
        levels = unpack(levels, bits, (rows, columns))
    parts = levels.shape[1] // group["weights"]["group_size"] if group["weights"]["strategy"] == "group" else 1
    if scale.shape != (len(levels), parts):
        raise ValueError(f"{layer}.weight_scale must have the shape ({len(levels)}, {parts}), but has {scale.shape}")
    return StoredLayer(layer, levels, scale, bits, group["format"] == BYTES).dequantized()


def _check_range(layer: str, tensors: Mapping[str, np.ndarray], inputs: Mapping[str, Any] | None) -> None:
    """ValueError where the range of the input is not that which the description says."""
    static = inputs is not None and not inputs["dynamic"]
    wanted = {"input_scale": (static, np.float32),
              "input_zero_point": (static and inputs is not None and not inputs["symmetric"], np.int8)}  # fmt: skip
    for part, (needed, kind) in wanted.items():
        value = tensors.get(f"{layer}.{part}")
        if (value is not None) != needed:
            raise ValueError(f"{layer}.{part} is {'missing' if needed else 'there'}, which the description denies")
        if value is not None and (value.dtype != kind or value.shape != (1,)):
            raise ValueError(f"{layer}.{part} must be one {np.dtype(kind)}, but is {value.dtype} {value.shape}")
