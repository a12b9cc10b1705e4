"""Fine-tuning a compressed network towards the outputs of the float one."""

from __future__ import annotations

from typing import Any

from mindspore import nn, ops

from .cells import ms  # noqa: F401  loads MindSpore the fast way
from .mindir import copy_network


class Distilled(nn.Cell):
    """A network with its loss, for ``mindspore.Model(Distilled(net_q, net, loss), optimizer=...)``:

        share * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - share) * loss(student, labels)

    (Hinton et al. 2015, arXiv:1503.02531, section 2.)

    Args:
        student: the network that trains; its first output, (n, classes), is compared.
        teacher: the float network; it is copied, and the copy evaluates: BatchNorm normalises by running statistics,
            Dropout drops nothing.
        loss: of (outputs, labels); None: only the teacher counts, and no labels are taken.
        temperature: T, above 0. share: of the teacher, in (0, 1].
    """

    def __init__(
        self, student: Any, teacher: Any, loss: Any = None, temperature: float = 4.0, share: float = 0.7
    ) -> None:
        super().__init__(auto_prefix=False)
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, but got temperature={temperature}")
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], but got share={share}")
        self.student, self.teacher = student, always_evaluating(copy_network(teacher))
        for parameter in self.teacher.get_parameters():
            parameter.name = f"teacher.{parameter.name}"
            parameter.requires_grad = False
        self.loss, self.temperature, self.share = loss, temperature, 1.0 if loss is None else share
        self.log_softmax = nn.LogSoftmax(axis=1)

    def construct(self, x: Any, labels: Any = None) -> Any:
        outputs = self.student(x)
        expected = self.log_softmax(ops.stop_gradient(self.teacher(x)) / self.temperature)
        found = self.log_softmax(outputs / self.temperature)
        divergence = (ops.exp(expected) * (expected - found)).sum(1).mean() * self.temperature**2
        if self.loss is None:
            return divergence
        return self.share * divergence + (1 - self.share) * self.loss(outputs, labels)


def always_evaluating(net: Any) -> Any:
    """The network with BatchNorm and Dropout as in evaluation, whatever mode a training step sets for all its cells."""
    for _, cell in net.cells_and_names():
        if isinstance(cell, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            cell.use_batch_statistics = False
        elif hasattr(cell, "keep_prob") or type(cell).__name__.startswith("Dropout"):
            cell.p, cell.keep_prob = 0.0, 1.0
    return net
