"""A network at a lower resolution: the float network on scaled images, searched, costed and exported like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import autocomp
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.errors import NoEffectError
from autocomp.hardware_models import device
from autocomp.primitives import Resolution, trace
from autocomp.primitives.export.files import norm_error, run_onnx
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.search_spaces import NetworkGraph, Plan, SearchSpace, Workload
from tests.conftest import Subject
from tests.networks import Concatenating, Deep, Encoder, Residual, images, randomised

from .plan_forms import Made, check_elastic, check_files, choices_of, drawn, made_of

load_mindspore()

from mindspore import Tensor, nn, ops  # noqa: E402

X = images(32)
PRIMITIVES = ("channel-pruning", "rtn", "low-rank", "depth")
CHOICES, IN_FLOATS = choices_of(PRIMITIVES, False), choices_of(PRIMITIVES, True)


def centres(long: int, short: int) -> np.ndarray:
    """(short, long): the weights of the pixels of a row, each the two nearest to the centre of one of the new row."""
    at = np.clip((np.arange(short) + 0.5) * long / short - 0.5, 0, long - 1)
    return np.maximum(1 - np.abs(at[:, None] - np.arange(long)), 0)


def scaled(x: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    rows, columns = (centres(long, short) for long, short in zip(x.shape[2:], sides, strict=True))
    return np.einsum("hi,ncij,wj->nchw", rows, x, columns).astype(np.float32)


@pytest.fixture(scope="module")
def net() -> Any:
    return randomised(Deep())


@pytest.fixture(scope="module")
def smaller(net: Any) -> Any:
    return Resolution(0.75).apply(net, X[:1])


@pytest.fixture(scope="module")
def subject(smaller: Any) -> Subject:
    graph = trace(smaller, (X[:1],))
    return Subject("smaller", smaller, graph, None, parameters_of(smaller), None, X)


@pytest.fixture(scope="module")
def in_floats(subject: Subject) -> Made:
    return made_of(subject, IN_FLOATS)


def test_it_is_the_float_network_on_scaled_images(net: Any, smaller: Any) -> None:
    """At half the sides an interpolation between the centres is the mean of four pixels."""
    before = forward(net, (X,), graph=False)[0]
    halved = Resolution(0.5).apply(net, X[:1])
    for made, sides in ((smaller, (9, 9)), (halved, (6, 6))):
        found = forward(made, (X,), graph=False)[0]
        assert norm_error(found, forward(net, (scaled(X, sides),), graph=False)[0]) < 1e-5
        assert norm_error(found, before) > 1e-2
        assert [p.name for p in made.get_parameters()] == [p.name for p in net.get_parameters()]
    np.testing.assert_array_equal(forward(net, (X,), graph=False)[0], before)


def test_images_of_another_size_are_refused(smaller: Any) -> None:
    with pytest.raises(ValueError, match=r"takes images of 12 x 12, but got shape \(2, 3, 12, 16\)"):
        forward(smaller, (np.zeros((2, 3, 12, 16), np.float32),), graph=False)
    assert autocomp.estimate(smaller, "cpu", (1, 3, 12, 12)).macs > 0


def test_statistics_are_those_of_smaller_images(net: Any) -> None:
    resolution = Resolution(0.75)
    made = resolution.apply(net, X[:1], reestimate=X)
    assert resolution.sides == (9, 9)
    stem = net.stem[0]
    read = forward(stem, (scaled(X, (9, 9)),), graph=False)[0]
    np.testing.assert_allclose(made.network.stem[1].moving_mean.asnumpy(), read.mean((0, 2, 3)), rtol=1e-3, atol=1e-5)


def test_the_elastic_network_and_onnx_agree(in_floats: Made) -> None:
    kinds = {knob.kind for knob in in_floats[1].space.knobs}
    assert kinds == {"keep", "format", "structure", "skip"}
    check_elastic(in_floats, drawn(in_floats[1], 4, 3))


def test_files_agree_and_are_built_again(in_floats: Made, tmp_path: Path) -> None:
    subject, evaluator = in_floats
    deployer = NetworkDeployer(subject.net, evaluator, (subject.x,), IN_FLOATS)
    chosen: dict[str, str | float | int] = {
        "skip/network.first.0": "skipped",
        "keep/network.stem.0": 0.5,
        "format/network.head": "w4",
    }
    expected = check_files(in_floats, deployer, Plan(chosen), tmp_path, b"first.0.conv1")
    deployer.export(Plan(chosen), tmp_path / "net.safetensors")
    again = autocomp.rebuild(subject.net, tmp_path / "net.safetensors")
    assert norm_error(forward(again, (X[:1],), graph=False)[0], expected) < 1e-6


def test_files_in_integers_agree_with_what_was_evaluated(subject: Subject, tmp_path: Path) -> None:
    evaluator = made_of(subject, CHOICES)[1]
    plan = Plan({f"format/{layer}": "w8a8" for layer in subject.graph.layers} | {"keep/network.stem.0": 0.5})
    deployer = NetworkDeployer(subject.net, evaluator, (X,), CHOICES)
    deployer.export(plan, tmp_path / "net.onnx")
    expected = evaluator.engine.outputs(evaluator.compress(plan), (X,))[0]
    assert norm_error(run_onnx(tmp_path / "net.onnx", (X,))[0], expected) < 0.02


@pytest.mark.parametrize("name", ["cpu", "ascend-310p3"])
@pytest.mark.parametrize("ratio", [0.75, 0.5])
def test_costs_are_those_of_the_small_network_and_of_scaling(net: Any, smaller: Any, name: str, ratio: float) -> None:
    chip, resolution = device(name), Resolution(ratio)
    made = smaller if ratio == 0.75 else resolution.apply(net, X[:1])
    workload, small = (alone(trace(one, (1, 3, *sides))) for one, sides in ((made, (12, 12)), (net, made.sides)))
    costs, expected, rows = chip.costs(workload), chip.costs(small), chip.cost_table(workload)
    scaling = [row for row in rows if not row.name.startswith("network.") and row.kind in ("pad", "pool")]
    assert len(scaling) == 1 and scaling[0].latency_ms > 0
    tolerance = 1e-9 if name == "cpu" else 1e-4  # of ascend-310p3's model 2e-5 were seen
    np.testing.assert_allclose(costs.latency_ms, expected.latency_ms + scaling[0].latency_ms, rtol=tolerance)
    for field in ("macs", "params"):
        np.testing.assert_array_equal(getattr(costs, field), getattr(expected, field))


def alone(graph: NetworkGraph) -> Workload:
    return Workload(SearchSpace(graph, ()), np.zeros((1, 0), np.int64), 2)


class Halving(nn.Cell):
    """Takes images whose sides are multiples of 4 alone, as networks with skips between scales do."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 4, 4, "valid")
        self.head = nn.Dense(4, 2)

    def construct(self, x: Tensor) -> Tensor:
        y = self.down(x)
        y = ops.ResizeNearestNeighbor((4 * y.shape[2], 4 * y.shape[3]))(y) + x[:, :1]
        return self.head(ops.mean(y, (2, 3)))


