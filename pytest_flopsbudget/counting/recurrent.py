"""Recurrent layers as plain PyTorch: what they run as on shapes.

PyTorch runs them in C++ step by step, on meta tensors in another way than on the CPU: it multiplies the inputs of each
step by itself, not all of them at once. The products are the same, but not the sums of their gradients. So layers run
on shapes by the code below, operator by operator what `aten/src/ATen/native/RNN.cpp` runs on the CPU. Where they run
for real they stay as they are; what is one operator there (oneDNN's, cuDNN's) has formulas that agree with this.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from pytest_flopsbudget.counting.replaced import replaced
from pytest_flopsbudget.counting.threads import on_this_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pytest_flopsbudget.counting.tracer import Tracer

    #: (gates from the input, states, parameters but for the input's) → new states, of which the first is the output.
    Cell = Callable[[torch.Tensor, Sequence[torch.Tensor], Sequence[torch.Tensor]], Sequence[torch.Tensor]]


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
    in_gate, forget_gate, out_gate = in_gate.sigmoid_(), forget_gate.sigmoid_(), out_gate.sigmoid_()
    cell = (forget_gate * cell).add_(in_gate * cell_gate.tanh_())
    hidden = out_gate * cell.tanh()
    return hidden if projection is None else hidden @ projection.T, cell


def _layer(  # noqa: PLR0913 -- what a layer hangs on
    cell: Cell,
    inputs: torch.Tensor,
    states: Sequence[torch.Tensor],
    parameters: Sequence[torch.Tensor],
    *,
    back: bool,
    tracer: Tracer | None,
) -> tuple[torch.Tensor, Sequence[torch.Tensor]]:
    """One layer in one direction over inputs (steps, batch, features)."""
    of_input, others = _split(parameters)
    steps: Sequence[torch.Tensor] = functional.linear(inputs, *of_input).unbind(0)
    if tracer is not None and not torch.is_grad_enabled():
        # All steps have the same shapes, so one stands for all of them.
        with tracer.repeating(len(steps)):
            states = cell(steps[0], states, others)
        return torch.stack([states[0]] * len(steps)), states
    outputs = []
    for gates in reversed(steps) if back else steps:
        states = cell(gates, states, others)
        outputs.append(states[0])
    return torch.stack(outputs[::-1] if back else outputs), states


def _split(parameters: Sequence[torch.Tensor]) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
    """What the input meets, and the rest: (weights of input and hidden, their biases if any, a projection if any)."""
    if len(parameters) < 4:  # noqa: PLR2004 -- no biases
        return parameters[:1], parameters[1:]
    return (parameters[0], parameters[2]), (parameters[1], *parameters[3:])


def _stack(  # noqa: PLR0913, PLR0917 -- as the functions are called that it stands for
    cell: Cell,
    tracer: Tracer | None,
    inputs: torch.Tensor,
    states: torch.Tensor | Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    _has_biases: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[torch.Tensor, ...]:
    """All layers in all directions; arguments and outputs as of `torch.lstm`, `torch.gru`, `torch.rnn_tanh`."""
    directions = 2 if bidirectional else 1
    count = len(weights) // (layers * directions)
    hidden = [state.unbind(0) for state in ((states,) if isinstance(states, torch.Tensor) else states)]
    final: list[Sequence[torch.Tensor]] = []
    outputs = inputs.transpose(0, 1) if batch_first else inputs
    for layer in range(layers):
        both = []
        for direction in range(directions):
            index = layer * directions + direction
            parameters = weights[index * count : (index + 1) * count]
            output, last = _layer(
                cell, outputs, [state[index] for state in hidden], parameters, back=bool(direction), tracer=tracer
            )
            both.append(output)
            final.append(last)
        outputs = torch.cat(both, -1) if bidirectional else both[0]
        if dropout and train and layer < layers - 1:
            outputs = torch.dropout(outputs, dropout, train=True)
    outputs = outputs.transpose(0, 1) if batch_first else outputs
    return (outputs, *(torch.stack(state) for state in zip(*final, strict=True)))


_CELLS: dict[str, Cell] = {
    "gru": _gru,
    "lstm": _lstm,
    "rnn_relu": partial(_rnn, torch.relu),
    "rnn_tanh": partial(_rnn, torch.tanh),
}


@contextmanager
def step_by_step(tracer: Tracer | None = None) -> Iterator[None]:
    """Let recurrent modules run by the code above.

    Args:
        tracer: what counts the steps, where one step may stand for all of its layer's; None where each is to be run.
    """
    functions: Any = torch._VF  # noqa: SLF001 -- where the modules call them
    cells = _CELLS.items()
    with replaced((functions, name, _instead_of(getattr(functions, name), cell, tracer)) for name, cell in cells):
        yield


def _instead_of(original: Callable[..., Any], cell: Cell, tracer: Tracer | None) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        # Packed sequences have an argument more before the weights, which come before whether there are biases.
        return _stack(cell, tracer, *args) if isinstance(args[3], bool) else original(*args)

    return on_this_thread(run, original)
