"""Registers primitives and finds them by name."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from autocomp.errors import NoEffectError, nearest
from autocomp.primitives.arguments import RULES
from autocomp.primitives.numerics.divided_inputs import AWQ, DYNAMIC, SMOOTH, STRENGTHS, SUPPRESSION
from autocomp.primitives.numerics.reconstruction import Moments
from autocomp.primitives.pruning.channel_pruning import ChannelPruning, in_multiples
from autocomp.primitives.pruning.head_knobs import HeadKnobs
from autocomp.primitives.pruning.rated_pruning import RATES, RatedPruning
from autocomp.primitives.pruning.sparsity_knobs import SparsityKnobs
from autocomp.primitives.quantization.format_knobs import TrainedFormats
from autocomp.primitives.quantization.named_formats import NamedFormats
from autocomp.primitives.quantization.product_knobs import CACHE, PRODUCTS, CacheKnobs, ProductKnobs
from autocomp.primitives.quantization.rtn import RTN
from autocomp.primitives.replacement.activation_knobs import ActivationKnobs
from autocomp.primitives.replacement.convolution_knobs import GROUPED, SEPARABLE, SMALLER_KERNEL
from autocomp.primitives.replacement.ghost_knobs import GhostKnobs
from autocomp.primitives.replacement.low_rank_knobs import LowRankKnobs
from autocomp.primitives.replacement.skip_knobs import SkipKnobs
from autocomp.process.plugins import add_plugins
from autocomp.rules import checked
from autocomp.search_spaces import Knob, NetworkGraph, SearchSpace

from .base import Primitive
from .choices import Choices
from .merging import merged
from .restrictions import restricted

# their values are offered where the device gains from them
OPERATORS = ("low-rank", "ghost", "smaller-kernel", "grouped", "separable", "activations")
DEPTH = ("block-skipping",)
DEVICE_DEPENDENT = ("sparsity", PRODUCTS)  # "auto" takes them where the device gains from them
PLUGINS = "autocomp.primitives"  # the group of entry points

_REGISTRY: dict[str, Primitive] = {}
_AUTOMATIC: list[str] = []


@checked(RULES["register"])
def register(primitive: Primitive, automatic: bool = True) -> None:
    """Adds a primitive, also after import. ValueError for a name that is already registered.

    automatic: whether ``primitives="auto"`` includes it. False for one that needs training.
    """
    if primitive.name in _REGISTRY:
        raise ValueError(f"a primitive called {primitive.name!r} is already registered")
    _REGISTRY[primitive.name] = primitive
    if automatic:
        _AUTOMATIC.append(primitive.name)


def _add(name: str, given: Any) -> None:
    """Registers an installed package's primitive, or the class of one; its module may have registered it already."""
    made = given() if isinstance(given, type) else given
    if not callable(getattr(made, "knobs", None)):
        raise TypeError(f"a primitive must have a method knobs, but {name} is {made!r}")
    if _REGISTRY.get(made.name) is not made:
        register(made, automatic=getattr(made, "automatic", True))


def primitive(name: str) -> Primitive:
    add_plugins(PLUGINS, _add)
    if name not in _REGISTRY:
        known = (*sorted(_REGISTRY), *GROUPS)
        raise ValueError(f"unknown primitive {name!r}; known: {', '.join(known)}{nearest(name, known)}")
    return _REGISTRY[name]


def primitives() -> tuple[str, ...]:
    add_plugins(PLUGINS, _add)
    return tuple(_REGISTRY)


def automatic() -> tuple[str, ...]:
    """Names of the primitives that ``primitives="auto"`` includes."""
    add_plugins(PLUGINS, _add)
    return tuple(_AUTOMATIC)


