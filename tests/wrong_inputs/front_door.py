"""Of the front door: search and its companions, data, budgets, fronts and their points."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import autocomp
import autocomp.nas
from autocomp.evaluators.fine_tuning import FineTuning
from autocomp.problem.budget import Budget
from autocomp.results.front import ParetoSet
from autocomp.search_spaces import Plan
from autocomp.study.executors import InProcess
from autocomp.study.study import Study
from tests import fronts
from tests.networks import Residual
from tests.toy import toy

from .cases import Case, of_rule, saying

NAN, INF = math.nan, math.inf
X, Y = np.zeros((4, 3, 12, 12), np.float32), np.array([0, 1, 2, 3])
NETS: tuple[Any, ...] = ("net", 5, Residual, X)
BUDGETS: tuple[Any, ...] = (5, 0.5, True, b"size<50%", ["size<50%"], NAN)
FOLDERS: tuple[Any, ...] = (None, 5, True, "", ["a"])
COUNTS: tuple[Any, ...] = (0, -3, 2.5, True, "20", NAN, INF)
SEEDS: tuple[Any, ...] = (-1, 2**32, 1.5, True, "0", None, NAN)
SHOWN: tuple[Any, ...] = (1, "yes", 0.0)
DEVICES: tuple[Any, ...] = (None, 5, True, ["ascend"], NAN)
PRECISIONS: tuple[Any, ...] = (8, True, ["w8"], NAN)
EXPRESSIONS = (
    "latency", "latency<", "latency<5", "latency<5 parsecs", "<5ms", "speed<5ms", "latency>5ms", "size<-5%",
    "latency<5ms,,size<1MB", "latency<5ms@0%", "accuracy<1%", "size<1e999MB", "latency<NaNms", "size<5%;x",
)  # fmt: skip


def search(**given: Any) -> Any:
    usual = {"net": Residual(), "budget": "size<60%", "device": "ascend-310p3", "data": X, "progress": False}
    return autocomp.search(**{**usual, **given})


CONTEXTS, CACHE_BITS = (0, -1, 1.5, True, "4096", [64]), (0, 3, 16, 4.0, True, "8")


def searches() -> list[Case]:
    wrong = {
        "net": (None, *NETS), "budget": BUDGETS, "device": DEVICES, "exclude": (5, None, [5], True),
        "restrict": (5, None, "head", ["head"], True),
        "resolutions": (None, True, "0.5", 0, 1, -0.5, NAN, [0.5, 1], [0.5, "0.75"], {0.5: 1}),
        "primitives": ([], None, 5, [5], ""), "trials": COUNTS, "time_limit": (True, "60", 0, -1, NAN, [60]),
        "patience": COUNTS, "sampler": (None, 5, ["random"]), "workers": (1.5, True, "two", "", [2], 0, -1),
        "storage": FOLDERS[1:], "fine_tune": (None, True, 1.5, -1, "2"), "train_budget": (-1, "2", True, NAN, INF, [2]),
        "elastic": (-1, "2", True, NAN, INF, [2], None),
        "seed": SEEDS, "progress": SHOWN, "resources": (5, "GPU", ["GPU"], {"GPU": 0}, {"GPU": "1"}, {1: 1}),
        "evaluation_limit": (True, "60", 0, -1, NAN, [60]), "on_evaluation": (5, "print", [print]),
        "batch": (0, -1, 1.5, True, None, "many", ""), "context": CONTEXTS, "cache_bits": CACHE_BITS,
    }  # fmt: skip
    said: list[tuple[dict[str, Any], str]] = [
        ({"device": "ascend-31"}, "^unknown device 'ascend-31'"),
        ({"device": "no.toml"}, "there is no device file no.toml"),
        ({"sampler": "magic"}, "^unknown sampler 'magic'"),
        ({"primitives": "magic"}, "^unknown primitive 'magic'"),
        ({"budget": "tpot<2ms"}, "^tpot is a cost of generating and needs the tokens .*: give context=4096"),
        ({"cache_bits": 8}, "^cache_bits=8 counts the cache of a context: give context=4096"),
        ({"primitives": "cache-quantization"}, "^cache-quantization chooses the bits .* give context=4096, too"),
        (
            {"primitives": ["rtn", "cache-quantization"], "context": 64, "cache_bits": 4},
            "^cache-quantization chooses the bits of the cache, which cache_bits=4 fixes: leave one of them out",
        ),
        ({"elastic": 1}, "^elastic is checked on plans that are trained, and none would be: give data="),
        (
            {"elastic": 1, "train_budget": 0, "data": autocomp.Data(train=(X, Y))},
            "none would be: give a train_budget above 0",
        ),
        ({"elastic": 1, "fine_tune": 0, "data": autocomp.Data(train=(X, Y))}, "none would be: give fine_tune=1"),
        ({"inputs": "1,3"}, "^inputs must be"),
        ({"inputs": np.full((1, 3, 12, 12), NAN)}, "^inputs must be finite, but input 0 has NaN at"),
        ({"data": 5}, "must have a first axis that counts the samples, but got one number"),
        ({"data": "images"}, "^input 0 of evaluate must be .* or of a folder of images, but there is no file 'images'"),
        ({"data": {"test": X}}, "^data may have the roles .* but got test"),
        ({"data": object()}, "^input 0 of evaluate must be an array of numbers, but got object"),
        ({"restrict": autocomp.Restrict("nowhere", keep=0.5)}, "^layers of Restrict must name layers, but none fits"),
        ({"restrict": autocomp.Restrict("stem", primitives=["lqs"])}, "^unknown primitive 'lqs'"),
        ({"fine_tune": FineTuning}, "^fine_tune must be a number of epochs or FineTuning, but got type"),
    ]
    return [*of_rule(search, {}, wrong), *saying(search, *said)]


def elastic_trainings() -> list[Case]:
    usual = {
        "net": Residual(), "device": "ascend-310p3", "data": autocomp.Data(train=(X, Y)), "progress": False,
    }  # fmt: skip

    def train_elastic(**given: Any) -> Any:
        return autocomp.train_elastic(**{**usual, **given})

    wrong = {
        "net": (None, *NETS), "device": DEVICES, "train": (None, 0, 1.5, True, "4"), "exclude": (5, None, [5], True),
        "restrict": (5, None, "head", ["head"], True), "primitives": ([], None, 5, [5], ""), "storage": FOLDERS[1:],
        "seed": SEEDS, "progress": SHOWN,
    }  # fmt: skip
    said: list[tuple[dict[str, Any], str]] = [
        ({"device": "ascend-31"}, "^unknown device 'ascend-31'"),
        ({"primitives": "magic"}, "^unknown primitive 'magic'"),
        ({"inputs": "1,3"}, "^inputs must be"),
        ({"data": X}, "^train_elastic needs samples to train on: give data="),
        ({"data": None}, "^train_elastic needs samples to train on: give data="),
    ]
    return [*of_rule(train_elastic, {}, wrong), *saying(train_elastic, *said)]


def restrictions() -> list[Case]:
    usual = {"layers": "head", "keep": 0.5}

    def restrict(**given: Any) -> Any:
        return autocomp.Restrict(**{**usual, **given})

    said: list[tuple[dict[str, Any], str]] = [
        ({"layers": 5}, "^layers must be names, but got layers=5"),
        ({"layers": [5]}, "^layers must be names"),
        ({"layers": None}, "^layers must be names"),
        ({"layers": []}, "^layers must be at least one name or pattern"),
        ({"formats": 8}, "^formats must be names"),
        ({"formats": ["w9"]}, "^a format is 'float', 'w<bits>'"),
        ({"formats": [8]}, "^formats must be names"),
        ({"keep": 0}, r"^keep must be in \(0, 1\], but got keep=0"),
        ({"keep": 1.5}, r"^keep must be in \(0, 1\]"),
        ({"keep": NAN}, r"^keep must be in \(0, 1\]"),
        ({"keep": "0.5"}, "^keep must be a number"),
        ({"keep": True}, "^keep must be a number"),
        ({"primitives": 5}, "^primitives must be names"),
        ({"keep": None}, "^Restrict needs at least one of formats, keep and primitives"),
    ]
    return saying(restrict, *said)


def data() -> list[Case]:
    wrong = {
        "limit": (None, *COUNTS), "metric": (5, "accuracy", True, NAN), "lower_is_better": (1, "yes", 0.0, NAN),
        "key": (5, True, [], ("x",), ("x", 5), ("x", "y", "z"), ((), "y"), ["x", "y"]),
        "classes": (5, "cat", [5], [], True), "transform": (5, "resize", True, [max]),
    }  # fmt: skip
    said: list[tuple[dict[str, Any], str]] = [
        ({"evaluate": (X, Y[:3])}, "a label for each sample, but got 4 samples, 3 labels"),
        ({"evaluate": X[:0]}, "^evaluate must have at least one sample, but got none"),
        ({"evaluate": np.array(["a"])}, "^input 0 of evaluate must be an array of numbers, but got an array of str"),
        ({"evaluate": (X, Y + 0.5)}, "^the labels of evaluate must be whole numbers from 0, but got 0.5"),
        ({"evaluate": (X, [None] * 4)}, "^the labels of evaluate must be an array of numbers, but got list"),
        ({"evaluate": (X, ["cat"] * 4), "classes": ["dog"]}, "^the labels of evaluate must be among classes, 'dog'"),
        ({"evaluate": "x.npy"}, "^input 0 of evaluate must be .* but there is no file 'x.npy'"),
        ({"evaluate": {"x": X}}, "^key must say which entries of evaluate are inputs and labels"),
        ({"evaluate": {"x": X}, "key": "y"}, "^evaluate must have an entry 'y', which key names, but has x"),
        ({"evaluate": X, "calibrate": X[..., 1:]}, "must have the same shape, but got"),
        ({"evaluate": np.full((4, 3), NAN)}, "^input 0 of evaluate must be finite, but has NaN at"),
        ({"evaluate": ((X, X[:2]), Y)}, "^the inputs of evaluate must have as many samples each, but got 4, 2"),
        ({"train": (X, Y - 1)}, "^the labels of train must be whole numbers from 0, but got -1"),
        ({"metric": max}, "^a metric needs samples to evaluate plans on"),
        ({"evaluate": X, "lower_is_better": True}, "^lower_is_better says how a metric is read"),
    ]
    return [*of_rule(partial(autocomp.Data, evaluate=X), {}, wrong), *saying(autocomp.Data, *said)]


def budgets() -> list[Case]:
    texts = [({"text": text}, "budget") for text in EXPRESSIONS]
    kinds = [({"text": value}, f"^a budget must be text, a Budget or None, but got {type(value).__name__}")
             for value in BUDGETS]  # fmt: skip
    given: dict[str, tuple[Any, ...]] = {
        "bounds": (None, 5, "size<5%", ["size<5%"], ("size<5%",), True, (5,), {}, NAN, (None,))
    }
    return [*of_rule(Budget, {}, given), *saying(Budget.parse, *texts, *kinds)]


def plans() -> list[Case]:
    values: list[tuple[dict[str, Any], str]] = [
        *(({"values": v}, "^a plan must be a mapping of knob names to values, but got")
          for v in (5, "w8a8", [1], True)),
        ({"values": {5: "w8"}}, "^the names of a plan's knobs must be text, but got name=5"),
        ({"values": {None: "w8"}}, "^the names of a plan's knobs must be text, but got name=None"),
        *(({"values": {"format/a": v}}, "^the value of format/a must be text, a number or a bool, but got")
          for v in (None, [8], {"bits": 8}, b"w8")),
        *(({"values": {"keep/a": v}}, "^the value of keep/a must be finite, but got value=") for v in (NAN, INF, -INF)),
    ]  # fmt: skip
    texts: list[tuple[dict[str, Any], str]] = [
        *(({"text": v}, "^a plan's text must be text, but got text=") for v in (None, 5, True, b"{}", ["{}"])),
        *(({"text": v}, "^a plan's text must be JSON, but it is") for v in ("", "{", "w8a8", "{'a': 1}", "[" * 10**5)),
        *(({"text": v}, "^a plan is a JSON object of knob names and values, but got text=")
          for v in ("[]", "5", "null")),
        ({"text": '{"keep/a": NaN}'}, "^the value of keep/a must be finite"),
        ({"text": '{"keep/a": [0.5]}'}, r"^the value of keep/a must be text, .*, but got value=\[0.5\]"),
    ]  # fmt: skip
    return [*saying(Plan, *values), *saying(Plan.parse, *texts)]


def studies() -> list[Case]:
    space, evaluator, costs = toy(2)
    made = partial(Study, executor=InProcess(evaluator), progress=False)
    wrong = {
        "space": (None, 5), "costs": (None, 5), "objectives": ("latency", 5, None, [5]), "budget": ("size<5%", 5),
        "sampler": (None, 5, ["random"]), "trials": (None, *COUNTS), "batch": (None, *COUNTS), "patience": COUNTS,
        "time_limit": (True, "60", 0, -1, NAN), "seed": SEEDS,
    }  # fmt: skip
    said: list[tuple[dict[str, Any], str]] = [
        ({"objectives": ()}, "^objectives must be of latency, .*objectives="),
        ({"objectives": ("speed",)}, "^objectives must be of latency, .*objectives="),
        ({"sampler": "magic"}, "^unknown sampler 'magic'"),
    ]
    given = {"space": space, "costs": costs}
    return [*of_rule(made, given, wrong), *saying(partial(made, **given), *said)]


def of_fronts() -> list[Case]:
    front = fronts.front([(0.88, 0.5, 0.3), (0.8, 0.3, 0.2)])
    point = front[0]
    texts = [({"expression": text}, "budget") for text in EXPRESSIONS]
    return [
        *of_rule(front.pick, {}, {"expression": BUDGETS}),
        *saying(front.pick, *texts, ({"expression": "size<1%"}, "^no evaluated plan meets size<1%; the nearest is")),
        *of_rule(front.resolve, {"budget": "size<50%"}, {"budget": BUDGETS, "evaluate": (1, None, "yes", 0.0)}),
        *saying(front.resolve, ({"budget": ""}, "budget"), ({"budget": "size<50%"}, "but this front has none")),
        *of_rule(front.save, {}, {"folder": FOLDERS}),
        *saying(front.save, ({"folder": "/dev/null"}, "^/dev/null.* must be writable"),
                ({"folder": Path("/proc/none")}, "^/proc/none.* must be writable")),
        *of_rule(ParetoSet.load, {}, {"folder": FOLDERS}),
        *saying(ParetoSet.load, ({"folder": "/nowhere"}, "^a saved front is a folder with front.json, but /no")),
        *of_rule(front.evaluate, {}, {"plan": (None, 5, "w8", True, ["a"])}),
        *of_rule(front.add, {}, {"point": (None, 5, "point", {}, True)}),
        *saying(front.add, ({"point": point}, r"^add takes a fine-tuned point, evaluate\(plan\) any plan")),
        *of_rule(front.report, {}, {"path": FOLDERS}),
        *of_rule(front.table, {}, {"rows": (3, 0, -1, 2.5, True, "9")}),
        *of_rule(front.hypervolume, {}, {"reference": (5, "1, 1", [NAN], [None])}),
    ]  # fmt: skip


def of_points() -> list[Case]:
    point = fronts.front([(0.88, 0.5, 0.3)])[0]
    training = {
        "epochs": (None, *COUNTS), "batch": (None, *COUNTS), "rate": (0, -1, True, NAN, INF, "0.1", None),
        "algorithm": (5, None, True), "teacher": (-0.1, 1.1, True, NAN, "0.5", None), "seed": SEEDS, "progress": SHOWN,
    }  # fmt: skip
    names: tuple[Any, ...] = ("speed", "", None, 5, "accuracy")
    return [
        *of_rule(point.export, {"path": "net.onnx"}, {"path": FOLDERS, "form": (5, True, "", "onnx", ["qat"])}),
        *of_rule(point.export, {"path": "net.onnx"}, {"check_accuracy": (0, 1, None, "no")}),
        *of_rule(point.export, {"path": "net.onnx"}, {"names": (5, "a", ["a"], {"a": 5}, {5: "a"})}),
        *saying(
            point.export,
            (
                {"path": "net.onnx", "names": {"a": "b"}},
                "^names are of a checkpoint's tensors: give form='compressed-tensors' or",
            ),
            ({"path": "net", "form": "qat", "names": str.upper}, "^names are of a checkpoint's tensors: give form="),
        ),
        *of_rule(point.fine_tune, {"train": X}, training),
        *of_rule(point.fine_tune, {"train": X}, {"algorithm": ("slb", "")}),
        *of_rule(point.value, {}, {"metric": names}),
        *of_rule(point.ratio, {}, {"metric": names}),
        *of_rule(point.summary, {}, {"metrics": ("latency", 5, None, [5])}),
        *saying(point.export, ({"path": "net.onnx"}, r"use autocomp\.load\(folder, net\)")),
        *saying(point.evaluate, ({"data": X}, r"use autocomp\.load\(folder, net\)")),
    ]


def tunings() -> list[Case]:
    wrong = {
        "epochs": (None, *COUNTS), "batch": (None, *COUNTS), "rate": (0, -1, True, NAN, INF, "0.1", None),
        "algorithm": (5, None), "teacher": (-0.1, 1.1, True, NAN, "0.5", None), "seed": SEEDS,
    }  # fmt: skip
    return [*of_rule(FineTuning, {}, wrong),
            *of_rule(FineTuning, {}, {"algorithm": ("slb", "")})]  # fmt: skip


def others() -> dict[str, list[Case]]:
    net = {"net": Residual(), "inputs": (1, 3, 12, 12)}
    odd: tuple[Any, ...] = (*("1,3", 5, (), (1, True), (1, -3), [[]], np.full((1, 3), NAN), np.array(["a"]), {"x": X}),)
    inputs = [({"inputs": value}, "^inputs must") for value in odd]
    estimate = partial(autocomp.estimate, net=Residual(), device="ascend")
    compare = partial(autocomp.compare, net=Residual())
    plans = (
        ('{"keep/none": 0.5}', "none"), ('{"format/none": "w8"}', "the plan sets the format of 'none'"),
        ('{"format/stem": "w99"}', "w99"), ('{"bits/stem": 4}', "a plan's choices are .* but got 'bits/stem'"),
        ('{"keep/stem": "half"}', r"^the plan must keep a share of stem in \(0, 1\], but got keep='half'"),
        ('{"keep/stem": 1.5}', r"but got keep=1\.5"), ('{"keep/stem": 0}', "but got keep=0"),
        ('{"keep/stem": true}', "but got keep=True"), ("w8a8", "^a plan's text must be JSON"),
        *((f'{{"activation/{cell}": {value}}}', f"put 'relu' in the place of an activation, .* but got '{cell}'")
          for cell in ("stem", "") for value in ('"relu"', '"gelu"', '"relu@rtn"', "true", "5", "0.5")),
    )  # fmt: skip
    return {
        "estimate": [
            *of_rule(autocomp.estimate, {**net, "device": "ascend"},
                     {"net": (None, *NETS), "device": DEVICES, "precision": PRECISIONS, "context": CONTEXTS,
                      "cache_bits": CACHE_BITS}),
            *saying(estimate, ({"context": 64}, "^a context needs a network that reads tokens"), *inputs,
                    ({"precision": "w99"}, "w99"), ({"device": "ascend-31"}, "^unknown device")),
        ],
        "compare": [
            *of_rule(autocomp.compare, net,
                     {"net": (None, *NETS), "devices": ("ascend", [], [5], 5, True), "precision": PRECISIONS,
                      "context": CONTEXTS, "cache_bits": CACHE_BITS}),
            *saying(compare, *inputs, ({"precision": "w99"}, "w99"), ({"devices": ["ascend-31"]}, "^unknown device")),
        ],
        "profile": [
            *of_rule(autocomp.profile, {**net, "data": X},
                     {"net": (None, *NETS), "plan": (5, True, ["w8a8"]), "device": DEVICES, "samples": COUNTS,
                      "seed": SEEDS, "progress": SHOWN}),
            *saying(partial(autocomp.profile, net=Residual(), data=X),
                    ({"plan": {"format/none": "w8a8"}}, "^plan must choose for places of this network"),
                    ({"plan": '{"format/stem": "w99"}'}, "w99"), ({"device": "ascend-31"}, "^unknown device"),
                    ({"net": "no/net.onnx"}, "^there is no file no/net.onnx"),
                    ({"net": "net.onnx", "plan": {}}, "^a plan is for a network in MindSpore, but got the file")),
        ],
        "export": [
            *of_rule(autocomp.export, {**net, "path": "a.onnx"}, {"net": (None, *NETS), "path": FOLDERS}),
            *saying(partial(autocomp.export, net=Residual()),
                    ({"path": "a.pb"}, r"^an export's path must end in \.mindir, \.onnx or \.safetensors, but got"),
                    ({"path": "a.onnx", "inputs": "1,3"}, "^inputs must be")),
        ],
        "load": [
            *of_rule(autocomp.load, {"folder": "/nowhere"}, {"folder": FOLDERS, "net": NETS}),
            *saying(autocomp.load, ({"folder": "/nowhere"}, "but /nowhere has none"),
                    ({"folder": "/dev/null"}, "/dev/null"), ({"folder": "/nowhere", "net": Residual()}, "/nowhere"),
                    ({"folder": "/nowhere", "net": Residual(), "data": "x"}, "^input 0 of evaluate must be an array")),
        ],
        "load_deployed": [
            *of_rule(autocomp.load_deployed, {"path": "net.onnx"}, {"path": FOLDERS, "threads": COUNTS}),
            *saying(
                autocomp.load_deployed,
                ({"path": "net.pt"}, "^a deployed file's path must end in .mindir or .onnx, but got 'net.pt'"),
                ({"path": "no/net.onnx"}, "^there is no file no/net.onnx"),
                ({"path": "net.safetensors"}, r"^net.safetensors holds weights alone: autocomp\.rebuild\(net, path\)"),
                ({"path": "net.ms"}, "^net.ms is read by MindSpore Lite"),
            ),
        ],
        "validate_ascend": [
            *of_rule(autocomp.validate_ascend, {"path": "net.onnx"}, {"path": (*FOLDERS, b"net.onnx", 0.5, {})}),
            *saying(
                autocomp.validate_ascend,
                ({"path": "net.om"}, "^a file for an Ascend must end in .onnx, but got 'net.om'"),
                ({"path": "net"}, "^a file for an Ascend must end in .onnx, but got 'net'"),
                ({"path": "no/net.onnx"}, "^there is no file no/net.onnx"),
                ({"path": "."}, "^a file for an Ascend must end in .onnx"),
            ),
        ],
        "rebuild": [
            *of_rule(autocomp.rebuild, {**net, "plan": {}}, {"net": (None, *NETS), "plan": (None, 5, True, ["a"])}),
            *saying(autocomp.rebuild, *[({**net, "plan": plan}, sentence) for plan, sentence in plans]),
        ],
        "device": [
            *of_rule(autocomp.device, {"name": "ascend"}, {"name": DEVICES, "may_measure": (1, None, "no", 0.0)}),
            *saying(autocomp.device, ({"name": "ascend-31"}, "^unknown device 'ascend-31'"), ({"name": ""}, "device"),
                    ({"name": "no.toml"}, "^there is no device file no.toml"),
                    ({"name": Path("/dev/null.toml")}, "there is no"), ({"name": "cpu:0"}, "cpu:0"),
                    ({"name": "cpu:many"}, "^unknown runtime 'many' of cpu; valid are cpu .onnxruntime., cpu:lite"),
                    ({"name": "ascend:om"}, "^unknown runtime 'om' of ascend-310p3; valid are ascend-310p3 .atc.")),
        ],
    }  # fmt: skip


def choices() -> list[Case]:
    usual = {
        "choices": {"kernel": [3, 5]}, "accuracy": lambda network: 0.9, "costs": lambda network: {"macs": 1.0},
        "progress": False,
    }  # fmt: skip

    def search_choices(**given: Any) -> Any:
        return autocomp.nas.search_choices(**{**usual, **given})

    wrong = {
        "choices": (None, 5, [3, 5], {}, {"kernel": []}, {5: [1]}, {"kernel": 3}, "kernel"),
        "accuracy": (None, 0.9, "accuracy", True), "costs": (None, {"macs": 1.0}, "macs", 5), "budget": BUDGETS,
        "trials": (None, *COUNTS), "batch": (0, -1, 1.5, True, None), "sampler": (None, 5, ["random"]), "seed": SEEDS,
        "workers": (1.5, True, [2]), "time_limit": (True, "60", 0, -1, NAN), "storage": FOLDERS[1:], "progress": SHOWN,
    }  # fmt: skip
    said: list[tuple[dict[str, Any], str]] = [
        ({"sampler": "magic"}, "^unknown sampler 'magic'"),
        ({"budget": "latency"}, "budget"),
        ({"costs": lambda network: {"speed": 1.0}}, "^costs must have names of latency"),
        ({"costs": lambda network: {"macs": -1.0}}, "^costs must be finite and 0 or more"),
        ({"costs": lambda network: None}, "^costs must know networks"),
        ({"accuracy": lambda network: 90.0}, "an accuracy must be from 0 to 1"),
    ]
    return [*of_rule(search_choices, {}, wrong), *saying(search_choices, *said)]


def cases() -> dict[str, list[Case]]:
    return {
        "search": searches(),
        "train_elastic": elastic_trainings(),
        "Restrict": restrictions(),
        "Data": data(),
        "Budget": budgets(),
        "Plan": plans(),
        "Study": studies(),
        "ParetoSet": of_fronts(),
        "Point": of_points(),
        "FineTuning": tunings(),
        "search_choices": choices(),
        **others(),
    }
