"""A ViT and a Swin of mindcv at 224 x 224 pixels, the full road: random plans on three devices, in every form.

    pip install --no-deps mindcv==0.3.0
    python benchmarks/transformers.py
    python benchmarks/transformers.py --networks vit --devices cpu

Random weights. The ViT has the sizes of DeiT-Ti (width 192, three heads, 12 blocks, 197 tokens), the Swin is Swin-T.
Plans draw a value for each knob: channels, formats of layers and, where the device's runtime keeps tensors in integers,
of both products of each attention. Each is evaluated, converted, exported as ONNX and MindIR, and both files are loaded
again and compared: MindIR with the network in memory, ONNX with what was evaluated, to 1e-2 in the 2-norm, since an
input may lie at half a step; files that are not for atc by a session without any option, as users make one. The last
line counts the plans whose files agree.
"""

from __future__ import annotations

import autocomp  # isort: skip  # before MindSpore, for which it sets the environment

import argparse
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from mindcv_networks import models
from zoo import randomised

from autocomp.deployment.deploy import NetworkDeployer
from autocomp.deployment.file_sizes import FileSizes
from autocomp.hardware_models import device
from autocomp.measurement.processor import TEMPLATE
from autocomp.primitives.export.files import norm_error
from autocomp.problem.jobs import prepare
from autocomp.search_spaces import Plan, SearchSpace

PIXELS, IMAGES, PLANS = 224, 8, 2
AGREES = 1e-2
DEVICES: dict[str, str | Path] = {"ascend-310p3": "ascend-310p3", "nvidia-t4": "nvidia-t4", "cpu": TEMPLATE}


def vit() -> Any:
    return import_module("mindcv.models.vit").VisionTransformer(
        image_size=PIXELS, patch_size=16, embed_dim=192, depth=12, num_heads=3, num_classes=1000
    )


def swin() -> Any:
    return import_module("mindcv.models").swin_tiny()


NETWORKS = {"vit": vit, "swin": swin}


def prepared(name: str, chip: Any) -> tuple[NetworkDeployer, SearchSpace, np.ndarray]:
    net = randomised(NETWORKS[name](), np.random.default_rng(0)).set_train(False)
    x = np.random.default_rng(1).standard_normal((IMAGES, 3, PIXELS, PIXELS)).astype(np.float32)
    products = ("activation-products",) if chip.runtime.quantizes_tensors else ()
    data = autocomp.Data(evaluate=x[:2], calibrate=x)
    job = prepare(net, chip, data, None, ("channel-pruning", "rtn", *products), 0, exact_bits=True)
    sizes = FileSizes(chip, job.space)
    return NetworkDeployer(net, job.evaluator, job.calibration, job.choices, sizes=sizes), job.space, x[:1]


def plainly(path: Path, x: np.ndarray) -> np.ndarray:
    """The first output, by a session without any option."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def road(made: tuple[NetworkDeployer, SearchSpace, np.ndarray], seed: int, plain: bool, folder: Path) -> dict[str, Any]:
    """What is found for one plan. plain: whether any session of onnxruntime runs the ONNX file."""
    deployer, space, x = made
    plan, evaluator = space.decode(space.random(np.random.default_rng(seed), 1)[0]), deployer.evaluator
    floats, expected = (evaluator.engine.outputs(evaluator.compress(one), (x,))[0] for one in (Plan(), plan))
    found: dict[str, Any] = {"plan": norm_error(expected, floats), "wrong": []}
    for ending in ("onnx", "mindir"):
        path = folder / f"net.{ending}"
        try:
            report = deployer.export(plan, path)
            found[ending] = report.max_relative_error
            found[f"{ending}_mb"], found[f"{ending}_predicted"] = report.size_mb, report.predicted_mb
            if ending == "onnx" and plain:
                found["session"] = norm_error(plainly(path, x), expected)
        except Exception as error:  # onnxruntime's errors have no common class
            found["wrong"].append(f"{ending}: {str(error).splitlines()[0][:160]}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--devices", default=",".join(DEVICES))
    parser.add_argument("--plans", type=int, default=PLANS)
    parser.add_argument("--quick", action="store_true", help="one plan of the ViT on cpu")
    options = parser.parse_args()
    if models() is None:
        parser.error("mindcv is not installed: pip install --no-deps mindcv==0.3.0")
    networks, devices = options.networks.split(","), options.devices.split(",")
    networks, devices, plans = (["vit"], ["cpu"], 1) if options.quick else (networks, devices, options.plans)
    agree = count = 0
    for name in networks:
        for chip_name in devices:
            started, chip = time.perf_counter(), device(DEVICES[chip_name])
            made = prepared(name, chip)
            space = made[1]
            vectors = np.stack([np.zeros(len(space.knobs), np.int64), *(
                space.random(np.random.default_rng(seed), 1)[0] for seed in range(plans))])  # fmt: skip
            costs = chip.costs(space.workload(vectors, 1))
            kinds = {kind: sum(knob.kind == kind for knob in space.knobs) for kind in ("keep", "format")}
            products = sum(knob.layers[0] in space.graph.products for knob in space.knobs if knob.kind == "format")
            print(f"{name} on {chip_name}: {kinds}, {products} of products; float {costs.latency_ms[0]:.2f} ms, "
                  f"{costs.size_mb[0]:.1f} MB; {time.perf_counter() - started:.0f} s", flush=True)  # fmt: skip
            for seed in range(plans):
                with tempfile.TemporaryDirectory() as folder:
                    found = road(made, seed, not chip_name.startswith("ascend"), Path(folder))
                count += 1
                agree += not found["wrong"] and found.get("session", 0) < AGREES
                latency, size = costs.latency_ms[seed + 1], costs.size_mb[seed + 1]
                print(f"  plan {seed}: {latency:.2f} ms, {size:.2f} MB predicted; {found}; "
                      f"{time.perf_counter() - started:.0f} s", flush=True)  # fmt: skip
    print(f"plans that agree in every form: {agree} of {count}")


if __name__ == "__main__":
    main()
