"""The documented rules for ONNX files that go to an Ascend, each in our words and with its source."""

from __future__ import annotations

from dataclasses import dataclass

HIASCEND = "https://www.hiascend.com/document/detail"
AMCT = "github.com/hicann/amct, amct_pytorch/classic/graph_based/amct_pytorch"
PASSES = f"{AMCT}/optimizer"
VERSIONS = f"{HIASCEND}/zh/canncommercial/900/devaids/amct/atlasamct_16_0017.html"
QUANT_PAGE = f"{HIASCEND}/zh/canncommercial/800/apiref/aolapi/atlasoxol_09_0015.html"
DEQUANT_PAGE = f"{HIASCEND}/zh/canncommercial/5046/reference/fwoperatorlist/atlasoxol_09_0016.html"
LAYERS_PAGE = f"{HIASCEND}/en/canncommercial/800/devaids/aoe/aoepar_16_076.html"
RECORD_PAGE = f"{HIASCEND}/zh/CANNCommunityEdition/83RC1alpha001/devaids/amct/atlasamct_16_0165.html"
ATC_PAGE = f"{HIASCEND}/en/CANNCommunityEdition/910/devaids/atctool/atctool_0040.html"
QAT_PAGE = f"{HIASCEND}/en/CANNCommunityEdition/920/devaids/amct/atlasamct_16_0153.html"
CONVERT_PAGE = f"{HIASCEND}/en/canncommercial/850/devaids/amct/atlasamct_16_0160.html"
PLUGIN = "https://gitcode.com/cann/ops-nn/blob/9.0.0-beta.2/common/src/framework/ascend_dequant_onnx_plugin.cpp"

DEPLOYABLE, TRAINING = "deployable", "training"


@dataclass(frozen=True)
class AscendRule:
    """form: the one it is for; None: both."""

    name: str
    text: str
    source: str
    form: str | None = None


RULES = {
    rule.name: rule
    for rule in (
        AscendRule("opset", "operators are ONNX's own, of one opset from 8 to 14", f"{VERSIONS}; {QUANT_PAGE}"),
        AscendRule("shapes", "shapes are static, and no size is 0", ATC_PAGE),
        AscendRule("graph", "every tensor is made once, before it is read; types and shapes of operators fit",
             "https://onnx.ai/onnx/repo-docs/IR.html"),
        AscendRule("names", "nodes have names, and no two the same: the toolkit finds layers by them", RECORD_PAGE),
        AscendRule("gemm", "Gemm does not transpose its input, and scales neither product nor bias",
             f"{LAYERS_PAGE}; {PASSES}/insert_bias_quant_pass.py"),
        AscendRule("matmul", "the weight of a MatMul is a constant matrix", f"{LAYERS_PAGE}; {QAT_PAGE}"),
        AscendRule("transposed", "a ConvTranspose has no dilation and a weight of four axes", LAYERS_PAGE),
        AscendRule("volume", "a convolution of volumes has no dilation in depth", LAYERS_PAGE),
        AscendRule("quant-attributes", "AscendQuant has one input, a FLOAT scale above 0, a FLOAT offset that is "
             "a whole number from -128 to 127, and dst_type INT8", f"{QUANT_PAGE}; {PASSES}/insert_quant_pass.py",
             DEPLOYABLE),
        AscendRule("quant-readers",
             "what AscendQuant writes is read as the input of Conv, ConvTranspose, Gemm or MatMul",
             f"{AMCT}/capacity/capacity_config.csv, QUANTIZABLE_ONNX_TYPES", DEPLOYABLE),
        AscendRule("weight", "the weight of a layer in integers is a constant of int8, read by layers alone",
             f"{PASSES}/insert_weight_quant_pass.py; {LAYERS_PAGE}", DEPLOYABLE),
        AscendRule("bias", "the bias of a layer in integers is a constant of int32 with a value for each output; a "
             "MatMul's is added to its integers", f"{PASSES}/insert_bias_quant_pass.py; insert_dequant_pass.py",
             DEPLOYABLE),
        AscendRule("dequant", "what a layer in integers gives is read by one AscendDequant alone, and nothing else is "
             "read by one", f"{PASSES}/insert_dequant_pass.py", DEPLOYABLE),
        AscendRule("dequant-attributes", "AscendDequant has a dtype that is 0 (float) or 1 (float16), of the graph "
             "engine's types; sqrt_mode and relu_flag are 0 or 1", f"{PLUGIN}; {DEQUANT_PAGE}", DEPLOYABLE),
        AscendRule("deq-scale", "deq_scale is a constant of uint64: a float32 above 0 in its bits 0 to 31, and 0 "
             "above, since weights have no offset",
             f"{PASSES}/insert_dequant_pass.py, fuse_dequant_param; {RECORD_PAGE}", DEPLOYABLE),
        AscendRule("channels", "deq_scale has one value, or one for each output of a Conv or ConvTranspose; Gemm and "
             "MatMul have one", f"{AMCT}/capacity/capacity_config.csv, CHANNEL_WISE_ONNX_TYPES; {RECORD_PAGE}",
             DEPLOYABLE),
        AscendRule("one-form", "no QuantizeLinear and no DequantizeLinear is left", f"{QAT_PAGE}", DEPLOYABLE),
        AscendRule("pairs", "QuantizeLinear is read by DequantizeLinear alone, with the same scale and zero point, "
             "unless it makes an output", CONVERT_PAGE, TRAINING),
        AscendRule("input-scale", "inputs have one scale; only weights may have one for each channel", CONVERT_PAGE,
             TRAINING),
        AscendRule("weight-scale", "a weight of Conv has one scale or one for each output (axis 0), of ConvTranspose "
             "likewise (axis 1), of Gemm and MatMul one", QAT_PAGE, TRAINING),
        AscendRule("weight-zero", "zero points of weights are 0", RECORD_PAGE, TRAINING),
        AscendRule("weight-constant", "a rounded weight is a constant of float32", QAT_PAGE, TRAINING),
        AscendRule("both", "a Conv, ConvTranspose, Gemm or MatMul has its input and its weight rounded, or neither; "
             "nothing but these and Add reads a rounded tensor", QAT_PAGE, TRAINING),
    )
}  # fmt: skip

NOT_CHECKED = (
    "that atc compiles the file, and that an Ascend runs it: none was at hand",
    "that the chip's operators have kernels for these sizes, types and attributes",
    "how operators of the network that are not layers in integers are compiled",
    "latency, memory, and what float16 does to the outputs",
)
