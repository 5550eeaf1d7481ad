"""Run recurrent layers on shapes with the operators that the CPU would run.

PyTorch runs these layers in C++, step by step. On meta tensors, it computes one product for the inputs of each step; on
the CPU, it computes one product for the inputs of all steps. The products cost the same, but the sums of their
gradients do not. So in a run on shapes, the Python code below runs the layers. It follows
`aten/src/ATen/native/RNN.cpp` operator by operator. If the CPU would run a layer as one operator of oneDNN, the code
runs that operator. Intermediate tensors live as long as they do in C++, so that the peak memory is equal.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from pytest_flopsbudget.counting.isolation.patching import patched
from pytest_flopsbudget.counting.isolation.threads import on_this_thread
from pytest_flopsbudget.counting.tensors.metadata import PLAIN_TYPES, has_no_dispatcher
from pytest_flopsbudget.counting.torch_private import is_transformed, missing, recurrent_functions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_flopsbudget.counting.operators.counter import Counter

    Cell = Callable[[torch.Tensor, Sequence[torch.Tensor], Sequence[torch.Tensor]], Sequence[torch.Tensor]]


_layer_of_onednn = torch.ops.aten.mkldnn_rnn_layer.default
#: The value of the argument ``mode`` with which oneDNN's operator runs an LSTM.
_LSTM = 2
#: With this number of steps or more, only three steps run: the first, one that is counted for all steps between, and
#: the last.
_MIN_STEPS = 4


def _rnn(
    activate: Callable[[torch.Tensor], torch.Tensor],
    gates: torch.Tensor,
    states: Sequence[torch.Tensor],
    parameters: Sequence[torch.Tensor],
) -> Sequence[torch.Tensor]:
    return (activate(functional.linear(states[0], *parameters).add_(gates)),)


def _gru(
    gates: torch.Tensor, states: Sequence[torch.Tensor], parameters: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor]:
    (hidden,) = states
    of_input = gates.unsafe_chunk(3, 1)
    of_hidden = functional.linear(hidden, *parameters).unsafe_chunk(3, 1)
    reset = of_hidden[0].add_(of_input[0]).sigmoid_()
    update = of_hidden[1].add_(of_input[1]).sigmoid_()
    new = of_input[2].add(of_hidden[2].mul_(reset)).tanh_()
    return ((hidden - new).mul_(update).add_(new),)


def _lstm(
    gates: torch.Tensor, states: Sequence[torch.Tensor], parameters: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor]:
    hidden, cell = states
    projection = parameters[-1] if len(parameters) > 1 and parameters[-1].ndim > 1 else None
    parameters = parameters if projection is None else parameters[:-1]
    in_gate, forget_gate, cell_gate, out_gate = functional.linear(hidden, *parameters).add_(gates).unsafe_chunk(4, 1)
    in_gate, forget_gate = in_gate.sigmoid_(), forget_gate.sigmoid_()
    cell_gate, out_gate = cell_gate.tanh_(), out_gate.sigmoid_()
    cell = (forget_gate * cell).add_(in_gate * cell_gate)
    hidden = out_gate * cell.tanh()
    return hidden if projection is None else hidden @ projection.T, cell


def _stepwise(  # noqa: PLR0913 -- the parts of a layer
    cell: Cell,
    steps: Sequence[torch.Tensor],
    states: Sequence[torch.Tensor],
    parameters: Sequence[torch.Tensor],
    tracer: Counter | None,
    *,
    back: bool = False,
) -> tuple[list[torch.Tensor], torch.Tensor, Sequence[torch.Tensor]]:
    """Run one layer in one direction.

    Returns:
        A list of the outputs of all steps; the stacked outputs, in the order of the inputs; the last states.
    """
    outputs: list[torch.Tensor] = []
    count = len(steps)
    if tracer is None or torch.is_grad_enabled() or count < _MIN_STEPS:
        for gates in steps:
            states = cell(gates, states, parameters)
            outputs.append(states[0])
        return outputs, torch.stack(outputs[::-1] if back else outputs), states
    # All steps have equal shapes, so one step runs and is counted for all others. The first and the last step also run,
    # because the depth of the operator graph differs there: in the first step, the gates may be ready later than the
    # states.
    states = cell(steps[0], states, parameters)
    outputs.append(states[0])
    with tracer.repeating(count - 2):
        states = cell(steps[1], states, parameters)
    # C++ keeps the outputs of all steps until the last step ends.
    outputs += [states[0], *states[0].new_empty(count - 3, *states[0].shape).unbind(0)]
    states = cell(steps[-1], states, parameters)
    outputs.append(states[0])
    return outputs, torch.stack(outputs), states


def _layer(
    cell: Cell,
    inputs: torch.Tensor,
    states: Sequence[Sequence[torch.Tensor]],
    parameters: Sequence[Sequence[torch.Tensor]],
    tracer: Counter | None,
) -> tuple[torch.Tensor, list[Sequence[torch.Tensor]]]:
    """Run one layer over inputs (steps, batch, features), in as many directions as ``parameters`` has entries.

    Returns:
        The outputs of all steps, in which the outputs of two directions are concatenated; the last states by direction.
    """
    of_input, others = _split(parameters[0])
    steps = functional.linear(inputs, *of_input).unbind(0)
    there, forwards, last = _stepwise(cell, steps, states[0], others, tracer)
    if len(parameters) == 1:
        return forwards, [last]
    of_input, others = _split(parameters[1])
    steps = functional.linear(inputs, *of_input).unbind(0)[::-1]
    back, backwards, first = _stepwise(cell, steps, states[1], others, tracer, back=True)
    output = torch.cat((forwards, backwards), -1)
    del there, back  # C++ keeps the outputs of single steps until here
    return output, [last, first]


def _split(parameters: Sequence[torch.Tensor]) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
    """Return the parameters of one layer and direction in two parts: for the input, and for the hidden state."""
    if len(parameters) < 4:
        return parameters[:1], parameters[1:]
    return (parameters[0], parameters[2]), (parameters[1], *parameters[3:])


def _stack(  # noqa: PLR0913, PLR0917 -- the arguments of `torch.lstm`
    cell: Cell,
    tracer: Counter | None,
    inputs: torch.Tensor,
    states: torch.Tensor | Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    """Run all layers of a recurrent module in all directions.

    Arguments and outputs are those of `torch.lstm`, `torch.gru` and similar functions.
    """
    if cell is _lstm and not isinstance(states, torch.Tensor) and _is_onednn(inputs, states, weights):
        return _layers_of_onednn(
            inputs, states, weights, has_biases, layers, dropout, train, bidirectional, batch_first
        )
    directions = 2 if bidirectional else 1
    count = len(weights) // (layers * directions)
    hidden = [state.unbind(0) for state in ((states,) if isinstance(states, torch.Tensor) else states)]
    final: list[Sequence[torch.Tensor]] = []
    outputs = inputs.transpose(0, 1) if batch_first else inputs
    for layer in range(layers):
        indices = range(layer * directions, (layer + 1) * directions)
        parameters = [weights[index * count : (index + 1) * count] for index in indices]
        outputs, last = _layer(
            cell, outputs, [[state[index] for state in hidden] for index in indices], parameters, tracer
        )
        final += last
        if dropout and train and layer < layers - 1:
            outputs = torch.dropout(outputs, dropout, train=True)
    states = tuple(torch.stack(state) for state in zip(*final, strict=True))
    return (outputs.transpose(0, 1) if batch_first else outputs, *states)


def _is_onednn(inputs: torch.Tensor, states: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> bool:
    """Return whether the CPU kernels would run this LSTM with oneDNN (`use_mkldnn` in C++)."""
    hidden, cell = states
    return (
        bool(torch.backends.mkldnn.enabled)
        and inputs.numel() != 0
        and (
            inputs.dtype in (torch.float32, torch.bfloat16)
            or (inputs.dtype is torch.float16 and not torch.is_grad_enabled())
        )
        and hidden.shape[-1] == cell.shape[-1]  # no projections
        and all(map(_is_plain, (inputs, *states, *weights)))
    )


def _is_plain(tensor: torch.Tensor) -> bool:
    """Return whether the tensor is neither a DTensor nor a tensor of a transform such as `torch.func.vmap`."""
    return (type(tensor) in PLAIN_TYPES or has_no_dispatcher(type(tensor))) and not is_transformed(tensor)


def _layers_of_onednn(  # noqa: PLR0913, PLR0917 -- the arguments of `torch.lstm`
    inputs: torch.Tensor,
    states: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    """Run one operator of oneDNN for each layer and direction, like `aten/src/ATen/native/mkldnn/RNN.cpp`."""
    directions = 2 if bidirectional else 1
    count = len(weights) // (layers * directions)
    inputs = (inputs.transpose(0, 1) if batch_first else inputs).contiguous()
    hidden, cell = (state.contiguous() for state in states)
    final: list[tuple[torch.Tensor, torch.Tensor]] = []
    of_layer, outputs = [inputs] * directions, inputs
    for layer in range(layers):
        for direction in range(directions):
            index = layer * directions + direction
            of_input, of_hidden, *biases = weights[index * count : (index + 1) * count]
            of_layer[direction], *last, _ = _layer_of_onednn(
                outputs,
                of_input,
                of_hidden,
                *(biases or [torch.zeros(of.shape, dtype=of.dtype, device=of.device) for of in (of_input, of_hidden)]),
                hidden[index],
                cell[index],
                bool(direction),
                [],
                _LSTM,
                hidden.shape[2],
                layers,
                has_biases,
                bidirectional,
                batch_first,
                train,
            )
            del _
            final.append((last[0], last[1]))
        outputs = torch.cat(of_layer, -1) if bidirectional else of_layer[0]
        if dropout and train and layer < layers - 1:
            outputs = torch.dropout(outputs, dropout, train=True)
    states = tuple(torch.stack(state) for state in zip(*final, strict=True))
    return (outputs.transpose(0, 1) if batch_first else outputs, *states)


_CELLS: dict[str, Cell] = {
    "gru": _gru,
    "lstm": _lstm,
    "rnn_relu": partial(_rnn, torch.relu),
    "rnn_tanh": partial(_rnn, torch.tanh),
}


@contextmanager
def recurrent_decomposed(tracer: Counter | None = None) -> Iterator[None]:
    """Inside the ``with`` block, recurrent modules run with the code of this file.

    Args:
        tracer: the tracer that counts the run. It may run one of several equal steps and count it for all of them. If
            it is None, every step runs.
    """
    functions = recurrent_functions
    if functions is None:
        with patched((layer, "forward", _refuse) for layer in (torch.nn.RNN, torch.nn.LSTM, torch.nn.GRU)):
            yield
        return
    cells = _CELLS.items()
    with patched((functions, name, _replacement(getattr(functions, name), cell, tracer)) for name, cell in cells):
        yield


def _refuse(*_args: Any, **_kwargs: Any) -> Any:
    raise missing("Counting recurrent layers on shapes", "torch._VF")


def _replacement(original: Callable[..., Any], cell: Cell, tracer: Counter | None) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        # If the call has a packed sequence, its fourth argument is the weights. Otherwise, it is whether there are
        # biases.
        return _stack(cell, tracer, *args) if isinstance(args[3], bool) else original(*args)

    return on_this_thread(run, original)
