"""Prunes one network of every family of mindcv at random, and checks that all that comes out computes the same.

    python benchmarks/zoo.py                 # one variant of each family; continues where it stopped
    python benchmarks/zoo.py resnet vit      # these families only
    python benchmarks/zoo.py --all           # every model constructor
    python benchmarks/zoo.py --again resnet  # forget what is stored of these first

Needs ``pip install --no-deps mindcv==0.3.0``. Columns: input size; channel groups found, and left after each was tried
out; share of the parameters in layers that can be pruned; parameters left by a random plan; then relative errors
(largest difference over largest value, two images) of the elastic against the float network with an empty plan, and of
the elastic network, the ONNX file and the MindIR file against the converted network with the random plan. A family
passes when the errors of elastic and MindIR are at most 1e-3. Rows are kept in runs/zoo.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from typing import Any

HERE = pathlib.Path(__file__).resolve().parent
ROWS = HERE.parent / "runs" / "zoo.jsonl"
SIZES = (64, 96, 128, 160, 192, 224, 256, 299, 384)  # below, feature maps of one pixel hide what a Flatten does
TOLERANCE = 1e-3
VARIANTS = """BiT_resnet50 cait_xxs24_224 cmt_tiny coat_lite_tiny convit_tiny convnextv2_atto crossvit_9 densenet121
dpn92 edgenext_xx_small efficientnet_b0 ghostnet_050 googlenet halonet_50t hrnet_w32 inception_v3 inception_v4
mae_b_16_224_finetune mixnet_s mlp_mixer_s_p32 mnasnet_050 mobilenet_v1_025 mobilenet_v2_035_96 mobilenet_v3_small_075
mobilevit_xx_small nasnet_a_4x1056 pit_ti pnasnet poolformer_s12 pvt_tiny pvt_v2_b0 regnet_y_200mf repmlp_t224 repvgg_a0
res2net50 resnest14 resnet18 resnetv2_50 rexnet_09 seresnet18 shufflenet_v1_g3_05 shufflenet_v2_x0_5 skresnet18
squeezenet1_1 swin_tiny swinv2_tiny_window8 vgg11 visformer_tiny vit_b_32_224 volo_d1 xception xcit_tiny_12_p16_224"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="modules of mindcv.models, or names of models")
    parser.add_argument("--all", action="store_true", help="every model constructor, not one of each family")
    parser.add_argument("--again", action="store_true", help="run these again, whatever is stored")
    parser.add_argument("--seconds", type=float, default=1200, help="time limit of a model")
    parser.add_argument("--memory-gb", type=float, default=8, help="memory limit of a model")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        print(json.dumps(examine(given.worker)), flush=True)
        return
    stored = {row["model"]: row for row in map(json.loads, ROWS.read_text().splitlines())} if ROWS.exists() else {}
    chosen = choose(given.families, given.all)
    for model, family in chosen.items():
        if model not in stored or given.again:
            stored[model] = {"model": model, "family": family} | run(model, given.seconds, given.memory_gb)
            ROWS.parent.mkdir(exist_ok=True)
            with ROWS.open("a") as file:
                file.write(json.dumps(stored[model]) + "\n")
        print(line(stored[model]), flush=True)
    print(summary([stored[model] for model in chosen]))


def choose(wanted: list[str], every: bool) -> dict[str, str]:
    """Model -> its family."""
    listing = "import json, mindcv.models.registry as r; " + (
        "print(json.dumps({m: sorted(n) for m, n in r._module_to_models.items()}))"
    )
    command = [sys.executable, "-c", listing]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment(), check=True).stdout
    families: dict[str, list[str]] = json.loads(output.splitlines()[-1])
    small = set(VARIANTS.split())
    chosen = {}
    for family, models in sorted(families.items()):
        picked = models if every else [m for m in models if m in small or m in wanted] or models[:1]
        for model in picked:
            if not wanted or family in wanted or model in wanted:
                chosen[model] = family
    order = {name: place for place, name in enumerate(wanted)}
    place = {model: order.get(model, order.get(family, 0)) for model, family in chosen.items()}
    return {model: chosen[model] for model in sorted(chosen, key=place.__getitem__)}


def environment() -> dict[str, str]:
    path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "GLOG_v": "4", "ONEDNN_MAX_CPU_ISA": "AVX2"}


