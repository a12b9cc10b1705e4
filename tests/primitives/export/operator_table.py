"""The table of docs/reference/operators.md, made from the writer's own tables and the code of each form.

>>> python -m tests.primitives.export.operator_table > docs/reference/operators.md
"""

from __future__ import annotations

import inspect
import re
import sys

from autocomp.primitives.export.onnx_elementwise import COMPARISONS
from autocomp.primitives.export.onnx_operators import OPERATORS

HEAD = """# Operators with an ONNX form

Made by `python -m tests.primitives.export.operator_table`; a test compares it with the writer's tables. A network with
another operator is evaluated by MindSpore and exported to MindIR; its ONNX export is refused with a sentence that
names the operator and the cell that calls it. Names are those of the graph of MindSpore: `nn.Embedding` is a Gather,
`nn.GRU` and `nn.RNN` many small ones, `nn.LSTM` an LSTM for each layer and direction; Part and Item are outputs of an
operator with several.
Where MindSpore promotes an operand to another element type, a Cast is written before it.

| MindSpore operator | ONNX form |
|---|---|
"""
EMITS = re.compile(r"(?:emit|gate)\(\s*f?\"([A-Za-z0-9]+)\"")
CONSTANT, PARTED = "a constant", "Slice for each part that is read"
WRITTEN = {  # of forms that choose their operators by value
    "Cast": "Cast",
    "Conv2DBackpropInput": "ConvTranspose, or Conv for each phase in integers",
    "Conv2DTranspose": "ConvTranspose, or Conv for each phase in integers",
    "GeLU": "Mul, Add, Tanh",
    "GeluExt": "Mul, Erf, Add, or as GeLU",
    "Input": "an input of the graph",
    "MirrorPad": "Pad, or Gather by positions (symmetric)",
    "Pad": "Pad",
    "PadV3": "Pad, or Gather by positions (circular)",
    "Roll": "Gather by positions",
    "StridedSlice": "Slice, Squeeze",
    "Stack": "Unsqueeze, Concat",
    "Concat": "Concat",
    "ReduceMean": "ReduceMean, or GlobalAveragePool of images",
    "MeanExt": "ReduceMean, or GlobalAveragePool of images",
}
WRITTEN |= {
    "AdaptiveAvgPool3D": "GlobalAveragePool, AveragePool, or Slice, ReduceMean, Concat",
    "AdaptiveAvgPool2D": "GlobalAveragePool, AveragePool, or Slice, ReduceMean, Concat",
    "AdaptiveMaxPool2D": "GlobalMaxPool, MaxPool, or Slice, ReduceMax, Concat",
    "BatchNorm": "BatchNormalization, or folded into the layer before it",
    "Cdist": "Unsqueeze, Sub, and the norm as of LpNorm",
    "Cummax": "Slice, Pad, Max in steps of 1, 2, 4, ...",
    "Cummin": "Slice, Pad, Min in steps of 1, 2, 4, ...",
    "CumProd": "Slice, Pad, Mul in steps of 1, 2, 4, ...",
    "CumulativeLogsumexp": "Slice, Pad, Exp, Add, Log in steps of 1, 2, 4, ...",
    "GatherNd": "Gather for each axis, or GatherND",
    "LpNorm": "ReduceL1 or ReduceL2, ReduceMax, or Pow, ReduceSum",
    "NanToNum": "IsNaN, IsInf, Where",
    "TensorScatterUpdate": "Gather, Where, or ScatterND",
}
WRITTEN |= dict.fromkeys(("LinSpace", "Meshgrid"), CONSTANT)
WRITTEN |= {name: f"{name.removeprefix('Bitwise')}, or {name}" for name in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")}
WRITTEN |= dict.fromkeys(("FillV2", "Zeros", "Ones", "ZerosLike", "OnesLike", "Eye"), CONSTANT)
WRITTEN |= dict.fromkeys(("Split", "SplitWithSize", "SplitTensor", "Chunk", "Unstack", "UnstackExt"), PARTED)
WRITTEN |= dict.fromkeys(("ClampScalar", "ClampTensor"), "Max, Min")
WRITTEN |= dict.fromkeys(("TopK", "TopkExt", "Sort", "SortExt"), "TopK")
WRITTEN |= dict.fromkeys(("MatMul", "MatMulExt", "Dense"), "Gemm, or MatMul and Add")


def form_of(name: str) -> str:
    """The ONNX operators that the form of a MindSpore operator writes."""
    if name in WRITTEN:
        return WRITTEN[name]
    form = OPERATORS[name]
    held = inspect.getclosurevars(form).nonlocals if inspect.isfunction(form) else {}
    given = [value for key, value in held.items() if key in ("op", "value") and isinstance(value, str)]
    if name in COMPARISONS and given:
        return f"{given[0]}, Not" if held.get("opposite") else given[0]
    return ", ".join(dict.fromkeys([*given, *EMITS.findall(inspect.getsource(form))]))


def table() -> str:
    return HEAD + "".join(f"| {name} | {form_of(name)} |\n" for name in sorted(OPERATORS))


if __name__ == "__main__":
    sys.stdout.write(table())
