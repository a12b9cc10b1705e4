"""Writes a converted network as a checkpoint folder, and reads the folder again by the layout's own rules."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from autocomp.errors import ExportError
from autocomp.primitives.cells.conversion import converted
from autocomp.primitives.cells.integers_apart import Apart, integers_apart
from autocomp.primitives.export.files import written_whole
from autocomp.primitives.tracing.mindir import first_line
from autocomp.results.point import ExportReport

from . import ascend_v1, compressed_tensors
from .stored_layer import StoredLayer
from .tensor_names import Names, new_names

LAYOUTS = {compressed_tensors.NAME: compressed_tensors, ascend_v1.NAME: ascend_v1}
CONFIG, KEY = "config.json", "quantization_config"


def export_checkpoint(
    net: Any, folder: str | os.PathLike[str], layout: str, names: Names | None = None
) -> ExportReport:
    """Write the weights of a converted network into the folder, read them again, and compare them bit by bit.

    A ``config.json`` that the folder has, the model's own, keeps its other keys. Tensors have the network's names.

    layout: "compressed-tensors" or "ascend-v1". names: others for the network's parameters, see :func:`new_names`.

    Raises:
        ValueError: the layout does not hold a layer's format. ExportError: the files hold other weights.
    """
    target = Path(folder)
    if target.suffix.lower() in (".mindir", ".onnx", ".safetensors") or target.is_file():
        raise ValueError(f"{layout} is a folder, but got {os.fspath(folder)!r}")
    if layout != ascend_v1.NAME and (target / ascend_v1.DESCRIPTION).is_file():
        raise ValueError(f"{layout} needs a folder of its own, but {target} has the {ascend_v1.DESCRIPTION} of another")
    apart = _apart(net, layout)
    renamed = new_names(names, [*dict.fromkeys(p.name for p in apart.net.get_parameters())])
    paths = {path: _path(renamed, path) for path in _dense(apart.net)}
    layers = [StoredLayer.of(name, state, layout).called(paths.get(name, name)) for name, state in apart.layers.items()]
    config = _config(target)
    half = "float16" in (config.get("torch_dtype"), config.get("dtype"))
    tensors = _tensors(apart, layers, layout, renamed, half)
    config.pop(KEY, None)
    if layout == compressed_tensors.NAME:
        stored = {layer.name for layer in layers}
        floats = [path for path in paths.values() if path not in stored]
        config[KEY] = compressed_tensors.described(layers, floats)
    else:
        _write(target / ascend_v1.DESCRIPTION, ascend_v1.described(layers, tensors))
    _write(target / CONFIG, config)
    with written_whole(target / LAYOUTS[layout].WEIGHTS) as draft:
        save_file(tensors, draft, metadata={"format": "pt"})
    found = read_checkpoint(target)
    for layer in layers:
        if layer.name not in found or not np.array_equal(found[layer.name], layer.dequantized()):
            raise ExportError(f"the weight of {layer.name} is another one in the folder {target}")
    size = (target / LAYOUTS[layout].WEIGHTS).stat().st_size
    return ExportReport(target, "safetensors", size / 1e6, 0.0, of_cost=False, form=layout)


def read_checkpoint(folder: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The float weights of the layers in integers, (out, in) float32 by layer, of a folder in either layout.

    FileNotFoundError for a file that is missing, ValueError for a folder that breaks a rule of its layout.
    """
    place = Path(folder)
    ascend = (place / ascend_v1.DESCRIPTION).is_file()
    module = ascend_v1 if ascend else compressed_tensors
    if not (place / module.WEIGHTS).is_file():
        raise FileNotFoundError(f"there is no file {place / module.WEIGHTS}")
    try:
        tensors = load_file(place / module.WEIGHTS)
    except SafetensorError as error:
        raise ValueError(f"{place / module.WEIGHTS} cannot be read: {first_line(error)}") from error
    if ascend:
        if KEY in _config(place):
            raise ValueError(f"{CONFIG} must have no {KEY} beside {ascend_v1.DESCRIPTION}")
        return ascend_v1.read_layers(tensors, _read(place / ascend_v1.DESCRIPTION))
    return compressed_tensors.read_layers(tensors, _config(place).get(KEY, {}))


def _apart(net: Any, layout: str) -> Apart:
    made, apart = converted(net), integers_apart(net)
    if made is None or apart is None or (not apart.layers and not apart.tables):
        raise ValueError(f"{layout} holds weights in integers, but this network has none: export a .safetensors file")
    if apart.tables:
        raise ValueError(
            f"{layout} holds embeddings in float, but {next(iter(apart.tables))} is in integers: exclude it"
        )
    for product in (made.compressed.graph or made.graph).products:
        if f"format/{product}" in made.compressed.plan:
            raise ValueError(f"{layout} holds dense layers in integers, but {product} is a product of activations: "
                             f"exclude it")  # fmt: skip
    for layer, state in made.compressed.layers.items():
        if layer not in apart.layers and (state.quantized is not None or state.activation is not None):
            raise ValueError(f"{layout} holds dense layers in integers, but {layer} is a convolution: exclude it")
    return apart


def _path(renamed: dict[str, str], path: str) -> str:
    """The new path of a dense layer. ValueError where its weight gets no name of a weight."""
    new = renamed.get(f"{path}.weight", f"{path}.weight")
    if not new.endswith(".weight"):
        raise ValueError(f"names must call a dense layer's weight '<layer>.weight', but {path}.weight gets {new}")
    return new.removesuffix(".weight")


def _tensors(
    apart: Apart, layers: list[StoredLayer], layout: str, renamed: dict[str, str], half: bool
) -> dict[str, np.ndarray]:
    stored = {f"{layer.name}.weight" for layer in layers}
    arrays = {renamed[p.name]: p for p in apart.net.get_parameters()}
    found = {name: np.array(p.asnumpy(), order="C") for name, p in arrays.items() if name not in stored}
    for layer in layers:
        made = ascend_v1.tensors_of(layer, half) if layout == ascend_v1.NAME else compressed_tensors.tensors_of(layer)
        found |= {name: np.ascontiguousarray(value) for name, value in made.items()}
    return found


def _dense(net: Any) -> list[str]:
    return [path for path, cell in net.cells_and_names() if type(cell).__name__ == "Dense"]


def _config(folder: Path) -> dict[str, Any]:
    return _read(folder / CONFIG) if (folder / CONFIG).is_file() else {}


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} must be JSON, but {first_line(error)}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} must hold a JSON object")
    return found


def _write(file: Path, value: dict[str, Any]) -> None:
    with written_whole(file) as draft:
        draft.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
