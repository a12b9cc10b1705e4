"""Computed once for a search: ranges and moments of layer inputs. Also how BatchNorm's statistics move under a plan."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from autocomp.primitives.numerics.activation_offsets import corrected, mean_difference
from autocomp.primitives.numerics.chain_layers import GHOST, ChainSamples
from autocomp.primitives.numerics.divided_inputs import InputScaling, Key, TensorSamples, input_scaling, takes
from autocomp.primitives.numerics.patches import (
    PATCHES,
    Hessian,
    PatchSums,
    narrow_layers,
    patch_width,
    sample_around,
    sample_patches,
)
from autocomp.primitives.numerics.plan_compressor import (
    CompressedWeights,
    Corrects,
    Parameters,
    Statistics,
    kept_channels,
)
from autocomp.primitives.numerics.quantizers import ActivationQuantizer, fit_activation
from autocomp.primitives.numerics.reconstruction import MOST_CHANNELS, Moments, moments_of
from autocomp.primitives.numerics.scale_takers import SharedInput, shared_inputs
from autocomp.process.deadline import Deadline
from autocomp.search_spaces import FLOAT_BITS, Activation, Format, NetworkGraph, SearchSpace, with_relus

from .engines import Arrays, BatchStatistics, Engine

SAMPLES = 50_000  # values of a tensor that its range is fitted to
ROWS = 20_000  # pixels of a layer's input whose moments are computed
LEAST_SAMPLES = 4  # of the calibration samples, however short the time is
PASSES, PASSES_SHARE = 6, 0.5  # passes over them, in runs of the network; their share of the time that is left
SCALES_SHARE = 0.25  # of the time that is left, for comparing scales of inputs
SAMPLED_PATCHES = 256, 2_000  # of a layer that may be replaced: fewest and most
SAMPLED_NUMBERS, ALL_NUMBERS = 2_000_000, 25_000_000  # in them: of a layer, and of all layers together
AROUND = 9  # times fewer patches where those around each are needed, too
COMPARED_ROWS = 256  # of a tensor, on which the scales of its channels are compared
ACTIVATION_IMAGES = 32  # on which ReLUs are compared with the activations in whose place they stand
NEAR = 1.2  # times its own scale, at most, that a tensor has to have that of a concatenation
CHUNK = 32  # images at a time: all layer inputs of a chunk are in memory at once


def calibration_within(
    engine: Engine, plain: CompressedWeights, calibration: Arrays, deadline: Deadline | None
) -> Arrays:
    """All calibration samples, or the first of them, where the passes over all would take too much of the time limit:
    half of their number, a quarter and so on, at least 4."""
    if deadline is None or deadline.seconds is None or len(calibration[0]) <= LEAST_SAMPLES:
        return calibration

    def seconds(samples: int) -> float:
        running = Deadline()
        engine.layer_inputs(plain, tuple(array[:samples] for array in calibration))
        return running.spent

    count, alone = len(calibration[0]), seconds(1)
    if count * PASSES * alone <= PASSES_SHARE * deadline.left:
        return calibration
    each = max(0.0, seconds(LEAST_SAMPLES) - alone) / (LEAST_SAMPLES - 1)
    while count > LEAST_SAMPLES:
        begun = max(0.0, alone - each) * math.ceil(count / CHUNK)  # what a pass takes for however few samples
        if PASSES * (begun + each * count) <= PASSES_SHARE * deadline.left:
            break
        count = max(count // 2, LEAST_SAMPLES)
    return tuple(array[:count] for array in calibration)


def calibrate_ranges(
    engine: Engine, space: SearchSpace, plain: CompressedWeights, inputs: Arrays, seed: int = 0, symmetric: bool = False
) -> dict[tuple[str, int], ActivationQuantizer]:
    """(layer, bits) -> quantizer, for every number of bits that a knob offers for a layer's input.

    plain: the float network's weights; inputs: arrays (n, ...). symmetric: ranges are symmetric around zero.
    """
    wanted = {
        layer: bits
        for knob in space.knobs
        if knob.kind == "format"
        for layer in knob.layers
        if layer in space.graph.layers
        if (bits := sorted({f.activation_bits for f in knob.formats} - {FLOAT_BITS}))
    }
    readers = _readers(space.graph, wanted)
    first = {layers[0]: layers for layers in readers}
    lows, highs = dict.fromkeys(first, 0.0), dict.fromkeys(first, 0.0)
    samples: dict[str, list[np.ndarray]] = {layer: [] for layer in first}
    rng = np.random.default_rng(seed)
    for layer, values, share in _read(engine, plain, inputs, first):
        lows[layer] = min(lows[layer], float(values.min()))
        highs[layer] = max(highs[layer], float(values.max()))
        count = min(values.size, math.ceil(SAMPLES * share))
        samples[layer].append(rng.choice(values.reshape(-1), count, replace=False))
    return {
        (reader, bits): quantizer
        for layer, layers in first.items()
        for bits in sorted({bits for reader in layers for bits in wanted[reader]})
        for quantizer in [fit_activation(np.concatenate(samples[layer]), lows[layer], highs[layer], bits, symmetric)]
        for reader in layers
        if bits in wanted[reader]
    }


def calibrate_tensors(
    engine: Engine,
    graph: NetworkGraph,
    plain: CompressedWeights,
    inputs: Arrays,
    seed: int = 0,
    symmetric: bool = False,
    products: Collection[str] = (),
    relus: Collection[Activation] = (),
) -> dict[int, ActivationQuantizer]:
    """Node -> 8-bit quantizer of its output, for all that some plan may keep in integers.

    The arguments are those of :func:`calibrate_ranges`. products: those of two activations that some plan runs in
    integers. relus: activations that some plan puts a ReLU in the place of. Empty where the engine cannot read nodes.
    """
    wanted: set[int] = set()
    for one in (graph, with_relus(graph, relus)) if relus else (graph,):
        flow = one.integer_flow
        found = {flow.source[i] for i in flow.tensors(dict.fromkeys((*one.layers, *products), True))}
        wanted |= found & flow.shared if symmetric else found
    lows, highs = dict.fromkeys(wanted, 0.0), dict.fromkeys(wanted, 0.0)
    samples: dict[int, list[np.ndarray]] = {i: [] for i in wanted}
    rng, count = np.random.default_rng(seed), len(inputs[0])
    for start in range(0, count if wanted else 0, CHUNK):
        chunk = tuple(array[start : start + CHUNK] for array in inputs)
        for i, values in engine.node_outputs(plain, chunk, wanted).items():
            lows[i], highs[i] = min(lows[i], float(values.min())), max(highs[i], float(values.max()))
            some = min(values.size, math.ceil(SAMPLES * len(chunk[0]) / count))
            samples[i].append(rng.choice(values.reshape(-1), some, replace=False))
    quantizers = {
        i: fit_activation(np.concatenate(found), lows[i], highs[i], 8, symmetric)
        for i, found in samples.items()
        if found
    }
    return as_concatenated(graph, quantizers)


def with_tensors(
    engine: Engine,
    graph: NetworkGraph,
    trained: CompressedWeights,
    inputs: Arrays,
    symmetric: bool = False,
    products: Collection[str] = (),
) -> CompressedWeights:
    """A trained network whose tensors between layers in integers are rounded, too.

    A tensor has the trained quantizer of the first layer that reads it with 8 bits; others are calibrated on
    ``inputs``, arrays (n, ...). products: those of two activations that run in integers.
    """
    calibrated = calibrate_tensors(engine, graph, trained, inputs, symmetric=symmetric, products=products)
    flow, quantizers = graph.integer_flow, dict(calibrated)
    fixed = set()
    for layer, i in reversed(graph.layers.items()):
        quantizer = trained.layers[layer].activation
        if quantizer is not None and quantizer.bits == 8:
            fixed.add(source := flow.source[graph.nodes[i].inputs[0]])
            quantizers[source] = quantizer
    integers = {
        layer: state.activation is not None and state.quantized is not None and state.quantized.bits <= 8
        for layer, state in trained.layers.items()
    }
    integers |= dict.fromkeys(products, True)
    quantizers = as_concatenated(graph, quantizers, fixed)
    chosen = {i: flow.source[i] for i in flow.tensors(integers)}
    return replace(trained, tensors={i: quantizers[s] for i, s in chosen.items() if s in calibrated})


def as_concatenated(
    graph: NetworkGraph, quantizers: Mapping[int, ActivationQuantizer], fixed: Collection[int] = ()
) -> dict[int, ActivationQuantizer]:
    """The quantizers, by node, with which concatenations move numbers instead of rounding them again.

    Where a tensor and a concatenation that reads it have nearly the same scale, both have the larger one. What a
    concatenation alone reads is rounded as its result is. Both where they have the same zero point: with that of its
    result a tensor behind a ReLU would have levels below zero, and the ReLU a kernel of its own. fixed: nodes whose
    quantizers stay.
    """
    found, flow = dict(quantizers), graph.integer_flow
    joins = [i for i, node in enumerate(graph.nodes) if node.op == "Concat" and flow.end[i] in found]
    pairs = [
        (source, flow.end[i], _reads_alone(graph, source, i))
        for i in joins
        for source in sorted({flow.source[k] for k in graph.nodes[i].inputs} & found.keys())
        if found[source].zero_point == found[flow.end[i]].zero_point
    ]
    pairs.reverse()  # what is joined last has the widest range
    for source, joined, alone in pairs:
        if alone:
            found[source] = found[joined]
    near = [(source, joined) for source, joined, alone in pairs if not alone]
    while any(_shares(found, quantizers, pair, fixed) for pair in near):
        pass
    for source, joined, alone in pairs:
        if alone:
            found[source] = found[joined]
    return found


def _shares(
    found: dict[int, ActivationQuantizer],
    own: Mapping[int, ActivationQuantizer],
    pair: tuple[int, int],
    fixed: Collection[int],
) -> bool:
    """Gives the smaller scale the other one, if that is at most ``NEAR`` times as large; whether it did."""
    small, large = sorted(pair, key=lambda i: found[i].scale)
    far = found[large].scale > NEAR * own[small].scale
    if far or small in fixed or found[small].scale == found[large].scale:
        return False
    found[small] = found[large]
    return True


def _reads_alone(graph: NetworkGraph, tensor: int, reader: int) -> bool:
    """Whether one node alone reads a tensor, maybe moved."""
    source = graph.integer_flow.source
    moved = [k for k in range(len(graph.nodes)) if source[k] == tensor]
    readers = {one for k in moved for one in graph.consumers[k] if source[one] != tensor}
    return readers == {reader} and not any(k in graph.outputs for k in moved)


def shared_ranges(
    graph: NetworkGraph,
    ranges: Mapping[tuple[str, int], ActivationQuantizer],
    tensors: Mapping[int, ActivationQuantizer],
) -> dict[tuple[str, int], ActivationQuantizer]:
    """The ranges of layers' inputs; with 8 bits those of the tensor that a layer reads, so that it is rounded once."""
    found, flow = dict(ranges), graph.integer_flow
    for layer in graph.layers:
        sources = {flow.source[node.inputs[0]] for node in graph.calls(layer)}
        if len(sources) == 1 and (layer, 8) in found and (source := sources.pop()) in tensors:
            found[layer, 8] = tensors[source]
    return found


