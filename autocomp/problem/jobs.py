"""Prepares a search before the first evaluation: traces the network, calibrates ranges, makes the search space."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from autocomp.evaluators import PlanEvaluator, choose_engine
from autocomp.evaluators.accuracy import calibrated_on, synthetic_inputs
from autocomp.evaluators.calibration import (
    calibration_within,
    chain_samples,
    layer_hessians,
    layer_moments,
    rounded_layers,
)
from autocomp.evaluators.distilled_inputs import distils, inputs_without_data
from autocomp.evaluators.engines import OnnxEngine, check_sent_to_workers, with_structures
from autocomp.evaluators.skippable import skippable_blocks
from autocomp.evaluators.user_metric import UserMetric
from autocomp.hardware_models import Cost, Device
from autocomp.hardware_models.generation import costs_of
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.plan_compressor import Parameters, PlanCompressor, parameters_of
from autocomp.primitives.registry import DEPTH, DEVICE_DEPENDENT, OPERATORS, chosen, expanded, search_space
from autocomp.primitives.restrictions import Restrict
from autocomp.primitives.tracing.exclusion import Patterns, cells_named, excluded_layers, leave_whole
from autocomp.primitives.tracing.mindir import copy_network, first_line
from autocomp.primitives.tracing.network_outputs import describe_outputs
from autocomp.primitives.tracing.platform import forward, forward_in_any_mode, is_dataset
from autocomp.primitives.tracing.tracer import example_inputs, find_inputs, one_image, trace
from autocomp.primitives.verification.trial_cut import LATE, verify_channel_groups
from autocomp.process.deadline import Deadline
from autocomp.process.steps import Steps
from autocomp.search_spaces import Format, NetworkGraph, Plan, SearchSpace

from .cheapest_plans import Costs
from .data import Data, Samples, as_floats, as_integers, as_truths, is_integer_input
from .gains import Gains, device_gains, device_knobs, not_offered
from .rating import channel_importance
from .scalings import scalings_of, with_paying, without_scales
from .streams import is_batched
from .tokens import check_tokens, what_is_wrong
from .unrounded import stays_float

log = logging.getLogger("autocomp")

Arrays = tuple[np.ndarray, ...]
VARIANCE = "moving_variance"  # how the names of BatchNorms' variances end
CHECKED = 4  # images for which the engine must reproduce MindSpore's outputs
OPTIONAL_SHARE = 0.5  # of the time limit, for the steps of preparation that a search can do without
FIXED_SHARE = 0.5  # share of the latency above which a note says that compression does not lower fixed costs


class RepeatedCosts:
    """Costs of plans; it remembers the last call, since costs and bounds of the same plans are asked one after the
    other."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._vectors = np.empty((0, 0))
        self._found: Cost | None = None

    def __call__(self, vectors: np.ndarray) -> Cost:
        if self._found is None or not np.array_equal(vectors, self._vectors):
            self._vectors, self._found = vectors.copy(), self._costs(vectors)
        return self._found


