"""Fine-tunes a plan's network: cuts its channels, trains it with rounded weights and inputs, then converts it."""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import numpy as np

from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.distillation.class_labels import as_classes
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, Parameters, parameters_of
from autocomp.primitives.tracing.platform import execution_mode, forward, is_dataset, load_mindspore
from autocomp.rules import ABOVE_ZERO, SEED, SHARE, one_of, whole
from autocomp.search_spaces import NetworkGraph, Plan

from .accuracy import PlanEvaluator
from .calibration import with_tensors
from .engines import Arrays, OnnxEngine, batch_of, joined
from .lazy_arrays import as_type
from .students import begun, cache_of, check_sparse, kept_sparse, products_of

log = logging.getLogger("autocomp")

Progress = Callable[[int, int, float], None]  # step from 1, steps, loss
WEIGHT_DECAY = 1e-4
HELD_BYTES = 2e9  # of the float network's outputs for an epoch; where they are larger, it runs in every step
LONGEST = 0.3  # length of a gradient, where outputs are no scores of classes: their errors have no common size
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
) -> Tuned:
    """Train the network that ``plan`` makes of ``net``, whose numbers ``evaluator`` has.

    Args:
        train: (x, y) arrays, y (n,) classes, one-hot rows or None; or a batched ``mindspore.dataset.Dataset`` of both,
            which is iterated again in each epoch, so that it can augment. Where a network's output is not scores of
            classes, or it has several outputs, it is trained towards the float network's outputs alone, and labels are
            not used.
        calibration: arrays (n, ...), for the weights and ranges with which training begins.
        start: trained parameters of the same plan, by name, from which the training goes on; None: from the plan's.

    Raises:
        ValueError: the network has several inputs or outputs; the plan rounds a layer that cannot be trained rounded.
    """
    samples = TrainingSamples(evaluator, train, settings)
    check_sparse(evaluator, plan, settings.algorithm)
    smaller = pruned_only(net, evaluator, plan, calibration if start is None else ())
    algorithm, student = begun(smaller, evaluator, plan, settings.algorithm, calibration, start)
    zeros = kept_sparse(smaller, student, evaluator.space.of_plan(plan).sparse(plan))
    with execution_mode(graph=True):
        callbacks = [*algorithm.callbacks(), *zeros]
        steps = samples.train(student, net, callbacks, progress)
    return replace(_tuned(algorithm, student, evaluator, plan), samples=samples.count, steps=steps)


class TrainingSamples:
    """Samples to train the networks of one search on, with the float network's outputs where they can be held.

    train: see :func:`fine_tune`. count: samples in an epoch.
    """

    def __init__(self, evaluator: PlanEvaluator, train: Any, settings: FineTuning) -> None:
        check_trainable(evaluator)
        augments, self.settings = is_dataset(train), settings
        x, y = _first_batch(train) if augments else train if isinstance(train, tuple) else (train, None)
        x = as_type(np.asarray(x) if augments else x, evaluator.inputs[0].dtype)
        classes, y = trains_classes(evaluator), training_classes(y, evaluator)
        _check_shape(x.shape[1:], evaluator.inputs[0].shape[1:])
        if not augments:
            x, y = _used(x, y, settings)
        self.labelled, self.taught = y is not None, bool(settings.teacher) or y is None
        nodes, outputs = evaluator.space.graph.nodes, evaluator.space.graph.outputs  # before a metric reduces them
        self.held = not augments and 4 * len(x) * sum(nodes[i].elements for i in outputs) <= HELD_BYTES
        if augments:
            self.dataset = _as_trained(train, x.dtype, y is not None)
            self.count = train.get_dataset_size() * len(x)
        else:
            holds = self.taught and self.held
            expected = evaluator.engine.outputs(evaluator.compress(Plan()), (x,)) if holds else ()
            source = Shuffled([x, *expected, *(() if y is None else (y,))], settings.batch, settings.seed)
            self.dataset, self.count = source.dataset(), len(source) * source.batch
        self.compares: Literal["classes", "values"] = "classes" if classes else "values"

    def train(self, student: Any, teacher: Any, callbacks: Sequence[Any], progress: Progress | None) -> int:
        """Train a network towards the float network and the labels; the number of steps that were made."""
        teacher = None if self.held else teacher
        with_loss = _with_loss(student, teacher, self.labelled, self.taught, self.compares, self.settings)
        return _train(*with_loss, student, self.dataset, self.settings, callbacks, progress)


