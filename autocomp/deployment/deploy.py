"""From a plan to a network that runs: a MindSpore Cell, a MindIR or an ONNX file."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np

from autocomp.evaluators import Measurement, PlanEvaluator, Scores
from autocomp.evaluators.fine_tuning import FineTuning, Progress, Tuned, fine_tune, outputs_of, rebuilt
from autocomp.evaluators.training.steps import LiveTrainings
from autocomp.hardware_models import Device
from autocomp.hardware_models.runtimes.onnxruntime import ONNXRUNTIME
from autocomp.primitives.cells.conversion import convert
from autocomp.primitives.choices import Choices
from autocomp.primitives.export.files import (
    EXACT,
    HALF_STEP,
    ROUNDED,
    WEIGHTS,
    compare,
    export_format,
    export_mindir,
    run_mindir,
    run_onnx,
    written_whole,
)
from autocomp.primitives.export.onnx_network import onnx_network
from autocomp.primitives.export.onnx_writer import Style
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, Parameters
from autocomp.primitives.tracing.batch_axis import growing_axes
from autocomp.primitives.tracing.float32_form import rounds_to_half
from autocomp.primitives.tracing.platform import forward, is_dataset
from autocomp.problem.data import Data, Reading, Samples, as_integers
from autocomp.problem.jobs import as_taken
from autocomp.problem.streams import is_batched
from autocomp.process.interrupts import interruptible
from autocomp.results.details import FrontDetails
from autocomp.results.front import Deployer, ExportReport, Point
from autocomp.results.layers import LayerTables
from autocomp.results.point import NO_SAMPLES
from autocomp.search_spaces import NetworkGraph, Plan

from .checkpoints.checkpoint_folder import LAYOUTS, export_checkpoint
from .checkpoints.tensor_names import Names
from .file_accuracy import FileAccuracy
from .file_forms import file_form, form_written
from .file_sizes import FileSizes
from .inspection.front_details import DetailMaker
from .inspection.layer_tables import LayerCounter
from .mindspore_files import takes_integers, write_integers
from .network_file import SearchedNetwork
from .rebuilding import rebuild
from .tuned_files import TrainedWeights, file_of
from .weights_file import StoredWeights, holds_weights

Arrays = tuple[np.ndarray, ...]
HELD_BYTES = 5e8  # of samples that a point was evaluated on last


class AtLowerResolution(Protocol):
    """The network behind images that it scales down; its deployer applies the plans that it takes."""

    @property
    def deployer(self) -> Deployer: ...
    def takes(self, plan: Plan) -> bool: ...
    def write(self, folder: pathlib.Path) -> None: ...


class NetworkDeployer:
    """Applies plans to copies of the user's network; a :class:`autocomp.results.front.Deployer`.

    evaluator: compresses the network, and has the samples on which files are compared.
    calibration: the samples it was calibrated on.
    choices: what the search space was made from.
    batch: the batch of MindIR files; ONNX files take any batch.
    evaluates: whether the evaluator has the samples of the search, or only a few to compare files on.
    sizes: predicts the sizes of files; None where the device is not known.

    lower: the same network at lower resolutions, of which the front has points.
    """

    def __init__(
        self,
        net: Any,
        evaluator: PlanEvaluator,
        calibration: Arrays,
        choices: Choices,
        batch: int = 1,
        evaluates: bool = True,
        sizes: FileSizes | None = None,
    ) -> None:
        self._float, self.evaluator, self.calibration = net, evaluator, calibration
        self.choices, self.batch, self._evaluates, self._sizes = choices, batch, evaluates, sizes
        self.lower: list[AtLowerResolution] = []
        self._other: tuple[Any, PlanEvaluator] | None = None

    @property
    def float_net(self) -> Any:
        """The user's network."""
        return self._float

    def net(self, plan: Plan) -> Any:
        """The converted network, in evaluation mode."""
        return convert(
            self._float, self.evaluator.space.graph, self.evaluator.parameters, self.evaluator.compress(plan)
        )

    def export(
        self,
        plan: Plan,
        path: str | os.PathLike[str],
        form: str | None = None,
        check_accuracy: bool = True,
        names: Names | None = None,
    ) -> ExportReport:
        """Write the file, load it again, compare it, and only then move it to its place.

        check_accuracy: whether the file's accuracy is measured where the samples of the search have labels.
        """
        if form in LAYOUTS:
            return export_checkpoint(self.net(plan), path, form, names)
        compressed, known = replace(self.evaluator.compress(plan), cache={}), self.evaluator
        if holds_weights(path):
            whole = known.space.graph.whole
            return export_weights(self.net(plan), self._float, (plan, compressed.kept), self.samples, path, whole)
        net = convert(self._float, known.space.graph, known.parameters, compressed)
        weights = (compressed.graph or known.space.graph, known.parameters, compressed)
        report = export(net, *weights, self.samples, path, not known.symmetric, _device(self._sizes), form)
        report = report if self._sizes is None else self._sizes.beside_measured(plan, report, self.samples)
        judge = self._judge if check_accuracy and not known.space.cache(plan) else None  # a file has no cache
        return report if judge is None else judge.beside_reported(report)

    def cache_bits(self, plan: Plan) -> tuple[int | None, ...]:
        return self.evaluator.space.cache_parts(plan)

    def layers(self, plans: Iterable[Plan]) -> LayerTables | None:
        if self._sizes is None:
            return None
        return LayerCounter(self._sizes.device, self.evaluator.space, self.batch)(plans)

    def details(self, scores: str | None, evaluated: Sequence[Point], shown: Point) -> FrontDetails | None:
        if self._sizes is None:
            return None
        known = Scores.from_json(scores or "", self.evaluator.space)
        return DetailMaker(self.evaluator, self._sizes.device, self.batch, self._evaluates, known)(evaluated, shown)

    @property
    def _judge(self) -> FileAccuracy | None:
        """None where only a few samples are at hand."""
        return FileAccuracy(self.evaluator) if self._evaluates else None

    @property
    def samples(self) -> Arrays:
        """Of the search, for one inference of the deployment's batch."""
        return tuple(np.resize(x[: self.batch], (self.batch, *x.shape[1:])) for x in self.evaluator.inputs)

    @interruptible()
    def fine_tune(
        self,
        plan: Plan,
        train: Any,
        settings: FineTuning,
        progress: Progress | None = None,
        start: TrainedWeights | None = None,
        live: LiveTrainings | None = None,
    ) -> tuple[TunedDeployer, Measurement]:
        """Train the plan's network; returns the deployer of the trained network and its measurement on the search's
        samples.

        start: of the same plan; the training goes on from there. live: see :func:`fine_tune`.

        ValueError where the samples of the search are not at hand.
        """
        if not self._evaluates:
            raise ValueError(NO_SAMPLES)
        started = time.perf_counter()
        read = not is_dataset(train) or not is_batched(train)
        samples = _pair(Samples.read(train, "train", Reading(any_labels=True))) if read else train
        known = None if start is None else start.parameters
        tuned = fine_tune(self._float, self.evaluator, plan, samples, settings, self.calibration, progress, known, live)
        steps = tuned.steps + (0 if start is None else start.steps)
        found = self.evaluator.measurement(outputs_of(tuned, self.evaluator), started)
        trained_on = f"{self.evaluator.judged_on}, after {_trained(settings, tuned.samples, steps)}"
        found = replace(found, seed=settings.seed, fidelity=trained_on)
        weights = TrainedWeights(plan, settings.algorithm, tuned.parameters, found, steps)
        return self._tuned(weights, lambda: tuned), found

    def measure(self, plan: Plan, data: Any) -> tuple[Measurement, Measurement]:
        evaluator = self.on(data)
        return evaluator.evaluate(plan), evaluator.evaluate(Plan())

    def on(self, data: Any) -> PlanEvaluator:
        """The evaluator for the evaluation samples of other data. What they lack, a metric or labels, is that of the
        search."""
        known = self.evaluator
        own = None if isinstance(data, (Data, Mapping)) else known.measure
        metric: dict[str, Any] = {} if own is None else {"metric": own.function, "lower_is_better": own.lower}
        metric = {"metric": own.name} if own is not None and own.reduce is not None else metric
        given = Data(evaluate=data, **metric) if own else Data.coerce(data)
        if given.evaluation is None:
            raise ValueError("evaluate needs samples: arrays (x, y), x alone, a dataset or Data")
        compared_by = given.compared_by or (known.compared_by if given.evaluation.y is None else "")
        x, y = as_taken(self._float, given.evaluation), given.evaluation.y
        if sum(array.nbytes for array in x) > HELD_BYTES or (y is not None and y.dtype.hasobject):
            return known.on(x, y, given.measure, compared_by)
        measure = given.measure
        by = None if measure is None else (measure.name, measure.function, measure.lower)
        key = (given.evaluation.fingerprint, by, compared_by)
        if self._other is None or self._other[0] != key:  # for all points of a front the float network runs once
            self._other = key, known.on(x, y, given.measure, compared_by)
        return self._other[1]

    def of(self, plan: Plan) -> Deployer:
        return next((one.deployer for one in self.lower if one.takes(plan)), self)

    def restored(self, folder: pathlib.Path, plan: Plan) -> Deployer:
        deployer = self.of(plan)
        if deployer is not self:
            return deployer.restored(folder, plan)
        return self.trained(TrainedWeights.read(folder / file_of(plan)))

    def trained(self, weights: TrainedWeights) -> TunedDeployer:
        """The deployer of a plan whose network was trained earlier; the network is rebuilt when it is first needed."""
        make = partial(rebuilt, self._float, self.evaluator, weights.plan, weights.algorithm, weights.parameters)
        return self._tuned(weights, make)

    def _tuned(self, weights: TrainedWeights, make: Callable[[], Tuned]) -> TunedDeployer:
        zero_points = not self.evaluator.symmetric
        own = self._sizes, self._judge, self.on, self._float, self.cache_bits(weights.plan)
        return TunedDeployer(weights, make, self.samples, zero_points, *own)

    def store(self, folder: pathlib.Path, plans: Iterable[Plan]) -> None:
        """Writes what :func:`autocomp.load` needs, besides the network itself, to apply plans again."""
        SearchedNetwork(self.evaluator, self.calibration, self.choices, self.batch).write(folder)
        for one in self.lower:
            one.write(folder)


