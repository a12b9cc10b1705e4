from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from autocomp.problem.data import Data
from autocomp.problem.labels import as_labels

X = np.zeros((4, 3), np.float32)
NAMES = ["cat", "ant", "bee", "cat"]


@pytest.mark.parametrize("labels", [NAMES, tuple(NAMES), np.array(NAMES), np.array(NAMES, object)])
def test_names_are_numbered_in_their_order(labels: Any) -> None:
    found, names = as_labels(labels, "evaluate")
    assert names == ("ant", "bee", "cat") and found.dtype == np.int64
    np.testing.assert_array_equal(found, [2, 0, 1, 2])


def test_names_in_the_order_of_the_outputs() -> None:
    data = Data(evaluate=(X, NAMES), classes=("dog", "cat", "bee", "ant"))
    assert data.evaluation is not None
    np.testing.assert_array_equal(np.asarray(data.evaluation.y), [1, 3, 2, 1])


def test_one_hot_and_multi_hot_rows() -> None:
    one_hot = np.eye(3)[[2, 0, 1, 2]]
    np.testing.assert_array_equal(as_labels(one_hot, "evaluate")[0], [2, 0, 1, 2])
    several = np.array([[1, 1, 0], [0, 0, 0], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(as_labels(several, "evaluate")[0], several)


def test_names_that_the_roles_do_not_share() -> None:
    with pytest.raises(
        ValueError, match=r"^the labels of all roles must have the same names, but got 'ant', 'bee' for train and"
    ):
        Data(evaluate=(X, NAMES), train=(X, ["ant", "bee", "ant", "ant"]))
    data = Data(evaluate=(X, NAMES), train=(X, ["ant", "bee", "ant", "ant"]), classes=["ant", "bee", "cat"])
    assert data.training is not None
    np.testing.assert_array_equal(np.asarray(data.training.y), [0, 1, 0, 0])


def test_a_name_that_classes_lack() -> None:
    with pytest.raises(ValueError, match=r"^the labels of train must be among classes, 'ant', 'bee', but got 'cat'$"):
        Data(train=(X, NAMES), classes=["ant", "bee"])


def test_a_metric_gets_the_names() -> None:
    def right(outputs: np.ndarray, labels: Any) -> float:
        return 1.0

    data = Data(evaluate=(X, NAMES), metric=right)
    assert data.evaluation is not None and data.evaluation.y is not None and list(data.evaluation.y) == NAMES