def _readers(graph: NetworkGraph, layers: Iterable[str]) -> list[list[str]]:
    """Groups of layers that read the same tensors. A group shares a quantizer, so that each tensor is rounded once."""
    found: dict[tuple[tuple[int, int], ...], list[str]] = {}
    for layer in layers:
        read = tuple((node.inputs[0], node.arguments[0].part) for node in graph.calls(layer))
        found.setdefault(read, []).append(layer)
    return list(found.values())


def _read(
    engine: Engine, plain: CompressedWeights, inputs: Arrays, layers: Collection[str]
) -> Iterator[tuple[str, np.ndarray, float]]:
    """A layer, the input of one of its calls for some images, and the share of all its inputs that this is."""
    if not layers:
        return
    for start in range(0, count := len(inputs[0]), CHUNK):
        chunk = tuple(array[start : start + CHUNK] for array in inputs)
        for layer, calls in engine.layer_inputs(plain, chunk).items():
            if layer in layers:
                yield from ((layer, values, len(chunk[0]) / count / len(calls)) for values in calls)


def layer_moments(
    engine: Engine, graph: NetworkGraph, plain: CompressedWeights, inputs: Arrays, seed: int = 0
) -> dict[str, Moments]:
    """Layer -> moments of its input over images and pixels, for layers with at most 2,048 input channels in one
    group."""
    nodes = {layer: graph.nodes[i] for layer, i in graph.layers.items()}
    wanted = {
        layer
        for layer, node in nodes.items()
        if node.groups == 1 and len(units := graph.input_units(node)) <= MOST_CHANNELS and (units >= 0).any()
    }
    rows: dict[str, list[np.ndarray]] = {layer: [] for layer in wanted}
    rng = np.random.default_rng(seed)
    for layer, values, share in _read(engine, plain, inputs, wanted):
        pixels = values if nodes[layer].kind == "dense" else np.moveaxis(values, 1, -1)
        pixels = pixels.reshape(-1, pixels.shape[-1])
        count = min(len(pixels), math.ceil(ROWS * share))
        rows[layer].append(pixels[rng.choice(len(pixels), count, replace=False)])
    return {layer: moments_of(np.concatenate(found)) for layer, found in rows.items() if found}


