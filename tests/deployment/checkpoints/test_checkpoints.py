"""Folders in the layouts of compressed-tensors and AscendV1: written, read by their rules, refused when broken."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from autocomp.deployment.checkpoints import ascend_v1, compressed_tensors
from autocomp.deployment.checkpoints.checkpoint_folder import export_checkpoint, read_checkpoint
from autocomp.deployment.checkpoints.compressed_tensors import pack, unpack
from autocomp.deployment.checkpoints.stored_layer import StoredLayer
from autocomp.deployment.deploy import NetworkDeployer
from autocomp.primitives import RTN
from autocomp.primitives.choices import Choices
from autocomp.primitives.numerics.plan_compressor import LayerState
from autocomp.primitives.numerics.quantizers import ActivationQuantizer, quantize_weight
from autocomp.primitives.tracing.tracer import trace
from autocomp.problem.jobs import evaluator_of
from autocomp.search_spaces import Format, Plan
from tests.networks import nn, ops

RNG = np.random.default_rng(0)
CONVERTED = {"compressed-tensors": "model.safetensors", "ascend-v1": "quant_model_weights.safetensors"}


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    return RNG.standard_normal((8, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def deployer(x: np.ndarray) -> NetworkDeployer:
    net = nn.SequentialCell([nn.Dense(16, 12), nn.ReLU(), nn.Dense(12, 10, has_bias=False), nn.Dense(10, 3)])
    choices = Choices([Format.parse(text) for text in ("w8", "w4", "w8a8")], 1, ("post-training",))
    return NetworkDeployer(net, evaluator_of(net, trace(net, (x[:1],)), choices, (x,), None, (x,)), (x,), choices)


def layer(bits: int = 8, parts: int = 1, per_token: bool = False) -> StoredLayer:
    integers = RNG.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (5, 12)).astype(np.int8)
    return StoredLayer("a.b", integers, RNG.uniform(0.1, 1, (5, parts)).astype(np.float32), bits, per_token)


def state(bits: int = 8) -> LayerState:
    weight = quantize_weight(RNG.standard_normal((3, 4)).astype(np.float32), bits)
    return LayerState(np.ones(3, bool), np.ones(4, bool), weight.dequantized(), None, weight)


def test_the_first_value_lies_in_the_lowest_bits() -> None:
    assert pack(np.array([[-8, -7, -6, -5, -4, -3, -2, 7]]), 4).view(np.uint32).tolist() == [[0xF6543210]]
    assert pack(np.array([[-128, 127, 0, 1, -127]]), 8).view(np.uint32).tolist() == [[0x8180FF00, 0x00000001]]


@pytest.mark.parametrize(("bits", "columns"), [(4, 8), (4, 13), (8, 4), (8, 9)])
def test_packed_values_come_back(bits: int, columns: int) -> None:
    integers = RNG.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (3, columns)).astype(np.int8)
    words = pack(integers, bits)
    assert words.dtype == np.int32 and words.shape == (3, -(-columns * bits // 32))
    np.testing.assert_array_equal(unpack(words, bits, integers.shape), integers)


@pytest.mark.parametrize("stored", [layer(), layer(4), layer(4, 3), layer(8, 2), layer(per_token=True)])
def test_compressed_tensors_hold_each_format(stored: StoredLayer) -> None:
    config = compressed_tensors.described([stored], [])
    found = compressed_tensors.read_layers(compressed_tensors.tensors_of(stored), config)
    np.testing.assert_array_equal(found["a.b"], stored.dequantized())
    (group,) = config["config_groups"].values()
    assert group["weights"]["num_bits"] == stored.bits and (group["input_activations"] is None) != stored.per_token
    assert group["weights"]["group_size"] == (None if stored.scale.shape[1] == 1 else stored.group_size)


@pytest.mark.parametrize("stored", [layer(), layer(per_token=True)])
def test_ascend_v1_holds_both_formats(stored: StoredLayer) -> None:
    tensors = ascend_v1.tensors_of(stored)
    description = ascend_v1.described([stored], tensors)
    assert set(description.values()) == {"1.0.0", "W8A8_DYNAMIC" if stored.per_token else "W8A16"}
    np.testing.assert_array_equal(ascend_v1.read_layers(tensors, description)["a.b"], stored.dequantized())


@pytest.mark.parametrize("point", [3, 128, 255])
@pytest.mark.parametrize("half", [False, True])
def test_a_server_computes_the_layer_from_the_tensors_of_one_range(point: int, half: bool) -> None:
    """By the rules of both layouts, in integers, is what the network computes."""
    quantizer, x = ActivationQuantizer(0.05, point, 8), RNG.standard_normal((7, 4)).astype(np.float32) * 3
    own = replace(state(), activation=quantizer, bias=RNG.standard_normal(3).astype(np.float32))
    stored = StoredLayer.of("fc", own, "ascend-v1")
    expected = quantizer(x) @ own.weight.T + own.bias
    held = ascend_v1.tensors_of(stored, half)
    levels = np.clip(np.rint(x / held["fc.input_scale"]) + held["fc.input_offset"], -128, 127).astype(np.int64)
    step = held["fc.deq_scale"]
    step = step.astype(np.int32).view(np.float32) if half else step
    found = (levels @ held["fc.weight"].T.astype(np.int64) + held["fc.quant_bias"]) * step
    assert step.dtype == np.float32 and np.abs(found - expected).max() <= 0.501 * step.max()  # of the bias's rounding
    description = ascend_v1.described([stored], held)
    assert set(description.values()) == {"1.0.0", "W8A8"}
    np.testing.assert_array_equal(ascend_v1.read_layers(held, description)["fc"], stored.dequantized())
    held, config = compressed_tensors.tensors_of(stored), compressed_tensors.described([stored], [])
    (group,) = config["config_groups"].values()
    inputs = group["input_activations"]
    assert (inputs["strategy"], inputs["dynamic"], inputs["symmetric"]) == ("tensor", False, point == 128)
    zero = held.get("fc.input_zero_point", np.zeros(1, np.int8))
    levels = np.clip(np.rint(x / held["fc.input_scale"]) + zero, -128, 127) - zero
    found = (levels * held["fc.input_scale"]) @ (held["fc.weight"] * held["fc.weight_scale"]).T + own.bias
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(compressed_tensors.read_layers(held, config)["fc"], stored.dequantized())


@pytest.mark.parametrize(
    ("form", "change", "sentence"),
    [
        ("ascend-v1", {"0.deq_scale": np.ones(12, np.float32)}, "^0.deq_scale must be input_scale"),
        ("ascend-v1", {"0.quant_bias": np.ones(12, np.float32)}, "^W8A8 needs 0.quant_bias in int32"),
        ("ascend-v1", {"0.input_offset": np.ones(2, np.int8)}, r"^W8A8 needs 0.input_offset in int8, of shape \(1,\)"),
        ("compressed-tensors", {"0.input_scale": np.ones(12, np.float32)}, "^0.input_scale must be one float32"),
        ("compressed-tensors", {"0.input_zero_point": np.ones(1, np.float32)}, "^0.input_zero_point must be one int8"),
    ],
)
def test_one_range_of_an_input_is_written_and_read_again(
    form: str, change: dict[str, Any], sentence: str, deployer: NetworkDeployer, tmp_path: Path
) -> None:
    plan = Plan({"format/0": "w8a8", "format/2": "w8"})
    quantizer = deployer.evaluator.compress(plan).layers["0"].activation
    assert quantizer is not None and not quantizer.symmetric
    deployer.export(plan, tmp_path, form=form)
    assert set(read_checkpoint(tmp_path)) == {"0", "2"}
    file = tmp_path / CONVERTED[form]
    save_file(load_file(file) | change, file)
    with pytest.raises(ValueError, match=sentence):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("module", "stored", "sentence"),
    [
        (compressed_tensors, layer(3), "^compressed-tensors holds .* but a.b has w3: choose"),
        (compressed_tensors, layer(4, per_token=True), "a.b has w4a8 per token: choose"),
        (ascend_v1, layer(4), "^ascend-v1 holds .* but a.b has w4: choose"),
        (ascend_v1, layer(8, 3), "a.b has w8g4: choose"),
    ],
)
def test_other_formats_are_refused(module: Any, stored: StoredLayer, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        module.tensors_of(stored)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"activation": ActivationQuantizer(0.1, 3, 4)}, "^ascend-v1 rounds inputs to 8 bits, but fc has 4: choose a8"),
        ({"scale": np.ones(4, np.float32)}, "but fc divides its input"),
        ({"row_bits": 4}, "but fc has 4: choose a8"),
        ({"quantized": None}, "fc rounds its input alone"),
        ({"quantized": replace(state().quantized, zero_point=np.ones(3, np.int8))}, "those of fc .* are not"),  # type: ignore[type-var]
    ],
)
def test_what_no_layout_holds_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        StoredLayer.of("fc", replace(state(), **changes), "ascend-v1")


@pytest.mark.parametrize(("form", "file"), CONVERTED.items())
def test_a_plan_is_exported_and_read_again(form: str, file: str, deployer: NetworkDeployer, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "own", "quantization_config": {"quant_method": "old"}}')
    second = "w4" if form == "compressed-tensors" else "w8"
    plan = Plan({"format/0": "w8", "format/2": second})
    report = deployer.export(plan, tmp_path, form=form)
    expected = deployer.evaluator.compress(plan).layers
    found = read_checkpoint(tmp_path)
    assert set(found) == {"0", "2"} and report.kind == f"safetensors, {form}"
    for name, weight in found.items():
        np.testing.assert_array_equal(weight, expected[name].weight)
    tensors = load_file(tmp_path / file)
    assert {"0.bias", "3.weight", "3.bias"} < set(tensors) and tensors["3.weight"].dtype == np.float32
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "own" and ("quantization_config" in config) == (form == "compressed-tensors")
    if form == "compressed-tensors":
        assert config["quantization_config"]["ignore"] == ["3"]
        assert config["quantization_config"]["format"] == "pack-quantized"
    else:
        description = json.loads((tmp_path / "quant_model_description.json").read_text())
        assert description["0.weight"] == "W8A16" and description["0.bias"] == "W8A16"
        assert description["3.weight"] == "FLOAT"


@pytest.mark.parametrize(("form", "file"), CONVERTED.items())
def test_tensors_bear_the_names_that_a_server_expects(
    form: str, file: str, deployer: NetworkDeployer, tmp_path: Path
) -> None:
    plan = Plan({"format/0": "w8"})
    patterns = {r"^0\.": "model.layers.0.up_proj.", r"^(\d)\.": r"model.layers.\1.down_proj."}
    deployer.export(plan, tmp_path / "own", form=form)
    deployer.export(plan, tmp_path / "patterns", form=form, names=patterns)
    deployer.export(plan, tmp_path / "function", form=form, names=lambda name: f"model.{name}")
    own, new, called = (load_file(tmp_path / folder / file) for folder in ("own", "patterns", "function"))

    def renamed(name: str) -> str:
        layer, _, part = name.partition(".")
        return f"model.layers.{layer}.{'up' if layer == '0' else 'down'}_proj.{part}"

    assert set(new) == {renamed(name) for name in own} and set(called) == {f"model.{name}" for name in own}
    for name, value in own.items():
        np.testing.assert_array_equal(new[renamed(name)], value)
    (first,) = read_checkpoint(tmp_path / "patterns")
    assert first == "model.layers.0.up_proj"
    config = json.loads((tmp_path / "patterns" / "config.json").read_text())
    if form == "compressed-tensors":
        assert config["quantization_config"]["ignore"] == [f"model.layers.{i}.down_proj" for i in (2, 3)]
    else:
        description = json.loads((tmp_path / "patterns" / "quant_model_description.json").read_text())
        assert description["model.layers.0.up_proj.weight"] == "W8A16" and set(new) < set(description)


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ({"(": "a"}, r"^names must be regular expressions, but '\(' with 'a': "),
        ({r"^0": r"\3"}, r"^names must be regular expressions, but '\^0' with "),
        ({"attention": "self_attn"}, "^names has 'attention', which fits none of the names; the first is 0.weight"),
        ({r".*": ""}, "^names must give each tensor a name, but 0.weight gets ''"),
        (lambda name: 5, "^names must give each tensor a name, but 0.weight gets 5"),
        ({r"^\d": "layer"}, "a name of its own, but 0.weight, 2.weight, 3.weight get layer.weight"),
        (lambda name: f"{name}.data", "a dense layer's weight '<layer>.weight', but 0.weight gets 0.weight.data"),
    ],
)  # fmt: skip
def test_wrong_names_get_a_sentence(names: Any, sentence: str, deployer: NetworkDeployer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=sentence):
        deployer.export(Plan({"format/0": "w8"}), tmp_path / "folder", form="compressed-tensors", names=names)
    assert not list(tmp_path.iterdir())


def test_plans_that_no_folder_holds_write_nothing(deployer: NetworkDeployer, tmp_path: Path) -> None:
    for plan, sentence in (
        ({}, "has none: export a .safetensors file"),
        ({"format/0": "w4"}, "but 0 has w4"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=sentence):
            deployer.export(Plan(plan), tmp_path / "folder", form="ascend-v1")
    with pytest.raises(ValueError, match=r"is a folder, but got '.*\.onnx'"):
        deployer.export(Plan({"format/0": "w8"}), tmp_path / "net.onnx", form="ascend-v1")
    assert not list(tmp_path.iterdir())


def test_two_layouts_need_two_folders(deployer: NetworkDeployer, tmp_path: Path) -> None:
    deployer.export(Plan({"format/0": "w8"}), tmp_path, form="ascend-v1")
    before = sorted((file.name, file.read_bytes()) for file in tmp_path.iterdir())
    with pytest.raises(ValueError, match=r"compressed-tensors needs a folder of its own, but .* of another"):
        deployer.export(Plan({"format/0": "w8"}), tmp_path, form="compressed-tensors")
    assert sorted((file.name, file.read_bytes()) for file in tmp_path.iterdir()) == before


def test_a_convolution_in_integers_is_refused(tmp_path: Path) -> None:
    images = RNG.standard_normal((4, 1, 4, 4)).astype(np.float32)
    net = nn.SequentialCell([nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Dense(32, 2)])
    algorithm = RTN(8, 32)
    converted = algorithm.convert(algorithm.apply(net, calibrate=images))
    with pytest.raises(ValueError, match="but 0 is a convolution: exclude it"):
        export_checkpoint(converted, tmp_path, "compressed-tensors")


class Attention(nn.Cell):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k = nn.Dense(4, 4), nn.Dense(4, 4)

    def construct(self, x: Any) -> Any:
        return ops.matmul(self.q(x), self.k(x).transpose((0, 2, 1)))


def test_a_product_of_activations_in_integers_is_refused(tmp_path: Path) -> None:
    x, net = RNG.standard_normal((4, 3, 4)).astype(np.float32), Attention()
    graph = trace(net, (x[:1],))
    (product,) = graph.products
    formats, used = [Format.parse(text) for text in ("w8", "w8a8")], ("post-training", "activation-products")
    choices = Choices(formats, 1, used, quantizes_tensors=True)
    own = NetworkDeployer(net, evaluator_of(net, graph, choices, (x,), None, (x,)), (x,), choices)
    value = next(knob.values[-1] for knob in own.evaluator.space.knobs if knob.name == f"format/{product}")
    own.export(Plan({"format/q": "w8"}), tmp_path / "fine", form="ascend-v1")
    with pytest.raises(ValueError, match=f"but {product} is a product of activations: exclude it"):
        own.export(Plan({"format/q": "w8", f"format/{product}": value}), tmp_path / "no", form="ascend-v1")


@pytest.mark.parametrize(
    ("form", "change", "sentence"),
    [
        ("compressed-tensors", {"0.weight_scale": np.ones((3, 1), np.float32)}, r"must have the shape \(12, 1\)"),
        ("compressed-tensors", {"0.weight_shape": np.array([12, 99])}, "cannot have the shape"),
        ("compressed-tensors", {"0.weight_packed": np.ones((12, 4), np.int8)}, "needs 0.weight_packed in int32"),
        ("compressed-tensors", {"7.weight_scale": np.ones((3, 1), np.float32)}, "no group of the description names"),
        ("compressed-tensors", {"3.weight_scale": np.ones((3, 1), np.float32)}, "but 'ignore' names it"),
        ("ascend-v1", {"0.weight_offset": np.ones((3, 1), np.float32)}, r"must have the shape \(12, 1\)"),
        ("ascend-v1", {"0.weight": np.ones((12, 16), np.float32)}, "needs 0.weight in int8"),
        ("ascend-v1", {"7.weight": np.ones(3, np.float32)}, "lacks 7.weight"),
        ("ascend-v1", {"3.weight": np.ones((3, 10), np.int8)}, "is FLOAT, but holds int8"),
    ],
)
def test_broken_folders_are_refused(
    form: str, change: dict[str, Any], sentence: str, deployer: NetworkDeployer, tmp_path: Path
) -> None:
    deployer.export(Plan({"format/0": "w8"}), tmp_path, form=form)
    file = tmp_path / CONVERTED[form]
    save_file(load_file(file) | change, file)
    with pytest.raises(ValueError, match=sentence):
        read_checkpoint(tmp_path)
    file.unlink()
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_checkpoint(tmp_path)
