"""Recurrent layers that run as one operator: 2 · elements of the weight matrices, per time step and sequence.

Source: each gate of a cell is one product of the input and one of the hidden state (the definitions in the
documentation of `torch.nn.RNN`, `LSTM`, `GRU`; 1, 4 and 3 gates), plus one for the projection of an LSTM that has it.
The matrices' elements hold all of it: gates · hidden · (input + hidden). The backward pass has, for each product, one
for the gradient of its weight and one for that of its other operand: input or hidden state. Those that nobody asks
for, like the gradient of an initial state of zeros, are not counted, as they are not where the layer runs step by step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from pytest_flopsbudget.counting.costs.registry import formula, other_formula, per_mac

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_flopsbudget.counting.costs.registry import Call


def _matrices(weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [weight for weight in weights if weight.ndim == 2]  # noqa: PLR2004 -- biases are vectors


def _elements(weights: Sequence[torch.Tensor]) -> int:
    return sum(weight.numel() for weight in weights)


def _steps(inputs: torch.Tensor) -> int:
    """Inputs (steps, batch, features), or packed ones (steps of all sequences, features)."""
    return inputs.shape[:-1].numel()


@formula("aten.mkldnn_rnn_layer")
def _mkldnn_layer(call: Call) -> int:
    """One layer in one direction."""
    inputs = call.tensor("input")
    return per_mac(inputs) * _steps(inputs) * _elements([call.tensor("weight0"), call.tensor("weight1")])


@formula("aten.mkldnn_rnn_layer_backward")
def _mkldnn_layer_backward(call: Call) -> int:
    """The kernel computes every gradient; only autograd knows which of them anybody asked for."""
    inputs, of_input, of_hidden = call.tensor("input"), call.tensor("weight1"), call.tensor("weight2")
    node = torch._C._current_autograd_node()  # noqa: SLF001 -- the one way to ask
    # In the order of the forward operator: input, four weights, two initial states.
    asked = [True] * 7 if node is None else [function is not None for function, _ in node.next_functions]
    steps = _steps(inputs)
    hidden_steps = steps if asked[5] else steps - call.tensor("hx_").shape[:-1].numel()
    macs = steps * (asked[0] * of_input.numel() + asked[1] * of_input.numel() + asked[2] * of_hidden.numel())
    return per_mac(inputs) * (macs + hidden_steps * of_hidden.numel())


@formula("aten._cudnn_rnn", "aten.miopen_rnn")
def _stack(call: Call) -> int:
    """All layers and directions at once; the inputs of every layer have as many steps as the first one's."""
    inputs = call.tensor("input")
    return per_mac(inputs) * _steps(inputs) * _elements(_matrices(call["weight"]))


@formula("aten._cudnn_rnn_backward", "aten.miopen_rnn_backward")
def _stack_backward(call: Call) -> int:
    """Output mask: input, two initial states, weights. The weights of a layer and direction come input's first."""
    inputs, matrices = call.tensor("input"), _matrices(call["weight"])
    for_input, for_hidden, _, for_weights = call["output_mask"]
    steps = _steps(inputs)
    elements = _elements(matrices)
    macs = steps * elements * (1 + bool(for_weights))
    per_cell = 3 if call["proj_size"] else 2
    if not for_input:
        directions = 2 if call["bidirectional"] else 1
        macs -= steps * _elements(matrices[0 : directions * per_cell : per_cell])
    if not for_hidden:
        batch = call.tensor("hx").shape[1]
        macs -= batch * _elements(matrices[1::per_cell])
    return per_mac(inputs) * macs


# What is no product, for each step and unit of a layer and direction; each bias adds one for every gate.
#: Kind of cell → (gates, operations): a sum for every gate; tanh or ReLU 1, sigmoid 4.
_CELLS = {
    0: (1, 2),  # RNN, ReLU
    1: (1, 2),  # RNN, tanh
    2: (4, 22),  # LSTM: 4 sums, 3 sigmoid, tanh; c' = f·c + i·g: 3; h = o · tanh(c'): 2
    3: (3, 16),  # GRU: 3 sums, 2 sigmoid, tanh, r·n: 1; h' = (h - n)·z + n: 3
}


@other_formula("aten.mkldnn_rnn_layer")
def _around_mkldnn_layer(call: Call) -> int:
    gates, operations = _CELLS[call["mode"]]
    biases = 2 * gates if call["has_biases"] else 0
    return (operations + biases) * _steps(call.tensor("input")) * int(call["hidden_size"])


@other_formula("aten._cudnn_rnn", "aten.miopen_rnn")
def _around_stack(call: Call) -> int:
    """All layers and directions; the biases are the vectors among the weights."""
    gates, operations = _CELLS[call["mode"]]
    layers = int(call["num_layers"]) * (2 if call["bidirectional"] else 1)
    biases = 2 * gates if any(weight.ndim == 1 for weight in call["weight"]) else 0
    return (operations + biases) * layers * _steps(call.tensor("input")) * int(call["hidden_size"])


@other_formula("aten._thnn_fused_lstm_cell", "aten._thnn_fused_gru_cell")
def _around_cell(call: Call) -> int:
    """One step, its products done: gates (batch, gates · hidden)."""
    gates, operations = _CELLS[2 if "lstm" in call.name else 3]
    biases = gates * sum(call[name] is not None for name in ("input_bias", "hidden_bias"))
    return (operations + biases) * call.first_output.numel()
