"""Loads MindSpore with fast settings and without its log output."""

from __future__ import annotations

import logging
import os
import pathlib
import random
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

import numpy as np

log = logging.getLogger("autocomp")


def load_mindspore() -> ModuleType:
    """``import mindspore``, with oneDNN limited to AVX2, as ``import autocomp`` sets it.

    On AVX-512 processors oneDNN chooses its reference convolution, 50 to 100 times too slow (docs/architecture.md). The
    setting has an effect only before oneDNN's first call; so a warning says when MindSpore was already loaded without
    it.
    """
    if "ONEDNN_MAX_CPU_ISA" not in os.environ:  # importing autocomp sets it, unless MindSpore was already imported
        log.warning(
            "mindspore was imported before autocomp: if convolutions are slow, set ONEDNN_MAX_CPU_ISA=AVX2 "
            "in the environment or import autocomp first"
        )
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    os.environ.setdefault("GLOG_v", "3")
    import mindspore

    return mindspore


def is_dataset(value: Any) -> bool:
    """Whether it is a ``mindspore.dataset.Dataset``, checked without loading MindSpore."""
    return hasattr(value, "create_tuple_iterator")


@contextmanager
def same_order() -> Iterator[None]:
    """Datasets that shuffle give the same order each time; the seeds that were set are restored."""
    load_mindspore()
    from mindspore.dataset import config

    before, of_python, of_numpy = config.get_seed(), random.getstate(), np.random.get_state()
    config.set_seed(1)
    try:
        yield
    finally:
        config.set_seed(before)  # this seeds Python and NumPy as well
        random.setstate(of_python)
        np.random.set_state(of_numpy)


@contextmanager
def execution_mode(graph: bool) -> Iterator[None]:
    """Run the body in GRAPH or PyNative mode and restore the mode that was set.

    PyNative mode computes in the background: what still fails there after the body has failed is waited for, since
    MindSpore would raise it at the next call, of whatever network.
    """
    ms = load_mindspore()
    before = ms.get_context("mode")
    ms.set_context(mode=ms.GRAPH_MODE if graph else ms.PYNATIVE_MODE)
    try:
        yield
    except BaseException:
        with suppress(Exception):
            ms.runtime.synchronize()
        raise
    finally:
        ms.set_context(mode=before)


@contextmanager
def syntax_level() -> Iterator[None]:
    """Restore what the compiler takes, which a failed export leaves changed: networks then lose None from outputs."""
    ms = load_mindspore()
    before = ms.get_context("jit_syntax_level")
    try:
        yield
    finally:
        ms.set_context(jit_syntax_level=before)


def forward_in_any_mode(net: Any, inputs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """In PyNative mode, which compiles nothing; where that fails and GRAPH mode is set, in GRAPH mode, for which the
    network may be written. The error is that of the mode which is set."""
    try:
        return forward(net, inputs, graph=False)
    except Exception:  # whatever the network's own code raises
        ms = load_mindspore()
        if ms.get_context("mode") != ms.GRAPH_MODE:
            raise
    return forward(net, inputs, graph=True)


@contextmanager
def plain_place() -> Iterator[pathlib.Path]:
    """A path of plain letters, the only ones that MindSpore writes to and loads from: it refuses spaces, brackets and
    Chinese characters in any folder of a path."""
    folders = [folder for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp", ".") if _is_plain(folder)]
    with tempfile.TemporaryDirectory(dir=folders[0] if folders else None, prefix="autocomp") as folder:
        yield pathlib.Path(folder) / "net.mindir"


def _is_plain(folder: str) -> bool:
    whole = os.path.realpath(folder)
    return re.fullmatch(r"[\w./-]+", whole, re.ASCII) is not None and os.access(whole, os.W_OK)


def to_tensors(arrays: tuple[np.ndarray, ...]) -> tuple[Any, ...]:
    ms = load_mindspore()
    return tuple(ms.Tensor(array) for array in arrays)


def as_numpy(value: Any) -> Any:
    """The array of a MindSpore tensor; bfloat16, which NumPy lacks, as float32; anything else as it is."""
    if not hasattr(value, "asnumpy"):
        return value
    return value.float().asnumpy() if "bfloat16" in str(value.dtype).lower() else value.asnumpy()


def to_arrays(outputs: Any) -> tuple[np.ndarray, ...]:
    """The tensors that a network returned, in order; see :func:`named_outputs`."""
    return tuple(array for _, array in named_outputs(outputs))


def named_outputs(outputs: Any, key: str = "") -> list[tuple[str, np.ndarray]]:
    """Each tensor of nested tuples, lists and dicts (their values in order), with the keys that lead to it: "" for
    none. None is left out, as MindSpore's export leaves it out; a number becomes an array of one."""
    if isinstance(outputs, (tuple, list)):
        return [found for part in outputs for found in named_outputs(part, key)]
    if isinstance(outputs, dict):
        return [found for k, part in outputs.items() for found in named_outputs(part, f"{key}.{k}" if key else str(k))]
    if outputs is None:
        return []
    if isinstance(outputs, (bool, int, float, np.ndarray, np.generic)):
        return [(key, np.asarray(outputs))]
    if not hasattr(outputs, "asnumpy"):
        kind = type(outputs).__name__
        raise TypeError(f"a network must return tensors, numbers, None, or tuples and dicts of them, but got {kind}")
    return [(key, (outputs.float() if "BFloat16" in str(outputs.dtype) else outputs).asnumpy())]


def forward(net: Any, inputs: tuple[np.ndarray, ...], graph: bool = True) -> tuple[np.ndarray, ...]:
    """The network's outputs in evaluation mode; its training flag is restored."""
    return tuple(array for _, array in forward_named(net, inputs, graph))


def forward_named(net: Any, inputs: tuple[np.ndarray, ...], graph: bool = True) -> list[tuple[str, np.ndarray]]:
    """The same, with the keys of the dicts that hold them."""
    training = net.training
    net.set_train(False)
    try:
        with execution_mode(graph):
            return named_outputs(net(*to_tensors(inputs)))
    finally:
        net.set_train(training)
