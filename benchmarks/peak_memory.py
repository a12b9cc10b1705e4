"""What onnxruntime takes for an inference, measured in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

# Resident bytes at the peak of an inference, above those of a process that has run the network and let it go.
INFERENCE = """
import gc, sys, numpy, onnxruntime
def status(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024
def session():
    options = onnxruntime.SessionOptions()
    options.enable_cpu_mem_arena, options.enable_mem_pattern, options.intra_op_num_threads = False, False, 1
    return onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
def run(some):
    shape = [int(size) for size in sys.argv[2].split(",")]
    some.run(None, {some.get_inputs()[0].name: numpy.ones(shape, numpy.float32)})
run(session())
gc.collect()
before = status("VmRSS")
kept = session()
run(kept)
open("/proc/self/clear_refs", "w").write("5")
run(kept)
print(status("VmHWM") - before)
"""
RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}  # freed memory leaves the process


def peak_mb(model: bytes, shape: Sequence[int]) -> float:
    """At the peak of an inference, weights included. shape: of the network's input."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        file.write_bytes(model)
        run = [sys.executable, "-c", INFERENCE, str(file), ",".join(map(str, shape))]
        done = subprocess.run(run, check=True, capture_output=True, text=True, env=os.environ | RETURNING)
    return float(done.stdout) / 1e6