def input_scalings(
    engine: Engine,
    graph: NetworkGraph,
    plain: CompressedWeights,
    inputs: Arrays,
    offers: Sequence[tuple[str, Format]],
    seed: int = 0,
    symmetric: bool = False,
    deadline: Deadline | None = None,
) -> dict[Key, InputScaling]:
    """Layer, format, primitive -> the scales of its input, for dense layers that run once.

    offers: primitives that divide inputs, and formats. symmetric: whether ranges are symmetric around zero. deadline:
    the last layers get none where they would take more than a quarter of the time that is left.
    """
    within = (deadline or Deadline()).part(SCALES_SHARE)
    offers = [(primitive, some) for primitive, some in offers if takes(primitive, some)]
    firsts = {shared.layers[0]: shared for shared in shared_inputs(graph)} if offers else {}
    found: dict[Key, InputScaling] = {}
    for first, seen in _tensor_samples(engine, plain, inputs, firsts, seed).items():
        layers = firsts[first].layers
        weights = [plain.layers[layer].weight for layer in layers]
        for primitive, some in offers:
            scaling = input_scaling(primitive, some, weights, seen, symmetric)
            found |= {(layer, str(some), primitive): scaling for layer in layers}
        if within.passed:
            break
    return found


def _tensor_samples(
    engine: Engine, plain: CompressedWeights, inputs: Arrays, firsts: Mapping[str, SharedInput], seed: int
) -> dict[str, TensorSamples]:
    rows: dict[str, list[np.ndarray]] = {layer: [] for layer in firsts}
    lows = {layer: np.full(shared.width, np.inf, np.float32) for layer, shared in firsts.items()}
    highs = {layer: -low for layer, low in lows.items()}
    sums = {layer: np.zeros(shared.width) for layer, shared in firsts.items()}
    counts, rng = dict.fromkeys(firsts, 0), np.random.default_rng(seed)
    for layer, values, share in _read(engine, plain, inputs, firsts):
        x = values.reshape(-1, firsts[layer].width)
        count = min(len(x), math.ceil(COMPARED_ROWS * share))
        rows[layer].append(x[rng.choice(len(x), count, replace=False)])
        lows[layer], highs[layer] = np.minimum(lows[layer], x.min(0)), np.maximum(highs[layer], x.max(0))
        sums[layer] += np.abs(x).sum(0, dtype=np.float64)
        counts[layer] += len(x)
    return {
        layer: TensorSamples(
            np.concatenate(some), lows[layer], highs[layer], (sums[layer] / counts[layer]).astype(np.float32)
        )
        for layer, some in rows.items()
        if some
    }