@dataclass
class Job:
    """A network that is ready to be searched.

    choices: what its search space was made from. calibration: the calibration samples. remarks: the warnings.
    context, cache_bits: see :func:`autocomp.search`.
    """

    device: Device
    choices: Choices
    evaluator: PlanEvaluator
    calibration: Arrays
    inputs: Arrays
    batch: int
    remarks: tuple[str, ...] = ()
    context: int | None = None
    cache_bits: int | None = None

    @property
    def space(self) -> SearchSpace:
        return self.evaluator.space

    @cached_property
    def costs(self) -> RepeatedCosts:
        """Gives the costs of vectors, (n, knobs) int."""
        return RepeatedCosts(costs_of(self.device, self.space, self.batch, self.context, self.cache_bits))

    @cached_property
    def float_cost(self) -> Cost:
        return self.costs(self._float)[0]

    @property
    def _float(self) -> np.ndarray:
        return np.zeros((1, len(self.space.knobs)), np.int64)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes for the reader of the front about the network and the device."""
        outputs = len(self.evaluator.plain_judged)
        left = " and ".join(self.evaluator.unjudged)
        unjudged = f"{left} has no axis that counts the samples: plans are judged by the other outputs"
        first = f"plans are evaluated by the first of the network's {outputs} outputs alone, which gives classes"
        alone = outputs > 1 and self.evaluator.classifies and self.evaluator.measure is None
        taken = self.evaluator.taken_as
        told = ((first,) if alone else ()) + ((unjudged,) if left else ()) + ((taken,) if taken else ())
        return self.remarks + self._fixed + told

    @property
    def _fixed(self) -> tuple[str, ...]:
        """A note where the float network's latency is mostly fixed costs of the chip, which compression does not
        lower."""
        rows = self.device.cost_table(self.space.workload(self._float, self.batch))
        rates = self.device.rates
        launch_ms = 1e3 * rates.operator_s["float"]
        fixed_ms = 1e3 * rates.inference_s + sum(min(launch_ms, row.latency_ms) for row in rows)
        share = fixed_ms / self.float_cost.latency_ms
        if share < FIXED_SHARE:
            return ()
        return (
            f"{share:.0%} of the float network's latency at batch {self.batch} are fixed costs of an inference and "
            f"its operators on {self.device.name}, which no compression lowers; a larger batch amortises them",
        )


def prepare(
    net: Any,
    chip: Device,
    data: Data,
    inputs: Any,
    names: str | tuple[str, ...],
    seed: int,
    progress: bool | None = False,
    exclude: Patterns = (),
    deadline: Deadline | None = None,
    sent_to_workers: bool = False,
    restrict: Sequence[Restrict] = (),
    exact_bits: bool = False,
    context: int | None = None,
    cache_bits: int | None = None,
) -> Job:
    """progress: whether a line says what is done; None shows it where standard error is a terminal.

    deadline: of the search. What the search can do without takes at most half of the time that is left.
    sent_to_workers: EvaluationError for a network that workers cannot run. exact_bits: whether the search counts the
    bits of weights as they are, instead of those that files store. context, cache_bits: see :func:`autocomp.search`.
    """
    formats = chip.formats if exact_bits else chip.distinct_formats()
    with Steps(progress) as steps:
        return _prepared(
            *(net, chip, data, inputs, names, seed, exclude, steps, deadline or Deadline()),
            *(sent_to_workers, restrict, formats, context, cache_bits),
        )


def _prepared(
    net: Any,
    chip: Device,
    data: Data,
    inputs: Any,
    names: str | tuple[str, ...],
    seed: int,
    exclude: Patterns,
    steps: Steps,
    deadline: Deadline,
    sent_to_workers: bool,
    restrict: Sequence[Restrict],
    formats: Sequence[Format],
    context: int | None,
    cache_bits: int | None,
) -> Job:
    steps.begin("tracing the network")
    arrays = deployment_inputs(net, data, inputs)
    parameters = parameters_of(net)
    _check_finite(parameters)
    graph = trace(net, arrays)
    if sent_to_workers:
        plain = PlanCompressor(SearchSpace(graph, ()), parameters)(Plan())
        check_sent_to_workers(graph, parameters, plain, one_image(arrays))
    excluded = excluded_layers(net, graph, exclude)
    steps.begin("trying out which channels can be cut")
    optional = deadline.part(OPTIONAL_SHARE)
    graph = verify_channel_groups(net, leave_whole(graph, excluded), parameters, one_image(arrays), optional)
    evaluation, calibration = data.evaluation, data.calibration
    if evaluation is None and any(array.dtype.kind in "iu" for array in arrays):
        raise ValueError("a network that takes integers needs data to be evaluated on: give data=, arrays of integers")
    if evaluation is None:
        steps.begin("making inputs, since there are no data")
        x = inputs_without_data(net, graph, parameters, seed, steps.report, optional)
    else:
        x = as_taken(net, evaluation)
    calibrate = calibrated_on(graph, x if calibration is None else as_taken(net, calibration))
    _check_tokens(graph, data, arrays)
    choices = Choices(
        formats,
        chip.channel_divisor,
        names,
        chip.symmetric_inputs,
        chip.strict_divisor,
        excluded,
        chip.runtime.quantizes_tensors,
        data.train is not None,
        float_layers=frozenset(
            layer for layer, i in graph.layers.items() if not chip.runtime.multiplies_integers(graph.nodes[i])
        ),
        low_formats=chip.low_formats(),
        table_bits=chip.table_bits,
        tied_tables=chip.container.tied_tables,
        ranges_of_rows=chip.runtime.ranges_of_rows,
        group_formats=chip.group_formats(),
        context=context,
        cache_bits=cache_bits,
        int16_sums=chip.int16_sums,
    )
    choices = replace(
        choices,
        importance=channel_importance(net, graph, choices, data),
        gains=_gains(chip, graph, len(arrays[0]), names),
        restrictions=tuple(_restricted(net, graph, one) for one in restrict),
    )
    labels = None if evaluation is None else evaluation.y
    measure = None if evaluation is None else data.measure
    steps.begin("running the float network on calibration and evaluation samples")
    evaluator = evaluator_of(
        net, graph, choices, x, labels, calibrate, evaluation is None, seed, measure, data.compared_by, deadline
    )
    choices = with_paying(choices, evaluator.compressor.scalings)
    space, batch = evaluator.space, len(arrays[0])
    log.info(
        "%d layers, %d channel groups, %d knobs, 10^%.0f plans; batch %d on %s",
        len(graph.layers), len(graph.channel_groups), len(space.knobs), space.log10_size, batch, chip.name,
    )  # fmt: skip
    left = len(graph.channel_groups) - sum(knob.group is not None for knob in space.knobs)
    if chip.strict_divisor and left and (names == "auto" or "channel-pruning" in names):
        text = "%d channel groups of up to %d channels are not pruned: %s is no faster with fewer channels"
        log.info(text, left, chip.channel_divisor, chip.name)
    _log_alike(chip, formats)
    left_out = _left_out(graph, x, seed, evaluation is None, optional)
    few = (
        *_few(evaluator.calibrated, len(calibrate[0])),
        *(() if deadline.seconds is None else without_scales(graph, evaluator.compressor.scalings)),
    )
    dear = () if names == "auto" else not_offered(chip, graph, choices.gains or {}, chosen(choices))
    remarks = (*evaluator.remarks, *stays_float(net, space), *left_out, *few, *dear)
    for text in remarks:
        log.warning("%s", text)
    calibrate = tuple(array[: evaluator.calibrated] for array in calibrate)
    return Job(chip, choices, evaluator, calibrate, arrays, batch, remarks, context, cache_bits)


def _gains(chip: Device, graph: NetworkGraph, batch: int, names: str | Sequence[str]) -> Gains | None:
    """None where every value of the primitives is offered. Who asks for 2:4 or products of activations gets them."""
    if names == "auto":
        return device_gains(chip, graph, batch)
    asked = expanded((names,) if isinstance(names, str) else names)
    found = device_gains(chip, graph, batch, [name for name in asked if name in OPERATORS])
    sparse = [knob for name in asked if name in DEVICE_DEPENDENT for knob in device_knobs(name, chip, graph)]
    dependent = {*asked} & {*DEVICE_DEPENDENT, *OPERATORS}
    return found | {knob.name: knob.values[1:] for knob in sparse} if dependent else None


def _log_alike(chip: Device, formats: Sequence[Format]) -> None:
    if dropped := ", ".join(str(some) for some in chip.formats if some not in formats):
        log.info("%s: not offered, since they cost as much as a format with more bits on %s", dropped, chip.name)


def _restricted(net: Any, graph: NetworkGraph, restriction: Restrict) -> tuple[frozenset[str], Restrict]:
    layers = graph.places_within(cells_named(net, tuple(restriction.layers), "layers of Restrict"))
    names = restriction.primitives
    return layers, restriction if names is None else replace(restriction, primitives=expanded(names))


def _few(used: int, count: int) -> tuple[str, ...]:
    text = f"{used} of {count} calibration samples were used: the time limit left no time for more"
    return () if used == count else (text,)


def _left_out(graph: NetworkGraph, x: Arrays, seed: int, synthetic: bool, deadline: Deadline) -> tuple[str, ...]:
    """What preparation left out for want of time."""
    whole = [layer for layer, reason in graph.whole.items() if reason == LATE]
    found = [f"the channels of {len(whole)} layers are not pruned: {LATE}"] if whole else []
    if synthetic and deadline.seconds is not None and distils(graph):
        noise = synthetic_inputs(graph, seed)
        if all(np.array_equal(a, b) for a, b in zip(x, noise, strict=True)):
            found.append("plans are evaluated on noise: no inputs were distilled within the time limit")
    return tuple(found)


def evaluator_of(
    net: Any,
    graph: NetworkGraph,
    choices: Choices,
    x: Arrays,
    labels: np.ndarray | None,
    calibration: Arrays,
    synthetic: bool = False,
    seed: int = 0,
    measure: UserMetric | None = None,
    compared_by: str = "",
    deadline: Deadline | None = None,
) -> PlanEvaluator:
    """Chooses the engine, computes moments and ranges, and makes the search space and its evaluator.

    The same network and samples give the same evaluator, so that a saved front finds its plans again.
    deadline: fewer samples are used where the passes over all would take too much of the time that is left.
    """
    parameters = parameters_of(net)
    plain = PlanCompressor(SearchSpace(graph, ()), parameters)(Plan())
    check = tuple(array[:CHECKED] for array in x)
    copied = copy_network(net)
    known = (forward(copied, check), describe_outputs(copied, graph, check))
    if {*DEPTH} & {*chosen(choices)}:
        graph = replace(graph, blocks=skippable_blocks(net, graph, check))
    engine = choose_engine(net, graph, parameters, plain, check, *known)
    onnx = isinstance(engine, OnnxEngine)
    choices = replace(choices, quantizes_tensors=choices.quantizes_tensors and onnx, has_onnx_form=onnx)
    used = calibration_within(engine, plain, calibration, deadline)
    x = used if synthetic and len(used[0]) < len(calibration[0]) else x
    calibration = used
    moments = layer_moments(engine, graph, plain, calibration, seed)
    scalings = scalings_of(engine, graph, plain, calibration, choices, seed, deadline)
    space = search_space(graph, parameters, with_paying(choices, scalings), moments)
    patches = layer_hessians(engine, graph, plain, calibration, rounded_layers(space), seed)
    samples = chain_samples(engine, space, plain, calibration, seed)
    engine = with_structures(engine, net, space)
    return PlanEvaluator(
        engine,
        space,
        parameters,
        inputs=x,
        labels=labels,
        calibration=calibration,
        synthetic=synthetic,
        seed=seed,
        moments=moments,
        patches=patches,
        symmetric=choices.symmetric,
        quantizes_tensors=choices.quantizes_tensors,
        measure=measure,
        compared_by=compared_by,
        samples=samples,
        scalings=scalings,
        int16_sums=choices.int16_sums,
    )


def deployment_inputs(net: Any, data: Data, inputs: Any) -> Arrays:
    """Arrays with the batch of the deployment; ValueError where they do not fit the data or the network."""
    samples = data.evaluation
    if inputs is not None:
        arrays = example_inputs(inputs)
        shapes = tuple(array.shape[1:] for array in arrays)
        if samples is not None and shapes != samples.shapes:
            raise ValueError(f"inputs must have the shape of the data, but got {shapes} and {samples.shapes}")
    elif samples is not None:
        arrays = tuple(array[:1] for array in as_taken(net, samples))
    else:
        return find_inputs(net)
    _check_forward(net, one_image(arrays))
    return arrays


def _check_finite(parameters: Parameters) -> None:
    """ValueError for NaN or infinity: a ReLU may hide them, so that the network seems to work."""
    broken = [name for name, value in parameters.items() if not np.isfinite(value).all()]
    if broken:
        raise ValueError(f"the network's parameters must be finite, but there is NaN or infinity in {broken[0]}")
    negative = [name for name, value in parameters.items() if name.endswith(VARIANCE) and (value < 0).any()]
    if negative:
        least = float(parameters[negative[0]].min())
        raise ValueError(f"a BatchNorm's variance must be 0 or more, but {negative[0]} holds {least:g}")


def _check_tokens(graph: NetworkGraph, data: Data, inputs: Arrays) -> None:
    if not graph.embeddings:
        return
    check_tokens(graph, inputs, "inputs")
    batches = is_dataset(data.train) and is_batched(data.train)  # which are read anew in each epoch
    training = None if batches else data.training
    for role, samples in {"evaluate": data.evaluation, "calibrate": data.calibration, "train": training}.items():
        if samples is not None:
            check_tokens(graph, samples.x, role)


def _check_forward(net: Any, one: Arrays) -> None:
    try:
        forward_in_any_mode(net, one)
    except Exception as error:  # the network's own code
        if (wrong := what_is_wrong(net, one)) is not None:
            raise ValueError(wrong) from error
        shapes = ", ".join(f"{array.shape} {array.dtype}" for array in one)
        said = first_line(error)
        raise ValueError(f"the network does not take inputs of shape {shapes}: {said}") from error


def as_taken(net: Any, samples: Samples) -> Arrays:
    """float32; or integers as they are, where the network takes those alone, as one with an embedding does, or truth
    values, too. Where it takes none of these the error is that of the inputs as they were given."""
    given = samples.x
    ways = [as_floats]
    ways += [as_integers] if any(is_integer_input(x) for x in given) else []
    ways += [as_truths] if any(x.dtype == bool for x in given) else []
    one = one_image(given)
    fits = (way for way in ways[:-1] if _takes(net, way(one)))
    return next(fits, ways[-1])(given)


def _takes(net: Any, one: Arrays) -> bool:
    with suppress(Exception):  # the network's own code
        forward_in_any_mode(net, one)
        return True
    return False