def search_space(
    graph: NetworkGraph,
    parameters: Mapping[str, np.ndarray],
    choices: Choices,
    moments: Mapping[str, Moments] | None = None,
) -> SearchSpace:
    """All knobs of the primitives that are chosen from."""
    names, formats, channel_divisor = choices.primitives, choices.formats, choices.channel_divisor
    asked = (names,) if isinstance(names, str) else tuple(names)  # a group's members need not all find something
    knobs: list[Knob] = []
    for name in chosen(choices):
        made = RatedPruning(name, choices.importance[name]) if name in choices.importance else primitive(name)
        if (lacking := _lacking(name, choices)) and name in asked:
            raise NoEffectError(lacking)
        if lacking:
            continue
        try:
            offered = (*formats, *choices.low_formats) if getattr(made, "low_bits", False) else formats
            offered = (*offered, *choices.group_formats) if getattr(made, "in_groups", False) else offered
            found = made.knobs(graph, parameters, offered, channel_divisor, moments or {})
        except NoEffectError:
            if name in asked:
                raise
        else:
            paying = [one for knob in found if (one := _paying(knob, choices)) is not None]
            able = [one for knob in paying if (one := _able(graph, knob, choices)) is not None]
            knobs += [one for knob in able if (one := _as_device_cuts(graph, knob, choices)) is not None]
            if not knobs and found and names != "auto" and names != "pruning" and name not in OPERATORS:
                raise NoEffectError(
                    f"this device cuts in multiples of {channel_divisor} channels, and no channel group has more than "
                    "that"
                )
    excluded, knobs = choices.excluded, _apart(knobs, asked)
    every, knobs = bool(knobs), [knob for knob in knobs if not set(knob.layers) & excluded]
    if every and not knobs:
        raise NoEffectError(f"there is nothing to compress: all {len(excluded)} layers are excluded or frozen")
    every, knobs = bool(knobs), restricted(knobs, choices.restrictions)
    if every and not knobs:
        raise NoEffectError("there is nothing to compress: the restrictions leave every layer as it is")
    if not knobs and set(chosen(choices)) <= {*OPERATORS, *DEPTH}:
        raise NoEffectError("there is nothing to compress: no other layers make this network faster or smaller here")
    if not knobs:
        raise NoEffectError(
            "there is nothing to compress: the network has no nn.Conv2d and no nn.Dense that reads its weight as it is"
        )
    every_one = merged(_with_zeros(knobs), choices.ordered, trainers(), choices.trains, named(), dividing(), (DYNAMIC,))
    found = _dividing(graph, every_one)
    if not found:
        raise NoEffectError("there is nothing to compress: plans may cut every layer to an odd number of channels")
    return SearchSpace(graph, found)


def _lacking(name: str, choices: Choices) -> str:
    """What the device's runtime does not do, in a sentence, without which the primitive has no effect; "" for none."""
    if name == DYNAMIC and not choices.ranges_of_rows:
        return (
            f"{name} gives each row of an input a range of its own, which this device's runtime does not compute: "
            "onnxruntime does, on a cpu that was measured"
        )
    if name == PRODUCTS and not choices.quantizes_tensors:
        return (
            f"{name} rounds both operands of a product, which needs a network with an ONNX form, and a runtime that "
            "keeps tensors in integers: onnxruntime, on a cpu that was measured, or TensorRT"
        )
    return _without_cache(choices) if name == CACHE else ""


def refuses_cache(context: int | None, cache_bits: int | None) -> str:
    """Why plans cannot choose the bits of the cache, for arguments of a search; "" where they can."""
    if context is None:
        return f"{CACHE} chooses the bits of a language model's cache, which has a context: give context=4096, too"
    if cache_bits is not None:
        return f"{CACHE} chooses the bits of the cache, which cache_bits={cache_bits} fixes: leave one of them out"
    return ""


def _without_cache(choices: Choices) -> str:
    """The same, and where the network lacks what it needs."""
    if refused := refuses_cache(choices.context, choices.cache_bits):
        return refused
    need = f"{CACHE} rounds what products of attention read, which needs a network with an ONNX form"
    return "" if choices.has_onnx_form else need


def _apart(knobs: list[Knob], asked: Collection[str]) -> list[Knob]:
    """Without products in integers whose operands a plan may round in the cache. NoEffectError where both are asked
    for."""
    cached = {name for knob in knobs if knob.primitive == CACHE for name in knob.layers}
    if cached and {CACHE, PRODUCTS} <= {*asked}:
        raise NoEffectError(f"{CACHE} and {PRODUCTS} round the same keys and values: ask for one of them")
    return [knob for knob in knobs if knob.primitive != PRODUCTS or not cached & {*knob.layers}]


