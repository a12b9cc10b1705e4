"""Small networks in the forms for an Ascend, and ways to break a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from autocomp.primitives.export.ascend.deployable import deployable_model
from autocomp.primitives.export.ascend.training_form import training_model
from autocomp.primitives.export.files import run_onnx
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.numerics.plan_compressor import CompressedWeights
from tests.primitives.export.integer_networks import Rounded, rounded

FORMS = {"deployable": deployable_model, "training": training_model}
Change = Callable[[onnx.ModelProto], Any]


@cache
def weights(name: str, text: str) -> CompressedWeights:
    """One format for every layer; tensors between layers stay floats."""
    return replace(rounded(name).compressed(text), tensors={})


@cache
def simulated(name: str, text: str) -> np.ndarray:
    """What a search evaluates: the inputs and the weights of layers are rounded, in floats."""
    some: Rounded = rounded(name)
    model = onnx_network(some.graph, some.parameters, weights(name, text))
    return run_onnx(model.SerializeToString(), (some.x,))[0]


@cache
def _model(name: str, text: str, form: str) -> bytes:
    some = rounded(name)
    data: bytes = FORMS[form](some.graph, some.parameters, weights(name, text), len(some.x)).SerializeToString()
    return data


def model(name: str, text: str = "w8a8", form: str = "deployable") -> onnx.ModelProto:
    return onnx.load_from_string(_model(name, text, form))


def nodes(some: onnx.ModelProto, *kinds: str) -> list[onnx.NodeProto]:
    return [node for node in some.graph.node if node.op_type in kinds]


def reader(some: onnx.ModelProto, made: onnx.NodeProto, *kinds: str) -> onnx.NodeProto:
    return next(node for node in nodes(some, *kinds) if made.output[0] in node.input)


def array(some: onnx.ModelProto, name: str) -> np.ndarray:
    return numpy_helper.to_array(next(tensor for tensor in some.graph.initializer if tensor.name == name))


def store(some: onnx.ModelProto, name: str, value: np.ndarray | np.generic) -> None:
    """In the place of what the file holds under this name."""
    kept = [tensor for tensor in some.graph.initializer if tensor.name != name]
    del some.graph.initializer[:]
    some.graph.initializer.extend([*kept, numpy_helper.from_array(np.asarray(value), name)])


def set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    kept = [one for one in node.attribute if one.name != name]
    del node.attribute[:]
    node.attribute.extend(kept if value is None else [*kept, helper.make_attribute(name, value)])
