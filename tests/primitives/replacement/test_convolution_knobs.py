"""Cheaper convolutions as choices: where there are some, how they are fitted, that every form computes the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.evaluators.engines import MindSporeEngine
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.numerics.layer_fits.convolution_fit import in_groups, separable, with_smaller_kernel
from autocomp.primitives.numerics.layer_fits.factorisation import LayerFactors
from autocomp.primitives.numerics.layer_fits.output_error import in_one_layer
from autocomp.primitives.numerics.patches import Hessian
from autocomp.primitives.numerics.plan_compressor import parameters_of
from autocomp.primitives.registry import primitive, search_space
from autocomp.primitives.tracing.platform import forward, load_mindspore
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import Format, NetworkGraph, Plan
from tests.conftest import Subject
from tests.networks import images, randomised

ms = load_mindspore()

from mindspore import nn  # noqa: E402

CONVOLUTIONS = ("smaller-kernel", "grouped", "separable")
FORMATS = tuple(map(Format.parse, ("float", "w8", "w8a8", "w4")))
RNG = np.random.default_rng(0)
WEIGHT = RNG.standard_normal((6, 4, 3, 3)).astype(np.float32)
SAMPLES = (RNG.standard_normal((3000, 36)) @ (np.eye(36) + 0.3 * RNG.random((36, 36))) + 0.5).astype(np.float32)
FITS: dict[str, Callable[..., LayerFactors]] = {
    "kernel": lambda *how: with_smaller_kernel(WEIGHT, 1, *how),
    "grouped": lambda *how: in_groups(WEIGHT, 2, *how),
    "separable": lambda *how: separable(WEIGHT, 1, *how),
}


class Windows(nn.Cell):
    """Large kernels with strides, dilation, a bias, and paddings of every kind."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, 2, "pad", 3)
        self.norm = nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 8, 5, 1, "pad", 4, dilation=2, has_bias=True)
        self.strided = nn.Conv2d(8, 8, 3, 2, "same", has_bias=True)
        self.valid = nn.Conv2d(8, 8, 3, 1, "valid")
        self.head = nn.Conv2d(8, 4, 1)
        self.relu = nn.ReLU()

    def construct(self, x: Any) -> Any:
        y = self.relu(self.wide(self.relu(self.norm(self.stem(x)))))
        y = self.relu(self.valid(self.relu(self.strided(y))))
        return self.head(y).mean((2, 3))


@pytest.fixture(scope="module")
def windows() -> tuple[Any, NetworkGraph, np.ndarray]:
    net, x = randomised(Windows()), images(24, seed=3)
    x = np.repeat(np.repeat(x, 2, 2), 2, 3)
    return net, trace(net, (x[:1],)), x


def _offers(graph: NetworkGraph, name: str) -> dict[str, set[str]]:
    knobs = primitive(name).knobs(graph, {}, FORMATS, 4, {})
    return {knob.layers[0]: {str(value).partition("@")[0] for value in knob.values[1:]} for knob in knobs}


def test_kernels_shrink_as_far_as_their_padding(windows: tuple[Any, NetworkGraph, np.ndarray]) -> None:
    """``same`` pads a stride of 2 on one side alone, ``valid`` on none: there the centre cannot move."""
    found = _offers(windows[1], "smaller-kernel")
    assert found == {"stem": {"kernel5", "kernel3", "kernel1"}, "wide": {"kernel3", "kernel1"}}
    (knob,) = (k for k in primitive("smaller-kernel").knobs(windows[1], {}, FORMATS, 4, {}) if k.layers == ("wide",))
    window = knob.chains["kernel3@smaller-kernel"].nodes[0].convolution
    assert window.pad == (2, 2, 2, 2) and window.dilation == (2, 2), "two pixels less of each side"


def test_groups_and_separable_kernels_lie_between_the_ends(windows: tuple[Any, NetworkGraph, np.ndarray]) -> None:
    assert set(_offers(windows[1], "grouped")) == set(_offers(windows[1], "separable")) == {"wide", "strided", "valid"}
    assert _offers(windows[1], "grouped")["wide"] == {"groups2", "groups4"}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_network_without_such_layers_is_refused(name: str) -> None:
    with pytest.raises(NoEffectError, match=f"{name} found no convolution"):
        primitive(name).knobs(NetworkGraph((), ()), {}, FORMATS, 4, {})


