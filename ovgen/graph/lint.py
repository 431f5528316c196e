"""What in a graph an NPU may not take: for a clear message where one refuses it, before anybody reads a compiler's log.

No document lists the operations of NPUs one by one. What is held against is, in this order:

* "NPU Device" of OpenVINO's documentation (2026): static shapes only; F32 and F16 are computed, U8 and INT8 are for
  quantized models. "OpenVINO GenAI on NPU" (2025.4) adds weights in symmetric INT4 and NF4.
* The front end of the compiler that is in every NPU driver, which Intel publishes (npu_compiler,
  ``src/vpux_compiler/src/frontend/IE.cpp``, 2026): the operations that it reads, those that its first passes turn into
  such, and the element types that it knows. The documentation's conformance report of operations (2024.4) covers fewer,
  those of a set of sample models.

https://docs.openvino.ai/2026/openvino-workflow/running-inference/inference-devices-and-modes/npu-device.html
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import openvino as ov

__all__ = ["Finding", "lint", "summary"]

_READ = """
Abs-1 Acos-1 Acosh-4 AdaptiveAvgPool-8 AdaptiveMaxPool-8 Add-1 Asin-1 Asinh-4 Assign-3 Assign-6 Atan-1 Atanh-4
AvgPool-1 AvgPool-16 BatchNormInference-5 BatchToSpace-2 BitwiseAnd-13 BitwiseLeftShift-15 BitwiseNot-13 BitwiseOr-13
BitwiseRightShift-15 BitwiseXor-13 Broadcast-1 Broadcast-3 Bucketize-3 CTCGreedyDecoder-1 CTCGreedyDecoderSeqLen-6
Ceiling-1 Clamp-1 Concat-1 Constant-1 Convert-1 ConvertLike-1 Convolution-1 ConvolutionBackpropData-1 Cos-1 Cosh-1
CumSum-3 DFT-7 DeformableConvolution-8 DeformablePSROIPooling-1 DepthToSpace-1 DetectionOutput-1 Divide-1 Elu-1
EmbeddingBagOffsetsSum-3 EmbeddingBagPackedSum-3 EmbeddingSegmentsSum-3 Equal-1 Erf-1 Exp-1
ExperimentalDetectronROIFeatureExtractor-6 ExtractImagePatches-3 Eye-9 FakeConvert-13 FakeQuantize-1 Floor-1
FloorMod-1 GRN-1 GRUCell-3 GRUSequence-5 Gather-8 GatherElements-6 GatherND-8 GatherTree-1 Gelu-2 Greater-1
GreaterEqual-1 GridSample-9 GroupConvolution-1 GroupConvolutionBackpropData-1 GroupNormalization-12 HSigmoid-5
HSwish-4 HardSigmoid-1 I420toBGR-8 I420toRGB-8 IDFT-7 IRDFT-9 ISTFT-16 Identity-16 If-8 Interpolate-4 Inverse-14
IsFinite-10 IsInf-10 IsNaN-10 LRN-1 LSTMCell-1 LSTMCell-4 LSTMSequence-5 Less-1 LessEqual-1 Log-1 LogSoftmax-5
LogicalAnd-1 LogicalNot-1 LogicalOr-1 LogicalXor-1 Loop-5 MVN-4 MVN-6 MatMul-1 MaxPool-1 MaxPool-14 MaxPool-8
Maximum-1 Minimum-1 Mish-4 Mod-1 Multiply-1 NV12toBGR-8 NV12toRGB-8 Negative-1 NonMaxSuppression-9 NonZero-3
NormalizeL2-1 NotEqual-1 OneHot-1 OneHot-16 PRelu-1 PSROIPooling-1 Pad-1 Parameter-1 Power-1 Proposal-4 RDFT-9
ROIAlign-9 ROIPooling-2 RandomUniform-8 Range-4 ReadValue-3 ReadValue-6 ReduceL1-4 ReduceL2-4 ReduceLogicalAnd-1
ReduceLogicalOr-1 ReduceMax-1 ReduceMean-1 ReduceMin-1 ReduceProd-1 ReduceSum-1 RegionYolo-1 Relu-1 ReorgYolo-2
Reshape-1 Result-1 Reverse-1 ReverseSequence-1 Roll-7 Round-5 STFT-15 ScaledDotProductAttention-13
ScatterElementsUpdate-12 ScatterElementsUpdate-3 ScatterNDUpdate-15 ScatterNDUpdate-4 ScatterUpdate-3 Select-1 Selu-1
ShapeOf-1 ShuffleChannels-1 Sigmoid-1 Sign-1 Sin-1 Sinh-1 SoftPlus-4 SoftSign-9 Softmax-8 SpaceToBatch-2
SpaceToDepth-1 Split-1 Sqrt-1 SquaredDifference-1 Squeeze-1 StridedSlice-1 Subtract-1 Swish-4 Tan-1 Tanh-1
TensorIterator-1 Tile-1 TopK-1 TopK-3 Transpose-1 Unsqueeze-1 VariadicSplit-1
"""
_TURNED_INTO_THOSE = """
AvgPool-14 BatchNormInference-1 DetectionOutput-8 Einsum-7 Gather-1 Gather-7 Gelu-7 Interpolate-1 Interpolate-11
NonMaxSuppression-1 NonMaxSuppression-3 NonMaxSuppression-4 NonMaxSuppression-5 Pad-12 ShapeOf-3 Slice-8 Softmax-1
Squeeze-15 TopK-11
"""
_OPERATIONS = frozenset((_READ + _TURNED_INTO_THOSE).split())
# Integers are for indices and shapes, which no computation is without, though the page does not say so.
_DOCUMENTED = frozenset(["f32", "f16", "u8", "i8", "i4", "nf4", "i64", "i32", "boolean"])
_KNOWN = frozenset(["f64", "bf16", "f8e4m3", "f8e5m2", "f4e2m1", "u64", "u32", "i16", "u16", "u4", "u2"])


@dataclass(frozen=True, slots=True)
class Finding:
    """Something in a graph that an NPU may not take.

    Attributes:
        node: its name.
        operation: its kind and the operation set that brought it: ``"Gelu-7"``.
        reason: what is the matter.
        refused: no compiler takes it. Else compilers are known to take it, and only the documentation does not name it.
    """

    node: str
    operation: str
    reason: str
    refused: bool

    def __str__(self) -> str:
        return f"{self.node} ({self.operation}): {self.reason}"


def lint(model: ov.Model) -> list[Finding]:
    """Hold a graph against what NPUs are documented to take; empty if nothing is amiss."""
    findings = []
    for node in model.get_ordered_ops():
        name, operation = node.get_friendly_name(), _operation(node)
        if operation not in _OPERATIONS:
            findings.append(Finding(name, operation, "NPU compilers know no such operation", True))
        for port in node.outputs():
            if port.get_partial_shape().is_dynamic:
                shape = port.get_partial_shape()
                findings.append(Finding(name, operation, f"NPUs take fixed shapes only, and this is {shape}", True))
            kind = port.get_element_type().get_type_name()
            if kind not in _DOCUMENTED:
                findings.append(Finding(name, operation, _about_type(kind), kind not in _KNOWN))
    return findings


def summary(findings: Iterable[Finding]) -> str:
    """Findings in a line: for each reason the first node, and how many more there are."""
    reasons: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        reasons.setdefault((finding.operation, finding.reason), []).append(finding)
    return "; ".join(
        str(found[0]) + (f" (and {len(found) - 1} more)" if len(found) > 1 else "") for found in reasons.values()
    )


def _operation(node: ov.Node) -> str:
    """As in OpenVINO's conformance reports: ``"Gelu-7"``; operations of other sets carry the whole name of theirs."""
    info = node.get_type_info()
    return f"{info.name}-{info.version_id.removeprefix('opset')}"


def _about_type(kind: str) -> str:
    if kind not in _KNOWN:
        return f"NPU compilers know no {kind}"
    if kind == "u4":
        return "u4 is known to NPU compilers, but the documentation asks for symmetric INT4 weights (i4)"
    return f"{kind} is known to NPU compilers, but the documentation does not name it"