class TunedDeployer:
    """Applies the one plan whose network was trained.

    make: returns that network; called once, when it is needed. zero_points: whether the device's runtime takes them.
    sizes: predicts the sizes of files. judge: measures their accuracy. on: the evaluator for other data. base: the
        float network. cache_bits: see :attr:`autocomp.results.point.Point.cache_bits`.
    """

    def __init__(
        self,
        weights: TrainedWeights,
        make: Callable[[], Tuned],
        samples: Arrays,
        zero_points: bool = True,
        sizes: FileSizes | None = None,
        judge: FileAccuracy | None = None,
        on: Callable[[Any], PlanEvaluator] | None = None,
        base: Any = None,
        cache_bits: tuple[int | None, ...] = (),
    ) -> None:
        self._on, self._float, self._cache_bits = on, base, cache_bits
        self._judge = None if any(cache_bits) else judge  # a file has no cache
        self.weights, self._make, self.samples = weights, make, samples
        self._zero_points, self._sizes = zero_points, sizes

    @cached_property
    def tuned(self) -> Tuned:
        return self._make()

    def net(self, plan: Plan) -> Any:
        self._check(plan)
        return self.tuned.net

    def export(
        self,
        plan: Plan,
        path: str | os.PathLike[str],
        form: str | None = None,
        check_accuracy: bool = True,
        names: Names | None = None,
    ) -> ExportReport:
        self._check(plan)
        tuned = self.tuned
        if form in LAYOUTS:
            return export_checkpoint(tuned.net, path, form, names)
        if holds_weights(path):
            return export_weights(tuned.net, self._float, (plan, None), self.samples, path)
        known = (tuned.graph, tuned.parameters, replace(tuned.compressed, cache={}), self.samples)
        report = export(tuned.net, *known, path, self._zero_points, _device(self._sizes), form)
        report = report if self._sizes is None else self._sizes.beside_measured(plan, report, self.samples)
        return self._judge.beside_reported(report) if self._judge is not None and check_accuracy else report

    def fine_tune(
        self, plan: Plan, train: Any, settings: FineTuning, progress: Progress | None = None
    ) -> tuple[Deployer, Measurement]:
        raise ValueError("this point is fine-tuned already: fine-tune the front's own point, for more epochs")

    def measure(self, plan: Plan, data: Any) -> tuple[Measurement, Measurement]:
        self._check(plan)
        if self._on is None:
            raise ValueError(NO_SAMPLES)
        evaluator, started = self._on(data), time.perf_counter()
        outputs = outputs_of(self.tuned, evaluator)
        return evaluator.measurement(outputs, started), evaluator.evaluate(Plan())

    def store(self, folder: pathlib.Path, plans: Iterable[Plan]) -> None:
        for plan in plans:
            self._check(plan)
            self.weights.write(folder / file_of(plan))

    def cache_bits(self, plan: Plan) -> tuple[int | None, ...]:
        self._check(plan)
        return self._cache_bits

    def layers(self, plans: Iterable[Plan]) -> LayerTables | None:
        return None  # the front's own deployer has those of every point

    def details(self, scores: str | None, evaluated: Sequence[Point], shown: Point) -> FrontDetails | None:
        return None

    def of(self, plan: Plan) -> Deployer:
        return self

    def restored(self, folder: pathlib.Path, plan: Plan) -> Deployer:
        raise ValueError("a stored point can be read only with the float network: use autocomp.load(folder, net)")

    def _check(self, plan: Plan) -> None:
        if plan != self.weights.plan:
            raise ValueError(f"only the plan that was fine-tuned can be applied here, but got {plan}")


