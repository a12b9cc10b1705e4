"""Attention heads as choices of a search: which are offered, and that a plan's heads are gone in every form."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp.errors import NoEffectError
from autocomp.evaluators import OnnxEngine
from autocomp.primitives import open_attention
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.cells.elastic_training import TrainableElasticNetwork
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
from autocomp.primitives.registry import search_space
from autocomp.primitives.tracing.platform import forward
from autocomp.primitives.tracing.tracer import trace
from autocomp.search_spaces import Format, Plan, SearchSpace
from tests.networks import Encoder, images, randomised
from tests.primitives.heads import Heads

X = images(8)


def space_of(net: Any, *names: str) -> SearchSpace:
    choices = Choices((Format(), Format(8, 8)), 16, names)
    return search_space(trace(net, (X[:1],)), parameters_of(net), choices)


@pytest.fixture(scope="module", params=["written", "opened"])
def net(request: pytest.FixtureRequest) -> Any:
    made = Heads() if request.param == "written" else open_attention(Encoder())
    return randomised(made).set_train(False)


def test_heads_alone_are_cut_one_by_one(net: Any) -> None:
    knobs = space_of(net, "head-pruning", "rtn").knobs
    kept = [knob for knob in knobs if knob.kind == "keep"]
    assert len(kept) == (1 if isinstance(net, Heads) else 2)
    for knob in kept:
        assert knob.values == (1.0, "0.75@head-pruning", "0.5@head-pruning", "0.25@head-pruning")
        assert knob.group is not None and knob.group.units == 4 and knob.primitive == "head-pruning"


def test_beside_channel_pruning_a_cut_is_offered_once(net: Any) -> None:
    both, one = (space_of(net, *names) for names in (("channel-pruning", "head-pruning"), ("channel-pruning",)))
    assert both.key == one.key and any("keep/" in knob.name for knob in one.knobs)


def test_a_plans_heads_are_gone_in_every_form(net: Any) -> None:
    space, parameters = space_of(net, "head-pruning"), parameters_of(net)
    plan = Plan({knob.name: "0.5@head-pruning" for knob in space.knobs})
    compressed = PlanCompressor(space, parameters)(plan)
    smaller = convert(net, space.graph, parameters, compressed)
    values = {name: cell for name, cell in smaller.cells_and_names() if name.endswith("values")}
    assert values and all(cell.weight.shape[0] == cell.in_channels // 2
                          for cell in values.values())  # fmt: skip
    found = OnnxEngine(space.graph, parameters).outputs(compressed, (X,))[0]
    assert norm_error(found, forward(smaller, (X,), graph=False)[0]) < 1e-4
    elastic = TrainableElasticNetwork(net, space, {}, symmetric=False)
    elastic.set(plan)
    assert norm_error(forward(elastic.cell.set_train(False), (X,), graph=False)[0], found) < 1e-4
    assert np.abs(found - forward(net, (X,), graph=False)[0]).max() > 1e-3, "two heads are missed"


def test_without_heads() -> None:
    with pytest.raises(NoEffectError, match=r"^head-pruning found no heads to remove: it has no attention whose code"):
        space_of(Encoder(), "head-pruning")