def test_layers_that_plans_cut_to_odd_numbers_have_no_groups(named_subject: Callable[[str], Subject]) -> None:
    """Neither where their outputs are cut nor, as in the second block's first layer, where their inputs are."""
    subject = named_subject("residual")
    spaces = (
        search_space(subject.graph, subject.parameters, Choices(FORMATS, divisor, ("grouped", "channel-pruning")))
        for divisor in (4, 2)
    )
    whole, halves = (
        {knob.layers[0] for knob in space.knobs if "groups4@grouped" in knob.values[1:]} for space in spaces
    )
    assert halves == {"blocks.1.conv2"} < whole, "only there 32 channels, cut in eighths, are read and given"


@pytest.mark.parametrize("form", list(FITS))
def test_samples_make_the_outputs_nearer(form: str) -> None:
    """And a bias makes up for the mean."""
    whole, errors = WEIGHT.reshape(6, -1), []
    for how in ((None, True), (SAMPLES, False), (SAMPLES, True)):
        factors = FITS[form](*how)
        outputs = SAMPLES @ in_one_layer(form, (factors.first, factors.last), WEIGHT.shape).T + factors.shift
        errors.append(float(np.square(outputs - SAMPLES @ whole.T).sum()))
    assert errors[2] < errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("form", list(FITS))
def test_what_the_cheaper_layer_can_compute_is_found(form: str) -> None:
    """A layer that is one already stays what it computes."""
    own = FITS[form](None, False)
    weight = in_one_layer(form, (own.first, own.last), WEIGHT.shape).reshape(WEIGHT.shape).astype(np.float32)
    again = {"kernel": with_smaller_kernel, "grouped": in_groups, "separable": separable}[form]
    factors = again(weight, {"kernel": 1, "grouped": 2, "separable": 1}[form], SAMPLES, True)
    found = in_one_layer(form, (factors.first, factors.last), WEIGHT.shape).reshape(WEIGHT.shape)
    assert norm_error(found, weight) < 0.01


def test_all_kernels_of_each_channel_are_the_layer() -> None:
    factors = separable(WEIGHT[:2], 2, SAMPLES, True)
    assert (
        norm_error(in_one_layer("separable", (factors.first, factors.last), (2, 4, 3, 3)), WEIGHT[:2].reshape(2, -1))
        < 0.02
    )
    more = separable(WEIGHT[:2], 3, SAMPLES, True)  # more kernels than outputs
    assert more.first is not None and len(more.first) == 12 and np.isfinite(more.last).all()


def test_moments_of_groups_are_those_of_their_parts() -> None:
    moments = np.cov(SAMPLES.T, bias=True).astype(np.float32)
    whole = Hessian(SAMPLES.mean(0)[None], moments[None], len(SAMPLES))
    parts = whole.parted(2)
    np.testing.assert_array_equal(parts.covariance[1], moments[18:, 18:])
    np.testing.assert_array_equal(parts.mean[1], whole.mean[0, 18:])


def test_channels_that_do_not_divide_are_named() -> None:
    with pytest.raises(ValueError, match="in 4 groups must keep multiples of 4 channels, but the plan keeps 4 inputs"):
        in_groups(WEIGHT, 4, None, False)


def test_every_form_computes_the_same_for_awkward_windows(windows: tuple[Any, NetworkGraph, np.ndarray]) -> None:
    """Each value alone, and plans that join several with cut channels and formats."""
    net, graph, x = windows
    choices = Choices(FORMATS[1:], 4, ("channel-pruning", "adaround", *CONVOLUTIONS))
    evaluator = evaluator_of(net, graph, choices, (x,), None, (x,))
    space, parameters = evaluator.space, parameters_of(net)
    other = MindSporeEngine(net, graph, evaluator.engine.described_outputs, space.chains)
    alone = [Plan({k.name: v}) for k in space.knobs if k.chains for v in k.values[1:]]
    drawn = [space.decode(vector) for vector in space.random(np.random.default_rng(1), 8)]
    plain = evaluator.engine.outputs(evaluator.compress(Plan({})), (x[:4],))[0]
    for number, plan in enumerate((*alone, *drawn)):
        compressed = evaluator.compress(plan)
        expected = evaluator.engine.outputs(compressed, (x[:4],))[0]
        tolerance = 0.05 if any(state.activation for state in compressed.layers.values()) else 1e-4
        assert norm_error(other.outputs(compressed, (x[:4],))[0], expected) < tolerance, plan
        assert norm_error(plain, expected) > 1e-4, plan
        if number % 4 == 0:
            made = convert(net, graph, parameters, compressed)
            assert norm_error(forward(made, (x[:4],), graph=False)[0], expected) < tolerance, plan
