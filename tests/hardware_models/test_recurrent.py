"""LSTM, embedding and products with a parameter, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from autocomp.hardware_models import OperatorCost, device
from autocomp.search_spaces import Argument, NetworkGraph, Node, NodeAttributes, SearchSpace

BATCH = 3


def only(node: Node, shape: tuple[int, ...]) -> OperatorCost:
    """The cost on a chip of 16-bit floats of one operator that reads an input of this shape."""
    graph = NetworkGraph((Node("input", "input", "Input", (), shape), node), (1,))
    workload = SearchSpace(graph, ()).workload(np.zeros((1, 0), int), BATCH)
    (row,) = device("ascend").cost_table(workload)
    return row


def test_an_lstm_multiplies_input_and_state_at_each_step() -> None:
    sizes = {"input_size": 24, "hidden_size": 32}
    row = only(Node("lstm", "other", "LSTM", (0,), (7, 1, 32), attributes=NodeAttributes(operator=sizes)), (7, 1, 24))
    weights = 4 * 32 * (24 + 32)
    assert row.macs == 7 * BATCH * weights
    assert row.bytes == 2 * (weights + 7 * BATCH * (24 + 32))


def test_an_lstm_takes_longer_with_every_step() -> None:
    sizes = {"input_size": 512, "hidden_size": 512}
    rows = [
        only(Node("lstm", "other", "LSTM", (0,), (n, 1, 512), attributes=NodeAttributes(operator=sizes)), (n, 1, 512))
        for n in (1, 10, 100)
    ]
    assert rows[0].latency_ms < rows[1].latency_ms < rows[2].latency_ms
    assert rows[2].macs == 100 * rows[0].macs


def test_an_embedding_reads_the_rows_that_it_gives() -> None:
    row = only(Node("rows", "slice", "Gather", (0,), (7, 24), attributes=NodeAttributes(parameters=("table",))), (7,))
    assert row.macs == 0
    assert row.bytes == pytest.approx(2 * BATCH * (7 + 7 * 24 + 7 * 24))


def test_a_product_with_a_parameter_is_one_matrix() -> None:
    arguments = (Argument("node", 0), Argument("parameter", "w"))
    attributes = NodeAttributes(arguments, parameters=("w",), parameter_shapes=((24, 96),))
    row = only(Node("product", "matmul", "MatMul", (0,), (1, 96), attributes=attributes), (1, 24))
    assert row.macs == BATCH * 24 * 96
    assert row.bytes == 2 * (24 * 96 + BATCH * (24 + 96))