def export(
    net: Any,
    graph: NetworkGraph,
    parameters: Parameters,
    compressed: CompressedWeights,
    inputs: Arrays,
    path: str | os.PathLike[str],
    zero_points: bool = True,
    device: Device | None = None,
    form: str | None = None,
) -> ExportReport:
    """Write the converted network, whose numbers are in ``compressed``; load the file again and compare.

    device, form: see :func:`file_forms.file_form`.
    """
    ending = export_format(path)
    if ending == WEIGHTS:
        raise ValueError(f"weights alone are written by point.export, but got {os.fspath(path)!r}")
    written, tolerance = file_form(device, path, form), _tolerance(graph, compressed)
    evaluated: Callable[[Arrays], Arrays] = partial(forward, net)
    if written is not None:
        return written.write(graph, parameters, compressed, inputs, path, evaluated, tolerance)
    if takes_integers(device, ending, form):
        integers = write_integers(net, inputs, path, evaluated, tolerance, () if device is None else device.weight_only)
        if integers is not None:
            return integers
    with written_whole(path) as draft:
        if ending == ".mindir":
            export_mindir(net, inputs, draft)
        else:
            draft.write_bytes(onnx_bytes(graph, parameters, compressed, zero_points, _one_image(device, inputs)))
        run = run_mindir if ending == ".mindir" else run_onnx
        if ending == ".onnx" and compressed.tensors:  # the network rounds the inputs of layers alone
            evaluated = partial(run_onnx, onnx_network(graph, parameters, compressed).SerializeToString())
        shown, expected = _expected(evaluated, graph, inputs) if ending == ".onnx" else (inputs, evaluated(inputs))
        error = compare(run, draft, shown, expected, tolerance, evaluated if tolerance == ROUNDED else None)
        size = draft.stat().st_size
    form = form_written(device, ending, _rounds(compressed))
    return ExportReport(pathlib.Path(path), ending[1:], size / 1e6, error, form=form)


