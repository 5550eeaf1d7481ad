"""Recurrent layers that run as one operator: 2 FLOPs per time step, sequence and element of the weight matrices.

In each gate of a cell, one matrix is multiplied with the input, and one with the hidden state. A cell of an RNN has 1
gate, of an LSTM 4, of a GRU 3. The weight matrices of a layer together have gates · hidden · (input + hidden) elements.
An LSTM with a projection has one more matrix.

The backward pass has two products for each product of the forward pass: one for the gradient of the weight, and one for
the gradient of the input or of the hidden state. Gradients that are not requested are not counted, for example the
gradient of an initial state of zeros.

Source: the definitions in the documentation of `torch.nn.RNN`, `LSTM` and `GRU`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from pytest_flopsbudget.counting.costs.operands import total_bytes
from pytest_flopsbudget.counting.costs.registry import operator, other_formula, per_mac
from pytest_flopsbudget.counting.torch_private import current_autograd_node

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pytest_flopsbudget.counting.costs.registry import Call


def _matrices(weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return [weight for weight in weights if weight.ndim == 2]  # noqa: PLR2004 -- biases are vectors


def _elements(weights: Sequence[torch.Tensor]) -> int:
    return sum(weight.numel() for weight in weights)


def _steps(inputs: torch.Tensor) -> int:
    """Return the number of steps of all sequences together.

    The inputs are (steps, batch, features), or packed sequences (all steps, features).
    """
    return inputs.shape[:-1].numel()


def _mkldnn_layer(call: Call) -> int:
    """Count the FLOPs of the matrix products of one layer in one direction."""
    inputs = call.tensor("input")
    return per_mac(inputs) * _steps(inputs) * _elements([call.tensor("weight0"), call.tensor("weight1")])


def gradients_asked() -> list[bool]:
    """Return which gradients are requested from the autograd node that runs now.

    The list has one entry for each input of the forward operator. It is empty if autograd runs no node.
    """
    node = current_autograd_node()
    return [] if node is None else [function is not None for function, _ in node.next_functions]


def _asked() -> list[bool]:
    """Return which gradients of one oneDNN layer are requested.

    The entries are for the input, four weights and two initial states, in this order.
    """
    return gradients_asked() or [True] * 7


def _mkldnn_layer_backward(call: Call) -> int:
    """Count the FLOPs of the matrix products of requested gradients. The kernel computes all gradients."""
    inputs, of_input, of_hidden = call.tensor("input"), call.tensor("weight1"), call.tensor("weight2")
    asked = _asked()
    steps = _steps(inputs)
    hidden_steps = steps if asked[5] else steps - call.tensor("hx_").shape[:-1].numel()
    macs = steps * (asked[0] * of_input.numel() + asked[1] * of_input.numel() + asked[2] * of_hidden.numel())
    return per_mac(inputs) * (macs + hidden_steps * of_hidden.numel())


def _stack(call: Call) -> int:
    """Count the FLOPs of the matrix products of all layers and directions."""
    inputs = call.tensor("input")
    return per_mac(inputs) * _steps(inputs) * _elements(_matrices(call["weight"]))


def _stack_backward(call: Call) -> int:
    """Count the FLOPs of the matrix products of the gradients that the output mask requests."""
    inputs, matrices = call.tensor("input"), _matrices(call["weight"])
    for_input, for_hidden, _, for_weights = call["output_mask"]  # the input, two initial states, the weights
    steps = _steps(inputs)
    elements = _elements(matrices)
    macs = steps * elements * (1 + bool(for_weights))
    per_cell = 3 if call["proj_size"] else 2
    if not for_input:
        directions = 2 if call["bidirectional"] else 1
        # In each layer and direction, the weight for the input comes first.
        macs -= steps * _elements(matrices[0 : directions * per_cell : per_cell])
    if not for_hidden:
        batch = call.tensor("hx").shape[1]
        macs -= batch * _elements(matrices[1::per_cell])
    return per_mac(inputs) * macs


# All arithmetic except the products. It is counted from the operators of a layer that runs step by step, so that a
# layer costs the same in both forms. See `pytest_flopsbudget.counting.meta.recurrent`.


class _Cell(NamedTuple):
    """The operations of one kind of cell outside of its matrix products, per hidden unit and step.

    Biases are not included. Each bias adds one operation per gate.
    """

    gates: int
    forward: int
    #: Operations of the backward pass, which starts from the gradient of the output.
    backward: int
    #: Number of gradients that a state receives from the next step.
    uses: int


#: PyTorch's number of the kind of cell → its operations. In the forward pass, each gate needs 1 sum, tanh or ReLU costs
#: 1 and sigmoid costs 4. In the backward pass, tanh or sigmoid costs 3 and ReLU costs 1.
CELLS = {
    0: _Cell(1, 2, 1, 1),  # RNN with ReLU
    1: _Cell(1, 2, 3, 1),  # RNN with tanh
    # LSTM, forward: 4 sums, 3 sigmoids and 1 tanh; c' = f·c + i·g costs 3; h = o · tanh(c') costs 2. Backward: h costs
    # 2, its tanh 3, c' 4, and the gates 12.
    2: _Cell(4, 22, 21, 1),
    # GRU, forward: 3 sums, 2 sigmoids and 1 tanh; r·n costs 1; h' = (h - n)·z + n costs 3. Backward: h' costs 2 and a
    # change of sign, the sum of two gradients of n costs 1, tanh 3, r·n 2, and the sigmoids 6.
    3: _Cell(3, 16, 15, 2),
}
LSTM, GRU = 2, 3


def _layer_backward(  # noqa: PLR0913 -- the sizes of a layer, and the gradients that are there or requested
    call: Call,
    steps: int,
    batch: int,
    *,
    state_weights: int,
    has_biases: bool,
    output: bool,
    initial: bool,
    weights: bool,
) -> int:
    """Return the operations of the backward pass of one layer in one direction, without its products.

    Args:
        call: the call of the operator's backward pass.
        steps: the number of time steps.
        batch: the number of sequences.
        state_weights: the number of elements in the weight for the hidden state and in a projection.
        has_biases: whether the layer has biases.
        output: whether the outputs have a gradient.
        initial: whether the gradients of the initial states are requested.
        weights: whether the gradients of the weights are requested.
    """
    cell, hidden = CELLS[call["mode"]], int(call["hidden_size"])
    last = call["grad_hy"] is not None  # the last hidden state has a gradient
    states = batch * hidden
    is_lstm = cell is CELLS[LSTM]
    work = cell.backward * steps * states
    # Sum the gradients that a state receives from the outputs and from the next step. The cell state of an LSTM always
    # receives two.
    work += (steps - 1) * states * (cell.uses - 1 + output + is_lstm) + states * (output and last)
    if call["grad_cy"] is not None:
        # The gradient of the last cell state is added to the gradient from the last output. If the last output has no
        # gradient, the last output gate and its tanh have no gradient either.
        work += states if output or last else -8 * states
    if is_lstm and not initial:
        work -= states
    if initial and cell.uses > 1:
        work += states
    if weights:
        # Sum the gradients of the weights over the steps, and the gradients of the biases over all sequences and steps.
        work += (steps - 1) * state_weights
        work += 2 * cell.gates * hidden * (steps * batch - 1) * has_biases
    return work


def _around_mkldnn_layer(call: Call) -> int:
    cell = CELLS[call["mode"]]
    biases = 2 * cell.gates if call["has_biases"] else 0
    return (cell.forward + biases) * _steps(call.tensor("input")) * int(call["hidden_size"])


def _around_mkldnn_layer_backward(call: Call) -> int:
    steps, batch, _ = call.tensor("input").shape
    asked = _asked()
    return _layer_backward(
        call,
        steps,
        batch,
        state_weights=call.tensor("weight2").numel(),
        has_biases=bool(call["has_biases"]),
        output=call["grad_output"] is not None,
        initial=asked[5],
        weights=asked[2],
    )


def _around_stack(call: Call) -> int:
    """Count all operations outside of the matrix products."""
    cell = CELLS[call["mode"]]
    layers = int(call["num_layers"]) * (2 if call["bidirectional"] else 1)
    biases = 2 * cell.gates if any(weight.ndim == 1 for weight in call["weight"]) else 0
    return (cell.forward + biases) * layers * _steps(call.tensor("input")) * int(call["hidden_size"])


def _around_stack_backward(call: Call) -> int:
    """Count all operations of the backward pass outside of the matrix products."""
    inputs = call.tensor("input")
    steps, batch = inputs.shape[:2] if not call["batch_first"] else inputs.shape[1::-1]
    directions = 2 if call["bidirectional"] else 1
    for_input, for_hidden, _, for_weights = call["output_mask"]
    per_layer = len(call["weight"]) // (int(call["num_layers"]) * directions)
    work = 0
    for start in range(0, len(call["weight"]), per_layer):
        weights = call["weight"][start : start + per_layer]
        matrices = _matrices(weights)
        work += _layer_backward(
            call,
            steps,
            batch,
            state_weights=_elements(matrices[1 : 3 if call["proj_size"] else 2]),
            has_biases=len(weights) > len(matrices),
            output=start < len(call["weight"]) - directions * per_layer or call["grad_output"] is not None,
            initial=bool(for_hidden),
            weights=bool(for_weights),
        )
        # Two directions read one input: its two gradients are summed.
        if directions > 1 and start % (directions * per_layer) and (start > per_layer or for_input):
            work += steps * batch * matrices[0].shape[1]
    return work


@other_formula("aten._thnn_fused_lstm_cell", "aten._thnn_fused_gru_cell")
def _around_cell(call: Call) -> int:
    """Count the operations of one step outside of its matrix products."""
    cell = CELLS[LSTM if "lstm" in call.name else GRU]
    biases = cell.gates * sum(call[name] is not None for name in ("input_bias", "hidden_bias"))
    return (cell.forward + biases) * call.first_output.numel()


@other_formula("aten._thnn_fused_lstm_cell_backward_impl", "aten._thnn_fused_gru_cell_backward")
def _around_cell_backward(call: Call) -> int:
    """Count the operations of one step's backward pass outside of its matrix products."""
    is_lstm = "lstm" in call.name
    cell = CELLS[LSTM if is_lstm else GRU]
    state = call.tensor("cx" if is_lstm else "grad_hy")
    batch, hidden = state.shape
    work = cell.backward * state.numel()
    if is_lstm:
        work += state.numel() * (call["grad_hy"] is not None and call["grad_cy"] is not None)
    # the gradients of the biases: sums over the batch
    return work + (1 if is_lstm else 2) * cell.gates * hidden * (batch - 1) * bool(call["has_bias"])


