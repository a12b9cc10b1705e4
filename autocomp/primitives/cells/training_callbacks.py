"""Callbacks for ``mindspore.Model.train``: actions of quantizers before and during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from mindspore.train import Callback

from .compression_state import state_of
from .fake_quant import assign

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

    sharpened: parameters, temperatures, that are set near 0 for that.
    """

    def __init__(self, net_q: Any, batches: int, sharpened: Sequence[Any] = ()) -> None:
        super().__init__()
        self.net_q, self.batches, self.sharpened = net_q, batches, sharpened

    def on_train_end(self, run_context: Any) -> None:
        inputs = sum(node.kind == "input" for node in state_of(self.net_q).graph.nodes)
        for target in self.sharpened:
            assign(target, SHARP)
        self.net_q.set_train(True)
        dataset = run_context.original_args().train_dataset
        for count, batch in enumerate(dataset.create_tuple_iterator(num_epochs=1), 1):
            self.net_q(*batch[:inputs])
            if count == self.batches:
                break
