"""The bytes of an exported file beside its weights and biases, by the form of the file.

A file holds its operators with the names of their tensors, scales, and operators that make numbers of integers. In
small networks they are a third of it. Names are those of the network's cells. ``protobuf`` counts bytes as the files
have them; what is left was fitted. This package may import ``lowered`` and the modules below it.
"""

from __future__ import annotations

from .ascend import AtcContainer, QatContainer
from .base import Container
from .mindir import MindirContainer
from .onnx import OnnxContainer

CONTAINERS: dict[str, Container] = {
    "mindir": MindirContainer(
        406, 75, 107, 112, 288, divided=162, exact=True, whole=640, rows=306, halves=705, tied_tables=False,
        shares_divided=False, shared=133, shared_packed=306, shared_divided=480,
    ),
    "onnx": OnnxContainer(
        110, 60, 150, 102, 250, quantizes_tensors=True, constant=14, whole=99, whole_integers=136, whole_packed=164,
        bias=49, zero_points=48, turned=284, phases=811,
    ),
    "atc": AtcContainer(
        114, 52, 218, 218, 218, constant=25, whole=56, dense=309, turned=307,
        table_bits=(8,),
    ),
    "qat": QatContainer(114, 52, 0, 0, 0, constant=25, whole=56, table_bits=(8,)),
}  # fmt: skip
DEPLOYED = ("mindir", "onnx", "atc")  # what a device's file may name: "qat" is for atc's toolkit, not for a runtime

__all__ = ["CONTAINERS", "DEPLOYED", "Container"]