# One call runs a chain of steps: each step needs the result of the step before it, and each layer needs the outputs of
# the layer below it. The two directions of a layer may run at the same time.


def chain_of(call: Call) -> int:
    """Return the number of steps that one call must run one after another: time steps times layers."""
    if call.name.startswith("aten.mkldnn"):
        return int(call.tensor("input").shape[0])  # the steps are the first dimension, even with `batch_first`
    sizes = call["batch_sizes"] if "batch_sizes" in call.names else ()
    if len(sizes):  # packed sequences
        return len(sizes) * int(call["num_layers"])
    steps = call.tensor("input").shape[1 if call["batch_first"] else 0]
    return int(steps) * int(call["num_layers"])


# The number of elements in the outputs of products: the gates from the input, and the gates from the hidden state.


def _mkldnn_outputs(call: Call) -> int:
    gates = CELLS[call["mode"]].gates
    return 2 * _steps(call.tensor("input")) * gates * int(call["hidden_size"])


def _stack_outputs(call: Call) -> int:
    """Count one output element for each step and each row of each weight matrix."""
    rows: int = sum(weight.shape[0] for weight in _matrices(call["weight"]))
    return _steps(call.tensor("input")) * rows


# A layer of oneDNN keeps a workspace for the backward pass. Its size depends on oneDNN's version and on the machine.
# The minimum that the backward pass needs is counted instead: four gates and the cell state of each step.