def _with_zeros(knobs: Sequence[Knob]) -> list[Knob]:
    """The knobs without weights of 1 bit, which have no zero, in layers of which half of the weights may be zero."""
    sparse = {layer for knob in knobs if knob.kind == "sparsity" for layer in knob.layers}
    found = []
    for knob in knobs:
        if knob.kind == "format" and sparse.intersection(knob.layers):
            pairs = zip(knob.values, knob.formats, strict=True)
            knob = replace(knob, values=tuple(value for value, some in pairs if some.weight_bits > 1))
        found.append(knob)
    return [knob for knob in found if len(knob.values) > 1]


def _dividing(graph: NetworkGraph, knobs: tuple[Knob, ...]) -> tuple[Knob, ...]:
    """The knobs without chains that need a multiple of a number of channels where plans may cut the layer between."""
    tables = SearchSpace(graph, knobs).channel_tables

    def divides(node: int, number: int) -> bool:
        return not any((removed % number).any() for _, removed in tables[node])

    found = []
    for knob in knobs:
        places = [graph.layers[layer] for layer in knob.layers] if knob.chains else []
        odd = {
            value
            for value, chain in knob.chains.items()
            for i in places
            if not (divides(i, chain.multiple) and divides(graph.nodes[i].inputs[0], chain.input_multiple))
        }
        values = tuple(value for value in knob.values if value not in odd)
        if len(values) > 1:
            found.append(knob if not odd else replace(knob, values=values))
    return tuple(found)


def _paying(knob: Knob, choices: Choices) -> Knob | None:
    """The knob without formats whose scales of the input do not pay, where that was measured; None where only float is
    left."""
    if choices.paying is None or knob.primitive not in dividing():
        return knob
    pays = [value for value in knob.values[1:] if (knob.layers[0], str(value), knob.primitive) in choices.paying]
    return replace(knob, values=(knob.values[0], *pays)) if pays else None


def _as_device_cuts(graph: NetworkGraph, knob: Knob, choices: Choices) -> Knob | None:
    """The knob with the values that the device cuts, or gains from; None where there are none."""
    if knob.primitive in (*DEVICE_DEPENDENT, *OPERATORS) and choices.gains is not None:
        gains = choices.gains.get(knob.name, ())
        values = [value for value in knob.values[1:] if value in gains]
        return replace(knob, values=(knob.values[0], *values)) if values else None
    return in_multiples(graph, knob, choices.channel_divisor) if choices.strict_divisor else knob


def _able(graph: NetworkGraph, knob: Knob, choices: Choices) -> Knob | None:
    """The knob with the formats that the runtime executes or its files hold; None where only float is left."""
    if knob.kind != "format" or not graph.embeddings.keys() & set(knob.layers):
        return with_float_inputs(knob, choices.float_layers)
    tied = graph.nodes[graph.embeddings[knob.layers[0]]].attributes.tied and not choices.tied_tables
    held = [some.weight_bits in choices.table_bits and not tied for some in knob.formats[1:]]
    values = tuple(value for value, holds in zip(knob.values[1:], held, strict=True) if holds)
    return replace(knob, values=(knob.values[0], *values)) if values else None


def with_float_inputs(knob: Knob, layers: frozenset[str]) -> Knob | None:
    """The knob without formats that round the inputs of these layers; None where only float is left."""
    if knob.kind != "format" or not layers.intersection(knob.layers):
        return knob
    values = tuple(value for value, some in zip(knob.values, knob.formats, strict=True) if not some.in_integers)
    return None if len(values) < 2 else knob if values == knob.values else replace(knob, values=values)


