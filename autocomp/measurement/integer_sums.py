"""Whether onnxruntime's kernels on this processor saturate where they add products of 8-bit integers."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

DEPTH, OUTPUTS, PIXELS = 64, 16, 16  # of a product and of a convolution that blocked kernels take


@cache
def adds_in_16_bits() -> bool:
    """Whether the largest products of an unsigned input and a signed weight add up to less than they should, in a
    matrix product or in a convolution.

    x86-64 processors without VNNI add two of them in 16 bits (``vpmaddubsw``), where 2 * 255 * 127 does not fit.
    """
    inputs = {"rows": (PIXELS, DEPTH), "image": (1, DEPTH, 4, 4)}
    weights = {"columns": (DEPTH, OUTPUTS), "kernel": (OUTPUTS, DEPTH, 1, 1)}
    nodes = [
        helper.make_node("MatMulInteger", ["rows", "columns"], ["product"]),
        helper.make_node("QLinearConv", ["image", "one", "zero", "kernel", "one", "none", "wide", "zero"], ["pixels"]),
    ]
    whole = DEPTH * 255 * 127
    constants: dict[str, np.ndarray] = {name: np.full(shape, 127, np.int8) for name, shape in weights.items()}
    numbers = {"one": np.float32(1), "zero": np.uint8(0), "none": np.int8(0), "wide": np.float32(whole / 200)}
    constants |= {name: np.asarray(number) for name, number in numbers.items()}
    made = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info(name, TensorProto.UINT8, shape) for name, shape in inputs.items()],
        [
            helper.make_tensor_value_info("product", TensorProto.INT32, (PIXELS, OUTPUTS)),
            helper.make_tensor_value_info("pixels", TensorProto.UINT8, (1, OUTPUTS, 4, 4)),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    product, pixels = session.run(None, {name: np.full(shape, 255, np.uint8) for name, shape in inputs.items()})
    return bool((product != whole).any() or (np.abs(pixels.astype(int) - 200) > 1).any())
