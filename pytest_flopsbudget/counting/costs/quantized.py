"""Quantized layers with weights, counted like floating-point layers.

Source: the definitions in `products.py`, `convolution.py` and `recurrent.py`. Weights are packed for the kernels; the
formulas unpack a weight to read its shape. If an operator converts activations to integers and back inside itself, this
is a choice of the kernel and is not counted. A separate operator that converts is counted in `elementwise.py`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from pytest_flopsbudget.counting.costs.recurrent import CELLS, GRU, LSTM, chain_of
from pytest_flopsbudget.counting.costs.registry import formula, operator, other_formula

if TYPE_CHECKING:
    from pytest_flopsbudget.counting.costs.registry import Call


#: Linear layers with a packed weight. In a sparse weight, blocks that are not stored are counted too, like zeros in a
#: dense weight, because their number depends on data.
_LINEAR = (
    "quantized.linear",
    "quantized.linear_relu",
    "quantized.linear_leaky_relu",
    "quantized.linear_tanh",
    "quantized.linear_dynamic",
    "quantized.linear_relu_dynamic",
    "quantized.linear_dynamic_fp16",
    "quantized.linear_relu_dynamic_fp16",
    "quantized.linear_with_input_q_dq_qweight_dq_output_fp32",
    "quantized.linear_with_input_q_dq_qweight_dq_relu_output_fp32",
    "_quantized.linear",
    "_quantized.linear_dynamic",
    "sparse.qlinear",
    "sparse.qlinear_relu",
    "sparse.qlinear_dynamic",
    "sparse.qlinear_relu_dynamic",
)
#: Linear layers whose weight is a tensor. They always have a bias.
_WRAPPED = (
    "_quantized.wrapped_fbgemm_linear_fp16_weight",
    "_quantized.wrapped_quantized_linear",
    "_quantized._wrapped_quantized_linear_prepacked",
)
_WITH_BIAS_APART = "quantized.linear_dynamic_fp16_unpacked_weight"


@formula(
    *(*_LINEAR, *_WRAPPED, _WITH_BIAS_APART),
    "quantized.matmul",
    "quantized.int4mm_packed_weight_cpu",
    "aten._weight_int4pack_mm_with_scales_and_zeros",
)
def _product(call: Call) -> int:
    """Count the FLOPs of the product of the input (…, in) and a matrix. The output is (…, out)."""
    return 2 * call.first_output.numel() * call.tensor("X", "qa", "self").shape[-1]


def _packed(call: Call) -> Any:
    """Return the packed weight. Overloads use different names for this argument."""
    return next(call[name] for name in ("W_prepack", "packed_weight", "weight") if name in call.names)


def _slice(call: Call) -> int:
    """Return the number of elements in ``weight[0]``, where ``weight`` is the unpacked weight of a convolution."""
    weight: torch.Tensor = _packed(call).unpack()[0]
    return math.prod(weight.shape[1:])


_CONVOLUTIONS = (
    *(f"quantized.conv{dims}d{variant}" for dims in (1, 2, 3) for variant in ("", "_relu", "_dynamic")),
    "quantized.conv2d_add",
    "quantized.conv2d_add_relu",
    *(f"_quantized.conv{dims}d{variant}" for dims in (2, 3) for variant in ("", "_relu")),
)
_TRANSPOSED = (
    *(f"quantized.conv_transpose{dims}d{variant}" for dims in (1, 2, 3) for variant in ("", "_dynamic")),
    "_quantized.conv_transpose1d",
    "_quantized.conv_transpose2d",
)


@formula(*_CONVOLUTIONS)
def _convolution(call: Call) -> int:
    """Count the FLOPs of one sum of products for each output element. The weight is (out, in/groups, *kernel)."""
    return 2 * call.first_output.numel() * _slice(call)


@formula(*_TRANSPOSED)
def _transposed_convolution(call: Call) -> int:
    """Count the FLOPs of ``weight[0]`` times each input element. The weight is (in, out/groups, *kernel)."""
    return 2 * call.tensor("qx").numel() * _slice(call)


def _has_bias(call: Call) -> bool:
    packed = _packed(call)
    unpacked = torch.ops.sparse.qlinear_unpack(packed) if call.name.startswith("sparse.") else packed.unpack()
    return unpacked[1] is not None


@other_formula(*_LINEAR, *_CONVOLUTIONS, *_TRANSPOSED)
def _around(call: Call) -> int:
    """Count the operations of the bias and of fused operations, for each output element."""
    name = call.name.partition(".")[2]
    operations = _has_bias(call) + ("_add" in name) + ("tanh" in name)
    # leaky ReLU: a comparison and a product
    operations += 2 if "leaky_relu" in name else int("relu" in name)
    return operations * call.first_output.numel()


@other_formula(*_WRAPPED)
def _bias(call: Call) -> int:
    return call.first_output.numel()


@other_formula(_WITH_BIAS_APART)
def _bias_apart(call: Call) -> int:
    return 0 if call["bias"] is None else call.first_output.numel()


#: Name of an operator for one time step → the kind of cell, which is a key of `CELLS`.
_STEPS = {
    "quantized.quantized_rnn_relu_cell_dynamic": 0,
    "quantized.quantized_rnn_tanh_cell_dynamic": 1,
    "quantized.quantized_lstm_cell_dynamic": LSTM,
    "quantized.quantized_gru_cell_dynamic": GRU,
}
#: Name of an operator for whole layers → the kind of cell.
_LAYERS = {"aten.quantized_lstm": LSTM, "aten.quantized_gru": GRU}


def _state(call: Call) -> torch.Tensor:
    """Return the hidden state. An LSTM has two states, of which the hidden state is the first."""
    states = call["hx"]
    first: torch.Tensor = states[0] if isinstance(states, (list, tuple)) else states
    return first


def _step(call: Call) -> int:
    """Count the FLOPs of the matrix products of one step with the input (batch, in)."""
    inputs, hidden = call.tensor("input"), _state(call).shape[-1]
    rows = inputs.shape[:-1].numel()
    return 2 * rows * CELLS[_STEPS[call.name]].gates * hidden * (inputs.shape[-1] + hidden)


def _around_step(call: Call) -> int:
    """Count the operations of one step outside of its matrix products."""
    cell = CELLS[_STEPS[call.name]]
    biases = cell.gates * sum(call[name].unpack()[1] is not None for name in ("w_ih", "w_hh"))
    return (cell.forward + biases) * call.first_output.numel()


def _layers(call: Call) -> int:
    """Count the FLOPs of the matrix products of all layers.

    The input is (steps, batch, in), or packed sequences (all steps, in).
    """
    inputs, hidden = call.tensor("input", "data"), _state(call).shape[-1]
    directions = 2 if call["bidirectional"] else 1
    layers = int(call["num_layers"])
    # Layers after the first read the outputs of all directions.
    widths = layers * hidden + inputs.shape[-1] + (layers - 1) * directions * hidden
    gates = CELLS[_LAYERS[call.name]].gates
    return 2 * inputs.shape[:-1].numel() * directions * gates * hidden * widths


def _units(call: Call) -> int:
    """Return the number of elements in the hidden states of all steps, layers and directions."""
    cells = int(call["num_layers"]) * (2 if call["bidirectional"] else 1)
    return call.tensor("input", "data").shape[:-1].numel() * cells * _state(call).shape[-1]


def _around_layers(call: Call) -> int:
    cell = CELLS[_LAYERS[call.name]]
    biases = 2 * cell.gates if call["has_biases"] else 0
    return (cell.forward + biases) * _units(call)


def _step_outputs(call: Call) -> int:
    rows = call.tensor("input").shape[:-1].numel()
    return 2 * rows * CELLS[_STEPS[call.name]].gates * _state(call).shape[-1]


def _layers_outputs(call: Call) -> int:
    return 2 * CELLS[_LAYERS[call.name]].gates * _units(call)


operator(*_STEPS, flops=_step, other=_around_step, activations=_step_outputs)
operator(*_LAYERS, flops=_layers, other=_around_layers, activations=_layers_outputs, chain=chain_of)
