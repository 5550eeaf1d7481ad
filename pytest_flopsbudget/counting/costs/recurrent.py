"""Recurrent layers that run as one operator: 2 · elements of the weight matrices, per time step and sequence.

Source: each gate of a cell is one product of the input and one of the hidden state (the definitions in the documentation
of `torch.nn.RNN`, `LSTM`, `GRU`; 1, 4 and 3 gates), plus one for the projection of an LSTM that has it. The matrices'
elements hold all of it: gates · hidden · (input + hidden). The backward pass is twice the forward: gradients of inputs
and of weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_flopsbudget.counting.costs.registry import formula, per_mac

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from pytest_flopsbudget.counting.costs.registry import Call


def _steps(inputs: torch.Tensor, weights: Sequence[torch.Tensor]) -> int:
    """Inputs (steps, batch, features), or packed ones (steps of all sequences, features)."""
    steps = inputs.shape[:-1].numel()
    return per_mac(inputs) * steps * sum(weight.numel() for weight in weights if weight.ndim == 2)  # noqa: PLR2004 -- matrices


@formula("aten.mkldnn_rnn_layer")
def _mkldnn_layer(call: Call) -> int:
    """One layer in one direction."""
    return _steps(call.tensor("input"), [call.tensor("weight0"), call.tensor("weight1")])


@formula("aten.mkldnn_rnn_layer_backward")
def _mkldnn_layer_backward(call: Call) -> int:
    return 2 * _steps(call.tensor("input"), [call.tensor("weight1"), call.tensor("weight2")])


@formula("aten._cudnn_rnn", "aten.miopen_rnn")
def _stack(call: Call) -> int:
    """All layers and directions at once; the inputs of every layer have as many steps as the first one's."""
    return _steps(call.tensor("input"), call["weight"])


@formula("aten._cudnn_rnn_backward", "aten.miopen_rnn_backward")
def _stack_backward(call: Call) -> int:
    return 2 * _stack(call)
