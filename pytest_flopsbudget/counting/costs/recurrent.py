"""Recurrent layers that run as one operator: 2 · elements of the weight matrices, per time step and sequence.

Source: each gate of a cell is one product of the input and one of the hidden state (the definitions in the
documentation of `torch.nn.RNN`, `LSTM`, `GRU`; 1, 4 and 3 gates), plus one for the projection of an LSTM that has it.
The matrices' elements hold all of it: gates · hidden · (input + hidden). The backward pass has, for each product, one
for the gradient of its weight and one for that of its other operand: input or hidden state. Those that nobody asks
for, like the gradient of an initial state of zeros, are not counted, as they are not where the layer runs step by step.
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
    """Inputs (steps, batch, features), or packed ones (steps of all sequences, features)."""
    return inputs.shape[:-1].numel()


def _mkldnn_layer(call: Call) -> int:
    """One layer in one direction."""
    inputs = call.tensor("input")
    return per_mac(inputs) * _steps(inputs) * _elements([call.tensor("weight0"), call.tensor("weight1")])


def gradients_asked() -> list[bool]:
    """Which gradients are asked for of the node that autograd runs now, in the forward operator's order."""
    node = current_autograd_node()
    return [] if node is None else [function is not None for function, _ in node.next_functions]


def _asked() -> list[bool]:
    """Yield (rows, columns) of the products of one layer: input, four weights, two initial states."""
    return gradients_asked() or [True] * 7


def _mkldnn_layer_backward(call: Call) -> int:
    """The kernel computes every gradient; only autograd knows which of them anybody asked for."""
    inputs, of_input, of_hidden = call.tensor("input"), call.tensor("weight1"), call.tensor("weight2")
    asked = _asked()
    steps = _steps(inputs)
    hidden_steps = steps if asked[5] else steps - call.tensor("hx_").shape[:-1].numel()
    macs = steps * (asked[0] * of_input.numel() + asked[1] * of_input.numel() + asked[2] * of_hidden.numel())
    return per_mac(inputs) * (macs + hidden_steps * of_hidden.numel())


def _stack(call: Call) -> int:
    """All layers and directions at once; the inputs of every layer have as many steps as the first one's."""
    inputs = call.tensor("input")
    return per_mac(inputs) * _steps(inputs) * _elements(_matrices(call["weight"]))


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


# What is no product. Counted are the operators that a layer runs as where it runs step by step, so that it costs the
# same however it runs: see `pytest_flopsbudget.counting.meta.recurrent`.


class _Cell(NamedTuple):
    """Operations for each step, sequence and unit; each bias adds one for every gate."""

    gates: int
    forward: int
    #: With an output's gradient at hand.
    backward: int
    #: Gradients that a state has from the next step.
    uses: int


#: By PyTorch's number of the kind. A sum for every gate; tanh or ReLU 1, sigmoid 4; backward 3 each, ReLU 1.
CELLS = {
    0: _Cell(1, 2, 1, 1),  # RNN with ReLU
    1: _Cell(1, 2, 3, 1),  # RNN with tanh
    # LSTM: 4 sums, 3 sigmoid, tanh; c' = f·c + i·g: 3; h = o · tanh(c'): 2. Backward: 2 and 3 for h, 4 for c', 12.
    2: _Cell(4, 22, 21, 1),
    # GRU: 3 sums, 2 sigmoid, tanh, r·n: 1; h' = (h - n)·z + n: 3. Backward: 2 and a sign for h', a sum for n, 3, 2 for
    # r·n, 6.
    3: _Cell(3, 16, 15, 2),
}
LSTM, GRU = 2, 3


