"""Measures a network layer by layer under a plan: tensors of the float network, and the noise that each choice adds."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from autocomp.evaluators import PlanEvaluator
from autocomp.evaluators.engines import Arrays, OnnxEngine
from autocomp.hardware_models import Device
from autocomp.measurement.processor import device as find_device
from autocomp.measurement.profiling import counted
from autocomp.primitives.numerics.plan_compressor import CompressedWeights
from autocomp.primitives.registry import automatic
from autocomp.primitives.tracing.tracer import as_float32, example_inputs
from autocomp.problem.arguments import check
from autocomp.problem.data import Data
from autocomp.problem.jobs import prepare
from autocomp.results.details import ClassProfile
from autocomp.results.network_profile import LayerProfile, NetworkProfile
from autocomp.search_spaces import Format, Plan, split_value

from .file_profiler import profile_file
from .layer_tables import LayerCounter
from .layer_times import layer_times
from .tensor_statistics import statistics

CPU = "cpu"
MOST_ELEMENTS = 1e8  # of tensors that are held


def profile(
    net: Any,
    data: Any = None,
    plan: Any = None,
    device: str | Path | Device = "ascend",
    *,
    inputs: Any = None,
    samples: int = 64,
    seed: int = 0,
    progress: bool | None = None,
) -> NetworkProfile:
    """Look at a network layer by layer: what its tensors hold, what each layer costs on a device, and under a plan the
    noise that each choice adds, alone and together.

    Args:
        net: a trained MindSpore Cell; or the path of an ``.onnx`` file, measured node by node on this processor.
        data: as for :func:`autocomp.search`; tensors are read on its evaluation samples.
        plan: ``point.plan``, a mapping or its text; None: the float network, without noise.
        device: for costs, and for how the runtime rounds. With ``cpu`` layers are measured, too.
        inputs: as for :func:`autocomp.search`, where there are no data.
        samples: fewer are read where their tensors would need too much memory.
        seed: of inputs that are made where there are no data. progress: as in :func:`autocomp.search`.

    Raises:
        TraceError, EvaluationError: the network cannot be read or run. TypeError, ValueError: a bad argument, or a plan
        for another network.
    """
    check("profile", net=net, plan=plan, device=device, samples=samples, seed=seed, progress=progress)
    if isinstance(net, (str, os.PathLike)):
        if plan is not None:
            raise ValueError(f"a plan is for a network in MindSpore, but got the file {os.fspath(net)}: leave plan out")
        return profile_file(net, data, inputs, samples, seed)
    chosen = plan_of(plan)
    chip, given = _with_formats(find_device(device), chosen), Data.coerce(data)
    arrays = inputs if inputs is None else example_inputs(inputs)
    job = prepare(as_float32(net), chip, given, arrays, _names(chosen), seed, progress, exact_bits=True)
    known = {knob.name for knob in job.space.knobs}
    unknown = sorted(set(chosen) - known)
    if unknown:
        raise ValueError(f"plan must choose for places of this network, but got {unknown[0]!r}")
    with counted("layers") as report:
        return Profiler(job.evaluator, chip, job.batch)(chosen, samples, report)


def is_here(device: Device) -> bool:
    """Whether it is this machine's processor."""
    return device.name.partition(":")[0] == CPU


def threads_of(device: Device) -> int:
    """``cpu:4`` has four."""
    text = device.name.partition(":")[2]
    return int(text) if text.isdigit() else 1


def plan_of(given: Any) -> Plan:
    if given is None:
        return Plan()
    return Plan.parse(given) if isinstance(given, str) else Plan(given)


def _with_formats(chip: Device, plan: Plan) -> Device:
    """The device with the formats of the plan, which another one may have offered."""
    texts = [str(split_value(value)[0]) for name, value in plan.items() if name.startswith("format/")]
    return replace(chip, formats=tuple(dict.fromkeys((*chip.formats, *map(Format.parse, texts)))))


def _names(plan: Plan) -> tuple[str, ...]:
    """Primitives that a search takes by itself, and those that the plan names."""
    named = (split_value(value)[1] for value in plan.values())
    return tuple(dict.fromkeys([*automatic(), *(name for name in named if name)]))