def _used(x: np.ndarray, y: np.ndarray | None, settings: FineTuning) -> tuple[np.ndarray, np.ndarray | None]:
    """The samples of a training that ends within its first epoch, drawn at random: the others need no teacher."""
    count = (settings.steps or len(x)) * settings.batch
    if count >= len(x):
        return x, y
    rows = np.sort(np.random.default_rng(settings.seed).permutation(len(x))[:count])
    return x[rows], None if y is None else y[rows]


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


class Shuffled:
    """Batches of arrays, (n, ...) each, in another order in every epoch."""

    def __init__(self, arrays: Sequence[np.ndarray], batch: int, seed: int) -> None:
        self.arrays, self.batch = arrays, min(batch, len(arrays[0]))
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return len(self.arrays[0]) // self.batch

    def __iter__(self) -> Iterator[tuple[np.ndarray, ...]]:
        order = self.rng.permutation(len(self.arrays[0]))[: len(self) * self.batch].reshape(-1, self.batch)
        for rows in order:
            yield tuple(array[rows] for array in self.arrays)

    def dataset(self) -> Any:
        """The batches as a MindSpore dataset."""
        load_mindspore()
        import mindspore.dataset as ds

        columns = [f"column_{i}" for i in range(len(self.arrays))]
        return ds.GeneratorDataset(self, columns, shuffle=False, python_multiprocessing=False)


def _first_batch(train: Any) -> tuple[np.ndarray, np.ndarray | None]:
    first = next(train.create_tuple_iterator(num_epochs=1, output_numpy=True))
    if len(first) > 2:
        raise ValueError(
            f"a dataset to train on must have one column of inputs and one of labels, but has {len(first)}"
        )
    return first[0], first[1] if len(first) > 1 else None


def _as_trained(train: Any, dtype: np.dtype[Any], labelled: bool) -> Any:
    """The batches with inputs of this type and, if they are used, labels (n,) int32."""
    inputs, *labels = train.get_col_names()
    own = deepcopy(train)  # a pipeline has only one consumer, and other plans train on it, too
    cast = own.project([inputs, *labels[: int(labelled)]]).map(lambda x: x.astype(dtype, copy=False), [inputs])
    return cast.map(lambda y: as_classes(y, "train").astype(np.int32), labels) if labelled else cast


def _train(
    trained: Any,
    criterion: Any,
    student: Any,
    dataset: Any,
    settings: FineTuning,
    callbacks: Sequence[Any],
    progress: Progress | None,
) -> int:
    """The number of steps that were made."""
    ms = load_mindspore()
    from autocomp.primitives.distillation.clipped_step import ClippedStep
    from autocomp.primitives.distillation.distilled import Distillation

    dataset, epochs = _shortened(dataset, settings)
    steps = epochs * dataset.get_dataset_size()
    rates = [settings.rate * 0.5 * (1 + np.cos(np.pi * step / steps)) for step in range(steps)]
    optimizer = ms.nn.Momentum(parameter_groups(student), rates, 0.9, use_nesterov=True)
    if isinstance(trained, Distillation) and trained.values:
        model = ms.Model(ClippedStep(trained, optimizer, LONGEST).set_train())
    else:
        model = ms.Model(trained, criterion, optimizer)
    model.train(epochs, dataset, callbacks=[*callbacks, _reporting(progress, steps)], dataset_sink_mode=False)
    return steps


def _shortened(dataset: Any, settings: FineTuning) -> tuple[Any, int]:
    """The dataset and the number of epochs over it that make the settings' number of steps."""
    size = dataset.get_dataset_size()
    if settings.steps is None:
        return dataset, settings.epochs
    if settings.steps < size:
        return dataset.take(settings.steps), 1
    return dataset, round(settings.steps / size)


def parameter_groups(net: Any) -> list[Mapping[str, Any]]:
    """Parameters for the optimizer: scales and logits of quantizers have no weight decay, the others have."""
    scales = [p for p in net.trainable_params() if p.name.endswith(("quantizer.scale", "quantizer.logits"))]
    mine = {id(p) for p in scales}
    others = [p for p in net.trainable_params() if id(p) not in mine]
    groups: list[Mapping[str, Any]] = [{"params": others, "weight_decay": WEIGHT_DECAY}]
    return groups + ([{"params": scales, "weight_decay": 0.0}] if scales else [])


def _reporting(progress: Progress | None, steps: int) -> Any:
    from mindspore.train import LambdaCallback

    def report(run_context: Any) -> None:
        arguments = run_context.original_args()
        if progress is not None:
            progress(arguments.cur_step_num, steps, float(arguments.net_outputs.asnumpy().mean()))

    return LambdaCallback(on_train_step_end=report)
