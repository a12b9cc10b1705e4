"""Loads networks and data that a text names: ``package.module:name`` or ``path/to/file.py:name``."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from autocomp.primitives.tracing.mindir import first_line
from autocomp.primitives.tracing.platform import load_mindspore
from autocomp.problem.data import Data
from autocomp.process.bounded_files import read_arrays

Shape = tuple[int, ...]


def load_object(reference: str) -> Any:
    """The object that the reference names; modules are also searched in the working directory."""
    place, colon, name = reference.rpartition(":")
    if not (colon and place and name):
        raise ValueError(f"a reference is 'package.module:name' or 'path/to/file.py:name', but got {reference!r}")
    with _own_code(f"{place} cannot be imported"):
        module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    found: Any = module
    for part in name.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{place} has no {name!r}")
        found = getattr(found, part)
    return found


class OwnCodeError(ValueError):
    """The user's own code failed."""


@contextmanager
def _own_code(what: str) -> Iterator[None]:
    """Errors of the user's code become one sentence; those of this module stay as they are."""
    try:
        yield
    except ReferenceNotFoundError:
        raise
    except (Exception, SystemExit) as error:
        said = " ".join(f"{error}".split())
        raise OwnCodeError(f"{what}: {type(error).__name__}: {said}; autocomp --debug shows where") from error


class ReferenceNotFoundError(ValueError):
    """A reference names no module and no file."""


def _import_module(name: str) -> Any:
    if not all(part.isidentifier() for part in name.split(".")):
        raise ReferenceNotFoundError(f"there is no module {name!r}: a file's name ends in .py")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module that exists and fails at an import of its own raises its own error.
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        raise ReferenceNotFoundError(f"there is no module {name!r}, neither installed nor in {Path.cwd()}") from error


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise ReferenceNotFoundError(f"there is no file {path}")
    name = path.stem
    if name in sys.modules and Path(getattr(sys.modules[name], "__file__", None) or "") != path.resolve():
        raise ReferenceNotFoundError(
            f"{path} cannot be imported as {name!r}, a module of that name is loaded: rename the file"
        )
    # Its folder is added to the path, as when Python runs the file: it may import its neighbours, and workers find it.
    if str(path.resolve().parent) not in sys.path:
        sys.path.insert(0, str(path.resolve().parent))
    return importlib.import_module(name)


def _made(named: Any, reference: str) -> Any:
    """What a function or class makes; anything else as it is."""
    if not callable(named):
        return named
    with _own_code(f"{reference} failed"):
        return named()


def load_net(reference: str, weights: Path | None = None) -> Any:
    """The network that the reference names or, where that is a function or a class, the network that it builds; with
    its weights."""
    ms = load_mindspore()
    named = load_object(reference)
    net = named if isinstance(named, ms.nn.Cell) else _made(named, reference)
    if not isinstance(net, ms.nn.Cell):
        raise TypeError(f"--net must give a mindspore.nn.Cell, but {reference} gave {type(net).__name__}")
    if weights is not None:
        load_weights(net, weights)
    net.set_train(False)
    return net


def network_or_file(reference: str, weights: Path | None = None) -> Any:
    """The network that the reference names; or the path of an ``.onnx`` file."""
    if not reference.endswith(".onnx"):
        return load_net(reference, weights)
    if weights is not None:
        raise ValueError(f"an .onnx file holds its weights, but got {reference} and --weights {weights}")
    return Path(reference)


def load_weights(net: Any, path: Path) -> None:
    """Fill every parameter of the network from a ``.ckpt`` or an ``.npz`` file keyed by parameter name."""
    ms = load_mindspore()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    if path.suffix == ".npz":
        found = {name: ms.Parameter(ms.Tensor(array), name=name) for name, array in read_arrays(path).items()}
    elif path.suffix == ".ckpt":
        found = dict(_checkpoint(ms, path))
    else:
        raise ValueError(f"weights are a .ckpt or an .npz file, but got {path.name}")
    _check_parameters(net.parameters_dict(), found, path)
    ms.load_param_into_net(net, found)


def _checkpoint(ms: Any, path: Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = ms.load_checkpoint(str(path))
    except Exception as error:  # MindSpore's errors have pages
        raise ValueError(
            f"{path} must be a checkpoint of MindSpore, but it cannot be read: {first_line(error)}"
        ) from error
    return found


def _check_parameters(wanted: Mapping[str, Any], found: Mapping[str, Any], path: Path) -> None:
    missing = [name for name in wanted if name not in found]
    if missing:
        raise ValueError(
            f"{path.name} must hold every parameter of the network, but lacks {len(missing)} of {len(wanted)}, "
            f"the first {missing[0]!r}"
        )
    for name, parameter in wanted.items():
        if tuple(parameter.shape) != tuple(found[name].shape):
            raise ValueError(f"{path.name}: {name} must have shape {parameter.shape}, but has {found[name].shape}")


def load_data(reference: str) -> Data:
    """The data that the reference names, or that the function there returns, in any form that
    :meth:`autocomp.data.Data.coerce` takes."""
    named = load_object(reference)
    data = Data.coerce(_made(named, reference))
    if not data:
        raise ValueError(f"--data must give samples, but {reference} gave none")
    return data


def parse_shapes(texts: Iterable[str]) -> Shape | list[Shape] | None:
    """``["8,3,224,224"]`` is one input with its batch, several texts are several inputs; no text gives None."""
    shapes = [_parse_shape(text) for text in texts]
    return shapes[0] if len(shapes) == 1 else shapes or None


def _parse_shape(text: str) -> Shape:
    parts = text.replace("x", ",").split(",")
    if not all(part.strip().isdigit() and int(part) > 0 for part in parts):
        raise ValueError(f"a shape is whole numbers from 1, batch first, as in 8,3,224,224, but got {text!r}")
    return tuple(int(part) for part in parts)
