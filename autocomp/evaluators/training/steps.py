"""The compiled step of a network that trains, and networks whose trainings may go on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from autocomp.primitives.numerics.plan_compressor import Parameters
from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.search_spaces import Plan

from .batches import shortened

if TYPE_CHECKING:
    from autocomp.evaluators.fine_tuning import FineTuning, Progress, TrainingSamples

WEIGHT_DECAY = 1e-4
HELD_BYTES = 2e9  # of the networks of trainings that may go on
LONGEST = 0.3  # length of a gradient, where outputs are no scores of classes: their errors have no common size


class Step:
    """The step of a network that trains, compiled once for all trainings with samples of this kind.

    teacher: gives the expected outputs, where the samples do not hold them.
    """

    def __init__(self, student: Any, samples: TrainingSamples, teacher: Any) -> None:
        ms = load_mindspore()
        from autocomp.primitives.distillation.clipped_step import ClippedStep
        from autocomp.primitives.distillation.distilled import Distillation

        teacher = None if samples.held else teacher
        given = samples.labelled, samples.taught, samples.compares, samples.settings
        trained, criterion = _with_loss(student, teacher, *given)
        # The rate is a parameter, which each step sets: one that changes in the graph counts the steps of one training.
        self.optimizer = ms.nn.Momentum(parameter_groups(student), samples.settings.rate, 0.9, use_nesterov=True)
        if isinstance(trained, Distillation) and trained.values:
            self.model = ms.Model(ClippedStep(trained, self.optimizer, LONGEST).set_train())
        else:
            self.model = ms.Model(trained, criterion, self.optimizer)

    def train(self, samples: TrainingSamples, callbacks: Sequence[Any], progress: Progress | None) -> int:
        """The number of steps that were made. They begin without momentum."""
        settings = samples.settings
        dataset, epochs = shortened(samples.dataset, settings)
        steps = epochs * dataset.get_dataset_size()
        for moment in self.optimizer.moments:
            moment.set_data(moment * 0)
        told = _reporting(self.optimizer, settings.rate, progress, steps)
        self.model.train(epochs, dataset, callbacks=[*callbacks, told], dataset_sink_mode=False)
        return steps


class LiveTraining(NamedTuple):
    """A network that trains. zeros: callbacks that keep them."""

    algorithm: Any
    student: Any
    zeros: tuple[Any, ...]
    step: Step


class LiveTrainings:
    """The networks of trainings that may go on, each by its plan, with their compiled steps.

    most: bytes of all parameters and their momenta; further networks are not held.
    """

    def __init__(self, most: float = HELD_BYTES) -> None:
        self._most, self._bytes = most, 0
        self._held: dict[Plan, tuple[str, LiveTraining, Parameters, int]] = {}

    def taken(self, plan: Plan, algorithm: str, start: Parameters | None) -> LiveTraining | None:
        """The network that stands at ``start``, no longer held; None where there is none."""
        name, training, reached, size = self._held.pop(plan, ("", None, None, 0))
        self._bytes -= size
        return training if name == algorithm and _same(reached, start) else None

    def keep(self, plan: Plan, algorithm: str, training: LiveTraining, reached: Parameters) -> None:
        """Hold a network that stands at ``reached``, and is changed by no one else."""
        size = 2 * sum(array.nbytes for array in reached.values())
        if self._bytes + size <= self._most:
            self._held[plan] = algorithm, training, reached, size
            self._bytes += size

    def clear(self) -> None:
        self._held.clear()
        self._bytes = 0


def parameter_groups(net: Any) -> list[Mapping[str, Any]]:
    """Parameters for the optimizer: scales and logits of quantizers have no weight decay, the others have."""
    scales = [p for p in net.trainable_params() if p.name.endswith(("quantizer.scale", "quantizer.logits"))]
    mine = {id(p) for p in scales}
    others = [p for p in net.trainable_params() if id(p) not in mine]
    groups: list[Mapping[str, Any]] = [{"params": others, "weight_decay": WEIGHT_DECAY}]
    return groups + ([{"params": scales, "weight_decay": 0.0}] if scales else [])


def _reporting(optimizer: Any, rate: float, progress: Progress | None, steps: int) -> Any:
    """The callback that lowers the rate along a cosine, and says what was done."""
    ms = load_mindspore()
    from mindspore.train import LambdaCallback

    def lower(run_context: Any) -> None:
        done = run_context.original_args().cur_step_num - 1
        share = 0.5 * (1 + np.cos(np.pi * done / steps))
        optimizer.learning_rate.set_data(ms.Tensor(rate * share, ms.float32))

    def report(run_context: Any) -> None:
        arguments = run_context.original_args()
        if progress is not None:
            progress(arguments.cur_step_num, steps, float(arguments.net_outputs.asnumpy().mean()))

    return LambdaCallback(on_train_step_begin=lower, on_train_step_end=report)


def _same(reached: Parameters | None, start: Parameters | None) -> bool:
    if reached is None or start is None or reached.keys() != start.keys():
        return False
    return all(np.array_equal(value, start[name]) for name, value in reached.items())


def _with_loss(
    student: Any,
    teacher: Any,
    labelled: bool,
    taught: bool,
    compares: Literal["classes", "values"],
    settings: FineTuning,
) -> tuple[Any, Any]:
    """The cell that trains, and its loss function. teacher: None where the batches contain its outputs."""
    from autocomp.primitives.distillation.distilled import Distilled, Taught

    ms = load_mindspore()
    loss = ms.nn.SoftmaxCrossEntropyWithLogits(sparse=True, reduction="mean") if labelled else None
    if not taught:
        return student, loss
    share = settings.teacher or 1.0
    if teacher is None:
        return Taught(student, loss, share=share, compares=compares), None
    return Distilled(student, teacher, loss, share=share, compares=compares), None
