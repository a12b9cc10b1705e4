"""Profilers' outputs, in the formats of the sources that docs/guide/devices.md names, with sizes made up for tests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from autocomp.hardware_models.fitting.profiles import named, read_profile

TRTEXEC_LOG = """
[I] Throughput: 254.5 qps
[I] Latency: min = 9.4 ms, max = 51.4 ms, mean = 16.5 ms, median = 11.6 ms, percentile(99%) = 47.6 ms
[I] H2D Latency: min = 3.1 ms, max = 44.6 ms, mean = 9.1 ms, median = 4.2 ms, percentile(99%) = 40 ms
[I] GPU Compute Time: min = 5.99 ms, max = 9.45 ms, mean = 7.35 ms, median = 7.18 ms
[I] D2H Latency: min = 0.005 ms, max = 0.07 ms, mean = 0.04 ms, median = 0.04 ms
[I] Total GPU Compute Time: 7.02881 s
"""
TRTEXEC_PROFILE = """[
  { "count" : 625 }
, { "name" : "Conv_0 + PWN(Clip_3)", "timeMs" : 41.25, "averageMs" : 0.066, "percentage" : 60.0 }
, { "name" : "Reformatting CopyNode for Input Tensor 0 to Conv_8", "timeMs" : 0, "averageMs" : 0, "percentage" : 0 }
, { "name" : "Conv_8", "timeMs" : 27.5, "averageMs" : 0.044, "percentage" : 40.0 }
]"""
TRTEXEC_PROFILE_MEDIAN = """[
  { "count" : 41400 }
, { "name" : "/conv1/Conv + /act1/Relu", "timeMs" : 1160, "averageMs" : 0.028, "medianMs" : 0.027, "percentage" : 1 }
]"""
MSPROF = """Device_id,Model ID,Task ID,Stream ID,Op Name,OP Type,OP State,Task Type,Task Start Time(us),\
Task Duration(us),Task Wait Time(us),Block Dim,HF32 Eligible,Input Shapes
0,1,1,2,trans_0,TransData,static,AI_CORE,0.0,10.0,0.1,8,NO,"""
MSPROF += '''"""1,16,28,28"""
0,1,2,2,conv_0,Conv2D,static,AI_CORE,11.0,30.5,0.1,8,NO,"""1,16,28,28"""
0,1,1,2,trans_0,TransData,static,AI_CORE,60.0,12.0,0.1,8,NO,"""1,16,28,28"""
0,1,2,2,conv_0,Conv2D,static,AI_CORE,73.0,29.5,0.1,8,NO,"""1,16,28,28"""
'''
LITE = """start unified benchmark run
PrepareTime = 30.013 ms
Running benchmark loops...
Model = mobilenetv2.ms, NumThreads = 2, MinRunTime = 6.677000 ms, MaxRuntime = 8.656000 ms, AvgRunTime = 7.291000 ms
Run Benchmark mobilenetv2.ms Success.
"""
TIMES = json.dumps(
    [{"startComputeMs": 0.0, "endComputeMs": taken, "computeMs": taken, "latencyMs": 9.0} for taken in (2.0, 1.0, 9.0)]
)


@pytest.mark.parametrize(
    ("file", "text", "latency_ms", "fixed"),
    [
        ("a.log", TRTEXEC_LOG, 7.18, True),
        ("a.times.json", TIMES, 2.0, True),
        ("a.json", TRTEXEC_PROFILE, 0.11, False),
        ("a.json", TRTEXEC_PROFILE_MEDIAN, 0.027, False),
        ("op_summary_0.csv", MSPROF, 0.041, False),
        ("lite.txt", LITE, 7.291, True),
    ],
)
def test_a_profile_is_one_latency(file: str, text: str, latency_ms: float, fixed: bool, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    found = read_profile(tmp_path / file)
    assert found.latency_ms == pytest.approx(latency_ms)
    assert found.fixed == fixed


@pytest.mark.parametrize(
    ("file", "text"),
    [
        *(("a.log", text) for text in ("", "GPU Compute Time: min = 1 ms", "AvgRunTime = 0.0 ms")),
        *(("a.json", text) for text in ("[]", "{", "{}", '[{"count": 3}]')),
        *(("a.csv", text) for text in ("", "Op Name,OP Type\nconv,Conv2D\n")),
    ],
)
def test_what_is_no_profile_is_said(file: str, text: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match="a profile must be of trtexec"):
        read_profile(tmp_path / file)


def test_a_profile_is_named_after_its_model(tmp_path: Path) -> None:
    (tmp_path / "conv-8.times.json").write_text(TIMES)
    assert list(named([tmp_path / "conv-8.times.json"])) == ["conv-8"]
