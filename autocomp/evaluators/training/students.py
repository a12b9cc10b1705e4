"""The network that trains for a plan, and the quantizers that train it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from autocomp.evaluators.accuracy import PlanEvaluator
from autocomp.evaluators.engines import Arrays
from autocomp.primitives.numerics.plan_compressor import Parameters, parameters_of
from autocomp.primitives.quantization.format_knobs import TrainedFormats
from autocomp.primitives.registry import primitive, trainers
from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.search_spaces import Format, NetworkGraph, Plan, RoundedRead, SearchSpace, split_value

WITHOUT_ZERO = ("lsq", "slb")  # quantizers that have no zero among their levels of 1 and 2 bits


def begun(
    smaller: Any,
    evaluator: PlanEvaluator,
    plan: Plan,
    algorithm: str,
    calibration: Arrays,
    start: Parameters | None,
) -> tuple[Any, Any]:
    """The quantizer, and the network before the training: calibrated, or with the parameters that it goes on from.

    smaller: the pruned network.
    """
    plan = in_layers(evaluator.space, plan)
    if start is None:
        ranges_from = tuple(array[:256] for array in calibration)
        return student_of(smaller, plan, algorithm, evaluator.symmetric, calibrate=ranges_from)
    one_image = tuple(x[:1] for x in evaluator.inputs)
    chosen, student = student_of(smaller, plan, algorithm, evaluator.symmetric, inputs=one_image)
    from autocomp.primitives.cells.compression_state import state_of

    _take(student, start)
    state_of(student).calibrated = True
    return chosen, student


def in_layers(space: SearchSpace, plan: Plan) -> Plan:
    """The plan's formats, by the layers of the network in which its chains stand. Products of two activations train in
    floats."""
    chains = space.structure(plan)
    formats = {name.partition("/")[2]: value for name, value in plan.items() if name.startswith("format/")}
    return Plan({
        f"format/{one}": value
        for layer, value in formats.items()
        if layer not in space.graph.products
        for one in (chains[layer].layers if layer in chains else (layer,))
    })  # fmt: skip


def products_of(space: SearchSpace, plan: Plan, graph: NetworkGraph) -> list[str]:
    """The products of two activations in ``graph``, the trained network's, which the plan runs in integers: tracing may
    number them otherwise, but in the same order."""
    formats, own = space.formats(plan), list(space.of_plan(plan).graph.products)
    alike = len(own) == len(graph.products)
    return [new for old, new in zip(own, graph.products, strict=True) if old in formats] if alike else []


def cache_of(space: SearchSpace, plan: Plan, graph: NetworkGraph) -> dict[str, RoundedRead]:
    """How the products of ``graph``, the trained network's, round what they read from the cache: see
    :func:`products_of`."""
    rounded, own = space.cache(plan), list(space.of_plan(plan).graph.products)
    alike = len(own) == len(graph.products)
    return {new: rounded[old] for old, new in zip(own, graph.products, strict=True) if old in rounded} if alike else {}


def _take(student: Any, parameters: Parameters) -> None:
    ms = load_mindspore()
    for parameter in student.get_parameters():
        if parameter.name in parameters:  # an older version stored no quantizers for layers that it left in float
            parameter.set_data(ms.Tensor(parameters[parameter.name]))


def student_of(net: Any, plan: Plan, algorithm: str, symmetric: bool, **samples: Arrays) -> tuple[Any, Any]:
    """The quantizer, and the network that trains. net: pruned; samples: arguments of ``apply``."""
    chosen = _quantizer(plan, algorithm)
    chosen.signed_inputs = symmetric
    formats = {name: value for name, value in plan.items() if name.startswith("format/")}
    return chosen, chosen.apply(net, plan=formats, **samples)


def _quantizer(plan: Plan, others: str) -> Any:
    """The quantizers that the plan's values name, together; ``others`` for layers whose values name none."""
    made: dict[tuple[str, Format], Any] = {}
    named = {}
    for name, value in plan.items():
        chosen, algorithm = split_value(value)
        if name.startswith("format/") and algorithm in trainers() and algorithm != others:
            key = algorithm, Format.parse(str(chosen))
            made[key] = made.get(key) or _algorithm(algorithm, key[1])
            named[name.partition("/")[2]] = made[key]
    if not named:
        return _algorithm(others)
    load_mindspore()
    from autocomp.primitives.quantization.mixed_training import MixedTraining

    return MixedTraining(named, _algorithm(others))


def _algorithm(name: str, form: Format | None = None) -> Any:
    """form: SLB lays the values of a weight out for its bits."""
    known = primitive(name)
    assert isinstance(known, TrainedFormats)
    bits = {} if form is None else {"weight_bits": form.weight_bits, "activation_bits": form.activation_bits}
    return known.algorithm(**bits, **({} if form is None else {"first_last_bits": None}))


def kept_sparse(net: Any, student: Any, layers: Collection[str]) -> list[Any]:
    """Callbacks with which the zeros of these layers of ``net`` stay zeros in the network that trains."""
    if not layers:
        return []
    from autocomp.primitives.cells.compression_state import state_of
    from autocomp.primitives.cells.training_callbacks import KeepZeros

    graph, weights = state_of(student).graph, parameters_of(net)
    trained = {p.name: p for p in student.get_parameters()}
    names = [graph.nodes[graph.layers[layer]].weight for layer in sorted(layers)]
    return [KeepZeros([trained[name] for name in names], [weights[name] != 0 for name in names])]


def check_sparse(evaluator: PlanEvaluator, plan: Plan, others: str) -> None:
    """ValueError for a sparse layer that a quantizer without zero among its levels would train."""
    space = evaluator.space.of_plan(plan)
    formats = space.formats(plan)
    formatted = {name.partition("/")[2]: value for name, value in in_layers(evaluator.space, plan).items()}
    for layer in sorted(space.sparse(plan)):
        algorithm = split_value(formatted.get(layer, ""))[1] or others
        if layer in formats and formats[layer].weight_bits <= 2 and algorithm in WITHOUT_ZERO:
            raise ValueError(
                f"{algorithm} has no zero among its levels of 2 bits, but {layer} is sparse: train it by "
                "algorithm='simqat'"
            )
