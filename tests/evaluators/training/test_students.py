"""A network that trains with several quantizers, each in the layers that the plan names it for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp.evaluators.training.students import student_of
from autocomp.primitives.cells.compression_state import state_of
from autocomp.primitives.export.files import norm_error
from autocomp.primitives.tracing.platform import forward
from autocomp.search_spaces import Plan
from tests.networks import NETWORKS, randomised
from tests.primitives.contract import X, train, values

BY_LAYER = {"w4a8@slb": "ChosenWeight", "w2a8@lsq": "LearnedScaleWeight", "w8a8@simqat": "MaxScaledWeight"}


@pytest.fixture(scope="module")
def trained() -> tuple[Plan, Any, Any, dict[str, np.ndarray]]:
    """The plan, the quantizers, the network after two epochs, and its parameters before."""
    net = randomised(NETWORKS["residual"]())
    convolutions = [name for name, cell in net.cells_and_names() if type(cell).__name__ == "Conv2d"]
    plan = Plan({f"format/{name}": list(BY_LAYER)[i % 3] for i, name in enumerate(convolutions)})
    algorithm, student = student_of(net, plan, "pact", False, calibrate=(X,))
    before = values(student)
    train(student, algorithm.callbacks())
    return plan, algorithm, student, before


def test_each_layer_has_the_quantizer_that_the_plan_names(trained: Any) -> None:
    plan, _, student, _ = trained
    for path, layer in state_of(student).layers.items():
        value = plan.get(f"format/{path}")
        if value is not None:
            assert type(layer.weight_quantizer).__name__ == BY_LAYER[str(value)]
        assert layer.weight_quantizer.bits == (int(str(value)[1]) if value else 32)


def test_all_of_them_train(trained: Any) -> None:
    _, _, student, before = trained
    after = values(student)
    kinds = {"logits", "scale"}
    moved = {name.rpartition(".")[2] for name in after if not np.array_equal(after[name], before[name])}
    assert kinds <= moved
    cooled = [float(p.asnumpy()) for p in student.get_parameters() if p.name.endswith("temperature")]
    assert cooled and max(cooled) < 0.1, "SLB's schedule has run"


def test_the_converted_network_is_the_trained_one(trained: Any) -> None:
    _, algorithm, student, _ = trained
    deployed = algorithm.convert(student)
    expected = forward(student.set_train(False), (X,), graph=False)[0]
    assert norm_error(forward(deployed, (X,), graph=False)[0], expected) < 0.05
    integers = {p.name: p.asnumpy() for p in deployed.get_parameters() if p.asnumpy().dtype.kind == "i"}
    assert integers


def test_one_quantizer_alone_is_itself() -> None:
    net = randomised(NETWORKS["residual"]())
    algorithm, _ = student_of(net, Plan({"format/stem": "w4a8@lsq"}), "lsq", False, calibrate=(X,))
    assert type(algorithm).__name__ == "LSQ"
