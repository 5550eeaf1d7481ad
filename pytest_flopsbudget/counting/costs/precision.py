"""Operators whose products have operands of two precisions, such as a weight of 4 bits and inputs in half precision.

What counts are the operands that the operator receives. If a kernel converts inputs to integers inside itself, this is
its own choice. A weight that another operator converts before the product counts in the precision that it has then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs.registry import operator
from pytest_flopsbudget.counting.tensors.metadata import bits_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_flopsbudget.counting.costs.registry import Call


def _input_bits(call: Call) -> int:
    return bits_of(call.tensor("X", "x", "qx", "input", "self", "inp", "data").dtype)


def _with_weight_of(bits: int) -> Callable[[Call], tuple[int, int]]:
    return lambda call: (_input_bits(call), bits)


def _by_tensors(call: Call) -> tuple[int, int]:
    return _input_bits(call), bits_of(call.tensor("weight", "qw").dtype)


def _by_cell(call: Call) -> tuple[int, int]:
    """Return the bits for a recurrent layer, whose C++ objects name their precision in their state."""
    cells: Any = [cell for cell in call["params"] if type(cell) is torch.ScriptObject]
    return _input_bits(call), 16 if cells and "fp16" in cells[0].__getstate__()[0][0] else 8


def _by_packed_weight(call: Call) -> tuple[int, int]:
    weight: Any = call["w_ih"]
    # A weight in half precision unpacks to single precision.
    return _input_bits(call), 8 if weight.unpack()[0].dtype is torch.qint8 else 16


operator(
    *(f"aten._weight_int4pack_mm{variant}" for variant in ("", "_for_cpu", "_with_scales_and_zeros")),
    "quantized.int4mm_packed_weight_cpu",
    "aten._dyn_quant_matmul_4bit",
    bits=_with_weight_of(4),
)
operator(
    "aten._weight_int8pack_mm",
    *(f"quantized.linear{variant}_dynamic" for variant in ("", "_relu")),
    "quantized.linear_with_input_q_dq_qweight_dq_output_fp32",
    "quantized.linear_with_input_q_dq_qweight_dq_relu_output_fp32",
    "_quantized.linear_dynamic",
    "_quantized.wrapped_quantized_linear",
    "_quantized._wrapped_quantized_linear_prepacked",
    *(f"sparse.qlinear{variant}_dynamic" for variant in ("", "_relu")),
    *(f"quantized.conv{dims}d_dynamic" for dims in (1, 2, 3)),
    *(f"quantized.conv_transpose{dims}d_dynamic" for dims in (1, 2, 3)),
    bits=_with_weight_of(8),
)
operator(
    *(f"quantized.linear{variant}_dynamic_fp16" for variant in ("", "_relu")),
    "quantized.linear_dynamic_fp16_unpacked_weight",
    "_quantized.wrapped_fbgemm_linear_fp16_weight",
    *(f"onednn.linear{variant}_dynamic_fp16" for variant in ("", "_relu")),
    bits=_with_weight_of(16),
)
operator(
    "aten._mixed_dtypes_linear",
    "onednn.qlinear_pointwise",
    *(f"onednn.qconv{dims}_pointwise" for dims in ("", "1d", "2d", "3d")),
    bits=_by_tensors,
)
operator("aten.quantized_lstm", "aten.quantized_gru", bits=_by_cell)
operator(
    *(f"quantized.quantized_{cell}_cell_dynamic" for cell in ("rnn_relu", "rnn_tanh", "lstm", "gru")),
    bits=_by_packed_weight,
)