def run(model: str, seconds: float, memory_gb: float) -> dict[str, Any]:
    """A process of its own for each model: compiled graphs never give their memory back."""
    began, most = time.monotonic(), 0.0
    command = [sys.executable, __file__, "--worker", model]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=subprocess.DEVNULL, text=True, env=environment()) as process:
        why = ""
        while process.poll() is None and not why:
            time.sleep(0.2)
            most = max(most, resident_gb(process.pid))
            why = "time limit" if time.monotonic() - began > seconds else "memory limit" if most > memory_gb else ""
        if why:
            process.kill()
        lines = process.stdout.read().splitlines() if process.stdout else []
    row: dict[str, Any] = next((json.loads(text) for text in reversed(lines) if text.startswith("{")), {})
    row = row or {"failed": why or f"the process ended with code {process.returncode}"}
    return row | {"seconds": round(time.monotonic() - began, 1), "memory_gb": round(most, 2)}


def resident_gb(process: int) -> float:
    try:
        pages = int(pathlib.Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


def passes(row: dict[str, Any]) -> bool:
    return "failed" not in row and all(row[key] <= TOLERANCE for key in ("elastic_float", "elastic", "mindir"))


def line(row: dict[str, Any]) -> str:
    start = f"{row['family']:18} {row['model']:24} {row['seconds']:6.0f}s "
    if "failed" in row:
        return f"{start}{'FAILED' if row.get('runs', True) else 'no forward:'} {row['failed'][:300]}"
    onnx = row["onnx"] if isinstance(row["onnx"], str) else f"{row['onnx']:.0e}"
    return (
        f"{start}{row['size']:4d} groups {row['groups']:3d} {row['groups_left']:3d} prunable {row['prunable']:4.0%} "
        f"left {row['left']:4.0%} float {row['elastic_float']:.0e} elastic {row['elastic']:.0e} "
        f"mindir {row['mindir']:.0e} onnx {onnx[:160]}{'' if passes(row) else '  FAILED'}"
    )


def summary(rows: list[dict[str, Any]]) -> str:
    ran = [row for row in rows if row.get("runs", True)]
    families = {row["family"] for row in ran}
    passed = families - {row["family"] for row in ran if not passes(row)}
    onnx = sum(isinstance(row.get("onnx"), float) and row["onnx"] <= TOLERANCE for row in ran)
    return (
        f"{len(rows) - len(ran)} models do not run forward here; ONNX written and equal for {onnx} of {len(ran)}\n"
        f"families passed {len(passed)} of {len(families)}"
    )


# the process of one model ---------------------------------------------------------------------------------------------


def examine(model: str) -> dict[str, Any]:
    from autocomp.primitives.tracing.platform import load_mindspore

    load_mindspore()
    import mindcv
    import numpy as np

    row: dict[str, Any] = {}
    try:
        net = randomised(mindcv.create_model(model), np.random.default_rng(0))
        x = fitting_input(net)
    except Exception as error:  # whatever the network's code raises
        return {"failed": first_words(error), "runs": False}
    row["size"] = int(x.shape[-1])
    try:
        row |= checks(net, x)
    except Exception as error:
        row["failed"] = first_words(error)
        if os.environ.get("ZOO_TRACEBACK"):
            import traceback

            traceback.print_exc()
    return row


def first_words(error: BaseException) -> str:
    from autocomp.primitives.tracing.mindir import first_line

    return f"{type(error).__name__}: {first_line(error)}"


def fitting_input(net: Any) -> Any:
    import numpy as np

    from autocomp.primitives.tracing.platform import forward

    last: Exception = ValueError("no size tried")
    for size in SIZES:
        x = np.random.default_rng(1).standard_normal((2, 3, size, size)).astype(np.float32)
        try:
            forward(net, (x,), graph=False)
            return x
        except Exception as error:
            last = error
    raise last


def randomised(net: Any, rng: Any) -> Any:
    """Scales, shifts and statistics that are not 0 or 1, so that leaving one out shows."""
    import mindspore as ms
    import numpy as np

    for parameter in net.get_parameters():
        kind, shape = parameter.name.rpartition(".")[2], parameter.shape
        if kind == "moving_variance":
            value = rng.uniform(0.8, 1.2, shape)
        elif kind in ("beta", "bias", "moving_mean"):
            value = rng.normal(0, 0.1, shape)
        elif kind == "gamma" or (len(shape) <= 1 and kind != "weight"):
            value = rng.uniform(0.5, 1, shape)
        else:
            continue
        parameter.set_data(ms.Tensor(value.astype(np.float32)))
    return net.set_train(False)


def checks(net: Any, x: Any) -> dict[str, Any]:
    import tempfile

    import numpy as np

    from autocomp.primitives.cells.conversion import convert
    from autocomp.primitives.cells.elastic import ElasticNetwork
    from autocomp.primitives.choices import Choices
    from autocomp.primitives.export.files import export_mindir, run_mindir
    from autocomp.primitives.numerics.plan_compressor import PlanCompressor, parameters_of
    from autocomp.primitives.registry import search_space
    from autocomp.primitives.tracing.platform import forward
    from autocomp.primitives.tracing.tracer import trace
    from autocomp.primitives.verification.trial_cut import verify_channel_groups
    from autocomp.search_spaces import Format, Plan

    row: dict[str, Any] = {}
    began = time.monotonic()
    traced = trace(net, (x,))
    row |= {"trace_s": round(time.monotonic() - began, 1), "groups": len(traced.channel_groups)}
    row |= {"unknown": dict(traced.unknown), "nodes": len(traced.nodes), "layers": len(traced.layers)}
    parameters = parameters_of(net)
    began = time.monotonic()
    graph = verify_channel_groups(net, traced, parameters, (x[:1],))
    row["trial_s"] = round(time.monotonic() - began, 1)
    row |= {"groups_left": len(graph.channel_groups), "whole": reasons(graph, traced)}
    total = sum(value.size for value in parameters.values())
    prunable = {layer for group in graph.channel_groups for layer in group.layers}
    inside = [graph.nodes[graph.layers[layer]].weight for layer in prunable]
    row["prunable"] = sum(parameters[name].size for name in inside) / total
    space = search_space(graph, parameters, Choices([Format.parse("w8")], 8))
    compressor, rng = PlanCompressor(space, parameters), np.random.default_rng(2)
    keep = np.array([knob.group is not None for knob in space.knobs])
    plan = space.decode(np.where(keep, space.random(rng, 1)[0], 0))
    compressed = compressor(plan)
    elastic = ElasticNetwork(net, graph)
    elastic.set(compressor(Plan()))
    row["elastic_float"] = error(forward(elastic.cell, (x,), graph=False), forward(net, (x,), graph=False))
    elastic.set(compressed)
    converted = convert(net, graph, parameters, compressed)
    expected = forward(converted, (x,), graph=False)
    row["left"] = sum(state.weight.size for state in compressed.layers.values()) / max(
        1, sum(parameters[graph.nodes[i].weight].size for i in graph.layers.values())
    )
    row["elastic"] = error(forward(elastic.cell, (x,), graph=False), expected)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "net.mindir"
        row["onnx"] = onnx_error(graph, parameters, compressed, x, expected)
        export_mindir(converted, (x,), path)
        row["mindir"] = error(run_mindir(path, (x,)), expected)
    return row


def onnx_error(graph: Any, parameters: Any, compressed: Any, x: Any, expected: Any) -> float | str:
    import tempfile

    from autocomp.primitives.export.files import run_onnx
    from autocomp.primitives.export.onnx_network import onnx_network

    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "net.onnx"
        try:
            path.write_bytes(onnx_network(graph, parameters, compressed).SerializeToString())
            return error(run_onnx(path, (x,)), expected)
        except Exception as failure:
            return first_words(failure)


def reasons(graph: Any, traced: Any) -> dict[str, int]:
    """Why layers stay whole -> how many; what only the trial found begins with "trial"."""
    found: dict[str, int] = {}
    for layer, reason in graph.whole.items():
        key = reason if layer in traced.whole else f"trial: {reason}"
        found[key] = found.get(key, 0) + 1
    return found


def error(found: Any, expected: Any) -> float:
    """The largest difference over the largest value, of all outputs."""
    import numpy as np

    if len(found) != len(expected) or any(a.shape != b.shape for a, b in zip(found, expected, strict=True)):
        return 1e9
    pairs = zip(found, expected, strict=True)
    worst = max(float(np.abs(a - b).max() / max(float(np.abs(b).max()), 1e-12)) for a, b in pairs)
    return worst if worst == worst else 1e9


if __name__ == "__main__":
    main()
