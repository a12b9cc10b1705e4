"""Callbacks for ``mindspore.Model.train``: actions of quantizers before and during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np
from mindspore import nn
from mindspore.train import Callback

from .compression_state import state_of
from .fake_quant import assign

BATCHES = 50  # of the training set, for statistics
LEAST_MOVED = 1e-3  # by which a BatchNorm moves its statistics that uses those of its batch
SHARP = 1e-4  # a temperature at which a softmax is its largest entry


class Calibrated(Protocol):
    def calibrate(self, net_q: Any, arrays: tuple[np.ndarray, ...]) -> None: ...


class CalibrateFirst(Callback):
    """Before the first step, calibrates the ranges of inputs on the first batches of the training set."""

    def __init__(self, algorithm: Calibrated, net_q: Any, images: int = 256) -> None:
        super().__init__()
        self.algorithm, self.net_q, self.images = algorithm, net_q, images

    def on_train_begin(self, run_context: Any) -> None:
        applied = state_of(self.net_q)
        if applied.calibrated:
            return
        count = sum(node.kind == "input" for node in applied.graph.nodes)
        columns: list[list[np.ndarray]] = [[] for _ in range(count)]
        for batch in run_context.original_args().train_dataset.create_tuple_iterator(output_numpy=True, num_epochs=1):
            for column, array in zip(columns, batch, strict=False):
                column.append(array)
            if sum(map(len, columns[0])) >= self.images:
                break
        self.algorithm.calibrate(self.net_q, tuple(np.concatenate(column)[: self.images] for column in columns))


class AtStep(Callback):
    """Calls ``action`` once, before the step of this number (from 0) begins."""

    def __init__(self, step: int, action: Callable[[Any], None]) -> None:
        super().__init__()
        self.step, self.action, self.done = step, action, False

    def on_train_step_begin(self, run_context: Any) -> None:
        arguments = run_context.original_args()
        if not self.done and arguments.cur_step_num >= self.step + 1:
            self.action(arguments)
            self.done = True


class KeepZeros(Callback):
    """Before the first step and after every step, makes elements of parameters zero.

    masks: of each parameter, True for the elements that are not zero.
    """

    def __init__(self, parameters: Sequence[Any], masks: Sequence[np.ndarray]) -> None:
        super().__init__()
        self.parameters, self.masks = parameters, masks

    def on_train_begin(self, run_context: Any) -> None:
        for parameter, kept in zip(self.parameters, self.masks, strict=True):
            assign(parameter, parameter.asnumpy() * kept)

    def on_train_step_end(self, run_context: Any) -> None:
        self.on_train_begin(run_context)


class Schedule(Callback):
    """Sets parameters to ``value(progress)`` before every step, with the progress from 0 to 1 over the training."""

    def __init__(self, targets: Sequence[Any], value: Callable[[float], float]) -> None:
        super().__init__()
        self.targets, self.value = targets, value

    def on_train_step_begin(self, run_context: Any) -> None:
        arguments = run_context.original_args()
        steps = max(arguments.epoch_num * arguments.batch_num, 1)
        value = self.value(min(max(arguments.cur_step_num - 1, 0) / max(steps - 1, 1), 1.0))
        for target in self.targets:
            assign(target, value)


class BeforeEvaluation(Callback):
    """Calls ``action`` after every epoch, before the network is evaluated."""

    def __init__(self, action: Callable[[], None]) -> None:
        super().__init__()
        self.action = action

    def on_train_epoch_end(self, run_context: Any) -> None:
        self.action()

    def on_eval_begin(self, run_context: Any) -> None:
        self.action()


class CalibrateBatchNorm(Callback):
    """At the end of the training, estimates BatchNorm's statistics again on some batches of the training set.

    The running statistics lag behind the weights, far behind them after a short training at a high rate. Here they are
    the mean over the batches, as in training; Dropout drops nothing. A BatchNorm that does not use the statistics of
    its batch, as a frozen one, stays as it is.

    batches: at most. sharpened: parameters, temperatures, that are set near 0 for that.
    """

    def __init__(self, net_q: Any, batches: int = BATCHES, sharpened: Sequence[Any] = ()) -> None:
        super().__init__()
        self.net_q, self.batches, self.sharpened = net_q, batches, sharpened

    def on_train_end(self, run_context: Any) -> None:
        for target in self.sharpened:
            assign(target, SHARP)
        norms = [cell for _, cell in self.net_q.cells_and_names() if hasattr(cell, "moving_variance")]
        if not norms:
            return
        inputs = sum(node.kind == "input" for node in state_of(self.net_q).graph.nodes)
        dataset = run_context.original_args().train_dataset.create_tuple_iterator(num_epochs=1)
        batches = [batch[:inputs] for batch in islice(dataset, self.batches)]
        training = self.net_q.training
        self.net_q.set_train(True)
        for _, cell in self.net_q.cells_and_names():
            if isinstance(cell, nn.Dropout):
                cell.set_train(False)
        estimate_statistics(self.net_q, norms, batches)
        self.net_q.set_train(training)


def estimate_statistics(net: Any, norms: Sequence[Any], batches: Sequence[Sequence[Any]]) -> None:
    """Set the running statistics of BatchNorms to those of the batches; net is in training mode.

    A pass moves a running value v to d v + s, with the batch's statistics in s, and d = momentum to the power of the
    BatchNorm's calls. Two passes of the first batch, from 0 and from 1, tell d; every further pass starts at 0.
    """
    kept = [(norm.moving_mean.asnumpy().copy(), norm.moving_variance.asnumpy().copy()) for norm in norms]
    from_one = _passed(net, norms, batches[0], 1.0)
    found = [_passed(net, norms, batch, 0.0) for batch in batches]
    for i, norm in enumerate(norms):
        decay = float(np.mean(from_one[i][0] - found[0][i][0]))
        means, variances = (np.stack([one[i][part] for one in found]) / max(1 - decay, LEAST_MOVED) for part in (0, 1))
        moved = (means.mean(0), variances.mean(0) + means.var(0)) if decay < 1 - LEAST_MOVED else kept[i]
        assign(norm.moving_mean, moved[0].astype(np.float32))
        assign(norm.moving_variance, moved[1].astype(np.float32))


def _passed(net: Any, norms: Sequence[Any], batch: Sequence[Any], start: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """The running means and variances after a pass that they begin at ``start``."""
    for norm in norms:
        assign(norm.moving_mean, np.full(norm.moving_mean.shape, start, np.float32))
        assign(norm.moving_variance, np.full(norm.moving_variance.shape, start, np.float32))
    net(*batch)
    return [(norm.moving_mean.asnumpy().copy(), norm.moving_variance.asnumpy().copy()) for norm in norms]