def rounded_layers(space: SearchSpace, below: int = 8) -> frozenset[str]:
    """Layers whose weights a knob may round to fewer than ``below`` bits, or make sparse."""
    formats = (knob for knob in space.knobs if knob.kind == "format")
    knobs = [knob for knob in formats if any(f.weight_bits < below for f in knob.formats)]
    knobs += [knob for knob in space.knobs if knob.kind == "sparsity"]
    return frozenset(layer for knob in knobs for layer in knob.layers)


def layer_hessians(
    engine: Engine,
    graph: NetworkGraph,
    plain: CompressedWeights,
    inputs: Arrays,
    layers: Collection[str],
    seed: int = 0,
) -> dict[str, Hessian]:
    """Layer -> moments of the patches that its weight is multiplied with.

    It takes those of ``layers`` whose patches have at most 4,608 numbers, the narrowest first until the memory for them
    is used up.
    """
    sums = {layer: PatchSums() for layer in narrow_layers(graph, layers)}
    rng = np.random.default_rng(seed)
    for layer, values, share in _read(engine, plain, inputs, sums):
        node = graph.nodes[graph.layers[layer]]
        sums[layer].add(sample_patches(node, values, math.ceil(PATCHES * share), rng))
    return {layer: sums[layer].moments() for layer in graph.layers if layer in sums and sums[layer].count}


