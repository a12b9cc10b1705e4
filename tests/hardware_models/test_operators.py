"""What is fused, and the table of operators."""

from __future__ import annotations

import numpy as np
import pytest

from autocomp.hardware_models import device
from autocomp.hardware_models.operators import lower

from .networks import Builder, mixed


def kinds(builder: Builder, pools: bool = False) -> list[list[str]]:
    graph = builder.graph()
    return [[graph.nodes[i].kind for i in operator.nodes] for operator in lower(graph, pools).operators]


def test_norm_activation_and_residual_add_fuse_into_the_convolution_before_them() -> None:
    b = Builder(16)
    x = b.add("activation", b.add("batchnorm", b.conv(0, 16)))
    y = b.add("batchnorm", b.conv(x, 16))
    b.add("activation", b.add("add", y, x))
    assert kinds(b) == [["conv", "batchnorm", "activation"], ["conv", "batchnorm", "add", "activation"]]
    assert [operator.reads for operator in lower(b.graph()).operators] == [(0,), (3, 3)]


def test_an_add_of_two_branches_fuses_into_the_later() -> None:
    b = Builder(16)
    b.add("add", b.conv(0, 16), b.conv(0, 16))
    assert kinds(b) == [["conv"], ["conv", "add"]]


def test_what_someone_else_reads_is_not_fused() -> None:
    b = Builder(16)
    x = b.conv(0, 16)
    b.add("mul", b.add("activation", x), x)
    assert kinds(b) == [["conv"], ["activation", "mul"]]


def test_a_broadcast_product_stands_alone() -> None:
    b = Builder(16)
    x = b.conv(0, 16)
    gate = b.add("activation", b.conv(b.add("mean", x, shape=(1, 16, 1, 1)), 16, 1))
    b.add("mul", x, gate)
    assert kinds(b) == [["conv"], ["mean"], ["conv", "activation"], ["mul"]]


def test_reshapes_are_free_and_pass_readers_through() -> None:
    b = Builder(16)
    b.dense(b.flatten(b.add("pool", 0, shape=(1, 16, 2, 2))), 10)
    program = lower(b.graph())
    assert kinds(b) == [["pool"], ["dense"]]
    assert program.operators[1].reads == (1,)


def test_a_max_pool_runs_in_the_convolution_that_it_alone_reads_where_the_compiler_does_so() -> None:
    b = Builder(16)
    x = b.max_pool(b.add("activation", b.conv(0, 16)))
    b.add("activation", b.max_pool(x))
    assert kinds(b, pools=True) == [["conv", "activation", "pool"], ["pool"], ["activation"]]
    assert kinds(b) == [["conv", "activation"], ["pool"], ["pool"], ["activation"]]
    b = Builder(16)
    x = b.conv(0, 16)
    b.add("concat", b.max_pool(x), b.max_pool(x))
    assert kinds(b, pools=True) == [["conv"], ["pool"], ["pool"], ["concat"]]
    assert device("ascend").fuses_pools
    assert not device("gpu").fuses_pools and not device("cpu").fuses_pools


def test_the_table_sums_to_the_latency() -> None:
    space = mixed()
    plan = np.zeros((1, len(space.knobs)), int)
    chip = device("ascend")
    rows = chip.cost_table(space.workload(plan, 8))
    total = chip.costs(space.workload(plan, 8))[0]
    assert sum(row.latency_ms for row in rows) + chip.rates.inference_s * 1e3 == pytest.approx(total.latency_ms)
    assert sum(row.macs for row in rows) == total.macs == 8 * space.graph.macs
    assert sum(row.share for row in rows) == pytest.approx(1 - chip.rates.inference_s * 1e3 / total.latency_ms)
    assert {row.bound for row in rows} <= {"compute", "memory", "launch"}


def test_the_table_is_for_one_plan() -> None:
    space = mixed()
    with pytest.raises(ValueError, match="one plan, but got 2"):
        device("ascend").cost_table(space.workload(np.zeros((2, len(space.knobs)), int)))