def test_sides_are_those_that_the_network_takes() -> None:
    resolution = Resolution(0.75)
    resolution.apply(Halving(), (1, 3, 24, 24))
    assert resolution.sides == (16, 16)


class Pixelwise(nn.Cell):
    """Returns a value for each pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)

    def construct(self, x: Tensor) -> Tensor:
        return self.conv(x)


@pytest.mark.parametrize(
    ("made", "inputs", "ratio", "message"),
    [
        (Concatenating, X[:1], 0.5, r"resolution of 0\.5 does not suit the network: at 6 x 6 it does not run \("),
        (Pixelwise, X[:1], 0.5, r"at 6 x 6 it returns \(1, 2, 6, 6\) in place of \(1, 2, 12, 12\)"),
        (Residual, X[:1], 0.99, r"resolution of 0\.99 leaves 12 x 12 pixels as they are"),
        (Encoder, [(1, 3, 12, 12), (1, 4)], 0.5, r"scales one input of images, .* but the inputs are .*, \(1, 4\)"),
    ],
)  # fmt: skip
def test_where_it_cannot_be_lower_the_reason_is_said(made: Any, inputs: Any, ratio: float, message: str) -> None:
    with pytest.raises(NoEffectError, match=message):
        Resolution(ratio).apply(made(), inputs)
