"""Carries plans out in every form and compares the outputs; runs in processes of its own."""

from __future__ import annotations

import pathlib
import tempfile
from dataclasses import dataclass

import numpy as np

PLANS = 34  # of each network
FLOAT_INPUTS = 11  # of them without rounded activations
IMAGES = 4

FORMS = ("converted", "mindir", "onnx")


@dataclass(frozen=True)
class Agreement:
    """errors: of each of FORMS against the elastic network, relative in the 2-norm; outputs: the elastic network's."""

    plan: str
    rounded: bool
    errors: tuple[float, ...]
    outputs: np.ndarray
    distance: float


def vectors(space: object, count: int = PLANS, float_inputs: int = FLOAT_INPUTS, seed: int = 5) -> np.ndarray:
    """(count, knobs) random plans; the first have formats that leave activations as they are, w8 in place of w8a8."""
    drawn = space.random(np.random.default_rng(seed), count)  # type: ignore[attr-defined]
    for position, knob in enumerate(space.knobs):  # type: ignore[attr-defined]
        if knob.kind == "format":
            weights_only = [knob.index(str(value).partition("a8")[0]) for value in knob.values]
            drawn[:float_inputs, position] = np.array(weights_only)[drawn[:float_inputs, position]]
    return np.asarray(drawn)


def agreements(name: str, first: int, last: int) -> list[Agreement]:
    """Of the network's plans number ``first`` to ``last``."""
    from autocomp.primitives.cells.elastic import ElasticNetwork
    from tests.conftest import subject_of

    subject = subject_of(name)
    elastic = ElasticNetwork(subject.net, subject.graph)
    inputs = (subject.x[:IMAGES],)
    plain = elastic(inputs)[0]
    return [_agreement(subject, elastic, inputs, plain, v) for v in vectors(subject.space)[first:last]]


def _agreement(
    subject: object, elastic: object, inputs: tuple[np.ndarray, ...], plain: np.ndarray, vector: np.ndarray
) -> Agreement:
    from autocomp.primitives.cells.conversion import convert
    from autocomp.primitives.export.files import export_mindir, norm_error, run_mindir, run_onnx
    from autocomp.primitives.export.onnx_network import onnx_network
    from autocomp.primitives.export.onnx_writer import Style
    from autocomp.primitives.tracing.platform import forward

    graph, parameters = subject.graph, subject.parameters  # type: ignore[attr-defined]
    plan = subject.space.decode(vector)  # type: ignore[attr-defined]
    compressed = subject.evaluator.compress(plan)  # type: ignore[attr-defined]
    elastic.set(compressed)  # type: ignore[attr-defined]
    expected = elastic(inputs)[0]  # type: ignore[operator]
    net = convert(subject.net, graph, parameters, compressed)  # type: ignore[attr-defined]
    found = [forward(net, inputs, graph=False)[0]]
    with tempfile.TemporaryDirectory() as folder:
        mindir, onnx = pathlib.Path(folder) / "net.mindir", pathlib.Path(folder) / "net.onnx"
        export_mindir(net, inputs, mindir)
        onnx.write_bytes(onnx_network(graph, parameters, compressed, Style(integer_weights=True)).SerializeToString())
        found += [run_mindir(mindir, inputs)[0], run_onnx(onnx, inputs)[0]]
    rounded = any(state.activation is not None for state in compressed.layers.values())
    errors = tuple(norm_error(output, expected) for output in found)
    return Agreement(str(plan), rounded, errors, expected, norm_error(expected, plain))