def export_weights(
    net: Any,
    base: Any,
    plan: tuple[Plan, np.ndarray | None],
    inputs: Arrays,
    path: str | os.PathLike[str],
    whole: Mapping[str, str] | None = None,
) -> ExportReport:
    """Write the weights of the converted network; rebuild it from the file and the float network, and compare.

    base: the float network. plan: and which channels it keeps, where it does not say that itself. whole: layers of
    which none are cut, see :class:`StoredWeights`.
    """
    with written_whole(path) as draft:
        StoredWeights.of(net, plan[0], inputs, plan[1], whole or {}).write(draft)
        error = compare(lambda file, x: forward(rebuild(base, file), x), draft, inputs, forward(net, inputs), EXACT)
        size = draft.stat().st_size
    return ExportReport(pathlib.Path(path), WEIGHTS[1:], size / 1e6, error, of_cost=False)


def _expected(evaluated: Callable[[Arrays], Arrays], graph: NetworkGraph, inputs: Arrays) -> tuple[Arrays, Arrays]:
    """Inputs, and the network's outputs for them: two samples where an output is of all samples together, since a file
    of any batch must not have the traced one, 1, as a constant."""
    axes = growing_axes(graph)
    if len(inputs[0]) == 1 and any(graph.fed[node] and axes[node] is None for node in graph.outputs):
        pair = tuple(np.repeat(array, 2, axis=0) for array in inputs)
        with suppress(Exception):  # the network's own code, which may take one sample alone
            return pair, evaluated(pair)
    return inputs, evaluated(inputs)