@dataclass(frozen=True)
class Profiler:
    """evaluator: of the network, with its samples. batch: for the predicted latency."""

    evaluator: PlanEvaluator
    device: Device
    batch: int = 1

    def __call__(
        self, plan: Plan, samples: int, progress: Callable[[int, int], None] = lambda done, count: None
    ) -> NetworkProfile:
        """samples: fewer are read where their tensors would need too much memory. progress: (layers done, of all)."""
        inputs = self._inputs(samples)
        plain, whole = self.evaluator.compress(Plan()), self.evaluator.compress(plan)
        layers = dict(self.evaluator.space.graph.layers)
        floats = self._tensors(plain, inputs, layers)
        compressed = self._tensors(whole, inputs, layers) if plan else {}
        output = self.evaluator.engine.outputs(plain, inputs)[0]
        tables = LayerCounter(self.device, self.evaluator.space, self.batch)([plan])
        costs = {one.name: (one.kind, row) for one, row, _ in tables.rows(plan)}
        times = self._times(whole) if is_here(self.device) else {}
        found = []
        for done, layer in enumerate(layers, 1):
            own = Plan({name: value for name, value in plan.items() if self._alone(name, layer)})
            noise = self._noise(own, layer, inputs, floats, output) if own else {}
            tensor = floats.get(layer)
            kind, row = costs.get(layer, ("", None))
            found.append(
                LayerProfile(
                    layer,
                    kind,
                    "" if row is None else row.format,
                    **statistics(tensor),
                    **noise,
                    accumulated_db=_kept_db(tensor, compressed.get(layer), whole, layer),
                    latency_ms=0.0 if row is None else row.latency_ms,
                    share=0.0 if row is None else tables.share(row, plan),
                    bound="" if row is None else row.bound,
                    memory_mb=None if row is None else row.memory_mb,
                    measured_ms=times.get(layer),
                )
            )
            progress(done, len(layers))
        total = signal_to_noise(output, self.evaluator.engine.outputs(whole, inputs)[0]) if plan else None
        return NetworkProfile(plan, self.device.name, tuple(found), len(inputs[0]), total, self._classes(whole))

    def _times(self, whole: CompressedWeights) -> dict[str, float]:
        """Layer -> milliseconds on this processor; empty where the network has no ONNX form."""
        evaluator = self.evaluator
        if not isinstance(evaluator.engine, OnnxEngine):
            return {}
        inputs = tuple(np.resize(x[: self.batch], (self.batch, *x.shape[1:])) for x in evaluator.inputs)
        graph, threads = evaluator.space.graph, threads_of(self.device)
        return layer_times(graph, evaluator.parameters, whole, inputs, threads)

    def accumulated(self, plan: Plan, samples: int) -> dict[str, float | None]:
        """Layer -> signal to noise of its output under the whole plan, in dB; None without noise. Layers whose output
        cannot be compared are left out."""
        inputs, layers = self._inputs(samples), dict(self.evaluator.space.graph.layers)
        whole = self.evaluator.compress(plan)
        floats = self._tensors(self.evaluator.compress(Plan()), inputs, layers)
        found = self._tensors(whole, inputs, layers)
        kept = {layer: _kept_db(floats.get(layer), found.get(layer), whole, layer) for layer in layers}
        return {layer: db if np.isfinite(db) else None for layer, db in kept.items() if db is not None}

    def classes(self, plan: Plan) -> tuple[ClassProfile, ...]:
        """How many samples of each class are right; empty without labels of classes."""
        return self._classes(self.evaluator.compress(plan))

    def _classes(self, whole: CompressedWeights) -> tuple[ClassProfile, ...]:
        judge = self.evaluator
        if judge.labels is None or not judge.classifies:
            return ()
        before, after = (
            judge.right(judge.plain_judged),
            judge.right(judge.judged(judge.engine.outputs(whole, judge.inputs))),
        )
        if before is None or after is None:
            return ()
        rows = {int(label): judge.labels == label for label in np.unique(judge.labels)}
        return tuple(
            ClassProfile(label, int(own.sum()), float(before[own].mean()), float(after[own].mean()))
            for label, own in rows.items()
        )

    def _inputs(self, samples: int) -> Arrays:
        graph = self.evaluator.space.graph
        each = sum(graph.nodes[i].elements for i in graph.layers.values())
        count = int(np.clip(MOST_ELEMENTS / max(each, 1), 1, samples))
        return tuple(array[:count] for array in self.evaluator.inputs)

    def _tensors(
        self, compressed: CompressedWeights, inputs: Arrays, layers: Mapping[str, int]
    ) -> dict[str, np.ndarray]:
        """Layer -> its output; layers that are replaced by others, or skipped, have none."""
        graph = compressed.graph or self.evaluator.space.graph
        own = {layer: graph.layers[layer] for layer in layers if layer in graph.layers}
        found = self.evaluator.engine.node_outputs(compressed, inputs, set(own.values())) if own else {}
        return {layer: found[i] for layer, i in own.items() if i in found}

    def _alone(self, name: str, layer: str) -> bool:
        """Whether a choice begins at this layer: its bits, other layers in its place, the channels of its group."""
        return any(knob.name == name and knob.layers[0] == layer for knob in self.evaluator.space.knobs)

    def _noise(
        self, own: Plan, layer: str, inputs: Arrays, floats: Mapping[str, np.ndarray], output: np.ndarray
    ) -> dict[str, float | None]:
        compressed = self.evaluator.compress(own)
        found = self._tensors(compressed, inputs, {layer: 0}).get(layer)
        alone = _kept_db(floats.get(layer), found, compressed, layer)
        network = signal_to_noise(output, self.evaluator.engine.outputs(compressed, inputs)[0])
        return {"alone_db": alone, "output_db": network}


def signal_to_noise(signal: np.ndarray, found: np.ndarray) -> float:
    """10 log10(|signal|^2 / |found - signal|^2), in dB; infinite where there is no noise."""
    noise = float(np.square(found.astype(np.float64) - signal).sum())
    power = float(np.square(signal.astype(np.float64)).sum())
    return float(10 * np.log10(power / noise)) if noise > 0 and power > 0 else (np.inf if noise == 0 else -np.inf)


def _kept_db(signal: np.ndarray | None, found: np.ndarray | None, whole: CompressedWeights, layer: str) -> float | None:
    """Over the channels that the plan keeps; None where the tensors do not correspond."""
    if signal is None or found is None:
        return None
    if signal.shape != found.shape:
        kept = np.asarray(whole.layers[layer].rows)
        axis = next((i for i, size in enumerate(signal.shape) if i and size == len(kept)), None)
        signal = signal if axis is None else np.compress(kept, signal, axis)
    return signal_to_noise(signal, found) if signal.shape == found.shape else None