class _Layer(NamedTuple):
    """One layer in one direction, on its way back."""

    cell: _Cell
    steps: int
    batch: int
    hidden: int
    #: Elements of the weight that the hidden state meets, and of a projection.
    hidden_elements: int
    projection_elements: int
    has_biases: bool

    def backward(self, *, output: bool, last: bool, cell_state: bool, initial: bool, weights: bool) -> int:
        """Operations of the backward pass.

        Args:
            output: whether the outputs have a gradient.
            last: whether the last hidden state has one of its own.
            cell_state: whether an LSTM's last cell state has.
            initial: whether the initial states are asked for theirs.
            weights: whether the weights are.
        """
        steps, batch, hidden = self.steps, self.batch, self.hidden
        states = batch * hidden
        is_lstm = self.cell is CELLS[LSTM]
        work = self.cell.backward * steps * states
        # Gradients of a state from the outputs and the next step, added up; of an LSTM's cell state always two.
        work += (steps - 1) * states * (self.cell.uses - 1 + output + is_lstm) + states * (output and last)
        if cell_state:
            # Added to what the last output hands on; without that, the output's gate and tanh have no gradient there.
            work += states if output or last else -8 * states
        if is_lstm and not initial:
            work -= states
        if initial and self.cell.uses > 1:
            work += states
        if weights:
            gates = self.cell.gates * hidden
            # Of every step a gradient of the weights, added up; of the biases the sum over all sequences and steps.
            work += (steps - 1) * (self.hidden_elements + self.projection_elements)
            work += 2 * gates * (steps * batch - 1) * self.has_biases
        return work


def _around_mkldnn_layer(call: Call) -> int:
    cell = CELLS[call["mode"]]
    biases = 2 * cell.gates if call["has_biases"] else 0
    return (cell.forward + biases) * _steps(call.tensor("input")) * int(call["hidden_size"])


def _around_mkldnn_layer_backward(call: Call) -> int:
    steps, batch, _ = call.tensor("input").shape
    layer = _Layer(
        CELLS[call["mode"]],
        steps,
        batch,
        int(call["hidden_size"]),
        call.tensor("weight2").numel(),
        0,
        bool(call["has_biases"]),
    )
    asked = _asked()
    return layer.backward(
        output=call["grad_output"] is not None,
        last=call["grad_hy"] is not None,
        cell_state=call["grad_cy"] is not None,
        initial=asked[5],
        weights=asked[2],
    )


def _around_stack(call: Call) -> int:
    """All layers and directions; the biases are the vectors among the weights."""
    cell = CELLS[call["mode"]]
    layers = int(call["num_layers"]) * (2 if call["bidirectional"] else 1)
    biases = 2 * cell.gates if any(weight.ndim == 1 for weight in call["weight"]) else 0
    return (cell.forward + biases) * layers * _steps(call.tensor("input")) * int(call["hidden_size"])


def _around_stack_backward(call: Call) -> int:
    """Every layer and direction; and where two directions read one input, their gradients of it, added up."""
    inputs = call.tensor("input")
    steps, batch = inputs.shape[:2] if not call["batch_first"] else inputs.shape[1::-1]
    directions = 2 if call["bidirectional"] else 1
    for_input, for_hidden, _, for_weights = call["output_mask"]
    per_layer = len(call["weight"]) // (int(call["num_layers"]) * directions)
    work = 0
    for start in range(0, len(call["weight"]), per_layer):
        weights = call["weight"][start : start + per_layer]
        matrices = _matrices(weights)
        projection = matrices[2].numel() if call["proj_size"] else 0
        layer = _Layer(
            CELLS[call["mode"]],
            steps,
            batch,
            int(call["hidden_size"]),
            matrices[1].numel(),
            projection,
            len(weights) > len(matrices),
        )
        work += layer.backward(
            output=start < len(call["weight"]) - directions * per_layer or call["grad_output"] is not None,
            last=call["grad_hy"] is not None,
            cell_state=call["grad_cy"] is not None,
            initial=bool(for_hidden),
            weights=bool(for_weights),
        )
        if directions > 1 and start % (directions * per_layer) and (start > per_layer or for_input):
            work += steps * batch * matrices[0].shape[1]
    return work