def chosen(choices: Choices) -> tuple[str, ...]:
    """Names of the primitives that are chosen from: those of groups, and those that train where there is a training
    set."""
    if choices.primitives == "auto":
        gaining = DEVICE_DEPENDENT if choices.gains else ()
        scaling = AUTOMATIC_DIVIDING if choices.paying else ()
        holding = () if _without_cache(choices) else (CACHE,)
        return (*automatic(), *gaining, *scaling, *holding, *(AUTOMATIC_TRAINERS if choices.trains else ()))
    return expanded((choices.primitives,) if isinstance(choices.primitives, str) else choices.primitives)


def expanded(names: Iterable[str]) -> tuple[str, ...]:
    """The names, with those of its primitives in the place of a group."""
    return tuple(dict.fromkeys(one for name in names for one in GROUPS.get(name, (name,))))


def known_names(given: str | Iterable[str]) -> str | tuple[str, ...]:
    """ "auto", or names of primitives and of groups; ValueError for one that is neither."""
    if given == "auto":
        return "auto"
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if name not in GROUPS:
            primitive(name)
    return names


def trainers() -> frozenset[str]:
    """Names of the primitives that carry a choice out by training."""
    return frozenset(name for name, made in _REGISTRY.items() if getattr(made, "trains", False))


def named() -> frozenset[str]:
    """Names of the primitives whose formats are values of their own, beside those of others."""
    return frozenset(name for name, made in _REGISTRY.items() if getattr(made, "named", False))


def dividing() -> frozenset[str]:
    """Names of the primitives that divide layers' inputs by scales."""
    return frozenset(name for name, made in _REGISTRY.items() if getattr(made, "divides", False))


def rated() -> frozenset[str]:
    """Names of the primitives that need importances measured on labelled samples."""
    return frozenset(name for name, made in _REGISTRY.items() if getattr(made, "needs_labels", False))


AUTOMATIC_TRAINERS = ("lsq", "slb")
AUTOMATIC_DIVIDING = (SMOOTH, DYNAMIC, AWQ)  # where they pay
GROUPS = {
    "post-training": ("rtn", "adaround"),
    "smoothing": (SMOOTH, DYNAMIC, *(f"{SMOOTH}-{strength}" for strength in STRENGTHS)),
    "training": ("lsq", "simqat", "pact", "slb"),
    "operators": OPERATORS,
    "depth": DEPTH,
    "pruning": ("channel-pruning", "magnitude", "geometric-median", "taylor", "scop"),
}

register(ChannelPruning())
register(RTN())
register(TrainedFormats("adaround", "AdaRound", trains=False))
register(NamedFormats("gptq", "GPTQ", in_groups=True), automatic=False)
register(NamedFormats(AWQ, "AWQ", in_groups=True), automatic=False)
register(NamedFormats(SMOOTH, "SmoothQuant", module="smooth_quant"), automatic=False)
register(NamedFormats(DYNAMIC, "SmoothQuant", module="smooth_quant", settings=(("dynamic", True),)), automatic=False)
for _strength in STRENGTHS:
    _settings = (("alpha", _strength),)
    _smooth = NamedFormats(f"{SMOOTH}-{_strength}", "SmoothQuant", module="smooth_quant", settings=_settings)
    register(_smooth, automatic=False)
_module = "transformations.outlier_suppression"
register(NamedFormats(SUPPRESSION, "OutlierSuppression", module=_module), automatic=False)
register(ProductKnobs(), automatic=False)
register(CacheKnobs(), automatic=False)
register(HeadKnobs(), automatic=False)
register(SparsityKnobs(), automatic=False)
register(LowRankKnobs(), automatic=False)
register(GhostKnobs(), automatic=False)
register(SMALLER_KERNEL, automatic=False)
register(GROUPED, automatic=False)
register(SEPARABLE, automatic=False)
register(ActivationKnobs(), automatic=False)
register(SkipKnobs(), automatic=False)
register(TrainedFormats("simqat", "SimQAT"), automatic=False)
register(TrainedFormats("lsq", "LSQ"), automatic=False)
register(TrainedFormats("pact", "PACT"), automatic=False)
register(TrainedFormats("slb", "SLB", most_bits=4, least_bits=1, low_bits=True), automatic=False)
for _name in (*RATES, "taylor", "fisher", "scop"):
    register(RatedPruning(_name), automatic=False)