def chain_samples(
    engine: Engine, space: SearchSpace, plain: CompressedWeights, inputs: Arrays, seed: int = 0
) -> ChainSamples:
    """Samples of the inputs of layers that chains may replace: at most 2,000 for each, fewer of wide ones."""
    ghosts = {layer: [chain.form == GHOST for chain in chains] for layer, chains in space.chains.items()}
    patches: dict[str, list[np.ndarray]] = {layer: [] for layer, found in ghosts.items() if not all(found)}
    around: dict[str, list[np.ndarray]] = {layer: [] for layer, found in ghosts.items() if any(found)}
    rng, most = np.random.default_rng(seed), min(SAMPLED_NUMBERS, ALL_NUMBERS // max(len(ghosts), 1))
    for layer, values, share in _read(engine, plain, inputs, ghosts):
        node = space.graph.nodes[space.graph.layers[layer]]
        count = float(np.clip(most // patch_width(node), *SAMPLED_PATCHES))
        if layer in patches:
            patches[layer].append(sample_patches(node, values, math.ceil(count * share), rng)[:, 0])
        if layer in around:
            around[layer].append(sample_around(node, values, math.ceil(count / AROUND * share), rng))
    joined = ({layer: np.concatenate(some) for layer, some in found.items() if some} for found in (patches, around))
    return ChainSamples(*joined)


def correction(engine: Engine, space: SearchSpace, plain: CompressedWeights, inputs: Arrays) -> Corrects | None:
    """Puts what a plan's ReLUs shift, as the first images tell, into its biases; None where the space has no ReLUs, or
    the engine cannot read nodes."""
    graph, relus = space.graph, tuple(space.activations.values())
    found: dict[str, list[np.ndarray]] = {one.name: [] for one in relus}
    wanted = {i for one in relus for i in (one.source, one.output)}
    for i in range(min(len(inputs[0]), ACTIVATION_IMAGES) if relus else 0):
        values = engine.node_outputs(plain, tuple(array[i : i + 1] for array in inputs), wanted)
        for one in relus:
            if values:
                axis = graph.nodes[one.output].channel_axis
                found[one.name].append(mean_difference(values[one.source], values[one.output], axis))
    offsets = {name: np.mean(parts, 0).astype(np.float32) for name, parts in found.items() if parts}
    return partial(corrected, offsets) if offsets else None


def moved_statistics(
    graph: NetworkGraph, parameters: Parameters, kept: np.ndarray, plain: BatchStatistics, found: BatchStatistics
) -> Statistics:
    """BatchNorm's running statistics, moved by the same amount as the batch's from the float network to the plan.

        mean' = mean + (m_plan - m_float) * sqrt(var / v_float)        var' = var * v_plan / v_float

    Statistics that are estimated again on a batch (as in Li et al., ECCV 2020) contain that batch's own deviation. Here
    the float network on the same batch removes this deviation. So a small batch is enough, and a plan that changes
    nothing moves nothing.
    """
    moved = {}
    for node in graph.nodes:
        if node.kind != "batchnorm" or node.layer is None or node.layer not in found:
            continue
        norm = node.normalization
        mean, variance = np.array(parameters[norm.mean]), np.array(parameters[norm.variance])
        mine = kept_channels(node.units, kept)
        epsilon = np.float32(norm.epsilon)
        (m_float, v_float), (m_plan, v_plan) = plain[node.layer], found[node.layer]
        ratio = (variance[mine] + epsilon) / (v_float[mine] + epsilon)
        mean[mine] += (m_plan - m_float[mine]) * np.sqrt(ratio)
        variance[mine] *= (v_plan + epsilon) / (v_float[mine] + epsilon)
        moved[node.layer] = (mean.astype(np.float32), variance.astype(np.float32))
    return moved
