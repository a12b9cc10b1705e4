"""Fine-tunes a compressed network towards the outputs of the float network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from mindspore import nn, ops

from autocomp.primitives.arguments import RULES
from autocomp.primitives.cells.layers import ms
from autocomp.primitives.tracing.mindir import copy_network
from autocomp.rules import checked

from .block_outputs import compare_blocks

COMPARED = ("classes", "values")
LEAST = 1e-12  # added to a signal, which is 0 where outputs are the same for all samples


class Distillation(nn.Cell):
    """The part that :class:`Distilled` and :class:`Taught` share: the loss of a student's outputs."""

    def __init__(self, student: Any, loss: Any, temperature: float, share: float, compares: str) -> None:
        super().__init__(auto_prefix=False)
        if temperature <= 0:
            raise ValueError(f"temperature must be above 0, but got temperature={temperature}")
        if not 0 < share <= 1:
            raise ValueError(f"share must be in (0, 1], but got share={share}")
        if compares not in COMPARED:
            raise ValueError(f"compares must be one of {', '.join(COMPARED)}, but got compares={compares!r}")
        self.student, self.loss, self.values = student, loss, compares == "values"
        self.temperature, self.share = temperature, 1.0 if loss is None else share
        self.log_softmax = nn.LogSoftmax(axis=1)

    def compared(self, outputs: Any, expected: Any, labels: Any) -> Any:
        """outputs, expected: (n, classes), of the student and of the teacher, or tuples that begin with them; labels:
        (n,) classes, or None."""
        if self.values:
            distance = relative_noise(outputs, expected)
            return distance if self.loss is None else self._shared(distance, first(outputs), labels)
        outputs, expected = first(outputs), first(expected)
        wanted = self.log_softmax(ops.stop_gradient(expected) / self.temperature)
        found = self.log_softmax(outputs / self.temperature)
        divergence = (ops.exp(wanted) * (wanted - found)).sum(1).mean() * self.temperature**2
        return divergence if self.loss is None else self._shared(divergence, outputs, labels)

    def _shared(self, distance: Any, outputs: Any, labels: Any) -> Any:
        return self.share * distance + (1 - self.share) * self.loss(outputs, labels)


class Taught(Distillation):
    """A network with the loss of :class:`Distilled`, for batches that contain the teacher's outputs.

    It is called with ``construct(x, expected)``, with a loss with ``construct(x, expected, labels)``; where it compares
    values, ``expected`` are all outputs one after the other. Where the samples of an epoch are always the same, the
    float network need not run in every step.

    Args:
        student, loss, temperature, share, compares: see :class:`Distilled`.
    """

    def __init__(
        self,
        student: Any,
        loss: Any = None,
        temperature: float = 4.0,
        share: float = 0.7,
        compares: Literal["classes", "values"] = "classes",
    ) -> None:
        super().__init__(student, loss, temperature, share, compares)

    def construct(self, x: Any, *expected: Any) -> Any:
        if self.loss is None:
            return self.compared(self.student(x), expected, None)
        return self.compared(self.student(x), expected[:-1], expected[-1])


class Distilled(Distillation):
    """A network with its loss, for ``mindspore.Model(Distilled(net_q, net, loss), optimizer=...)``:

        share * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - share) * loss(student, labels)

    (Hinton et al. 2015, arXiv:1503.02531, section 2), and, with blocks, as Romero et al. (FitNets, ICLR 2015, eq. 3):

        + block_weight * mean over blocks of |student's output - teacher's|^2 / |teacher's output|^2

    Args:
        student: the network that trains; its first output, (n, classes), is compared.
        teacher: the float network; it is copied, and the copy runs in evaluation mode: BatchNorm normalises by running
            statistics, Dropout drops nothing.
        loss: of (first output, labels); None uses the teacher alone, and no labels.
        temperature: T, above 0. share: of the teacher, in (0, 1].
        compares: "classes" uses the first output as scores of classes, as above; "values" uses all outputs, of any
            shape, with the mean of |student - teacher|^2 / |teacher - its mean over the batch|^2 instead of the
            divergence.
        blocks: paths of cells whose outputs are compared, too, ``["layer1", "layer2"]``; each must run once and return
            one tensor, of the same shape in both networks. Their gradients assume that the loss has gradient 1: do not
            scale the loss.
        example: with blocks, one batch of the network's input from the training set; all batches must have its shape.
        block_weight: of the blocks' distances, above 0.
    """

    @checked(RULES["Distilled"])
    def __init__(
        self,
        student: Any,
        teacher: Any,
        loss: Any = None,
        temperature: float = 4.0,
        share: float = 0.7,
        blocks: Sequence[str] = (),
        example: np.ndarray | tuple[np.ndarray, ...] | None = None,
        block_weight: float = 1.0,
        compares: Literal["classes", "values"] = "classes",
    ) -> None:
        super().__init__(student, loss, temperature, share, compares)
        if blocks and (example is None or block_weight <= 0):
            raise ValueError(
                "blocks need example, one batch of the network's input, and a block_weight above 0, "
                f"but got example={'None' if example is None else 'given'}, block_weight={block_weight}"
            )
        self.teacher = always_evaluating(copy_network(teacher))
        for parameter in self.teacher.get_parameters():
            parameter.name = f"teacher.{parameter.name}"
            parameter.requires_grad = False
        self.distances: Any = ()
        if blocks and example is not None:
            self.student = copy_network(student, shares=True)  # the caller's network is not changed
            found = compare_blocks(self.student, self.teacher, blocks, example, block_weight)
            self.distances = ms.ParameterTuple(found)
        self.block_weight = block_weight / max(len(self.distances), 1)

    def construct(self, x: Any, labels: Any = None) -> Any:
        expected = self.teacher(x)  # writes blocks' outputs, which the student's read
        total = self.compared(self.student(x), expected, labels)
        for distance in self.distances:
            total = total + self.block_weight * distance  # only the value: its gradient is added in the block
        return total


def relative_noise(outputs: Any, expected: Any) -> Any:
    """The mean over all outputs of the squared error divided by the variance over the samples; for one sample divided
    by its square."""
    outputs, expected = flat(outputs), flat(expected)
    total = 0.0
    for i in range(len(outputs)):  # compiled: MindSpore's graphs have no strict zip
        wanted = ops.stop_gradient(expected[i])
        differing = wanted - wanted.mean(0) if wanted.shape[0] > 1 else wanted
        signal = (differing**2).mean()
        total = total + ((outputs[i] - wanted) ** 2).mean() / (signal + LEAST)
    return total / len(outputs)


def flat(outputs: Any) -> Any:
    """All output tensors of a network as one tuple, with nested tuples flattened."""
    if not isinstance(outputs, (tuple, list)):
        return (outputs,)
    found = ()
    for part in outputs:
        found = found + flat(part)
    return found


def first(outputs: Any) -> Any:
    """The first output of a network with one or several outputs."""
    return outputs[0] if isinstance(outputs, (tuple, list)) else outputs


def always_evaluating(net: Any) -> Any:
    """The network with BatchNorm and Dropout in evaluation mode, whatever mode a training step sets for its cells."""
    for _, cell in net.cells_and_names():
        if isinstance(cell, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            cell.use_batch_statistics = False
        elif hasattr(cell, "keep_prob") or type(cell).__name__.startswith("Dropout"):
            cell.p, cell.keep_prob = 0.0, 1.0
        elif isinstance(cell, nn.MultiheadAttention):
            cell.dropout = 0.0
    return net
