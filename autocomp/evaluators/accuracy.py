"""The accuracy of plans on data, or their fidelity to the float network."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import asdict
from functools import cached_property, partial
from typing import Any

import numpy as np

from autocomp.errors import EvaluationError
from autocomp.primitives.numerics.chain_layers import ChainSamples
from autocomp.primitives.numerics.divided_inputs import InputScaling, Key
from autocomp.primitives.numerics.patches import Hessian
from autocomp.primitives.numerics.plan_compressor import CompressedWeights, Parameters, PlanCompressor
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.search_spaces import NetworkGraph, Plan, SearchSpace

from .base import Measurement
from .calibration import calibrate_ranges, calibrate_tensors, correction, moved_statistics, shared_ranges
from .chance import chance_of, suspicions
from .class_scores import are_class_scores
from .distances import explained
from .engines import Arrays, Engine
from .lazy_arrays import add_to, at_rows
from .low_fidelity import FIRST, estimate
from .paired import compared, metric_of_groups
from .token_losses import HELD, in_parts
from .user_metric import UserMetric

log = logging.getLogger("autocomp")

VERSION = 6  # of the measurement: raised when the same plan would get another accuracy
PLAIN_VERSION = 5  # where samples lie on the first axis of every output, numbers are as they were
AGREEMENT, FIDELITY = "agreement", "fidelity"
WORK_STATISTICS, WORK_SYNTHETIC, WORK_CALIBRATION = 2e9, 5e10, 2e10  # MACs
MOST = 256
FLOAT_VALUES = 4.0  # of a metric where lower is better: how many times the float network's counts as accuracy 0


def affordable(graph: NetworkGraph, macs: float, least: int = 16) -> int:
    """How many images fit into that many MACs, from ``least`` to 256."""
    return int(np.clip(macs / max(graph.macs, 1), least, MOST))


def calibrated_on(graph: NetworkGraph, calibration: Arrays) -> Arrays:
    """The part of the calibration samples that is used: as many as 2e10 MACs allow, 16 to 256."""
    return _first(calibration, affordable(graph, WORK_CALIBRATION))


def synthetic_inputs(graph: NetworkGraph, seed: int = 0) -> Arrays:
    """Noise with the spectrum of photographs (amplitude 1 / frequency: Field 1987), with mean 0 and variance 1.

    For sequences and vectors: normal noise. As many inputs as 5e10 MACs allow, 16 to 256.
    """
    rng = np.random.default_rng(seed)
    count = affordable(graph, WORK_SYNTHETIC)
    return tuple(
        _noise(rng, (count, *node.shape[1:])).astype(np.float32) for node in graph.nodes if node.kind == "input"
    )


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    noise = rng.standard_normal(shape)
    if len(shape) == 4:
        frequency = np.hypot(np.fft.fftfreq(shape[2])[:, None], np.fft.rfftfreq(shape[3])[None, :])
        frequency[0, 0] = 1 / max(shape[2:])
        noise = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=shape[2:])
        noise = noise - noise.mean((2, 3), keepdims=True)
    axes = tuple(range(1, len(shape)))
    return noise / np.maximum(noise.std(axes, keepdims=True), 1e-9)


class PlanEvaluator:
    """Measures plans on one set of samples with one engine; an :class:`autocomp.evaluators.Evaluator`.

    inputs: arrays (n, ...).
    labels: (n,) classes, or None. With None the metric is the agreement with the float network's class (where its
        output is scores of classes or integers, and the inputs are real), or else the fidelity: 1 minus the ratio of
        noise to signal in the outputs, 1 - |y - y_float|^2 / |y_float - mean over the samples|^2.
    measure: the user's own metric in place of these; labels are then whatever it takes.
    compared_by: "agreement" or "fidelity", where the user says which; no labels are given then. "": see
        :func:`autocomp.evaluators.class_scores.are_class_scores`.
    calibration: arrays (n, ...), for activation ranges and BatchNorm's statistics.
    moments: of layers' inputs, for reconstruction.
    patches: moments of the patches that weights are multiplied with, for rounding.
    symmetric: activation ranges are symmetric around zero.
    quantizes_tensors: tensors between layers in integers are rounded, too, as the runtime does that runs them.
    samples: inputs of the layers that chains may replace, see :class:`PlanCompressor`.
    scalings, int16_sums: see :class:`PlanCompressor`.
    """

    def __init__(
        self,
        engine: Engine,
        space: SearchSpace,
        parameters: Parameters,
        inputs: Arrays,
        labels: np.ndarray | None,
        calibration: Arrays,
        synthetic: bool = False,
        seed: int = 0,
        moments: Mapping[str, Moments] | None = None,
        patches: Mapping[str, Hessian] | None = None,
        symmetric: bool = False,
        measure: UserMetric | None = None,
        quantizes_tensors: bool = False,
        compared_by: str = "",
        samples: ChainSamples | None = None,
        scalings: Mapping[Key, InputScaling] | None = None,
        int16_sums: bool = True,
    ) -> None:
        self.compared_by = compared_by
        self.quantizes_tensors = quantizes_tensors
        self.engine, self.space, self.parameters, self.seed = engine, space, parameters, seed
        self.inputs, self.labels, self.synthetic, self.symmetric = inputs, labels, synthetic, symmetric
        self.measure, self.scale = measure, 0.0  # of a metric where lower is better, see Measurement
        self.calibrated = len(calibration[0])
        self._shuffle()
        plain = PlanCompressor(space, parameters)(Plan())
        ranges, tensors = self._ranges(plain, calibration)
        corrects = correction(engine, space, plain, calibration)
        self.compressor = PlanCompressor(
            *(space, parameters, ranges, moments, patches, tensors, samples, symmetric, scalings, corrects, int16_sums)
        )
        self.statistics_inputs = _first(calibration, affordable(space.graph, WORK_STATISTICS, 8))
        self.statistics_uncut = _first(self.statistics_inputs, affordable(space.graph, WORK_STATISTICS / 4, 4))
        self.plain_statistics = engine.batch_statistics(plain, self.statistics_inputs)
        self.plain_uncut = engine.batch_statistics(plain, self.statistics_uncut)
        self._run_float(plain)
        self.key = self._fingerprint(calibration)

    def _run_float(self, plain: CompressedWeights) -> None:
        """plain: the float network's weights."""
        started = time.perf_counter()
        self.plain_outputs = self._outputs(plain)
        self.plain_seconds = time.perf_counter() - started
        self._check_axes()
        self.plain_judged = self.judged(self.plain_outputs)
        self.classifies = self._classifies()
        self.metric = self._metric()

    @property
    def judged_on(self) -> str:
        """The samples of the evaluation, in words."""
        return f"{len(self.inputs[0])} {'synthetic inputs' if self.synthetic else 'samples'}"

    @property
    def at_once(self) -> int:
        """How many plans may be measured at the same time, in threads of one process."""
        return self.engine.at_once

    @property
    def evaluates_subsets(self) -> bool:
        """Whether there are 4,000 samples or more and outputs are scores of classes."""
        return self._many and self.classifies and len(self.plain_judged[0]) == len(self.inputs[0])

    @property
    def _many(self) -> bool:
        return len(self.inputs[0]) >= 2 * FIRST and self.measure is None

    def _shuffle(self) -> None:
        """Shuffles many samples, so that the first of them are a random part of all."""
        if self._many:
            order = np.random.default_rng(self.seed).permutation(len(self.inputs[0]))
            self.inputs = tuple(at_rows(array, order) for array in self.inputs)
            self.labels = None if self.labels is None else self.labels[order]

    def _ranges(self, plain: CompressedWeights, calibration: Arrays) -> Any:
        samples, graph = calibrated_on(self.space.graph, calibration), self.space.graph
        ranges = calibrate_ranges(self.engine, self.space, plain, samples, self.seed, self.symmetric)
        formats = [knob for knob in self.space.knobs if knob.kind == "format"]
        products = graph.products.keys() & {place for knob in formats for place in knob.layers}
        if not self.quantizes_tensors or not (products or any(bits == 8 for _, bits in ranges)):
            return ranges, {}
        relus = tuple(self.space.activations.values())
        tensors = calibrate_tensors(self.engine, graph, plain, samples, self.seed, self.symmetric, products, relus)
        return shared_ranges(graph, ranges, tensors), tensors

    def _classifies(self) -> bool:
        """Whether the first output is scores of classes. Plans are then compared by class probabilities, otherwise by
        all output values."""
        labels = self.labels
        if not self._may_classify:
            return False
        scores = self.plain_judged[0]
        if labels is None:
            return self.measure is None and (
                self.compared_by == AGREEMENT
                or (not self.compared_by and are_class_scores(self.space.graph, self._first_judged, scores))
            )
        whole = labels.ndim == 1 and labels.dtype.kind in "iu"
        return whole and len(labels) == len(scores) and bool(0 <= labels.min() <= labels.max() < scores.shape[1])

    @property
    def _may_classify(self) -> bool:
        scores = self.plain_judged[0]
        return scores.ndim == 2 and scores.shape[1] > 1 and not self.synthetic and scores.dtype.kind == "f"

    @property
    def _first_judged(self) -> int:
        """The place of the first output that has an axis of samples."""
        return next(i for i, output in enumerate(self.engine.described_outputs) if output.axis is not None)

    @property
    def taken_as(self) -> str:
        """A note for the reader: an output (n, d) was taken for an embedding, which neither labels nor the user say."""
        known = self.labels is not None or self.measure is not None or self.compared_by or self.classifies
        if known or not self._may_classify:
            return ""
        return (
            f"the output of {self.plain_judged[0].shape[1]} numbers is taken for an embedding, and plans are judged by "
            "its fidelity: if it is scores of classes, say Data(..., metric='agreement')"
        )

    def _metric(self) -> str:
        if self.compared_by == AGREEMENT and not (self.classifies or self._gives_integers):
            shape = ", ".join(map(str, self.plain_judged[0].shape[1:]))
            raise ValueError(
                "metric='agreement' compares classes and needs an output of shape (n, classes), but the network's "
                f"first output has shape (n, {shape})"
            )
        if self.measure is not None:
            self._check_measure(self.measure)
            return self.measure.name
        if self.labels is None:
            integers = self._gives_integers and self.compared_by != FIDELITY
            return AGREEMENT if self.classifies or integers else FIDELITY
        if not self.classifies and not self._gives_classes:
            shape = ", ".join(map(str, self.plain_judged[0].shape[1:]))
            raise ValueError(
                f"labels up to {int(self.labels.max(initial=0))} need an output of shape (n, classes), but the "
                f"network's first output has shape (n, {shape}); for other labels give Data a metric, a function of "
                "(outputs, labels)"
            )
        return "accuracy"

    def _check_measure(self, measure: UserMetric) -> None:
        if measure.lower:
            value = measure(self._copied(), self.labels)
            self.scale = FLOAT_VALUES * value or 1.0
        elif not self.plain_accuracy():
            without = " (no labels were given)" if self.labels is None else ""
            raise ValueError(f"{measure} must be above 0 for the float network, but is not{without}")

    def _fingerprint(self, calibration: Arrays) -> str:
        digest = hashlib.blake2b(digest_size=16)
        reconstructed = ",".join(sorted(self.compressor.moments))
        adapted = ",".join(sorted(self.compressor.patches))
        engine = type(self.engine).__name__
        spaces = (self.space.graph.key, self.space.key)
        plain = all(output.axis == 0 for output in self.engine.described_outputs)
        settings: tuple[Any, ...] = (
            PLAIN_VERSION if plain else VERSION,
            engine,
            self.metric,
            self.seed,
            self.symmetric,
            *spaces,
            reconstructed,
            adapted,
        )
        settings += ("quantized tensors 2",) if self.compressor.tensors else ()
        settings += () if self.compressor.int16_sums else ("weights without limits",)
        digest.update(repr(settings + (() if self.measure is None else (self.measure.key,))).encode())
        arrays = [*(self.parameters[name] for name in sorted(self.parameters)), *self.inputs, *calibration]
        for array in arrays + ([self.labels] if self.labels is not None else []):
            add_to(digest, array)
        return digest.hexdigest()

    def compress(self, plan: Plan) -> CompressedWeights:
        """The plan's weights, with BatchNorm's statistics moved as the plan moves them."""
        compressed = self.compressor(plan)
        if not self.plain_statistics or not moves_statistics(compressed):
            return compressed
        graph, kept = self.space.graph, compressed.kept
        uncut = bool(kept.all())  # then the statistics move little, and fewer images are enough
        before = self.plain_uncut if uncut else self.plain_statistics
        found = self.engine.batch_statistics(compressed, self.statistics_uncut if uncut else self.statistics_inputs)
        return compressed.with_statistics(moved_statistics(graph, self.parameters, kept, before, found))

    def evaluate(self, plan: Plan) -> Measurement:
        started = time.perf_counter() - (0.0 if plan else self.plain_seconds)
        return self.measurement(self._outputs(self.compress(plan)) if plan else self._copied(), started)

    def measurement(self, outputs: Arrays, started: float) -> Measurement:
        """Of outputs for all samples; the user's metric may write into them. started: see time.perf_counter."""
        known = asdict(compared(self, outputs))
        return Measurement(
            accuracy=self.accuracy_of(outputs),
            metric=self.metric,
            samples=len(self.inputs[0]),
            seconds=time.perf_counter() - started,
            seed=self.seed,
            fidelity=self.judged_on,
            scale=self.scale,
            **known,
        )

    def evaluate_subset(self, plan: Plan) -> Measurement:
        """The plan's accuracy on all samples, estimated from the first 2,000."""
        started = time.perf_counter()
        outputs = self._outputs(self.compress(plan), _first(self.inputs, FIRST))
        right, of_float = (
            found[:FIRST].argmax(1) == self._classes[:FIRST]
            for found in (self.judged(outputs)[0], self.plain_judged[0])
        )
        accuracy, error = estimate(right, of_float, self.plain_accuracy(), len(self.inputs[0]))
        known = asdict(compared(self, outputs))
        seconds, said = time.perf_counter() - started, f"{FIRST} of {self.judged_on}"
        return Measurement(accuracy, self.metric, FIRST, seconds, self.seed, said, error, **known)

    def _outputs(self, compressed: CompressedWeights, inputs: Arrays | None = None) -> Arrays:
        """The outputs for all samples, or for other inputs if they are given."""
        outputs = self.run(compressed, self.inputs if inputs is None else inputs)
        if not all(np.isfinite(output).all() for output in outputs):
            what = f"under the plan {compressed.plan}" if compressed.plan else "of the float network"
            raise EvaluationError(f"outputs {what} are not finite")
        return outputs

    def run(self, compressed: CompressedWeights, inputs: Arrays) -> Arrays:
        """The outputs as the metric takes them."""
        return self.reduced(partial(self.engine.outputs, compressed), inputs)

    def reduced(self, run: Callable[[Arrays], Arrays], inputs: Arrays) -> Arrays:
        """The outputs that ``run`` gives for the inputs; where the metric reduces them, those of a part are held."""
        reduce = None if self.measure is None else self.measure.reduce
        if reduce is None:
            return run(inputs)
        numbers = max(self.space.graph.nodes[i].elements for i in self.space.graph.outputs)
        return in_parts(run, reduce, inputs, max(1, HELD // numbers))

    def plain_accuracy(self) -> float:
        """The float network's accuracy. It is computed on copies: the user's metric may write into its arguments."""
        return self.accuracy_of(self._copied())

    def _copied(self) -> Arrays:
        return tuple(output.copy() for output in self.plain_outputs)

    def accuracy_of(self, outputs: Arrays) -> float:
        if self.measure is not None:
            value = self.measure(outputs, self.labels)
            return max(0.0, 1 - value / self.scale) if self.scale else value
        found = self.judged(outputs)
        right = self.right(found)
        if right is not None:
            return float(np.mean(right))
        return float(np.mean([explained(a, b) for a, b in zip(found, self.plain_judged, strict=True)]))

    def right(self, found: list[np.ndarray]) -> np.ndarray | None:
        """(n,) bool: of judged outputs for the first n samples, which answers are correct; None for the fidelity."""
        if self._gives_classes:
            return np.asarray(found[0] == self.labels)
        if not self.classifies:
            return None
        return np.asarray(found[0].argmax(1) == self._classes[: len(found[0])])

    @cached_property
    def metric_of_groups(self) -> np.ndarray | None:
        """The float network's, see :func:`autocomp.evaluators.paired.metric_of_groups`."""
        return metric_of_groups(self, self.plain_outputs)

    def judged(self, outputs: Arrays) -> list[np.ndarray]:
        """The outputs that plans are judged by, those with an axis of samples; samples on the first axis."""
        known = zip(self.engine.described_outputs, outputs, strict=True)
        found = [output.samples_first(array) for output, array in known if output.axis is not None]
        return [array.astype(np.float32) if array.dtype == np.float16 else array for array in found]

    @property
    def unjudged(self) -> tuple[str, ...]:
        """Names of the outputs without an axis of samples that are no constants."""
        return tuple(
            output.name for output in self.engine.described_outputs if output.axis is None and not output.constant
        )

    def _check_axes(self) -> None:
        names = " and ".join(self.unjudged)
        if all(output.axis is None for output in self.engine.described_outputs):
            raise ValueError(
                "plans are judged by outputs with an axis that counts the samples, but this network gives none: "
                f"return the value of each sample{f' in place of {names}' if names else ''}"
            )
        if names and self.measure is not None:
            raise ValueError(f"{self.measure} takes outputs of all samples, but {names} has no axis that counts them")
        if names:
            log.warning("%s has no axis that counts the samples: plans are judged by the other outputs", names)

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """Suspicions about the float network's accuracy, see :mod:`autocomp.evaluators.chance`."""
        return suspicions(self)

    @cached_property
    def chance(self) -> float | None:
        """The accuracy without any knowledge of the inputs; None where the metric does not tell."""
        return chance_of(self)

    def on(self, inputs: Arrays, labels: Any, measure: UserMetric | None, compared_by: str = "") -> PlanEvaluator:
        """The same compression measured on other samples; arguments as of the class."""
        other = copy(self)
        for name in ("remarks", "chance", "metric_of_groups"):
            other.__dict__.pop(name, None)
        other.inputs, other.labels, other.measure, other.compared_by = inputs, labels, measure, compared_by
        other.synthetic, other.scale = False, 0.0
        other._run_float(PlanCompressor(self.space, self.parameters)(Plan()))
        return other

    @property
    def _gives_integers(self) -> bool:
        """Classes, as behind an argmax, or masks."""
        return all(array.dtype.kind in "iub" for array in self.plain_judged)

    @property
    def _gives_classes(self) -> bool:
        """One integer for each sample, as the labels are."""
        classes, labels = self.plain_judged[0], self.labels
        if labels is None or self.measure is not None or classes.dtype.kind not in "iub":
            return False
        return classes.shape == labels.shape and labels.dtype.kind in "iub"

    @property
    def _classes(self) -> np.ndarray:
        """(n,): the correct classes; without labels the float network's."""
        return self.plain_judged[0].argmax(1) if self.labels is None else self.labels


def _first(arrays: Arrays, count: int) -> Arrays:
    return tuple(array[:count] for array in arrays)


def moves_statistics(compressed: CompressedWeights) -> bool:
    """Whether channels are cut, layers are replaced, or weights are sparse or have fewer than 8 bits: 8 bits hardly
    change any mean."""
    bits = (state.quantized.bits for state in compressed.layers.values() if state.quantized is not None)
    sparse = any(state.sparse for state in compressed.layers.values())
    replaced = compressed.graph is not None
    return replaced or sparse or not bool(compressed.kept.all()) or min(bits, default=8) < 8
