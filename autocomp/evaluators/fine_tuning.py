"""Fine-tunes a plan's network: cuts its channels, trains it with rounded weights and inputs, then converts it."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.distillation.class_labels import as_classes
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, Parameters, parameters_of
from autocomp.primitives.tracing.platform import execution_mode, forward, is_dataset
from autocomp.rules import ABOVE_ZERO, SEED, SHARE, one_of, whole
from autocomp.search_spaces import NetworkGraph, Plan

from .accuracy import PlanEvaluator
from .calibration import with_tensors
from .engines import Arrays, OnnxEngine, batch_of, joined
from .lazy_arrays import as_type
from .training.batches import Shuffled, as_trained, first_batch, used_samples
from .training.steps import LiveTraining, LiveTrainings, Step
from .training.students import begun, cache_of, check_sparse, kept_sparse, products_of

log = logging.getLogger("autocomp")

Progress = Callable[[int, int, float], None]  # step from 1, steps, loss
HELD_BYTES = 2e9  # of the float network's outputs for an epoch; where they are larger, it runs in every step
WITHOUT = "; without labels the float network is the only teacher"
ALGORITHMS = ("lsq", "simqat", "pact")  # not SLB, whose values are laid out for the bits of one plan
RULES = {
    "epochs": whole(1),
    "batch": whole(1),
    "rate": ABOVE_ZERO,
    "algorithm": one_of(*ALGORITHMS),
    "teacher": SHARE,
    "seed": SEED,
    "steps": whole(1),
}


@dataclass(frozen=True)
class FineTuning:
    """How the network of a plan is trained.

    epochs: passes over the training samples.
    batch: samples in a step, where they are arrays; the samples at the end of an epoch that do not fill a batch are
        left out.
    rate: learning rate at the start, with Nesterov momentum 0.9; it falls to 0 along a cosine.
    algorithm: the quantizer that trains the layers whose values in the plan name none: "lsq", "simqat" or "pact".
    teacher: share of the float network's outputs in the loss (:class:`autocomp.primitives.Distilled`), 0 to 1; without
        labels they are the whole loss.
    seed: of the order of samples; a Dropout uses MindSpore's own seed.
    steps: how many steps are made in all, in place of ``epochs``; fewer than an epoch has, or the nearest number of
        whole epochs.
    """

    epochs: int = 2
    batch: int = 128
    rate: float = 0.01
    algorithm: str = "lsq"
    teacher: float = 0.7
    seed: int = 0
    steps: int | None = None

    def __post_init__(self) -> None:
        given = {name: rule for name, rule in RULES.items() if name != "steps" or self.steps is not None}
        for name, rule in given.items():
            rule.check(name, getattr(self, name))
        for name in {"epochs", "batch", "seed", "steps"} & set(given):
            object.__setattr__(self, name, integer(getattr(self, name), name))


def integer(value: Any, name: str) -> int:
    """A NumPy integer as a Python int, which JSON and hashes accept. TypeError for anything else."""
    try:
        return int(operator.index(value))
    except TypeError:
        raise TypeError(f"{name} must be an integer, but got {type(value).__name__}") from None


@dataclass(frozen=True)
class Tuned:
    """A trained network: as a Cell, converted, and in numbers.

    parameters: by name, of the network as it was trained; :func:`rebuilt` needs nothing else.
    samples: samples in an epoch; 0 where the network was rebuilt. steps: of the training.
    """

    net: Any
    graph: NetworkGraph
    parameters: Parameters
    compressed: CompressedWeights
    samples: int = 0
    steps: int = 0


def fine_tune(
    net: Any,
    evaluator: PlanEvaluator,
    plan: Plan,
    train: Any,
    settings: FineTuning,
    calibration: Arrays,
    progress: Progress | None = None,
    start: Parameters | None = None,
    live: LiveTrainings | None = None,
) -> Tuned:
    """Train the network that ``plan`` makes of ``net``, whose numbers ``evaluator`` has.

    Args:
        train: (x, y) arrays, y (n,) classes, one-hot rows or None; or a batched ``mindspore.dataset.Dataset`` of both,
            which is iterated again in each epoch, so that it can augment. Where a network's output is not scores of
            classes, or it has several outputs, it is trained towards the float network's outputs alone, and labels are
            not used.
        calibration: arrays (n, ...), for the weights and ranges with which training begins.
        start: trained parameters of the same plan, by name, from which the training goes on; None: from the plan's.
        live: holds the network afterwards, so that a training that goes on from it compiles nothing.

    Raises:
        ValueError: the network has several inputs or outputs; the plan rounds a layer that cannot be trained rounded.
    """
    samples = TrainingSamples(evaluator, train, settings)
    check_sparse(evaluator, plan, settings.algorithm)
    training = None if live is None else live.taken(plan, settings.algorithm, start)
    if training is None:
        smaller = pruned_only(net, evaluator, plan, calibration if start is None else ())
        algorithm, student = begun(smaller, evaluator, plan, settings.algorithm, calibration, start)
        zeros = kept_sparse(smaller, student, evaluator.space.of_plan(plan).sparse(plan))
        training = LiveTraining(algorithm, student, tuple(zeros), Step(student, samples, net))
    with execution_mode(graph=True):
        callbacks = [*training.algorithm.callbacks(), *training.zeros]
        steps = training.step.train(samples, callbacks, progress)
    found = replace(_tuned(training.algorithm, training.student, evaluator, plan), samples=samples.count, steps=steps)
    if live is not None:
        live.keep(plan, settings.algorithm, training, found.parameters)
    return found


class TrainingSamples:
    """Samples to train the networks of one search on, with the float network's outputs where they can be held.

    train: see :func:`fine_tune`. count: samples in an epoch.
    """

    def __init__(self, evaluator: PlanEvaluator, train: Any, settings: FineTuning) -> None:
        check_trainable(evaluator)
        augments, self.settings = is_dataset(train), settings
        x, y = first_batch(train) if augments else train if isinstance(train, tuple) else (train, None)
        x = as_type(np.asarray(x) if augments else x, evaluator.inputs[0].dtype)
        classes, y = trains_classes(evaluator), training_classes(y, evaluator)
        _check_shape(x.shape[1:], evaluator.inputs[0].shape[1:])
        if not augments:
            x, y = used_samples(x, y, settings)
        self.labelled, self.taught = y is not None, bool(settings.teacher) or y is None
        nodes, outputs = evaluator.space.graph.nodes, evaluator.space.graph.outputs  # before a metric reduces them
        self.held = not augments and 4 * len(x) * sum(nodes[i].elements for i in outputs) <= HELD_BYTES
        if augments:
            self.dataset = as_trained(train, x.dtype, y is not None)
            self.count = train.get_dataset_size() * len(x)
        else:
            holds = self.taught and self.held
            expected = evaluator.engine.outputs(evaluator.compress(Plan()), (x,)) if holds else ()
            source = Shuffled([x, *expected, *(() if y is None else (y,))], settings.batch, settings.seed)
            self.dataset, self.count = source.dataset(), len(source) * source.batch
        self.compares: Literal["classes", "values"] = "classes" if classes else "values"

    def train(self, student: Any, teacher: Any, callbacks: Sequence[Any], progress: Progress | None) -> int:
        """Train a network towards the float network and the labels; the number of steps that were made."""
        return Step(student, self, teacher).train(self, callbacks, progress)


def rebuilt(net: Any, evaluator: PlanEvaluator, plan: Plan, algorithm: str, parameters: Parameters) -> Tuned:
    """The network that :func:`fine_tune` trained, rebuilt from its trained parameters; nothing is trained."""
    started = begun(pruned_only(net, evaluator, plan), evaluator, plan, algorithm, (), parameters)
    return _tuned(*started, evaluator, plan)


def _tuned(algorithm: Any, student: Any, evaluator: PlanEvaluator, plan: Plan) -> Tuned:
    from autocomp.primitives.cells.compression_state import state_of

    graph, parameters = state_of(student).graph, parameters_of(student)
    compressed = algorithm.quantized(student)
    if evaluator.compressor.tensors:
        engine, images = OnnxEngine(graph, parameters), evaluator.statistics_inputs
        products = products_of(evaluator.space, plan, graph)
        compressed = with_tensors(engine, graph, compressed, images, evaluator.symmetric, products)
    sums, cache = evaluator.compressor.int16_sums, cache_of(evaluator.space, plan, graph)
    compressed = replace(compressed, cache=cache, int16_sums=sums)
    return Tuned(algorithm.convert(student), graph, parameters, compressed)


def outputs_of(tuned: Tuned, evaluator: PlanEvaluator) -> Arrays:
    """The trained network's outputs for the evaluator's inputs, as its metric takes them: by onnxruntime where the
    search used it, else by MindSpore."""
    outputs = evaluator.engine.described_outputs
    if isinstance(evaluator.engine, OnnxEngine):
        engine = OnnxEngine(tuned.graph, tuned.parameters, evaluator.engine.threads, outputs)
        return evaluator.reduced(partial(engine.outputs, tuned.compressed), evaluator.inputs)
    size = batch_of(tuned.graph)

    def run(inputs: Arrays) -> Arrays:
        batches = (tuple(x[i : i + size] for x in inputs) for i in range(0, len(inputs[0]), size))
        return joined(outputs, [forward(tuned.net, batch) for batch in batches])

    return evaluator.reduced(run, evaluator.inputs)


def pruned_only(net: Any, evaluator: PlanEvaluator, plan: Plan, images: Arrays = ()) -> Any:
    """The network without the plan's pruned channels, the layers that read them reconstructed, and with its chains in
    the place of layers; not rounded, not folded.

    images: inputs to fit the layers on, one after the other, to their outputs in the whole network.
    """
    cuts = Plan({name: value for name, value in plan.items() if not name.startswith("format/")})
    compressed = evaluator.compress(cuts)
    if images and not (compressed.kept.all() and compressed.graph is None):
        compressed = _refitted(net, evaluator, compressed.with_statistics({}), images)
    return convert(net, evaluator.space.graph, evaluator.parameters, compressed, folds=False)


def _refitted(net: Any, evaluator: PlanEvaluator, compressed: CompressedWeights, images: Arrays) -> CompressedWeights:
    from autocomp.primitives.verification.refit import refitted, to_fit_on
    from autocomp.primitives.verification.refit_plan import refitted_plan

    graph, batches = evaluator.space.graph, to_fit_on([images])
    if compressed.graph is None:
        return refitted(net, graph, compressed, batches)
    plain, inputs_of = evaluator.compress(Plan()), evaluator.engine.layer_inputs
    nodes_of = evaluator.engine.node_outputs
    return refitted_plan(graph, evaluator.parameters, plain, compressed, inputs_of, batches, nodes_of)


def _check_single(graph: NetworkGraph) -> None:
    inputs = sum(node.kind == "input" for node in graph.nodes)
    if inputs != 1:
        raise ValueError(
            f"fine-tuning takes networks with one input, but this one has {inputs}; apply a quantizer of "
            "autocomp.primitives to point.net"
        )


def check_trainable(evaluator: PlanEvaluator) -> None:
    """ValueError unless the network has one input, and outputs that count the samples on their first axis: training
    takes the outputs of each sample from there."""
    _check_single(evaluator.space.graph)
    for output in evaluator.engine.described_outputs:
        if output.axis != 0 or output.each != 1:
            raise ValueError(
                f"fine-tuning takes networks whose outputs count the samples on their first axis, but {output.name} "
                "does not; apply a quantizer of autocomp.primitives to point.net"
            )


def trains_classes(evaluator: PlanEvaluator) -> bool:
    """Whether the network trains with scores of classes as its one output.

    It does where it is evaluated by classes; for a search without data, where its output has that shape.
    """
    scores, *others = evaluator.plain_outputs
    looks_like = evaluator.synthetic and scores.ndim == 2 and scores.shape[1] > 1
    return not others and (evaluator.classifies or looks_like)


def training_classes(y: Any, evaluator: PlanEvaluator) -> np.ndarray | None:
    """(n,) int32, from classes or one-hot rows; None where the network is not trained towards classes.

    TypeError, ValueError: the network has no output for these labels.
    """
    if y is None or not trains_classes(evaluator):
        return None
    classes, outputs = as_classes(y, "train", WITHOUT), evaluator.plain_outputs[0].shape[1]
    if len(classes) and classes.max() >= outputs:
        raise ValueError(
            f"labels to train on must be classes 0 to {outputs - 1}, but got {classes.min()} to {classes.max()}"
        )
    return classes.astype(np.int32)


def _check_shape(given: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if given != expected:
        raise ValueError(f"samples to train on must have the shape {expected} of the search's, but got {given}")