def _workspace_bytes(inputs: torch.Tensor, hidden: torch.Tensor) -> int:
    return 5 * _steps(inputs) * int(hidden.shape[-1]) * inputs.itemsize


def _mkldnn_traffic(call: Call) -> int:
    """Count the bytes of all operands and outputs.

    oneDNN may allocate a larger workspace than it uses. Only the used bytes of the workspace count.
    """
    workspace: torch.Tensor | None = call["workspace"] if "workspace" in call.names else call.output[-1]
    size = total_bytes(call[name] for name in call.names) + total_bytes((call.output,))
    if workspace is None or not workspace.nbytes:
        return size
    return size - workspace.nbytes + _workspace_bytes(call.tensor("input"), call.tensor("hx_"))


def _on_meta(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _mkldnn_output(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """Return the output (steps, batch, hidden), the last states, and the workspace, which is None without gradients."""
    inputs, hidden, cell = args[0], args[5], args[6]
    workspace = _on_meta((_workspace_bytes(inputs, hidden),), torch.uint8) if torch.is_grad_enabled() else None
    shape = (*inputs.shape[:-1], hidden.shape[-1])
    states = _on_meta(hidden.shape, hidden.dtype), _on_meta(cell.shape, cell.dtype)
    return _on_meta(shape, inputs.dtype), *states, workspace


def _mkldnn_gradients(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """Return all gradients, in float32: of the input, two weights, two biases and two states."""
    inputs, of_input, of_hidden, _, _, hidden, cell = args[:7]
    biases = of_input.shape[:1]
    shapes = (inputs.shape, of_input.shape, of_hidden.shape, biases, biases, hidden.shape, cell.shape)
    return tuple(_on_meta(shape, torch.float32) for shape in shapes)


operator(
    "aten.mkldnn_rnn_layer",
    flops=_mkldnn_layer,
    other=_around_mkldnn_layer,
    activations=_mkldnn_outputs,
    traffic=_mkldnn_traffic,
    corrected_shape=_mkldnn_output,
    chain=chain_of,
    by_gradients=True,
)
operator(
    "aten.mkldnn_rnn_layer_backward",
    flops=_mkldnn_layer_backward,
    other=_around_mkldnn_layer_backward,
    traffic=_mkldnn_traffic,
    corrected_shape=_mkldnn_gradients,
    chain=chain_of,
    by_gradients=True,
)
operator(
    "aten._cudnn_rnn",
    "aten.miopen_rnn",
    flops=_stack,
    other=_around_stack,
    activations=_stack_outputs,
    chain=chain_of,
)
operator(
    "aten._cudnn_rnn_backward",
    "aten.miopen_rnn_backward",
    flops=_stack_backward,
    other=_around_stack_backward,
    chain=chain_of,
)