@other_formula("aten._thnn_fused_lstm_cell", "aten._thnn_fused_gru_cell")
def _around_cell(call: Call) -> int:
    """One step, its products done: gates (batch, gates · hidden)."""
    cell = CELLS[LSTM if "lstm" in call.name else GRU]
    biases = cell.gates * sum(call[name] is not None for name in ("input_bias", "hidden_bias"))
    return (cell.forward + biases) * call.first_output.numel()


@other_formula("aten._thnn_fused_lstm_cell_backward_impl", "aten._thnn_fused_gru_cell_backward")
def _around_cell_backward(call: Call) -> int:
    """One step; a second gradient of the cell state, added; the bias's gradients are sums over the batch."""
    is_lstm = "lstm" in call.name
    cell = CELLS[LSTM if is_lstm else GRU]
    state = call.tensor("cx" if is_lstm else "grad_hy")
    batch, hidden = state.shape
    work = cell.backward * state.numel()
    if is_lstm:
        work += state.numel() * (call["grad_hy"] is not None and call["grad_cy"] is not None)
    return work + (1 if is_lstm else 2) * cell.gates * hidden * (batch - 1) * bool(call["has_bias"])


# How long the chain is that a layer is, though it is one operator: no step begins before the one before it has ended,
# and no layer before the one below it has, as where PyTorch runs them one after the other. Directions run side by side.


def chain_of(call: Call) -> int:
    """Operators in the longest chain of a call: steps times the layers in it."""
    if call.name.startswith("aten.mkldnn"):
        return int(call.tensor("input").shape[0])  # steps come first, whatever `batch_first` was
    sizes = call["batch_sizes"] if "batch_sizes" in call.names else ()
    if len(sizes):  # packed sequences
        return len(sizes) * int(call["num_layers"])
    steps = call.tensor("input").shape[1 if call["batch_first"] else 0]
    return int(steps) * int(call["num_layers"])


# Elements of the outputs of products: the gates of the input, and those of the hidden state.


def _mkldnn_outputs(call: Call) -> int:
    gates = CELLS[call["mode"]].gates
    return 2 * _steps(call.tensor("input")) * gates * int(call["hidden_size"])


def _stack_outputs(call: Call) -> int:
    """Each matrix of each layer and direction makes one element for each of its rows: gates, and projections."""
    rows: int = sum(weight.shape[0] for weight in _matrices(call["weight"]))
    return _steps(call.tensor("input")) * rows


# A layer of oneDNN keeps a workspace for the backward pass, whose size depends on oneDNN's version and on the machine.
# Counted is what the backward pass cannot do without: four gates and the cell state of each step.


def _workspace_bytes(inputs: torch.Tensor, hidden: torch.Tensor) -> int:
    return 5 * _steps(inputs) * int(hidden.shape[-1]) * inputs.itemsize


def _mkldnn_traffic(call: Call) -> int:
    """Every operand and output once, the workspace with the bytes that the backward pass needs."""
    workspace: torch.Tensor | None = call["workspace"] if "workspace" in call.names else call.output[-1]
    size = total_bytes(call[name] for name in call.names) + total_bytes((call.output,))
    if workspace is None or not workspace.nbytes:
        return size
    return size - workspace.nbytes + _workspace_bytes(call.tensor("input"), call.tensor("hx_"))


def _on_meta(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def _mkldnn_output(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """Return (steps, batch, hidden), the last states, and the workspace where gradients are enabled."""
    inputs, hidden, cell = args[0], args[5], args[6]
    workspace = _on_meta((_workspace_bytes(inputs, hidden),), torch.uint8) if torch.is_grad_enabled() else None
    shape = (*inputs.shape[:-1], hidden.shape[-1])
    states = _on_meta(hidden.shape, hidden.dtype), _on_meta(cell.shape, cell.dtype)
    return _on_meta(shape, inputs.dtype), *states, workspace


def _mkldnn_gradients(args: Sequence[Any], _kwargs: Mapping[str, Any]) -> Any:
    """Return the gradients of input, two weights, two biases and two states: all of them, in float32."""
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