def _tolerance(graph: NetworkGraph, compressed: CompressedWeights) -> float:
    if _rounds(compressed):
        return ROUNDED
    return HALF_STEP if rounds_to_half(graph) else EXACT


def _rounds(compressed: CompressedWeights) -> bool:
    """Whether a tensor is rounded: the input of a layer, or both operands of a product."""
    return bool(compressed.tensors) or any(state.activation is not None for state in compressed.layers.values())


def onnx_bytes(
    graph: NetworkGraph,
    parameters: Parameters,
    compressed: CompressedWeights,
    zero_points: bool = True,
    packed_dense: bool = False,
) -> bytes:
    """zero_points: whether the runtime takes them, as onnxruntime; TensorRT does not. packed_dense: see ``Style``."""
    style = Style(integer_weights=True, unpacks_at_load=zero_points, fast_groups=zero_points, packed_dense=packed_dense)
    data: bytes = onnx_network(graph, parameters, compressed, style).SerializeToString()
    return data


def _one_image(device: Device | None, inputs: Arrays) -> bool:
    """Whether onnxruntime will run the file for one image at a time."""
    return device is not None and bool(device.weight_only) and device.runtime is ONNXRUNTIME and len(inputs[0]) == 1


def _device(sizes: FileSizes | None) -> Device | None:
    return None if sizes is None else sizes.device


def _pair(samples: Samples) -> tuple[np.ndarray, np.ndarray | None]:
    return as_integers(samples.x)[0], samples.y


def _trained(settings: FineTuning, samples: int, steps: int) -> str:
    if settings.steps is not None:
        return f"{steps} steps of {min(settings.batch, samples)} samples"
    return f"{'1 epoch' if settings.epochs == 1 else f'{settings.epochs} epochs'} of {samples}"
