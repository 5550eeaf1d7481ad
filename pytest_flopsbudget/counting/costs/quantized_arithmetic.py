"""Quantized operators without weights: each costs as much as its floating-point counterpart.

Source: the counterparts in `elementwise.py`, `normalization.py`, `softmax.py`, `pooling.py` and `accumulation.py`.
Rescaling an output inside an operator is a choice of the kernel and is not counted.

Exported graphs contain quantized operators on integer tensors, in the namespace ``quantized_decomposed``. PyTorch's
static runtime has other names for some of the operators.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.elementary import elements
from pytest_flopsbudget.counting.costs.elementwise import operations
from pytest_flopsbudget.counting.costs.registry import REGISTRY, other_formula

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_flopsbudget.counting.costs.registry import Call, Formula

#: Sums and products, of two tensors, or of a tensor and a number.
_ARITHMETIC = [f"{name}{variant}" for name in ("add", "mul") for variant in ("", "_scalar")]
#: Name of an operator → operations per element of the output.
_EACH: Mapping[str, int] = {
    **{f"quantized.{name}{out}": 1 for name in _ARITHMETIC for out in ("", "_out")},
    **{f"quantized.{name}_relu{out}": 2 for name in _ARITHMETIC for out in ("", "_out")},
    "_quantized.add": 1,
    "onednn.qadd": 1,
    "onednn.qadd_relu": 2,
    "onednn.qmul": 1,
    "quantized.cat_relu": 1,
    "quantized.cat_relu_out": 1,
    "quantized.hardswish": operations("hardswish"),
    "quantized.leaky_relu": operations("leaky_relu"),
    "quantized.prelu": operations("_prelu_kernel"),
    "quantized.relu6": operations("hardtanh"),
    "quantized.sigmoid": operations("sigmoid"),
    "quantized.threshold": operations("threshold"),
    # Batch norm is one scale and one shift, into which the statistics are folded. A fused ReLU costs one more.
    **{f"quantized.batch_norm{dims}": 2 for dims in ("", "1d", "2d", "3d")},
    **{f"quantized.batch_norm{dims}_relu": 3 for dims in ("", "1d", "2d", "3d")},
    "onednn.qbatch_norm2d": 2,
    **{
        f"quantized_decomposed.quantize_per_{what}": operations("quantize_per_tensor")
        for what in ("tensor", "channel", "channel_group", "token")
    },
    "quantized_decomposed.fake_quant_per_channel": operations("fake_quantize_per_channel_affine_cachemask"),
    "static_runtime.dequantize_copy": operations("dequantize"),
    "static_runtime.signed_log1p": 4,  # sign(x) · log(1 + |x|)
}


@other_formula(*_EACH)
def _each(call: Call) -> int:
    return _EACH[call.name] * call.first_output.numel()


#: Name of an operator → name of the ATen operator that does equal work and has equal argument names.
_FLOAT_COUNTERPARTS: Mapping[str, str] = {
    "quantized.celu": "aten.celu",
    "quantized.clamp": "aten.clamp",
    "quantized.elu": "aten.elu",
    "quantized.group_norm": "aten.native_group_norm",
    "quantized.instance_norm": "aten.native_group_norm",
    "quantized.layer_norm": "aten.native_layer_norm",
    "quantized.max_pool1d": "aten.quantized_max_pool1d",
    "quantized.max_pool2d": "aten.quantized_max_pool2d",
    "quantized.softmax": "aten._softmax",
    "static_runtime.embedding_bag": "aten._embedding_bag",
    "static_runtime.layer_norm": "aten.native_layer_norm",
}


def _count_as(counterpart: str) -> Formula:
    def formula(call: Call) -> int:
        found = REGISTRY.facets(counterpart).other
        if found is None:
            raise LookupError(counterpart)
        return found(call)

    return formula


for _operator, _counterpart in _FLOAT_COUNTERPARTS.items():
    other_formula(_operator)(_count_as(_counterpart))


@other_formula("quantized.dropout")
def _dropout(call: Call) -> int:
    """Count the scaling of the mask, and the product of mask and input. Return 0 if nothing is dropped."""
    return 2 * call.first_output.numel() if call["training"] and call["p"] else 0


_BAGS = """
embedding_bag_byte embedding_bag_byte_rowwise_offsets embedding_bag_4bit embedding_bag_4bit_rowwise_offsets
embedding_bag_2bit_rowwise_offsets
"""
_MEAN = 1


@other_formula(*(f"quantized.{name}" for name in _BAGS.split()))
def _embedding_bag(call: Call) -> int:
    """Count the sums of rows into bags, the products with weights, and the divisions for a mean."""
    output = call.first_output
    # One byte of a row may hold several values, so the width is read from the output.
    count = call.tensor("indices").numel() * output.shape[-1]
    weighted = count if call["per_sample_weights"] is not None else 0
    return count + weighted + (output.numel() if call["mode"] == _MEAN else 0)


@other_formula(
    *(f"quantized_decomposed.dequantize_per_{what}" for what in ("tensor", "channel", "channel_group", "token"))
)
def _dequantize(call: Call) -> int:
    """Count the subtraction of the zero point, if there is one, and the product with the scale."""
    shifted = "zero_points" not in call.names or call["zero_points"] is not None
    return (1 + shifted) * call.first_output.numel()


@other_formula(
    *(
        f"quantized_decomposed.choose_qparams{what}"
        for what in ("", "_symmetric", "_per_token", "_per_token_asymmetric")
    )
)
def _range(call: Call) -> int:
    """Count 2 operations per element, which find the range of the values."""
    # a minimum and a maximum; `choose_qparams_per_token`: an absolute value and a maximum
    return 2 * elements([call.tensor("input")])


@other_formula("static_runtime.clamp_nan_to_num")
def _clamped_numbers(call: Call) -> int:
    """Count one comparison for each bound that the call gives, and the replacement of NaNs."""
    bounds = (call["min"] is not None) + (call["max"] is not None)
    return (bounds + operations("nan_to_num")) * call.first_output.numel()
